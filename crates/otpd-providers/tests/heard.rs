//! The mock's callbacks and records, which state each contract a second time, are read as what they mean: the round
//! from a request to the news of its message, over real sockets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests, and what they call")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use otpd_core::{DeliveryStatus, JobId, MessageId, Outcome, Reason, Stamp};
use otpd_providers::{
    Adapter, Answer, Callback, CallbackKeys, CallbackMethod, CallbackRead, CallbackReader, HttpOptions, Kind,
    Polled, ProviderSettings, Secret, Told, Transport, Update,
};
use otpd_sim::mock::{CallTo, Callbacks};
use otpd_sim::{Control, Mock, MockConfig};

use common::server::{Reply, Seen, Server};
use common::{NOW, clock, job, now, settings, template};

const PATIENCE: Duration = Duration::from_secs(20);

const fn mocked(kind: Kind) -> otpd_sim::Kind {
    match kind {
        Kind::OneMsg => otpd_sim::Kind::OneMsg,
        Kind::MetaCloud => otpd_sim::Kind::MetaCloud,
        Kind::MetaOnPrem => otpd_sim::Kind::MetaOnprem,
        Kind::Verihubs => otpd_sim::Kind::Verihubs,
        Kind::Betatel => otpd_sim::Kind::Betatel,
        Kind::Msgai => otpd_sim::Kind::Msgai,
    }
}

/// A mock that calls back at `url` with these shares, signing with `s3cret`.
async fn mock(kind: Kind, url: &str, shares: &str) -> Mock {
    let callbacks = Callbacks {
        url: Some(CallTo::Address(url.parse().unwrap())),
        shares: Some(shares.parse().unwrap()),
        secret: Some("s3cret".into()),
        ..Callbacks::default()
    };
    let control = Control { callbacks: Some(callbacks), ..Control::of(mocked(kind)) };
    Mock::start(MockConfig::default().with(control), "127.0.0.1:0".parse().unwrap()).await.unwrap()
}

fn adapter(kind: Kind, mock: &Mock, callback_url: &str) -> Adapter {
    let mut settings = settings(kind, &mock.url(), template());
    if let ProviderSettings::Verihubs { callback_url: url, .. } = &mut settings {
        *url = Some(callback_url.to_owned());
    }
    Adapter::new(settings).unwrap()
}

/// Sends the job; gives the id that the provider gave it.
async fn send(adapter: Adapter) -> MessageId {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let transport = Transport::new(adapter, HttpOptions::default(), clock()).unwrap();
    let expires_at = now().plus(Duration::from_secs(300));
    let answered = transport.send(&job(), expires_at, &Stamp::default()).await;
    let Outcome::Accepted { message_id: Some(id), .. } = answered.outcome else { panic!("{answered:?}") };
    id
}

/// What a request to the receiver says.
fn read(reader: &CallbackReader, seen: &Seen) -> Vec<Update> {
    let (path, query) = seen.path().split_once('?').unwrap_or((seen.path(), ""));
    let pair = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value.trim()).ok()?))
    };
    let headers: HeaderMap = seen.head.lines().skip(1).filter_map(pair).collect();
    let method = if seen.head.starts_with("GET ") { CallbackMethod::Get } else { CallbackMethod::Post };
    let job = path.strip_prefix("/callbacks/p/t/");
    let read = reader.read(&Callback { method, query, job, headers: &headers, body: &seen.body });
    let CallbackRead::Updates(updates) = read else { panic!("{}: {read:?}", seen.head) };
    updates
}

/// Sends a job at a mock with these shares, and waits for so many different statuses of it.
async fn heard(kind: Kind, shares: &str, count: usize) -> (MessageId, Vec<Update>) {
    let receiver = Server::start(|_, _| Reply::status(200, "", "")).await;
    let url = format!("{}/callbacks/p/t", receiver.url());
    let mock = mock(kind, &url, shares).await;
    let id = send(adapter(kind, &mock, &url)).await;
    let keys = CallbackKeys { signature: Some(Secret::new("s3cret")), ..CallbackKeys::default() };
    let reader = CallbackReader::new(kind, &keys);
    let all = async {
        loop {
            let updates: Vec<Update> = receiver.seen().iter().flat_map(|seen| read(&reader, seen)).collect();
            if updates.iter().map(|update| format!("{:?}", update.status)).collect::<BTreeSet<_>>().len()
                >= count
            {
                return updates;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let updates = tokio::time::timeout(PATIENCE, all).await;
    (id, updates.unwrap_or_else(|_| panic!("{kind}: {:?}", receiver.seen().len())))
}

#[tokio::test]
async fn news_find_their_message_and_where_it_is_echoed_their_job() {
    for kind in Kind::ALL {
        let (id, updates) = heard(kind, "read=100%,twice=30%,shuffled=50%", 3).await;
        let job = match kind {
            Kind::Verihubs | Kind::MetaCloud | Kind::Msgai => Some(JobId::parse("job-1").unwrap()),
            Kind::OneMsg | Kind::MetaOnPrem | Kind::Betatel => None,
        };
        for update in &updates {
            assert_eq!((update.message_id.as_ref(), &update.job), (Some(&id), &job), "{kind}");
            assert_eq!((update.reason, update.class), (None, None), "{kind}");
        }
        for status in [DeliveryStatus::Sent, DeliveryStatus::Delivered, DeliveryStatus::Read] {
            assert!(
                updates.iter().any(|update| update.status == Told::Delivery(status)),
                "{kind} {status:?}"
            );
        }
    }
}

#[tokio::test]
async fn failures_are_read_with_their_reasons() {
    for kind in Kind::ALL {
        let (_, updates) = heard(kind, "failed=100%", 2).await;
        let failed = updates.iter().find(|update| update.status == Told::Delivery(DeliveryStatus::Failed));
        let reason = match kind {
            Kind::MetaCloud | Kind::MetaOnPrem | Kind::Verihubs => Reason::RecipientNotOnWhatsapp,
            Kind::OneMsg | Kind::Betatel | Kind::Msgai => Reason::UnknownError,
        };
        assert_eq!(failed.map(|update| update.reason), Some(Some(reason)), "{kind}: {updates:?}");
    }
}

#[tokio::test]
async fn who_asks_reads_the_state() {
    for kind in [Kind::OneMsg, Kind::Betatel] {
        for (shares, status) in [
            ("undelivered=100%", DeliveryStatus::Sent),
            ("", DeliveryStatus::Delivered),
            ("read=100%", DeliveryStatus::Read),
            ("failed=100%", DeliveryStatus::Failed),
        ] {
            let mock = mock(kind, "http://127.0.0.1:9/", shares).await;
            let id = send(adapter(kind, &mock, "")).await;
            let polled = poll(&adapter(kind, &mock, ""), &id).await;
            let Polled::Update(update) = &polled else { panic!("{kind} {shares}: {polled:?}") };
            assert_eq!(update.status, Told::Delivery(status), "{kind} {shares}");
            assert_eq!(update.message_id.as_ref(), Some(&id));
            let nobody = poll(&adapter(kind, &mock, ""), &MessageId::new("nobody").unwrap()).await;
            assert_eq!(nobody, Polled::Nothing, "{kind}");
        }
    }
}

async fn poll(adapter: &Adapter, id: &MessageId) -> Polled {
    let request = adapter.poll_request(id).unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(request.url).headers(request.headers.clone()).send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let answer = Answer { status, headers, body: answer.bytes().await.unwrap(), truncated: false };
    adapter.read_poll(id, &answer, NOW)
}
