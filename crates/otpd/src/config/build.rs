//! From the document to the [`Config`]: the checks of the sections that are about more than one value.

use std::time::Duration;

use otpd_core::{RecipientHasher, RetryPolicy, RouteTable};
use otpd_queue::rabbitmq::BrokerUrl;
use toml::Table;

use super::broker::{Address, BrokerSources, UrlSource, authorities, has_password};
use super::check::Check;
use super::clear_text;
use super::document::{BrokerSection, Document, RetrySection};
use super::issue::Place;
use super::path::KeyPath;
use super::secret::{Environment, SecretSource};
use super::{Broker, Config, Dead, Telemetry};
use super::{gateway_check, provider_check, route};

const SECOND: Duration = Duration::from_secs(1);
const TEN_MS: Duration = Duration::from_millis(10);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// The longest prefix: queue names hold 255 bytes in all.
const MAX_PREFIX: usize = 32;

/// Checks everything; what is wrong is noted in `check`, and the config is then not to be used.
pub(super) fn build(
    check: &mut Check,
    document: &Document,
    table: &Table,
    environment: &Environment,
) -> Config {
    let mut providers = provider_check::providers(check, &document.providers, table);
    // A provider that could not be read is there all the same: a route may name it.
    let unread = check.removed.iter().filter_map(|path| match path.keys() {
        [section, name] if section == "providers" => Some(name.clone()),
        _ => None,
    });
    let names: Vec<String> = document.providers.keys().cloned().chain(unread).collect();
    let known = route::Known { providers: &names, max_attempts: document.retry.max_attempts.0 };
    let routes = if check.was_removed(&KeyPath::of(&["providers"])) {
        Vec::new()
    } else {
        route::routes(check, &document.routes, &known)
    };
    if names.is_empty() && !check.is_incomplete(&KeyPath::of(&["providers"])) {
        check.warning(
            &KeyPath::default(),
            "there is no provider, so nothing can be sent; add [providers.NAME] with its kind",
        );
    }
    let (admin, gateway) = (document.admin.listen.0, document.gateway.listen.0);
    if admin == gateway && admin.port() != 0 {
        check.error(
            &KeyPath::of(&["gateway", "listen"]),
            "must not be the address of admin.listen; write for example listen = \"127.0.0.1:8080\"",
        );
    }
    let grace = KeyPath::of(&["worker", "shutdown_grace"]);
    let retention = KeyPath::of(&["dead", "retention"]);
    let routes = RouteTable::new(providers.iter().map(|p| p.name.clone()), routes);
    let gateway_config = gateway_check::gateway(check, &document.gateway, &routes);
    gateway_check::confirmations(check, &providers, &routes);
    for provider in &mut providers {
        provider.callback_base.clone_from(&gateway_config.public_url);
    }
    Config {
        broker: broker(check, &document.broker, environment),
        retry: retry(check, &document.retry),
        routes,
        providers,
        recipient_limits: document.limits.recipient.0.clone(),
        recipient_hasher: recipient_hasher(check, document.limits.key.as_ref(), environment),
        shutdown_grace: check.time(&grace, document.worker.shutdown_grace, SECOND..=MINUTE * 10, "25s"),
        dead: Dead {
            retention: check.time(&retention, document.dead.retention, SECOND..=DAY * 3650, "7d"),
            keep_code: document.dead.keep_code,
        },
        admin_listen: admin,
        gateway_listen: gateway,
        gateway: gateway_config,
        telemetry: Telemetry {
            log_level: document.telemetry.log_level.clone(),
            log_format: document.telemetry.log_format,
            collector: document.telemetry.otlp_endpoint.as_ref().map(|c| c.0.clone()),
            trace_sample: document.telemetry.trace_sample.0,
        },
    }
}

fn retry(check: &mut Check, section: &RetrySection) -> RetryPolicy {
    let at = |key: &str| KeyPath::of(&["retry", key]);
    let initial = check.time(&at("initial"), section.initial, TEN_MS..=HOUR, "500ms");
    let max = check.time(&at("max"), section.max, TEN_MS..=HOUR, "30s");
    if max < initial {
        check.error(
            &at("max"),
            format!(
                "must not be shorter than retry.initial ({}); write for example max = \"30s\"",
                section.initial
            ),
        );
    }
    RetryPolicy { initial, multiplier: section.multiplier.0, max, max_attempts: section.max_attempts.0 }
}

