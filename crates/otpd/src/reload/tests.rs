//! What counts as a change, and what a running worker can follow.

use super::difference::between;
use super::snapshot::Role;
use super::*;
use crate::config::Environment;

const BASE: &str = r#"
[providers.verihubs]
kind = "verihubs"
ceiling = "50/s"
app_id = "app"
api_key = { env = "KEY" }
[providers.msgai]
kind = "msgai"
template = "otp"
api_key = "sk_live_0123456789abcdef"
[routes.login]
providers = ["verihubs", "msgai"]
ttl = "2m"
"#;

fn snapshot_with(text: &str, key: &str) -> Snapshot {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let environment: Environment = [("KEY".to_owned(), key.to_owned())].into_iter().collect();
    let sources = Sources { environment, ..Sources::default() };
    let loaded = sources.load_over(Some(("otpd.toml", text))).unwrap_or_else(|issues| panic!("{issues}"));
    Snapshot::of(loaded, &sources.environment, Role::Both).unwrap_or_else(|issues| panic!("{issues}"))
}

fn snapshot(text: &str) -> Snapshot {
    snapshot_with(text, "s3cret")
}

/// What changes when `from` in the config becomes `to`; `!` before what needs a restart.
fn told(from: &str, to: &str) -> Vec<String> {
    let text = BASE.replacen(from, to, 1);
    assert_ne!(text, BASE, "{from} is not in the config");
    let changes = between(&snapshot(BASE), &snapshot(&text));
    changes.iter().map(|c| format!("{}{c}", if c.needs_restart() { "!" } else { "" })).collect()
}

#[test]
fn each_key_by_its_name_and_whether_it_needs_a_restart() {
    for (from, to, is) in [
        ("\"50/s\"", "\"30/s\"", "providers.verihubs.ceiling: 50/s -> 30/s"),
        ("\"50/s\"", "[\"30/s\", \"600/min\"]", "providers.verihubs.ceiling: 50/s -> 30/s, 600/min"),
        ("ceiling = \"50/s\"\n", "", "!providers.verihubs.ceiling: 50/s -> none"),
        ("template", "ceiling = \"5/s\"\ntemplate", "!providers.msgai.ceiling: none -> 5/s"),
        ("app_id", "burst = 3\napp_id", "providers.verihubs.burst: none -> 3"),
        ("app_id", "max_in_flight = 3\napp_id", "providers.verihubs.max_in_flight: 256 -> 3"),
        ("app_id", "timeout = \"5s\"\napp_id", "providers.verihubs.timeout: 10s -> 5s"),
        ("app_id", "on_ambiguous = \"park\"\napp_id", "providers.verihubs.on_ambiguous: resend -> park"),
        (
            "app_id",
            "base_url = \"http://h\"\napp_id",
            "providers.verihubs.base_url: https://api.verihubs.com -> http://h",
        ),
        ("\"app\"", "\"other\"", "providers.verihubs.app_id: changed"),
        ("{ env = \"KEY\" }", "\"s3cret\"", "providers.verihubs.api_key: changed"),
        ("cdef\"", "cdeg\"", "providers.msgai.api_key: changed"),
        ("\"otp\"", "\"otp2\"", "providers.msgai.template: otp -> otp2"),
        ("\"verihubs\", \"msgai\"", "\"msgai\"", "routes.login.providers: verihubs, msgai -> msgai"),
        ("\"2m\"", "\"3m\"", "routes.login.ttl: 2m -> 3m"),
        ("ttl = \"2m\"", "max_wait = \"9s\"\nttl = \"2m\"", "routes.login.max_wait: none -> 9s"),
        ("[routes.login]", "[routes.bulk]\nproviders = [\"msgai\"]\n[routes.login]", "routes.bulk: added"),
        (
            "[routes.login]\nproviders = [\"verihubs\", \"msgai\"]\nttl = \"2m\"\n",
            "",
            "routes.login: removed",
        ),
        ("[routes", "[retry]\nmax_attempts = 3\n[routes", "retry.max_attempts: 6 -> 3"),
        ("[routes", "[limits]\nrecipient = \"off\"\n[routes", "limits.recipient: 1/30s, 5/h -> off"),
        ("[routes", "[dead]\nkeep_code = false\n[routes", "dead.keep_code: true -> false"),
        ("[routes", "[dead]\nretention = \"1d\"\n[routes", "!dead.retention: 7d -> 1d"),
        ("[routes", "[worker]\nshutdown_grace = \"9s\"\n[routes", "worker.shutdown_grace: 25s -> 9s"),
        ("[routes", "[telemetry]\nlog_level = \"warn\"\n[routes", "telemetry.log_level: info -> warn"),
        ("[routes", "[telemetry]\nlog_format = \"json\"\n[routes", "!telemetry.log_format: auto -> json"),
        (
            "[routes",
            "[admin]\nlisten = \"127.0.0.1:9\"\n[routes",
            "!admin.listen: 127.0.0.1:9090 -> 127.0.0.1:9",
        ),
        (
            "[routes",
            "[gateway.keys.k]\nsha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"\nroutes = [\"login\"]\n[routes",
            "gateway.keys: added",
        ),
        (
            "[routes",
            "[gateway]\npublic_url = \"https://h\"\n[routes",
            "!gateway.public_url: none -> https://h",
        ),
        (
            "[routes",
            "[gateway]\nlisten = \"127.0.0.1:9\"\n[routes",
            "!gateway.listen: 127.0.0.1:8080 -> 127.0.0.1:9",
        ),
        ("[routes", "[broker]\nprefix = \"a.\"\n[routes", "!broker.prefix: otp. -> a."),
        ("[routes", "[broker]\nurl = \"amqp://u:p@h/v\"\n[routes", "!broker.url: changed"),
        (
            "[routes",
            "[broker]\nca = \"-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\"\n[routes",
            "broker.ca: changed",
        ),
        (
            "[providers.msgai]",
            "[providers.m2]\nkind = \"msgai\"\ntemplate = \"otp\"\napi_key = \"sk_live_1\"\n[providers.msgai]",
            "!providers.m2: added",
        ),
    ] {
        assert_eq!(told(from, to), [is]);
    }
}

#[test]
fn a_renamed_provider_and_another_kind_need_a_restart() {
    let told = told(
        "[providers.msgai]",
        "[providers.other]\nkind = \"msgai\"\ntemplate = \"otp\"\napi_key = \"sk_live_1\"\n[providers.msgai]",
    );
    assert_eq!(told, ["!providers.other: added"]);
    let before = snapshot("[providers.a]\nkind = \"msgai\"\ntemplate = \"t\"\napi_key = \"sk_live_1\"\n");
    let after = snapshot(
        "[providers.a]\nkind = \"onemsg\"\ntemplate = \"t\"\nnamespace = \"n\"\nchannel_id = \"c\"\ntoken = \"t\"\n",
    );
    let stuck: Vec<String> =
        between(&before, &after).iter().filter(|c| c.needs_restart()).map(ToString::to_string).collect();
    assert_eq!(stuck, ["providers.a.kind: msgai -> onemsg"]);
}

#[test]
fn only_content_counts_and_no_secret_is_shown() {
    let before = snapshot(BASE);
    let rewritten = format!("# a remark\n{}", BASE.replace("[routes.login]", "\n[routes.login] # another"));
    assert!(before.is_same_as(&snapshot(&rewritten)) && between(&before, &snapshot(&rewritten)).is_empty());
    // The same file, and another value where it points to.
    let after = snapshot_with(BASE, "n3w");
    assert!(!before.is_same_as(&after));
    let told: Vec<String> = between(&before, &after).iter().map(ToString::to_string).collect();
    assert_eq!(told, ["providers.verihubs.api_key: changed"]);
}

#[test]
fn another_password_of_the_broker_is_seen_behind_its_mask() {
    let with = |password: &str| snapshot(&format!("[broker]\nurl = \"amqp://u:{password}@h/v\"\n{BASE}"));
    let changes = between(&with("one"), &with("two"));
    let told: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["broker.url: other credentials, for new connections"]);
    assert!(!changes.iter().any(Change::needs_restart));
}

