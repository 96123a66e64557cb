//! Markers: what a test publishes itself, to know that it has read everything before it.
//!
//! Waiting until nothing comes for a while proves nothing on a busy machine; a marker that came by does.

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Confirmation};
use otpd_core::{Fact, FactKind, JobId, ProviderName, fact_json};
use otpd_queue::{Plan, Queue, TraceContext};

use crate::rabbit::{channel, job, now, provider, route};

const NAME: &str = "marker-of-a-test-";

/// A job id that only markers have, and only one of them.
#[must_use]
pub fn mark() -> JobId {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    job(&format!("{NAME}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// Whether an id is a marker's.
#[must_use]
pub fn is_mark(id: &JobId) -> bool {
    id.as_str().starts_with(NAME)
}

/// Puts a marker at the end of the stream, as a fact that concerns nobody; gives its job id.
///
/// # Panics
/// Where it is not confirmed.
pub async fn mark_stream(url: &str, plan: &Plan) -> JobId {
    let id = mark();
    let fact = Fact::new(FactKind::Superseded, id.clone(), provider("marker"), now());
    let channel = channel(url).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    // Straight to the stream, so that it does not depend on what is bound to it.
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let properties = BasicProperties::default()
        .with_content_type(fact_json::CONTENT_TYPE.into())
        .with_type(fact.kind.event_type().into())
        .with_message_id(fact.event_id().as_str().into());
    let body = fact_json::encode(&fact, "otpd/test");
    let published = channel.basic_publish("".into(), plan.events().into(), options, &body, properties).await;
    let confirmed = published.expect("published").await.expect("an answer");
    assert!(matches!(confirmed, Confirmation::Ack(None)), "{confirmed:?}");
    id
}

/// Puts a marker behind every job of a lane; gives its job id. Whoever gets it has got all that was there
/// before: jobs that come back go before those that were never handed out.
///
/// # Panics
/// Where it is not confirmed.
pub async fn mark_lane(queue: &Queue, lane: &ProviderName) -> JobId {
    let id = mark();
    let body = Bytes::from_static(b"{}");
    let sent = queue.enqueue(&route(lane.as_str()), &id, body, &TraceContext::default()).await;
    sent.expect("confirmed");
    id
}
