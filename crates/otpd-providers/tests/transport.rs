//! Attempts over real sockets: what leaves, how often, and what a broken connection comes to.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests, and what they call")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use otpd_core::{Answered, Class, Mono, Outcome, Reason, Scope, Stamp, TemplateChoice, UnixMs};
use otpd_providers::{Adapter, HttpLimits, Kind, MAX_ANSWER, SetupError, Transport};

use common::server::{Reply, Server, nobody};
use common::{CODE, PHONE, SECRETS, adapter, cases, clock, job, kind_of, settings};

const ACCEPTED: &str = r#"{"result":true,"id":"m-1"}"#;

fn limits() -> HttpLimits {
    let (connect_timeout, timeout) = (Duration::from_secs(2), Duration::from_secs(10));
    HttpLimits { max_in_flight: 16, connect_timeout, timeout }
}

fn impatient() -> HttpLimits {
    let (connect_timeout, timeout) = (Duration::from_millis(1500), Duration::from_secs(2));
    HttpLimits { connect_timeout, timeout, ..limits() }
}

fn transport_with(adapter: Adapter, limits: HttpLimits) -> Transport {
    // Fails when another test was first, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Transport::new(adapter, limits, clock()).unwrap()
}

fn transport(kind: Kind, base_url: &str) -> Transport {
    transport_with(adapter(kind, base_url), limits())
}

/// Five minutes from now: a code that has expired does not leave.
fn expires() -> UnixMs {
    static EXPIRES: std::sync::OnceLock<UnixMs> = std::sync::OnceLock::new();
    *EXPIRES.get_or_init(|| common::now().plus(Duration::from_secs(300)))
}

async fn send(transport: &Transport) -> (Answered, Stamp) {
    let (job, stamp) = (job(), Stamp::default());
    let answered = transport.send(&job, expires(), &stamp).await;
    (answered, stamp)
}

fn outcome(answered: &Answered) -> (Class, Option<Reason>) {
    (answered.outcome.class(), answered.outcome.reason())
}

#[tokio::test]
async fn the_request_leaves_whole_with_its_length() {
    let server = Server::start(|_, _| Reply::status(200, "", ACCEPTED)).await;
    let transport = transport(Kind::Msgai, &server.url());
    let (answered, stamp) = send(&transport).await;
    assert_eq!(outcome(&answered), (Class::Accepted, None));
    assert!(stamp.written_at().is_some_and(|at| at > Mono(0)));

    let [seen] = &server.seen()[..] else { panic!("not one request") };
    let job = job();
    let request = transport.adapter().request(&job, UnixMs(0), expires()).unwrap();
    assert!(seen.head.starts_with("POST /api/v1/public/message HTTP/1.1\r\n"));
    assert_eq!(seen.body, request.body);
    assert_eq!(seen.header("content-length"), Some(request.body.len().to_string().as_str()));
    assert_eq!(seen.header("transfer-encoding"), None);
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("authorization"), Some("Basic sk_live_tokenTOKENtoken"));
}

