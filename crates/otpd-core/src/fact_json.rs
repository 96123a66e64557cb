//! Facts as CloudEvents 1.0 JSON (structured mode), written and read back. Reading is tolerant:
//! an event of another kind, or of a newer otpd, is simply not a fact of ours.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::clock::UnixMs;
use crate::fact::{Fact, FactKind, Timings};
use crate::life::Life;
use crate::metadata::Metadata;
use crate::names::{JobId, ProviderName, RouteName};
use crate::outcome::{Class, MessageId};
use crate::reason::Reason;
use crate::recipient::{PurposeKey, RecipientKey};

/// The `content_type` of an event's message.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

#[derive(Serialize, Deserialize)]
struct Event<'a> {
    specversion: Cow<'a, str>,
    id: Cow<'a, str>,
    source: Cow<'a, str>,
    #[serde(rename = "type")]
    event_type: Cow<'a, str>,
    subject: Cow<'a, str>,
    time: Cow<'a, str>,
    #[serde(default)]
    datacontenttype: Cow<'a, str>,
    data: Data<'a>,
}

#[derive(Serialize, Deserialize)]
struct Data<'a> {
    provider: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    route: Option<Cow<'a, str>>,
    attempt: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    life: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    extra_send: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message_id: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recipient_key: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    purpose_key: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_at: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_provider: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sent_at: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    queued_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    permit_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ceiling_per_second: Option<f64>,
}

/// Writes a fact. `source` names the worker, such as `otpd/pod-1`.
#[must_use]
pub fn encode(fact: &Fact, source: &str) -> Vec<u8> {
    let time = |at: UnixMs| Cow::Owned(at.to_string());
    let event = Event {
        specversion: "1.0".into(),
        id: fact.event_id().into(),
        source: source.into(),
        event_type: fact.kind.event_type().into(),
        subject: fact.job.as_str().into(),
        time: time(fact.at),
        datacontenttype: "application/json".into(),
        data: Data {
            provider: fact.provider.as_str().into(),
            route: fact.route.as_ref().map(|r| r.as_str().into()),
            attempt: fact.attempt,
            life: (!fact.life.is_first()).then(|| fact.life.number()),
            extra_send: fact.extra,
            class: fact.class.map(|c| c.as_str().into()),
            reason: fact.reason.map(|r| r.as_str().into()),
            http_status: fact.http_status,
            message_id: fact.message_id.as_ref().map(|m| m.as_str().into()),
            to: fact.to.as_deref().map(Into::into),
            recipient_key: fact.recipient.map(|key| key.to_string().into()),
            purpose_key: fact.purpose.map(|key| key.to_string().into()),
            created_at: fact.created_at.map(time),
            metadata: fact.metadata.clone(),
            next_attempt_at: fact.next_attempt_at.map(time),
            next_provider: fact.next_provider.as_ref().map(|p| p.as_str().into()),
            sent_at: fact.sent_at.map(time),
            queued_ms: fact.timings.map(|t| t.queued_ms),
            permit_ms: fact.timings.map(|t| t.permit_ms),
            http_ms: fact.timings.map(|t| t.http_ms),
            ceiling_per_second: fact.ceiling_per_second,
        },
    };
    let mut body = Vec::with_capacity(512);
    match serde_json::to_writer(&mut body, &event) {
        Ok(()) => body,
        // Strings and numbers into memory: there is nothing that could fail.
        Err(_) => Vec::new(),
    }
}

