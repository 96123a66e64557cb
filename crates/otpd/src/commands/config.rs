//! `otpd config check|show|schema`.

use std::path::Path;
use std::process::ExitCode;

use otpd_core::{ProviderName, Rate};
use serde_json::{Value, json};

use crate::cli::ConfigCommand;
use crate::config::value::Time;
use crate::config::{Config, Issue, Issues, Severity, Sources};
use crate::failure::Failure;
use crate::reload::difference::Change;
use crate::reload::snapshot::{Role, Snapshot};
use crate::reload::waiting::Divided;
use crate::{output, schema};

/// In the place of the broker's address.
const UNKNOWN: &str = "not looked at: broker.url is a secret that is not here";

/// Runs the command.
///
/// # Errors
/// Where the config is wrong.
pub fn run(command: &ConfigCommand, sources: &Sources) -> Result<ExitCode, Failure> {
    match command {
        ConfigCommand::Check { no_secrets, json } => {
            let sources = if *no_secrets { without_secrets(sources) } else { sources.clone() };
            if json.json { check_json(&sources) } else { check(&sources) }
        }
        ConfigCommand::Diff { old, new, restart_only, json } => {
            let read = |file: &Path| {
                let sources = Sources { file: Some(file.to_owned()), ..without_secrets(sources) };
                Snapshot::read(&sources, Role::Both)
            };
            let shown = if json.json { Form::Json } else { Form::Table };
            diff(&read(old)?, &read(new)?, shown, *restart_only)
        }
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
        ConfigCommand::Schema { job, asyncapi, openapi } => {
            let document = match (job, asyncapi, openapi) {
                (true, _, _) => schema::job(),
                (false, true, _) => schema::asyncapi(),
                (false, false, true) => schema::openapi(),
                (false, false, false) => schema::config(),
            };
            output::text(&document)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The same, with something in the place of every secret that is not there.
fn without_secrets(sources: &Sources) -> Sources {
    Sources { environment: sources.environment.clone().with_stand_ins(), ..sources.clone() }
}

/// How differences are printed.
#[derive(Clone, Copy)]
enum Form {
    Table,
    Json,
}

fn diff(old: &Snapshot, new: &Snapshot, form: Form, restart_only: bool) -> Result<ExitCode, Failure> {
    let Divided { live, waiting, .. } = Divided::of(old, new);
    match form {
        Form::Json => {
            let told = |changes: &[Change]| -> Vec<Value> {
                let one = |c: &Change| json!({ "key": c.path.to_string(), "change": c.to_string() });
                changes.iter().map(one).collect()
            };
            output::json(&json!({ "followed": told(&live), "waits_for_restart": told(&waiting) }))?;
        }
        Form::Table if live.is_empty() && waiting.is_empty() => output::line("The configs say the same.")?,
        Form::Table => {
            let rows = live.iter().map(|change| ("followed", change));
            let rows = rows.chain(waiting.iter().map(|change| ("waits for a restart", change)));
            output::table(
                ["running workers", "change"],
                rows.map(|(how, change)| [how.to_owned(), change.to_string()]),
            )?;
        }
    }
    let is_the_same = waiting.is_empty() && (restart_only || live.is_empty());
    Ok(if is_the_same { ExitCode::SUCCESS } else { ExitCode::from(1) })
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
            if let Err(more) = loaded.config.gateway.hook(&sources.environment) {
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
    let broker =
        if config.broker.is_known() { config.broker.address().to_string() } else { UNKNOWN.to_owned() };
    output::line(&format!("broker  {broker}\n"))?;
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
            "broker": config.broker.is_known().then(|| config.broker.address().to_string()),
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
