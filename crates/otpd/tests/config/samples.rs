//! The sample files are tests.

use otpd::config::provider_section::ProviderSection;
use otpd::config::{Address, Config, Environment, Loaded, Severity, Sources};

use crate::{lines, variables};

fn sample(name: &str, sets: &[&str]) -> Loaded {
    let file = format!("{}/../../deploy/config/{name}", env!("CARGO_MANIFEST_DIR"));
    let sets = sets.iter().map(|&set| set.to_owned()).collect();
    let environment = credentials();
    Sources { file: Some(file.into()), environment, sets, ..Sources::default() }
        .load()
        .unwrap_or_else(|issues| panic!("{issues}"))
}

fn credentials() -> Environment {
    let keys = [
        "VERIHUBS_APP_ID",
        "VERIHUBS_API_KEY",
        "MSGAI_API_KEY",
        "META_TOKEN",
        "BETATEL_API_KEY",
        "BETATEL_ACCOUNT_ID",
        "ONEMSG_TOKEN",
    ];
    let mut all: Vec<(&str, &str)> = keys.map(|key| (key, "x")).to_vec();
    all.push(("OTPD_BROKER_URL", "amqps://u:p@h/v"));
    variables(&all)
}

fn opens(config: &Config) {
    let open = config.open_providers(&credentials()).unwrap_or_else(|issues| panic!("{issues}"));
    assert_eq!(open.len(), config.providers.len());
}

#[test]
fn the_full_sample_is_fine_and_names_every_key() {
    let loaded = sample("otpd.toml", &["providers.onemsg.token={ env = \"ONEMSG_TOKEN\" }"]);
    assert_eq!(lines(&loaded.warnings, Severity::Warning), [""; 0]);
    opens(&loaded.config);
    let text = include_str!("../../../../deploy/config/otpd.toml");
    let schema: serde_json::Value = serde_json::from_str(&otpd::schema::config()).unwrap();
    for (section, definition) in
        schema["$defs"].as_object().unwrap().iter().filter(|(name, _)| name.ends_with("Section"))
    {
        for key in definition["properties"].as_object().unwrap().keys() {
            let is_table = |line: &str| {
                line.starts_with('[')
                    && (line.contains(&format!(".{key}.")) || line.contains(&format!(".{key}]")))
            };
            let mut lines = text.lines().map(|line| line.trim_start_matches("# "));
            let written = lines.any(|line| line.starts_with(&format!("{key} = ")) || is_table(line));
            assert!(written, "{section}: {key} is not in the sample");
        }
    }
}

#[test]
fn the_full_sample_shows_the_defaults() {
    let default = Sources::default().load_over(None).ok().unwrap().document.effective();
    let default = serde_json::to_value(default).unwrap();
    let sample = serde_json::to_value(sample("otpd.toml", &[]).document).unwrap();
    for section in ["retry", "worker", "dead", "admin", "gateway", "telemetry"] {
        assert_eq!(sample[section], default[section], "{section}");
    }
    let provider = serde_json::to_value(ProviderSection::default()).unwrap();
    for key in ["max_in_flight", "connect_timeout", "timeout", "on_ambiguous"] {
        assert_eq!(sample["providers"]["verihubs"][key], provider[key], "{key}");
    }
}

#[test]
fn the_laptop_sample_needs_no_environment() {
    let loaded = sample("laptop.toml", &[]);
    opens(&loaded.config);
    let warnings = lines(&loaded.warnings, Severity::Warning);
    assert!(warnings.iter().all(|line| line.contains("is a secret written into the file")), "{warnings:?}");
    assert!(matches!(loaded.config.broker.address(), Address::Embedded(_)));
}
