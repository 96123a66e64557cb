//! Facts that no lane tells: what a provider said in a callback.

use std::time::Duration;

use otpd_core::{DeliveryStatus, Fact, FactKind};
use otpd_tests::{Heard, eventually};

use crate::ground::{Ground, PATIENCE, Worker, facts_until, id, now, provider_name};

fn delivered(job: &str) -> Fact {
    let kind = FactKind::Delivery(DeliveryStatus::Delivered);
    Fact { attempt: 1, ..Fact::new(kind, id(job), provider_name("alpha"), now()) }
}

pub(crate) async fn a_told_fact_is_on_the_stream_once(ground: &Ground) {
    let (queue, other) = (ground.queue().await, ground.queue().await);
    let mut live = other.follow(Duration::ZERO).await.unwrap();
    let facts: Vec<Fact> = (0..500).map(|n| delivered(&format!("job-{n}"))).collect();
    let told = futures::future::join_all(facts.iter().map(|fact| queue.tell(fact))).await;
    assert!(told.iter().all(Result::is_ok), "{told:?}");
    // Confirmed means that whoever asks from now on is told.
    let last = delivered("last");
    queue.tell(&last).await.unwrap();
    let mut late = other.follow(Duration::from_secs(300)).await.unwrap();
    for stream in [&mut live, &mut late] {
        let mut read = facts_until(stream, |fact| fact.job == last.job).await;
        assert_eq!(read.pop(), Some(last.clone()));
        read.sort_by_key(|fact| facts.iter().position(|told| told.job == fact.job));
        assert_eq!(read, facts);
    }
}

pub(crate) async fn the_listeners_of_this_process_hear_a_told_fact(ground: &Ground) {
    let queue = ground.queue().await;
    let heard = Heard::default();
    queue.listen(heard.listener());
    let mut alpha = Worker::open(&queue, "alpha", 10);
    alpha.nothing_comes().await;
    let fact = delivered("heard");
    queue.tell(&fact).await.unwrap();
    eventually("the fact to be heard", PATIENCE, || async { heard.facts().contains(&fact).then_some(()) })
        .await;
    assert_eq!(heard.facts().iter().filter(|other| **other == fact).count(), 1);
}
