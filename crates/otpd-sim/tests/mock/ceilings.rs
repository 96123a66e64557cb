//! Ceilings: exact, per account, and each refusal in its provider's form.

use std::time::{Duration, Instant};

use futures::future::join_all;
use otpd_core::Rate;
use otpd_sim::{Control, Kind, MockConfig};

use super::{Ask, Bench, betatel, meta_cloud, meta_onprem, msgai, onemsg, verihubs};

fn ceilings(kind: Kind, rates: &[&str]) -> Control {
    let rates: Vec<Rate> = rates.iter().map(|rate| rate.parse().unwrap()).collect();
    Control { ceilings: Some(rates), ..Control::of(kind) }
}

/// A valid request of this kind.
pub(crate) async fn valid(bench: &Bench, kind: Kind) -> Ask {
    match kind {
        Kind::OneMsg => onemsg::valid(),
        Kind::MetaCloud => meta_cloud::valid(),
        Kind::MetaOnprem => meta_onprem::valid(&meta_onprem::token(bench).await),
        Kind::Verihubs => verihubs::valid(),
        Kind::Betatel => betatel::valid(),
        Kind::Msgai => msgai::valid(),
    }
}

#[tokio::test]
async fn one_too_many_is_refused_in_the_providers_form() {
    let config = Kind::ALL.iter().fold(MockConfig::default(), |c, k| c.with(ceilings(*k, &["2/min"])));
    let bench = Bench::start(config).await;
    for (kind, account, form) in [
        (Kind::OneMsg, "CH12", r#"{"error":"Rate limit exceeded"}"#),
        (Kind::MetaCloud, "106540352242922", r##""message":"(#130429) Rate limit hit""##),
        (Kind::MetaOnprem, "otpd", r#"{"code":1015,"details":"-","title":"Too many requests"}"#),
        (Kind::Verihubs, "app-1", r#"{"code":429,"message":"Too many request in the allowed time frame"}"#),
        (Kind::Betatel, "acc-1", r#"{"message":"Too Many Requests"}"#),
        (Kind::Msgai, "sk_live_***6789", "Limit: 2 requests/minute. Error Code: 429"),
    ] {
        let ask = valid(&bench, kind).await;
        assert!(bench.ask(ask.clone()).await.status < 300);
        // What is in a request does not matter to a limit.
        assert_eq!(bench.ask(ask.clone().raw("{")).await.status, 400);
        for _ in 0..3 {
            let refused = bench.ask(ask.clone()).await;
            assert_eq!((refused.status, refused.header("retry-after")), (429, None));
            assert!(refused.text.contains(form), "{kind}: {refused:?}");
        }
        let stats = bench.account(kind, account);
        assert_eq!((stats.attempts, stats.accepted, stats.answers[&429]), (5, 1, 3), "{kind}");
        let minute = stats.windows.iter().find(|w| w.window_us == 60_000_000).unwrap();
        assert_eq!((minute.most, minute.limit, minute.exact), (5, Some(2), true), "refused arrivals count");
    }
    let wait = bench.ask(msgai::valid()).await.json()["Retry-After"].as_u64().unwrap();
    assert!((1..=60).contains(&wait), "Msgai names the wait in the body: {wait}");
}

#[tokio::test]
async fn each_account_has_its_own_and_all_of_its_limits() {
    let all = ceilings(Kind::Verihubs, &["3/min", "100/s"]);
    let one = ceilings(Kind::Verihubs, &["1/h"]).account("app-2");
    let bench = Bench::start(MockConfig::default().with(all).with(one)).await;
    for (account, taken) in [("app-1", 3), ("app-2", 1), ("app-3", 3)] {
        for _ in 0..4 {
            bench.ask(verihubs::valid().header("App-ID", account)).await;
        }
        let stats = bench.account(Kind::Verihubs, account);
        assert_eq!((stats.accepted, stats.answers[&429]), (taken, 4 - taken), "{account}");
    }
    bench.mock.control(&ceilings(Kind::Verihubs, &[]));
    assert_eq!(bench.ask(verihubs::valid()).await.status, 201);
}

#[tokio::test]
async fn a_window_opens_again() {
    let bench = Bench::start(MockConfig::default().with(ceilings(Kind::Betatel, &["1/100ms"]))).await;
    assert_eq!(bench.ask(betatel::valid()).await.status, 200);
    let deadline = Instant::now() + Duration::from_secs(10);
    while bench.ask(betatel::valid()).await.status != 200 {
        assert!(Instant::now() < deadline, "the window stayed full");
    }
    let sent = bench.mock.messages(2);
    assert!(sent[0].at_us - sent[1].at_us >= 100_000, "{sent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_window_lets_more_through_under_load() {
    let bench = Bench::start(MockConfig::default().with(ceilings(Kind::Verihubs, &["20/500ms"]))).await;
    for _ in 0..20 {
        join_all((0..30).map(|_| bench.ask(verihubs::valid()))).await;
    }
    let stats = bench.account(Kind::Verihubs, "app-1");
    assert_eq!(stats.attempts, 600);
    assert_eq!(stats.answers.values().sum::<u64>(), 600);
    let sent = bench.mock.messages(1000);
    assert_eq!(sent.len() as u64, stats.accepted);
    // Newest first; times are cut to microseconds, so two may seem one closer than they are.
    assert!(sent.windows(21).all(|w| w[0].at_us - w[20].at_us >= 499_999), "more than 20 in 500 ms");
    assert!(stats.accepted >= 20 && stats.answers[&429] > 0, "{stats:?}");
    let arrivals = bench.mock.arrivals(Kind::Verihubs, "app-1");
    let most =
        (0..arrivals.len()).map(|i| arrivals[i..].iter().take_while(|t| **t < arrivals[i] + 500_000).count());
    let most = most.max().unwrap() as u64;
    let counted = stats.most_in(Duration::from_millis(500)).unwrap();
    assert!(counted.abs_diff(most) <= 1, "{counted} counted, {most} by hand from microseconds");
}
