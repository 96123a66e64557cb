//! The thin edge: requests leave here, answers come back.
//!
//! How connections are made is `client`, over how many requests are spread is `lines`, how an answer is
//! read is `read`. Here is what one attempt is: at most one request for the message on the wire, dated when
//! it was written, and what the answer, or the want of one, means.

mod client;
mod hosts;
mod lines;
mod read;
mod told;

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use reqwest::{Body, Response, Url};
use tracing::Instrument;

use otpd_core::{Answered, Class, MessageId, Mono, Reason, Scope, SendJob, Stamp, UnixMs};

use crate::adapter::Adapter;
use crate::answer::Answer;
use crate::body::StampedBody;
use crate::clock::Clock;
use crate::endpoint::{Request, SetupError};
use crate::failure;
use crate::generic::{not_sent, permanent};
use crate::login::Login;
use crate::options::{HttpOptions, HttpVersion};
use crate::session::{Session, Token};
use crate::trace;

use client::{Maker, Spoken};
use hosts::Hosts;
use lines::{FULL_AFTER, Full, Lines, Using};
pub use read::MAX_ANSWER;
use read::read;
use told::Told;

const EVERYWHERE_FULL: &str =
    "every connection had as many open requests as the provider allows, until the time-out";

/// Sends jobs to one provider account.
pub struct Transport {
    adapter: Adapter,
    lines: Lines,
    clock: Clock,
    timeout: Duration,
    session: Session,
    told: Told,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("adapter", &self.adapter).finish_non_exhaustive()
    }
}

impl Transport {
    /// Sets up how the provider is reached. Connects to nothing yet.
    ///
    /// # Errors
    /// [`SetupError`] where the limits cannot hold, no TLS provider is installed in the process, or
    /// the trusted authorities cannot be read (only for `https`).
    pub fn new(adapter: Adapter, options: impl Into<HttpOptions>, clock: Clock) -> Result<Self, SetupError> {
        let HttpOptions { limits, version, authorities, lookup } = options.into();
        if limits.connect_timeout.is_zero() || limits.connect_timeout >= limits.timeout {
            let problem = "must be longer than 0 and shorter than `timeout`";
            return Err(SetupError::Setting { key: "connect_timeout", problem });
        }
        let hosts = Hosts::new(lookup, limits.connect_timeout / 2);
        let maker = Maker::new(adapter.is_encrypted(), limits, &authorities, hosts.clone())?;
        let spoken = match version {
            HttpVersion::Auto if adapter.is_encrypted() => Spoken::Either,
            HttpVersion::Auto | HttpVersion::Http1 => Spoken::Http1,
            HttpVersion::Http2 => Spoken::Http2,
        };
        let lines = Lines::new(maker, hosts, spoken, clock.mono())?;
        let (session, told) = (Session::default(), Told::default());
        Ok(Self { adapter, lines, clock, timeout: limits.timeout, session, told })
    }

    /// What this transport speaks.
    #[must_use]
    pub const fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// Makes one attempt at `job`, whose code is of use until `expires_at`. At most one request for
    /// the message leaves, and none once the code has expired; `stamp` is marked when it does, and is over when this returns or is dropped.
    /// Takes no longer than the timeout, or twice as long when a login comes first.
    pub async fn send(&self, job: &SendJob, expires_at: UnixMs, stamp: &Stamp) -> Answered {
        let _over = OverWhenDropped(stamp);
        let request = match self.adapter.request(job, self.clock.wall(), expires_at) {
            Ok(request) => request,
            Err(reason) => {
                let detail =
                    "neither the job nor the provider's settings name a template this provider needs";
                return failure::without_answer(permanent(reason, Scope::Template), detail.into());
            }
        };
        match self.adapter.login() {
            None => self.attempt(job, request, None, expires_at, stamp).await,
            Some(login) => self.attempt_with_token(job, request, login, expires_at, stamp).await,
        }
    }

    /// Looks whether an attempt at `job` that began at `since` was carried out, of which no answer told.
    /// `None` where the provider cannot be asked, does not answer, or shows no such message: nothing is
    /// known then. Sends no message, so it marks no stamp; takes no longer than the timeout.
    pub async fn find(&self, job: &SendJob, since: UnixMs) -> Option<MessageId> {
        let request = self.adapter.lookup_request(job)?;
        let mut asked = reqwest::Request::new(Method::POST, request.url.clone());
        *asked.headers_mut() = request.headers.clone();
        *asked.body_mut() = Some(request.body.into());
        let answer = self.ask(asked).await.ok()?;
        self.adapter.read_lookup(job, since, &answer)
    }

