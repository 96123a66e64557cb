//! The thin edge: one pooled HTTP client per provider account.
//!
//! Nothing is left to the client's defaults that could send a code twice or elsewhere: no redirects
//! (a 307 would repeat the POST), no retries of its own, no proxy from the environment. Connections
//! are kept for as many requests as may be in flight; HTTP/2 is used where TLS offers it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use reqwest::{Body, Client, Response, Url};
use tracing::Instrument;

use otpd_core::{Answered, MessageId, Mono, Reason, Scope, SendJob, Stamp, UnixMs};

use crate::adapter::Adapter;
use crate::answer::Answer;
use crate::body::StampedBody;
use crate::endpoint::{Request, SetupError};
use crate::failure;
use crate::generic::{not_sent, permanent};
use crate::login::Login;
use crate::session::{Session, Token};
use crate::trace;

/// The most bytes of an answer that are read; what is longer is cut.
pub const MAX_ANSWER: usize = 64 * 1024;
/// How long an unused connection is kept: below what load balancers usually keep theirs.
const IDLE: Duration = Duration::from_secs(20);
/// How often an HTTP/2 connection is asked whether it still lives, and how long it may take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// The two clocks, given from outside.
#[derive(Clone)]
pub struct Clock {
    mono: Arc<dyn Fn() -> Mono + Send + Sync>,
    wall: Arc<dyn Fn() -> UnixMs + Send + Sync>,
}

impl Clock {
    /// `mono` must count from the origin that the ceiling counts from.
    pub fn new(
        mono: impl Fn() -> Mono + Send + Sync + 'static,
        wall: impl Fn() -> UnixMs + Send + Sync + 'static,
    ) -> Self {
        Self { mono: Arc::new(mono), wall: Arc::new(wall) }
    }

    pub(crate) fn mono(&self) -> Mono {
        (self.mono)()
    }

    pub(crate) fn wall(&self) -> UnixMs {
        (self.wall)()
    }
}

/// How much and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// How many requests may be in flight; as many connections are kept.
    pub max_in_flight: usize,
    /// How long connecting may take, TLS included. Shorter than `timeout`, which it would never precede.
    pub connect_timeout: Duration,
    /// How long the whole request may take, from its start to the end of its answer.
    pub timeout: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        let (connect_timeout, timeout) = (Duration::from_secs(3), Duration::from_secs(10));
        Self { max_in_flight: 256, connect_timeout, timeout }
    }
}

/// Sends jobs to one provider account.
pub struct Transport {
    adapter: Adapter,
    client: Client,
    clock: Clock,
    timeout: Duration,
    session: Session,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("adapter", &self.adapter).finish_non_exhaustive()
    }
}

impl Transport {
    /// Sets the client up. Connects to nothing yet.
    ///
    /// # Errors
    /// [`SetupError`] where the limits cannot hold, no TLS provider is installed in the process, or
    /// the system's CA certificates cannot be read (only for `https`).
    pub fn new(adapter: Adapter, limits: HttpLimits, clock: Clock) -> Result<Self, SetupError> {
        if limits.connect_timeout.is_zero() || limits.connect_timeout >= limits.timeout {
            let problem = "must be longer than 0 and shorter than `timeout`";
            return Err(SetupError::Setting { key: "connect_timeout", problem });
        }
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(SetupError::NoTls);
        }
        let mut client = Client::builder()
            .user_agent(concat!("otpd/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(limits.connect_timeout)
            .timeout(limits.timeout)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(limits.max_in_flight.max(1))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING.0)
            .http2_keep_alive_timeout(PING.1);
        if !adapter.is_encrypted() {
            // A mock or a private network: needs no CA certificates on this machine.
            client = client.tls_certs_only([]);
        }
        let (client, timeout) = (client.build()?, limits.timeout);
        Ok(Self { adapter, client, clock, timeout, session: Session::default() })
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
        let asked = self.client.post(request.url.clone()).headers(request.headers.clone()).body(request.body);
        let answer = read(exchange(asked.send(), request.url).await.ok()?).await;
        self.adapter.read_lookup(job, since, &answer)
    }

    async fn attempt(
        &self,
        job: &SendJob,
        request: Request<'_>,
        bearer: Option<&HeaderValue>,
        expires_at: UnixMs,
        stamp: &Stamp,
    ) -> Answered {
        let mut headers: HeaderMap = request.headers.clone();
        if let Some(bearer) = bearer {
            headers.insert(AUTHORIZATION, bearer.clone());
        }
        let body = StampedBody::new(request.body, expires_at, stamp.clone(), self.clock.clone());
        // Put together here: a builder would merge the headers one by one.
        let mut asked = reqwest::Request::new(Method::POST, request.url.clone());
        *asked.headers_mut() = headers;
        *asked.body_mut() = Some(Body::wrap(body));
        match exchange(self.client.execute(asked), request.url).await {
            Ok(response) => {
                // An answer to the head alone (HTTP/2): a request all the same, for the provider's count.
                stamp.written(self.clock.mono());
                self.adapter.classify(job, &read(response).await, self.clock.wall())
            }
            Err(error) => {
                // From here on it cannot leave any more, so the answer to "had it left?" stays true.
                stamp.over();
                if !stamp.is_written() && self.clock.wall() >= expires_at {
                    let detail = "the code expired before the provider was connected";
                    return failure::without_answer(not_sent(Reason::ConnectFailed, None), detail.into());
                }
                failure::answered(&error, stamp.is_written())
            }
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
            let request = self
                .client
                .post(login.url.clone())
                .header(AUTHORIZATION, login.authorization.clone())
                .header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            match exchange(request.send(), &login.url).await {
                Ok(response) => login.read(&read(response).await, self.clock.wall()),
                Err(error) => {
                    let reason = if error.is_connect() { Reason::ConnectFailed } else { Reason::Timeout };
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

/// Reads an answer, at most [`MAX_ANSWER`] of it. What is lost of the body is not lost of the status.
async fn read(mut response: Response) -> Answer {
    let status = response.status().as_u16();
    let headers = std::mem::take(response.headers_mut());
    let mut body = Vec::new();
    let truncated = loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER => body.extend_from_slice(&chunk),
            Ok(Some(chunk)) => {
                let room = MAX_ANSWER - body.len();
                body.extend(chunk.iter().take(room));
                break true;
            }
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    Answer { status, headers, body: body.into(), truncated }
}

/// An attempt that is dropped halfway frees its place in the ceiling too.
struct OverWhenDropped<'a>(&'a Stamp);

impl Drop for OverWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.over();
    }
}
