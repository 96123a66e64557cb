//! What comes from the system's own package manager.

use std::process::Command;

use crate::run::{run, succeeds};

/// Something the tests run: its name, how to see that it is there, and the Debian package that brings it.
type Need = (&'static str, &'static [&'static str], &'static str);

const NEEDED: [Need; 7] = [
    ("RabbitMQ", &["test", "-x", "/usr/lib/rabbitmq/bin/rabbitmq-server"], "rabbitmq-server"),
    ("pika for Python", &["/usr/bin/python3", "-c", "import pika"], "python3-pika"),
    ("Node.js", &["node", "--version"], "nodejs"),
    ("npm", &["npm", "--version"], "npm"),
    ("promtool", &["promtool", "--version"], "prometheus"),
    ("Alertmanager", &["amtool", "--version"], "prometheus-alertmanager"),
    // Debian's Python has the module venv without this package; what it needs to put pip into one is missing then.
    ("venv for Python", &["/usr/bin/python3", "-c", "import venv, ensurepip"], "python3-venv"),
];

/// The services that Debian starts when it installs them, and how to stop each where there is no systemd. The
/// tests start their own, so these would only take memory and ports.
const STARTED: [(&str, &str); 3] = [
    ("rabbitmq-server", "/usr/sbin/rabbitmqctl stop"),
    ("prometheus", "service prometheus stop"),
    ("prometheus-alertmanager", "service prometheus-alertmanager stop"),
];

/// Installs what is missing.
///
/// # Errors
/// Where that cannot be, with the command to do it by hand.
pub(crate) fn setup() -> Result<(), String> {
    let missing: Vec<_> = NEEDED.iter().filter(|(_, probe, _)| !succeeds(probe)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|(name, _, _)| *name).collect();
    let packages: Vec<&str> = missing.iter().map(|(_, _, package)| *package).collect();
    println!("xtask: the tests need {}; installing {}", names.join(", "), packages.join(" "));
    install(&packages).map_err(|why| {
        format!(
            "{why}\nThe tests start a private RabbitMQ, run the producers' examples and check the manifests; install \
             it yourself and run this again:\n    apt-get install {}",
            packages.join(" ")
        )
    })?;
    match missing.iter().find(|(_, probe, _)| !succeeds(probe)) {
        None => Ok(()),
        Some((name, _, package)) => {
            Err(format!("{package} was installed, but {name} is still not where the tests look for it"))
        }
    }
}

/// Installs packages.
///
/// # Errors
/// Where that needs what is not there.
pub(crate) fn install(packages: &[&str]) -> Result<(), String> {
    if !succeeds(&["apt-get", "--version"]) {
        return Err("there is no apt-get on this machine".to_owned());
    }
    let root = succeeds(&["sh", "-c", "test \"$(id -u)\" = 0"]);
    if !root && !succeeds(&["sudo", "-n", "true"]) {
        return Err("installing needs root, and sudo asks for a password".to_owned());
    }
    let as_root = |program: &str| {
        let mut command = if root { Command::new(program) } else { Command::new("sudo") };
        if !root {
            command.args(["-n", "--preserve-env=DEBIAN_FRONTEND", program]);
        }
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    run(as_root("apt-get").args(["update", "-qq"]))?;
    let quiet = ["install", "-y", "-qq", "--no-install-recommends"];
    run(as_root("apt-get").args([&quiet, packages].concat()))?;
    for (service, stop) in STARTED.iter().filter(|(service, _)| packages.contains(service)) {
        let stop = format!(
            "if [ -d /run/systemd/system ]; then systemctl disable --now {service}; else {stop}; fi >/dev/null 2>&1; true"
        );
        run(as_root("sh").args(["-c", &stop]))?;
    }
    Ok(())
}
