//! What an attempt without an answer came to. One question decides: had the request left? If not,
//! nothing was sent; if so, nobody can tell, unless the provider said that it did not look at it.
//!
//! HTTP/2 says so in two ways (RFC 9113, 8.7): a stream that is refused, and a GOAWAY that names the last
//! stream which is processed. The client reports the latter only for streams above that one.

use std::error::Error;
use std::io;
use std::time::{Duration, SystemTime};

use rustls::CertificateError;
use rustls::pki_types::UnixTime;

use otpd_core::{Answered, Outcome, Reason};

use crate::body::TooLate;
use crate::generic::not_sent;

/// Said where a request was handed over and not written in time, whether it was being connected or not.
pub(crate) const NOTHING_TAKEN: &str = "no connection took the request in time";

/// Reads the error of an attempt whose request was `written` or was not.
///
/// A connection that was cut after the request left is the same riddle as one that stayed silent, so
/// both are [`Reason::Timeout`]; the detail tells them apart.
pub(crate) fn answered(error: &reqwest::Error, written: bool) -> Answered {
    if !written {
        return without_answer(not_sent(Reason::ConnectFailed, None), connect_detail(error).into());
    }
    if let Some(words) = not_processed(error) {
        return without_answer(not_sent(Reason::ServiceUnavailable, None), words.into());
    }
    let (reason, words) = if error.is_timeout() {
        (Reason::Timeout, "no answer in time after the request was written")
    } else if let Some(words) = unreadable(error) {
        (Reason::MalformedResponse, words)
    } else {
        (Reason::Timeout, "the connection was lost after the request was written")
    };
    without_answer(Outcome::Ambiguous { reason }, words.into())
}

/// The kind of an error in one word, as a trace's `error.type`.
pub(crate) fn kind(error: &reqwest::Error) -> &'static str {
    match (error.is_timeout(), error.is_connect()) {
        (true, _) => "timeout",
        (false, true) => "connect",
        (false, false) => "connection_lost",
    }
}

/// An attempt that ended before there was anything to read. `detail` is our own sentence.
pub(crate) const fn without_answer(outcome: Outcome, detail: Box<str>) -> Answered {
    Answered { outcome, http_status: None, code: None, detail: Some(detail) }
}

/// Whether the server does not speak the HTTP that it was asked for.
pub(crate) fn is_other_http(error: &reqwest::Error) -> bool {
    let refused = rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol);
    tls_beneath(error) == Some(&refused)
}

/// Whether the server broke off without a word of HTTP/2's.
pub(crate) fn is_broken_off(error: &reqwest::Error) -> bool {
    let says_so = beneath::<h2::Error>(error).is_some_and(h2::Error::is_remote);
    !says_so && !error.is_timeout() && !error.is_connect()
}

/// The provider's word that it did not look at the request.
fn not_processed(error: &reqwest::Error) -> Option<&'static str> {
    let http2: &h2::Error = beneath(error)?;
    if !http2.is_remote() {
        None
    } else if http2.is_go_away() {
        Some("the provider closed the connection without looking at the request (GOAWAY)")
    } else if http2.is_reset() && http2.reason() == Some(h2::Reason::REFUSED_STREAM) {
        Some("the provider refused the request without looking at it (REFUSED_STREAM)")
    } else {
        None
    }
}

/// An answer that was there and could not be read.
fn unreadable(error: &reqwest::Error) -> Option<&'static str> {
    let is_odd = beneath::<hyper::Error>(error).is_some_and(hyper::Error::is_parse)
        || beneath::<h2::Error>(error).is_some_and(h2::Error::is_library);
    is_odd.then_some("the answer is not valid HTTP, or its head is too long")
}

