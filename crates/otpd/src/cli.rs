//! The command line: what can be asked, and the help that says so. Parsing is clap's; what a value
//! must be is said by the types it is parsed into. Wrong use exits with 2.

mod dead;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use otpd_core::{JobId, ProviderName, RouteName};
use otpd_sim::Certificate;

use crate::commands::load::LoadArgs;
use crate::config::{Environment, Sources};
use crate::version;

pub use self::dead::{DeadCommand, FilterArgs};
pub use self::watch::{ExplainArgs, TopArgs};

/// One-time passwords to phones: fast, once, within every provider's limits.
///
/// otpd takes send jobs from RabbitMQ (or an embedded queue), obeys each provider's rate ceiling, retries
/// and fails over, and tells what became of every job. Start with `otpd demo`: it needs nothing.
#[derive(Debug, Parser)]
#[command(name = "otpd", version = version::VERSION, long_version = version::LONG)]
#[command(arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong use or wrong config.")]
pub struct Cli {
    /// What applies to every command.
    #[command(flatten, next_help_heading = "Everywhere")]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What applies to every command.
#[derive(Debug, Args)]
pub struct Common {
    /// Config file [default: ./otpd.toml where there is one, else the built-in defaults].
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Overrides one key of the config; may be repeated. Goes before OTPD__SECTION__KEY variables.
    #[arg(long = "set", global = true, value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
    /// What is logged: a level, or a filter such as `info,otpd_queue=debug` [default: telemetry.log_level].
    #[arg(long, global = true, value_name = "FILTER", env = "OTPD_LOG")]
    pub log_level: Option<String>,
}

impl Common {
    /// Where this process's config comes from.
    #[must_use]
    pub fn sources(&self) -> Sources {
        Sources {
            file: self.config.clone(),
            environment: Environment::of_process(),
            sets: self.sets.clone(),
            ..Sources::default()
        }
    }
}

/// All commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows it all in under a minute: embedded queue, mock providers with real ceilings and faults.
    Demo(DemoArgs),
    /// Gateway and worker in one process, until SIGTERM. Without `broker.url` the queue is the file ./otpd.db.
    Serve,
    /// Works: takes jobs from the queue and sends them, until SIGTERM.
    Worker,
    /// HTTP in: takes jobs, tells their states, and hears what providers say, until SIGTERM.
    Gateway,
    /// Runs mock providers of all kinds on one port, for load tests and demos, until Ctrl-C.
    Mock(MockArgs),
    /// Puts one job into the queue, and with --wait follows it to its end.
    Send(SendArgs),
    /// Load test: publishes at a rate, follows every job to its end, judges, and reports with plots.
    Load(Box<LoadArgs>),
    /// Shows what happened to one job, step by step, and why.
    Explain(ExplainArgs),
    /// Shows all lanes live: rates against ceilings, backlog, latency, pauses with their reasons.
    Top(TopArgs),
    /// Looks at everything outside: config, broker, topology, events, dead letters, providers. Changes nothing.
    Doctor(Json),
    /// Lists, shows, replays and purges dead letters.
    #[command(subcommand)]
    Dead(DeadCommand),
    /// Declares the broker's exchanges and queues, or compares them with the config.
    #[command(subcommand)]
    Topology(TopologyCommand),
    /// Asks a running worker whether it is healthy: exit code 0 yes, 1 no. For containers.
    Health(HealthArgs),
    /// Checks and shows the config.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// `--json`, on every command that prints a table.
#[derive(Clone, Copy, Debug, Args)]
pub struct Json {
    /// Prints JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Of `otpd demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How many jobs.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub jobs: u32,
    /// The seed of all that is left to chance.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The form of the output.
    #[command(flatten)]
    pub json: Json,
}

/// Of `otpd mock`.
#[derive(Debug, Args)]
pub struct MockArgs {
    /// Where it listens; port 0 takes a free one.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8090")]
    pub listen: SocketAddr,
    /// Ceiling of a kind; a further one for the same kind holds as well.
    #[arg(long = "ceiling", value_name = "KIND=COUNT/TIME")]
    pub ceilings: Vec<String>,
    /// How long a kind takes to answer: 50ms, 20ms..80ms, or p50=80ms,p99=400ms.
    #[arg(long = "latency", value_name = "KIND=TIME")]
    pub latencies: Vec<String>,
    /// What goes wrong, such as `verihubs:429=5%,500=5%,reset=1%` or, on the wire,
    /// `msgai:cut=1%,open_end=1%,drip=1%,late(12s)=1%,gzip=1%,hints=1%,huge_head=1%,silence=1%` and over HTTP/2
    /// `msgai:goaway=1%,refused=1%`.
    #[arg(long = "fault", value_name = "KIND:FAULT=WHEN,...")]
    pub faults: Vec<String>,
    /// Where a kind calls back, such as `msgai=http://127.0.0.1:8080/callbacks/msgai/TOKEN`.
    #[arg(long = "callback", value_name = "KIND=URL")]
    pub callbacks: Vec<String>,
    /// How long until a message of a kind is delivered, written as a latency.
    #[arg(long = "callback-delay", value_name = "KIND=TIME")]
    pub callback_delays: Vec<String>,
    /// What becomes of which share of a kind's messages and callbacks:
    /// `verihubs:undelivered=5%,failed=2%,read=50%,silent=1%,early=5%,shuffled=10%,twice=10%`.
    #[arg(long = "callback-share", value_name = "KIND:WHAT=SHARE,...")]
    pub callback_shares: Vec<String>,
    /// What a kind signs its callbacks with (meta_cloud, msgai).
    #[arg(long = "callback-secret", value_name = "KIND=SECRET")]
    pub callback_secrets: Vec<String>,
    /// Speaks HTTPS, with a certificate of an authority that is made now and whose own certificate is written
    /// into this file: a provider's config trusts it by `ca = { file = "FILE" }`.
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// What is wrong with that certificate: expired, or other_name (it is for another host).
    #[arg(long, value_name = "WHAT", default_value = "valid", requires = "tls_ca", value_parser = certificate)]
    pub tls_certificate: Certificate,
    /// How many requests may be open on one HTTP/2 connection.
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub streams: u32,
    /// The seed of all that is left to chance.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The form of the output.
    #[command(flatten)]
    pub json: Json,
}

/// Of `otpd send`.
#[derive(Args)]
pub struct SendArgs {
    /// Route, or provider.
    #[arg(long, value_name = "NAME", value_parser = route)]
    pub route: RouteName,
    /// Recipient: E.164, such as +628123456890.
    #[arg(long, value_name = "PHONE")]
    pub to: String,
    /// The code, 4 to 15 of 0-9 A-Z a-z. `-` reads it from standard input: a code on the command line
    /// can be seen by every process of this machine.
    #[arg(long, value_name = "CODE")]
    pub code: String,
    /// What the code is for [default: default].
    #[arg(long, value_name = "TEXT")]
    pub purpose: Option<String>,
    /// How long the code is valid [default: the route's ttl].
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub ttl: Option<Duration>,
    /// The job's id, its idempotency key [default: a new one].
    #[arg(long, value_name = "ID", value_parser = job)]
    pub id: Option<JobId>,
    /// Template, instead of the provider's default.
    #[arg(long, value_name = "NAME")]
    pub template: Option<String>,
    /// Language of the template.
    #[arg(long, value_name = "CODE")]
    pub language: Option<String>,
    /// Namespace of the template.
    #[arg(long, value_name = "TEXT")]
    pub namespace: Option<String>,
    /// Echoed in every event; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub metadata: Vec<(String, String)>,
    /// Follows the job, and prints what happens to it, until it is over.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait for that.
    #[arg(long, value_name = "TIME", requires = "wait", default_value = "60s", value_parser = time)]
    pub timeout: Duration,
    /// The form of the output.
    #[command(flatten)]
    pub json: Json,
}

/// Shows neither number nor code.
impl std::fmt::Debug for SendArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendArgs").field("route", &self.route).field("id", &self.id).finish_non_exhaustive()
    }
}

