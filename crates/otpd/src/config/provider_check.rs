//! What a provider's keys must be to each other and to its kind.

use std::collections::BTreeMap;
use std::time::Duration;

use otpd_core::{ProviderName, Rate};
use otpd_providers::{HttpLimits, Kind, advice, keys};
use otpd_queue::Owners;
use toml::Table;

use super::check::Check;
use super::clear_text;
use super::issue::Place;
use super::path::KeyPath;
use super::provider::ProviderConfig;
use super::provider_section::{HARMLESS, ProviderSection, known};
use super::remedy;
use super::secret::SecretSource;
use super::value::kinds;

const LEAST: Duration = Duration::from_millis(1);
const MOST: Duration = Duration::from_secs(300);

/// Checks all providers. `table` is the config as it was written. What is wrong is noted, and left out.
pub(super) fn providers(
    check: &mut Check,
    sections: &BTreeMap<String, ProviderSection>,
    table: &Table,
) -> Vec<ProviderConfig> {
    let all = KeyPath::of(&["providers"]);
    let written =
        |name: &str| table.get("providers").and_then(|p| p.get(name)).and_then(toml::Value::as_table);
    let mut valid = Vec::new();
    for (name, section) in sections {
        let nothing = Table::new();
        let written = written(name).unwrap_or(&nothing);
        valid.extend(provider(check, &all.with(name), name, section, written));
    }
    valid
}

fn provider(
    check: &mut Check,
    path: &KeyPath,
    name: &str,
    section: &ProviderSection,
    written: &Table,
) -> Option<ProviderConfig> {
    let parsed = ProviderName::parse(name);
    if let Err(rule) = &parsed {
        check.error(
            path,
            format!("the name of a provider {rule}; rename it, for example [providers.verihubs]"),
        );
    }
    let http = http(check, path, section);
    if section.base_url.as_deref().is_some_and(clear_text::is_http_elsewhere) {
        check.warning(
            &path.with("base_url"),
            "is http:// to another machine, so that whoever is in between reads the account's key and every code; write https://, with ca where the authority is your own",
        );
    }
    literals(check, path, section);
    let Some(kind) = section.kind.map(|kind| kind.0) else {
        let at = path.with("kind");
        if !check.was_removed(&at) {
            check
                .error(&at, format!("is missing: one of {}; write for example kind = \"verihubs\"", kinds()));
        }
        return None;
    };
    keys_of_kind(check, path, kind, written);
    let ceiling = section.ceiling.as_ref().map(|rates| rates.0.clone()).unwrap_or_default();
    let burst = section.burst.map(|burst| burst.0);
    limits(check, path, kind, &ceiling, burst);
    let owners = Owners::from(section.owners);
    if owners == Owners::Many && !ceiling.is_empty() {
        check.error(
            &path.with("owners"),
            "must be \"one\" where there is a ceiling: it is counted by the lane's one owner, and many would each use all of it; remove owners, or the ceiling",
        );
    }
    if kind == Kind::MetaOnPrem {
        check.warning(
            &path.with("kind"),
            "Meta ended the on-premises API in October 2025 and delivers nothing from it; use meta_cloud",
        );
    }
    Some(ProviderConfig {
        callback_base: None,
        name: parsed.ok()?,
        kind,
        ceiling,
        burst,
        owners,
        http,
        http_version: section.http_version.into(),
        on_ambiguous: section.on_ambiguous.into(),
        section: section.clone(),
        origins: check.origins.clone(),
    })
}

fn http(check: &mut Check, path: &KeyPath, section: &ProviderSection) -> HttpLimits {
    let connect = path.with("connect_timeout");
    let connect_timeout = check.time(&connect, section.connect_timeout, LEAST..=MOST, "3s");
    let timeout = check.time(&path.with("timeout"), section.timeout, LEAST..=MOST, "10s");
    if timeout <= connect_timeout {
        check.error(&path.with("timeout"), format!(
            "must be longer than connect_timeout ({}), or a request that was never sent looks like one that may have been; write for example timeout = \"10s\"",
            section.connect_timeout,
        ));
    }
    let max_in_flight = usize::try_from(section.max_in_flight.0).unwrap_or(usize::MAX);
    HttpLimits { max_in_flight, connect_timeout, timeout }
}

