//! `otpd topology apply|check`.

use std::process::ExitCode;

use otpd_queue::{Difference, Queue};
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
