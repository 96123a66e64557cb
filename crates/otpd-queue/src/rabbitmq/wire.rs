//! Jobs, facts and dead letters as AMQP messages, both ways. Pure.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{FieldTable, ShortString};
use otpd_core::{Fact, JobId, Life, ProviderName, RouteName, UnixMs, fact_json};

use super::headers::{self, Headers};
use crate::dead::DeadLetter;
use crate::error::QueueError;
use crate::hidden::debug_without_body;
use crate::plan::Plan;
use crate::seam::{Burial, Carried, Delivery, MOST_CARRIED, Move, Section, Tag, TraceContext};

/// The most bytes of a trace header that are taken.
const MAX_TRACE: usize = 512;
/// Persistent.
const DURABLE: u8 = 2;
/// The routing key of dead letters, the broker's own included.
pub(super) const DEAD_KEY: &str = "dead";
/// The `type` of a job's message.
const JOB_TYPE: &str = "otp.send.v1";
/// The `type` of an owner's claim to a lane.
pub(super) const OPENED_TYPE: &str = "otp.lane.opened";
/// The `type` of the record by which a reader knows the end of the stream; no event.
const MARK_TYPE: &str = "otp.reader.mark";

/// One message on its way out.
#[derive(Clone)]
pub(super) struct Parcel {
    pub(super) exchange: ShortString,
    pub(super) key: ShortString,
    /// The message id: with exchange and key it names the message among those of its window.
    pub(super) id: ShortString,
    pub(super) body: Bytes,
    pub(super) properties: BasicProperties,
    /// Whether it must reach a queue.
    pub(super) mandatory: bool,
}

debug_without_body!(Parcel { exchange, key, id });

impl Parcel {
    /// The error of coming back.
    pub(super) fn unroutable(&self) -> QueueError {
        QueueError::Unroutable { exchange: self.exchange.to_string(), key: self.key.to_string() }
    }
}

/// At most 255 bytes, which is what the protocol's short strings hold; longer text is cut.
pub(super) fn short(text: &str) -> ShortString {
    let mut end = text.len().min(255);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    ShortString::from(text.get(..end).unwrap_or_default())
}

fn properties(kind: &str, id: &ShortString, at: UnixMs) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(DURABLE)
        .with_type(short(kind))
        .with_message_id(id.clone())
        .with_timestamp(at.0 / 1000)
        .with_app_id("otpd".into())
}

/// A fact for the stream.
pub(super) fn fact(plan: &Plan, source: &str, origin: &str, fact: &Fact) -> Parcel {
    event(
        plan,
        fact.kind.event_type(),
        &fact.event_id(),
        origin,
        &fact.routing_key(),
        fact.at,
        fact_json::encode(fact, source),
    )
}

/// An owner's claim to a lane, or its renewal.
pub(super) struct Opened<'a> {
    pub(super) provider: &'a ProviderName,
    /// Identifies the claim: the correlation id of its records.
    pub(super) claim: &'a str,
    /// It was claimed before.
    pub(super) renewal: bool,
    /// What the next owner must know, as JSON.
    pub(super) checkpoint: Option<&'a str>,
}

