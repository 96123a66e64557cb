//! Routes: checked against the providers there are, made into the table that the lanes use.

use std::collections::BTreeMap;
use std::time::Duration;

use otpd_core::{ProviderName, Route, RouteName, TrafficClass};

use super::check::Check;
use super::document::{RouteSection, TrafficName};
use super::path::KeyPath;
use super::value::Time;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
/// How long RabbitMQ leaves a job unacknowledged with a consumer, unless told otherwise.
const CONSUMER_TIMEOUT: Duration = Duration::from_secs(1800);

/// What the checks of routes need to know.
pub(super) struct Known<'a> {
    /// The providers' names, as they are written.
    pub(super) providers: &'a [String],
    /// How many requests a job may cost.
    pub(super) max_attempts: u32,
}

/// Checks all routes. What is wrong is noted, and left out.
pub(super) fn routes(
    check: &mut Check,
    sections: &BTreeMap<String, RouteSection>,
    known: &Known<'_>,
) -> Vec<Route> {
    let all = KeyPath::of(&["routes"]);
    sections
        .iter()
        .filter_map(|(name, section)| route(check, &all.with(name), name, section, known))
        .collect()
}

fn route(
    check: &mut Check,
    path: &KeyPath,
    name: &str,
    section: &RouteSection,
    known: &Known<'_>,
) -> Option<Route> {
    let parsed = RouteName::parse(name);
    if let Err(rule) = &parsed {
        check.error(path, format!("the name of a route {rule}; rename it, for example [routes.login]"));
    }
    let providers = providers(check, path, name, section, known);
    let time = |check: &mut Check, key: &str, time: Option<Time>, least: Duration| {
        time.map(|time| check.time(&path.with(key), time, least..=DAY, "10s"))
    };
    let ttl = check.time(&path.with("ttl"), section.ttl, SECOND..=DAY, "5m");
    let spill_after = time(check, "spill_after", section.spill_after, MS);
    let max_wait = time(check, "max_wait", section.max_wait, MS);
    let confirm_within = time(check, "confirm_within", section.confirm_within, SECOND);
    let route = Route {
        name: parsed.ok()?,
        providers: providers?,
        ttl,
        spill_after,
        max_wait,
        confirm_within,
        class: match section.class {
            TrafficName::Interactive => TrafficClass::Interactive,
            TrafficName::Bulk => TrafficClass::Bulk,
        },
    };
    remarks(check, path, &route, known);
    Some(route)
}

fn providers(
    check: &mut Check,
    path: &KeyPath,
    name: &str,
    section: &RouteSection,
    known: &Known<'_>,
) -> Option<Vec<ProviderName>> {
    let own = [name.to_owned()];
    let at = path.with("providers");
    let names: &[String] = match &section.providers {
        Some(names) => &names.0,
        None if known.providers.contains(&own[0]) => &own,
        None => {
            if !check.was_removed(&at) {
                let first = known.providers.first().map_or("verihubs", String::as_str);
                check.error(&at, format!("is missing; write for example providers = [\"{first}\"]"));
            }
            return None;
        }
    };
    let mut parsed = Vec::with_capacity(names.len());
    for (i, name) in names.iter().enumerate() {
        let earlier = names.get(..i).unwrap_or_default();
        if earlier.contains(name) {
            check.error(
                &at,
                format!("names {name:?} twice; a job moves on through a route once, leave one out"),
            );
        } else if !known.providers.contains(name) {
            let there = known.providers.join(", ");
            let there =
                if there.is_empty() { "there are none yet".to_owned() } else { format!("there are {there}") };
            check.error(&at, format!("names the provider {name:?}, which is not defined; {there}; add [providers.NAME], or correct the name"));
        } else if let Ok(name) = ProviderName::parse(name) {
            parsed.push(name);
        }
    }
    (parsed.len() == names.len()).then_some(parsed)
}

/// What works, but probably not as meant.
fn remarks(check: &mut Check, path: &KeyPath, route: &Route, known: &Known<'_>) {
    if route.ttl > CONSUMER_TIMEOUT {
        check.warning(&path.with("ttl"), format!(
            "is longer than RabbitMQ's consumer_timeout of {} and a job is held as long as its code is valid; shorten it, or raise consumer_timeout on the broker",
            Time(CONSUMER_TIMEOUT),
        ));
    }
    if route.max_wait.is_some_and(|wait| wait >= route.ttl) {
        check.warning(
            &path.with("max_wait"),
            format!(
                "has no effect: the code expires before it, after {}; make it shorter than ttl",
                Time(route.ttl)
            ),
        );
    }
    if route.confirm_within.is_some_and(|within| within >= route.ttl) {
        check.warning(
            &path.with("confirm_within"),
            format!(
                "has no effect: the code expires before it, after {}; make it shorter than ttl",
                Time(route.ttl)
            ),
        );
    }
    for (key, time) in [("spill_after", route.spill_after), ("confirm_within", route.confirm_within)] {
        if time.is_some() && route.providers.len() < 2 {
            check.warning(
                &path.with(key),
                "has no effect on a route of one provider; add a second one to `providers`",
            );
        }
    }
    let count = u32::try_from(route.providers.len()).unwrap_or(u32::MAX);
    if count > known.max_attempts {
        check.warning(
            &path.with("providers"),
            format!(
                "names {count} providers, but a job may cost {} requests in all; raise retry.max_attempts",
                known.max_attempts,
            ),
        );
    }
}
