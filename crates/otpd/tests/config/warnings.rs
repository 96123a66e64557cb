//! What works but is probably not meant.

use otpd::config::Severity;

use crate::{VERIHUBS, lines, valid};

#[test]
fn warnings() {
    let provider = |text: &str| format!("[providers.v]\nkind = \"{text}");
    let route = |text: &str| {
        format!(
            "{VERIHUBS}[providers.w]\nkind = \"betatel\"\napi_key = {{ env = \"A\" }}\naccount_id = {{ env = \"B\" }}\n[routes.login]\n{text}"
        )
    };
    for (text, line) in [
        (
            String::new(),
            "otpd.toml: there is no provider, so nothing can be sent; add [providers.NAME] with its kind",
        ),
        (
            provider("verihubs\"\napp_id = { env = \"A\" }\napi_key = { env = \"B\" }"),
            "otpd.toml:1: providers.v.ceiling: is missing, but verihubs refuses more than 50/s; write ceiling = \"45/s\"",
        ),
        (
            provider("verihubs\"\nceiling = \"51/s\"\napp_id = { env = \"A\" }\napi_key = { env = \"B\" }"),
            "otpd.toml:3: providers.v.ceiling: lets up to 51 requests start in a window for which verihubs documents 50/s; write for example ceiling = \"45/s\"",
        ),
        (
            provider(
                "verihubs\"\nceiling = \"600/min\"\napp_id = { env = \"A\" }\napi_key = { env = \"B\" }",
            ),
            "otpd.toml:3: providers.v.ceiling: lets up to 600 requests start in a window for which verihubs documents 50/s; write for example ceiling = \"45/s\"",
        ),
        (
            provider(
                "verihubs\"\nceiling = \"30/500ms\"\napp_id = { env = \"A\" }\napi_key = { env = \"B\" }",
            ),
            "otpd.toml:3: providers.v.ceiling: lets up to 60 requests start in a window for which verihubs documents 50/s; write for example ceiling = \"45/s\"",
        ),
        (
            provider("betatel\"\nburst = 5\naccount_id = { env = \"A\" }\napi_key = { env = \"B\" }"),
            "otpd.toml:3: providers.v.burst: has no effect without a ceiling; add one, or remove it",
        ),
        (
            provider(
                "betatel\"\nburst = 5\nceiling = \"4/s\"\naccount_id = { env = \"A\" }\napi_key = { env = \"B\" }",
            ),
            "otpd.toml:3: providers.v.burst: is more than the ceiling of 4 allows at once; lower it",
        ),
        (
            provider("betatel\"\naccount_id = \"x\"\napi_key = { env = \"B\" }"),
            "otpd.toml:3: providers.v.account_id: is a secret written into the file; write account_id = { env = \"NAME\" } or { file = \"/run/secrets/name\" }",
        ),
        (
            provider(
                "betatel\"\nsignature_secret = { env = \"S\" }\naccount_id = { env = \"A\" }\napi_key = { env = \"B\" }",
            ),
            "otpd.toml:3: providers.v.signature_secret: has no effect on betatel, only on msgai; remove it",
        ),
        (
            provider("msgai\"\napi_key = { env = \"B\" }"),
            "otpd.toml:1: providers.v.template: is missing, so every job has to bring its own; write template = \"...\"",
        ),
        (
            provider("meta_onprem\"\nbase_url = \"https://h\"\nusername = \"u\"\npassword = { env = \"B\" }"),
            "otpd.toml:2: providers.v.kind: Meta ended the on-premises API in October 2025 and delivers nothing from it; use meta_cloud",
        ),
        (
            "[broker]\nurl = \"amqp://u:s3cret@h\"".into(),
            "otpd.toml:2: broker.url: has a password in it; write url = { env = \"NAME\" } or { file = \"/run/secrets/name\" }",
        ),
        (
            "[broker]\nurl = \"amqp://u@mq.example/v\"".into(),
            "otpd.toml:2: broker.url: is amqp:// to another machine, so that whoever is in between reads the password and every code; write amqps://, with ca where the authority is your own",
        ),
        (
            provider(
                "betatel\"\nbase_url = \"http://10.0.0.1\"\naccount_id = { env = \"A\" }\napi_key = { env = \"B\" }",
            ),
            "otpd.toml:3: providers.v.base_url: is http:// to another machine, so that whoever is in between reads the account's key and every code; write https://, with ca where the authority is your own",
        ),
        (
            route("providers = [\"w\"]\nttl = \"31m\""),
            "otpd.toml:13: routes.login.ttl: is longer than RabbitMQ's consumer_timeout of 30m and a job is held as long as its code is valid; shorten it, or raise consumer_timeout on the broker",
        ),
        (
            route("providers = [\"w\"]\nmax_wait = \"5m\""),
            "otpd.toml:13: routes.login.max_wait: has no effect: the code expires before it, after 5m; make it shorter than ttl",
        ),
        (
            route("providers = [\"w\", \"verihubs\"]\nconfirm_within = \"5m\""),
            "otpd.toml:13: routes.login.confirm_within: has no effect: the code expires before it, after 5m; make it shorter than ttl",
        ),
        (
            route("providers = [\"w\", \"verihubs\"]\nconfirm_within = \"20s\""),
            "otpd.toml:13: routes.login.confirm_within: waits for deliveries, and providers.w has no callback_token by which it could tell of them, so that every code would be sent twice; set callback_token there, or leave confirm_within out",
        ),
        (
            route("providers = [\"w\"]\nspill_after = \"5s\""),
            "otpd.toml:13: routes.login.spill_after: has no effect on a route of one provider; add a second one to `providers`",
        ),
        (
            route("providers = [\"w\", \"verihubs\"]\n[retry]\nmax_attempts = 1"),
            "otpd.toml:12: routes.login.providers: names 2 providers, but a job may cost 1 requests in all; raise retry.max_attempts",
        ),
    ] {
        let warnings = lines(&valid(&text).warnings, Severity::Warning);
        assert!(
            warnings.iter().any(|w| w == line),
            "\n{text}\nwanted {line}\ngot    {}",
            warnings.join("\n       ")
        );
    }
    assert_eq!(lines(&valid(VERIHUBS).warnings, Severity::Warning), [""; 0]);
}
