//! Reading a dead letter: what otpd wrote on it, or what the broker wrote where it buried the
//! message itself. Pure, and total over whatever lies in the queue.

use std::hash::{DefaultHasher, Hash, Hasher};

use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable};
use otpd_core::{Class, JobId, Life, ProviderName, Reason, RouteName, SendJob, UnixMs};

use super::headers;
use super::wire;
use crate::dead::DeadLetter;
use crate::plan::Plan;

/// Reads a letter.
pub(super) fn read(plan: &Plan, got: &Delivery) -> DeadLetter {
    let table = got.properties.headers().as_ref();
    let text = |key| headers::text(table, key, 1024);
    let small = |key| headers::number(table, key).and_then(|n| u32::try_from(n).ok());
    let death = Death::first(table);
    let buried_by_broker = text(headers::REASON).is_none();
    let named = text(headers::PROVIDER).map(|provider| ProviderName::parse(provider).ok());
    let provider = named.unwrap_or_else(|| plan.provider_of(death.queue?));
    // The key is a route where the job came straight from its producer.
    let key = death.key.filter(|_| death.exchange == Some(plan.jobs_exchange().as_str()));
    DeadLetter {
        job: wire::message_id(&got.properties).unwrap_or_else(|| name_of(&got.data)),
        reason: text(headers::REASON).or(death.reason).and_then(Reason::parse),
        class: text(headers::CLASS).and_then(Class::parse),
        provider,
        route: text(headers::ROUTE).or(key).and_then(|r| RouteName::parse(r).ok()),
        http_status: small(headers::HTTP_STATUS).and_then(|s| u16::try_from(s).ok()),
        attempts: small(headers::ATTEMPTS).or_else(|| small(headers::ATTEMPT)).unwrap_or(0),
        detail: text(headers::DETAIL).map(Into::into),
        died_at: text(headers::DIED_AT)
            .and_then(UnixMs::parse_rfc3339)
            .or_else(|| death.at.filter(|_| buried_by_broker)),
        // The timestamp of a letter of otpd's own is the time of its death.
        taken_at: if buried_by_broker {
            wire::taken_at(&got.properties)
        } else {
            headers::number(table, headers::TAKEN_AT).map(UnixMs)
        },
        life: headers::number(table, headers::LIFE).map(Life::from_number).unwrap_or_default(),
        body: got.data.clone().into(),
    }
}

/// The id in the body, or else a name made from the body: the same for the same letter.
pub(super) fn name_of(body: &[u8]) -> JobId {
    let in_body = match SendJob::parse(body, UnixMs(0)) {
        Ok(job) => Some(job.id),
        Err(malformed) => malformed.id,
    };
    let made_up = || {
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        JobId::parse(&format!("nameless-{:016x}", hasher.finish())).ok()
    };
    in_body.or_else(made_up).unwrap_or_else(nameless)
}

#[allow(clippy::expect_used, reason = "a constant that fits")]
fn nameless() -> JobId {
    JobId::parse("nameless").expect("eight letters are an id")
}

/// What the broker says of the first time it dead-lettered a message.
#[derive(Default)]
struct Death<'a> {
    reason: Option<&'a str>,
    queue: Option<&'a str>,
    exchange: Option<&'a str>,
    key: Option<&'a str>,
    at: Option<UnixMs>,
}

