//! Who writes the topology of a broker: applies at the same time, workers that may configure nothing,
//! a provider that is retired.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};
use otpd_core::FactKind;
use otpd_queue::rabbitmq::Rabbit;
use otpd_queue::{
    Carried, DeadFilter, Difference, LanePlan, Leftovers, Move, Owners, Plan, QueueError, Section,
    Settlement, Standing, Then, Trial,
};
use otpd_sim::MockConfig;
use otpd_tests::rabbit::{
    LaneInHand, PATIENCE, channel, depth, enqueue_all, now, plan, provider, rabbit, route,
};
use otpd_tests::scene::Scene;
use otpd_tests::{Broker, eventually};

/// A plan in which these routes begin with one provider, beside each provider's own.
fn leading(prefix: &str, providers: &[&str], first: &str, routes: &[String]) -> Plan {
    let mut plan = plan(prefix, providers);
    let lane = plan.lanes.iter_mut().find(|lane| lane.provider.as_str() == first).unwrap();
    lane.routes.extend(routes.iter().map(|name| route(name)));
    plan
}

async fn publisher(url: &str) -> Channel {
    let channel = channel(url).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    channel
}

/// Publishes one job; says whether a queue has it.
async fn routed(channel: &Channel, plan: &Plan, key: &str) -> bool {
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let exchange = plan.jobs_exchange().into();
    let sent = channel
        .basic_publish(exchange, key.into(), options, b"{}", BasicProperties::default())
        .await
        .unwrap();
    match sent.await.unwrap() {
        Confirmation::Ack(returned) => returned.is_none(),
        other @ (Confirmation::Nack(_) | Confirmation::NotRequested) => panic!("{other:?}"),
    }
}

async fn depths(admin: &Channel, plan: &Plan, providers: &[&str]) -> Vec<u32> {
    let mut depths = Vec::new();
    for name in providers {
        depths.push(depth(admin, &plan.lane_queue(&provider(name))).await);
    }
    depths
}

