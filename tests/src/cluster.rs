//! A private RabbitMQ cluster of three nodes on the loopback: for what only a cluster does, such as
//! moving a queue's leader, or going on without a node that hangs.
//!
//! Node 0, 1 and 2 have their own ports and data, and one Erlang cookie and port mapper together. They find
//! each other when they first start. Like [`crate::Broker`] it ends with the test process, in whatever way
//! that ends: a shell process watches over it.

#![allow(clippy::indexing_slicing, reason = "a test that names a node that is not there fails")]

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::broker::{signal, speaks_amqp};
use crate::node::{Node, program};
use crate::ports::claim_port;
use crate::scene::Site;

/// How many nodes there are.
pub const NODES: usize = 3;
/// How long a node may take to come up, beside other load.
const UP_WITHIN: Duration = Duration::from_secs(180);

/// How a cluster treats a node that does not answer.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// After about this long without a sign of life the others take a node for dead.
    pub net_ticktime: Duration,
    /// Whether a node that does not see a majority stops serving.
    pub pause_minority: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { net_ticktime: Duration::from_secs(10), pause_minority: true }
    }
}

/// A cluster of our own.
#[derive(Debug)]
pub struct Cluster {
    nodes: [Node; NODES],
    servers: [Mutex<Option<Child>>; NODES],
    port_mapper: Child,
    /// Its standard input is open as long as this process lives.
    watch: Child,
}

impl Cluster {
    /// Starts all nodes at once, and waits until they are one cluster (10 to 25 s).
    ///
    /// # Panics
    /// Where RabbitMQ is not installed or the cluster does not come up.
    #[must_use]
    pub fn start(settings: Settings) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let name = format!("otpd-cluster-{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir_all(&dir).expect("the temporary directory takes files");
        let watch =
            start_in_a_group(Command::new("sh").args(["-c", WATCH, "watch"]).arg(&dir), Stdio::piped());
        let epmd_port = claim_port();
        let mut epmd = Command::new("epmd");
        epmd.args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"]);
        let port_mapper = start_in_a_group(&mut epmd, Stdio::null());
        fs::write(dir.join("epmd"), port_mapper.id().to_string()).expect("writable");
        let nodes = std::array::from_fn(|n| Node {
            dir: dir.join(n.to_string()),
            name: format!("{name}-{n}@localhost"),
            port: claim_port(),
            dist_port: claim_port(),
            epmd_port,
        });
        for node in &nodes {
            write_settings(node, &nodes, settings);
        }
        let cluster = Self { nodes, servers: [const { Mutex::new(None) }; NODES], port_mapper, watch };
        for n in 0..NODES {
            cluster.spawn(n);
        }
        cluster.wait_until_whole();
        cluster
    }

    fn spawn(&self, n: usize) {
        let (node, mut server) = (&self.nodes[n], self.servers[n].lock().unwrap());
        assert!(server.is_none(), "node {n} is running");
        let log = File::create(node.dir.join("out")).expect("writable");
        let mut command = Command::new(program("rabbitmq-server"));
        node.environment(&mut command);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log).process_group(0);
        let child = command.spawn().expect("rabbitmq-server starts");
        fs::write(node.dir.join("group"), child.id().to_string()).expect("writable");
        *server = Some(child);
    }

    /// Waits until every node takes connections and sees all the others.
    fn wait_until_whole(&self) {
        let deadline = Instant::now() + UP_WITHIN;
        for node in &self.nodes {
            while !speaks_amqp(address(node)) {
                if Instant::now() > deadline {
                    panic!(
                        "a node of the cluster is not up after {UP_WITHIN:?}; it said: {}",
                        said(&node.dir)
                    );
                }
                sleep(Duration::from_millis(50));
            }
        }
        let all = NODES.to_string();
        for node in &self.nodes {
            node.ctl(&["await_online_nodes", &all, "--timeout", "120"]);
        }
    }

    /// Kills a node at once, one that is paused too.
    ///
    /// # Panics
    /// Where it is not running.
    pub fn kill9(&self, n: usize) {
        let mut server = self.servers[n].lock().unwrap().take().expect("the node is running");
        signal("KILL", &format!("-{}", server.id()));
        server.wait().expect("a child can be waited for");
    }

    /// Starts a node that was killed, and waits until it is part of the cluster again.
    ///
    /// # Panics
    /// Where it does not come up.
    pub fn start_again(&self, n: usize) {
        self.spawn(n);
        self.wait_until_whole();
    }

    /// Stops a node from doing anything: its connections stay, and nobody answers.
    ///
    /// # Panics
    /// Where it is not running.
    pub fn pause(&self, n: usize) {
        self.signal(n, "STOP");
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// Where it is not running.
    pub fn resume(&self, n: usize) {
        self.signal(n, "CONT");
    }

    fn signal(&self, n: usize, name: &str) {
        let server = self.servers[n].lock().unwrap();
        signal(name, &format!("-{}", server.as_ref().expect("the node is running").id()));
    }

    /// The node that leads a queue or a stream, as node `asked` sees it.
    ///
    /// # Panics
    /// Where there is no such queue, or no node leads it.
    #[must_use]
    pub fn leader_of(&self, queue: &str, asked: usize) -> usize {
        let question = format!(
            r#"{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>)),
               case amqqueue:get_pid(Q) of {{_, Node}} -> Node; Pid -> node(Pid) end."#
        );
        let answer = self.nodes[asked].ctl(&["eval", &question]);
        let named = answer.trim().trim_matches('\'');
        let leader = self.nodes.iter().position(|node| node.name == named);
        leader.unwrap_or_else(|| panic!("no node is called {answer}"))
    }

    /// A node, to ask and to trouble.
    #[must_use]
    pub fn node(&self, n: usize) -> &Node {
        &self.nodes[n]
    }

    /// Where a node listens.
    #[must_use]
    pub fn address(&self, n: usize) -> SocketAddr {
        address(&self.nodes[n])
    }

    /// The URL of a node.
    #[must_use]
    pub fn url(&self, n: usize) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address(n))
    }

    /// A place for a scene with names of its own. Its queues are led by node `leads` at first; the test itself
    /// speaks to node `home`, which should be one that stays well.
    #[must_use]
    pub fn site(&self, leads: usize, home: usize) -> Site {
        Site {
            prefix: crate::broker::unused_prefix(),
            urls: (0..NODES).map(|n| self.url(n)).collect(),
            home_url: self.url(home),
            home: self.nodes[home].clone(),
            leader_url: self.url(leads),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.watch.stdin.take());
        let _ = self.watch.wait();
        let _ = self.port_mapper.wait();
        for server in &self.servers {
            if let Some(mut server) = server.lock().ok().and_then(|mut s| s.take()) {
                let _ = server.wait();
            }
        }
    }
}

