//! `cargo xtask test`: every test of the workspace, and what they need installed first.
//!
//! Without dependencies, so that it is built in a second. What it installs comes from the system's own
//! package manager; where that cannot be, it says what is missing and stops: a test that needs a
//! broker is never skipped.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a task speaks to the person who runs it")]

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// What the tests run, how to see that it is there, and the Debian package that brings it.
const NEEDED: [(&str, &[&str], &str); 4] = [
    ("RabbitMQ", &["test", "-x", "/usr/lib/rabbitmq/bin/rabbitmq-server"], "rabbitmq-server"),
    ("pika for Python", &["/usr/bin/python3", "-c", "import pika"], "python3-pika"),
    ("Node.js", &["node", "--version"], "nodejs"),
    ("npm", &["npm", "--version"], "npm"),
];

const USAGE: &str = "usage: cargo xtask test [ARGUMENTS OF cargo test]   all tests; installs what they need\n       cargo xtask setup                          only installs";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        Some((task, rest)) if task == "test" => setup().and_then(|()| test(rest)),
        Some((task, rest)) if task == "setup" && rest.is_empty() => setup(),
        Some(_) | None => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Installs what is missing.
fn setup() -> Result<(), String> {
    let missing: Vec<_> = NEEDED.iter().filter(|(_, probe, _)| !succeeds(probe)).collect();
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|(name, _, _)| *name).collect();
        let packages: Vec<&str> = missing.iter().map(|(_, _, package)| *package).collect();
        println!("xtask: the tests need {}; installing {}", names.join(", "), packages.join(" "));
        install(&packages).map_err(|why| {
            format!(
                "{why}\nThe tests start a private RabbitMQ and run the producers' examples; install it yourself and \
                 run this again:\n    apt-get install {}",
                packages.join(" ")
            )
        })?;
        if let Some((name, _, package)) = missing.iter().find(|(_, probe, _)| !succeeds(probe)) {
            return Err(format!(
                "{package} was installed, but {name} is still not where the tests look for it"
            ));
        }
    }
    let examples = Path::new("deploy/examples");
    if examples.join("package-lock.json").exists() && !examples.join("node_modules/amqplib").exists() {
        println!("xtask: installing the packages of the Node example");
        let quiet = ["ci", "--no-audit", "--no-fund", "--silent"];
        run(Command::new("npm").args(quiet).current_dir(examples))?;
    }
    Ok(())
}

fn install(packages: &[&str]) -> Result<(), String> {
    if !succeeds(&["apt-get", "--version"]) {
        return Err("there is no apt-get on this machine".to_owned());
    }
    let root = succeeds(&["sh", "-c", "test \"$(id -u)\" = 0"]);
    if !root && !succeeds(&["sudo", "-n", "true"]) {
        return Err("installing needs root, and sudo asks for a password".to_owned());
    }
    let apt = |arguments: &[&str]| {
        let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
        if !root {
            command.args(["-n", "--preserve-env=DEBIAN_FRONTEND", "apt-get"]);
        }
        run(command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments))
    };
    apt(&["update", "-qq"])?;
    apt(&[&["install", "-y", "-qq", "--no-install-recommends"], packages].concat())?;
    if packages.contains(&"rabbitmq-server") {
        // Debian starts the service it installs. The tests start their own, so this one only takes memory.
        let stop = "if [ -d /run/systemd/system ]; then systemctl disable --now rabbitmq-server; \
                    else /usr/sbin/rabbitmqctl stop; fi >/dev/null 2>&1; true";
        let mut command = if root { Command::new("sh") } else { Command::new("sudo") };
        if !root {
            command.args(["-n", "sh"]);
        }
        run(command.args(["-c", stop]))?;
    }
    Ok(())
}

/// Builds the binary that the process tests start, then runs all tests.
fn test(arguments: &[String]) -> Result<(), String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    run(Command::new(&cargo).args(["build", "--locked", "--package", "otpd"]))?;
    run(Command::new(&cargo).args(["test", "--locked", "--workspace"]).args(arguments))
}

fn run(command: &mut Command) -> Result<(), String> {
    let line = format!("{command:?}").replace('"', "");
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{line}` ended with {status}")),
        Err(error) => Err(format!("`{line}` cannot be run: {error}")),
    }
}

fn succeeds(command: &[&str]) -> bool {
    let Some((program, arguments)) = command.split_first() else { return false };
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|s| s.success())
}