    /// Makes a request that is no message; `Err` says why there is no answer.
    async fn ask(&self, asked: reqwest::Request) -> Result<Answer, Reason> {
        let since = self.clock.mono();
        let using = self.lines.take(&self.clock, since, self.timeout).await.ok_or(Reason::ConnectFailed)?;
        let url = asked.url().clone();
        match exchange(using.client().execute(asked), &url).await {
            Ok(response) => {
                using.answered(&response, self.clock.mono());
                Ok(read(response).await)
            }
            Err(error) => {
                if error.is_timeout() {
                    using.unanswered(since);
                }
                if !error.is_connect() {
                    return Err(Reason::Timeout);
                }
                using.not_connected(since, self.clock.mono());
                self.tell(&failure::answered(&error, false));
                Err(Reason::ConnectFailed)
            }
        }
    }

    async fn attempt(
        &self,
        job: &SendJob,
        request: Request<'_>,
        bearer: Option<&HeaderValue>,
        expires_at: UnixMs,
        stamp: &Stamp,
    ) -> Answered {
        let since = self.clock.mono();
        let left = |now: Mono| self.timeout.saturating_sub(now.since(since));
        let (mut now, mut moved) = (since, None);
        let (using, result) = loop {
            let Some(mut using) = self.lines.take(&self.clock, now, left(now)).await else {
                return self.not_taken(EVERYWHERE_FULL, stamp);
            };
            let is_one = using.is_one_connection();
            let full = if is_one { using.queue(&self.clock, left(now)).await } else { None };
            match full {
                None => {
                    if is_one {
                        now = self.clock.mono();
                        moved = Some(left(now));
                    }
                    let asked = self.message(&request, bearer, expires_at, stamp, &using, moved);
                    let mut exchange = pin!(exchange(using.client().execute(asked), request.url));
                    if !is_one {
                        break (using, exchange.await);
                    }
                    match tokio::time::timeout(FULL_AFTER, exchange.as_mut()).await {
                        Ok(result) => break (using, result),
                        Err(_) if using.withdraw(self.clock.mono()) => {}
                        Err(_) => break (using, exchange.await),
                    }
                }
                Some(Full::Here) => {}
                Some(Full::Everywhere) => {
                    using.unanswered(now);
                    return self.not_taken(failure::NOTHING_TAKEN, stamp);
                }
            }
            now = self.clock.mono();
            moved = Some(left(now));
        };
        match result {
            Ok(response) => {
                let now = self.clock.mono();
                // An answer to the head alone (HTTP/2): a request all the same, for the provider's count.
                stamp.written(now);
                using.answered(&response, now);
                let answer = read(response).await;
                let answered = self.adapter.classify(job, &answer, self.clock.wall());
                if let (true, Some(oddity)) = (answered.outcome.class() != Class::Accepted, answer.oddity()) {
                    self.warn(oddity);
                }
                answered
            }
            Err(error) => {
                // From here on it cannot leave any more, so the answer to "had it left?" stays true.
                stamp.over();
                self.unanswered(&error, &using, now, expires_at, stamp)
            }
        }
    }

    /// An attempt that no connection took in time, for this reason.
    fn not_taken(&self, words: &str, stamp: &Stamp) -> Answered {
        stamp.over();
        let answered = failure::without_answer(not_sent(Reason::ConnectFailed, None), words.into());
        self.tell(&answered);
        answered
    }

    /// The request for a message, to be written by `using`. `left` is what is left of its time, where some
    /// is used up.
    fn message(
        &self,
        request: &Request<'_>,
        bearer: Option<&HeaderValue>,
        expires_at: UnixMs,
        stamp: &Stamp,
        using: &Using<'_>,
        left: Option<Duration>,
    ) -> reqwest::Request {
        let mut headers: HeaderMap = request.headers.clone();
        if let Some(bearer) = bearer {
            headers.insert(AUTHORIZATION, bearer.clone());
        }
        let body = StampedBody::new(
            request.body.clone(),
            expires_at,
            stamp.clone(),
            using.right(),
            self.clock.clone(),
        );
        let body = if using.may_be_http2() { body.in_a_stream() } else { body };
        // Put together here: a builder would merge the headers one by one.
        let mut asked = reqwest::Request::new(Method::POST, request.url.clone());
        *asked.headers_mut() = headers;
        *asked.body_mut() = Some(Body::wrap(body));
        if left.is_some() {
            *asked.timeout_mut() = left;
        }
        asked
    }

