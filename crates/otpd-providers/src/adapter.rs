//! One provider's two pure functions, chosen by its settings: a job becomes a request, an answer
//! becomes an outcome. Where a provider shows what it has sent, looking there is two more of the kind.

use std::fmt;

use otpd_core::{Answered, MessageId, Outcome, Reason, SendJob, UnixMs};

use crate::answer::{Answer, Reading};
use crate::betatel::{self, Betatel};
use crate::endpoint::{Endpoint, Request, SetupError};
use crate::kind::Kind;
use crate::login::Login;
use crate::lookup;
use crate::meta_cloud::{self, MetaCloud};
use crate::meta_onprem::{self, MetaOnPrem};
use crate::msgai::{self, Msgai};
use crate::onemsg::{self, OneMsg};
use crate::poll::{self, Poll, Polled};
use crate::retry_after;
use crate::scrub::scrub;
use crate::settings::ProviderSettings;
use crate::verihubs::{self, Verihubs};

/// How to speak to one provider account. Holds its credentials, ready to be sent.
pub struct Adapter {
    endpoint: Endpoint,
    provider: Provider,
}

enum Provider {
    OneMsg(OneMsg),
    MetaCloud(MetaCloud),
    MetaOnPrem(MetaOnPrem),
    Verihubs(Verihubs),
    Betatel(Betatel),
    Msgai(Msgai),
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Adapter({} at {})", self.kind(), self.endpoint.url.origin().ascii_serialization())
    }
}

