//! A private RabbitMQ for one test binary: its own ports, data, Erlang cookie and port mapper, all
//! on the loopback.
//!
//! Rust does not drop statics, and a test may be killed; so a small shell process watches over the
//! broker: it waits for its standard input to end, which happens when the test process is gone in
//! whatever way, and then kills the broker and removes its files.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::node::{Node, program};
use crate::ports::claim_port;

/// How long a broker may take to come up.
const UP_WITHIN: Duration = Duration::from_secs(90);
/// How long it may take to go down in order.
const DOWN_WITHIN: Duration = Duration::from_secs(60);

/// A RabbitMQ node of our own.
#[derive(Debug)]
pub struct Broker {
    node: Node,
    port_mapper: Child,
    server: Mutex<Option<Child>>,
    /// Its standard input is open as long as this process lives.
    watch: Child,
}

impl Broker {
    /// The broker that the tests of one binary share.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a broker and waits until it takes connections (5 to 10 s).
    ///
    /// # Panics
    /// Where RabbitMQ is not installed or does not come up.
    #[must_use]
    pub fn start() -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let server = program("rabbitmq-server");
        assert!(
            server.is_file(),
            "RabbitMQ is not installed ({} is not there); run the tests with `cargo xtask test`, which \
             installs it, or `apt-get install rabbitmq-server`",
            server.display()
        );
        let name = format!("otpd-{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir_all(&dir).expect("the temporary directory takes files");
        fs::write(dir.join("plugins"), "[].").expect("writable");
        fs::write(dir.join("rabbitmq.conf"), "log.console = false\n").expect("writable");
        fs::write(dir.join("advanced.config"), "[].").expect("writable");
        let watch = Command::new("sh")
            .args(["-c", WATCH, "watch"])
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sh is there");
        let [port, dist_port, epmd_port] = [(); 3].map(|()| claim_port());
        // In the foreground: a port mapper that the node starts by itself would outlive it.
        let port_mapper = Command::new("epmd")
            .args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("epmd comes with Erlang");
        fs::write(dir.join("epmd"), port_mapper.id().to_string()).expect("writable");
        let node = Node { dir, name: format!("{name}@localhost"), port, dist_port, epmd_port };
        let broker = Self { node, port_mapper, server: Mutex::new(None), watch };
        broker.start_again();
        broker
    }

