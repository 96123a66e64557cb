//! Every key written wrongly, and the whole line that comes back.

use otpd::config::{Environment, Severity};

use crate::{VERIHUBS, errors, lines, over, variables};

/// The keys of each section, written wrongly in every way, with the whole line that comes back.
#[test]
fn every_error_names_its_key_and_what_to_write() {
    let provider = |key: &str| {
        format!(
            "[providers.v]\nkind = \"betatel\"\napi_key = {{ env = \"A\" }}\naccount_id = {{ env = \"B\" }}\n{key}"
        )
    };
    let route = |key: &str| format!("{VERIHUBS}[routes.login]\nproviders = [\"verihubs\"]\n{key}");
    let rate = "must be COUNT/TIME such as 50/s, 600/min or 1/30s (count 1 to 1000000, time up to 1 day)";
    let secret = r#"must be a text, { env = "NAME" } or { file = "/path" }; write for example"#;
    let time = "must be a time with its unit; write for example";
    for (text, line) in [
        ("x = 1".into(), "otpd.toml:1: x: unknown key; known are broker, retry, providers, routes, limits, worker, dead, admin, gateway, telemetry".into()),
        ("retry = 5".into(), "otpd.toml:1: retry: must be a table: [retry]".into()),
        ("[retry]\n\nfoo = 1".into(), "otpd.toml:3: retry.foo: unknown key; known are initial, multiplier, max, max_attempts".into()),
        ("[retry]\ninitial = 500".into(), format!(r#"otpd.toml:2: retry.initial: {time} initial = "30s""#)),
        ("[retry]\ninitial = \"soon\"".into(), format!(r#"otpd.toml:2: retry.initial: {time} initial = "30s""#)),
        ("[retry]\ninitial = \"1ms\"".into(), r#"otpd.toml:2: retry.initial: must be 10ms to 1h; write for example initial = "500ms""#.into()),
        ("[retry]\nmax = \"400ms\"".into(), r#"otpd.toml:2: retry.max: must not be shorter than retry.initial (500ms); write for example max = "30s""#.into()),
        ("[retry]\nmultiplier = 0.5".into(), "otpd.toml:2: retry.multiplier: must be a number from 1.0 to 100.0; write for example multiplier = 2.0".into()),
        ("[retry]\nmultiplier = nan".into(), "otpd.toml:2: retry.multiplier: must be a number from 1.0 to 100.0; write for example multiplier = 2.0".into()),
        ("[retry]\nmax_attempts = 0".into(), "otpd.toml:2: retry.max_attempts: must be a whole number from 1 to 100; write for example max_attempts = 6".into()),
        ("[retry]\nmax_attempts = 6.0".into(), "otpd.toml:2: retry.max_attempts: must be a whole number from 1 to 100; write for example max_attempts = 6".into()),
        ("[retry]\nmax_attempts = 99999999999999999999".into(), "otpd.toml:2: retry.max_attempts: is a number out of every range; write a smaller one".into()),
        ("[broker]\nurl = \"http://h\"".into(), "otpd.toml:2: broker.url: is not the URL of a broker: it must begin with amqp:// or amqps://; write amqp://user:password@host:5672/vhost, or embedded:PATH".into()),
        ("[broker]\nurl = \"amqp://h/?heartbeat=0\"".into(), "otpd.toml:2: broker.url: is not the URL of a broker: heartbeat=0 turns heartbeats off, by which a dead connection is noticed before its lane has another owner; leave it out (10 s), or write heartbeat=10, or embedded:PATH".into()),
        ("[broker]\nurl = \"embedded:\"".into(), "otpd.toml:2: broker.url: embedded: names no file; write for example url = \"embedded:./otpd.db\"".into()),
        ("[broker]\nurl = [\"amqp://h\", \"embedded:x\"]".into(), "otpd.toml:2: broker.url: an embedded queue is one file and no cluster; write for example url = \"embedded:./otpd.db\"".into()),
        ("[broker]\nurl = []".into(), "otpd.toml:2: broker.url: must be amqp://user:password@host:port/vhost, amqps://... or embedded:PATH; write for example url = \"amqp://guest:guest@127.0.0.1:5672/%2f\"".into()),
        ("[broker]\nurl = { env = \"GONE\" }".into(), "otpd.toml:2: broker.url: the environment variable GONE is not set; set it, or write { file = \"/path/of/the/secret\" }".into()),
        ("[broker]\nprefix = \"a b\"".into(), "otpd.toml:2: broker.prefix: must be 1 to 32 of A-Z a-z 0-9 . _ -; write for example prefix = \"otp.\"".into()),
        ("[broker]\nprefix = \"amq.\"".into(), "otpd.toml:2: broker.prefix: must not begin with amq., which RabbitMQ keeps for itself; write for example prefix = \"otp.\"".into()),
        ("[broker]\nprefix = 5".into(), "otpd.toml:2: broker.prefix: must be a text; write for example prefix = \"...\"".into()),
        ("[providers.V]\nkind = \"betatel\"".into(), "otpd.toml:1: providers.V: the name of a provider must be 1 to 32 of a-z 0-9 _ -; rename it, for example [providers.verihubs]".into()),
        ("[providers.v]".into(), "otpd.toml:1: providers.v.kind: is missing: one of verihubs, msgai, onemsg, meta_cloud, meta_onprem, betatel; write for example kind = \"verihubs\"".into()),
        ("[providers.v]\nkind = \"twilio\"".into(), "otpd.toml:2: providers.v.kind: must be one of verihubs, msgai, onemsg, meta_cloud, meta_onprem, betatel; write for example kind = \"verihubs\"".into()),
        ("[providers.v]\nkind = \"msgai\"".into(), "otpd.toml:1: providers.v.api_key: is missing: an API key (sk_live_...) from Msgai, Settings, Developer; write api_key = { env = \"MSGAI_API_KEY\" }".into()),
        ("[providers.v]\nkind = \"onemsg\"\ntoken = { env = \"A\" }".into(), "otpd.toml:1: providers.v.channel_id: is missing: the channel's id in the 1MSG dashboard; write channel_id = \"...\"".into()),
        (provider("ceiling = \"fast\""), format!(r#"otpd.toml:5: providers.v.ceiling: {rate}; write for example ceiling = "50/s""#)),
        (provider("ceiling = [\"50/s\", 6]"), format!(r#"otpd.toml:5: providers.v.ceiling: {rate}; write for example ceiling = "50/s""#)),
        (provider("ceiling = []"), format!(r#"otpd.toml:5: providers.v.ceiling: {rate}; write for example ceiling = "50/s""#)),
        (provider("burst = 0"), "otpd.toml:5: providers.v.burst: must be a whole number from 1 to 1000000; write for example burst = 6".into()),
        (provider("owners = \"all\""), "otpd.toml:5: providers.v.owners: must be one of one or many; write for example owners = \"one\"".into()),
        (provider("owners = \"many\"\nceiling = \"5/s\""), "otpd.toml:5: providers.v.owners: must be \"one\" where there is a ceiling: it is counted by the lane's one owner, and many would each use all of it; remove owners, or the ceiling".into()),
        (provider("max_in_flight = 0"), "otpd.toml:5: providers.v.max_in_flight: must be a whole number from 1 to 10000; write for example max_in_flight = 6".into()),
        (provider("timeout = \"3s\""), "otpd.toml:5: providers.v.timeout: must be longer than connect_timeout (3s), or a request that was never sent looks like one that may have been; write for example timeout = \"10s\"".into()),
        (provider("connect_timeout = \"0s\""), "otpd.toml:5: providers.v.connect_timeout: must be 1ms to 5m; write for example connect_timeout = \"3s\"".into()),
        (provider("on_ambiguous = \"retry\""), "otpd.toml:5: providers.v.on_ambiguous: must be one of resend, next_provider, park; write for example on_ambiguous = \"resend\"".into()),
        (provider("token = \"otp\""), "otpd.toml:5: providers.v.token: is not a key of betatel but of onemsg, meta_cloud; remove it, or correct `kind`".into()),
        (provider("ceilling = \"5/s\""), "otpd.toml:5: providers.v.ceilling: unknown key; known are kind, ceiling, burst, owners, max_in_flight, connect_timeout, timeout, http_version, ca, on_ambiguous, api_key, account_id, base_url, text, callback_token".into()),
        (provider("callback_token = 5"), format!(r#"otpd.toml:5: providers.v.callback_token: {secret} callback_token = {{ env = "NAME" }}"#)),
        (provider("callback_token = \"\""), format!(r#"otpd.toml:5: providers.v.callback_token: {secret} callback_token = {{ env = "NAME" }}"#)),
        (provider("callback_token = { env = \"A\", file = \"/b\" }"), format!(r#"otpd.toml:5: providers.v.callback_token: {secret} callback_token = {{ env = "NAME" }}"#)),
        (provider("callback_token = { vault = \"A\" }"), format!(r#"otpd.toml:5: providers.v.callback_token: {secret} callback_token = {{ env = "NAME" }}"#)),
        (format!("{VERIHUBS}[routes.Login]\nproviders = [\"verihubs\"]"), "otpd.toml:7: routes.Login: the name of a route must be 1 to 32 of a-z 0-9 _ -; rename it, for example [routes.login]".into()),
        (format!("{VERIHUBS}[routes.login]"), "otpd.toml:7: routes.login.providers: is missing; write for example providers = [\"verihubs\"]".into()),
        (format!("{VERIHUBS}[routes.login]\nproviders = []"), "otpd.toml:8: routes.login.providers: must be a list of at least one name; write for example providers = [\"verihubs\"]".into()),
        (format!("{VERIHUBS}[routes.login]\nproviders = \"verihubs\""), "otpd.toml:8: routes.login.providers: must be a list of at least one name; write for example providers = [\"verihubs\"]".into()),
        (format!("{VERIHUBS}[routes.login]\nproviders = [\"msgai\"]"), "otpd.toml:8: routes.login.providers: names the provider \"msgai\", which is not defined; there are verihubs; add [providers.NAME], or correct the name".into()),
        (format!("{VERIHUBS}[routes.login]\nproviders = [\"verihubs\", \"verihubs\"]"), "otpd.toml:8: routes.login.providers: names \"verihubs\" twice; a job moves on through a route once, leave one out".into()),
        (route("ttl = \"25h\""), "otpd.toml:9: routes.login.ttl: must be 1s to 1d; write for example ttl = \"5m\"".into()),
        (route("spill_after = \"0s\""), "otpd.toml:9: routes.login.spill_after: must be 1ms to 1d; write for example spill_after = \"10s\"".into()),
        (route("max_wait = 5"), format!(r#"otpd.toml:9: routes.login.max_wait: {time} max_wait = "30s""#)),
        (route("confirm_within = \"1ms\""), "otpd.toml:9: routes.login.confirm_within: must be 1s to 1d; write for example confirm_within = \"10s\"".into()),
        (route("class = \"fast\""), "otpd.toml:9: routes.login.class: must be one of interactive or bulk; write for example class = \"interactive\"".into()),
        ("[limits]\nkey = \"short\"".into(), "otpd.toml:2: limits.key: is shorter than 16 bytes, so that numbers could be guessed from it; make one with `openssl rand -hex 32`".into()),
        ("[limits]\nrecipient = \"often\"".into(), r#"otpd.toml:2: limits.recipient: must be COUNT/TIME (several with commas) or "off"; write for example recipient = "1/30s, 5/h""#.into()),
        ("[worker]\nshutdown_grace = \"1h\"".into(), "otpd.toml:2: worker.shutdown_grace: must be 1s to 10m; write for example shutdown_grace = \"25s\"".into()),
        ("[dead]\nretention = \"0s\"".into(), "otpd.toml:2: dead.retention: must be 1s to 3650d; write for example retention = \"7d\"".into()),
        ("[dead]\nkeep_code = \"no\"".into(), "otpd.toml:2: dead.keep_code: must be true or false; write for example keep_code = true".into()),
        ("[admin]\nlisten = \"9090\"".into(), r#"otpd.toml:2: admin.listen: must be IP:PORT; write for example listen = "127.0.0.1:9090", or "0.0.0.0:9090" for all interfaces"#.into()),
        ("[gateway]\npublic_url = \"otp.example\"".into(), r#"otpd.toml:2: gateway.public_url: must be the https:// or http:// address of the gateway from outside, without user and query; write for example public_url = "https://otp.example""#.into()),
        ("[gateway.keys.k]\nroutes = [\"a\"]".into(), r#"otpd.toml:1: gateway.keys.k: must be the SHA-256 of the key, 64 hexadecimal digits; make it with `printf %s "$KEY" | sha256sum`"#.into()),
        ("[gateway.keys.k]\nroutes = [\"a\"]\nsha256 = \"secret\"".into(), r#"otpd.toml:3: gateway.keys.k.sha256: must be the SHA-256 of the key, 64 hexadecimal digits; make it with `printf %s "$KEY" | sha256sum`"#.into()),
        (format!("{VERIHUBS}[gateway.keys.k]\nroutes = [\"verihubs\", \"nowhere\"]\nsha256 = \"{}\"", "0".repeat(64)), "otpd.toml:8: gateway.keys.k.routes: names a route that there is not; write the name of a [routes.NAME] or of a provider".into()),
        (format!("{VERIHUBS}[gateway.keys.k]\nroutes = [\"verihubs\"]\nrate = [\"5/s\", \"9/h\"]\nsha256 = \"{}\"", "0".repeat(64)), r#"otpd.toml:9: gateway.keys.k.rate: must be one rate; write for example rate = "50/s""#.into()),
        (format!("{VERIHUBS}[gateway.supabase]\nsecrets = []\nroute = \"verihubs\""), r#"otpd.toml:8: gateway.supabase.secrets: must be a list of at least one secret; write for example secrets = [{ env = "SUPABASE_HOOK_SECRET" }]"#.into()),
        (format!("{VERIHUBS}[gateway.supabase]\nsecrets = [\"x\"]\nroute = \"nowhere\""), "otpd.toml:9: gateway.supabase.route: names a route that there is not; write the name of a [routes.NAME] or of a provider".into()),
        ("[gateway]\nlisten = \"127.0.0.1:9090\"".into(), r#"otpd.toml:2: gateway.listen: must not be the address of admin.listen; write for example listen = "127.0.0.1:8080""#.into()),
        ("[telemetry]\nlog_format = \"xml\"".into(), "otpd.toml:2: telemetry.log_format: must be one of auto, text, json; write for example log_format = \"auto\"".into()),
        ("[telemetry]\nlog_level = true".into(), "otpd.toml:2: telemetry.log_level: must be a text; write for example log_level = \"...\"".into()),
    ] {
        let errors = errors(&text);
        assert!(errors.contains(&line), "\n{text}\nwanted {line}\ngot    {}", errors.join("\n       "));
    }
}

#[test]
fn all_errors_come_at_once_and_none_twice() {
    let text = "[retry]\ninitial = 5\nmax_attempts = 0\n[providers.v]\nkind = \"verihubs\"\napp_id = 5\nspeed = 1\n[routes.login]\nproviders = [1]\nttl = \"9d\"";
    let keys: Vec<String> =
        errors(text).iter().map(|line| line.split(": ").nth(1).unwrap().to_owned()).collect();
    assert_eq!(
        keys,
        [
            "retry.initial",
            "retry.max_attempts",
            "providers.v.api_key",
            "providers.v.app_id",
            "providers.v.speed",
            "routes.login.providers",
            "routes.login.ttl",
        ]
    );
}

#[test]
fn a_provider_that_cannot_be_read_is_no_second_error_in_its_routes() {
    let text = "[providers]\nv = 5\n[routes.login]\nproviders = [\"v\"]";
    assert_eq!(errors(text), ["otpd.toml:2: providers.v: must be a table: [providers.NAME]"]);
}

#[test]
fn what_is_no_toml_is_said_by_line_and_not_repeated() {
    let text = "[broker]\nurl = \"amqp://u:s3cret@h\n[retry\nmax = 's3cret";
    let errors = errors(text);
    assert!(errors.iter().all(|line| line.contains(": not valid TOML: ")), "{errors:?}");
    assert!(errors[0].starts_with("otpd.toml:2: "), "{errors:?}");
    assert!(!errors.join("\n").contains("s3cret"), "{errors:?}");
    assert!(crate::errors("a = 1\na = 2")[0].starts_with("otpd.toml:2: not valid TOML: duplicate key"));
}

#[test]
fn a_wrong_override_is_named_by_its_variable_or_flag() {
    for (variable, value, line) in [
        (
            "OTPD__RETRY__MAX",
            "soon",
            r#"variable OTPD__RETRY__MAX: retry.max: must be a time with its unit; write for example max = "30s""#,
        ),
        (
            "OTPD__RETRY__MAX",
            "5",
            r#"variable OTPD__RETRY__MAX: retry.max: must be a time with its unit; write for example max = "30s""#,
        ),
        (
            "OTPD__RETRIES__MAX",
            "5s",
            "variable OTPD__RETRIES__MAX: retries: unknown key; known are broker, retry, providers, routes, limits, worker, dead, admin, gateway, telemetry",
        ),
        ("OTPD__RETRY", "5", "variable OTPD__RETRY: retry: must be a table: [retry]"),
        (
            "OTPD__RETRY____MAX",
            "5s",
            "variable OTPD__RETRY____MAX: must be named OTPD__SECTION__KEY; write for example OTPD__RETRY__MAX_ATTEMPTS=6",
        ),
        (
            "OTPD__PROVIDERS__VERIHUBS__KIND__X",
            "5",
            "variable OTPD__PROVIDERS__VERIHUBS__KIND__X: providers.verihubs.kind: is a value, not a table; give it a whole new value instead of `X` in it",
        ),
    ] {
        let Err(issues) = over(VERIHUBS, variables(&[(variable, value)]), &[]) else { panic!("{variable}") };
        let errors = lines(&issues, Severity::Error);
        assert!(errors.iter().any(|error| error == line), "{variable}: {errors:#?}");
    }
    for (set, line) in [
        (
            "retry.max_attempts=x",
            "--set: retry.max_attempts: must be a whole number from 1 to 100; write for example max_attempts = 6",
        ),
        ("retry.max_attempts", "--set: must be PATH=VALUE; write for example --set retry.max_attempts=6"),
        ("=5", "--set: must be PATH=VALUE; write for example --set retry.max_attempts=6"),
        ("retry..max=5s", "--set: must be PATH=VALUE; write for example --set retry.max_attempts=6"),
    ] {
        let Err(issues) = over(VERIHUBS, Environment::default(), &[set]) else { panic!("{set}") };
        assert_eq!(lines(&issues, Severity::Error), [line], "{set}");
    }
}
