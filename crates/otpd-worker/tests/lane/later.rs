//! Deferred jobs: they follow the monotonic clock, and they give their deliveries back, so that nobody
//! waits behind them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Duration;

use otpd_core::{FactKind, Mono, UnixMs};
use otpd_queue::{Carried, Prefetch, Section, Tag};

use crate::bench::{Bench, Left, NOW, Setup, accepted, body, transient};
use crate::secs;

/// A message in one of the lane's queues.
#[derive(Clone)]
struct Message {
    body: String,
    carried: Carried,
}

/// The lane's queues as a broker keeps them: first in, first out, and no more out than the prefetch.
struct Queues {
    bench: Bench,
    main: VecDeque<Message>,
    later: VecDeque<Message>,
    prefetch: (usize, usize),
    out: HashMap<Tag, Section>,
    out_main: usize,
    /// How often a message was moved to `later`.
    moves: usize,
    /// The most that were out of each at a time.
    most_out: (usize, usize),
}

impl Queues {
    fn new(bench: Bench) -> Self {
        Self::handing_out(bench, Setup::default().prefetch)
    }

    fn handing_out(bench: Bench, prefetch: Prefetch) -> Self {
        let (main, later) = (VecDeque::new(), VecDeque::new());
        let prefetch = (prefetch.main.into(), prefetch.later.unwrap_or_default().into());
        Self { bench, main, later, prefetch, out: HashMap::new(), out_main: 0, moves: 0, most_out: (0, 0) }
    }

