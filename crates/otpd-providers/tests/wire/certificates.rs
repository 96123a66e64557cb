//! Certificates that are not to be trusted.

use std::time::Duration;

use otpd_core::{Class, Reason};
use otpd_providers::HttpOptions;
use otpd_sim::{Certificate, Mock, MockConfig};

use super::{Bench, PATIENT, Wire, clock, options, send, transport};

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_said_in_words() {
    for (certificate, words) in [
        (Certificate::Expired, "the certificate of 127.0.0.1 expired on Mon, 01 Jan 2024 00:00:00 GMT"),
        (
            Certificate::OtherName,
            "the certificate is for elsewhere.example and not for 127.0.0.1; check base_url",
        ),
    ] {
        let config = MockConfig { tls: Some(certificate), ..MockConfig::default() };
        let bench = Bench::start(Wire::Https2, config).await;
        let sent = bench.send("628123456000").await;
        assert_eq!(sent.is(), (Class::Transient, Some(Reason::ConnectFailed)));
        assert!(!sent.stamp.is_written() && !sent.answered.outcome.may_have_been_sent());
        assert!(sent.detail().starts_with(&format!("could not connect: {words}")), "{}", sent.detail());
        assert!(sent.took < Duration::from_secs(2));
    }
}

#[tokio::test]
async fn an_unknown_authority_is_not_trusted() {
    let config = MockConfig { tls: Some(Certificate::Valid), ..MockConfig::default() };
    let mock = Mock::start(config, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let other = MockConfig { tls: Some(Certificate::Valid), ..MockConfig::default() };
    let other = Mock::start(other, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    // The authority of another mock is there, so there is one at least on every machine.
    let options: HttpOptions = options(PATIENT, &other);
    let sent = send(&transport(&mock.url(), options, clock()), "628123456000").await;
    assert_eq!(sent.is(), (Class::Transient, Some(Reason::ConnectFailed)));
    assert!(sent.detail().contains("is of an authority that is not trusted; name that in ca"), "{sent:?}");
}
