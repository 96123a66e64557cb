//! The send job: parsed once, at the door, into types that cannot be wrong. After
//! [`SendJob::parse`] no invalid job exists; before it there is only [`Malformed`], which says what
//! is wrong without repeating what was sent.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::clock::UnixMs;
use crate::code::OtpCode;
use crate::metadata::Metadata;
use crate::names::{JobId, Purpose};
use crate::phone::Phone;

/// The largest body of a job, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// A template asked for by the job itself, over the provider's default.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TemplateChoice {
    /// The template's name at the provider.
    pub name: Option<Box<str>>,
    /// Its language code, such as `en` or `pt_BR`.
    pub language: Option<Box<str>>,
    /// Its namespace (1MSG, Meta on-premises).
    pub namespace: Option<Box<str>>,
}

/// A valid job: one code for one recipient.
#[derive(Clone, Debug)]
pub struct SendJob {
    /// The idempotency key.
    pub id: JobId,
    /// Whom to send to.
    pub to: Phone,
    /// What to send.
    pub code: OtpCode,
    /// What it is for.
    pub purpose: Purpose,
    /// Template overrides.
    pub template: TemplateChoice,
    /// When the code was made.
    pub created_at: UnixMs,
    /// From when on it is of no use; `None` when the route's validity decides ([`SendJob::expires_at`]).
    pub named_expiry: Option<UnixMs>,
    /// Echoed in every event.
    pub metadata: Option<Metadata>,
}

/// Two jobs with the same key are two codes for one purpose: only the newer is worth sending.
pub type SupersedeKey = (Phone, Purpose);

/// Why a body is not a job. Holds no value of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Malformed {
    /// What is wrong and where, without repeating what was sent.
    pub detail: String,
    /// The job's id, where at least that could be read.
    pub id: Option<JobId>,
}

/// The body as it is on the wire; [`SendJob::parse`] checks the rest.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    to: Cow<'a, str>,
    #[serde(borrow)]
    code: Cow<'a, str>,
    #[serde(borrow, default)]
    purpose: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    template: Option<WireTemplate<'a>>,
    #[serde(borrow, default)]
    created_at: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    expires_at: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct WireTemplate<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    language: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    namespace: Option<Cow<'a, str>>,
}

impl SendJob {
    /// Reads a body. `taken_at` is when the broker or the gateway took it, and stands in for a
    /// missing `created_at`.
    ///
    /// # Errors
    /// [`Malformed`]: too large, not JSON, an unknown or missing field, a wrong type or value.
    pub fn parse(body: &[u8], taken_at: UnixMs) -> Result<Self, Malformed> {
        if body.len() > MAX_BODY {
            let detail = format!("the body has {} bytes; at most {MAX_BODY} are taken", body.len());
            return Err(Malformed { detail, id: None });
        }
        let wire: Wire<'_> = serde_json::from_slice(body)
            .map_err(|e| Malformed { detail: explain(body, &e), id: readable_id(body) })?;
        let id = JobId::parse(&wire.id).map_err(|e| Malformed { detail: format!("`id` {e}"), id: None })?;
        Self::checked(&wire, id.clone(), taken_at).map_err(|detail| Malformed { detail, id: Some(id) })
    }

