//! What a valid config comes out as.

use std::time::Duration;

use otpd::config::{Address, Severity, Sources};
use otpd_core::{OnAmbiguous, RouteName};
use otpd_providers::Kind;
use otpd_queue::Owners;

use crate::{VERIHUBS, lines, over, valid, variables};

#[test]
fn a_config_is_made_of_valid_types() {
    let text = r#"
        [broker]
        url = ["amqp://u:p@a", "amqps://u:p@b/v"]
        prefix = "test."
        [retry]
        initial = "1s"
        max_attempts = 3
        [providers.v]
        kind = "verihubs"
        ceiling = ["45/s", "600/min"]
        burst = 5
        max_in_flight = 7
        connect_timeout = "1s"
        timeout = "2s"
        on_ambiguous = "park"
        app_id = "a"
        api_key = "b"
        [providers.b]
        kind = "betatel"
        api_key = "a"
        account_id = "b"
        owners = "many"
        [routes.news]
        providers = ["b"]
        class = "bulk"
        [routes.login]
        providers = ["v", "b"]
        ttl = "2m"
        spill_after = "10s"
        [routes.v]
        ttl = "1m"
        [limits]
        recipient = "1/30s, 5/h"
        [dead]
        keep_code = false
        retention = "1d"
    "#;
    let config = valid(text).config;
    assert_eq!(config.broker.address().to_string(), "amqp://a:5672/%2f, amqps://b:5671/v");
    assert_eq!((config.retry.initial, config.retry.max_attempts), (Duration::from_secs(1), 3));
    let v = &config.providers[1];
    assert_eq!((v.name.as_str(), v.kind, v.burst), ("v", Kind::Verihubs, Some(5)));
    assert_eq!(format!("{:?}", v.ceiling), "[45/s, 600/min]");
    assert_eq!((v.http.max_in_flight, v.http.timeout), (7, Duration::from_secs(2)));
    assert_eq!(v.on_ambiguous, OnAmbiguous::Park);
    let ttl = |route: &str| config.routes.get(route).unwrap().ttl.as_secs();
    assert_eq!((ttl("login"), ttl("v"), ttl("b")), (120, 60, 300));
    assert_eq!(format!("{:?}", config.recipient_limits), "[1/30s, 5/h]");
    assert!(!config.dead.keep_code);

    let plan = config.plan();
    let names = |routes: &[RouteName]| routes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let lanes: Vec<(&str, Owners, String, String)> = plan
        .lanes
        .iter()
        .map(|lane| (lane.provider.as_str(), lane.owners, names(&lane.routes), names(&lane.bulk_routes)))
        .collect();
    assert_eq!(
        lanes,
        [
            ("b", Owners::Many, "b".to_owned(), "news".to_owned()),
            ("v", Owners::One, "login v".to_owned(), String::new())
        ]
    );
    assert_eq!((plan.prefix.as_str(), plan.dead_retention.as_secs()), ("test.", 86_400));
}

#[test]
fn a_route_named_like_a_provider_replaces_its_own() {
    let text = format!(
        "{VERIHUBS}[providers.b]\nkind = \"betatel\"\napi_key = {{ env = \"A\" }}\naccount_id = {{ env = \"B\" }}\n[routes.verihubs]\nproviders = [\"b\"]"
    );
    let plan = valid(&text).config.plan();
    let routes = |name: &str| plan.lanes.iter().find(|l| l.provider.as_str() == name).unwrap().routes.len();
    assert_eq!((routes("b"), routes("verihubs")), (2, 0));
}

#[test]
fn nothing_said_is_a_broker_on_this_machine() {
    let config = Sources::default().load_over(None).ok().unwrap().config;
    assert_eq!(config.broker.address, None);
    assert_eq!(config.broker.address().to_string(), "amqp://127.0.0.1:5672/%2f");
    let embedded = valid("[broker]\nurl = \"embedded:./otpd.db\"").config;
    assert_eq!(embedded.broker.address, Some(Address::Embedded("./otpd.db".into())));
}

#[test]
fn variables_and_flags_go_over_the_file() {
    let text = format!(
        "{VERIHUBS}[providers.meta-eu]\nkind = \"meta_cloud\"\nphone_number_id = \"1\"\ntoken = {{ env = \"T\" }}\ntemplate = \"otp\"\nceiling = \"70/s\""
    );
    let environment = variables(&[
        ("OTPD__RETRY__MAX_ATTEMPTS", "9"),
        ("OTPD__RETRY__MULTIPLIER", "3"),
        ("OTPD__DEAD__KEEP_CODE", "false"),
        ("OTPD__PROVIDERS__META_EU__PHONE_NUMBER_ID", "106540352242922"),
        ("OTPD__PROVIDERS__META_EU__TOKEN", "1e5"),
        ("OTPD__PROVIDERS__VERIHUBS__CEILING", r#"["40/s", "500/min"]"#),
        ("OTPD__PROVIDERS__VERIHUBS__API_KEY", r#"{ env = "OTHER" }"#),
        ("OTPD__BROKER__URL", "amqps://h/v"),
        ("OTPD_LOG", "debug"),
        ("OTHER", "o"),
        ("A", "a"),
    ]);
    let sets = [
        "retry.max_attempts=8",
        "retry.initial=2s",
        "routes.login.providers=[\"verihubs\"]",
        "telemetry.log_level = warn",
    ];
    let loaded = over(&text, environment.clone(), &sets).unwrap_or_else(|i| panic!("{i}"));
    let config = &loaded.config;
    assert_eq!((config.retry.max_attempts, config.retry.multiplier), (8, 3.0));
    assert_eq!(config.retry.initial, Duration::from_secs(2));
    assert!(!config.dead.keep_code);
    assert_eq!(format!("{:?}", config.providers[1].ceiling), "[40/s, 500/min]");
    assert_eq!(config.broker.address().to_string(), "amqps://h:5671/v");
    assert_eq!(config.telemetry.log_level, "warn");
    assert!(config.routes.get("login").is_some());
    assert_eq!(config.open_providers(&environment).unwrap().len(), 2);
    assert_eq!(
        lines(&loaded.warnings, Severity::Warning),
        [""; 0],
        "a variable is a fine place for a secret"
    );
}