/// Waits for the end of its input, then kills the process groups of all nodes and the port mapper, and
/// removes their files.
const WATCH: &str = r#"
cat > /dev/null
for group in "$1"/*/group; do kill -s KILL -- "-$(cat "$group")" 2> /dev/null; done
kill -s KILL "$(cat "$1/epmd")" 2> /dev/null
while rm -rf "$1" 2> /dev/null; [ -e "$1" ]; do sleep 0.2; done
"#;

fn start_in_a_group(command: &mut Command, stdin: Stdio) -> Child {
    let command = command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn().unwrap_or_else(|e| panic!("{command:?} does not start: {e}"))
}

/// The files that a node reads when it starts.
fn write_settings(node: &Node, all: &[Node], settings: Settings) {
    let write = |name: &str, text: &str| fs::write(node.dir.join(name), text).expect("writable");
    fs::create_dir_all(&node.dir).expect("the temporary directory takes files");
    write(".erlang.cookie", "one cookie for all nodes");
    let only_mine = fs::Permissions::from_mode(0o400);
    fs::set_permissions(node.dir.join(".erlang.cookie"), only_mine).expect("its own file");
    write("plugins", "[].");
    let handling = if settings.pause_minority { "pause_minority" } else { "ignore" };
    write(
        "rabbitmq.conf",
        &format!(
            "log.console = false\nnet_ticktime = {}\ncluster_partition_handling = {handling}\n",
            settings.net_ticktime.as_secs()
        ),
    );
    // Here and not in rabbitmq.conf, where RabbitMQ 4 refuses to hear of the delay that RabbitMQ 3.10 waits
    // for (5 to 60 s unless told) before nodes look for each other.
    let names: Vec<String> = all.iter().map(|node| format!("'{}'", node.name)).collect();
    write(
        "advanced.config",
        &format!(
            "[{{rabbit, [{{cluster_nodes, {{[{}], disc}}}},\n  {{cluster_formation, [{{peer_discovery_backend, \
             rabbit_peer_discovery_classic_config}}, {{node_type, disc}}, {{randomized_startup_delay_range, {{0, \
             1}}}}]}}]}}].\n",
            names.join(", ")
        ),
    );
}

fn address(node: &Node) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, node.port).into()
}

/// What a node wrote before it got so far as to have a log, and the end of its log.
fn said(dir: &Path) -> String {
    let mut files: Vec<PathBuf> = vec![dir.join("out")];
    let logs = fs::read_dir(dir.join("log")).into_iter().flatten().filter_map(Result::ok);
    files.extend(logs.map(|entry| entry.path()));
    let texts = files.iter().map(|file| fs::read_to_string(file).unwrap_or_default());
    texts.map(|text| text.lines().rev().take(40).collect::<Vec<_>>().join("\n")).collect()
}
