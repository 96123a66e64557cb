//! Waiting for deliveries over sessions, owners, restarts and other settings.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_lost_session_costs_no_time_and_no_second_message() {
    let mut bench = start(&["p", "q"]);
    deliver(&mut bench, "a");
    deliver(&mut bench, "heard");
    bench.pass(secs(12)).await;
    bench.lose();
    tell(&bench, DELIVERED, "heard", 1);
    bench.pass(secs(2)).await;
    bench.open(Vec::new());
    let (tag, heard) = (again(&mut bench, "a", by_login()), again(&mut bench, "heard", by_login()));
    bench.pass(secs(5)).await;
    assert!(is_acknowledged(&bench, &heard) && !bench.left.contains_key(&tag));
    bench.pass(Duration::from_millis(1_100)).await;
    assert_eq!(moved(&bench, &tag).carried.extra, 1);
    assert_eq!(bench.sent().len(), 2);
}

/// What the former owner told, in whichever order it is read.
#[tokio::test(start_paused = true)]
async fn the_next_owner_waits_on_from_the_time_of_acceptance() {
    let at = |kind, job: &str, provider: &str, at: UnixMs| Fact {
        attempt: 1,
        ..Fact::new(kind, JobId::parse(job).unwrap(), crate::provider(provider), at)
    };
    for turned in [false, true] {
        let mut bench = start(&["p", "q"]);
        bench.lose();
        let mut history = vec![
            at(FactKind::Accepted, "waits", "p", NOW.minus(secs(15))),
            at(FactKind::Accepted, "late", "p", NOW.minus(secs(40))),
            at(FactKind::Accepted, "arrived", "p", NOW.minus(secs(40))),
            at(DELIVERED, "arrived", "p", NOW.minus(secs(35))),
            at(FactKind::Accepted, "lost", "p", NOW.minus(secs(5))),
            at(FAILED, "lost", "p", NOW.minus(secs(4))),
            at(FactKind::Accepted, "elsewhere", "q", NOW.minus(secs(40))),
            at(FactKind::Accepted, "moved", "p", NOW.minus(secs(40))),
            Fact { extra: true, ..at(FactKind::FailedOver, "moved", "p", NOW.minus(secs(20))) },
        ];
        if turned {
            history.reverse();
        }
        bench.open(history);
        let [waits, late, arrived, lost, elsewhere, moved_on] =
            ["waits", "late", "arrived", "lost", "elsewhere", "moved"]
                .map(|job| again(&mut bench, job, by_login()));
        bench.pass(Duration::from_millis(10)).await;
        for tag in [arrived, elsewhere, moved_on] {
            assert!(is_acknowledged(&bench, &tag), "{tag:?}");
        }
        for tag in [late, lost] {
            assert_eq!((moved(&bench, &tag).carried.extra, moved(&bench, &tag).carried.attempts), (1, 1));
        }
        assert!(!bench.left.contains_key(&waits));
        bench.pass(Duration::from_millis(4_900)).await;
        assert!(!bench.left.contains_key(&waits));
        bench.pass(Duration::from_millis(200)).await;
        assert_eq!(moved(&bench, &waits).to.as_str(), "q");
        assert_eq!((bench.sent().len(), bench.kinds()), (0, vec![FactKind::FailedOver; 3]));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_between_sessions_is_awaited_in_the_next() {
    let setup = Setup { latency: secs(2), ..setup(confirmed(&["p", "q"])) };
    let mut bench = Bench::start(setup, |_, _| accepted());
    deliver(&mut bench, "a");
    bench.pass(secs(1)).await;
    bench.lose();
    bench.pass(secs(5)).await;
    assert_eq!((bench.kinds(), bench.left.len()), (vec![FactKind::Accepted], 0));
    bench.open(Vec::new());
    let tag = again(&mut bench, "a", by_login());
    bench.pass(secs(15)).await;
    assert!(bench.left.is_empty());
    bench.pass(secs(2)).await;
    assert_eq!(moved(&bench, &tag).to.as_str(), "q");
    assert_eq!(bench.sent().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn draining_hands_back_what_waits() {
    let mut bench = start(&["p", "q"]);
    let tag = deliver(&mut bench, "a");
    bench.pass(secs(5)).await;
    bench.drain.cancel();
    bench.pass(secs(60)).await;
    assert!(bench.lane.is_finished() && bench.closed && !bench.left.contains_key(&tag));
    // What is accepted meanwhile, too.
    let setup = Setup { latency: secs(2), ..setup(confirmed(&["p", "q"])) };
    let mut bench = Bench::start(setup, |_, _| accepted());
    let tag = deliver(&mut bench, "a");
    bench.pass(secs(1)).await;
    bench.drain.cancel();
    bench.pass(secs(60)).await;
    assert!(bench.lane.is_finished() && !bench.left.contains_key(&tag));
    assert_eq!(bench.kinds(), [FactKind::Accepted]);
}

#[tokio::test(start_paused = true)]
async fn other_routes_change_what_is_awaited() {
    let table = |route: Route| Arc::new(RouteTable::new([provider("p"), provider("q")], [route]));
    for (within, left_after) in [(None, 10), (Some(secs(7)), 1_900), (Some(secs(60)), 54_900)] {
        let mut bench = start(&["p", "q"]);
        let tag = deliver(&mut bench, "a");
        bench.pass(secs(5)).await;
        let mut orders = bench.orders();
        orders.routes = table(Route { confirm_within: within, ..confirmed(&["p", "q"]) });
        bench.steering.tell(vec![orders], Vec::new());
        bench.pass(Duration::from_millis(left_after)).await;
        assert_eq!(bench.left.contains_key(&tag), within.is_none(), "{within:?}");
        bench.pass(secs(1)).await;
        assert!(bench.left.contains_key(&tag), "{within:?}");
        assert_eq!(is_acknowledged(&bench, &tag), within.is_none());
    }
    // On: what was acknowledged is gone, what comes is awaited.
    let mut bench = Bench::start(setup(login(&["p", "q"])), |_, _| accepted());
    let before = deliver(&mut bench, "before");
    bench.pass(secs(1)).await;
    let mut orders = bench.orders();
    orders.routes = table(confirmed(&["p", "q"]));
    bench.steering.tell(vec![orders], Vec::new());
    bench.pass(secs(1)).await;
    let after = deliver(&mut bench, "after");
    bench.pass(secs(10)).await;
    assert!(is_acknowledged(&bench, &before) && !bench.left.contains_key(&after));
}

#[tokio::test(start_paused = true)]
async fn what_came_back_too_often_gets_a_fresh_message() {
    let mut bench = start(&["p", "q"]);
    let mut accepted = Fact::new(FactKind::Accepted, JobId::parse("a").unwrap(), provider("p"), NOW);
    accepted.attempt = 1;
    bench.remember(vec![accepted]);
    bench.returned = 10;
    let tag = again(&mut bench, "a", by_login());
    bench.pass(secs(1)).await;
    let fresh = moved(&bench, &tag);
    assert_eq!((fresh.to.as_str(), fresh.carried.accepted_at, fresh.carried.extra), ("p", Some(NOW), 0));
    assert!(bench.sent().is_empty() && bench.facts.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_later_life_waits_for_its_own_delivery() {
    let mut bench = start(&["p", "q"]);
    let carried = Carried { life: Life::after(NOW.minus(secs(60))), ..by_login() };
    let tag = bench.deliver_as(&body("a", "+628111111111", ""), false, carried.clone());
    bench.pass(secs(5)).await;
    tell(&bench, DELIVERED, "a", 1);
    bench.pass(secs(5)).await;
    assert!(bench.left.is_empty(), "that was about a former life");
    bench.remember(vec![told(&bench, DELIVERED, "a", 1).in_life(carried.life)]);
    bench.pass(secs(1)).await;
    assert!(is_acknowledged(&bench, &tag));
}
