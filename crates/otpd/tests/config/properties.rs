//! Any text at all is a config, or errors of one line each.

use otpd::config::Severity;
use proptest::prelude::*;

use crate::{VERIHUBS, load, over, variables};

proptest! {
    #[test]
    fn any_text_is_a_config_or_errors(text in any::<String>()) {
        let _ = load(&text);
    }

    #[test]
    fn anything_like_a_config_is_a_config_or_errors(
        lines in proptest::collection::vec((
            prop::sample::select(vec!["[broker]", "[providers.v]", "[providers.v.api_key]", "[routes.v]", "[[routes]]", "[retry]", "providers", "x.y.z", "url", "kind", "ceiling", "initial", "env", "ttl", "providers.v.kind"]),
            prop::sample::select(vec!["5", "-1.5e9", "\"\"", "\"amqp://\"", "[]", "[[1], {a=1}]", "{ env = 1 }", "nan", "2026-11-20", "\"verihubs\"", "\"1/s\"", "\"5m\"", "['v','v']", "true"]),
        ), 0..12)
    ) {
        let text: Vec<String> = lines.iter().map(|(key, value)| if key.starts_with('[') { (*key).to_owned() } else { format!("{key} = {value}") }).collect();
        if let Err(issues) = load(&text.join("\n")) {
            for line in issues.of(Severity::Error) {
                prop_assert!(!line.to_string().contains('\n'), "{}", line);
            }
        }
    }

    #[test]
    fn any_override_is_taken_or_refused(name in "[A-Z_]{0,20}", value in ".{0,20}", set in ".{0,30}") {
        let _ = over(VERIHUBS, variables(&[(&format!("OTPD__{name}"), &value)]), &[&set]);
        let _ = over(VERIHUBS, variables(&[(&format!("OTPD__PROVIDERS__{name}"), &value)]), &[&format!("providers.{set}")]);
    }
}
