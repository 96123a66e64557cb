//! Follows the events stream into the [`Index`](crate::index::Index), for as long as the gateway runs.

use std::time::Duration;

use otpd_core::{Fact, FactKind, recent};
use otpd_queue::Following;
use tokio::time::Instant;

use crate::gateway::Gateway;
use crate::limits::READ_BACK;

/// The first and the longest wait for a queue that cannot be followed.
const WAITS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// How often watchers that have gone are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// Runs until it is dropped.
pub(crate) async fn follow(gateway: Gateway) {
    let (mut wait, mut back, mut told) = (WAITS.0, READ_BACK, false);
    loop {
        match gateway.queue().follow_marked(back).await {
            Ok(following) => {
                let began = Instant::now();
                (wait, told) = (WAITS.0, false);
                read(&gateway, following).await;
                // What happened meanwhile, and a little more: facts are dated by many clocks.
                back = (began.elapsed().min(READ_BACK) + recent::WINDOW).min(READ_BACK);
                tracing::warn!("following the events has ended; beginning again");
            }
            Err(error) if !std::mem::replace(&mut told, true) => {
                tracing::warn!("the events stream cannot be followed: {error}; states are not known before");
            }
            Err(_) => {}
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(WAITS.1);
    }
}

/// Reads until the facts end.
async fn read(gateway: &Gateway, following: Following) {
    let Following { mut facts, mut caught_up } = following;
    let index = gateway.index();
    // Facts that were handed over before the end was reached, and wait to be taken.
    let mut before_the_end = None;
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            biased;
            reached = &mut caught_up, if before_the_end.is_none() && !index.has_caught_up() => {
                if reached.is_err() {
                    return;
                }
                before_the_end = Some(facts.len());
            }
            fact = facts.recv() => {
                let Some(fact) = fact else { return };
                take(gateway, &fact);
                before_the_end = before_the_end.map(|left| left.saturating_sub(1));
            }
            _ = sweep.tick() => {
                index.watchers().sweep();
                for provider in gateway.deliveries().early().sweep(gateway.clock().mono()) {
                    gateway.metrics().callback(&provider, "forgotten");
                }
            }
        }
        if before_the_end == Some(0) && !index.has_caught_up() {
            index.caught_up();
            gateway.resolve_early();
            tracing::info!(
                jobs = index.len(),
                "the events of the last hour are read; the states of jobs are known"
            );
        }
    }
}

fn take(gateway: &Gateway, fact: &Fact) {
    gateway.index().fold(fact, gateway.clock().mono());
    if fact.kind == FactKind::Accepted && gateway.index().has_caught_up() {
        gateway.deliveries().early().resolve(&fact.provider, fact.message_id.as_ref(), &fact.job);
    }
}
