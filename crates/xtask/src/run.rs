//! Running other programs: to their end, with an error that names the command.

use std::process::{Command, Stdio};

/// Runs a command; it may print.
///
/// # Errors
/// Where it cannot be started, or does not end well.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let line = format!("{command:?}").replace('"', "");
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{line}` ended with {status}")),
        Err(error) => Err(format!("`{line}` cannot be run: {error}")),
    }
}

/// Cargo, as if it were started by hand. What `cargo run` says of this program is taken back: some libraries look at
/// such variables when they are built, and would be built anew, with all that depends on them.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let ours = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
            .iter()
            .any(|of| ours.starts_with(of))
        {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// Whether a command ends well; it prints nothing.
pub(crate) fn succeeds(command: &[&str]) -> bool {
    let Some((program, arguments)) = command.split_first() else { return false };
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|s| s.success())
}
