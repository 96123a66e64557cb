//! A request's body becomes a job's body: the fields as they came, without `route`, with an id, and with the
//! time at which it was taken, so that a code's life counts from there and not from when a lane reads it.
//!
//! The values are not looked into here: the core's own parser does that, the same that a lane uses, so what is
//! accepted is never `malformed_job`. Its words do not repeat what was sent; what it says of line and column
//! is left out, because the body that it read is not the one that was sent.

use std::fmt;

use bytes::Bytes;
use otpd_core::job::MAX_BODY;
use otpd_core::{JobId, RouteName, SendJob, UnixMs};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::problem::Problem;
use crate::recent_ids::{Content, RecentIds};

/// A job on its way in.
pub(crate) struct Submission {
    /// Where to.
    pub(crate) route: RouteName,
    /// The job, as a lane will read it.
    pub(crate) job: SendJob,
    /// What is published.
    pub(crate) body: Bytes,
    /// What was sent, hashed: fields in any order, but for the id.
    pub(crate) content: Content,
}

/// An object's fields, in order; a name may be there twice.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Pairs).map(Self)
    }
}

impl Submission {
    /// Reads a body. `named` is the id that a header gave; without any, one is made.
    ///
    /// # Errors
    /// [`Problem::Invalid`], [`Problem::TooLarge`], [`Problem::UnknownRoute`] for what cannot be a route's name.
    pub(crate) fn read(
        body: &[u8],
        named: Option<&str>,
        taken_at: UnixMs,
        ids: &RecentIds,
    ) -> Result<Self, Problem> {
        if body.len() > MAX_BODY {
            return Err(Problem::TooLarge(MAX_BODY));
        }
        let Fields(fields) = serde_json::from_slice(body).map_err(|e| not_an_object(&e))?;
        let route = text_of(&fields, "route")?.ok_or_else(|| invalid("`route` is missing"))?;
        let in_body = text_of(&fields, "id")?;
        let id = match (in_body.as_deref(), named) {
            (Some(one), Some(other)) if one != other => {
                return Err(invalid(
                    "`id` and the header Idempotency-Key name different ids; send one of them",
                ));
            }
            (Some(id), _) | (None, Some(id)) => JobId::parse(id).map_err(|e| invalid(format!("`id` {e}")))?,
            (None, None) => made_up(),
        };
        let mut parts: Vec<&[u8]> = Vec::with_capacity(2 * fields.len());
        let mut sorted: Vec<&(String, &RawValue)> = fields.iter().filter(|(name, _)| name != "id").collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        sorted.iter().for_each(|(name, value)| parts.extend([name.as_bytes(), value.get().as_bytes()]));
        let content = ids.content(parts);
        let body = rebuilt(&fields, &id, taken_at);
        let job =
            SendJob::parse(&body, taken_at).map_err(|malformed| invalid(without_place(&malformed.detail)))?;
        // After the job: who sends nonsense is told of all of it first.
        let route = RouteName::parse(&route).map_err(|_| Problem::UnknownRoute)?;
        Ok(Self { route, job, body, content })
    }
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::Invalid(detail.into())
}

/// The place alone: serde's own words may repeat a value.
pub(crate) fn not_an_object(error: &serde_json::Error) -> Problem {
    let what = if error.is_data() { "not an object of the fields of the call" } else { "not valid JSON" };
    invalid(format!("{what} (line {}, column {})", error.line(), error.column()))
}

/// A field that is a text, and there at most once.
fn text_of(fields: &[(String, &RawValue)], name: &str) -> Result<Option<String>, Problem> {
    let mut found = fields.iter().filter(|(field, _)| field == name);
    let Some((_, value)) = found.next() else { return Ok(None) };
    if found.next().is_some() {
        return Err(invalid(format!("`{name}` is given twice")));
    }
    serde_json::from_str(value.get()).map(Some).map_err(|_| invalid(format!("`{name}` must be a text")))
}

/// A new id, later ones after earlier ones.
fn made_up() -> JobId {
    #[allow(clippy::expect_used, reason = "36 characters of 0-9 a-f -")]
    JobId::parse(&Uuid::now_v7().to_string()).expect("a UUID is an id")
}

/// The job's body. Names are escaped anew, values stay as they came.
fn rebuilt(fields: &[(String, &RawValue)], id: &JobId, taken_at: UnixMs) -> Bytes {
    let mut body = format!("{{\"id\":\"{id}\"");
    let mut is_dated = false;
    for (name, value) in fields.iter().filter(|(name, _)| name != "id" && name != "route") {
        // `null` stands for a field that is not there.
        if name == "created_at" && value.get() == "null" {
            continue;
        }
        is_dated |= name == "created_at";
        body.push(',');
        body.push_str(&serde_json::Value::from(name.as_str()).to_string());
        body.push(':');
        body.push_str(value.get());
    }
    if !is_dated {
        body.push_str(&format!(",\"created_at\":\"{taken_at}\""));
    }
    body.push('}');
    body.into()
}

