//! Promises about what goes out: each settlement is carried out whole, in order, and told.

use std::time::Duration;

use bytes::Bytes;
use otpd_core::metadata::Metadata;
use otpd_core::{Class, FactKind, MessageId, Reason, UnixMs, fact};
use otpd_queue::{Burial, Carried, DeadFilter, Move, Then, TraceContext};

use crate::ground::{
    Ground, Worker, depths_become, facts_until, id, id_of, ids, now, provider_name, publish, route_name,
};

pub(crate) async fn acknowledged_is_gone_and_told(ground: &Ground) {
    let queue = ground.queue().await;
    let mut facts = queue.follow(Duration::ZERO).await.unwrap();
    publish(&queue, "login", "a", "{}").await;
    publish(&queue, "login", "b", "{}").await;
    let mut alpha = Worker::open(&queue, "alpha", 10);
    let out = alpha.deliveries(2).await;

    let mut accepted = alpha.fact(FactKind::Accepted, &id("a"), 3);
    accepted.route = Some(route_name("login"));
    accepted.class = Some(Class::Accepted);
    accepted.reason = Some(Reason::MissingId);
    accepted.http_status = Some(201);
    accepted.message_id = MessageId::new("wamid.1");
    accepted.to = Some("+62*******890".into());
    accepted.metadata = Metadata::parse(r#"{"user":"u1"}"#).ok();
    accepted.sent_at = Some(now());
    accepted.timings = Some(fact::Timings { queued_ms: 1, permit_ms: 2, http_ms: 3 });
    alpha.settle(Some(accepted.clone()), Then::Acknowledge(out[0].tag));
    // The fact was told before, only its acknowledgement got lost.
    alpha.settle(None, Then::Acknowledge(out[1].tag));
    let told = facts_until(&mut facts, |f| f.job == id("a")).await;
    assert_eq!(told, [accepted]);
    alpha.close().await;

    let mut again = Worker::open(&queue, "alpha", 10);
    again.nothing_comes().await;
    depths_become(&queue, &[("alpha", 0), ("beta", 0)]).await;
}

pub(crate) async fn kept_stays_with_the_lane(ground: &Ground) {
    let queue = ground.queue().await;
    let mut facts = queue.follow(Duration::ZERO).await.unwrap();
    publish(&queue, "login", "a", "{}").await;
    let mut alpha = Worker::open(&queue, "alpha", 10);
    let held = alpha.delivery().await;
    for attempt in 1..=3 {
        alpha.settle(Some(alpha.fact(FactKind::Retrying, &id("a"), attempt)), Then::Keep);
    }
    alpha.flush().await;
    let told = facts_until(&mut facts, |f| f.attempt == 3).await;
    assert_eq!(told.iter().map(|f| f.attempt).collect::<Vec<_>>(), [1, 2, 3]);
    // It did not go back, and is still this lane's to acknowledge.
    alpha.nothing_comes().await;
    alpha.accept(&held);
    alpha.close().await;
    let mut again = Worker::open(&queue, "alpha", 10);
    again.nothing_comes().await;
}

pub(crate) async fn moved_goes_to_the_next_lane_with_all_it_carries(ground: &Ground) {
    let queue = ground.queue().await;
    let mut facts = queue.follow(Duration::ZERO).await.unwrap();
    let trace = TraceContext {
        parent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        state: Some("vendor=1".into()),
    };
    queue.enqueue(&route_name("login"), &id("a"), Bytes::from("body"), &trace).await.unwrap();
    let mut alpha = Worker::open(&queue, "alpha", 10);
    let mut beta = Worker::open(&queue, "beta", 10);
    let held = alpha.delivery().await;
    let carried = Carried { attempts: 2, hops: 1, route: Some(route_name("login")), ..Carried::default() };
    let taken_at = UnixMs(now().0 - 12_345);
    let to_beta = Move {
        to: provider_name("beta"),
        section: otpd_queue::Section::Main,
        job: id_of(&held),
        body: held.body.clone(),
        carried: carried.clone(),
        taken_at,
        trace: held.trace.clone(),
    };
    let fact = alpha.fact(FactKind::FailedOver, &id("a"), 2);
    alpha.settle(Some(fact), Then::Move(held.tag, Box::new(to_beta)));

    let moved = beta.delivery().await;
    assert_eq!((id_of(&moved), &moved.body[..]), (id("a"), &b"body"[..]));
    assert_eq!((moved.carried.clone(), moved.taken_at), (carried, Some(taken_at)));
    assert_eq!((moved.redelivered, &moved.trace), (false, &trace));
    facts_until(&mut facts, |f| f.kind == FactKind::FailedOver).await;
    beta.accept(&moved);
    beta.close().await;
    alpha.close().await;
    let mut again = Worker::open(&queue, "alpha", 10);
    again.nothing_comes().await;
    depths_become(&queue, &[("alpha", 0), ("beta", 0)]).await;
}

pub(crate) async fn buried_lies_among_the_dead_with_every_field(ground: &Ground) {
    let queue = ground.queue().await;
    publish(&queue, "login", "full", "body").await;
    publish(&queue, "login", "bare", "").await;
    let mut alpha = Worker::open(&queue, "alpha", 10);
    let out = alpha.deliveries(2).await;
    let full = Burial {
        job: id("full"),
        body: out[0].body.clone(),
        reason: Reason::RecipientBlocked,
        class: Some(Class::Permanent),
        provider: provider_name("alpha"),
        route: Some(route_name("login")),
        http_status: Some(400),
        attempts: 3,
        detail: Some("Rezipient gesperrt: ***".into()),
        died_at: UnixMs(now().0 - 777),
        taken_at: UnixMs(1_800_000_000_000),
        life: otpd_core::Life::default(),
        trace: TraceContext::default(),
    };
    let died_at = full.died_at;
    let bare = Burial {
        job: id("bare"),
        body: Bytes::new(),
        reason: Reason::MalformedJob,
        class: None,
        provider: provider_name("alpha"),
        route: None,
        http_status: None,
        attempts: 0,
        detail: None,
        died_at: now(),
        taken_at: UnixMs(1_800_000_000_000),
        life: otpd_core::Life::default(),
        trace: TraceContext::default(),
    };
    for (delivery, burial) in out.iter().zip([full, bare]) {
        let fact = alpha.fact(FactKind::Dead, &id_of(delivery), burial.attempts);
        alpha.settle(Some(fact), Then::Bury(delivery.tag, Box::new(burial)));
    }
    alpha.close().await;

    let letters = queue.dead_letters(&DeadFilter::default(), now(), 10).await.unwrap();
    let [full, bare] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((full.job.clone(), full.reason), (id("full"), Some(Reason::RecipientBlocked)));
    assert_eq!((full.class, full.provider.clone()), (Some(Class::Permanent), Some(provider_name("alpha"))));
    assert_eq!((full.route.clone(), full.http_status), (Some(route_name("login")), Some(400)));
    assert_eq!((full.attempts, full.detail.as_deref()), (3, Some("Rezipient gesperrt: ***")));
    assert_eq!((full.died_at, &full.body[..]), (Some(died_at), &b"body"[..]));
    assert_eq!((bare.job.clone(), bare.reason), (id("bare"), Some(Reason::MalformedJob)));
    assert_eq!((bare.class, bare.route.clone(), bare.http_status), (None, None, None));
    assert_eq!((bare.attempts, bare.detail.as_deref(), bare.body.len()), (0, None, 0));
    let mut again = Worker::open(&queue, "alpha", 10);
    again.nothing_comes().await;
}

pub(crate) async fn facts_keep_their_order(ground: &Ground) {
    let queue = ground.queue().await;
    let mut facts = queue.follow(Duration::ZERO).await.unwrap();
    publish(&queue, "login", "a", "{}").await;
    let mut alpha = Worker::open(&queue, "alpha", 10);
    alpha.delivery().await;
    for attempt in 0..1_000 {
        alpha.settle(Some(alpha.fact(FactKind::Retrying, &id("a"), attempt)), Then::Keep);
    }
    let told = facts_until(&mut facts, |f| f.attempt == 999).await;
    assert!(told.iter().map(|f| f.attempt).eq(0..1_000), "{} facts", told.len());
}

pub(crate) async fn a_flush_ends_when_all_before_it_is_safe(ground: &Ground) {
    let queue = ground.queue().await;
    for n in 0..100 {
        publish(&queue, "login", &format!("job-{n}"), "{}").await;
    }
    let mut alpha = Worker::open(&queue, "alpha", 200);
    let out = alpha.deliveries(100).await;
    let begun = now();
    for delivery in &out {
        alpha.accept(delivery);
    }
    alpha.flush().await;
    assert_eq!(alpha.lane.settler.unconfirmed(), 0);
    assert!(alpha.lane.settler.proof().at() >= begun, "the flush proves that the queue hears us");
    // Whoever asks from now on is told, whatever happens to this process.
    let other = ground.queue().await;
    let mut facts = other.follow(Duration::from_secs(300)).await.unwrap();
    let told = facts_until(&mut facts, |f| f.job == id("job-99")).await;
    assert_eq!(told.len(), 100);
    // Nothing is open: it ends at once.
    alpha.flush().await;
    alpha.close().await;
    let mut again = Worker::open(&queue, "alpha", 200);
    again.nothing_comes().await;
}

pub(crate) async fn a_follower_gets_what_was_and_what_comes(ground: &Ground) {
    let queue = ground.queue().await;
    for job in ["before", "after"] {
        publish(&queue, "login", job, "{}").await;
    }
    let mut alpha = Worker::open(&queue, "alpha", 10);
    let out = alpha.deliveries(2).await;
    alpha.accept(&out[0]);
    alpha.flush().await;
    let mut facts = queue.follow(Duration::from_secs(300)).await.unwrap();
    facts_until(&mut facts, |f| f.job == id("before")).await;
    alpha.accept(&out[1]);
    let rest = facts_until(&mut facts, |f| f.job == id("after")).await;
    assert_eq!(rest.len(), 1, "told twice: {rest:?}");
    assert_eq!(ids(&out), ["before", "after"]);
}

pub(crate) async fn the_story_of_a_job_is_all_that_was_confirmed(ground: &Ground) {
    let queue = ground.queue().await;
    let back = Duration::from_secs(300);
    assert_eq!(queue.story(&id("never"), back).await.unwrap(), [], "an empty stream has an end too");
    for job in ["a", "b"] {
        publish(&queue, "login", job, "{}").await;
    }
    let mut alpha = Worker::open(&queue, "alpha", 10);
    let out = alpha.deliveries(2).await;
    for attempt in 1..=3 {
        alpha.settle(Some(alpha.fact(FactKind::Retrying, &id("a"), attempt)), Then::Keep);
    }
    alpha.accept(&out[1]);
    alpha.accept(&out[0]);
    alpha.flush().await;
    let story = queue.story(&id("a"), back).await.unwrap();
    assert_eq!(
        story.iter().map(|f| (f.kind, f.attempt)).collect::<Vec<_>>(),
        [
            (FactKind::Retrying, 1),
            (FactKind::Retrying, 2),
            (FactKind::Retrying, 3),
            (FactKind::Accepted, story[3].attempt),
        ]
    );
    assert_eq!(queue.story(&id("never"), back).await.unwrap(), []);
    alpha.close().await;
}