#[tokio::test]
async fn nothing_leaves_once_the_code_has_expired() {
    let server = Server::start(|_, _| Reply::status(200, "", ACCEPTED)).await;
    let transport = transport(Kind::Msgai, &server.url());
    assert_eq!(send(&transport).await.0.outcome.class(), Class::Accepted);
    let stamp = Stamp::default();
    let answered = transport.send(&job(), UnixMs(1), &stamp).await;
    assert_eq!(outcome(&answered), (Class::Transient, Some(Reason::ConnectFailed)));
    assert!(!answered.outcome.may_have_been_sent() && !stamp.is_written());
    assert_eq!(answered.detail.as_deref(), Some("the code expired before the provider was connected"));
    assert_eq!(send(&transport).await.0.outcome.class(), Class::Accepted);
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let server = Server::start(|_, _| Reply::status(200, "", ACCEPTED)).await;
    let transport = transport(Kind::Msgai, &server.url());
    for _ in 0..5 {
        assert_eq!(send(&transport).await.0.outcome.class(), Class::Accepted);
    }
    assert_eq!((server.seen().len(), server.connections()), (5, 1));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::start(|_, _| Reply::status(200, "", ACCEPTED)).await;
    let location = format!("location: {}/\r\n", elsewhere.url());
    for status in [301, 302, 307, 308] {
        let location = location.clone();
        let server = Server::start(move |_, _| Reply::status(status, &location, "")).await;
        let (answered, _) = send(&transport(Kind::Msgai, &server.url())).await;
        assert_eq!(outcome(&answered), (Class::Account, Some(Reason::EndpointNotFound)));
        assert_eq!((server.seen().len(), elsewhere.seen().len()), (1, 0));
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let long = format!(r#"{{"result":true,"id":"m-1","pad":"{}"}}"#, "x".repeat(4 * MAX_ANSWER));
    for (status, is) in [
        (200, (Class::Ambiguous, Some(Reason::MalformedResponse))),
        (400, (Class::Permanent, Some(Reason::InvalidRequest))),
        (500, (Class::Transient, Some(Reason::InternalError))),
    ] {
        let body = long.clone();
        let server = Server::start(move |_, _| Reply::status(status, "", &body)).await;
        let (answered, _) = send(&transport(Kind::Msgai, &server.url())).await;
        assert_eq!(outcome(&answered), is, "{status}");
    }
    // As long as it may be.
    let whole = format!(r#"{{"result":true,"id":"m-1","p":"{}"}}"#, "x".repeat(MAX_ANSWER - 33));
    assert_eq!(whole.len(), MAX_ANSWER);
    let server = Server::start(move |_, _| Reply::status(200, "", &whole)).await;
    assert_eq!(send(&transport(Kind::Msgai, &server.url())).await.0.outcome.class(), Class::Accepted);
}

/// The head of an answer arrives and its body does not.
#[tokio::test]
async fn half_an_answer_counts_by_its_status() {
    for (status, is) in [
        (200, (Class::Ambiguous, Some(Reason::MalformedResponse))),
        (402, (Class::Account, Some(Reason::InsufficientBalance))),
        (503, (Class::Transient, Some(Reason::ServiceUnavailable))),
    ] {
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: 99\r\n\r\n{{\"result\":tr").into_bytes();
        let cut = head.clone();
        let closing = Server::start(move |_, _| Reply::BytesThenClose(cut.clone())).await;
        let stalling = Server::start(move |_, _| Reply::BytesThenSilence(head.clone())).await;
        for server in [closing, stalling] {
            let transport = transport_with(adapter(Kind::Msgai, &server.url()), impatient());
            let (answered, stamp) = send(&transport).await;
            assert_eq!(outcome(&answered), is, "{status}");
            assert_eq!(answered.http_status, Some(status));
            assert!(stamp.is_written());
        }
    }
}

#[tokio::test]
async fn the_broken_connections_of_the_examples() {
    let mut tried = 0;
    for case in cases().iter().filter(|case| case["kind"] == "response" && !case["transport"].is_null()) {
        let kind = kind_of(case).unwrap();
        let server = match case["transport"].as_str().unwrap() {
            "connect_refused" => None,
            "reset_after_write" => Some(Server::start(|_, seen| on_login(seen, Reply::Reset)).await),
            "read_timeout" => {
                Some(Server::start(|_, seen| on_login(seen, Reply::BytesThenSilence(Vec::new()))).await)
            }
            other => panic!("{other}"),
        };
        let base_url = match &server {
            Some(server) => server.url(),
            None => nobody().await,
        };
        let (answered, stamp) = send(&transport_with(adapter(kind, &base_url), impatient())).await;
        let expected = &case["expected"];
        assert_eq!(Some(answered.outcome.class().as_str()), expected["class"].as_str(), "{}", case["id"]);
        let reason = answered.outcome.reason().map(Reason::as_str);
        assert_eq!(reason, expected["reason"].as_str(), "{}", case["id"]);
        assert_eq!(answered.outcome.may_have_been_sent(), server.is_some());
        assert_eq!(stamp.is_written(), server.is_some());
        assert_eq!(answered.http_status, None);
        tried += 1;
    }
    assert_eq!(tried, 7, "the examples have changed");
}

fn on_login(seen: &common::server::Seen, otherwise: Reply) -> Reply {
    if seen.path().ends_with("/login") {
        Reply::status(200, "", r#"{"users":[{"token":"T0"}]}"#)
    } else {
        otherwise
    }
}

#[tokio::test]
async fn what_did_not_leave_frees_its_place() {
    let (answered, stamp) = send(&transport(Kind::Betatel, &nobody().await)).await;
    assert_eq!(answered.detail.as_deref(), Some("could not connect: connection refused"));
    stamp.written(Mono(5));
    assert!(!stamp.is_written(), "the attempt is over");

    let nameless = settings(Kind::Msgai, "http://127.0.0.1:9", TemplateChoice::default());
    let (answered, stamp) = send(&transport_with(Adapter::new(nameless).unwrap(), limits())).await;
    let permanent = Outcome::Permanent { reason: Reason::TemplateMissing, scope: Scope::Template };
    assert_eq!(answered.outcome, permanent);
    stamp.written(Mono(5));
    assert!(!stamp.is_written());
}

#[tokio::test]
async fn a_dropped_attempt_is_over() {
    let server = Server::start(|_, _| Reply::BytesThenSilence(Vec::new())).await;
    let transport = transport(Kind::Msgai, &server.url());
    let (job, stamp) = (job(), Stamp::default());
    {
        let mut sending = std::pin::pin!(transport.send(&job, expires(), &stamp));
        // Polled once: on its way to a connection, and dropped there.
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(sending.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
    }
    stamp.written(Mono(5));
    assert!(!stamp.is_written());
}

#[tokio::test]
async fn a_request_that_comes_too_late_does_not_leave() {
    let server = Server::start(|_, _| Reply::status(200, "", "{}")).await;
    let transport = transport(Kind::Msgai, &server.url());
    let (job, stamp) = (job(), Stamp::default());
    stamp.must_be_written_before(Mono(0));
    let answered = transport.send(&job, expires(), &stamp).await;
    assert!(!answered.outcome.may_have_been_sent() && answered.http_status.is_none());
    assert!(stamp.is_refused() && !stamp.is_written());
    let detail = answered.detail.unwrap_or_default();
    assert!(detail.contains("over before the request left"), "{detail}");
    assert!(server.seen().is_empty());
}

fn onprem_server(
    token_valid: impl Fn(usize, &str) -> bool + Send + Sync + 'static,
) -> (Arc<AtomicUsize>, impl Fn(usize, &common::server::Seen) -> Reply + Send + Sync) {
    let logins = Arc::new(AtomicUsize::new(0));
    let count = logins.clone();
    let script = move |_, seen: &common::server::Seen| {
        if seen.path() == "/v1/users/login" {
            assert!(seen.header("authorization").is_some_and(|value| value.starts_with("Basic ")));
            let n = count.fetch_add(1, Ordering::SeqCst) + 1;
            return Reply::status(200, "", &format!(r#"{{"users":[{{"token":"T{n}"}}]}}"#));
        }
        let bearer = seen.header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
        if token_valid(count.load(Ordering::SeqCst), bearer) {
            Reply::status(201, "", r#"{"messages":[{"id":"g-1"}]}"#)
        } else {
            Reply::status(401, "", r#"{"errors":[{"code":1005,"title":"Access denied"}]}"#)
        }
    };
    (logins, script)
}

#[tokio::test]
async fn many_attempts_log_in_once() {
    let (logins, script) = onprem_server(|_, _| true);
    let server = Server::start(script).await;
    let transport = Arc::new(transport(Kind::MetaOnPrem, &server.url()));
    let sends: Vec<_> = (0..10)
        .map(|_| {
            let transport = transport.clone();
            tokio::spawn(async move { send(&transport).await.0.outcome.class() })
        })
        .collect();
    for send in sends {
        assert_eq!(send.await.unwrap(), Class::Accepted);
    }
    assert_eq!(logins.load(Ordering::SeqCst), 1);
}

/// The refused request was a request: the next attempt, with its own permit, logs in again.
#[tokio::test]
async fn an_expired_token_is_replaced_by_the_next_attempt() {
    let expired = Arc::new(AtomicUsize::new(0));
    let (logins, script) = {
        let expired = expired.clone();
        onprem_server(move |_, bearer| bearer != "T1" || expired.load(Ordering::SeqCst) == 0)
    };
    let server = Server::start(script).await;
    let transport = transport(Kind::MetaOnPrem, &server.url());
    assert_eq!(send(&transport).await.0.outcome.class(), Class::Accepted);
    expired.store(1, Ordering::SeqCst);
    let before = server.seen().len();
    let (answered, stamp) = send(&transport).await;
    let again = Outcome::Transient { reason: Reason::AuthExpired, wait: None, possibly_sent: false };
    assert_eq!((answered.outcome, answered.http_status), (again, Some(401)));
    assert!(stamp.is_written());
    assert_eq!(server.seen().len(), before + 1, "one permit, one request");
    assert_eq!(send(&transport).await.0.outcome.class(), Class::Accepted);
    assert_eq!(logins.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_token_that_never_works_is_for_an_operator() {
    let (logins, script) = onprem_server(|_, _| false);
    let server = Server::start(script).await;
    let transport = transport(Kind::MetaOnPrem, &server.url());
    for login in 1..=2 {
        let (answered, _) = send(&transport).await;
        assert_eq!(outcome(&answered), (Class::Account, Some(Reason::AuthExpired)));
        assert_eq!(logins.load(Ordering::SeqCst), login);
    }
}

#[tokio::test]
async fn a_refused_login_sends_nothing() {
    let server = Server::start(|_, _| Reply::status(401, "", "{}")).await;
    let (answered, stamp) = send(&transport(Kind::MetaOnPrem, &server.url())).await;
    assert_eq!(outcome(&answered), (Class::Account, Some(Reason::AuthInvalid)));
    assert!(!stamp.is_written());
    let silent = Server::start(|_, _| Reply::BytesThenSilence(Vec::new())).await;
    let (answered, stamp) =
        send(&transport_with(adapter(Kind::MetaOnPrem, &silent.url()), impatient())).await;
    assert_eq!(outcome(&answered), (Class::Transient, Some(Reason::Timeout)));
    assert!(!stamp.is_written() && !answered.outcome.may_have_been_sent());
}

#[test]
fn limits_that_cannot_hold_are_refused() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    for (connect, total) in [(10, 10), (11, 10), (0, 10)] {
        let (connect_timeout, timeout) = (Duration::from_secs(connect), Duration::from_secs(total));
        let limits = HttpLimits { connect_timeout, timeout, ..limits() };
        let refused = Transport::new(adapter(Kind::Msgai, "http://127.0.0.1:9"), limits, clock());
        assert!(matches!(refused, Err(SetupError::Setting { key: "connect_timeout", .. })));
    }
}

/// `Secret` and `ProviderSettings` have no `Debug` at all; what has one is looked at here.
#[tokio::test]
async fn nothing_public_shows_a_secret() {
    let server = Server::start(|_, _| Reply::status(500, "", &format!("{CODE} {PHONE}"))).await;
    for kind in Kind::ALL {
        let transport = transport(kind, &server.url());
        let (answered, stamp) = send(&transport).await;
        let job = job();
        let request = transport.adapter().request(&job, UnixMs(0), expires()).unwrap();
        let shown = format!(
            "{transport:?} {:?} {request:?} {:?} {answered:?} {stamp:?}",
            transport.adapter(),
            request.headers
        );
        assert!(shown.contains(kind.as_str()));
        for secret in SECRETS.into_iter().chain([CODE, PHONE]) {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}
