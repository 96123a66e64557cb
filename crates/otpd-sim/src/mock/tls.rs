//! HTTPS with an authority of the mock's own, made when it starts: whoever is to trust the mock is told of
//! it, and nobody else can be made to.

use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::TlsAcceptor;

/// What is wrong with the mock's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Certificate {
    /// Nothing: it is for `localhost` and the loopback addresses.
    #[default]
    Valid,
    /// It expired in 2024.
    Expired,
    /// It is for `elsewhere.example`.
    OtherName,
}

/// A text that names no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be valid, expired or other_name")]
pub struct UnknownCertificate;

impl FromStr for Certificate {
    type Err = UnknownCertificate;

    fn from_str(text: &str) -> Result<Self, UnknownCertificate> {
        match text {
            "valid" => Ok(Self::Valid),
            "expired" => Ok(Self::Expired),
            "other_name" => Ok(Self::OtherName),
            _ => Err(UnknownCertificate),
        }
    }
}

/// What a mock speaks TLS with.
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    /// The authority's certificate, as PEM.
    pub(crate) authority: String,
}

impl Tls {
    /// Makes an authority and a certificate for a server at `addr`; `agrees` on a protocol, or does not.
    pub(crate) fn new(kind: Certificate, addr: SocketAddr, agrees: bool) -> io::Result<Self> {
        Self::make(kind, addr, agrees).map_err(io::Error::other)
    }

    fn make(
        kind: Certificate,
        addr: SocketAddr,
        agrees: bool,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let mut params = CertificateParams::default();
        // Its own name, so that nobody takes one mock's authority for another's.
        let name = format!("otpd mock authority {}", uuid::Uuid::new_v4());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

        let names = match kind {
            Certificate::Valid | Certificate::Expired => {
                vec!["localhost".to_owned(), "127.0.0.1".into(), "::1".into(), addr.ip().to_string()]
            }
            Certificate::OtherName => vec!["elsewhere.example".to_owned()],
        };
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "otpd mock");
        if kind == Certificate::Expired {
            params.not_before = date_time_ymd(2023, 1, 1);
            params.not_after = date_time_ymd(2024, 1, 1);
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())?;
        if agrees {
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        }
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), authority: issuer.pem() })
    }
}
