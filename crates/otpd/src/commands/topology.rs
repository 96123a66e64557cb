//! `otpd topology apply|check`.

use std::process::ExitCode;

use otpd_queue::Difference;
use serde_json::json;

use crate::cli::TopologyCommand;
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
        TopologyCommand::Apply => queue.apply_topology().await.map(|()| Vec::new()),
        TopologyCommand::Check { .. } => queue.check_topology().await,
    };
    queue.close().await;
    let differences = done?;
    match command {
        TopologyCommand::Apply => {
            let lanes = config.providers.len();
            output::line(&format!("{}: as configured, {lanes} lanes", config.broker.address()))?;
        }
        TopologyCommand::Check { json } if json.json => {
            let all: Vec<_> = differences.iter().map(as_json).collect();
            output::json(&json!({ "as_configured": all.is_empty(), "differences": all }))?;
        }
        TopologyCommand::Check { .. } if differences.is_empty() => {
            output::line(&format!("{}: as configured", config.broker.address()))?;
        }
        TopologyCommand::Check { .. } => {
            output::table(["is", "what", "how"], differences.iter().map(as_row))?;
            output::note(
                "otpd: `otpd topology apply` declares what is missing; what differs has to be deleted first, or the config put right",
            );
        }
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
