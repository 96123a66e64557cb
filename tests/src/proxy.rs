//! A network that misbehaves on command, between a client and a broker.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Weather {
    /// Bytes go nowhere; connections are taken, and stay.
    swallows: bool,
    /// Connections made before this number are reset.
    resets: u32,
}

/// A TCP proxy on the loopback. Ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Begins to pass connections on to `target`.
    ///
    /// # Panics
    /// Where there is no free port.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (weather, seen) = watch::channel(Weather { swallows: false, resets: 0 });
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, target, seen.clone()));
            }
        });
        Self { address, weather, task }
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

    /// Resets every connection there is. New ones pass.
    pub fn reset_all(&self) {
        self.weather.send_modify(|w| w.resets += 1);
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
    let resets = weather.borrow().resets;
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    // Bad weather is made on command only: no waiting for more bytes.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let reset = tokio::select! {
        () = pump(&mut from_client, &mut to_server, weather.clone()) => false,
        () = pump(&mut from_server, &mut to_client, weather.clone()) => false,
        changed = weather.wait_for(|w| w.resets > resets) => changed.is_ok(),
    };
    if reset {
        // Closing without lingering is a reset.
        let _ = client.set_zero_linger();
        let _ = server.set_zero_linger();
    }
}

async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut weather: watch::Receiver<Weather>,
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
        match read {
            Ok(0) | Err(_) => return,
            Ok(n) => match buffer.get(..n) {
                Some(bytes) if to.write_all(bytes).await.is_ok() => {}
                Some(_) | None => return,
            },
        }
    }
}
