//! What an attempt without an answer came to. One question decides: had the request left? If not,
//! nothing was sent; if so, nobody can tell.

use std::error::Error;
use std::io;

use otpd_core::{Answered, Outcome, Reason};

use crate::body::TooLate;
use crate::generic::not_sent;

/// Reads the error of an attempt whose request was `written` or was not.
///
/// A connection that was cut after the request left is the same riddle as one that stayed silent, so
/// both are [`Reason::Timeout`]; the detail tells them apart.
pub(crate) fn answered(error: &reqwest::Error, written: bool) -> Answered {
    if written {
        let detail = if error.is_timeout() {
            "no answer in time after the request was written"
        } else {
            "the connection was lost after the request was written"
        };
        without_answer(Outcome::Ambiguous { reason: Reason::Timeout }, detail.into())
    } else {
        without_answer(not_sent(Reason::ConnectFailed, None), connect_detail(error).into())
    }
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

/// Our own words: the client's would show the URL.
fn connect_detail(error: &reqwest::Error) -> String {
    if error.is_dns() {
        "could not connect: the host name was not resolved".into()
    } else if error.is_timeout() {
        "could not connect in time".into()
    } else {
        cause(error).map_or_else(|| "could not connect".into(), |cause| format!("could not connect: {cause}"))
    }
}

/// What lies beneath: the operating system's word, or TLS'. I/O errors hide what they wrap from `source`.
fn cause(error: &(dyn Error + 'static)) -> Option<String> {
    if error.is::<TooLate>() {
        return Some(TooLate.to_string());
    }
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        let untrusted = matches!(tls, rustls::Error::InvalidCertificate(_));
        let words = if untrusted { "the certificate is not trusted" } else { "the TLS handshake failed" };
        return Some(words.into());
    }
    match error.downcast_ref::<io::Error>() {
        Some(io) => match io.get_ref() {
            Some(inner) => cause(inner),
            None => Some(io.kind().to_string()),
        },
        None => error.source().and_then(cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_found_beneath() {
        let wrapped = |error: rustls::Error| io::Error::other(io::Error::other(error));
        let untrusted = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        for (error, is) in [
            (wrapped(untrusted), Some("the certificate is not trusted")),
            (wrapped(rustls::Error::DecryptError), Some("the TLS handshake failed")),
            (io::Error::from(io::ErrorKind::ConnectionRefused), Some("connection refused")),
            (io::Error::other("https://host/secret"), None),
        ] {
            assert_eq!(cause(&error).as_deref(), is);
        }
    }
}