#[test]
fn a_transport_is_made_anew_only_where_its_provider_is_reached_otherwise() {
    let ways = |from: &str, to: &str| -> Vec<String> {
        let changes = between(&snapshot(BASE), &snapshot(&BASE.replacen(from, to, 1)));
        changes.iter().filter_map(Change::another_way_to).map(|p| p.to_string()).collect()
    };
    assert_eq!(ways("\"50/s\"", "\"30/s\""), [""; 0]);
    assert_eq!(ways("\"2m\"", "\"3m\""), [""; 0]);
    assert_eq!(ways("\"app\"", "\"other\""), ["verihubs"]);
    assert_eq!(ways("\"otp\"", "\"otp2\""), ["msgai"]);
    assert_eq!(ways("app_id", "timeout = \"5s\"\napp_id"), ["verihubs"]);
}

/// What is followed and what waits when all of `edits` are made at once; and that nothing but the latter is left to
/// be done then.
fn divided(edits: &[(&str, &str)]) -> (Vec<String>, Vec<String>, Snapshot) {
    let text = edits.iter().fold(BASE.to_owned(), |text, (from, to)| text.replacen(from, to, 1));
    let (before, found) = (snapshot(BASE), snapshot(&text));
    let Divided { snapshot, live, waiting } = Divided::of(&before, &found);
    let told = |changes: &[Change]| changes.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(told(&between(&snapshot, &found)), told(&waiting));
    let again = Divided::of(&snapshot, &found);
    assert_eq!((told(&again.live), told(&again.waiting)), (Vec::new(), told(&waiting)));
    (told(&live), told(&waiting), snapshot)
}

const LOWER: (&str, &str) = ("\"50/s\"", "\"30/s\"");