/// The first error of this type beneath `error`.
fn beneath<T: Error + 'static>(error: &reqwest::Error) -> Option<&T> {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Our own words: the client's would show the URL.
fn connect_detail(error: &reqwest::Error) -> String {
    let host = error.url().and_then(|url| url.host_str()).unwrap_or("the provider");
    if error.is_dns() {
        format!("could not connect: {host} has no address; check base_url and this machine's DNS")
    } else if error.is_timeout() && !error.is_connect() {
        NOTHING_TAKEN.into()
    } else if error.is_timeout() {
        "could not connect in time".into()
    } else {
        let cause = cause(error, host);
        cause.map_or_else(|| "could not connect".into(), |cause| format!("could not connect: {cause}"))
    }
}

/// What lies beneath: the operating system's word, or TLS'. I/O errors hide what they wrap from `source`.
fn cause(error: &(dyn Error + 'static), host: &str) -> Option<String> {
    if error.is::<TooLate>() {
        return Some(TooLate.to_string());
    }
    if let Some(tls) = tls_beneath(error) {
        return Some(tls_words(tls, host));
    }
    match error.downcast_ref::<io::Error>() {
        Some(io) => match io.get_ref() {
            Some(inner) => cause(inner, host),
            None => Some(io.kind().to_string()),
        },
        None => error.source().and_then(|source| cause(source, host)),
    }
}

fn tls_beneath<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let beneath = match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    };
    error.downcast_ref().or_else(|| beneath.and_then(tls_beneath))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "enums of rustls, which grow")]
fn tls_words(error: &rustls::Error, host: &str) -> String {
    let rustls::Error::InvalidCertificate(certificate) = error else {
        return match error {
            rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol) => {
                format!("{host} does not speak the HTTP that http_version asks for")
            }
            rustls::Error::AlertReceived(_) => format!("{host} refused the TLS handshake"),
            _ => format!("the TLS handshake with {host} failed"),
        };
    };
    match certificate {
        CertificateError::ExpiredContext { not_after, .. } => {
            let on = date(*not_after);
            format!("the certificate of {host} expired on {on}; it must be renewed there")
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!(
                "the certificate of {host} is valid from {} on; check this machine's clock",
                date(*not_before)
            )
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<&str> =
                presented.iter().map(|name| name.split('"').nth(1).unwrap_or(name)).take(3).collect();
            format!("the certificate is for {} and not for {host}; check base_url", names.join(", "))
        }
        CertificateError::UnknownIssuer => {
            format!("the certificate of {host} is of an authority that is not trusted; name that in ca")
        }
        _ => format!("the certificate of {host} is not valid"),
    }
}

fn date(at: UnixTime) -> String {
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(at.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_found_beneath() {
        let wrapped = |error: rustls::Error| io::Error::other(io::Error::other(error));
        let certificate = |error| wrapped(rustls::Error::InvalidCertificate(error));
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let expired =
            CertificateError::ExpiredContext { time: at(1_795_167_001), not_after: at(1_795_167_000) };
        let early = CertificateError::NotValidYetContext { time: at(1), not_before: at(1_795_167_000) };
        for (error, is) in [
            (
                certificate(CertificateError::UnknownIssuer),
                Some("the certificate of api.x is of an authority that is not trusted; name that in ca"),
            ),
            (
                certificate(expired),
                Some(
                    "the certificate of api.x expired on Fri, 20 Nov 2026 09:30:00 GMT; it must be renewed there",
                ),
            ),
            (
                certificate(early),
                Some(
                    "the certificate of api.x is valid from Fri, 20 Nov 2026 09:30:00 GMT on; check this machine's clock",
                ),
            ),
            (certificate(CertificateError::BadSignature), Some("the certificate of api.x is not valid")),
            (wrapped(rustls::Error::DecryptError), Some("the TLS handshake with api.x failed")),
            (io::Error::from(io::ErrorKind::ConnectionRefused), Some("connection refused")),
            (io::Error::other("https://host/secret"), None),
        ] {
            assert_eq!(cause(&error, "api.x").as_deref(), is);
        }
    }
}
