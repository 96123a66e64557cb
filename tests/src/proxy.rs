//! A network that misbehaves on command, between a client and a broker.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// So many bytes of a client's are kept, to know which connection it is.
const HANDSHAKE: usize = 4096;

/// What happens to traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Weather {
    /// Bytes go nowhere; connections are taken, and stay.
    swallows: bool,
    /// How long bytes take.
    latency: Duration,
    /// Connections made before this number are reset.
    resets: u32,
    /// Connections in whose handshake this stands are half dead.
    half_dead: Option<&'static str>,
    /// ...if they were made before this number.
    half_kills: u32,
    /// Connections in whose handshake this stands are reset, new ones too.
    keeps_out: Option<&'static str>,
}

/// A TCP proxy on the loopback. Ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    taken: Arc<AtomicU32>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Begins to pass connections on to `target`.
    ///
    /// # Panics
    /// Where there is no free port.
    pub async fn start(target: SocketAddr) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), target).await
    }

    /// The same where `at` says: before that, whoever connects there is refused.
    ///
    /// # Panics
    /// Where somebody listens there.
    pub async fn start_at(at: SocketAddr, target: SocketAddr) -> Self {
        let listener = TcpListener::bind(at).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (weather, seen) = watch::channel(Weather {
            swallows: false,
            latency: Duration::ZERO,
            resets: 0,
            half_dead: None,
            half_kills: 0,
            keeps_out: None,
        });
        let taken = Arc::new(AtomicU32::new(0));
        let count = taken.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(pass(client, target, seen.clone()));
            }
        });
        Self { address, weather, taken, task }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// An AMQP URL through it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address)
    }

    /// How many connections were made so far.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Resets every connection there is. New ones pass.
    pub fn reset_all(&self) {
        self.weather.send_modify(|w| w.resets += 1);
    }

    /// Ends the broker's side of the connections there are in whose handshake `name` stands, and tells their
    /// client nothing: what it sends goes nowhere. New ones pass.
    pub fn half_kill(&self, name: &'static str) {
        self.weather.send_modify(|w| {
            w.half_kills += 1;
            w.half_dead = Some(name);
        });
    }

    /// Lets every byte take so long from now on.
    pub fn slow_down(&self, latency: Duration) {
        self.weather.send_modify(|w| w.latency = latency);
    }

    /// Resets the connections in whose handshake `name` stands, and each new one as soon as it says so.
    pub fn keep_out(&self, name: &'static str) {
        self.weather.send_modify(|w| w.keeps_out = Some(name));
    }

    /// Lets them in again.
    pub fn let_in(&self) {
        self.weather.send_modify(|w| w.keeps_out = None);
    }

    /// Holds back every byte from now on, as a network does that loses packets.
    pub fn swallow(&self) {
        self.weather.send_modify(|w| w.swallows = true);
    }

    /// Lets bytes pass again, those held back included.
    pub fn resume(&self) {
        self.weather.send_modify(|w| w.swallows = false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(mut client: TcpStream, target: SocketAddr, mut weather: watch::Receiver<Weather>) {
    let (resets, half_kills) = (weather.borrow().resets, weather.borrow().half_kills);
    let handshake = Mutex::new(Vec::new());
    let is_named = |name: &str| {
        let said = handshake.lock().unwrap_or_else(PoisonError::into_inner);
        said.windows(name.len()).any(|window| window == name.as_bytes())
    };
    let (mut kills, mut unwelcome) = (weather.clone(), weather.clone());
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    // Bad weather is made on command only: no waiting for more bytes.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let end = tokio::select! {
        () = pump(&mut from_client, &mut to_server, weather.clone(), Some(&handshake)) => End::Closed,
        () = pump(&mut from_server, &mut to_client, weather.clone(), None) => End::Closed,
        changed = weather.wait_for(|w| w.resets > resets) => if changed.is_ok() { End::Reset } else { End::Closed },
        Ok(_) = unwelcome.wait_for(|w| w.keeps_out.is_some_and(is_named)) => End::Reset,
        Ok(_) = kills.wait_for(|w| w.half_kills > half_kills && w.half_dead.is_some_and(is_named)) => End::HalfDead,
    };
    match end {
        End::Closed => {}
        End::Reset => {
            // Closing without lingering is a reset.
            let _ = client.set_zero_linger();
            let _ = server.set_zero_linger();
        }
        End::HalfDead => {
            drop(server);
            // What the client says goes nowhere, until it gives up.
            let _ = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
        }
    }
}

/// How a connection ends.
enum End {
    Closed,
    Reset,
    HalfDead,
}

async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut weather: watch::Receiver<Weather>,
    handshake: Option<&Mutex<Vec<u8>>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        if weather.wait_for(|w| !w.swallows).await.is_err() {
            return;
        }
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            Ok(_) = weather.wait_for(|w| w.swallows) => continue,
        };
        let latency = weather.borrow().latency;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        match read {
            Ok(0) | Err(_) => return,
            Ok(n) => match buffer.get(..n) {
                Some(bytes) => {
                    if !is_welcome(bytes, handshake, &weather) || to.write_all(bytes).await.is_err() {
                        return;
                    }
                }
                None => return,
            },
        }
    }
}

/// Remembers what a client says first; false if whoever says that is kept out.
fn is_welcome(bytes: &[u8], handshake: Option<&Mutex<Vec<u8>>>, weather: &watch::Receiver<Weather>) -> bool {
    let Some(handshake) = handshake else { return true };
    let kept_out = weather.borrow().keeps_out;
    let mut said = handshake.lock().unwrap_or_else(PoisonError::into_inner);
    let room = HANDSHAKE.saturating_sub(said.len()).min(bytes.len());
    said.extend(bytes.get(..room).unwrap_or_default());
    let is_named = |name: &str| said.windows(name.len()).any(|window| window == name.as_bytes());
    room == 0 || !kept_out.is_some_and(is_named)
}