#[test]
fn a_key_that_waits_for_a_restart_holds_no_other_up() {
    let lower = "providers.verihubs.ceiling: 50/s -> 30/s";
    for (from, to, waits) in [
        ("[routes", "[broker]\nprefix = \"a.\"\n[routes", "broker.prefix: otp. -> a."),
        ("[routes", "[broker]\nurl = \"amqp://u:p@h/v\"\n[routes", "broker.url: changed"),
        ("[routes", "[dead]\nretention = \"1d\"\n[routes", "dead.retention: 7d -> 1d"),
        (
            "[routes",
            "[admin]\nlisten = \"127.0.0.1:9\"\n[routes",
            "admin.listen: 127.0.0.1:9090 -> 127.0.0.1:9",
        ),
        ("[routes", "[telemetry]\nlog_format = \"json\"\n[routes", "telemetry.log_format: auto -> json"),
        ("template", "ceiling = \"5/s\"\ntemplate", "providers.msgai.ceiling: none -> 5/s"),
        ("template", "owners = \"many\"\ntemplate", "providers.msgai.owners: one -> many"),
        (
            "[providers.msgai]",
            "[providers.m2]\nkind = \"msgai\"\ntemplate = \"otp\"\napi_key = \"sk_live_1\"\n[providers.msgai]",
            "providers.m2: added",
        ),
    ] {
        let (live, waiting, snapshot) = divided(&[LOWER, (from, to)]);
        assert_eq!((live, waiting), (vec![lower.to_owned()], vec![waits.to_owned()]));
        let (before, config) = (snapshot_with(BASE, "s3cret").config, snapshot.config);
        assert_eq!(config.broker, before.broker);
        let lanes = |config: &Config| -> Vec<_> {
            config.providers.iter().map(|p| (p.name.clone(), p.ceiling.is_empty(), p.owners)).collect()
        };
        assert_eq!(lanes(&config), lanes(&before));
        assert_eq!(config.dead, before.dead);
        assert_eq!(config.admin_listen, before.admin_listen);
    }
}

#[test]
fn what_depends_on_a_key_that_waits_waits_too() {
    // A route that names a provider without a lane here, and the provider.
    let added =
        "[providers.m2]\nkind = \"msgai\"\ntemplate = \"otp\"\napi_key = \"sk_live_1\"\n[providers.msgai]";
    let (live, waiting, after) =
        divided(&[LOWER, ("[providers.msgai]", added), ("\"msgai\"]", "\"m2\"]"), ("\"2m\"", "\"3m\"")]);
    assert_eq!(live, ["providers.verihubs.ceiling: 50/s -> 30/s"]);
    assert_eq!(
        waiting,
        [
            "providers.m2: added",
            "routes.login.providers: verihubs, msgai -> verihubs, m2",
            "routes.login.ttl: 2m -> 3m"
        ]
    );
    assert_eq!(after.config.routes, snapshot(BASE).config.routes);
    // A provider of another kind, with all its keys; one that left keeps its lane and its own route.
    let other = "kind = \"betatel\"\napi_key = \"sk_live_0123456789abcdef\"\naccount_id = \"a\"";
    let (live, waiting, after) = divided(&[
        LOWER,
        ("kind = \"msgai\"\ntemplate = \"otp\"\napi_key = \"sk_live_0123456789abcdef\"", other),
    ]);
    assert_eq!(live, ["providers.verihubs.ceiling: 50/s -> 30/s"]);
    assert!(waiting.iter().any(|w| w == "providers.msgai.kind: msgai -> betatel"), "{waiting:?}");
    assert!(waiting.iter().all(|w| w.starts_with("providers.msgai.")), "{waiting:?}");
    assert!(after.config.providers.iter().any(|p| p.name.as_str() == "msgai" && p.kind.as_str() == "msgai"));
    let gone =
        "[providers.msgai]\nkind = \"msgai\"\ntemplate = \"otp\"\napi_key = \"sk_live_0123456789abcdef\"\n";
    let (live, waiting, after) = divided(&[(gone, ""), ("\"verihubs\", \"msgai\"", "\"verihubs\"")]);
    assert_eq!(live, ["routes.login.providers: verihubs, msgai -> verihubs"]);
    assert_eq!(waiting, ["providers.msgai: removed"]);
    assert!(after.config.routes.get("msgai").is_some());
}

#[test]
fn routes_that_are_new_or_begin_elsewhere_are_found() {
    let changed = |from: &str, to: &str| {
        let plan = |text: &str| snapshot(text).config.plan();
        changed_routes(&plan(BASE), &plan(&BASE.replacen(from, to, 1)))
    };
    assert_eq!(changed("\"verihubs\", \"msgai\"", "\"msgai\", \"verihubs\""), ["login"]);
    assert_eq!(changed("\"verihubs\", \"msgai\"", "\"verihubs\""), [""; 0]);
    assert_eq!(changed("[routes.login]", "[routes.login]\nclass = \"bulk\""), ["login"]);
    assert_eq!(changed("[routes.login]", "[routes.bulk]\nproviders = [\"msgai\"]\n[routes.login]"), ["bulk"]);
}
