//! The gateway's OpenAPI document, held against the specification by a public validator.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::Command;

use otpd_tests::tools::{python_tool, root};

fn validate(file: &std::path::Path) -> (bool, String) {
    let out = Command::new(python_tool("openapi-spec-validator")).arg(file).output().expect("it runs");
    (out.status.success(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
}

#[test]
fn a_public_validator_takes_the_document_and_no_broken_one() {
    let document = root().join("deploy/schema/openapi.json");
    let (valid, said) = validate(&document);
    assert!(valid, "{said}");
    let text = std::fs::read_to_string(&document).expect("it is committed");
    let broken = std::env::temp_dir().join(format!("otpd-openapi-{}.json", std::process::id()));
    std::fs::write(&broken, text.replacen("\"responses\"", "\"answers\"", 1)).expect("writable");
    let (valid, said) = validate(&broken);
    std::fs::remove_file(&broken).expect("it was there");
    assert!(!valid, "{said}");
}
