//! What every provider's contract answers, in one shape. The six statements of it are in
//! [`super::kinds`]; nothing in them keeps state, so each can be read beside the provider's page.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use otpd_core::{Phone, Rate};

use super::callbacks::report::{Posted, Report};
use super::fault::ServerError;
use super::kind::Kind;
use super::kinds::{betatel, meta_cloud, meta_onprem, msgai, onemsg, verihubs};
use super::reply::Reply;
use crate::chance::mix;

/// A request to a provider's send endpoint.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    /// The part of the path that names the sender (1MSG: channel, Meta Cloud: phone number id), else empty.
    pub(crate) sender: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

/// Who a request says it comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Credential<'a> {
    /// An account and the secret that proves it (Msgai: the key is both).
    Account { name: &'a str, secret: &'a str },
    /// A token that logging in gave (Meta on-premises).
    Session(&'a str),
}

/// What a valid request asks to be sent.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub(crate) phone: Phone,
    /// The recipient as the request wrote it, for answers that echo it.
    pub(crate) to: Cow<'a, str>,
    pub(crate) code: Cow<'a, str>,
    /// What is to be repeated in callbacks about it.
    pub(crate) echo: Option<Cow<'a, str>>,
    /// Where callbacks about it are to go.
    pub(crate) callback_url: Option<Cow<'a, str>>,
}

/// A refusal that the provider documents, as data.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Documented {
    /// How faults are asked for; empty where the code is the only name.
    pub(crate) name: &'static str,
    pub(crate) status: u16,
    /// The provider's own code; 0 where it has none.
    pub(crate) code: i64,
    pub(crate) text: &'static str,
    pub(crate) form: Form,
}

/// How a refusal is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As this provider usually does.
    Usual,
    /// Its usual form with this `error_subcode` (Meta Cloud).
    Subcode(i64),
    /// The other form it has; the file of the kind says which.
    Other,
}

impl Documented {
    pub(crate) const fn new(name: &'static str, status: u16, code: i64, text: &'static str) -> Self {
        Self { name, status, code, text, form: Form::Usual }
    }

    pub(crate) const fn form(self, form: Form) -> Self {
        Self { form, ..self }
    }
}

/// One provider's contract.
pub(crate) trait Contract: Sync {
    /// Who sends; `Err` is the answer to a request that does not say.
    fn credential<'a>(&self, call: &Call<'a>) -> Result<Credential<'a>, Reply>;

    /// The answer to a credential that is not valid.
    fn unauthorised(&self, call: &Call<'_>) -> Reply;

    /// What is to be sent; `Err` is the answer to a request that breaks the contract.
    fn message<'a>(&self, call: &Call<'a>) -> Result<Message<'a>, Reply>;

    /// The answer to a message that was taken.
    fn accepted(&self, message: &Message<'_>, id: &str) -> Reply;

    /// The answer to one request too many. `full` is the account's limit, where it has one.
    fn too_many(&self, full: Option<Rate>, wait: Duration) -> Reply;

    /// The answer when the provider itself fails.
    fn failed(&self, error: ServerError) -> Reply;

    /// The documented refusals that a fault can ask for.
    fn documented(&self) -> &'static [Documented];

    /// One of them as an answer.
    fn refused(&self, refusal: &Documented) -> Reply;

    /// The answer to an account without balance.
    fn out_of_balance(&self) -> Reply;

    /// The answer to a path or method this provider does not have.
    fn no_such_endpoint(&self, wrong: Wrong) -> Reply;

    /// How this provider calls back.
    fn callbacks(&self) -> Reporting;

    /// A callback of `account`: at most [`Reporting::at_once`] reports, at least one.
    fn callback(&self, account: &str, reports: &[Report<'_>], secret: Option<&str>) -> Posted;

    /// The provider's id of the `number`th message; `origin` tells accounts and runs apart.
    fn message_id(&self, origin: u64, number: u64) -> String;
}

/// How a provider calls back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reporting {
    /// The most reports in one callback.
    pub(crate) at_once: usize,
    /// Whether a callback that is not answered with 2xx comes again.
    pub(crate) are_repeated: bool,
}

/// What is wrong with a request that meets no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    Path,
    Method,
}

impl Kind {
    /// The contract of this kind.
    pub(crate) fn contract(self) -> &'static dyn Contract {
        match self {
            Self::OneMsg => &onemsg::OneMsg,
            Self::MetaCloud => &meta_cloud::MetaCloud,
            Self::MetaOnprem => &meta_onprem::MetaOnprem,
            Self::Verihubs => &verihubs::Verihubs,
            Self::Betatel => &betatel::Betatel,
            Self::Msgai => &msgai::Msgai,
        }
    }
}

/// A header's value as text; `None` where it is missing, empty or not text.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim).filter(|v| !v.is_empty())
}

/// What follows `scheme` in `Authorization`.
pub(crate) fn authorization<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (given, value) = header(headers, AUTHORIZATION.as_str())?.split_once(' ')?;
    let value = value.trim();
    (given.eq_ignore_ascii_case(scheme) && !value.is_empty()).then_some(value)
}

/// Whether the body says that it is JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    header(headers, CONTENT_TYPE.as_str())
        .and_then(|v| v.split(';').next())
        .is_some_and(|v| v.trim().eq_ignore_ascii_case("application/json"))
}

/// A number of digits alone: no `+`, which some providers tolerate and others do not.
pub(crate) fn digits_alone(text: &str) -> Option<Phone> {
    if text.starts_with('+') { None } else { Phone::parse(text) }
}

/// The most characters of a code in an authentication template.
pub(crate) const MAX_CODE: usize = 15;

/// Whether a code fits an authentication template.
pub(crate) fn fits_template(code: &str) -> bool {
    (1..=MAX_CODE).contains(&code.chars().count())
}

/// A version 4 UUID that says which message it is only to those who know how it was made.
pub(crate) fn uuid(origin: u64, number: u64) -> String {
    let bytes = (u128::from(mix(origin)) << 64 | u128::from(number)).to_be_bytes();
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// An id as Meta's platforms make them: a prefix and some base64.
pub(crate) fn base64_id(prefix: &str, origin: u64, number: u64) -> String {
    let bytes = (u128::from(mix(origin)) << 64 | u128::from(mix(number))).to_be_bytes();
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// What stands for the number in such an id: `mix` of it.
pub(crate) fn mixed_in(prefix: &str, id: &str) -> Option<u64> {
    let bytes = URL_SAFE_NO_PAD.decode(id.strip_prefix(prefix)?).ok()?;
    let bits = u128::from_be_bytes(bytes.try_into().ok()?);
    Some(bits as u64)
}
