//! Tells `version.rs` what is being built: commit, compiler, target. No time and no path, so that builds can
//! be repeated byte by byte.
#![allow(clippy::print_stdout, reason = "printing is how a build script speaks to cargo")]

use std::path::{Path, PathBuf};
use std::process::Command;

const GIVEN: &str = "OTPD_REVISION";

fn main() -> Result<(), String> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed={GIVEN}");
    let revision = match std::env::var(GIVEN) {
        Ok(given) if !given.is_empty() => checked(given)?,
        Ok(_) | Err(_) => checked_out().unwrap_or_else(|| "unknown".to_owned()),
    };
    let variable = |name: &str| std::env::var(name).map_err(|_| format!("cargo sets no {name}"));
    let compiler = said(Command::new(variable("RUSTC")?).arg("--version"));
    println!("cargo:rustc-env=OTPD_BUILD_REVISION={revision}");
    println!("cargo:rustc-env=OTPD_BUILD_COMPILER={}", compiler.unwrap_or_else(|| "unknown".to_owned()));
    println!("cargo:rustc-env=OTPD_BUILD_TARGET={}", variable("TARGET")?);
    Ok(())
}

/// It becomes the value of a label and a line of its own.
fn checked(given: String) -> Result<String, String> {
    let fits = given.len() <= 64 && given.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c));
    fits.then_some(given).ok_or_else(|| format!("{GIVEN} must be at most 64 of 0-9 A-Z a-z . _ + -"))
}

/// The commit of this workspace, where it is a git repository of its own and not sources unpacked in another.
fn checked_out() -> Option<String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.parent()?;
    let git = |arguments: &[&str]| said(Command::new("git").args(arguments).current_dir(workspace));
    let top = PathBuf::from(git(&["rev-parse", "--show-toplevel"])?);
    if top.canonicalize().ok()? != workspace.canonicalize().ok()? {
        return None;
    }
    // Another commit changes one of these. A path that is not there would make every build a new one.
    let mut names = vec!["HEAD".to_owned(), "packed-refs".to_owned()];
    names.extend(git(&["symbolic-ref", "--quiet", "HEAD"]));
    for name in names {
        let path = workspace.join(git(&["rev-parse", "--git-path", &name])?);
        if path.exists() {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
    git(&["rev-parse", "HEAD"])
}

/// What a command prints, without the end of the line; `None` where it fails or prints nothing.
fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