/// A sentence of the core's parser without line and column.
fn without_place(detail: &str) -> String {
    match detail.find(" (line ").and_then(|from| Some((from, from + detail.get(from..)?.find(')')?))) {
        Some((from, to)) => {
            format!("{}{}", detail.get(..from).unwrap_or_default(), detail.get(to + 1..).unwrap_or_default())
        }
        None => detail.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AT: UnixMs = UnixMs(1_800_000_000_000);

    fn read(body: &str, named: Option<&str>) -> Result<Submission, Problem> {
        Submission::read(body.as_bytes(), named, AT, &RecentIds::new(b"key"))
    }

    #[test]
    fn a_body_becomes_a_job() {
        let taken = read(r#"{"route":"login","id":"a","to":"+628123456890","code":"123456"}"#, None).unwrap();
        assert_eq!((taken.route.as_str(), taken.job.id.as_str(), taken.job.created_at), ("login", "a", AT));
        assert_eq!(
            std::str::from_utf8(&taken.body).unwrap(),
            r#"{"id":"a","to":"+628123456890","code":"123456","created_at":"2027-01-15T08:00:00.000Z"}"#
        );
        let dated =
            r#"{"route":"login","to":"628123456890","code":"1234","created_at":"2027-01-15T07:59:00Z"}"#;
        let taken = read(dated, Some("from-header")).unwrap();
        assert_eq!(taken.job.id.as_str(), "from-header");
        assert_eq!(taken.job.created_at, AT.minus(std::time::Duration::from_secs(60)));
        let (one, other) = (read(dated, None).unwrap(), read(dated, None).unwrap());
        assert_ne!(one.job.id, other.job.id, "made up");
    }

    #[test]
    fn the_order_of_fields_is_no_content_and_everything_else_is() {
        let content = |body: &str| read(body, None).unwrap().content;
        let ids = RecentIds::new(b"key");
        let of = |body: &str| Submission::read(body.as_bytes(), None, AT, &ids).unwrap().content;
        let one = of(r#"{"route":"login","id":"a","to":"+628123456890","code":"123456"}"#);
        assert_eq!(one, of(r#"{"code":"123456", "to":"+628123456890", "route":"login"}"#));
        assert_ne!(one, of(r#"{"route":"login","id":"a","to":"+628123456890","code":"123457"}"#));
        assert_ne!(one, of(r#"{"route":"alerts","id":"a","to":"+628123456890","code":"123456"}"#));
        let _ = content;
    }

    #[test]
    fn what_is_no_job_is_refused_without_repeating_it() {
        for (body, says) in [
            ("", "not valid JSON"),
            ("[]", "not an object"),
            (r#"{"to":"+628123456890","code":"7391"}"#, "`route` is missing"),
            (r#"{"route":7391,"to":"+628123456890","code":"7391"}"#, "`route` must be a text"),
            (r#"{"route":"a","route":"b","to":"+628123456890","code":"7391"}"#, "`route` is given twice"),
            (r#"{"route":"a","id":"7391 7391","to":"+628123456890","code":"7391"}"#, "`id` must be"),
            (r#"{"route":"a","to":"+628123456890","code":"7391","code":"7392"}"#, "`code` is given twice"),
            (r#"{"route":"a","to":"+628123456890"}"#, "`code` is missing"),
            (r#"{"route":"a","to":"+628123456890","code":7391}"#, "`code` has a wrong type"),
            (r#"{"route":"a","to":"7391","code":"7391"}"#, "`to` must be"),
            (r#"{"route":"a","to":"+628123456890","code":"7391","x":"7391"}"#, "an unknown field; known are"),
            (
                r#"{"route":"a","to":"+628123456890","code":"7391","expires_at":"2020-01-01T00:00:00Z"}"#,
                "`expires_at`",
            ),
        ] {
            let Err(Problem::Invalid(detail)) = read(body, None) else { panic!("{body} is taken") };
            assert!(detail.contains(says), "{body}: {detail}");
            assert!(!detail.contains("7391"), "{detail}");
        }
        let both = read(r#"{"route":"a","id":"x","to":"+628123456890","code":"7391"}"#, Some("y"));
        assert!(matches!(both, Err(Problem::Invalid(detail)) if detail.contains("Idempotency-Key")));
        let nowhere = read(r#"{"route":"NO WHERE","to":"+628123456890","code":"7391"}"#, None);
        assert!(matches!(nowhere, Err(Problem::UnknownRoute)));
        let large = format!(r#"{{"route":"a","x":"{}"}}"#, "x".repeat(MAX_BODY));
        assert!(matches!(read(&large, None), Err(Problem::TooLarge(MAX_BODY))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_job_or_a_problem(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Submission::read(&body, None, AT, &RecentIds::new(b"key"));
        }

        #[test]
        fn what_is_taken_a_lane_can_read(extra in "\\PC{0,20}", purpose in "[a-z]{0,5}") {
            let extra = serde_json::Value::from(extra);
            let body = format!(
                r#"{{"route":"a","to":"+628123456890","code":"7391","purpose":"{purpose}",{extra}:{extra}}}"#
            );
            if let Ok(taken) = read(&body, None) {
                prop_assert!(SendJob::parse(&taken.body, AT).is_ok());
            }
        }
    }
}
