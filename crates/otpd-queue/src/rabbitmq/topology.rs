//! The broker's side of a [`Plan`]: what exchanges, queues and bindings it comes to. Pure; declaring
//! is in `desk`, changing in `apply`, what was applied in `record`.
//!
//! A route's key is bound twice, to the same queue: at `otp.jobs`, where producers publish, and at
//! `otp.routes`, its alternate exchange. The broker asks an alternate exchange only for what is bound
//! nowhere, so the second binding does nothing while the first one is there. It is what lets a route
//! change its lane in one step; `apply` says how.

use std::collections::BTreeMap;
use std::time::Duration;

use lapin::ExchangeKind;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::link::{Link, Open};
use super::wire::{DEAD_KEY, short};
use crate::error::QueueError;
use crate::plan::{DELIVERY_LIMIT, LanePlan, Owners, Plan};
use crate::seam::Section;

/// Listing dead letters hands them out and takes them back; that must never bury them.
const DEAD_DELIVERY_LIMIT: i64 = 1_000_000_000;
/// The longest time to live that every supported RabbitMQ takes: 2^32 - 1 ms, 49.7 days.
const LONGEST_TTL: Duration = Duration::from_millis(u32::MAX as u64);
/// Facts expire by whole segments of the stream, and never the one being written: of 16 MB (some 32,000
/// facts) 24 hours are 24 hours from a fact every 3 s on, instead of from 12 a second with the broker's 500 MB.
const EVENTS_SEGMENT: i64 = 16_000_000;
/// One document for each apply, some kilobytes long: the last hundreds of them.
const TOPOLOGY_BYTES: i64 = 2_000_000;
const TOPOLOGY_SEGMENT: i64 = 500_000;
/// The key of what was applied.
pub(super) const TOPOLOGY_KEY: &str = "applied";

/// An exchange or a queue.
#[derive(Debug, PartialEq)]
pub(super) enum Part {
    Exchange { name: String, kind: ExchangeKind, who: Publishers, arguments: FieldTable },
    Queue { name: String, arguments: FieldTable },
}

/// Who may publish to an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Publishers {
    /// Whoever has the right.
    Clients,
    /// Only other exchanges.
    Exchanges,
}

impl Part {
    /// Such as `queue otp.lane.verihubs`.
    pub(super) fn what(&self) -> String {
        match self {
            Self::Exchange { name, .. } => format!("exchange {name}"),
            Self::Queue { name, .. } => format!("queue {name}"),
        }
    }
}

/// A queue gets what is published to `exchange` with `key`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) exchange: String,
    pub(super) key: String,
    pub(super) queue: String,
}

/// Where a record of what was applied is kept, and what it is published to.
pub(super) fn record_parts(plan: &Plan) -> (Vec<Part>, Binding) {
    let topology = plan.topology();
    let arguments = table([
        ("x-queue-type", word("stream")),
        ("x-max-length-bytes", AMQPValue::LongLongInt(TOPOLOGY_BYTES)),
        ("x-stream-max-segment-size-bytes", AMQPValue::LongLongInt(TOPOLOGY_SEGMENT)),
    ]);
    let parts = vec![
        exchange(topology.clone(), ExchangeKind::Direct),
        Part::Queue { name: topology.clone(), arguments },
    ];
    (parts, Binding { exchange: topology.clone(), key: TOPOLOGY_KEY.into(), queue: topology })
}

fn exchange(name: String, kind: ExchangeKind) -> Part {
    Part::Exchange { name, kind, who: Publishers::Clients, arguments: FieldTable::default() }
}