    fn checked(wire: &Wire<'_>, id: JobId, taken_at: UnixMs) -> Result<Self, String> {
        let to = Phone::parse(&wire.to).ok_or("`to` must be E.164: `+` and 8 to 15 digits")?;
        let code = OtpCode::parse(&wire.code).ok_or("`code` must be 4 to 15 of 0-9 A-Z a-z")?;
        let purpose = match &wire.purpose {
            None => Purpose::default(),
            Some(text) => Purpose::parse(text).map_err(|e| format!("`purpose` {e}"))?,
        };
        let created_at = moment("created_at", wire.created_at.as_deref())?.unwrap_or(taken_at);
        let named_expiry = moment("expires_at", wire.expires_at.as_deref())?;
        if named_expiry.is_some_and(|at| at <= created_at) {
            return Err("`expires_at` must be later than `created_at`".into());
        }
        let metadata = match wire.metadata {
            None => None,
            Some(raw) if raw.get() == "null" => None,
            Some(raw) => Some(Metadata::parse(raw.get()).map_err(|e| format!("`metadata` {e}"))?),
        };
        let template = match &wire.template {
            None => TemplateChoice::default(),
            Some(t) => TemplateChoice {
                name: template_part("name", t.name.as_deref())?,
                language: template_part("language", t.language.as_deref())?,
                namespace: template_part("namespace", t.namespace.as_deref())?,
            },
        };
        Ok(Self { id, to, code, purpose, template, created_at, named_expiry, metadata })
    }

    /// From when on the code is of no use, where the route's validity is `ttl`.
    #[must_use]
    pub fn expires_at(&self, ttl: Duration) -> UnixMs {
        self.named_expiry.unwrap_or_else(|| self.created_at.plus(ttl))
    }

    /// Which other jobs this one replaces, or is replaced by.
    #[must_use]
    pub fn supersede_key(&self) -> SupersedeKey {
        (self.to, self.purpose.clone())
    }
}

fn moment(field: &str, text: Option<&str>) -> Result<Option<UnixMs>, String> {
    text.map(|t| UnixMs::parse_rfc3339(t).ok_or_else(|| format!("`{field}` must be a time in RFC 3339")))
        .transpose()
}

fn template_part(field: &str, text: Option<&str>) -> Result<Option<Box<str>>, String> {
    match text {
        None => Ok(None),
        Some(t) if (1..=512).contains(&t.len()) && !t.chars().any(char::is_control) => Ok(Some(t.into())),
        Some(_) => Err(format!("`template.{field}` must be 1 to 512 printable characters")),
    }
}

/// Says where and how the JSON is wrong. serde's own words may repeat a value (a code), so only its
/// position, and field names that are ours, are used.
fn explain(body: &[u8], error: &serde_json::Error) -> String {
    let place = format!("line {}, column {}", error.line(), error.column());
    if !error.is_data() {
        return format!("not valid JSON ({place})");
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let path = serde_path_to_error::deserialize::<_, Wire<'_>>(&mut deserializer)
        .err()
        .map(|e| e.path().to_string())
        .filter(|p| p != "." && FIELDS.contains(&p.as_str()))
        .unwrap_or_default();
    let text = error.to_string();
    let named = |prefix: &str| {
        text.strip_prefix(prefix).and_then(|rest| rest.split('`').next()).map(ToOwned::to_owned)
    };
    if let Some(field) = named("missing field `") {
        format!("`{field}` is missing")
    } else if let Some(field) = named("duplicate field `") {
        format!("`{field}` is given twice")
    } else if text.starts_with("unknown field") {
        let known = FIELDS.join(", ");
        format!("an unknown field ({place}); known are {known}")
    } else if path.is_empty() {
        format!("not an object of the job's fields, or a wrong type ({place})")
    } else {
        format!("`{path}` has a wrong type ({place})")
    }
}

const FIELDS: [&str; 11] = [
    "id",
    "to",
    "code",
    "purpose",
    "template",
    "template.name",
    "template.language",
    "template.namespace",
    "created_at",
    "expires_at",
    "metadata",
];

/// The id of a body that is JSON but not a job, so that its dead letter can be found.
fn readable_id(body: &[u8]) -> Option<JobId> {
    #[derive(Deserialize)]
    struct OnlyId<'a> {
        #[serde(borrow)]
        id: Cow<'a, str>,
    }
    serde_json::from_slice::<OnlyId<'_>>(body).ok().and_then(|o| JobId::parse(&o.id).ok())
}

impl fmt::Display for TemplateChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name.as_deref().unwrap_or("-"), self.language.as_deref().unwrap_or("-"))
    }
}