/// Reads a fact; `None` for anything that is not one.
#[must_use]
pub fn decode(body: &[u8]) -> Option<Fact> {
    let event: Event<'_> = serde_json::from_slice(body).ok()?;
    let data = event.data;
    let time = |text: Option<Cow<'_, str>>| text.and_then(|t| UnixMs::parse_rfc3339(&t));
    let timings = match (data.queued_ms, data.permit_ms, data.http_ms) {
        (Some(queued_ms), Some(permit_ms), Some(http_ms)) => Some(Timings { queued_ms, permit_ms, http_ms }),
        (_, _, _) => None,
    };
    Some(Fact {
        kind: FactKind::parse(&event.event_type)?,
        job: JobId::parse(&event.subject).ok()?,
        life: data.life.map(Life::from_number).unwrap_or_default(),
        extra: data.extra_send,
        provider: ProviderName::parse(&data.provider).ok()?,
        at: UnixMs::parse_rfc3339(&event.time)?,
        attempt: data.attempt,
        route: data.route.and_then(|r| RouteName::parse(&r).ok()),
        class: data.class.and_then(|c| Class::parse(&c)),
        reason: data.reason.and_then(|r| Reason::parse(&r)),
        http_status: data.http_status,
        message_id: data.message_id.and_then(|m| MessageId::new(&m)),
        to: data.to.map(|t| t.into_owned().into()),
        recipient: data.recipient_key.and_then(|key| RecipientKey::parse(&key)),
        purpose: data.purpose_key.and_then(|key| PurposeKey::parse(&key)),
        created_at: time(data.created_at),
        metadata: data.metadata,
        next_attempt_at: time(data.next_attempt_at),
        next_provider: data.next_provider.and_then(|p| ProviderName::parse(&p).ok()),
        sent_at: time(data.sent_at),
        timings,
        ceiling_per_second: data.ceiling_per_second,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phone::Phone;
    use crate::recipient::JobKeys;
    use proptest::prelude::*;

    fn full() -> Fact {
        let job = JobId::parse("job-1").unwrap();
        let provider = ProviderName::parse("verihubs").unwrap();
        Fact {
            attempt: 2,
            life: Life::from_number(1_799_999_999_999),
            extra: true,
            route: RouteName::parse("login").ok(),
            class: Some(Class::Accepted),
            reason: Some(Reason::MissingId),
            http_status: Some(201),
            message_id: MessageId::new("d0f5fb5c"),
            metadata: Metadata::parse(r#"{"user":"u1"}"#).ok(),
            next_attempt_at: Some(UnixMs(1_800_000_000_500)),
            next_provider: ProviderName::parse("msgai").ok(),
            sent_at: Some(UnixMs(1_800_000_000_001)),
            timings: Some(Timings { queued_ms: 1, permit_ms: 2, http_ms: 3 }),
            ceiling_per_second: Some(9.5),
            ..Fact::new(FactKind::Accepted, job, provider, UnixMs(1_800_000_000_000))
        }
        .about(Phone::parse("+628123456890").unwrap())
        .keyed(
            JobKeys { recipient: RecipientKey(0x0123_4567_89ab_cdef), purpose: PurposeKey(10) },
            UnixMs(1_799_999_999_000),
        )
    }

    #[test]
    fn is_a_cloud_event() {
        let text = String::from_utf8(encode(&full(), "otpd/test")).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"specversion":"1.0","id":"job-1/verihubs/2/accepted/1800000000000","source":"otpd/test","#,
                r#""type":"otp.job.accepted","subject":"job-1","time":"2027-01-15T08:00:00.000Z","#,
                r#""datacontenttype":"application/json","data":{"provider":"verihubs","route":"login","#,
                r#""attempt":2,"life":1799999999999,"extra_send":true,"class":"accepted","reason":"missing_id","http_status":201,"#,
                r#""message_id":"d0f5fb5c","to":"+62*******890","recipient_key":"0123456789abcdef","#,
                r#""purpose_key":"000000000000000a","created_at":"2027-01-15T07:59:59.000Z","metadata":{"user":"u1"},"#,
                r#""next_attempt_at":"2027-01-15T08:00:00.500Z","next_provider":"msgai","#,
                r#""sent_at":"2027-01-15T08:00:00.001Z","queued_ms":1,"permit_ms":2,"http_ms":3,"ceiling_per_second":9.5}}"#
            )
        );
        assert_eq!(full().routing_key(), "job.accepted.verihubs");
    }

    #[test]
    fn every_kind_is_read_back() {
        for kind in FactKind::ALL {
            let fact = Fact { kind, ..full() };
            assert_eq!(decode(&encode(&fact, "s")), Some(fact));
        }
        let least = Fact::new(
            FactKind::Dead,
            JobId::parse("x").unwrap(),
            ProviderName::parse("p").unwrap(),
            UnixMs(5),
        );
        assert_eq!(decode(&encode(&least, "s")), Some(least));
    }

    #[test]
    fn what_is_not_a_fact_is_passed_over() {
        for body in [
            "",
            "{}",
            "[]",
            r#"{"specversion":"1.0","id":"a","source":"b","type":"otp.job.unheard","subject":"a","time":"2027-01-15T08:00:00Z","data":{"provider":"p","attempt":1}}"#,
        ] {
            assert_eq!(decode(body.as_bytes()), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_fact_or_not(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&body);
        }
    }
}
