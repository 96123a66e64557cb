//! What a provider's refusals do to a lane: limits that are not named, pauses that outlive codes, what concerns
//! one recipient only, and what nobody has documented.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use otpd_core::{FactKind, Mono, OnAmbiguous, Outcome, Reason, Scope};
use tokio::time::Instant;

use crate::bench::{Bench, Left, Setup, accepted, body, provider};
use crate::{by_login, login, secs};

fn number(i: usize) -> String {
    format!("+62811{i:07}")
}

fn too_many(scope: Scope, wait: Option<Duration>) -> Outcome {
    Outcome::RateLimited { reason: Reason::RateProvider, scope, wait, limit: None }
}

/// An account that takes so many a second, as it is told for the second it is asked in, and refuses without words.
struct Account {
    began: Instant,
    taken: Mutex<VecDeque<Instant>>,
    limit: fn(u64) -> usize,
    /// Of each second: taken, refused.
    counts: Mutex<HashMap<u64, (u32, u32)>>,
}

impl Account {
    fn new(limit: fn(u64) -> usize) -> &'static Self {
        let (taken, counts) = Default::default();
        Box::leak(Box::new(Self { began: Instant::now(), taken, limit, counts }))
    }

    fn answer(&self, scope: Scope) -> Outcome {
        let (now, mut taken) = (Instant::now(), self.taken.lock().unwrap());
        let second = now.duration_since(self.began).as_secs();
        taken.retain(|at| now.duration_since(*at) < secs(1));
        let takes = taken.len() < (self.limit)(second);
        let mut counts = self.counts.lock().unwrap();
        let count = counts.entry(second).or_default();
        if takes {
            taken.push_back(now);
            count.0 += 1;
            accepted()
        } else {
            count.1 += 1;
            too_many(scope, None)
        }
    }

    /// The share of what it would have taken, and of the requests that were refused, in these seconds.
    fn shares(&self, seconds: std::ops::Range<u64>) -> (f64, f64) {
        let counts = self.counts.lock().unwrap();
        let of = |second| counts.get(&second).copied().unwrap_or_default();
        let taken: u32 = seconds.clone().map(|second| of(second).0).sum();
        let refused: u32 = seconds.clone().map(|second| of(second).1).sum();
        let could: usize = seconds.map(self.limit).sum();
        (f64::from(taken) / could as f64, f64::from(refused) / f64::from((taken + refused).max(1)))
    }
}

