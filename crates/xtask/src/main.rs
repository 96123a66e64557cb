//! `cargo xtask test`: every test of the workspace, and what they need installed first. `cargo xtask bench`:
//! all benchmarks, beside the committed baseline. `cargo xtask rabbitmq4`: the broker's tests on RabbitMQ 4.
//! `cargo xtask image`: the image built twice and compared. `cargo xtask deny`: what is built in, judged by deny.toml.
//!
//! Without dependencies, so that it is built in a second. Servers and languages come from the system's own
//! package manager, validators from the registries of Python and Node; where that cannot be, it says
//! what is missing and stops: a test that needs a broker is never skipped.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a task speaks to the person who runs it")]

mod bench;
mod debian;
mod deny;
mod image;
mod rabbitmq4;
mod run;
mod suite;
mod tools;

use std::process::ExitCode;

use run::{cargo, run};

const USAGE: &str = "usage: cargo xtask test [ARGUMENTS OF cargo test]   all tests, or these; installs what they need\n       cargo xtask setup                          only installs\n       cargo xtask rabbitmq4 [ARGUMENTS OF cargo test]   the tests that concern the broker, on RabbitMQ 4 (root; downloads 150 MB once)\n       cargo xtask bench [--save] [--compare-only] [NAME]   benchmarks, against benches/baseline.tsv\n       cargo xtask image [ARGUMENTS OF docker build]   builds the image twice, lists it, compares (docker or buildah)\n       cargo xtask deny [--offline]               licences, sources, bans, advisories (cargo-deny)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        Some((task, rest)) if task == "test" => setup().and_then(|()| test(rest)),
        Some((task, rest)) if task == "setup" && rest.is_empty() => setup(),
        Some((task, rest)) if task == "rabbitmq4" => {
            debian::setup().and_then(|()| rabbitmq4::rabbitmq4(rest))
        }
        Some((task, rest)) if task == "bench" => debian::setup().and_then(|()| bench::bench(rest)),
        Some((task, rest)) if task == "image" => image::image(rest),
        Some((task, rest)) if task == "deny" => deny::deny(rest),
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
    debian::setup()?;
    tools::setup()
}

/// Runs all tests, or with arguments those that `cargo test` means by them. Either way all of them are built first,
/// and with them the binary that the process tests start.
fn test(arguments: &[String]) -> Result<(), String> {
    let binaries = suite::build()?;
    let mut rest = cargo();
    rest.args(["test", "--locked", "--workspace"]);
    if arguments.is_empty() {
        suite::run(binaries)?;
        return run(rest.arg("--doc"));
    }
    run(rest.args(arguments))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
