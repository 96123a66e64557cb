//! The broker's side of a [`Plan`]: what it declares, and how a broker is compared with it.
//!
//! Comparing creates and changes nothing. First each thing is asked for passively, which tells
//! whether it is there; only what is there is then declared again as planned, which the broker
//! refuses, naming the argument, where it differs, and ignores where it does not. What AMQP does not
//! show is not compared: bindings, policies, and the kind of a queue's leader. A missing binding
//! shows itself when a message comes back (`unroutable`); `apply` binds everything anew, which
//! changes nothing where the binding is there, and takes a route away from lanes that it led to before.

use std::time::Duration;

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::dial::{away, refusal, refused_or_away};
use super::link::{Link, Open};
use super::wire::{DEAD_KEY, short};
use crate::error::QueueError;
use crate::plan::{DELIVERY_LIMIT, Difference, LanePlan, Plan};

/// Listing dead letters hands them out and takes them back; that must never bury them.
const DEAD_DELIVERY_LIMIT: i64 = 1_000_000_000;
/// The longest time to live that every supported RabbitMQ takes: 2^32 - 1 ms, 49.7 days.
const LONGEST_TTL: Duration = Duration::from_millis(u32::MAX as u64);

/// An exchange or a queue.
#[derive(Debug, PartialEq)]
enum Part {
    Exchange { name: String, kind: ExchangeKind },
    Queue { name: String, arguments: FieldTable },
}

/// A queue gets what is published to `exchange` with `key`.
#[derive(Debug, PartialEq, Eq)]
struct Binding {
    exchange: String,
    key: String,
    queue: String,
}

fn parts(plan: &Plan) -> Vec<Part> {
    let exchange = |name, kind| Part::Exchange { name, kind };
    let mut parts = vec![
        exchange(plan.jobs_exchange(), ExchangeKind::Direct),
        exchange(plan.lanes_exchange(), ExchangeKind::Direct),
        exchange(plan.dead(), ExchangeKind::Direct),
        exchange(plan.events(), ExchangeKind::Topic),
        Part::Queue { name: plan.dead(), arguments: dead_arguments(plan) },
        Part::Queue { name: plan.events(), arguments: events_arguments(plan) },
    ];
    parts.extend(plan.lanes.iter().map(|lane| Part::Queue {
        name: plan.lane_queue(&lane.provider),
        arguments: lane_arguments(plan, lane),
    }));
    parts
}

fn bindings(plan: &Plan) -> Vec<Binding> {
    let mut bindings = vec![
        Binding { exchange: plan.dead(), key: DEAD_KEY.into(), queue: plan.dead() },
        Binding { exchange: plan.events(), key: "#".into(), queue: plan.events() },
    ];
    for lane in &plan.lanes {
        let queue = plan.lane_queue(&lane.provider);
        let from = |exchange, key: &str| Binding { exchange, key: key.into(), queue: queue.clone() };
        bindings.push(from(plan.lanes_exchange(), lane.provider.as_str()));
        bindings.extend(lane.routes.iter().map(|route| from(plan.jobs_exchange(), route.as_str())));
    }
    bindings
}

/// Where the plan's routes may have led before, when another provider was their first: a job that is
/// routed to two lanes is sent twice.
fn former_bindings(plan: &Plan) -> Vec<Binding> {
    let mut former = Vec::new();
    for lane in &plan.lanes {
        for route in &lane.routes {
            let others = plan.lanes.iter().filter(|other| other.provider != lane.provider);
            former.extend(others.map(|other| Binding {
                exchange: plan.jobs_exchange(),
                key: route.as_str().to_owned(),
                queue: plan.lane_queue(&other.provider),
            }));
        }
    }
    former
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

fn lane_arguments(plan: &Plan, lane: &LanePlan) -> FieldTable {
    let mut arguments = table([
        ("x-queue-type", word("quorum")),
        ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT.into())),
        ("x-dead-letter-exchange", word(&plan.dead())),
        ("x-dead-letter-routing-key", word(DEAD_KEY)),
        ("x-dead-letter-strategy", word("at-least-once")),
        // At-least-once needs it; without a length limit it refuses nothing.
        ("x-overflow", word("reject-publish")),
    ]);
    if lane.single_owner {
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
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
    table([("x-queue-type", word("stream")), ("x-max-age", word(&age))])
}

