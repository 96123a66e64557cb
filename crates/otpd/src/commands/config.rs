//! `otpd config check|show|schema`.

use std::process::ExitCode;

use otpd_core::{ProviderName, Rate};
use serde_json::{Value, json};

use crate::cli::ConfigCommand;
use crate::config::value::Time;
use crate::config::{Config, Issue, Issues, Severity, Sources};
use crate::failure::Failure;
use crate::{output, schema};

/// Runs the command.
///
/// # Errors
/// Where the config is wrong.
pub fn run(command: &ConfigCommand, sources: &Sources) -> Result<ExitCode, Failure> {
    match command {
        ConfigCommand::Check { json } if json.json => check_json(sources),
        ConfigCommand::Check { .. } => check(sources),
        ConfigCommand::Show { json } => {
            let document = sources.load()?.document.effective();
            let unwritable = |e: String| Failure::Failed(format!("the config cannot be written: {e}"));
            if json.json {
                output::json(&document.to_json().map_err(|e| unwritable(e.to_string()))?)?;
            } else {
                output::text(&document.to_toml().map_err(|e| unwritable(e.to_string()))?)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        ConfigCommand::Schema { job, asyncapi } => {
            let document = match (job, asyncapi) {
                (true, _) => schema::job(),
                (false, true) => schema::asyncapi(),
                (false, false) => schema::config(),
            };
            output::text(&document)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The config and all that is to be said about it; without a config there is at least one error.
fn examine(sources: &Sources) -> (Option<Config>, Issues) {
    match sources.load() {
        Err(issues) => (None, issues),
        Ok(loaded) => {
            let mut issues = loaded.warnings;
            let opened = loaded.config.open_providers(&sources.environment);
            if let Err(more) = opened {
                issues.0.extend(more.0);
            }
            (Some(loaded.config), issues)
        }
    }
}

fn check(sources: &Sources) -> Result<ExitCode, Failure> {
    let (config, issues) = examine(sources);
    for warning in issues.of(Severity::Warning) {
        output::note(&format!("warning: {warning}"));
    }
    let Some(config) = config.filter(|_| !issues.has_errors()) else { return Err(Failure::Config(issues)) };
    output::line(&format!("broker  {}\n", config.broker.address()))?;
    if !config.providers.is_empty() {
        let rows = config.providers.iter().map(|p| {
            let ceiling = if p.ceiling.is_empty() { "none".to_owned() } else { rates(&p.ceiling) };
            [p.name.to_string(), p.kind.to_string(), ceiling, p.base_url().to_owned()]
        });
        output::table(["provider", "kind", "ceiling", "base_url"], rows)?;
        output::line("")?;
        let rows = config.routes.all().into_iter().map(|route| {
            let providers: Vec<&str> = route.providers.iter().map(ProviderName::as_str).collect();
            let ttl = Time(route.ttl).to_string();
            [route.name.to_string(), providers.join(" > "), ttl]
        });
        output::table(["route", "providers", "ttl"], rows)?;
        output::line("")?;
    }
    let warnings = issues.of(Severity::Warning).count();
    output::line(&match warnings {
        0 => "The config is fine.".to_owned(),
        1 => "The config can be used; there is 1 warning.".to_owned(),
        more => format!("The config can be used; there are {more} warnings."),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn check_json(sources: &Sources) -> Result<ExitCode, Failure> {
    let (config, issues) = examine(sources);
    let all = |severity| issues.of(severity).map(as_json).collect::<Vec<Value>>();
    let (errors, warnings) = (all(Severity::Error), all(Severity::Warning));
    let is_valid = errors.is_empty();
    let config = config.map(|config| {
        json!({
            "broker": config.broker.address().to_string(),
            "providers": config.providers.iter().map(|p| json!({
                "name": p.name.as_str(),
                "kind": p.kind.as_str(),
                "ceiling": p.ceiling.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "base_url": p.base_url(),
            })).collect::<Vec<_>>(),
            "routes": config.routes.all().into_iter().map(|route| json!({
                "name": route.name.as_str(),
                "providers": route.providers.iter().map(ProviderName::as_str).collect::<Vec<_>>(),
                "ttl_ms": u64::try_from(route.ttl.as_millis()).unwrap_or(u64::MAX),
            })).collect::<Vec<_>>(),
        })
    });
    output::json(&json!({ "valid": is_valid, "errors": errors, "warnings": warnings, "config": config }))?;
    Ok(if is_valid { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

fn as_json(issue: &Issue) -> Value {
    json!({ "place": issue.place.to_string(), "key": issue.path.to_string(), "problem": issue.problem })
}

fn rates(rates: &[Rate]) -> String {
    let all: Vec<String> = rates.iter().map(ToString::to_string).collect();
    all.join(", ")
}
