//! `otpd config`, and `otpd topology`.

use std::io::{BufRead, BufReader};

use serde_json::Value;

use crate::{LAPTOP, Place};

#[test]
fn all_errors_are_printed_and_exit_with_2() {
    let place = Place::new("[retry]\nmax = 5\n[providers.v]\nkind = \"twilio\"");
    for args in [&["config", "check"][..], &["config", "show"], &["dead", "list"], &["topology", "check"]] {
        let ran = place.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{ran:?}");
        let lines: Vec<&str> = ran.err.lines().map(|line| line.split(": must").next().unwrap()).collect();
        assert_eq!(lines, ["otpd.toml:2: retry.max", "otpd.toml:4: providers.v.kind"], "{args:?}");
    }
}

#[test]
fn a_file_that_is_not_there_exits_with_2() {
    let ran = Place::new("").run(&["config", "check", "--config", "gone.toml"]);
    assert_eq!(ran.code, 2);
    assert_eq!(ran.err, "gone.toml: cannot be read (entity not found); name another file with --config\n");
}

#[test]
fn check_opens_the_secrets() {
    let place = Place::new(&LAPTOP.replace("API_KEY", "GONE"));
    let ran = place.run(&["config", "check"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(
        ran.err
            .starts_with("otpd.toml:8: providers.verihubs.api_key: the environment variable GONE is not set"),
        "{ran:?}"
    );
    assert_eq!(place.run(&["config", "show"]).code, 0, "showing needs no secret");
}

#[test]
fn a_pipeline_checks_without_secrets() {
    let config = LAPTOP
        .replace("API_KEY", "GONE")
        .replace(
            "\"embedded:otpd.db\"",
            "{ file = \"/run/secrets/none\" }\nca = { file = \"/run/secrets/none\" }",
        )
        .replace(
            "[routes",
            "ca = { file = \"/run/secrets/none\" }\n[limits]\nkey = { env = \"NONE\" }\n[routes",
        );
    let place = Place::new(&config);
    assert_eq!(place.run(&["config", "check"]).code, 2);
    let ran = place.run(&["config", "check", "--no-secrets"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert!(ran.out.contains("broker  not looked at: broker.url is a secret that is not here"), "{ran:?}");
    // Everything else is an error as before, a secret that is there and wrong included.
    std::fs::write(place.0.join("empty"), "\n").unwrap();
    let text = config.replace("45/s", "many").replace("{ env = \"NONE\" }", "{ file = \"empty\" }");
    let place = Place::new(&text);
    std::fs::write(place.0.join("empty"), "\n").unwrap();
    let ran = place.run(&["config", "check", "--no-secrets"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(
        ran.err.contains("ceiling: must be")
            && ran.err.contains("limits.key: the secret's file empty is empty"),
        "{ran:?}"
    );
}

#[test]
fn clear_text_to_another_machine_is_told_by_check_and_at_the_start() {
    let told = "providers.verihubs.base_url: is http:// to another machine";
    let elsewhere = "base_url = \"http://192.0.2.1\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[routes";
    let place = Place::new(&LAPTOP.replace("[routes", elsewhere));
    let ran = place.run(&["config", "check"]);
    assert!(ran.code == 0 && ran.err.contains(told), "{ran:?}");
    let mut worker = place.command(&["worker"]).spawn().unwrap();
    // The first lines, before anything else is looked at.
    let mut lines = BufReader::new(worker.stderr.take().unwrap()).lines().map_while(Result::ok);
    let found = lines.by_ref().take(5).any(|line| line.contains("WARN") && line.contains(told));
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert!(found);
}

#[test]
fn diff_says_what_is_followed_and_what_waits() {
    let place = Place::new(LAPTOP);
    let write = |name: &str, text: &str| std::fs::write(place.0.join(name), text).unwrap();
    let lower = LAPTOP.replace("45/s", "40/s").replace("APP_ID", "GONE");
    write("same.toml", &format!("# the same\n{LAPTOP}"));
    write("lower.toml", &lower);
    write("other.toml", &lower.replace("otpd.db", "other.db"));
    write("wrong.toml", "[retry]\nmax = 5");
    let diff =
        |new: &str, more: &[&str]| place.run(&[&["config", "diff", "otpd.toml", new][..], more].concat());
    let ran = diff("same.toml", &[]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "The configs say the same.\n"), "{ran:?}");
    let ran = diff("lower.toml", &[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("followed         providers.verihubs.ceiling: 45/s -> 40/s"), "{ran:?}");
    assert_eq!(diff("lower.toml", &["--restart-only"]).code, 0);
    let ran = diff("other.toml", &["--restart-only", "--json"]);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, json["followed"].as_array().unwrap().len()), (1, 2), "{ran:?}");
    assert_eq!(json["waits_for_restart"][0]["key"], "broker.url");
    assert_eq!(diff("wrong.toml", &[]).code, 2);
    assert_eq!(diff("gone.toml", &[]).code, 2);
    assert!(!ran.out.contains("s3cret"));
}

#[test]
fn check_lists_what_there_is() {
    let place = Place::new(&LAPTOP.replace("45/s", "55/s"));
    let ran = place.run(&["config", "check"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.err.starts_with("warning: otpd.toml:6: providers.verihubs.ceiling: lets up to 55"),
        "{ran:?}"
    );
    for line in [
        "broker  embedded:otpd.db",
        "verihubs  verihubs  55/s",
        "login     verihubs   10m",
        "there is 1 warning",
    ] {
        assert!(ran.out.contains(line), "{line}: {}", ran.out);
    }
    let json: Value = serde_json::from_str(&place.run(&["config", "check", "--json"]).out).unwrap();
    assert_eq!((json["valid"].as_bool(), json["warnings"].as_array().unwrap().len()), (Some(true), 1));
    assert_eq!(json["config"]["routes"][0]["name"], "login");
}

#[test]
fn check_as_json_tells_errors_too() {
    let ran = Place::new("[retry]\nmax = 5").run(&["config", "check", "--json"]);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, json["valid"].as_bool()), (2, Some(false)));
    assert_eq!(json["errors"][0]["key"], "retry.max");
    assert_eq!(json["errors"][0]["place"], "otpd.toml:2");
}

#[test]
fn show_masks_and_schema_prints() {
    let place = Place::new(&LAPTOP.replace("{ env = \"API_KEY\" }", "\"s3cret\""));
    let ran = place.run(&["config", "show", "--set", "retry.max_attempts=9"]);
    assert_eq!(ran.code, 0);
    assert!(
        ran.out.contains("max_attempts = 9")
            && ran.out.contains("api_key = \"***\"")
            && !ran.out.contains("s3cret")
    );
    let json: Value = serde_json::from_str(&place.run(&["config", "show", "--json"]).out).unwrap();
    assert_eq!(json["providers"]["verihubs"]["app_id"]["env"], "APP_ID");
    for args in [&["config", "schema"][..], &["config", "schema", "--job"]] {
        let schema: Value = serde_json::from_str(&place.run(args).out).unwrap();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    }
    assert!(place.run(&["config", "schema", "--asyncapi"]).out.starts_with("asyncapi: 3.0.0\n"));
}

#[test]
fn topology_is_checked_then_applied() {
    let place = Place::new(LAPTOP);
    let ran = place.run(&["topology", "check"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("missing"), "{ran:?}");
    let json: Value = serde_json::from_str(&place.run(&["topology", "check", "--json"]).out).unwrap();
    assert_eq!(json["as_configured"], false);
    let ran = place.run(&["topology", "apply"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "embedded:otpd.db: as configured, 1 lanes\n"), "{ran:?}");
    let ran = place.run(&["topology", "check"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "embedded:otpd.db: as configured\n"));
}