impl<'a> Death<'a> {
    /// `x-death` lists the latest first; the last entry is the first death.
    fn first(table: Option<&'a FieldTable>) -> Self {
        let Some(AMQPValue::FieldArray(deaths)) = table.and_then(|t| t.inner().get("x-death")) else {
            return Self::default();
        };
        let Some(AMQPValue::FieldTable(first)) = deaths.as_slice().last() else { return Self::default() };
        let text = |key| headers::text(Some(first), key, 255);
        let key = match first.inner().get("routing-keys") {
            Some(AMQPValue::FieldArray(keys)) => keys.as_slice().first().and_then(headers::as_text),
            Some(_) | None => None,
        };
        let at = headers::number(Some(first), "time").map(|s| UnixMs(s.saturating_mul(1000)));
        Self { reason: text("reason"), queue: text("queue"), exchange: text("exchange"), key, at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use lapin::BasicProperties;

    use crate::seam::{Burial, TraceContext};

    fn plan() -> Plan {
        Plan::default()
    }

    fn lying(properties: BasicProperties, body: &[u8]) -> Delivery {
        let mut got = Delivery::mock(1, "otp.dead".into(), "dead".into(), false, body.to_vec());
        got.properties = properties;
        got
    }

    #[test]
    fn what_otpd_wrote_is_read_back() {
        let burial = Burial {
            job: JobId::parse("job-1").unwrap(),
            body: Bytes::from_static(b"{}"),
            reason: Reason::TemplatePaused,
            class: Some(Class::Permanent),
            provider: ProviderName::parse("verihubs").unwrap(),
            route: RouteName::parse("login").ok(),
            http_status: Some(400),
            attempts: 2,
            detail: Some("paused".into()),
            died_at: UnixMs(1_800_000_000_123),
            taken_at: UnixMs(1_800_000_000_000),
            life: Life::from_number(7),
            trace: TraceContext::default(),
        };
        let letter = read(&plan(), &lying(wire::buried(&plan(), &burial).properties, b"{}"));
        assert_eq!(letter.next_life(), Life::after(burial.died_at));
        assert_eq!(
            (letter.job, letter.reason, letter.class),
            (burial.job, Some(burial.reason), burial.class)
        );
        assert_eq!((letter.provider, letter.route), (Some(burial.provider), burial.route));
        assert_eq!((letter.http_status, letter.attempts), (Some(400), 2));
        assert_eq!((letter.taken_at, letter.life), (Some(burial.taken_at), burial.life));
        assert_eq!((letter.detail, letter.died_at), (burial.detail, Some(burial.died_at)));
    }

    fn buried_by_broker(exchange: &str, route: Option<&str>) -> Delivery {
        let mut death = FieldTable::default();
        death.insert("reason".into(), AMQPValue::LongString("delivery_limit".into()));
        death.insert("queue".into(), AMQPValue::LongString("otp.lane.verihubs".into()));
        death.insert("exchange".into(), AMQPValue::LongString(exchange.into()));
        death.insert("time".into(), AMQPValue::Timestamp(1_800_000_000));
        let keys = vec![AMQPValue::LongString("login".into())];
        death.insert("routing-keys".into(), AMQPValue::FieldArray(keys.into()));
        let mut table = headers::Headers::default().text(headers::ROUTE, route).table();
        table.insert("x-death".into(), AMQPValue::FieldArray(vec![AMQPValue::FieldTable(death)].into()));
        lying(BasicProperties::default().with_headers(table).with_message_id("job-2".into()), b"x")
    }

    #[test]
    fn what_the_broker_buried_is_explained() {
        for (exchange, header, route) in [
            ("otp.jobs", None, Some("login")),
            ("otp.lanes", Some("signup"), Some("signup")),
            ("otp.lanes", None, None),
        ] {
            let letter = read(&plan(), &buried_by_broker(exchange, header));
            assert_eq!((letter.job.as_str(), letter.reason), ("job-2", Some(Reason::DeliveryLimit)));
            assert_eq!(letter.provider, ProviderName::parse("verihubs").ok());
            assert_eq!(letter.route, route.and_then(|r| RouteName::parse(r).ok()), "{exchange}");
            assert_eq!(letter.died_at, Some(UnixMs(1_800_000_000_000)));
        }
    }

    #[test]
    fn a_stray_letter_has_a_name_all_the_same() {
        for (body, name) in
            [(&br#"{"id":"job-3","to":"?"}"#[..], Some("job-3")), (b"\xff\x00", None), (b"", None)]
        {
            let letter = read(&plan(), &lying(BasicProperties::default(), body));
            let again = read(&plan(), &lying(BasicProperties::default(), body));
            assert_eq!(letter.job, again.job);
            assert!(name.map_or(letter.job.as_str().starts_with("nameless-"), |n| letter.job.as_str() == n));
            assert_eq!((letter.reason, letter.route, letter.died_at), (None, None, None));
        }
    }
}
