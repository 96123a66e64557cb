//! How a provider is reached: how much and how long, which HTTP, whom to trust, who knows addresses.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::endpoint::SetupError;

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

/// Which HTTP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum HttpVersion {
    /// HTTP/2 where TLS offers it, HTTP/1.1 otherwise and without TLS.
    #[default]
    Auto,
    /// HTTP/1.1 only: a connection for each request that is open.
    Http1,
    /// HTTP/2 only, without TLS too: the server must be known to speak it.
    Http2,
}

/// Certificate authorities that are trusted beside the system's.
#[derive(Clone, Default)]
pub struct Authorities(pub(crate) Vec<CertificateDer<'static>>);

impl Authorities {
    /// The certificates of a PEM text.
    ///
    /// # Errors
    /// [`SetupError::Setting`] where there is none, or one that cannot be read.
    pub fn from_pem(pem: &[u8]) -> Result<Self, SetupError> {
        let problem =
            "must be PEM with at least one CERTIFICATE, such as ca = { file = \"/etc/ssl/company.pem\" }";
        let invalid = || SetupError::Setting { key: "ca", problem };
        let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        found.ok().filter(|found| !found.is_empty()).map(Self).ok_or_else(invalid)
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({})", self.0.len())
    }
}

type Find = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Who knows the addresses of a host name.
#[derive(Clone, Default)]
pub enum Lookup {
    /// The system's resolver.
    #[default]
    System,
    /// A table; it must not block. Addresses with port 0 get the port of the URL.
    Table(Arc<Find>),
}

/// How a provider is reached.
#[derive(Clone, Default)]
pub struct HttpOptions {
    /// How much and how long.
    pub limits: HttpLimits,
    /// Which HTTP.
    pub version: HttpVersion,
    /// Whom to trust beside the system's authorities.
    pub authorities: Authorities,
    /// Who knows addresses.
    pub lookup: Lookup,
}

/// These limits, and the rest as usual.
impl From<HttpLimits> for HttpOptions {
    fn from(limits: HttpLimits) -> Self {
        Self { limits, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        for pem in ["", "words", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", broken] {
            let error = Authorities::from_pem(pem.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("`ca` must be PEM"), "{error}");
        }
        let one = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(Authorities::from_pem(one.repeat(2).as_bytes()).unwrap().0.len(), 2);
    }
}
