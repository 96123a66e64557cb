//! What real providers do to a request, over real sockets: HTTP/1.1 and HTTP/2, with and without TLS, and
//! what follows from each fault of the wire. The mock is the provider.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests, and what they call")]

#[path = "../common/mod.rs"]
mod common;

mod addresses;
mod certificates;
mod ends;
mod odd;
mod replaced;
mod silence;
mod streams;
mod unprocessed;
mod unwritten;

use std::sync::Arc;
use std::time::{Duration, Instant};

use otpd_core::{Answered, Class, Reason, SendJob, Stamp, UnixMs};
use otpd_providers::{Adapter, Authorities, Clock, HttpLimits, HttpOptions, HttpVersion, Kind, Transport};
use otpd_sim::{Certificate, Control, Mock, MockConfig};

use common::{CODE, clock, settings, template};

/// A way to the mock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Http1,
    Https1,
    Http2,
    Https2,
}

impl Wire {
    const ALL: [Self; 4] = [Self::Http1, Self::Https1, Self::Http2, Self::Https2];

    const fn tls(self) -> Option<Certificate> {
        match self {
            Self::Http1 | Self::Http2 => None,
            Self::Https1 | Self::Https2 => Some(Certificate::Valid),
        }
    }

    /// Over TLS HTTP/2 is what the two agree on.
    const fn version(self) -> HttpVersion {
        match self {
            Self::Http1 | Self::Https2 => HttpVersion::Auto,
            Self::Https1 => HttpVersion::Http1,
            Self::Http2 => HttpVersion::Http2,
        }
    }
}

/// A mock of Msgai and the way to it.
struct Bench {
    mock: Mock,
    transport: Arc<Transport>,
}

const PATIENT: HttpLimits = HttpLimits {
    max_in_flight: 256,
    connect_timeout: Duration::from_secs(3),
    timeout: Duration::from_secs(10),
};

/// What goes wrong at the mock, as a config.
fn faults(plan: &str) -> MockConfig {
    MockConfig::default().with(Control::faults(plan.parse().unwrap()))
}

fn latency(config: MockConfig, latency: &str) -> MockConfig {
    let latency = Some(latency.parse().unwrap());
    config.with(Control { latency, ..Control::of(otpd_sim::Kind::Msgai) })
}

impl Bench {
    async fn start(wire: Wire, config: MockConfig) -> Self {
        Self::with(wire, config, PATIENT, clock()).await
    }

    async fn with(wire: Wire, config: MockConfig, limits: HttpLimits, clock: Clock) -> Self {
        let config = MockConfig { tls: config.tls.or(wire.tls()), ..config };
        let mock = Mock::start(config, "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let options = HttpOptions { version: wire.version(), ..options(limits, &mock) };
        let transport = Arc::new(transport(&mock.url(), options, clock));
        Self { mock, transport }
    }

    async fn send(&self, phone: &str) -> Sent {
        send(&self.transport, phone).await
    }

    /// Sends to all of them at once.
    async fn send_all(&self, phones: &[String]) -> Vec<Sent> {
        let sends: Vec<_> = phones
            .iter()
            .map(|phone| {
                let (transport, phone) = (self.transport.clone(), phone.clone());
                tokio::spawn(async move { send(&transport, &phone).await })
            })
            .collect();
        let mut all = Vec::new();
        for send in sends {
            all.push(send.await.unwrap());
        }
        all
    }

    fn accepted(&self) -> u64 {
        self.mock.stats().accepted()
    }
}

/// Trusts the mock, as a config with `ca` would.
fn options(limits: HttpLimits, mock: &Mock) -> HttpOptions {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authorities = mock.authority().map(|pem| Authorities::from_pem(pem.as_bytes()).unwrap());
    HttpOptions { limits, authorities: authorities.unwrap_or_default(), ..HttpOptions::default() }
}

fn transport(base_url: &str, options: HttpOptions, clock: Clock) -> Transport {
    let adapter = Adapter::new(settings(Kind::Msgai, base_url, template())).unwrap();
    Transport::new(adapter, options, clock).unwrap()
}

/// What became of an attempt.
#[derive(Debug)]
struct Sent {
    answered: Answered,
    stamp: Stamp,
    took: Duration,
}

impl Sent {
    fn class(&self) -> Class {
        self.answered.outcome.class()
    }

    fn is(&self) -> (Class, Option<Reason>) {
        (self.class(), self.answered.outcome.reason())
    }

    fn detail(&self) -> &str {
        self.answered.detail.as_deref().unwrap_or_default()
    }
}

async fn send(transport: &Transport, phone: &str) -> Sent {
    let (job, stamp) = (job(phone), Stamp::default());
    let expires_at = common::now().plus(Duration::from_secs(300));
    let since = Instant::now();
    let answered = transport.send(&job, expires_at, &stamp).await;
    Sent { answered, stamp, took: since.elapsed() }
}

fn job(phone: &str) -> SendJob {
    let body = format!(r#"{{"id":"job-{phone}","to":"+{phone}","code":"{CODE}"}}"#);
    SendJob::parse(body.as_bytes(), UnixMs(common::NOW.0)).unwrap()
}

/// So many different phones, which end in 000, 001, ….
fn phones(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("628123456{i:03}")).collect()
}

fn of_class(all: &[Sent], class: Class) -> usize {
    all.iter().filter(|sent| sent.class() == class).count()
}

/// Each way works, is used again, and is what it says.
#[tokio::test]
async fn every_wire_delivers_over_one_connection() {
    for wire in Wire::ALL {
        let bench = Bench::start(wire, MockConfig::default()).await;
        for phone in phones(5) {
            let sent = bench.send(&phone).await;
            assert_eq!(sent.class(), Class::Accepted, "{wire:?} {sent:?}");
            assert!(sent.stamp.is_written());
        }
        assert_eq!((bench.accepted(), bench.mock.connections()), (5, 1), "{wire:?}");
        let config = latency(MockConfig { tls: wire.tls(), ..MockConfig::default() }, "200ms");
        let bench = Bench::start(wire, config).await;
        assert_eq!(bench.send("628123456999").await.class(), Class::Accepted);
        let all = bench.send_all(&phones(5)).await;
        assert_eq!(of_class(&all, Class::Accepted), 5, "{wire:?}");
        let connections = match wire {
            Wire::Http1 | Wire::Https1 => 5,
            Wire::Http2 | Wire::Https2 => 1,
        };
        assert_eq!(bench.mock.connections(), connections, "{wire:?}");
    }
}