    fn publish(&mut self, id: &str, to: &str, purpose: &str) {
        let body = body(id, to, &format!(r#","purpose":"{purpose}","expires_at":"2027-01-15T20:00:00Z""#));
        self.main.push_back(Message { body, carried: Carried::default() });
    }

    /// Lets time pass in steps; after each the queues hand out what they may, and take what was moved.
    async fn pass(&mut self, time: Duration, step: Duration) {
        let end = self.bench.script.clock.mono().plus(time);
        while self.bench.script.clock.mono() < end {
            while self.out_main < self.prefetch.0 {
                let Some(message) = self.main.pop_front() else { break };
                self.hand_out(Section::Main, message);
                self.out_main += 1;
            }
            while self.out.len() - self.out_main < self.prefetch.1 {
                let Some(message) = self.later.pop_front() else { break };
                self.hand_out(Section::Later, message);
            }
            let later = self.out.len() - self.out_main;
            self.most_out = (self.most_out.0.max(self.out_main), self.most_out.1.max(later));
            self.bench.pass(step).await;
            for tag in std::mem::take(&mut self.bench.just_left) {
                self.out_main -= usize::from(self.out.remove(&tag) == Some(Section::Main));
                if let Left::Moved(to) = &self.bench.left[&tag] {
                    assert_eq!((to.to.as_str(), to.section), ("p", Section::Later));
                    let body = String::from_utf8(to.body.to_vec()).unwrap();
                    self.later.push_back(Message { body, carried: to.carried.clone() });
                    self.moves += 1;
                }
            }
        }
    }

    fn hand_out(&mut self, section: Section, message: Message) {
        let tag = self.bench.deliver_from(section, &message.body, false, message.carried);
        self.out.insert(tag, section);
    }

    /// Where each of `jobs` is: in a queue, out, or ended; each exactly once.
    fn everyone_is_in_one_place(&self, jobs: usize) {
        let waiting = self.main.len() + self.later.len() + self.out.len();
        let ended = self.bench.left.values().filter(|l| !matches!(l, Left::Moved(_))).count();
        assert_eq!(
            waiting + ended,
            jobs,
            "{} and {} wait, {} out",
            self.main.len(),
            self.later.len(),
            self.out.len()
        );
        let accepted: HashSet<&str> = self
            .bench
            .facts
            .iter()
            .filter(|f| f.kind == FactKind::Accepted)
            .map(|f| f.job.as_str())
            .collect();
        assert_eq!(accepted.len(), self.bench.count(FactKind::Accepted), "nobody twice");
        assert_eq!(self.bench.count(FactKind::Duplicate), 0);
    }
}

fn limited_to(rate: &str) -> Setup {
    Setup { ceiling: "50/s", recipients: vec![rate.parse().unwrap()], ..Setup::default() }
}

#[tokio::test(start_paused = true)]
async fn twenty_thousand_deferred_jobs_delay_nobody_else() {
    let mut queues = Queues::new(Bench::start(limited_to("1/600s"), |_, _| accepted()));
    let number = |i: usize| format!("+62811{i:07}");
    // 100 recipients, 200 further messages each: one is sent, the others are deferred.
    for i in 0..20_100 {
        queues.publish(&format!("d{i}"), &number(i % 100), &format!("p{}", i / 100));
    }
    let step = Duration::from_millis(10);
    queues.pass(secs(10), step).await;
    let mut came: Vec<Mono> = Vec::new();
    for i in 0..100 {
        came.push(queues.bench.script.clock.mono());
        queues.publish(&format!("fresh{i}"), &format!("+62822{i:07}"), "login");
        queues.pass(Duration::from_millis(100), step).await;
    }
    queues.pass(secs(5), step).await;
    let sent = queues.bench.sent_when(|id| id.starts_with("fresh"));
    let waits = sent.iter().map(|(id, at)| at.since(came[id[5..].parse::<usize>().unwrap()]));
    let worst = waits.max().unwrap_or_default();
    println!(
        "20,000 deferred: {} of 100 fresh jobs sent, the slowest after {worst:?}; {} moves, at most {:?} out",
        sent.len(),
        queues.moves,
        queues.most_out
    );
    assert_eq!(sent.len(), 100);
    assert!(worst < secs(1), "{worst:?}");
    queues.everyone_is_in_one_place(20_200);
    // The next ten minutes: of each recipient the next message, each in its own time.
    let sent_before = queues.bench.sent().len();
    queues.pass(secs(700), Duration::from_millis(500)).await;
    queues.everyone_is_in_one_place(20_200);
    let sent = queues.bench.sent().len() - sent_before;
    println!("ten minutes later: {sent} of 100 sent, {} moves", queues.moves);
    assert_eq!(sent, 100);
}

/// More are deferred than the lane may hold at all: they take turns, and nobody is forgotten.
#[tokio::test(start_paused = true)]
async fn deferred_jobs_take_turns_where_they_are_too_many() {
    let prefetch = Prefetch { main: 200, bulk: 100, later: Some(100) };
    let setup = Setup { prefetch, ..limited_to("1/600s") };
    let mut queues = Queues::handing_out(Bench::start(setup, |_, _| accepted()), prefetch);
    for i in 0..1000 {
        queues.publish(&format!("d{i}"), &format!("+62811{:07}", i % 500), &format!("p{}", i / 500));
    }
    queues.publish("fresh", "+628229999999", "login");
    queues.pass(secs(30), Duration::from_millis(100)).await;
    let sent = queues.bench.sent();
    assert_eq!(sent.len(), 501, "the first of each, and the fresh one behind them");
    queues.everyone_is_in_one_place(1001);
    queues.pass(secs(700), Duration::from_millis(100)).await;
    queues.everyone_is_in_one_place(1001);
    println!("1,000 jobs, 300 held at most: {} sent, {} moves", queues.bench.sent().len(), queues.moves);
    assert_eq!(queues.bench.sent().len(), 1001);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_held_for_minutes_is_renewed_and_costs_nobody_else() {
    let mut queues = Queues::new(Bench::start(limited_to("1/h"), |_, _| accepted()));
    for i in 0..50 {
        queues.publish(&format!("a{i}"), "+628111111111", &format!("p{i}"));
    }
    let mut longest = Duration::ZERO;
    let mut held_since: HashMap<Tag, Mono> = HashMap::new();
    for _ in 0..2400 {
        queues.pass(secs(1), secs(1)).await;
        let now = queues.bench.script.clock.mono();
        held_since.retain(|tag, _| queues.out.contains_key(tag));
        for tag in queues.out.keys() {
            longest = longest.max(now.since(*held_since.entry(*tag).or_insert(now)));
        }
    }
    println!("40 minutes: no delivery was held longer than {longest:?}; {} moves", queues.moves);
    assert!(longest <= secs(310), "{longest:?}");
    assert_eq!(queues.bench.sent().len(), 1);
    queues.everyone_is_in_one_place(50);
}

#[tokio::test(start_paused = true)]
async fn what_was_set_aside_keeps_its_time_and_its_attempts() {
    let mut bench =
        Bench::start(Setup::default(), |_, times| if times < 2 { transient() } else { accepted() });
    let carried = Carried { attempts: 2, not_before: Some(NOW.plus(secs(30))), ..Carried::default() };
    let expires = r#","expires_at":"2027-01-15T09:00:00Z""#;
    bench.deliver_from(Section::Later, &body("a", "+628111111111", expires), false, carried);
    bench.pass(secs(29)).await;
    assert!(bench.sent().is_empty());
    bench.pass(secs(60)).await;
    assert_eq!(bench.sent().len(), 2);
    assert_eq!(bench.facts.iter().map(|f| f.attempt).collect::<Vec<_>>(), [3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_tried_and_set_aside_is_no_duplicate_of_itself() {
    // The provider wants nothing for this recipient for three minutes: too long to keep the delivery.
    let busy = || otpd_core::Outcome::RateLimited {
        reason: otpd_core::Reason::RatePair,
        scope: otpd_core::Scope::Pair,
        wait: Some(secs(180)),
        limit: None,
    };
    let bench = Bench::start(Setup::default(), move |_, times| if times == 1 { busy() } else { accepted() });
    let mut queues = Queues::new(bench);
    queues.publish("a", "+628111111111", "login");
    queues.pass(secs(60), secs(1)).await;
    assert_eq!((queues.moves, queues.bench.sent().len()), (1, 1));
    queues.pass(secs(125), secs(1)).await;
    assert_eq!((queues.moves, queues.bench.sent().len()), (1, 2));
    queues.everyone_is_in_one_place(1);
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_changes_no_retry() {
    for set_by in [-3_600_000, 60_000] {
        let mut bench =
            Bench::start(Setup::default(), |_, times| if times < 3 { transient() } else { accepted() });
        bench.deliver(&body("a", "+628111111111", ""));
        bench.pass(Duration::from_millis(100)).await;
        bench.wall_set_by.store(set_by, Ordering::Relaxed);
        bench.pass(secs(5)).await;
        let sent = bench.sent_at();
        println!("wall clock set by {set_by} ms: {} of 3 attempts in 5 s", sent.len());
        assert_eq!(bench.count(FactKind::Accepted), 1);
        let waited = sent[1].since(sent[0]).as_millis();
        assert!((350..=700).contains(&waited), "{waited} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn expiry_follows_the_wall_clock() {
    let mut bench = Bench::start(Setup { ceiling: "1/10s", ..Setup::default() }, |_, _| accepted());
    bench.deliver(&body("first", "+628111111110", ""));
    bench.deliver(&body("waits", "+628111111111", r#","expires_at":"2027-01-15T09:00:00Z""#));
    bench.pass(secs(2)).await;
    bench.wall_set_by.store(2 * 3_600_000, Ordering::Relaxed);
    bench.pass(secs(2)).await;
    assert_eq!(bench.count(FactKind::Expired), 1);
    assert!(UnixMs(bench.facts[1].at.0) > NOW.plus(secs(7000)));
}