/// Two applies of different plans at once, again and again. `OTPD_TRIES=40` by hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_applies_at_once_leave_every_route_bound_to_exactly_one_lane() {
    let broker = Broker::shared();
    let names: Vec<String> = (0..10).map(|i| format!("route-{i}")).collect();
    let tries = std::env::var("OTPD_TRIES").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let lanes = ["a", "b"];
    let (prefix, admin) = (broker.prefix(), publisher(&broker.url()).await);
    let (mut bad, mut slowest) = (0, Duration::ZERO);
    let (one, two) = (leading(&prefix, &lanes, "a", &names), leading(&prefix, &lanes, "b", &names));
    for attempt in 0..tries {
        let begun = Instant::now();
        let (first, second) = (rabbit(&broker.url(), &one), rabbit(&broker.url(), &two));
        let (x, y) = tokio::join!(first.apply_topology(), second.apply_topology());
        let (x, y) = (x.unwrap(), y.unwrap());
        slowest = slowest.max(begun.elapsed());
        assert_ne!(x.generation, y.generation, "two changes have one number");
        let before = depths(&admin, &one, &lanes).await;
        for name in &names {
            assert!(routed(&admin, &one, name).await, "try {attempt}: {name} leads nowhere");
        }
        // What is recorded last is what is so: all lead where the later one wanted them.
        let winner = usize::from(y.generation > x.generation);
        let want: Vec<u32> = (0..2).map(|i| before[i] + if i == winner { 10 } else { 0 }).collect();
        let deadline = Instant::now() + Duration::from_secs(5);
        while depths(&admin, &one, &lanes).await != want {
            if Instant::now() > deadline {
                bad += 1;
                println!("try {attempt}: {:?}, not {want:?}", depths(&admin, &one, &lanes).await);
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let agrees = [first.check_topology().await.unwrap(), second.check_topology().await.unwrap()];
        assert!(agrees[winner].is_empty() && !agrees[1 - winner].is_empty(), "{agrees:?}");
        first.close().await;
        second.close().await;
    }
    println!(
        "{bad} of {tries} tries left a route without exactly one lane; two applies took at most {slowest:.2?}"
    );
    assert_eq!(bad, 0);
}

/// Everything published while a route changes its lane, back and forth, is in exactly one of the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_changes_its_lane_without_a_moment_of_none_or_both() {
    let broker = Broker::shared();
    let (prefix, lanes, login) = (broker.prefix(), ["a", "b"], ["login".to_owned()]);
    let plans = [leading(&prefix, &lanes, "a", &login), leading(&prefix, &lanes, "b", &login)];
    rabbit(&broker.url(), &plans[0]).apply_topology().await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let publishing: Vec<_> = (0..2)
        .map(|_| {
            let (url, plan, over) = (broker.url(), plans[0].clone(), over.clone());
            tokio::spawn(async move {
                let channel = publisher(&url).await;
                let (mut published, mut returned) = (0, 0);
                while !over.load(Ordering::Relaxed) {
                    published += 1;
                    returned += u32::from(!routed(&channel, &plan, "login").await);
                }
                (published, returned)
            })
        })
        .collect();
    for turn in 1..=20 {
        rabbit(&broker.url(), &plans[turn % 2]).apply_topology().await.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    let (mut published, mut returned) = (0, 0);
    for task in publishing {
        let (more, back) = task.await.unwrap();
        (published, returned) = (published + more, returned + back);
    }
    let admin = channel(&broker.url()).await;
    eventually("every job to be in a lane", PATIENCE, || async {
        let waiting: u32 = depths(&admin, &plans[0], &lanes).await.iter().sum();
        (waiting >= published).then_some(())
    })
    .await;
    let there = depths(&admin, &plans[0], &lanes).await;
    println!("20 changes under {published} jobs: {there:?} in the lanes, {returned} came back");
    assert_eq!((there.iter().sum::<u32>(), returned), (published, 0));
    assert!(there.iter().all(|waiting| *waiting > 0), "{there:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_broke_off_is_finished_by_the_next_apply() {
    let broker = Broker::shared();
    let (prefix, lanes, login) = (broker.prefix(), ["a", "b"], ["login".to_owned()]);
    let plan = leading(&prefix, &lanes, "a", &login);
    let queue = rabbit(&broker.url(), &plan);
    queue.apply_topology().await.unwrap();
    // As an apply leaves it that was killed: begun, the route bound to both, nothing recorded as done.
    let admin = publisher(&broker.url()).await;
    let jobs = plan.jobs_exchange();
    let both = plan.lane_queue(&provider("b"));
    let (options, arguments) =
        (lapin::options::QueueBindOptions::default(), lapin::types::FieldTable::default());
    admin.queue_bind(both.into(), jobs.into(), "login".into(), options, arguments).await.unwrap();
    let begun = serde_json::json!({
        "version": 1, "generation": 2, "state": "applying", "by": "otpd/killed", "at": "2026-11-21T10:00:00Z",
        "lanes": [{ "provider": "a", "owners": "one" }, { "provider": "b", "owners": "one" }],
        "routes": { "a": ["a"], "b": ["b"], "login": ["a", "b"] }, "to_retire": [],
    });
    let properties = BasicProperties::default().with_type("otp.topology.applied".into());
    let (key, options) = ("applied".into(), BasicPublishOptions::default());
    let body = begun.to_string().into_bytes();
    let sent = admin.basic_publish(plan.topology().into(), key, options, &body, properties).await.unwrap();
    assert!(sent.await.unwrap().is_ack());

    let Standing::Behind(why) = queue.topology_standing().await.unwrap() else {
        panic!("a worker would start")
    };
    assert!(why[0].to_string().contains("otpd/killed"), "{why:?}");
    let applied = queue.apply_topology().await.unwrap();
    assert_eq!(applied.generation, 3);
    assert_eq!(queue.topology_standing().await.unwrap(), Standing::Ready(vec![]));
    assert!(routed(&admin, &plan, "login").await);
    eventually("the job to be in one lane", PATIENCE, || async {
        (depths(&admin, &plan, &lanes).await == [1, 0]).then_some(())
    })
    .await;
    // Nothing to change: nothing is counted.
    assert_eq!(queue.apply_topology().await.unwrap().generation, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_needs_no_right_to_configure_and_changes_no_route() {
    let broker = Broker::shared();
    let (prefix, lanes, login) = (broker.prefix(), ["a", "b"], ["login".to_owned()]);
    let plan = leading(&prefix, &lanes, "a", &login);
    let name = format!("worker-{}", prefix.trim_end_matches('.'));
    broker.ctl(&["add_user", &name, "pw"]);
    broker.ctl(&["set_permissions", &name, "^$", ".*", ".*"]);
    let url = broker.url().replace("guest:guest", &format!("{name}:pw"));
    let worker = rabbit(&url, &plan);
    assert_eq!(worker.topology_standing().await.unwrap(), Standing::Empty);
    let Err(QueueError::Refused { why }) = worker.apply_topology_if_empty().await else {
        panic!("it may not")
    };
    assert!(why.contains("ACCESS_REFUSED"), "{why}");

    rabbit(&broker.url(), &plan).apply_topology().await.unwrap();
    assert_eq!(worker.topology_standing().await.unwrap(), Standing::Ready(vec![]));
    enqueue_all(&worker, "login", (0..5).map(|i| format!("job-{i}"))).await;
    let mut lane = LaneInHand::open(&worker, "a", 10);
    let jobs = lane.deliveries(5).await;
    jobs.iter().for_each(|job| lane.accept(job));
    lane.settler.flush().await;
    lane.close().await;

    // A worker of another config: its lanes are there, so it works; where the route leads is not its business.
    let other = rabbit(&url, &leading(&prefix, &lanes, "b", &login));
    let Standing::Ready(told) = other.topology_standing().await.unwrap() else { panic!("it could work") };
    let told: Vec<String> = told.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["route login differs: leads to a, planned is b"]);
    // One with a lane that nobody applied waits.
    let mut grown = plan.clone();
    grown.lanes.push(LanePlan::new(provider("c"), vec![route("c")]));
    let Standing::Behind(why) = rabbit(&url, &grown).topology_standing().await.unwrap() else {
        panic!("no lane")
    };
    assert!(
        why.iter().any(|d| matches!(d, Difference::Missing { what } if what.ends_with("lane.c"))),
        "{why:?}"
    );
    // So does one that takes the lane for one of many owners.
    let mut many = plan.clone();
    many.lanes[0].owners = Owners::Many;
    assert!(matches!(rabbit(&url, &many).topology_standing().await.unwrap(), Standing::Behind(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_first_workers_one_applies() {
    let broker = Broker::shared();
    let plan = plan(&broker.prefix(), &["a", "b"]);
    let workers: Vec<_> = (0..4).map(|_| rabbit(&broker.url(), &plan)).collect();
    let all = futures::future::join_all(workers.iter().map(Rabbit::apply_topology_if_empty)).await;
    assert!(all.iter().all(|applied| applied.as_ref().unwrap().generation == 1), "{all:?}");
    for worker in &workers {
        assert_eq!(worker.topology_standing().await.unwrap(), Standing::Ready(vec![]));
    }
    // A worker of another plan does not take it for empty.
    let other = rabbit(&broker.url(), &leading(&plan.prefix, &["a", "b"], "b", &["login".to_owned()]));
    assert_eq!(other.apply_topology_if_empty().await.unwrap().generation, 1);
    assert!(!routed(&publisher(&broker.url()).await, &plan, "login").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_has_a_queue_of_its_own_and_a_full_lane_refuses_its_publishers() {
    let broker = Broker::shared();
    let mut plan = plan(&broker.prefix(), &["a", "b"]);
    plan.lanes[0].bulk_routes.push(route("news"));
    plan.lanes[1].owners = Owners::Many;
    plan.lanes[1].bulk_routes.push(route("offers"));
    plan.lane_limit = 20;
    rabbit(&broker.url(), &plan).apply_topology().await.unwrap();
    let admin = publisher(&broker.url()).await;
    for key in ["a", "news", "offers"] {
        assert!(routed(&admin, &plan, key).await);
    }
    let at = |name: &str, section| plan.section_queue(&provider(name), section);
    let queues =
        [at("a", Section::Main), at("a", Section::Bulk), at("b", Section::Main), at("b", Section::Bulk)];
    eventually("each job in its queue", PATIENCE, || async {
        let mut there = Vec::new();
        for queue in &queues {
            there.push(depth(&admin, queue).await);
        }
        (there == [1, 1, 1, 0]).then_some(())
    })
    .await;
    let mut taken = 0;
    let refused = loop {
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let sent = admin
            .basic_publish(
                plan.jobs_exchange().into(),
                "news".into(),
                options,
                b"{}",
                BasicProperties::default(),
            )
            .await
            .unwrap();
        if sent.await.unwrap().is_nack() {
            break true;
        }
        taken += 1;
        if taken > 100 {
            break false;
        }
    };
    println!("a lane limited to 20 took {} before it refused", taken + 1);
    assert!(refused && taken < 30, "{taken}");
    // A full bulk queue is nobody else's matter.
    assert!(routed(&admin, &plan, "a").await);
}

/// A broker on which `old` has 5 interactive, 300 bulk and 2 deferred jobs, `next` is its neighbour, and `old` has just
/// left the plan. Gives the plan before and after.
async fn left_behind(broker: &Broker) -> (Plan, Plan) {
    let mut before = plan(&broker.prefix(), &["old", "next"]);
    before.lanes[0].routes.push(route("login"));
    before.lanes[0].bulk_routes.push(route("news"));
    let queue = rabbit(&broker.url(), &before);
    queue.apply_topology().await.unwrap();
    enqueue_all(&queue, "login", (0..4).map(|i| format!("login-{i}"))).await;
    enqueue_all(&queue, "old", ["own".to_owned()]).await;
    enqueue_all(&queue, "news", (0..300).map(|i| format!("news-{i}"))).await;
    enqueue_all(&queue, "login", (0..2).map(|i| format!("later-{i}"))).await;
    let mut lane = LaneInHand::open(&queue, "old", 100);
    // The owner defers two and leaves the rest.
    let mut deferred = 0;
    while deferred < 2 {
        let delivery = lane.delivery().await;
        let job = delivery.message_id.clone().unwrap();
        if !job.as_str().starts_with("later") || delivery.section != Section::Main {
            continue;
        }
        deferred += 1;
        let carried = Carried { attempts: 2, not_before: Some(now()), ..delivery.carried.clone() };
        let (to, section) = (provider("old"), Section::Later);
        let (body, trace) = (delivery.body.clone(), delivery.trace.clone());
        let moved = Move { to, section, job, body, carried, taken_at: delivery.taken_at.unwrap(), trace };
        lane.settler.settle(Settlement { fact: None, then: Then::Move(delivery.tag, Box::new(moved)) });
    }
    lane.settler.flush().await;
    let mut after = plan(&before.prefix, &["next"]);
    after.lanes[0].routes.push(route("login"));
    after.lanes[0].bulk_routes.push(route("news"));
    let new = rabbit(&broker.url(), &after);
    // Not while the config names it, and not before that was applied.
    let refuse = Leftovers::Refuse;
    let named = queue.retire(&provider("old"), &refuse, Trial::Do).await.unwrap_err().to_string();
    assert!(named.contains("the config still names old"), "{named}");
    let early = new.retire(&provider("old"), &refuse, Trial::Do).await.unwrap_err().to_string();
    assert!(early.contains("otpd topology apply"), "{early}");
    let applied = new.apply_topology().await.unwrap();
    assert_eq!(applied.to_retire, ["old"]);
    // Nor while a worker with the old config is there.
    let used = new.retire(&provider("old"), &refuse, Trial::Do).await.unwrap_err().to_string();
    assert!(used.contains("still consumes"), "{used}");
    lane.close().await;
    let admin = channel(&broker.url()).await;
    eventually("everything back in the lane", PATIENCE, || async {
        let mut there = Vec::new();
        for section in Section::ALL {
            there.push(depth(&admin, &before.section_queue(&provider("old"), section)).await);
        }
        (there == [5, 300, 2]).then_some(())
    })
    .await;
    let left = new.retire(&provider("old"), &refuse, Trial::Do).await.unwrap_err().to_string();
    assert!(left.contains("307 jobs are left"), "{left}");
    (before, after)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_provider_leaves_its_jobs_to_another_and_nothing_behind() {
    let broker = Broker::shared();
    let (before, after) = left_behind(broker).await;
    let queue = rabbit(&broker.url(), &after);
    // Its own route is gone already; the others lead to the next provider.
    let admin = publisher(&broker.url()).await;
    assert!(!routed(&admin, &after, "old").await);
    let to_next = Leftovers::MoveTo(provider("next"));
    let would = queue.retire(&provider("old"), &to_next, Trial::Look).await.unwrap();
    assert_eq!((would.waiting, would.moved), (307, 0));
    let nowhere = Leftovers::MoveTo(provider("nobody"));
    assert!(queue.retire(&provider("old"), &nowhere, Trial::Do).await.is_err());

    let retired = queue.retire(&provider("old"), &to_next, Trial::Do).await.unwrap();
    assert_eq!((retired.waiting, retired.moved, retired.buried), (307, 307, 0));
    let lane = |section| after.section_queue(&provider("next"), section);
    for (section, expected) in [(Section::Main, 5), (Section::Bulk, 300), (Section::Later, 2)] {
        assert_eq!(depth(&admin, &lane(section)).await, expected, "{section:?}");
    }
    for section in Section::ALL {
        let options = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
        let gone = channel(&broker.url()).await;
        let queue = before.section_queue(&provider("old"), section);
        let asked = gone.queue_declare(queue.into(), options, lapin::types::FieldTable::default()).await;
        assert!(asked.is_err(), "{section:?} is still there");
    }
    assert_eq!(queue.check_topology().await.unwrap(), []);
    let mut next = LaneInHand::open(&queue, "next", 100);
    let own = loop {
        let delivery = next.delivery().await;
        if delivery.message_id.as_ref().unwrap().as_str() == "own" {
            break delivery;
        }
    };
    assert_eq!((own.carried.route.clone(), own.carried.hops), (Some(route("next")), 1));
    next.close().await;
    let mut facts = queue.follow(Duration::from_secs(3600)).await.unwrap();
    for _ in 0..307 {
        let fact = facts.recv().await.unwrap();
        assert_eq!((fact.kind, fact.next_provider), (FactKind::FailedOver, Some(provider("next"))));
    }
    let again = queue.retire(&provider("old"), &to_next, Trial::Do).await.unwrap_err().to_string();
    assert!(again.contains("there is no lane of old"), "{again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_provider_s_jobs_may_be_buried_without_their_codes() {
    let broker = Broker::shared();
    let (_, after) = left_behind(broker).await;
    let queue = rabbit(&broker.url(), &after);
    let without = Leftovers::Bury(|_| bytes::Bytes::from_static(b"no code"));
    let retired = queue.retire(&provider("old"), &without, Trial::Do).await.unwrap();
    assert_eq!((retired.moved, retired.buried), (0, 307));
    let letters = queue.dead_letters(&DeadFilter::default(), now(), 1000).await.unwrap();
    let ours = letters.iter().filter(|l| l.provider == Some(provider("old")) && l.body == "no code");
    assert_eq!(ours.count(), 307);
    let mut facts = queue.follow(Duration::from_secs(3600)).await.unwrap();
    assert_eq!(facts.recv().await.unwrap().kind, FactKind::Dead);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_waits_for_its_lanes_and_makes_everything_on_an_empty_broker() {
    let broker = Broker::shared();
    let config =
        "[providers.a]\nkind = \"betatel\"\nbase_url = \"{mock}\"\napi_key = \"k\"\naccount_id = \"i\"\n";
    let scene =
        Scene::set(broker, &broker.url(), config, &[("a", false, &["a"])], MockConfig::default()).await;
    scene.edit_config(|text| {
        format!("{text}{}", text[text.find("[providers.a]").unwrap()..].replace(".a]", ".b]"))
    });
    let waiting = scene.worker();
    eventually("the worker to say what it waits for", PATIENCE, || async {
        let said = scene.log();
        (said.contains("lane.b is missing") && said.contains("run `otpd topology apply`")).then_some(())
    })
    .await;
    assert_eq!(waiting.admin("/readyz").await.unwrap().0, 503);
    let (code, _, said) = scene.otpd(&["topology", "apply"]);
    assert_eq!(code, 0, "{said}");
    waiting.ready().await;
    assert!(waiting.stop().await.success());

    let elsewhere = format!("prefix = \"{}\"", broker.prefix());
    scene.edit_config(|text| text.replace(&format!("prefix = \"{}\"", scene.plan.prefix), &elsewhere));
    let first = scene.worker();
    first.ready().await;
    let (code, said, _) = scene.otpd(&["topology", "check"]);
    assert_eq!((code, said.contains("as configured")), (0, true), "{said}");
    assert!(first.stop().await.success());
}