/// All exchanges and queues, in the order in which they are declared.
pub(super) fn parts(plan: &Plan) -> Vec<Part> {
    let (mut parts, _) = record_parts(plan);
    parts.extend([
        Part::Exchange {
            name: plan.routes_exchange(),
            kind: ExchangeKind::Direct,
            who: Publishers::Exchanges,
            arguments: FieldTable::default(),
        },
        Part::Exchange {
            name: plan.jobs_exchange(),
            kind: ExchangeKind::Direct,
            who: Publishers::Clients,
            arguments: table([("alternate-exchange", word(&plan.routes_exchange()))]),
        },
        exchange(plan.lanes_exchange(), ExchangeKind::Direct),
        exchange(plan.dead(), ExchangeKind::Direct),
        // A fanout: facts keep the keys that readers of the stream have always seen.
        exchange(plan.facts_exchange(), ExchangeKind::Fanout),
        exchange(plan.events(), ExchangeKind::Topic),
        Part::Queue { name: plan.dead(), arguments: dead_arguments(plan) },
        Part::Queue { name: plan.events(), arguments: events_arguments(plan) },
    ]);
    for lane in &plan.lanes {
        parts.extend(Section::ALL.map(|section| Part::Queue {
            name: plan.section_queue(&lane.provider, section),
            arguments: lane_arguments(plan, lane, section),
        }));
    }
    parts
}

/// The bindings that never lead elsewhere: all but those of the routes.
pub(super) fn fixed_bindings(plan: &Plan) -> Vec<Binding> {
    let mut bindings = vec![
        Binding { exchange: plan.dead(), key: DEAD_KEY.into(), queue: plan.dead() },
        Binding { exchange: plan.facts_exchange(), key: String::new(), queue: plan.events() },
    ];
    for lane in &plan.lanes {
        bindings.extend(lane_bindings(plan, &lane.provider));
    }
    bindings
}

/// How other lanes, and the lane itself, reach its queues.
pub(super) fn lane_bindings(plan: &Plan, provider: &otpd_core::ProviderName) -> [Binding; 3] {
    Section::ALL.map(|section| Binding {
        exchange: plan.lanes_exchange(),
        key: Plan::section_key(provider, section),
        queue: plan.section_queue(provider, section),
    })
}

/// The binding by which observers, and with them the stream, got facts before the stream had an exchange.
pub(super) fn former_events_binding(plan: &Plan) -> Binding {
    Binding { exchange: plan.events(), key: "#".into(), queue: plan.events() }
}

/// Where each route is to lead: the key of a lane's queue (`verihubs`, `verihubs.bulk`).
pub(super) fn routes(plan: &Plan) -> BTreeMap<String, String> {
    let all = plan.lanes.iter().flat_map(|lane| {
        let to = |(route, section): (&otpd_core::RouteName, Section)| {
            (route.to_string(), Plan::section_key(&lane.provider, section))
        };
        lane.bound_routes().map(to).collect::<Vec<_>>()
    });
    all.collect()
}

/// The queue that a key of [`routes`] names.
pub(super) fn queue_of(plan: &Plan, key: &str) -> String {
    format!("{}lane.{key}", plan.prefix)
}

fn table<const N: usize>(arguments: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in arguments {
        table.insert(ShortString::from(key), value);
    }
    table
}

fn word(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn lane_arguments(plan: &Plan, lane: &LanePlan, section: Section) -> FieldTable {
    let mut arguments = table([
        ("x-queue-type", word("quorum")),
        ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT.into())),
        ("x-dead-letter-exchange", word(&plan.dead())),
        ("x-dead-letter-routing-key", word(DEAD_KEY)),
        ("x-dead-letter-strategy", word("at-least-once")),
        // At-least-once needs it; without a length limit it refuses nothing.
        ("x-overflow", word("reject-publish")),
    ]);
    match section {
        // What is deferred came through the other two and must find room, or it would stay with the owner.
        Section::Later => {}
        Section::Main | Section::Bulk => {
            arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(plan.lane_limit.into()));
        }
    }
    match lane.owners {
        // All three: whoever gets a job of any of them claims the lane, so no job needs one of another to start.
        Owners::One => {
            arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        }
        Owners::Many => {}
    }
    arguments
}

