//! A past for the events stream: facts of workers that are gone.

use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use otpd_core::{Fact, fact_json};
use otpd_queue::Plan;

use crate::rabbit::channel;

/// How many facts are on their way at once.
const WINDOW: usize = 1000;

/// Publishes facts as another worker would have, each dated by itself, all confirmed.
///
/// # Panics
/// Where one is not.
pub async fn publish_past(url: &str, plan: &Plan, facts: impl IntoIterator<Item = Fact>) {
    let stream = channel(url).await;
    stream.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let mut confirms = Vec::with_capacity(WINDOW);
    for fact in facts {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_type(fact.kind.event_type().into())
            .with_message_id(fact.event_id().into())
            .with_timestamp(fact.at.0 / 1000);
        let body = fact_json::encode(&fact, "otpd/another");
        let (exchange, key) = (plan.facts_exchange().into(), fact.routing_key().into());
        let sent = stream.basic_publish(exchange, key, BasicPublishOptions::default(), &body, properties);
        confirms.push(sent.await.expect("published"));
        if confirms.len() == WINDOW {
            confirmed(&mut confirms).await;
        }
    }
    confirmed(&mut confirms).await;
}

async fn confirmed(confirms: &mut Vec<lapin::PublisherConfirm>) {
    for confirm in confirms.drain(..) {
        confirm.await.expect("confirmed");
    }
}