/// How a declaration went, as far as comparing goes.
enum Answer {
    Fine,
    Missing,
    Different(String),
}

/// A channel that is opened again when the broker closed it with an answer.
struct Desk {
    link: Link,
    open: Option<Open>,
}

impl Desk {
    async fn open(&mut self) -> Result<Open, QueueError> {
        match self.open.take() {
            Some(open) if open.channel.status().connected() => Ok(open),
            Some(_) | None => self.link.channel().await,
        }
    }

    async fn declare(&mut self, part: &Part, passive: bool) -> Result<Answer, QueueError> {
        let open = self.open().await?;
        let answer = match part {
            Part::Exchange { name, kind } => {
                let options = ExchangeDeclareOptions { passive, durable: true, ..Default::default() };
                let declare =
                    open.channel.exchange_declare(short(name), kind.clone(), options, FieldTable::default());
                open.within(declare).await
            }
            Part::Queue { name, arguments } => {
                let options = QueueDeclareOptions { passive, durable: true, ..Default::default() };
                let declare = open.channel.queue_declare(short(name), options, arguments.clone());
                open.within(declare).await.map(|answer| answer.map(drop))
            }
        };
        let Some(answer) = answer else {
            return Err(away(open.url(), "no answer to a declaration in time"));
        };
        let Err(error) = answer else {
            self.open = Some(open);
            return Ok(Answer::Fine);
        };
        match refusal(&error) {
            Some((404, _)) => Ok(Answer::Missing),
            Some((406, how)) => Ok(Answer::Different(how)),
            Some(_) | None => Err(refused_or_away(open.url(), &error)),
        }
    }

    async fn compare(&mut self, part: &Part) -> Result<Option<Difference>, QueueError> {
        let what = match part {
            Part::Exchange { name, .. } => format!("exchange {name}"),
            Part::Queue { name, .. } => format!("queue {name}"),
        };
        let passively = self.declare(part, true).await?;
        let answer = match passively {
            Answer::Fine => self.declare(part, false).await?,
            Answer::Missing | Answer::Different(_) => passively,
        };
        Ok(match answer {
            Answer::Fine => None,
            Answer::Missing => Some(Difference::Missing { what }),
            Answer::Different(how) => Some(Difference::Different { what, how }),
        })
    }

    async fn bind(&mut self, binding: &Binding) -> Result<(), QueueError> {
        let open = self.open().await?;
        let (queue, exchange, key) = (short(&binding.queue), short(&binding.exchange), short(&binding.key));
        let bind =
            open.channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), FieldTable::default());
        open.call(bind).await?;
        self.open = Some(open);
        Ok(())
    }

    /// Does nothing where there is no such binding.
    async fn unbind(&mut self, binding: &Binding) -> Result<(), QueueError> {
        let open = self.open().await?;
        let (queue, exchange, key) = (short(&binding.queue), short(&binding.exchange), short(&binding.key));
        open.call(open.channel.queue_unbind(queue, exchange, key, FieldTable::default())).await?;
        self.open = Some(open);
        Ok(())
    }
}

/// Compares the broker with the plan.
///
/// # Errors
/// [`QueueError::Away`], [`QueueError::Refused`].
pub(super) async fn check(link: &Link, plan: &Plan) -> Result<Vec<Difference>, QueueError> {
    let mut desk = Desk { link: link.clone(), open: None };
    let mut differences = Vec::new();
    for part in parts(plan) {
        differences.extend(desk.compare(&part).await?);
    }
    Ok(differences)
}

/// Makes the broker as planned, if nothing there differs.
///
/// # Errors
/// [`QueueError::Topology`], [`QueueError::Away`], [`QueueError::Refused`].
pub(super) async fn apply(link: &Link, plan: &Plan) -> Result<(), QueueError> {
    let mut found = check(link, plan).await?;
    found.retain(|d| matches!(d, Difference::Different { .. }));
    if !found.is_empty() {
        return Err(QueueError::Topology(found));
    }
    let mut desk = Desk { link: link.clone(), open: None };
    for part in parts(plan) {
        match desk.declare(&part, false).await? {
            Answer::Fine => {}
            // Somebody else declares at the same time, and otherwise.
            Answer::Missing | Answer::Different(_) => {
                found.extend(desk.compare(&part).await?);
                return Err(QueueError::Topology(found));
            }
        }
    }
    for binding in bindings(plan) {
        desk.bind(&binding).await?;
    }
    // In this order: for a moment a job may be routed twice, but none comes back as unroutable.
    for binding in former_bindings(plan) {
        desk.unbind(&binding).await?;
    }
    Ok(())
}