fn dead_arguments(plan: &Plan) -> FieldTable {
    let ttl = plan.dead_retention.min(LONGEST_TTL).as_millis();
    table([
        ("x-queue-type", word("quorum")),
        ("x-message-ttl", AMQPValue::LongLongInt(i64::try_from(ttl).unwrap_or(i64::MAX))),
        ("x-delivery-limit", AMQPValue::LongLongInt(DEAD_DELIVERY_LIMIT)),
    ])
}

fn events_arguments(plan: &Plan) -> FieldTable {
    let seconds = plan.events_retention.as_secs().max(1);
    let age =
        if seconds.is_multiple_of(3600) { format!("{}h", seconds / 3600) } else { format!("{seconds}s") };
    let bytes = i64::try_from(plan.events_max_bytes).unwrap_or(i64::MAX);
    table([
        ("x-queue-type", word("stream")),
        ("x-max-age", word(&age)),
        ("x-max-length-bytes", AMQPValue::LongLongInt(bytes)),
        ("x-stream-max-segment-size-bytes", AMQPValue::LongLongInt(EVENTS_SEGMENT)),
    ])
}

/// How many messages wait in each lane, in all of its queues.
///
/// # Errors
/// [`QueueError::Away`] (a lane that is not there included), [`QueueError::Refused`].
pub(super) async fn depths(
    link: &Link,
    plan: &Plan,
) -> Result<Vec<(otpd_core::ProviderName, u64)>, QueueError> {
    let open = link.channel().await?;
    let mut depths = Vec::with_capacity(plan.lanes.len());
    for lane in &plan.lanes {
        let mut depth = 0;
        for section in Section::ALL {
            depth += message_count(&open, &plan.section_queue(&lane.provider, section)).await?;
        }
        depths.push((lane.provider.clone(), depth));
    }
    open.close().await;
    Ok(depths)
}

/// How many messages wait in a queue, those handed out not counted.
///
/// # Errors
/// [`QueueError::Away`] (a queue that is not there included), [`QueueError::Refused`].
pub(super) async fn message_count(open: &Open, queue: &str) -> Result<u64, QueueError> {
    Ok(waiting_and_consumers(open, queue).await?.0)
}

