//! `otpd topology apply|check|retire`.

use std::process::ExitCode;

use bytes::Bytes;
use otpd_core::ProviderName;
use otpd_queue::{Difference, Leftovers, Queue, Retired, Trial};
use otpd_worker::burial;
use serde_json::json;

use crate::cli::{Json, TopologyCommand};
use crate::config::Config;
use crate::failure::Failure;
use crate::{open, output};

/// Runs the command.
///
/// # Errors
/// Where the broker is away or refuses, or something is there but different.
pub async fn run(command: TopologyCommand, config: &Config) -> Result<ExitCode, Failure> {
    let queue = open::queue(config, open::source())?;
    let done = match command {
        TopologyCommand::Apply => apply(&queue, config).await,
        TopologyCommand::Retire { provider, to, bury, dry_run, json } => {
            let leftovers = match to {
                Some(other) => Leftovers::MoveTo(other),
                None if bury && config.dead.keep_code => Leftovers::Bury(Bytes::clone),
                None if bury => Leftovers::Bury(|body| burial::body(body, false)),
                None => Leftovers::Refuse,
            };
            let trial = if dry_run { Trial::Look } else { Trial::Do };
            retire(&queue, &provider, &leftovers, trial, json).await
        }
        TopologyCommand::Check { json } => check(&queue, config, json).await,
    };
    queue.close().await;
    done
}

async fn apply(queue: &Queue, config: &Config) -> Result<ExitCode, Failure> {
    let applied = queue.apply_topology().await?;
    let (lanes, place) = (config.providers.len(), config.broker.address());
    output::line(&format!("{place}: as configured, {lanes} lanes"))?;
    for provider in applied.to_retire {
        output::note(&format!(
            "otpd: the lane of {provider} is still there, and no route leads to it any more; once no worker runs with the old config: `otpd topology retire {provider}`"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

async fn retire(
    queue: &Queue,
    provider: &ProviderName,
    leftovers: &Leftovers,
    trial: Trial,
    json: Json,
) -> Result<ExitCode, Failure> {
    let Retired { waiting, moved, buried } = queue.retire(provider, leftovers, trial).await?;
    if json.json {
        output::json(&json!({
            "provider": provider.as_str(), "dry_run": trial == Trial::Look,
            "waiting": waiting, "moved": moved, "buried": buried,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line(&match trial {
        Trial::Look => format!("{provider}: would be retired; {waiting} jobs are left in its lane"),
        Trial::Do => {
            format!(
                "{provider}: retired, its lane is gone; {moved} jobs moved, {buried} put into the dead letters"
            )
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn check(queue: &Queue, config: &Config, json: Json) -> Result<ExitCode, Failure> {
    let differences = queue.check_topology().await?;
    if json.json {
        let all: Vec<_> = differences.iter().map(as_json).collect();
        output::json(&json!({ "as_configured": all.is_empty(), "differences": all }))?;
    } else if differences.is_empty() {
        output::line(&format!("{}: as configured", config.broker.address()))?;
    } else {
        output::table(["is", "what", "how"], differences.iter().map(as_row))?;
        output::note(
            "otpd: `otpd topology apply` declares what is missing and leads routes where the config says; an exchange or queue that differs has to be deleted first, or the config put right",
        );
    }
    Ok(if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn as_row(difference: &Difference) -> [String; 3] {
    match difference {
        Difference::Missing { what } => ["missing".into(), what.clone(), "-".into()],
        Difference::Different { what, how } => ["different".into(), what.clone(), how.clone()],
    }
}

fn as_json(difference: &Difference) -> serde_json::Value {
    match difference {
        Difference::Missing { what } => json!({ "is": "missing", "what": what }),
        Difference::Different { what, how } => json!({ "is": "different", "what": what, "how": how }),
    }
}