#[tokio::test(start_paused = true)]
async fn the_rate_that_is_really_taken_is_learned() {
    for scope in [Scope::Account, Scope::Unknown] {
        let account = Account::new(|_| 10);
        let setup = Setup { ceiling: "50/s", latency: Duration::from_millis(60), ..Setup::default() };
        let mut bench = Bench::start(setup, move |_, _| account.answer(scope));
        for i in 0..1000 {
            bench.deliver(&body(&format!("j{i}"), &number(i), ""));
        }
        bench.pass(secs(95)).await;
        let (used, refused) = account.shares(10..95);
        println!(
            "50/s configured, 10/s taken, {scope:?}: {} requests in 95 s; after 10 s {:.1} % used, {:.2} % refused; {} dead",
            bench.sent().len(),
            used * 100.0,
            refused * 100.0,
            bench.count(FactKind::Dead)
        );
        assert_eq!(bench.count(FactKind::Dead), 0, "codes that are valid");
        assert!(used >= 0.95 && refused <= 0.02, "{used} used, {refused} refused");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_moves_is_followed() {
    let account = Account::new(|second| if second / 70 % 2 == 0 { 40 } else { 10 });
    let setup = Setup { ceiling: "50/s", latency: Duration::from_millis(60), ..Setup::default() };
    let mut bench = Bench::start(setup, move |_, _| account.answer(Scope::Unknown));
    for i in 0..8000 {
        bench.deliver(&body(&format!("j{i}"), &number(i), ""));
    }
    bench.pass(secs(280)).await;
    let (used, refused) = account.shares(10..280);
    println!(
        "50/s configured, 40/s and 10/s in turn taken: after 10 s {:.1} % used, {:.2} % refused; {} dead",
        used * 100.0,
        refused * 100.0,
        bench.count(FactKind::Dead)
    );
    assert_eq!(bench.count(FactKind::Dead), 0, "codes that are valid");
    assert!(used >= 0.95 && refused <= 0.02, "{used} used, {refused} refused");
}

#[tokio::test(start_paused = true)]
async fn who_refuses_everything_is_asked_ever_more_seldom() {
    let setup = Setup { ceiling: "50/s", ..Setup::default() };
    let mut bench = Bench::start(setup, |_, _| too_many(Scope::Account, None));
    for i in 0..100 {
        bench.deliver(&body(&format!("j{i}"), &number(i), ""));
    }
    bench.pass(secs(190)).await;
    let sent = bench.sent_at();
    let gaps: Vec<u64> = sent.windows(2).map(|pair| pair[1].since(pair[0]).as_secs()).collect();
    println!("everything refused for 190 s: {} requests, {gaps:?} s apart", sent.len());
    let waits: Vec<u64> = gaps.into_iter().filter(|gap| *gap > 0).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert!(bench.left.is_empty(), "nobody is burnt");
    assert!(bench.facts.iter().all(|fact| fact.attempt <= 1), "no attempt is used up");
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_outlives_a_code_moves_its_job_on() {
    let setup = Setup { routes: vec![login(&["p", "q"])], ..Setup::default() };
    let mut bench = Bench::start(setup, |_, _| too_many(Scope::Account, Some(secs(120))));
    let soon = r#","created_at":"2027-01-15T08:00:00Z","expires_at":"2027-01-15T08:01:00Z""#;
    for i in 0..60 {
        bench.deliver_as(&body(&format!("j{i}"), &number(i), soon), false, by_login());
    }
    bench.pass(secs(1)).await;
    for i in 60..70 {
        bench.deliver_as(&body(&format!("j{i}"), &number(i), soon), false, by_login());
    }
    for i in 70..80 {
        bench.deliver_as(&body(&format!("j{i}"), &number(i), ""), false, by_login());
    }
    bench.pass(secs(90)).await;
    let moved = bench.left.values().filter(|l| matches!(l, Left::Moved(m) if m.to == provider("q"))).count();
    println!(
        "a pause of 120 s, 70 codes of 60 s: {moved} moved on, {} expired",
        bench.count(FactKind::Expired)
    );
    assert_eq!((moved, bench.count(FactKind::Expired)), (70, 0), "those of 5 minutes may wait");
}

/// Sixty jobs, one a second, each with a code of 40 s, beside one for a number that is always refused.
/// Gives how many of the others were sent, and how often the one was asked for.
async fn one_number_refused(wait: Option<Duration>) -> (usize, usize) {
    let answer = move |job: &otpd_core::SendJob, _: usize| {
        if job.id.as_str() == "bad" { too_many(Scope::Unknown, wait) } else { accepted() }
    };
    let mut bench = Bench::start(Setup { ceiling: "50/s", ..Setup::default() }, answer);
    let ttl = |second: u64| {
        let at = |s: u64| otpd_core::UnixMs(crate::NOW.0 + s * 1000).to_string();
        format!(r#","created_at":"{}","expires_at":"{}""#, at(second), at(second + 40))
    };
    bench.deliver(&body("bad", &number(999), ""));
    for i in 0..60 {
        bench.deliver(&body(&format!("j{i}"), &number(i), &ttl(i as u64)));
        bench.pass(secs(1)).await;
    }
    bench.pass(secs(60)).await;
    let asked = bench.sent().iter().filter(|id| *id == "bad").count();
    (bench.count(FactKind::Accepted), asked)
}

#[tokio::test(start_paused = true)]
async fn one_number_that_is_refused_stops_nobody_else() {
    for (wait, most_asked) in [(Some(secs(60)), 2), (None, 8)] {
        let (sent, asked) = one_number_refused(wait).await;
        println!(
            "one number refused (wait {wait:?}): {sent} of 60 others sent; asked {asked} times for the one"
        );
        assert!(sent == 60 && asked <= most_asked, "{asked}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_that_meets_a_429_asks_with_one_at_a_time() {
    let answer = |_: &otpd_core::SendJob, _: usize| {
        static ASKED: Mutex<usize> = Mutex::new(0);
        let mut asked = ASKED.lock().unwrap();
        *asked += 1;
        if *asked <= 2 {
            Outcome::Account { reason: Reason::InsufficientBalance }
        } else {
            too_many(Scope::Pair, None)
        }
    };
    let mut bench = Bench::start(Setup { ceiling: "50/s", ..Setup::default() }, answer);
    for i in 0..2000 {
        bench.deliver(&body(&format!("j{i}"), &number(i), ""));
    }
    bench.pass(secs(20)).await;
    let sent = bench.sent().len();
    println!("an open breaker probed with a 429: {sent} requests in 20 s");
    assert!((10..=22).contains(&sent), "{sent}");
}

fn pair() -> Outcome {
    Outcome::RateLimited { reason: Reason::RatePair, scope: Scope::Pair, wait: None, limit: None }
}

#[tokio::test(start_paused = true)]
async fn a_pair_that_is_refused_waits_four_times_as_long_each_time() {
    let mut bench = Bench::start(Setup { ceiling: "50/s", ..Setup::default() }, |job, _| {
        if job.id.as_str() == "pair" { pair() } else { accepted() }
    });
    bench.deliver(&body("pair", &number(1), ""));
    bench.pass(secs(1)).await;
    for i in 2..22 {
        bench.deliver(&body(&format!("j{i}"), &number(i), ""));
    }
    bench.pass(secs(100)).await;
    let sent: Vec<Mono> = {
        let all = bench.script.sent.lock().unwrap();
        all.iter().filter(|(id, _)| id == "pair").map(|(_, at)| *at).collect()
    };
    let gaps: Vec<u64> = sent.windows(2).map(|pair| pair[1].since(pair[0]).as_secs()).collect();
    println!("131056 for one pair: asked again after {gaps:?} s; others {}", bench.count(FactKind::Accepted));
    assert_eq!((gaps, bench.count(FactKind::Accepted)), (vec![1, 4, 16, 64], 20));
}

#[tokio::test(start_paused = true)]
async fn a_guessed_wait_never_outlives_a_code_that_has_nowhere_else_to_go() {
    for (providers, kind) in [(&["p"][..], FactKind::Accepted), (&["p", "q"], FactKind::FailedOver)] {
        let setup = Setup { routes: vec![login(providers)], ..Setup::default() };
        let mut bench = Bench::start(setup, |_, times| if times < 4 { pair() } else { accepted() });
        let soon = r#","created_at":"2027-01-15T08:00:00Z","expires_at":"2027-01-15T08:00:20Z""#;
        bench.deliver_as(&body("a", &number(1), soon), false, by_login());
        bench.pass(secs(40)).await;
        assert_eq!(bench.facts.last().map(|fact| fact.kind), Some(kind), "{:?}", bench.kinds());
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_unknown_refusal_of_many_is_the_accounts() {
    let unknown = |_: &otpd_core::SendJob, _: usize| Outcome::Permanent {
        reason: Reason::UnknownError,
        scope: Scope::Message,
    };
    let mut bench = Bench::start(Setup { ceiling: "50/s", ..Setup::default() }, unknown);
    for i in 0..60 {
        bench.deliver(&body(&format!("j{i}"), &number(i), ""));
    }
    bench.pass(secs(60)).await;
    let (dead, asked) = (bench.count(FactKind::Dead), bench.sent().len());
    println!("an unlisted refusal of the account, 60 jobs: {dead} dead, {asked} requests in 60 s");
    assert_eq!(dead, 1, "only the first, of which nobody could know");
    assert!(asked <= 10, "{asked}");
    assert_eq!(bench.count(FactKind::Paused), 1);
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_end_is_sent_again_once() {
    for (policy, providers, sent, moved) in [
        (OnAmbiguous::Resend, &["p"][..], 2, 0),
        (OnAmbiguous::Resend, &["p", "q"], 1, 1),
        (OnAmbiguous::NextProvider, &["p"], 1, 0),
        (OnAmbiguous::NextProvider, &["p", "q"], 1, 1),
        (OnAmbiguous::Park, &["p", "q"], 1, 0),
    ] {
        let setup = Setup { on_ambiguous: policy, routes: vec![login(providers)], ..Setup::default() };
        let mut bench = Bench::start(setup, |_, _| Outcome::Ambiguous { reason: Reason::Timeout });
        let tag = bench.deliver_as(&body("a", "+628111111111", ""), false, by_login());
        bench.pass(secs(120)).await;
        println!(
            "{policy:?}, {} providers, nobody can tell: {} messages",
            providers.len(),
            bench.sent().len()
        );
        assert_eq!(bench.sent().len(), sent, "{policy:?} {providers:?}");
        match &bench.left[&tag] {
            Left::Moved(_) => assert_eq!(moved, 1, "{policy:?} {providers:?}"),
            Left::Buried(burial) => assert_eq!((burial.reason, moved), (Reason::AmbiguousParked, 0)),
            Left::Acknowledged => panic!("{policy:?} {providers:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_can_be_looked_for_is_looked_for_before_it_moves_on() {
    for (purpose, kind) in [("findable", FactKind::Accepted), ("not-findable", FactKind::FailedOver)] {
        let setup = Setup { ceiling: "50/s", routes: vec![login(&["p", "q"])], ..Setup::default() };
        let mut bench = Bench::start(setup, |_, _| Outcome::Ambiguous { reason: Reason::Timeout });
        let named = format!(r#","purpose":"{purpose}""#);
        bench.deliver_as(&body("a", "+628111111111", &named), false, by_login());
        bench.pass(secs(20)).await;
        assert_eq!((bench.sent(), bench.kinds()), (vec!["a".to_owned()], vec![FactKind::Retrying, kind]));
        let ambiguous = bench.left.values().find_map(|left| match left {
            Left::Moved(moved) => Some((moved.carried.ambiguous, moved.carried.attempts)),
            Left::Acknowledged | Left::Buried(_) => None,
        });
        assert_eq!(ambiguous, (kind == FactKind::FailedOver).then_some((1, 1)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_ambiguous_elsewhere_is_ambiguous_here() {
    let mut bench = Bench::start(Setup::default(), |_, _| Outcome::Ambiguous { reason: Reason::Timeout });
    let carried = otpd_queue::Carried { ambiguous: 1, attempts: 1, hops: 1, ..by_login() };
    bench.deliver_as(&body("moved", &number(1), ""), false, carried);
    let told = otpd_core::Fact {
        class: Some(otpd_core::Class::Ambiguous),
        attempt: 1,
        ..otpd_core::Fact::new(
            FactKind::Retrying,
            otpd_core::JobId::parse("taken-over").unwrap(),
            provider("p"),
            crate::NOW,
        )
    };
    bench.remember(vec![told]);
    bench.deliver_as(&body("taken-over", &number(2), ""), true, by_login());
    bench.pass(secs(60)).await;
    assert_eq!((bench.sent().len(), bench.count(FactKind::Dead)), (2, 2), "one message each");
}