/// `otpd topology ...`
#[derive(Debug, Subcommand)]
pub enum TopologyCommand {
    /// Declares what is missing, leads routes where the config says, and records that. Where an exchange or a
    /// queue is there but different, touches nothing and says what.
    Apply,
    /// Retires a provider that the config names no more: moves or buries the jobs that are left in its lane, and
    /// removes the lane. Refuses while a worker with the old config still consumes it.
    Retire {
        /// The provider.
        #[arg(value_name = "PROVIDER", value_parser = provider)]
        provider: ProviderName,
        /// Moves the jobs that are left to the lane of another provider.
        #[arg(long, value_name = "OTHER", value_parser = provider, conflicts_with = "bury")]
        to: Option<ProviderName>,
        /// Puts the jobs that are left into the dead letters, reason `unroutable`.
        #[arg(long)]
        bury: bool,
        /// Says what would be done, and does nothing.
        #[arg(long)]
        dry_run: bool,
        /// The form of the output.
        #[command(flatten)]
        json: Json,
    },
    /// Compares without touching anything; exits with 1 where something is missing or different.
    Check {
        /// The form of the output.
        #[command(flatten)]
        json: Json,
    },
}

/// Of `otpd health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Asks whether every lane consumes (/readyz), not only whether the process turns (/healthz).
    #[arg(long)]
    pub ready: bool,
    /// Whom to ask [default: admin.listen of the config]. A path in it is asked as it stands.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The form of the output.
    #[command(flatten)]
    pub json: Json,
}

