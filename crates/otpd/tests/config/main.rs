//! The config: what is read, what is refused and in which words, and that nothing shows a secret.

#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod errors;
mod properties;
mod samples;
mod secrets;
mod valid;
mod warnings;

use otpd::config::{Environment, Issues, Loaded, Severity, Sources};

pub(crate) fn load(text: &str) -> Result<Loaded, Issues> {
    Sources::default().load_over(Some(("otpd.toml", text)))
}

pub(crate) fn valid(text: &str) -> Loaded {
    load(text).unwrap_or_else(|issues| panic!("{text}\n{issues}"))
}

pub(crate) fn lines(issues: &Issues, severity: Severity) -> Vec<String> {
    issues.of(severity).map(ToString::to_string).collect()
}

pub(crate) fn errors(text: &str) -> Vec<String> {
    match load(text) {
        Ok(_) => panic!("{text}\nwas taken"),
        Err(issues) => lines(&issues, Severity::Error),
    }
}

pub(crate) fn variables(all: &[(&str, &str)]) -> Environment {
    all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn over(text: &str, environment: Environment, sets: &[&str]) -> Result<Loaded, Issues> {
    let sets = sets.iter().map(|&set| set.to_owned()).collect();
    Sources { file: None, environment, sets, ..Sources::default() }.load_over(Some(("otpd.toml", text)))
}

pub(crate) const VERIHUBS: &str = r#"
[providers.verihubs]
kind = "verihubs"
ceiling = "45/s"
app_id = { env = "A" }
api_key = { env = "B" }
"#;