fn broker(check: &mut Check, section: &BrokerSection, environment: &Environment) -> Broker {
    let prefix = &section.prefix;
    let at = KeyPath::of(&["broker", "prefix"]);
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if !(1..=MAX_PREFIX).contains(&prefix.len()) || !prefix.bytes().all(allowed) {
        check.error(
            &at,
            format!("must be 1 to {MAX_PREFIX} of A-Z a-z 0-9 . _ -; write for example prefix = \"otp.\""),
        );
    } else if prefix.starts_with("amq.") {
        check.error(
            &at,
            "must not begin with amq., which RabbitMQ keeps for itself; write for example prefix = \"otp.\"",
        );
    }
    let sources = section.url.as_ref().map(|urls| urls.0.as_slice());
    let address = sources.and_then(|sources| address(check, sources, environment));
    let ca = section.ca.as_ref().filter(|source| !source.is_stood_in(environment)).and_then(|source| {
        let found = authorities(source, environment);
        found.map_err(|problem| check.error(&KeyPath::of(&["broker", "ca"]), problem)).ok()
    });
    let sources = BrokerSources {
        urls: sources.unwrap_or_default().to_vec(),
        ca: section.ca.clone(),
        environment: environment.clone(),
    };
    Broker { address, ca, prefix: prefix.clone(), sources }
}

/// The least bytes of a key that numbers cannot be tried against.
const LEAST_KEY: usize = 16;

fn recipient_hasher(
    check: &mut Check,
    key: Option<&SecretSource>,
    environment: &Environment,
) -> Option<RecipientHasher> {
    let at = KeyPath::of(&["limits", "key"]);
    match key?.open(environment) {
        Ok(key) if key.expose().len() >= LEAST_KEY => Some(RecipientHasher::new(key.expose().as_bytes())),
        Ok(_) => {
            check.error(&at, format!("is shorter than {LEAST_KEY} bytes, so that numbers could be guessed from it; make one with `openssl rand -hex 32`"));
            None
        }
        Err(problem) => {
            check.error(&at, problem);
            None
        }
    }
}

fn address(check: &mut Check, sources: &[UrlSource], environment: &Environment) -> Option<Address> {
    let at = KeyPath::of(&["broker", "url"]);
    let in_file = matches!(check.place(&at), Place::File { .. });
    if sources.iter().any(|source| source.0.is_stood_in(environment)) {
        return None;
    }
    let mut urls = Vec::with_capacity(sources.len());
    for source in sources {
        let text = match source.0.open(environment) {
            Ok(text) => text,
            Err(problem) => {
                check.error(&at, problem);
                return None;
            }
        };
        match text.expose().strip_prefix("embedded:") {
            Some("") => check.error(&at, "embedded: names no file; write for example url = \"embedded:./otpd.db\""),
            Some(path) if sources.len() == 1 => return Some(Address::Embedded(path.into())),
            Some(_) => check.error(&at, "an embedded queue is one file and no cluster; write for example url = \"embedded:./otpd.db\""),
            None => match text.expose().parse() {
                Ok(url) => urls.push(url),
                Err(invalid) => check.error(&at, format!("is {invalid}, or embedded:PATH")),
            },
        }
        if urls.last().and_then(BrokerUrl::clear_text_host).is_some_and(clear_text::is_elsewhere) {
            check.warning(
                &at,
                "is amqp:// to another machine, so that whoever is in between reads the password and every code; write amqps://, with ca where the authority is your own",
            );
        }
        if in_file && matches!(source.0, SecretSource::Literal(_)) && has_password(text.expose()) {
            check.warning(
                &at,
                "has a password in it; write url = { env = \"NAME\" } or { file = \"/run/secrets/name\" }",
            );
        }
    }
    (urls.len() == sources.len()).then_some(Address::Amqp(urls))
}
