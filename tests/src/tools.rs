//! Programs of others that tests run: where they are, and how to get them. `cargo xtask setup` installs
//! them; a test that misses one fails and says so.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The workspace's root.
///
/// # Panics
/// Never: this package is in it.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace").to_path_buf()
}

/// A program of the Python environment that holds validators.
///
/// # Panics
/// Where it is not installed.
#[must_use]
pub fn python_tool(name: &str) -> PathBuf {
    installed(root().join("target/tools/venv/bin").join(name))
}

/// A command that builds a kustomization; its folder is the next argument. From the path where that is
/// new enough, else the one that setup fetched.
///
/// # Panics
/// Where there is none with kustomize 5 or newer.
#[must_use]
pub fn kustomize() -> Command {
    let fetched = root().join("target/tools/bin/kubectl");
    let candidates: [(&Path, &[&str], &str); 3] = [
        (Path::new("kubectl"), &["version", "--client"], "kustomize"),
        (Path::new("kustomize"), &["version"], "build"),
        (&fetched, &["version", "--client"], "kustomize"),
    ];
    for (program, version, build) in candidates {
        let said = Command::new(program).args(version).stdin(Stdio::null()).output();
        let said = said.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        if said.lines().any(is_new_enough) {
            let mut command = Command::new(program);
            command.arg(build);
            return command;
        }
    }
    panic!("no kubectl or kustomize with kustomize 5 or newer; `cargo xtask setup` gets one")
}

/// `Kustomize Version: v5.5.0` of kubectl, `v5.6.0` or `5.6.0` of kustomize.
fn is_new_enough(line: &str) -> bool {
    let version = match line.split_once("Kustomize Version:") {
        Some((_, version)) => version,
        None if line.contains(':') => return false,
        None => line,
    };
    let major = version.trim().trim_start_matches('v').split('.').next();
    major.and_then(|m| m.parse::<u32>().ok()).is_some_and(|major| major >= 5)
}

/// Runs a program to its end.
///
/// # Panics
/// Where it cannot be started.
#[must_use]
pub fn output(command: &mut Command) -> (bool, String, String) {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?} cannot be run: {e}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.success(), text(stdout), text(stderr))
}

fn installed(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} is not there; `cargo xtask setup` installs it", path.display());
    path
}

#[cfg(test)]
mod tests {
    use super::is_new_enough;

    #[test]
    fn versions_as_kubectl_and_kustomize_say_them() {
        for line in ["Kustomize Version: v5.5.0", "v5.0.1", "5.6.0", "Kustomize Version: v10.0.0"] {
            assert!(is_new_enough(line), "{line}");
        }
        for line in [
            "Client Version: v1.32.4-dispatcher",
            "Kustomize Version: v4.5.7",
            "{Version:kustomize/v4.1.2}",
            "",
        ] {
            assert!(!is_new_enough(line), "{line}");
        }
    }
}
