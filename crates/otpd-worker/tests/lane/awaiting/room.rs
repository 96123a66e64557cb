//! What waiting for deliveries costs: nobody else waits for it, and no delivery is held too long.

use super::*;

#[tokio::test(start_paused = true)]
async fn waiting_takes_no_place_of_those_under_way() {
    let setup = Setup { max_in_flight: 4, ..setup(confirmed(&["p", "q"])) };
    let mut bench = Bench::start(setup, |_, _| accepted());
    for i in 0..400 {
        bench.deliver_as(&body(&format!("j{i}"), &number(i), ""), false, by_login());
    }
    bench.pass(secs(5)).await;
    assert_eq!((bench.sent().len(), bench.left.len()), (400, 0));
}

/// What `rate` x `confirm_within` costs: at most half of the deliveries that the lane may hold. The others are put
/// aside, with the time of their acceptance, and nobody waits behind them.
#[tokio::test(start_paused = true)]
async fn a_prefetch_that_is_full_of_waiting_jobs_is_emptied_into_the_later_queue() {
    let prefetch = Prefetch { main: 100, bulk: 100, later: Some(1_000) };
    let setup = Setup { prefetch, ceiling: "60/s", ..setup(confirmed(&["p", "q"])) };
    let mut bench = Bench::start(setup, |_, _| accepted());
    let mut out: Vec<Tag> = Vec::new();
    let (mut most_out, mut aside) = (0, 0);
    // 20 a second wait for 20 s each: 400 in all.
    for i in 0..800 {
        let job = format!("j{i}");
        out.push(bench.deliver_as(&body(&job, &number(i), ""), false, by_login()));
        bench.pass(Duration::from_millis(50)).await;
        out.retain(|tag| !bench.left.contains_key(tag));
        most_out = most_out.max(out.len());
        for tag in std::mem::take(&mut bench.just_left) {
            let Some(Left::Moved(moved)) = bench.left.get(&tag) else { continue };
            if moved.to == provider("p") {
                assert_eq!((moved.section, moved.carried.attempts), (Section::Later, 1));
                assert!(moved.carried.accepted_at.is_some() && moved.carried.not_before.is_some());
                let (text, carried) =
                    (String::from_utf8(moved.body.to_vec()).unwrap(), moved.carried.clone());
                aside += 1;
                bench.deliver_from(Section::Later, &text, false, carried);
            }
        }
    }
    println!("20/s x 20 s, 100 held at most: {most_out} out, {aside} put aside, {} sent", bench.sent().len());
    assert_eq!(bench.sent().len(), 800, "none is sent twice, none waits");
    // Half of them wait, a few are under way.
    assert!((50..=55).contains(&most_out), "{most_out}");
    let extra = bench.facts.iter().filter(|f| f.kind == FactKind::FailedOver).count();
    assert!((395..=401).contains(&extra), "{extra} were due: those of the first 20 s");
    bench.pass(secs(21)).await;
    assert_eq!(bench.count(FactKind::FailedOver), 800);
    assert_eq!(bench.count(FactKind::Duplicate), 0);
}

/// Without a place to put them aside, they are awaited no longer.
#[tokio::test(start_paused = true)]
async fn where_there_is_no_place_left_accepted_jobs_are_acknowledged() {
    for later in [None, Some(10)] {
        let prefetch = Prefetch { main: 100, bulk: 100, later };
        let mut bench = Bench::start(Setup { prefetch, ..setup(confirmed(&["p", "q"])) }, |_, _| accepted());
        let tags: Vec<Tag> = (0..90)
            .map(|i| bench.deliver_as(&body(&format!("j{i}"), &number(i), ""), false, by_login()))
            .collect();
        bench.pass(secs(1)).await;
        let gone = tags.iter().filter(|tag| is_acknowledged(&bench, tag)).count();
        let aside = bench.left.len() - gone;
        let text = bench.metrics.encode().unwrap();
        println!("{later:?}: {gone} of 90 awaited no longer, {aside} put aside");
        assert!(
            text.contains(&format!("otpd_delivery_not_awaited_total{{provider=\"p\"}} {gone}\n")),
            "{text}"
        );
        assert_eq!(90 - gone - aside, 50);
        assert!(aside <= later.map_or(0, |_| 5), "{aside}");
    }
}

/// Longer than the broker lets a delivery be held, and than facts are remembered.
#[tokio::test(start_paused = true)]
async fn a_wait_of_an_hour_renews_its_delivery_and_needs_no_memory() {
    let route = Route { confirm_within: Some(secs(3600)), ttl: secs(4 * 3600), ..confirmed(&["p", "q"]) };
    for heard_after in [None, Some(55)] {
        let mut bench = Bench::start(setup(route.clone()), |_, _| accepted());
        let mut tag = deliver(&mut bench, "a");
        let (mut renewed, mut held_for, mut longest) = (0, 0, 0);
        for minute in 0..60 {
            bench.pass(secs(60)).await;
            held_for += 1;
            longest = longest.max(held_for);
            if heard_after == Some(minute) {
                tell(&bench, DELIVERED, "a", 1);
                bench.pass(secs(1)).await;
            }
            let Some(Left::Moved(moved)) = bench.left.get(&tag) else { continue };
            if moved.to == provider("p") {
                let (text, carried) =
                    (String::from_utf8(moved.body.to_vec()).unwrap(), moved.carried.clone());
                // Every owner is a new one, which knows nothing but the message.
                (renewed, held_for) = (renewed + 1, 0);
                bench.lose();
                bench.open(Vec::new());
                tag = bench.deliver_from(Section::Later, &text, renewed % 2 == 0, carried);
            }
        }
        bench.pass(secs(60)).await;
        println!("an hour: {renewed} renewed, none held longer than {longest} min");
        assert!(longest <= 6 && renewed >= 9, "{renewed}, {longest}");
        assert_eq!(is_acknowledged(&bench, &tag), heard_after.is_some());
        assert_eq!(
            (bench.sent().len(), bench.count(FactKind::FailedOver)),
            (1, usize::from(heard_after.is_none()))
        );
    }
}