/// `otpd config ...`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Checks everything, secrets included, with what is known about the providers. Exit code 0: it can be used,
    /// maybe with warnings; 2: it cannot.
    Check {
        /// Checks everything but that secrets are there: for pipelines. Those that are there are checked.
        #[arg(long)]
        no_secrets: bool,
        /// The form of the output.
        #[command(flatten)]
        json: Json,
    },
    /// Prints the effective config as TOML, all defaults filled in, secrets masked.
    Show {
        /// The form of the output.
        #[command(flatten)]
        json: Json,
    },
    /// Compares two config files, key by key, and says which changes running workers follow and which wait for a
    /// restart. Secrets need not be there. Exit code 0: the same; 1: different; 2: one of them cannot be used.
    Diff {
        /// The file as it is.
        #[arg(value_name = "OLD")]
        old: PathBuf,
        /// The file as it is to be.
        #[arg(value_name = "NEW")]
        new: PathBuf,
        /// Exits with 1 only where something waits for a restart.
        #[arg(long)]
        restart_only: bool,
        /// The form of the output.
        #[command(flatten)]
        json: Json,
    },
    /// Prints the JSON Schema of the config.
    Schema {
        /// Prints the JSON Schema of a job's body instead.
        #[arg(long, conflicts_with_all = ["asyncapi", "openapi"])]
        job: bool,
        /// Prints the AsyncAPI document of jobs and events instead.
        #[arg(long, conflicts_with = "openapi")]
        asyncapi: bool,
        /// Prints the OpenAPI document of the gateway instead.
        #[arg(long)]
        openapi: bool,
    },
}

pub(crate) fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "must be a time with its unit, such as 30s or 5m".to_owned())
}

fn certificate(text: &str) -> Result<Certificate, String> {
    text.parse().map_err(|problem| format!("{problem}"))
}

fn job(text: &str) -> Result<JobId, String> {
    JobId::parse(text).map_err(|rule| rule.to_string())
}

fn route(text: &str) -> Result<RouteName, String> {
    RouteName::parse(text).map_err(|rule| rule.to_string())
}

fn provider(text: &str) -> Result<ProviderName, String> {
    ProviderName::parse(text).map_err(|rule| rule.to_string())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE, such as user=u-17")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_agree_with_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn purge_needs_yes_or_dry_run() {
        let parse = |args: &str| Cli::try_parse_from(args.split(' '));
        assert!(parse("otpd dead purge").is_err());
        assert!(parse("otpd dead purge --yes --dry-run").is_err());
        assert!(parse("otpd dead purge --yes --reason expired").is_ok());
        assert!(parse("otpd dead purge --dry-run --older-than 5m").is_ok());
    }
}