    /// What an attempt without an answer came to that was handed over at `since`; `stamp` is over.
    fn unanswered(
        &self,
        error: &reqwest::Error,
        using: &Using<'_>,
        since: Mono,
        expires_at: UnixMs,
        stamp: &Stamp,
    ) -> Answered {
        if !stamp.is_written() && self.clock.wall() >= expires_at {
            let detail = "the code expired before the provider was connected";
            return failure::without_answer(not_sent(Reason::ConnectFailed, None), detail.into());
        }
        // A connection that lives and takes nothing is left as well as one that does not answer.
        if error.is_timeout() && (stamp.is_written() || (using.is_one_connection() && !error.is_connect())) {
            using.unanswered(stamp.written_at().unwrap_or(since));
        }
        if error.is_connect() {
            using.not_connected(since, self.clock.mono());
        }
        let written_at = stamp.written_at().filter(|_| failure::is_broken_off(error));
        if failure::is_other_http(error) || written_at.is_some_and(|at| using.only_believes_in_http2(at)) {
            using.speaks_otherwise();
        }
        let answered = failure::answered(error, stamp.is_written());
        if !stamp.is_refused() {
            self.tell(&answered);
        }
        answered
    }

    /// Tells an operator of a fault of the wire, once. An answer that is overdue, or a request that the
    /// provider does not look at, is none by itself: the breaker judges those.
    fn tell(&self, answered: &Answered) {
        let Some(words) = answered.detail.as_deref() else { return };
        let reason = answered.outcome.reason();
        let is_usual = matches!(reason, Some(Reason::Timeout | Reason::ServiceUnavailable));
        if !is_usual {
            self.warn(words);
        }
    }

    /// Says it once. Our own words: the provider's may be others each time.
    fn warn(&self, words: &str) {
        if self.told.is_new(words, self.clock.mono()) {
            let (kind, url) = (self.adapter.kind(), self.adapter.origin());
            tracing::warn!(kind = kind.as_str(), %url, "{words}; not told again for 10 minutes");
        }
    }

    async fn attempt_with_token(
        &self,
        job: &SendJob,
        request: Request<'_>,
        login: &Login,
        expires_at: UnixMs,
        stamp: &Stamp,
    ) -> Answered {
        let token = match tokio::time::timeout(self.timeout, self.token(login)).await {
            Ok(Ok(token)) => token,
            Ok(Err(answered)) => return answered,
            Err(_) => {
                let outcome = not_sent(Reason::Timeout, None);
                return failure::without_answer(outcome, "login: waited too long".into());
            }
        };
        let answered = self.attempt(job, request, Some(&token.bearer), expires_at, stamp).await;
        match answered.http_status {
            Some(401) => {
                self.session.refused(&token).await;
                let outcome =
                    if token.ever_worked() { not_sent(Reason::AuthExpired, None) } else { answered.outcome };
                Answered { outcome, ..answered }
            }
            Some(status) if status < 500 => {
                token.has_worked();
                answered
            }
            Some(_) | None => answered,
        }
    }

    async fn token(&self, login: &Login) -> Result<Arc<Token>, Answered> {
        let ask = || async {
            let mut asked = reqwest::Request::new(Method::POST, login.url.clone());
            let headers = asked.headers_mut();
            headers.insert(AUTHORIZATION, login.authorization.clone());
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            match self.ask(asked).await {
                Ok(answer) => login.read(&answer, self.clock.wall()),
                Err(reason) => {
                    Err(failure::without_answer(not_sent(reason, None), "login: no answer".into()))
                }
            }
        };
        self.session.token(|| self.clock.mono(), ask).await
    }
}

/// Sends a request to `url` and waits for the head of the answer, in a span of its own.
async fn exchange(
    sent: impl Future<Output = Result<Response, reqwest::Error>>,
    url: &Url,
) -> Result<Response, reqwest::Error> {
    let span = trace::post(url);
    let result = sent.instrument(span.clone()).await;
    trace::exchanged(&span, &result);
    result
}

/// An attempt that is dropped halfway frees its place in the ceiling too.
struct OverWhenDropped<'a>(&'a Stamp);

impl Drop for OverWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.over();
    }
}
