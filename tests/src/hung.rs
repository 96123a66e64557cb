//! A node that takes connections and says nothing, and what waiting for it costs this process.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A listener that never accepts: the kernel completes TCP's handshake, and nobody ever answers. This
/// is what a stopped process looks like from outside.
#[derive(Debug)]
pub struct HungNode(TcpListener);

impl HungNode {
    /// Listens on a free port until dropped.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn start() -> Self {
        Self(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"))
    }

    /// Where it listens.
    ///
    /// # Panics
    /// Never: the listener is bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("bound")
    }

    /// Its URL without TLS.
    #[must_use]
    pub fn amqp(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address())
    }

    /// Its URL with TLS.
    #[must_use]
    pub fn amqps(&self) -> String {
        format!("amqps://guest:guest@{}/%2f", self.address())
    }
}

/// What the AMQP connections of this process cost right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// lapin's threads, one per connection or attempt.
    pub threads: usize,
    /// Open sockets of any kind, a socket that is open twice counted once.
    pub sockets: usize,
}

impl Cost {
    /// Counts.
    ///
    /// # Panics
    /// Where there is no `/proc`.
    #[must_use]
    pub fn now() -> Self {
        let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
        let names = tasks.filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("comm")).ok());
        let threads = names.filter(|name| name.trim() == "lapin-io-loop").count();
        let files = std::fs::read_dir("/proc/self/fd").expect("Linux");
        let links = files.filter_map(|f| std::fs::read_link(f.ok()?.path()).ok());
        // By their names: the runtimes of a process hold one for signals several times.
        let sockets: HashSet<_> = links.filter(|l| l.to_string_lossy().starts_with("socket:")).collect();
        let sockets = sockets.len();
        Self { threads, sockets }
    }
}
