//! `cargo xtask rabbitmq4`: the tests that concern the broker, on RabbitMQ 4.
//!
//! The suite runs on the RabbitMQ of the system's own release, which is there on every machine that has
//! `apt-get`. A newer one comes from the next Debian release, unpacked into a folder of its own with
//! `debootstrap` (some 500 MB, a few minutes, root), and is run from there: a different version of Erlang beside the
//! system's is no use to anything else. So this is a task on demand, and no other test depends on a download.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::debian;
use crate::run::{cargo, run, succeeds};

const FOLDER: &str = "target/rabbitmq4";
/// The Debian release that has RabbitMQ 4.0.
const RELEASE: &str = "trixie";
const PROGRAMS: [&str; 2] = ["rabbitmq-server", "rabbitmqctl"];
/// The tests that say something about the broker.
const TESTS: [&str; 6] = ["conformance", "rabbit_seam", "rabbit_faults", "ownership", "fleet", "cluster"];

/// Installs RabbitMQ 4 unless it is there, and runs the tests on it: all that concern the broker, or what
/// `arguments` of `cargo test` say.
///
/// # Errors
/// Where it cannot be installed, or a test fails.
pub(crate) fn rabbitmq4(arguments: &[String]) -> Result<(), String> {
    let bin = install()?;
    run(cargo().args(["build", "--locked", "--package", "otpd"]))?;
    let mut test = cargo();
    test.args(["test", "--locked", "--package", "otpd-tests"]).env("RABBITMQ_BIN", bin);
    if arguments.is_empty() {
        test.arg("--no-fail-fast").args(TESTS.iter().flat_map(|name| ["--test", name]));
    }
    run(test.args(arguments))
}

/// The folder of RabbitMQ's programs.
fn install() -> Result<PathBuf, String> {
    let folder = std::env::current_dir().map_err(|e| format!("no folder to work in: {e}"))?.join(FOLDER);
    let (root, bin) = (folder.join("root"), folder.join("bin"));
    if !root.join("usr/lib/rabbitmq/bin/rabbitmq-server").exists() {
        if !succeeds(&["sh", "-c", "test \"$(id -u)\" = 0"]) {
            return Err(
                "RabbitMQ 4 is unpacked into a folder of its own and run with chroot, which needs root"
                    .to_owned(),
            );
        }
        if !succeeds(&["debootstrap", "--version"]) {
            debian::install(&["debootstrap"])?;
        }
        fill(&root)?;
    }
    fs::create_dir_all(&bin).map_err(|e| format!("{} cannot be made: {e}", bin.display()))?;
    for program in PROGRAMS {
        write_start(&bin, program)
            .map_err(|e| format!("{program} cannot be put into {}: {e}", bin.display()))?;
    }
    run(Command::new(bin.join("rabbitmqctl")).arg("version"))?;
    Ok(bin)
}

/// Unpacks a small Debian with RabbitMQ.
fn fill(root: &Path) -> Result<(), String> {
    println!("xtask: unpacking Debian {RELEASE} with RabbitMQ 4 into {}", root.display());
    if !root.join("usr/bin/apt-get").exists() {
        run(Command::new("debootstrap").args(["--variant=minbase", RELEASE]).arg(root))?;
    }
    // No service is to start in there.
    let policy = root.join("usr/sbin/policy-rc.d");
    let written = fs::write(&policy, "#!/bin/sh\nexit 101\n")
        .and_then(|()| fs::set_permissions(&policy, fs::Permissions::from_mode(0o755)))
        .and_then(|()| fs::copy("/etc/resolv.conf", root.join("etc/resolv.conf")))
        .and_then(|_| fs::copy("/etc/hosts", root.join("etc/hosts")));
    written.map_err(|e| format!("{} cannot be prepared: {e}", root.display()))?;
    let within = "mount -t proc proc \"$1/proc\" && exec chroot \"$1\" sh -c 'apt-get update -qq && apt-get install -y -qq \
                  --no-install-recommends rabbitmq-server'";
    let mut install = Command::new("unshare");
    install.args(["--mount", "--propagation", "private", "sh", "-c", within, "sh"]).arg(root);
    run(install.env("DEBIAN_FRONTEND", "noninteractive").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"))
}

fn write_start(bin: &Path, program: &str) -> std::io::Result<()> {
    let script = bin.join("in_root");
    fs::write(&script, include_str!("in_root.sh"))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let link = bin.join(program);
    match symlink("in_root", &link) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}
