//! Answers that are odd: bounded in time and size, classified, and told once in words.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use otpd_core::{Class, Reason};
use otpd_providers::HttpLimits;
use tracing_subscriber::fmt::MakeWriter;

use super::common::server::{Reply, Server};
use super::{Bench, PATIENT, Wire, clock, faults, phones};

const BRIEF: HttpLimits =
    HttpLimits { connect_timeout: Duration::from_millis(600), timeout: Duration::from_secs(1), ..PATIENT };

#[tokio::test]
async fn odd_answers_are_bounded_and_classified() {
    let unreadable = (Class::Ambiguous, Some(Reason::MalformedResponse));
    let unanswered = (Class::Ambiguous, Some(Reason::Timeout));
    let accepted = (Class::Accepted, None);
    for (fault, is, words) in [
        ("garbage", unreadable, "the answer is a page and not the provider's: is a proxy in between"),
        ("gzip", unreadable, "the answer is compressed, though only plain ones are asked for"),
        ("hints", accepted, ""),
        ("huge_head", unreadable, "the answer is not valid HTTP, or its head is too long"),
        ("drip", unanswered, "no answer in time after the request was written"),
        ("late(20s)", unanswered, "no answer in time after the request was written"),
    ] {
        for wire in Wire::ALL {
            let bench = Bench::with(wire, faults(&format!("msgai:{fault}=100%")), BRIEF, clock()).await;
            let sent = bench.send("628123456000").await;
            assert_eq!(sent.is(), is, "{wire:?} {fault}: {sent:?}");
            assert!(sent.detail().starts_with(words), "{wire:?} {fault}: {}", sent.detail());
            assert!(sent.took < Duration::from_secs(2), "{wire:?} {fault}: {:?}", sent.took);
            assert_eq!(bench.accepted(), 1);
        }
    }
}

/// The log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_fault_of_the_wire_is_told_once() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let bench = Bench::start(Wire::Https2, faults("msgai:garbage=to:*001,gzip=to:*002")).await;
    for _ in 0..3 {
        for phone in phones(3) {
            bench.send(&phone).await;
        }
    }
    let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let warnings: Vec<&str> = said.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 2, "{said}");
    assert!(warnings[0].contains("is a page") && warnings[1].contains("is compressed"), "{said}");
    assert!(warnings.iter().all(|line| line.contains(&bench.mock.url()) && line.contains("msgai")), "{said}");
}

/// A provider whose answers are cut, and whose words are different each time (they name the request).
#[tokio::test]
async fn a_fault_with_other_words_each_time_is_told_once() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let letters = |n: usize| char::from(b'a' + u8::try_from(n % 26).unwrap());
    let server = Server::start(move |n, _| {
        let words = format!(r#"{{"message":"internal error, request {0}{0}x{0}"}}"#, letters(n));
        let head = format!("HTTP/1.1 500 X\r\ncontent-length: {}\r\n\r\n", words.len() + 1);
        Reply::BytesThenClose(format!("{head}{words}").into_bytes())
    })
    .await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let transport = super::transport(&server.url(), PATIENT.into(), clock());
    for phone in phones(20) {
        let sent = super::send(&transport, &phone).await;
        assert_eq!(sent.class(), Class::Transient, "{sent:?}");
    }
    let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let warnings: Vec<&str> = said.lines().filter(|line| line.contains("WARN")).collect();
    println!(
        "20 answers cut before their end: {} warnings; the first: {:?}",
        warnings.len(),
        warnings.first()
    );
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("cut before its end"), "{}", warnings[0]);
}