    /// Starts the server, which must not be running, and waits until it takes connections.
    ///
    /// # Panics
    /// Where it does not come up.
    pub fn start_again(&self) {
        let log = File::create(self.node.dir.join("out")).expect("writable");
        let mut command = Command::new(program("rabbitmq-server"));
        self.node.environment(&mut command);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log).process_group(0);
        let server = command.spawn().expect("rabbitmq-server starts");
        fs::write(self.node.dir.join("group"), server.id().to_string()).expect("writable");
        *self.server.lock().unwrap() = Some(server);
        let deadline = Instant::now() + UP_WITHIN;
        while !speaks_amqp(self.address()) {
            if Instant::now() > deadline {
                let said = fs::read_to_string(self.node.dir.join("out")).unwrap_or_default();
                panic!("RabbitMQ is not up after {UP_WITHIN:?}; it said: {said}");
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// Makes the server write down what was declared. It does so by itself some time after: a
    /// server killed within the same second forgets queues and bindings.
    pub fn write_down_topology(&self) {
        self.ctl(&["eval", "mnesia:sync_log(), [dets:sync(T) || T <- dets:all()]."]);
    }

    /// Starts the server again with one more listener, for TLS with the certificate and key in these PEM files. They are
    /// read again when others are put there and [`Broker::read_certificates_again`] is called.
    ///
    /// # Panics
    /// Where it does not come up.
    pub fn listen_tls(&self, certificate: &Path, key: &Path) -> SocketAddr {
        let port = claim_port();
        self.stop();
        let (certificate, key) = (certificate.display(), key.display());
        let config = format!(
            "log.console = false\nlisteners.ssl.default = 127.0.0.1:{port}\nssl_options.cacertfile = {certificate}\n\
             ssl_options.certfile = {certificate}\nssl_options.keyfile = {key}\nssl_options.verify = verify_none\n"
        );
        fs::write(self.node.dir.join("rabbitmq.conf"), config).expect("writable");
        self.start_again();
        (Ipv4Addr::LOCALHOST, port).into()
    }

    /// Makes the server use the certificate that is in its file now, as it does of its own accord within minutes.
    pub fn read_certificates_again(&self) {
        self.ctl(&["eval", "ssl:clear_pem_cache()."]);
    }

    /// Kills the server at once.
    ///
    /// # Panics
    /// Where it is not running.
    pub fn kill9(&self) {
        let mut server = self.server.lock().unwrap().take().expect("the broker is running");
        signal("KILL", &format!("-{}", server.id()));
        server.wait().expect("a child can be waited for");
    }

    /// Stops the server in order.
    ///
    /// # Panics
    /// Where it is not running, or does not stop.
    pub fn stop(&self) {
        let mut server = self.server.lock().unwrap().take().expect("the broker is running");
        signal("TERM", &server.id().to_string());
        let deadline = Instant::now() + DOWN_WITHIN;
        while server.try_wait().expect("a child can be waited for").is_none() {
            assert!(Instant::now() < deadline, "RabbitMQ does not stop");
            sleep(Duration::from_millis(50));
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.node.port).into()
    }

    /// The URL of its default virtual host.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.node.port)
    }

    /// A prefix for names that no other test uses: the quick way to be alone.
    #[must_use]
    pub fn prefix(&self) -> String {
        unused_prefix()
    }

    /// The URL of a new virtual host. Takes seconds; see [`Broker::prefix`].
    #[must_use]
    pub fn vhost(&self) -> String {
        let name = self.prefix().replace('.', "");
        self.ctl(&["add_vhost", &name]);
        self.ctl(&["set_permissions", "-p", &name, "guest", ".*", ".*", ".*"]);
        format!("amqp://guest:guest@127.0.0.1:{}/{name}", self.node.port)
    }

    /// Runs `rabbitmqctl` and gives what it wrote.
    ///
    /// # Panics
    /// Where it fails.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        self.node.ctl(arguments)
    }

    /// Enables a plugin of the running server.
    pub fn enable_plugin(&self, name: &str) {
        self.node.plugins(&["enable", name]);
    }

    /// The node behind it, to ask and to trouble.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.watch.stdin.take());
        let _ = self.watch.wait();
        let _ = self.port_mapper.wait();
        if let Some(mut server) = self.server.lock().ok().and_then(|mut s| s.take()) {
            let _ = server.wait();
        }
    }
}

/// Waits for the end of its input, then kills the broker's process group and its port mapper, and
/// removes its files.
const WATCH: &str = r#"
cat > /dev/null
kill -s KILL -- "-$(cat "$1/group")" "$(cat "$1/epmd")" 2> /dev/null
while rm -rf "$1" 2> /dev/null; [ -e "$1" ]; do sleep 0.2; done
"#;

/// A prefix for names that nothing else of this process uses.
pub(crate) fn unused_prefix() -> String {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    format!("t{}.", TAKEN.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn signal(signal: &str, to: &str) {
    let status = Command::new("kill").args(["-s", signal, "--", to]).status().expect("kill is there");
    assert!(status.success(), "kill {signal} {to}");
}

/// Whether somebody there answers the AMQP greeting.
pub(crate) fn speaks_amqp(address: SocketAddr) -> bool {
    let greet = || -> std::io::Result<u8> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"AMQP\x00\x00\x09\x01")?;
        let mut first = [0];
        stream.read_exact(&mut first)?;
        Ok(first[0])
    };
    // A method frame: connection.start.
    greet().is_ok_and(|first| first == 1)
}
