//! HTTP clients, made alike. The trusted authorities are read once for all of them.
//!
//! Nothing is left to the client's defaults that could send a code twice or elsewhere: no redirects
//! (a 307 would repeat the POST), no retries of its own, no proxy from the environment.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::Client;
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls_platform_verifier::Verifier;

use super::hosts::Hosts;
use crate::endpoint::SetupError;
use crate::options::{Authorities, HttpLimits};

/// How long an unused connection is kept: below what load balancers usually keep theirs.
const IDLE: Duration = Duration::from_secs(20);
/// How often an HTTP/2 connection that owes answers is asked whether it still lives, and how long it may
/// take to say so. Together they are what a silent connection can hold a lane for.
const PING: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(3));
/// The most bytes of an answer's headers.
const MAX_HEADERS: u32 = 64 * 1024;

/// Which HTTP a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: one connection for all requests.
    Http2,
    /// What the TLS handshake comes to, for each connection by itself.
    Either,
}

/// What clients are made of.
pub(crate) struct Maker {
    limits: HttpLimits,
    tls: Option<ClientConfig>,
    hosts: Hosts,
}

impl Maker {
    /// For an address with TLS, or for one without, which needs no authorities on this machine.
    ///
    /// # Errors
    /// Where the process has no TLS provider, or the authorities cannot be read.
    pub(crate) fn new(
        is_encrypted: bool,
        limits: HttpLimits,
        authorities: &Authorities,
        hosts: Hosts,
    ) -> Result<Self, SetupError> {
        let provider = CryptoProvider::get_default().ok_or(SetupError::NoTls)?;
        let tls = if is_encrypted { Some(tls(provider, authorities)?) } else { None };
        Ok(Self { limits, tls, hosts })
    }

    /// One more client, with connections of its own.
    ///
    /// # Errors
    /// Where the client cannot be built.
    pub(crate) fn make(&self, spoken: Spoken) -> Result<Client, reqwest::Error> {
        let mut headers = HeaderMap::with_capacity(1);
        // Without it any compression would be allowed (RFC 9110, 12.5.3).
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let client = Client::builder()
            .user_agent(concat!("otpd/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .dns_resolver(self.hosts.clone())
            .connect_timeout(self.limits.connect_timeout)
            .timeout(self.limits.timeout)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(self.limits.max_in_flight.max(1))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING.0)
            .http2_keep_alive_timeout(PING.1)
            .http2_max_header_list_size(MAX_HEADERS);
        let (client, offered): (_, &[&[u8]]) = match spoken {
            Spoken::Http1 => (client.http1_only(), &[b"http/1.1"]),
            Spoken::Http2 => (client.http2_prior_knowledge(), &[b"h2"]),
            Spoken::Either => (client, &[b"h2", b"http/1.1"]),
        };
        let client = match self.tls.clone() {
            Some(mut tls) => {
                tls.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
                client.tls_backend_preconfigured(tls)
            }
            None => client.tls_certs_only([]),
        };
        client.build()
    }
}

fn tls(provider: &Arc<CryptoProvider>, authorities: &Authorities) -> Result<ClientConfig, SetupError> {
    let verifier = Verifier::new_with_extra_roots(authorities.0.iter().cloned(), provider.clone())
        .map_err(SetupError::Authorities)?;
    Ok(ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(SetupError::Authorities)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}