/// What a claim's record says.
#[derive(serde::Deserialize)]
struct OpenedEvent {
    data: OpenedData,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct OpenedData {
    provider: String,
    #[serde(default)]
    renewal: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checkpoint: Option<Box<serde_json::value::RawValue>>,
}

/// A claim as it was read.
pub(super) struct ReadOpened {
    pub(super) provider: ProviderName,
    pub(super) renewal: bool,
    pub(super) checkpoint: Option<Box<str>>,
}

/// The record of a claim. Whoever reads it knows everything that was confirmed before it.
pub(super) fn opened(plan: &Plan, source: &str, opened: &Opened<'_>, id: &str, at: UnixMs) -> Parcel {
    let provider = opened.provider;
    let checkpoint =
        opened.checkpoint.and_then(|text| serde_json::value::RawValue::from_string(text.into()).ok());
    let data = OpenedData { provider: provider.to_string(), renewal: opened.renewal, checkpoint };
    let body = serde_json::json!({
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": OPENED_TYPE,
        "subject": provider.as_str(),
        "time": at.to_string(),
        "datacontenttype": "application/json",
        "data": data,
    });
    event(
        plan,
        OPENED_TYPE,
        id,
        opened.claim,
        &format!("lane.opened.{provider}"),
        at,
        body.to_string().into_bytes(),
    )
}

/// Reads a claim; `None` for anything that is not one.
pub(super) fn read_opened(body: &[u8]) -> Option<ReadOpened> {
    let OpenedEvent { data } = serde_json::from_slice(body).ok()?;
    Some(ReadOpened {
        provider: ProviderName::parse(&data.provider).ok()?,
        renewal: data.renewal,
        checkpoint: data.checkpoint.map(|raw| raw.get().into()),
    })
}

/// The record by which the reader of this process knows that it is at the end of the stream.
pub(super) fn mark(plan: &Plan, source: &str, origin: &str, id: &str, at: UnixMs) -> Parcel {
    event(plan, MARK_TYPE, id, origin, "reader.mark", at, source.as_bytes().to_vec())
}

fn event(
    plan: &Plan,
    kind: &str,
    id: &str,
    correlation: &str,
    key: &str,
    at: UnixMs,
    body: Vec<u8>,
) -> Parcel {
    let id = short(id);
    let properties = properties(kind, &id, at)
        .with_content_type(fact_json::CONTENT_TYPE.into())
        .with_correlation_id(short(correlation));
    Parcel {
        exchange: short(&plan.facts_exchange()),
        key: short(key),
        id,
        body: body.into(),
        properties,
        mandatory: true,
    }
}

/// A job for a route.
pub(super) fn job(
    plan: &Plan,
    route: &RouteName,
    id: &JobId,
    body: Bytes,
    taken_at: UnixMs,
    trace: &TraceContext,
) -> Parcel {
    let headers = traced(Headers::default(), trace).number(headers::TAKEN_AT, Some(taken_at.0));
    send(plan.jobs_exchange(), route.as_str(), id, body, taken_at, headers)
}

/// A dead letter's job for its route, anew: nothing of what the letter says about its former life goes with
/// it, neither attempts nor the broker's `x-death`. Its age does: a code must not become valid again.
pub(super) fn replayed(
    plan: &Plan,
    route: &RouteName,
    letter: &DeadLetter,
    now: UnixMs,
    trace: &TraceContext,
) -> Parcel {
    let taken_at = letter.taken_at.unwrap_or_default();
    let headers = traced(Headers::default(), trace)
        .number(headers::TAKEN_AT, Some(taken_at.0))
        .number(headers::LIFE, life(letter.next_life()))
        .number(headers::REPLAYED_AT, Some(now.0));
    send(plan.jobs_exchange(), route.as_str(), &letter.job, letter.body.clone(), taken_at, headers)
}

/// The first life is the one that no header names.
fn life(life: Life) -> Option<u64> {
    (!life.is_first()).then(|| life.number())
}

/// A job for a queue of the next lane, or of the same one.
pub(super) fn moved(plan: &Plan, m: &Move) -> Parcel {
    let headers = traced(Headers::default(), &m.trace)
        .number(headers::ATTEMPT, Some(m.carried.attempts.into()))
        .number(headers::HOP, Some(m.carried.hops.into()))
        .text(headers::ROUTE, m.carried.route.as_ref().map(RouteName::as_str))
        .number(headers::TAKEN_AT, Some(m.taken_at.0))
        .number(headers::LIFE, life(m.carried.life))
        .number(headers::NOT_BEFORE, m.carried.not_before.map(|at| at.0))
        .number(headers::REPLAYED_AT, m.carried.replayed_at.map(|at| at.0))
        .number(headers::AMBIGUOUS, Some(m.carried.ambiguous.into()).filter(|ends| *ends > 0))
        .number(headers::EXTRA, Some(m.carried.extra.into()).filter(|sends| *sends > 0))
        .number(headers::ACCEPTED_AT, m.carried.accepted_at.map(|at| at.0));
    // Where several workers own a lane, nobody consumes its other queues.
    let section = if plan.has_single_owner(&m.to) { m.section } else { Section::Main };
    let key = Plan::section_key(&m.to, section);
    send(plan.lanes_exchange(), &key, &m.job, m.body.clone(), m.taken_at, headers)
}

/// A dead letter.
pub(super) fn buried(plan: &Plan, b: &Burial) -> Parcel {
    let died_at = b.died_at.to_string();
    let headers = traced(Headers::default(), &b.trace)
        .text(headers::REASON, Some(b.reason.as_str()))
        .text(headers::CLASS, b.class.map(otpd_core::Class::as_str))
        .text(headers::PROVIDER, Some(b.provider.as_str()))
        .text(headers::ROUTE, b.route.as_ref().map(RouteName::as_str))
        .number(headers::HTTP_STATUS, b.http_status.map(u64::from))
        .number(headers::ATTEMPTS, Some(b.attempts.into()))
        .text(headers::DETAIL, b.detail.as_deref())
        .text(headers::DIED_AT, Some(&died_at))
        .number(headers::TAKEN_AT, Some(b.taken_at.0))
        .number(headers::LIFE, life(b.life));
    send(plan.dead(), DEAD_KEY, &b.job, b.body.clone(), b.died_at, headers)
}

fn send(exchange: String, key: &str, id: &JobId, body: Bytes, at: UnixMs, headers: Headers) -> Parcel {
    let id = short(id.as_str());
    let properties = properties(JOB_TYPE, &id, at)
        .with_content_type("application/json".into())
        .with_headers(headers.table());
    Parcel { exchange: short(&exchange), key: short(key), id, body, properties, mandatory: true }
}

fn traced(headers: Headers, trace: &TraceContext) -> Headers {
    headers
        .text(headers::TRACE_PARENT, trace.parent.as_deref())
        .text(headers::TRACE_STATE, trace.state.as_deref())
}

/// The trace a message carries.
pub(super) fn trace(table: Option<&FieldTable>) -> TraceContext {
    TraceContext {
        parent: headers::text(table, headers::TRACE_PARENT, MAX_TRACE).map(Into::into),
        state: headers::text(table, headers::TRACE_STATE, MAX_TRACE).map(Into::into),
    }
}

/// When a message's job was taken: to the millisecond where otpd put it, else to the second.
pub(super) fn taken_at(properties: &BasicProperties) -> Option<UnixMs> {
    let exact = headers::number(properties.headers().as_ref(), headers::TAKEN_AT);
    exact.or_else(|| properties.timestamp().map(|s| s.saturating_mul(1000))).map(UnixMs)
}

/// True if the facts since it was published decide what becomes of a delivery: it was handed out before, or a
/// provider has accepted its job.
pub(super) fn looks_back(got: &lapin::message::Delivery) -> bool {
    let table = got.properties.headers().as_ref();
    let is_told = |key| headers::number(table, key).is_some();
    got.redelivered || is_told(headers::EXTRA) || is_told(headers::ACCEPTED_AT)
}

/// The message id, where it could be a job's.
pub(super) fn message_id(properties: &BasicProperties) -> Option<JobId> {
    properties.message_id().as_ref().and_then(|id| JobId::parse(id.as_str()).ok())
}

/// A job as the broker handed it out in `session`.
pub(super) fn delivery(session: u32, section: Section, got: lapin::message::Delivery) -> Delivery {
    let table = got.properties.headers().as_ref();
    let small = |key| headers::number(table, key).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let carried = |key| small(key).min(MOST_CARRIED);
    let route = headers::text(table, headers::ROUTE, 255).and_then(|r| RouteName::parse(r).ok());
    Delivery {
        tag: Tag { session, number: got.delivery_tag },
        carried: Carried {
            attempts: carried(headers::ATTEMPT),
            hops: carried(headers::HOP),
            route: route.or_else(|| RouteName::parse(got.routing_key.as_str()).ok()),
            life: headers::number(table, headers::LIFE).map(Life::from_number).unwrap_or_default(),
            not_before: headers::number(table, headers::NOT_BEFORE).map(UnixMs),
            replayed_at: headers::number(table, headers::REPLAYED_AT).map(UnixMs),
            ambiguous: carried(headers::AMBIGUOUS),
            extra: carried(headers::EXTRA),
            accepted_at: headers::number(table, headers::ACCEPTED_AT).map(UnixMs),
        },
        section,
        message_id: message_id(&got.properties),
        taken_at: taken_at(&got.properties),
        redelivered: got.redelivered,
        returned: small("x-delivery-count"),
        trace: trace(table),
        body: got.data.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan::default()
    }

    /// What the broker would hand out for a parcel.
    fn handed_out(parcel: &Parcel) -> lapin::message::Delivery {
        let (exchange, key) = (parcel.exchange.clone(), parcel.key.clone());
        let mut got = lapin::message::Delivery::mock(7, exchange, key, true, parcel.body.to_vec());
        got.properties = parcel.properties.clone();
        got
    }

    #[test]
    fn a_move_carries_everything_to_the_next_lane() {
        let trace = TraceContext { parent: Some("00-a-b-01".into()), state: Some("k=v".into()) };
        let carried = Carried {
            attempts: 3,
            hops: 1,
            route: RouteName::parse("login").ok(),
            life: Life::from_number(1_800_000_000_000),
            not_before: Some(UnixMs(1_800_000_000_500)),
            replayed_at: Some(UnixMs(1_800_000_000_001)),
            ambiguous: 1,
            extra: 1,
            accepted_at: Some(UnixMs(1_800_000_000_002)),
        };
        let moved = moved(
            &plan(),
            &Move {
                to: ProviderName::parse("msgai").unwrap(),
                job: JobId::parse("job-1").unwrap(),
                body: Bytes::from_static(b"{}"),
                section: Section::Main,
                carried: carried.clone(),
                taken_at: UnixMs(1_800_000_000_123),
                trace: trace.clone(),
            },
        );
        assert_eq!(
            (moved.exchange.as_str(), moved.key.as_str(), moved.id.as_str()),
            ("otp.lanes", "msgai", "job-1")
        );
        let back = delivery(4, Section::Main, handed_out(&moved));
        assert_eq!(back.tag, Tag { session: 4, number: 7 });
        assert_eq!(back.carried, carried);
        assert_eq!(back.taken_at, Some(UnixMs(1_800_000_000_123)));
        assert_eq!(back.message_id, JobId::parse("job-1").ok());
        assert_eq!((back.trace, back.redelivered), (trace, true));
    }

    #[test]
    fn a_bare_message_is_a_job_of_its_routing_key() {
        let mut got =
            lapin::message::Delivery::mock(1, "otp.jobs".into(), "login".into(), false, b"x".to_vec());
        got.properties =
            BasicProperties::default().with_timestamp(1_800_000_000).with_message_id("not an id".into());
        let back = delivery(1, Section::Main, got);
        assert_eq!(back.carried, Carried { route: RouteName::parse("login").ok(), ..Carried::default() });
        assert_eq!((back.taken_at, back.message_id), (Some(UnixMs(1_800_000_000_000)), None));
    }

    #[test]
    fn nonsense_in_headers_is_passed_over() {
        let most = Headers::default()
            .number(headers::ATTEMPT, Some(u32::MAX.into()))
            .number(headers::HOP, Some(u32::MAX.into()));
        let mut got = lapin::message::Delivery::mock(1, "x".into(), "p".into(), false, Vec::new());
        got.properties = BasicProperties::default().with_headers(most.table());
        let carried = delivery(1, Section::Main, got).carried;
        assert_eq!((carried.attempts, carried.hops), (MOST_CARRIED, MOST_CARRIED));
        let nonsense = Headers::default()
            .text(headers::ATTEMPT, Some("lots"))
            .number(headers::HOP, Some(u64::from(u32::MAX) + 1))
            .text(headers::ROUTE, Some("NOT A ROUTE"))
            .text(headers::TRACE_PARENT, Some(&"x".repeat(513)));
        let mut got = lapin::message::Delivery::mock(1, "x".into(), "NEITHER".into(), false, Vec::new());
        got.properties = BasicProperties::default().with_headers(nonsense.table()).with_timestamp(u64::MAX);
        let back = delivery(1, Section::Main, got);
        assert_eq!((back.carried, back.trace), (Carried::default(), TraceContext::default()));
        assert_eq!(back.taken_at, Some(UnixMs(u64::MAX)));
    }

    #[test]
    fn a_claim_is_a_cloud_event_and_no_fact() {
        let provider = ProviderName::parse("verihubs").unwrap();
        for (renewal, checkpoint) in [(false, None), (true, Some(r#"{"window":[[1,2]]}"#))] {
            let claim = Opened { provider: &provider, claim: "o-1", renewal, checkpoint };
            let parcel = opened(&plan(), "otpd/test", &claim, "u-1", UnixMs(0));
            assert_eq!(
                (parcel.exchange.as_str(), parcel.key.as_str()),
                ("otp.facts", "lane.opened.verihubs")
            );
            assert_eq!(parcel.properties.correlation_id().as_ref().unwrap().as_str(), "o-1");
            let event: serde_json::Value = serde_json::from_slice(&parcel.body).unwrap();
            assert_eq!((event["specversion"].as_str(), event["id"].as_str()), (Some("1.0"), Some("u-1")));
            assert_eq!(event["type"], OPENED_TYPE);
            assert_eq!(fact_json::decode(&parcel.body), None);
            let read = read_opened(&parcel.body).unwrap();
            assert_eq!((read.provider, read.renewal), (provider.clone(), renewal));
            assert_eq!(read.checkpoint.as_deref(), checkpoint);
        }
        assert!(read_opened(b"{}").is_none());
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        assert_eq!(short(&"é".repeat(200)).as_str().len(), 254);
        assert_eq!(short("abc").as_str(), "abc");
    }
}
