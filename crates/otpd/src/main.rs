//! The binary: parses the command line, starts the runtime, and says how it ended.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

use otpd::cli::{Cli, Command, Common, SendArgs};
use otpd::config::Config;
use otpd::failure::Failure;
use otpd::reload::Log;
use otpd::reload::snapshot::Role;
use otpd::{commands, output, telemetry};

/// Half the CPU time of glibc's allocator where threads hand memory to each other.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(Failure::HungUp) => ExitCode::SUCCESS,
        Err(failure) => {
            output::note(&failure.to_string());
            failure.exit_code()
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let sources = cli.common.sources();
    if let Command::Config(command) = &cli.command {
        return commands::config::run(command, &sources);
    }
    // One TLS implementation for the process; only a second call could fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime =
        runtime(&cli.command).map_err(|e| Failure::Failed(format!("the runtime cannot start: {e}")))?;
    runtime.block_on(async {
        match cli.command {
            Command::Config(_) => Ok(ExitCode::SUCCESS),
            Command::Mock(args) => commands::mock::run(args).await,
            Command::Send(args) => send(args, &sources.load()?.config).await,
            Command::Load(args) => commands::load::run(*args, &sources).await,
            Command::Explain(args) => commands::explain::run(args, &sources.load()?.config).await,
            Command::Top(args) => commands::top::run(args, &sources.load()?.config).await,
            Command::Doctor(json) => commands::doctor::run(json, &sources.load()?).await,
            Command::Dead(command) => commands::dead::run(command, &sources.load()?.config).await,
            Command::Topology(command) => commands::topology::run(command, &sources.load()?.config).await,
            Command::Health(args) => commands::health::run(args, &sources).await,
            Command::Demo(args) => commands::demo::run(args).await.map(|()| ExitCode::SUCCESS),
            Command::Serve => process(&cli.common, Role::Both).await,
            Command::Worker => process(&cli.common, Role::Worker).await,
            Command::Gateway => process(&cli.common, Role::Gateway).await,
        }
    })
}

async fn send(args: SendArgs, config: &Config) -> Result<ExitCode, Failure> {
    let spans = telemetry::only_traces(&config.telemetry).map_err(Failure::Usage)?;
    let ended = commands::send::run(args, config).await;
    spans.finish().await;
    ended
}

/// A worker's lanes share one thread: a job passes through several tasks, and on two threads waking
/// the other one costs more than it gains. The broker's connections have threads of their own. One
/// thread carries more than a broker hands out; whoever needs more starts more workers.
fn runtime(command: &Command) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = if matches!(command, Command::Worker) {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    builder.enable_all().build()
}

async fn process(common: &Common, role: Role) -> Result<ExitCode, Failure> {
    let mut sources = common.sources();
    if role == Role::Both {
        sources.default_url = "embedded:./otpd.db";
    }
    let loaded = sources.load()?;
    let filter = common.log_level.as_deref().unwrap_or(&loaded.config.telemetry.log_level);
    let telemetry = telemetry::start(filter, &loaded.config.telemetry).map_err(Failure::Usage)?;
    let log = Log { level: telemetry.level(), is_overridden: common.log_level.is_some() };
    for warning in &loaded.warnings.0 {
        tracing::warn!("{warning}");
    }
    let ended = match role {
        Role::Gateway => commands::gateway::run(loaded, sources, log).await,
        Role::Worker | Role::Both => commands::worker::run(loaded, sources, log, role).await,
    };
    telemetry.finish().await;
    ended.map(|()| ExitCode::SUCCESS)
}
