//! A RabbitMQ node as its operator sees it: what `rabbitmqctl` can do that no AMQP connection can.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where a node's files are and how it is reached. Clones name the same node.
#[derive(Clone, Debug)]
pub struct Node {
    pub(crate) dir: PathBuf,
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) dist_port: u16,
    pub(crate) epmd_port: u16,
}

impl Node {
    /// Runs `rabbitmqctl` and gives what it wrote.
    ///
    /// # Panics
    /// Where it fails.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(program("rabbitmqctl"));
        self.environment(&mut command);
        let output =
            command.arg("-q").args(arguments).stdin(Stdio::null()).output().expect("rabbitmqctl starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "rabbitmqctl {arguments:?} failed: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `rabbitmq-plugins`.
    pub(crate) fn plugins(&self, arguments: &[&str]) {
        let mut command = Command::new(program("rabbitmq-plugins"));
        self.environment(&mut command);
        let output = command.args(arguments).stdin(Stdio::null()).output().expect("rabbitmq-plugins starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "rabbitmq-plugins {arguments:?} failed: {said}");
    }

    /// How many messages are in the queues whose names begin with `prefix`, in all virtual hosts, those
    /// that are handed out and not acknowledged included; streams are left out. Asks the queues
    /// themselves: what the broker reports of its own accord is seconds old.
    ///
    /// # Panics
    /// Where the node does not answer.
    #[must_use]
    pub fn messages_in(&self, prefix: &str) -> u64 {
        let total = format!(
            r#"F = fun(Q) ->
                 {{resource, _, queue, Name}} = amqqueue:get_name(Q),
                 case {{string:prefix(Name, <<"{prefix}">>), amqqueue:get_type(Q)}} of
                   {{nomatch, _}} -> 0;
                   {{_, rabbit_stream_queue}} -> 0;
                   {{_, rabbit_quorum_queue}} ->
                     {{ok, {{_, N}}, _}} = ra:leader_query(amqqueue:get_pid(Q), fun rabbit_fifo:query_messages_total/1),
                     N;
                   {{_, _}} -> [{{messages, N}}] = rabbit_amqqueue:info(Q, [messages]), N
                 end
               end,
               lists:sum([F(Q) || Q <- rabbit_amqqueue:list()])."#
        );
        let answer = self.ctl(&["eval", &total]);
        answer.trim().parse().unwrap_or_else(|_| panic!("not a number of messages: {answer}"))
    }

    /// Stops the process behind a quorum queue, as a leader without a majority: it takes messages and
    /// confirms none, while everything else of the broker answers.
    pub fn freeze_queue(&self, vhost: &str, queue: &str) {
        self.ctl(&["eval", &format!("sys:suspend({{'{vhost}_{queue}', node()}}).")]);
    }

    /// Lets it go on.
    pub fn thaw_queue(&self, vhost: &str, queue: &str) {
        self.ctl(&["eval", &format!("sys:resume({{'{vhost}_{queue}', node()}}).")]);
    }

    pub(crate) fn environment(&self, command: &mut Command) {
        let path = |name: &str| self.dir.join(name);
        command
            .env("HOME", &self.dir)
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", &self.name)
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.dist_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", path("data"))
            .env("RABBITMQ_LOG_BASE", path("log"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", path("advanced.config"))
            .env("RABBITMQ_PID_FILE", path("pid"))
            // On the loopback only, and without busy waiting: tests share few cores.
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none",
            );
    }
}

/// A program of RabbitMQ's own directory: the ones in `/usr/sbin` insist on Debian's user.
pub(crate) fn program(name: &str) -> PathBuf {
    let bin = std::env::var_os("RABBITMQ_BIN").map_or_else(|| "/usr/lib/rabbitmq/bin".into(), PathBuf::from);
    Path::new(&bin).join(name)
}