/// Secrets that stand in the open.
fn literals(check: &mut Check, path: &KeyPath, section: &ProviderSection) {
    for (key, source) in section.secrets().into_iter().filter(|(key, _)| *key != "ca") {
        let at = path.with(key);
        let problem = match (source, check.place(&at)) {
            (SecretSource::Literal(_), Place::File { .. }) => "is a secret written into the file",
            (SecretSource::Literal(_), Place::Flag) => {
                "is a secret on the command line, where every process can see it"
            }
            (SecretSource::Literal(_), Place::Variable(_) | Place::Defaults)
            | (SecretSource::Env(_) | SecretSource::File(_), _) => continue,
        };
        check.warning(
            &at,
            format!("{problem}; write {key} = {{ env = \"NAME\" }} or {{ file = \"/run/secrets/name\" }}"),
        );
    }
}

fn keys_of_kind(check: &mut Check, path: &KeyPath, kind: Kind, written: &Table) {
    for key in written.keys().map(String::as_str) {
        if known(kind).any(|known| known == key) {
            continue;
        }
        let others: Vec<&str> = Kind::ALL
            .into_iter()
            .filter(|other| known(*other).any(|known| known == key))
            .map(Kind::as_str)
            .collect();
        let others = others.join(", ");
        if HARMLESS.contains(&key) {
            check.warning(&path.with(key), format!("has no effect on {kind}, only on {others}; remove it"));
        } else {
            let problem = format!("is not a key of {kind} but of {others}; remove it, or correct `kind`");
            check.error(&path.with(key), problem);
        }
    }
    let keys = keys(kind);
    for key in keys.required {
        let at = path.with(key);
        if !written.contains_key(*key) && !check.was_removed(&at) {
            let source = remedy::source(kind, key).unwrap_or("the provider");
            check.error(&at, format!("is missing: {source}; write {}", example(kind, key)));
        }
    }
    for key in keys.wanted {
        if !written.contains_key(*key) && !check.is_incomplete(&path.with(key)) {
            check.warning(
                &path.with(key),
                format!("is missing, so every job has to bring its own; write {key} = \"...\""),
            );
        }
    }
}

/// How a required key is written.
fn example(kind: Kind, key: &str) -> String {
    match key {
        "base_url" => "base_url = \"https://whatsapp.example:9090\"".to_owned(),
        "channel_id" | "phone_number_id" | "username" => format!("{key} = \"...\""),
        _ => {
            let variable = format!("{}_{key}", kind.as_str()).to_uppercase();
            format!("{key} = {{ env = \"{variable}\" }}")
        }
    }
}

fn limits(check: &mut Check, path: &KeyPath, kind: Kind, ceiling: &[Rate], burst: Option<u32>) {
    let advice = advice(kind);
    let at = path.with("ceiling");
    let documented = advice.hard_limit.and_then(|limit| limit.parse::<Rate>().ok());
    if ceiling.is_empty() {
        if burst.is_some() {
            check.warning(&path.with("burst"), "has no effect without a ceiling; add one, or remove it");
        }
        if let Some(limit) = documented.filter(|_| !check.was_removed(&at)) {
            check.warning(
                &at,
                format!(
                    "is missing, but {kind} refuses more than {limit}; write ceiling = \"{}\"",
                    advice.ceiling,
                ),
            );
        }
        return;
    }
    if let Some(limit) = documented {
        let most = ceiling.iter().map(|rate| most_in(*rate, limit.per)).min().unwrap_or(u64::MAX);
        if most > u64::from(limit.count) {
            check.warning(&at, format!(
                "lets up to {most} requests start in a window for which {kind} documents {limit}; write for example ceiling = \"{}\"",
                advice.ceiling,
            ));
        }
    }
    let smallest = ceiling.iter().map(|rate| rate.count).min().unwrap_or(u32::MAX);
    if burst.is_some_and(|burst| burst > smallest) {
        check.warning(
            &path.with("burst"),
            format!("is more than the ceiling of {smallest} allows at once; lower it"),
        );
    }
}

/// How many may start in a window of this length under `rate` alone.
fn most_in(rate: Rate, window: Duration) -> u64 {
    let windows = window.as_nanos().div_ceil(rate.per.as_nanos().max(1));
    u64::from(rate.count).saturating_mul(u64::try_from(windows).unwrap_or(u64::MAX))
}
