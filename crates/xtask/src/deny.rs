//! `cargo xtask deny`: licences, sources, bans and advisories of what is built in, by `cargo deny` and deny.toml.
//!
//! Not a part of the tests: compiling cargo-deny takes minutes, and its advisories come from the network.

use std::process::Command;

use crate::run::{run, succeeds};

/// Checks; `--offline` leaves the advisories out.
///
/// # Errors
/// Where cargo-deny is not installed, or finds something.
pub(crate) fn deny(arguments: &[String]) -> Result<(), String> {
    if !succeeds(&["cargo", "deny", "--version"]) {
        return Err("cargo-deny is not installed, so nothing was checked; `cargo install --locked cargo-deny` (some minutes)".to_owned());
    }
    let mut command = Command::new("cargo");
    match arguments {
        [] => command.args(["deny", "check"]),
        [offline] if offline == "--offline" => {
            command.args(["deny", "--offline", "check", "licenses", "bans", "sources"])
        }
        _ => return Err("cargo xtask deny takes --offline and nothing else".to_owned()),
    };
    run(&mut command).map_err(|error| {
        format!("{error}; where the advisories cannot be reached: `cargo xtask deny --offline`")
    })
}