/// How many messages wait in each lane.
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
        depths.push((lane.provider.clone(), message_count(&open, &plan.lane_queue(&lane.provider)).await?));
    }
    open.close().await;
    Ok(depths)
}

/// How many messages wait in a queue, those handed out not counted.
///
/// # Errors
/// [`QueueError::Away`] (a queue that is not there included), [`QueueError::Refused`].
pub(super) async fn message_count(open: &Open, queue: &str) -> Result<u64, QueueError> {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let declare = open.channel.queue_declare(short(queue), options, FieldTable::default());
    Ok(open.call(declare).await?.message_count().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rabbitmq::headers;
    use otpd_core::{ProviderName, RouteName};

    fn plan(dead: u64, events: u64) -> Plan {
        let lane = |provider: &str, single_owner, routes: &[&str]| LanePlan {
            provider: ProviderName::parse(provider).unwrap(),
            single_owner,
            routes: routes.iter().map(|r| RouteName::parse(r).unwrap()).collect(),
        };
        Plan {
            prefix: "otp.".into(),
            lanes: vec![lane("verihubs", true, &["verihubs", "login"]), lane("msgai", false, &["msgai"])],
            dead_retention: Duration::from_secs(dead),
            events_retention: Duration::from_secs(events),
        }
    }

    fn show(part: &Part) -> String {
        match part {
            Part::Exchange { name, kind } => format!("{kind:?} exchange {name}"),
            Part::Queue { name, arguments } => {
                let arguments: Vec<String> = arguments
                    .inner()
                    .iter()
                    .map(|(key, value)| match (headers::as_text(value), value) {
                        (Some(text), _) => format!("{key}={text}"),
                        (None, AMQPValue::LongLongInt(n)) => format!("{key}={n}"),
                        (None, other) => format!("{key}={other:?}"),
                    })
                    .collect();
                format!("queue {name} {}", arguments.join(" "))
            }
        }
    }

    #[test]
    fn is_what_the_contract_says() {
        let lane = "x-dead-letter-exchange=otp.dead x-dead-letter-routing-key=dead \
                    x-dead-letter-strategy=at-least-once x-delivery-limit=20 x-overflow=reject-publish \
                    x-queue-type=quorum";
        assert_eq!(
            parts(&plan(604_800, 86_400)).iter().map(show).collect::<Vec<_>>(),
            [
                "Direct exchange otp.jobs".to_owned(),
                "Direct exchange otp.lanes".to_owned(),
                "Direct exchange otp.dead".to_owned(),
                "Topic exchange otp.events".to_owned(),
                "queue otp.dead x-delivery-limit=1000000000 x-message-ttl=604800000 x-queue-type=quorum"
                    .to_owned(),
                "queue otp.events x-max-age=24h x-queue-type=stream".to_owned(),
                format!("queue otp.lane.verihubs {lane} x-single-active-consumer=Boolean(true)"),
                format!("queue otp.lane.msgai {lane}"),
            ]
        );
        let shown: Vec<String> =
            bindings(&plan(1, 1)).iter().map(|b| format!("{} {} {}", b.exchange, b.key, b.queue)).collect();
        assert_eq!(
            shown,
            [
                "otp.dead dead otp.dead",
                "otp.events # otp.events",
                "otp.lanes verihubs otp.lane.verihubs",
                "otp.jobs verihubs otp.lane.verihubs",
                "otp.jobs login otp.lane.verihubs",
                "otp.lanes msgai otp.lane.msgai",
                "otp.jobs msgai otp.lane.msgai",
            ]
        );
        let former: Vec<String> = former_bindings(&plan(1, 1))
            .iter()
            .map(|b| format!("{} {} {}", b.exchange, b.key, b.queue))
            .collect();
        assert_eq!(
            former,
            [
                "otp.jobs verihubs otp.lane.msgai",
                "otp.jobs login otp.lane.msgai",
                "otp.jobs msgai otp.lane.verihubs",
            ]
        );
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