impl Adapter {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SetupError::Setting`] names the config key that cannot be used.
    pub fn new(settings: ProviderSettings) -> Result<Self, SetupError> {
        let (endpoint, provider) = match settings {
            ProviderSettings::OneMsg { base_url, channel_id, token, template } => {
                let (endpoint, it) = OneMsg::new(&base_url, &channel_id, token, template)?;
                (endpoint, Provider::OneMsg(it))
            }
            ProviderSettings::MetaCloud { base_url, phone_number_id, token, api_version, template } => {
                let (endpoint, it) =
                    MetaCloud::new(&base_url, &phone_number_id, token, &api_version, template)?;
                (endpoint, Provider::MetaCloud(it))
            }
            ProviderSettings::MetaOnPrem { base_url, username, password, template } => {
                let (endpoint, it) = MetaOnPrem::new(&base_url, &username, password, template)?;
                (endpoint, Provider::MetaOnPrem(it))
            }
            ProviderSettings::Verihubs { base_url, app_id, api_key, callback_url, template } => {
                let (endpoint, it) = Verihubs::new(&base_url, app_id, api_key, callback_url, template)?;
                (endpoint, Provider::Verihubs(it))
            }
            ProviderSettings::Betatel { base_url, api_key, account_id, text } => {
                let (endpoint, it) = Betatel::new(&base_url, api_key, account_id, text)?;
                (endpoint, Provider::Betatel(it))
            }
            ProviderSettings::Msgai { base_url, api_key, template } => {
                let (endpoint, it) = Msgai::new(&base_url, api_key, template)?;
                (endpoint, Provider::Msgai(it))
            }
        };
        Ok(Self { endpoint, provider })
    }

    /// Which kind this is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self.provider {
            Provider::OneMsg(_) => Kind::OneMsg,
            Provider::MetaCloud(_) => Kind::MetaCloud,
            Provider::MetaOnPrem(_) => Kind::MetaOnPrem,
            Provider::Verihubs(_) => Kind::Verihubs,
            Provider::Betatel(_) => Kind::Betatel,
            Provider::Msgai(_) => Kind::Msgai,
        }
    }

    /// The request that sends `job`, whose code is of use until `expires_at`. The on-premises kind
    /// lacks its `Authorization`, which only a login gives.
    ///
    /// # Errors
    /// [`Reason::TemplateMissing`] where neither the job nor the settings name what the provider needs.
    pub fn request(&self, job: &SendJob, now: UnixMs, expires_at: UnixMs) -> Result<Request<'_>, Reason> {
        let body = match &self.provider {
            Provider::OneMsg(it) => it.body(job),
            Provider::MetaCloud(it) => it.body(job),
            Provider::MetaOnPrem(it) => it.body(job),
            Provider::Verihubs(it) => it.body(job, now, expires_at),
            Provider::Betatel(it) => it.body(job),
            Provider::Msgai(it) => it.body(job),
        }?;
        Ok(Request { url: &self.endpoint.url, headers: &self.endpoint.headers, body })
    }

    /// What `answer` to the request for `job` means; `now` dates a `Retry-After`. Total: any answer
    /// has a meaning, and none puts the code, the number or a credential into the result.
    #[must_use]
    pub fn classify(&self, job: &SendJob, answer: &Answer, now: UnixMs) -> Answered {
        let reading = Reading::new(answer, retry_after::in_headers(&answer.headers, now));
        let verdict = match &self.provider {
            Provider::OneMsg(_) => onemsg::read(&reading),
            Provider::MetaCloud(_) => meta_cloud::read(&reading),
            Provider::MetaOnPrem(_) => meta_onprem::read(&reading),
            Provider::Verihubs(_) => verihubs::read(&reading),
            Provider::Betatel(_) => betatel::read(&reading),
            Provider::Msgai(_) => msgai::read(&reading, now),
        };
        let message = if reading.is_success() && verdict.outcome.may_have_been_sent() {
            // A success says nothing that matters, and may repeat the code.
            None
        } else {
            reading.message()
        };
        let is_accepted = matches!(verdict.outcome, Outcome::Accepted { .. });
        let detail = message
            .and_then(|m| scrub(&m, Some(job), &self.endpoint.secrets))
            .or_else(|| if is_accepted { None } else { answer.oddity().map(Into::into) });
        Answered { outcome: verdict.outcome, http_status: Some(answer.status), code: verdict.code, detail }
    }

    /// The request that looks for `job` among what the provider has sent; `None` where it cannot be
    /// asked, which is everywhere but at Betatel.
    #[must_use]
    pub fn lookup_request(&self, job: &SendJob) -> Option<Request<'_>> {
        let it = self.betatel()?;
        Some(Request { url: &it.records, headers: &self.endpoint.headers, body: lookup::question(job)? })
    }

    /// The id of `job`'s message, if `answer` to [`Adapter::lookup_request`] shows that an attempt which
    /// began at `since` was carried out and has not failed meanwhile. Total: what cannot be read shows
    /// nothing. Keeps nothing else of the answer, which holds the code in clear.
    #[must_use]
    pub fn read_lookup(&self, job: &SendJob, since: UnixMs, answer: &Answer) -> Option<MessageId> {
        lookup::find(&Reading::new(answer, None), job, &self.betatel()?.text(job), since)
    }

    /// The request that asks what became of a message; `None` where the provider cannot be asked, which is everywhere
    /// but at 1MSG and Betatel, or not about this id.
    #[must_use]
    pub fn poll_request(&self, id: &MessageId) -> Option<Poll<'_>> {
        let url = match &self.provider {
            Provider::OneMsg(it) => Some(it.poll(id)),
            Provider::Betatel(it) => it.poll(id),
            Provider::MetaCloud(_) | Provider::MetaOnPrem(_) | Provider::Verihubs(_) | Provider::Msgai(_) => {
                None
            }
        };
        Some(Poll { url: url?, headers: &self.endpoint.headers })
    }

    /// What `answer` to [`Adapter::poll_request`] says of the message; `now` dates a `Retry-After`. Total, and keeps
    /// neither the code nor the number of Betatel's record.
    #[must_use]
    pub fn read_poll(&self, id: &MessageId, answer: &Answer, now: UnixMs) -> Polled {
        let reading = Reading::new(answer, retry_after::in_headers(&answer.headers, now));
        match &self.provider {
            Provider::OneMsg(_) => poll::read(&reading, id, onemsg::told, poll::Unknown::NotListed),
            Provider::Betatel(_) => poll::read(&reading, id, betatel::told, poll::Unknown::Status404),
            Provider::MetaCloud(_) | Provider::MetaOnPrem(_) | Provider::Verihubs(_) | Provider::Msgai(_) => {
                Polled::Nothing
            }
        }
    }

    const fn betatel(&self) -> Option<&Betatel> {
        match &self.provider {
            Provider::Betatel(it) => Some(it),
            Provider::OneMsg(_)
            | Provider::MetaCloud(_)
            | Provider::MetaOnPrem(_)
            | Provider::Verihubs(_)
            | Provider::Msgai(_) => None,
        }
    }

    /// Where requests go, without the path.
    pub(crate) fn origin(&self) -> String {
        self.endpoint.url.origin().ascii_serialization()
    }

    /// Whether requests go over TLS.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.endpoint.url.scheme() == "https"
    }

    /// How to log in, for the kind that must.
    pub(crate) const fn login(&self) -> Option<&Login> {
        match &self.provider {
            Provider::MetaOnPrem(it) => Some(&it.login),
            Provider::OneMsg(_)
            | Provider::MetaCloud(_)
            | Provider::Verihubs(_)
            | Provider::Betatel(_)
            | Provider::Msgai(_) => None,
        }
    }
}
