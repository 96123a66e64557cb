//! Secrets: found where they are, missed by name, and never shown.

use otpd::config::{Environment, Severity};

use crate::{VERIHUBS, errors, lines, over, valid, variables};

#[test]
fn missing_secrets_are_all_named_when_providers_are_opened() {
    let text = format!(
        "{VERIHUBS}[providers.b]\nkind = \"betatel\"\napi_key = {{ env = \"A\" }}\naccount_id = {{ file = \"/nowhere/secret\" }}"
    );
    let config = valid(&text).config;
    let issues = config.open_providers(&variables(&[("A", "a")])).unwrap_err();
    let expected = [
        "otpd.toml:6: providers.verihubs.api_key: the environment variable B is not set; set it, or write { file = \"/path/of/the/secret\" }",
        "otpd.toml:10: providers.b.account_id: the secret's file /nowhere/secret cannot be read (entity not found); mount it, or correct the path",
    ];
    assert_eq!(lines(&issues, Severity::Error), expected);
}

#[test]
fn settings_that_only_the_provider_understands_are_checked_when_it_is_opened() {
    let text = "[providers.v]\nkind = \"verihubs\"\nbase_url = \"ftp://x\"\napp_id = \"a\"\napi_key = \"b\"";
    let issues = valid(text).config.open_providers(&Environment::default()).unwrap_err();
    let errors = lines(&issues, Severity::Error);
    assert!(errors[0].starts_with("otpd.toml:3: providers.v.base_url: must be a URL"), "{errors:?}");
}

const SECRETS: &str = r#"
    [broker]
    url = ["amqp://u:s3cret1@h", "amqps://u:s3c@s3cret2@h/v"]
    [providers.v]
    kind = "verihubs"
    app_id = "s3cret3"
    api_key = "s3cret4"
    callback_token = "s3cret5"
    [providers.m]
    kind = "meta_cloud"
    phone_number_id = "1"
    token = { env = "T" }
    app_secret = "s3cret6"
    verify_token = "s3cret7"
    template = "otp"
    [providers.o]
    kind = "meta_onprem"
    base_url = "https://h"
    username = "u"
    password = "s3cret8"
    [providers.g]
    kind = "msgai"
    api_key = "s3cret9"
    signature_secret = "s3cret0"
    [providers.b]
    kind = "betatel"
    api_key = "s3creta"
    account_id = "s3cretb"
"#;

#[test]
fn nothing_shows_a_secret() {
    let environment = variables(&[("T", "s3crett")]);
    let loaded = over(SECRETS, environment.clone(), &[]).unwrap_or_else(|i| panic!("{i}"));
    let open = loaded.config.open_providers(&environment).unwrap_or_else(|i| panic!("{i}"));
    let shown = [
        format!("{:?}", loaded.config),
        format!("{:#?}", loaded.config),
        format!("{open:?}"),
        loaded.config.broker.address().to_string(),
        lines(&loaded.warnings, Severity::Warning).join("\n"),
        loaded.document.clone().effective().to_toml().unwrap(),
        loaded.document.effective().to_json().unwrap().to_string(),
    ];
    for text in shown {
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[test]
fn no_error_repeats_a_value() {
    // Every value becomes a secret in the wrong place.
    for key in ["kind", "ceiling", "timeout", "on_ambiguous", "max_in_flight", "api_key", "s3", "base_url"] {
        for value in [r#""s3cret""#, "['s3cret']", "{ x = 's3cret' }", "{ env = 's3cret', file = 's3cret' }"]
        {
            let text = format!(
                "[providers.v]\n{key} = {value}\n[dead]\nkeep_code = {value}\n[broker]\nurl = {value}\nprefix = {value}"
            );
            let errors = errors(&text).join("\n");
            assert!(!errors.contains("s3cret"), "{errors}");
        }
    }
}

#[test]
fn what_is_shown_reads_back_as_the_same_config() {
    let environment = variables(&[("T", "t")]);
    let first = over(SECRETS, environment.clone(), &[]).unwrap_or_else(|i| panic!("{i}"));
    let shown = first.document.clone().effective().to_toml().unwrap();
    let second = over(&shown, environment, &[]).unwrap_or_else(|i| panic!("{shown}\n{i}"));
    assert_eq!(second.document.effective().to_toml().unwrap(), shown);
    assert_eq!(second.config.plan(), first.config.plan());
    assert!(shown.contains("base_url = \"https://api.verihubs.com\""), "{shown}");
    assert!(shown.contains("url = [\"amqp://u:***@h\", \"amqps://u:***@h/v\"]"), "{shown}");
}
