//! Mock providers: all six kinds on one port, each at its real path, answering as documented.
//!
//! Strict in three ways that a friendly stub is not. The *contract*: a request that the real provider
//! would refuse is refused, in its words (`kinds/`). The *ceiling*: an exact sliding window per
//! account, and the count of every arrival, refused ones too (`window.rs`). The *book*: what was sent is
//! sent, whatever the client was told or however its connection ended (`account.rs`, `fault.rs`).
//!
//! What was sent has states afterwards, for who asks and, where a [`Control`] says so, by callbacks (`callbacks/`).
//!
//! Read `serve.rs` for the way of one request. It asks for no credential of its own, so it belongs on a
//! loopback or test network; anything is accepted as a provider's credential until a [`Control`] says
//! otherwise.

mod account;
mod callbacks;
mod contract;
mod control;
mod door;
mod endpoint;
mod ends;
mod fault;
mod fault_text;
mod frames;
mod gzip;
mod kind;
mod kinds;
mod latency;
mod outbox;
mod reply;
mod serve;
mod sessions;
mod settings;
mod stats;
mod timed;
mod tls;
mod window;
mod wire;
mod wire_fault;
mod world;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use callbacks::settings::{Address, CallTo, Callbacks, InvalidAddress, InvalidCallbacks};
pub use callbacks::shares::{InvalidShares, Shares};
pub use control::{Accounts, Balance, Control, InvalidControl};
pub use fault::FaultPlan;
pub use fault_text::InvalidFault;
pub use kind::{Kind, UnknownKind};
pub use latency::{InvalidLatency, Latency};
pub use outbox::fingerprint;
pub use stats::{AccountStats, CallbackStats, SentMessage, Stats, WindowStats};
pub use tls::{Certificate, UnknownCertificate};

use callbacks::caller;
use door::Door;
use tls::Tls;
use world::World;

/// The most accounts of one kind; a request from one more gets the answer to a wrong credential.
pub const MAX_ACCOUNTS: usize = 1000;

/// How long [`Mock::stop`] waits for connections to close.
const GRACE: Duration = Duration::from_secs(5);

/// What a mock starts with.
#[derive(Clone)]
pub struct MockConfig {
    /// What chance is drawn from: the same seed gives the same faults to the same attempts.
    pub seed: u64,
    /// How many arrivals are remembered for each account (8 bytes each, as they come). A window in
    /// which more arrive can only be counted up to here. Default 2,097,152: 60 s at 34,000 a second.
    pub arrivals_kept: usize,
    /// How long a session lasts (Meta on-premises). Default 7 days.
    pub token_ttl: Duration,
    /// How the accounts are; carried out in order.
    pub setup: Vec<Control>,
    /// With which certificate HTTPS is spoken; `None` is plain HTTP. HTTP/1.1 and HTTP/2 are spoken both ways.
    pub tls: Option<Certificate>,
    /// How many requests may be open on one HTTP/2 connection. Default 100. 0: only HTTP/1.1 is spoken, and TLS
    /// agrees on no protocol, as terminators do that know of none.
    pub streams: u32,
}

impl Default for MockConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            arrivals_kept: 1 << 21,
            token_ttl: Duration::from_secs(7 * 86_400),
            setup: Vec::new(),
            tls: None,
            streams: 100,
        }
    }
}

impl MockConfig {
    /// The same with one more control.
    #[must_use]
    pub fn with(mut self, control: Control) -> Self {
        self.setup.push(control);
        self
    }
}

/// A listener that takes a burst of connections: where its queue overflows the kernel drops them, and
/// they come again a second later.
fn listening(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(4096)
}

/// A running mock. Dropped, it stops listening without waiting.
pub struct Mock {
    addr: SocketAddr,
    authority: Option<String>,
    world: Arc<World>,
    serving: JoinHandle<()>,
}

impl Mock {
    /// Listens on `listen` (port 0 for any) and serves until stopped.
    ///
    /// # Errors
    /// Where it cannot listen there.
    pub async fn start(config: MockConfig, listen: SocketAddr) -> io::Result<Self> {
        let listener = listening(listen)?;
        let addr = listener.local_addr()?;
        let world = Arc::new(World::new(&config));
        let tls = config.tls.map(|kind| Tls::new(kind, addr, config.streams > 0)).transpose()?;
        let (acceptor, authority) = tls.map(|tls| (tls.acceptor, tls.authority)).unzip();
        let door = Door { tls: acceptor, streams: config.streams, world: world.clone() };
        let serving = tokio::spawn(door.serve(listener));
        // Ends by itself when the mock does.
        tokio::spawn(caller::run(world.clone()));
        Ok(Self { addr, authority, world, serving })
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its address as a provider's base URL: `http://127.0.0.1:1234`, or with `https`.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.addr)
    }

    /// The certificate of the authority that is to be trusted, as PEM, where it speaks HTTPS.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// How many connections it has accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.world.connections.load(Ordering::Relaxed)
    }

    /// What it counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.world.stats()
    }

    /// The last messages it sent, newest first, at most `limit`.
    #[must_use]
    pub fn messages(&self, limit: usize) -> Vec<SentMessage> {
        self.world.messages(None, None, limit)
    }

    /// When requests to send arrived at the accounts with this name, in microseconds since the start.
    #[must_use]
    pub fn arrivals(&self, kind: Kind, account: &str) -> Vec<u64> {
        self.world.accounts(Some(kind), Some(account)).iter().flat_map(|a| a.arrivals(usize::MAX)).collect()
    }

    /// Changes how accounts behave, from the next request on.
    pub fn control(&self, control: &Control) {
        self.world.control(control);
    }

    /// Forgets what was counted and sent; balances, sessions and how full limits are stay.
    pub fn reset_stats(&self) {
        self.world.reset_stats();
    }

    /// Answers what is open, resets what stalls, closes every connection, and returns the final counts.
    pub async fn stop(mut self) -> Stats {
        self.world.ending.cancel();
        if timeout(GRACE, &mut self.serving).await.is_err() {
            tracing::warn!("connections were still open when the mock stopped");
        }
        self.world.stats()
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.world.ending.cancel();
        self.serving.abort();
    }
}
