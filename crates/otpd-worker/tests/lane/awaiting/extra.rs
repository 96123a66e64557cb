//! The extra send at the next provider.

use super::*;

/// The extra send, as the next provider sees it: accepted before, and yet to be sent, but not twice.
#[tokio::test(start_paused = true)]
async fn the_next_provider_sends_it_although_it_was_accepted_and_only_once() {
    let mut bench = start(&["o", "p", "q"]);
    let accepted_by_o =
        Fact { attempt: 1, ..Fact::new(FactKind::Accepted, JobId::parse("a").unwrap(), provider("o"), NOW) };
    bench.remember(vec![accepted_by_o]);
    let carried = Carried { extra: 1, attempts: 1, hops: 1, ..by_login() };
    let first = bench.deliver_as(&body("a", "+628111111111", ""), false, carried.clone());
    bench.pass(secs(1)).await;
    // The former owner died after the move and before its fact: its next owner moved it again.
    let second = bench.deliver_as(&body("a", "+628111111111", ""), false, carried.clone());
    bench.pass(secs(1)).await;
    bench.lose();
    bench.open(Vec::new());
    let third = bench.deliver_as(&body("a", "+628111111111", ""), true, carried);
    bench.pass(secs(1)).await;
    assert_eq!(bench.sent(), ["a"]);
    assert!([first, second, third].iter().all(|tag| is_acknowledged(&bench, tag)));
    assert_eq!(bench.kinds(), [FactKind::Accepted, FactKind::Duplicate]);
    assert!(bench.facts[0].extra && !bench.facts[0].is_end() && bench.facts[0].attempt == 2);
    let text = bench.metrics.encode().unwrap();
    assert!(text.contains("otpd_jobs_total{provider=\"p\",outcome=\"accepted\"} 0"), "counted at o: {text}");
}

/// Never after it arrived: it may wait for its permit at the next provider when that is heard.
#[tokio::test(start_paused = true)]
async fn an_extra_send_that_waits_is_dropped_when_the_first_one_arrives() {
    let setup = Setup { ceiling: "1/10s", ..setup(confirmed(&["o", "p", "q"])) };
    let mut bench = Bench::start(setup, |_, _| accepted());
    bench.deliver(&body("first", "+628111111119", ""));
    let carried = Carried { extra: 1, attempts: 1, hops: 1, ..by_login() };
    let tag = bench.deliver_as(&body("a", "+628111111111", ""), false, carried);
    bench.pass(secs(3)).await;
    tell(&bench, DELIVERED, "a", 1);
    bench.pass(secs(15)).await;
    assert_eq!(bench.sent(), ["first"]);
    assert!(is_acknowledged(&bench, &tag));
    assert_eq!(bench.count(FactKind::Accepted), 1);
}

/// However the extra send ends, its job counts once; only its letter is one.
#[tokio::test(start_paused = true)]
async fn no_end_of_an_extra_send_is_an_end_of_its_job() {
    let carried = || Carried { extra: 1, attempts: 1, hops: 1, ..by_login() };
    for (answer, kind) in
        [(permanent(Reason::TemplateMissing), FactKind::Dead), (transient(), FactKind::Expired)]
    {
        let mut bench = Bench::start(setup(confirmed(&["o", "p"])), move |_, _| answer.clone());
        let soon = r#","created_at":"2027-01-15T08:00:00Z","expires_at":"2027-01-15T08:00:03Z""#;
        let tag = bench.deliver_as(&body("a", "+628111111111", soon), false, carried());
        bench.pass(secs(5)).await;
        let last = bench.facts.last().unwrap();
        assert_eq!((last.kind, last.extra, last.is_end()), (kind, true, false));
        assert_eq!(matches!(bench.left[&tag], Left::Buried(_)), kind == FactKind::Dead);
        let text = bench.metrics.encode().unwrap();
        assert!(!text.contains("outcome=\"dead\"") && !text.contains("outcome=\"expired\""), "{text}");
        assert_eq!(text.contains("otpd_dead_total{reason=\"template_missing\"} 1"), kind == FactKind::Dead);
    }
}