/// How many messages wait in a queue, those handed out not counted, and how many consumers it has.
pub(super) async fn waiting_and_consumers(open: &Open, queue: &str) -> Result<(u64, u64), QueueError> {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let declare = open.channel.queue_declare(short(queue), options, FieldTable::default());
    let declared = open.call(declare).await?;
    Ok((declared.message_count().into(), declared.consumer_count().into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rabbitmq::headers;
    use otpd_core::{ProviderName, RouteName};

    fn plan(dead: u64, events: u64) -> Plan {
        let names = |routes: &[&str]| routes.iter().map(|r| RouteName::parse(r).unwrap()).collect();
        let lane = |provider: &str, owners, routes: &[&str], bulk: &[&str]| LanePlan {
            provider: ProviderName::parse(provider).unwrap(),
            owners,
            routes: names(routes),
            bulk_routes: names(bulk),
        };
        Plan {
            lanes: vec![
                lane("verihubs", Owners::One, &["verihubs", "login"], &["news"]),
                lane("msgai", Owners::Many, &["msgai"], &["offers"]),
            ],
            dead_retention: Duration::from_secs(dead),
            events_retention: Duration::from_secs(events),
            ..Plan::default()
        }
    }

    fn show(part: &Part) -> String {
        match part {
            Part::Exchange { name, kind, who, arguments } => {
                format!("{kind:?} exchange {name} for {who:?}{}", words(arguments))
            }
            Part::Queue { name, arguments } => format!("queue {name}{}", words(arguments)),
        }
    }

    fn words(arguments: &FieldTable) -> String {
        let word = |(key, value): (&ShortString, &AMQPValue)| match (headers::as_text(value), value) {
            (Some(text), _) => format!(" {key}={text}"),
            (None, AMQPValue::LongLongInt(n)) => format!(" {key}={n}"),
            (None, other) => format!(" {key}={other:?}"),
        };
        arguments.inner().iter().map(word).collect()
    }

    #[test]
    fn is_what_the_contract_says() {
        let lane = "x-dead-letter-exchange=otp.dead x-dead-letter-routing-key=dead \
                    x-dead-letter-strategy=at-least-once x-delivery-limit=20";
        let bounded = format!("{lane} x-max-length=1000000 x-overflow=reject-publish x-queue-type=quorum");
        let unbounded = format!("{lane} x-overflow=reject-publish x-queue-type=quorum");
        assert_eq!(
            parts(&plan(604_800, 86_400)).iter().map(show).collect::<Vec<_>>(),
            [
                "Direct exchange otp.topology for Clients".to_owned(),
                "queue otp.topology x-max-length-bytes=2000000 x-queue-type=stream \
                 x-stream-max-segment-size-bytes=500000"
                    .to_owned(),
                "Direct exchange otp.routes for Exchanges".to_owned(),
                "Direct exchange otp.jobs for Clients alternate-exchange=otp.routes".to_owned(),
                "Direct exchange otp.lanes for Clients".to_owned(),
                "Direct exchange otp.dead for Clients".to_owned(),
                "Fanout exchange otp.facts for Clients".to_owned(),
                "Topic exchange otp.events for Clients".to_owned(),
                "queue otp.dead x-delivery-limit=1000000000 x-message-ttl=604800000 x-queue-type=quorum"
                    .to_owned(),
                "queue otp.events x-max-age=24h x-max-length-bytes=20000000000 x-queue-type=stream \
                 x-stream-max-segment-size-bytes=16000000"
                    .to_owned(),
                format!("queue otp.lane.verihubs {bounded} x-single-active-consumer=Boolean(true)"),
                format!("queue otp.lane.verihubs.bulk {bounded} x-single-active-consumer=Boolean(true)"),
                format!("queue otp.lane.verihubs.later {unbounded} x-single-active-consumer=Boolean(true)"),
                format!("queue otp.lane.msgai {bounded}"),
                format!("queue otp.lane.msgai.bulk {bounded}"),
                format!("queue otp.lane.msgai.later {unbounded}"),
            ]
        );
        let shown: Vec<String> = fixed_bindings(&plan(1, 1))
            .iter()
            .map(|b| format!("{} {} {}", b.exchange, b.key, b.queue))
            .collect();
        assert_eq!(
            shown,
            [
                "otp.dead dead otp.dead",
                "otp.facts  otp.events",
                "otp.lanes verihubs otp.lane.verihubs",
                "otp.lanes verihubs.bulk otp.lane.verihubs.bulk",
                "otp.lanes verihubs.later otp.lane.verihubs.later",
                "otp.lanes msgai otp.lane.msgai",
                "otp.lanes msgai.bulk otp.lane.msgai.bulk",
                "otp.lanes msgai.later otp.lane.msgai.later",
            ]
        );
        // Bulk jobs of a lane with many owners wait with the others: nobody consumes its bulk queue.
        let led = [
            ("login", "verihubs"),
            ("msgai", "msgai"),
            ("news", "verihubs.bulk"),
            ("offers", "msgai"),
            ("verihubs", "verihubs"),
        ];
        let led = led.map(|(route, key)| (route.to_owned(), key.to_owned()));
        assert_eq!(routes(&plan(1, 1)), BTreeMap::from(led));
    }

    #[test]
    fn durations_as_the_broker_takes_them() {
        for (seconds, age) in [(3600, "1h"), (90, "90s"), (0, "1s"), (86_400 * 30, "720h")] {
            let arguments = events_arguments(&plan(1, seconds));
            assert_eq!(arguments.inner().get("x-max-age"), Some(&word(age)));
        }
        let ttl = |seconds| dead_arguments(&plan(seconds, 1)).inner().get("x-message-ttl").cloned();
        assert_eq!(ttl(1), Some(AMQPValue::LongLongInt(1000)));
        assert_eq!(ttl(3650 * 86_400), Some(AMQPValue::LongLongInt(4_294_967_295)));
    }
}
