//! Running all test binaries, several at a time.
//!
//! Cargo runs them one after the other, and most of ours wait for clocks, providers and brokers rather than for
//! a core. A binary that passes prints one line, one that fails prints everything it said. All of them run,
//! whatever fails.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crate::run::cargo;

/// How many binaries run at once at least; else as many as there are cores. More of them keep the cores busy all the
/// time, and scenes that are about a second or two have none to spare.
const AT_ONCE: usize = 2;
/// How many tests of one binary run at once.
const THREADS: usize = 4;
/// The binaries that take longest start first, so that none of them runs alone at the end.
const LONGEST: [&str; 8] =
    ["refusals", "cluster", "worker", "standby", "fleet", "overload", "topology", "rabbit_faults"];

/// A test binary.
#[derive(Debug, PartialEq)]
pub(crate) struct Binary {
    name: String,
    path: PathBuf,
    /// Where cargo would run it.
    folder: PathBuf,
}

/// Runs test binaries.
///
/// # Errors
/// Where any test fails.
pub(crate) fn run(mut binaries: Vec<Binary>) -> Result<(), String> {
    binaries.sort_by_key(place);
    let at_once = AT_ONCE.max(crate::cores());
    println!("{} test binaries, {at_once} at a time", binaries.len());
    let queue = Mutex::new(VecDeque::from(binaries));
    let ended = Mutex::new(Ended::default());
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                // A lock that is taken in a loop's condition is held in its body.
                let next = || lock(&queue).pop_front();
                while let Some(binary) = next() {
                    let (passes, said) = execute(&binary);
                    lock(&ended).note(&binary, passes, &said);
                }
            });
        }
    });
    lock(&ended).result()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When a binary starts: the smaller the earlier.
fn place(binary: &Binary) -> (usize, bool) {
    let longest = LONGEST.iter().position(|name| *name == binary.name).unwrap_or(LONGEST.len());
    (longest, !binary.folder.ends_with("tests"))
}

/// Builds all test binaries of the workspace, and the binaries that they start.
///
/// # Errors
/// Where something does not build.
pub(crate) fn build() -> Result<Vec<Binary>, String> {
    let arguments =
        ["test", "--locked", "--workspace", "--no-run", "--message-format=json-render-diagnostics"];
    let output = cargo()
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("`cargo {}` ended with {}", arguments.join(" "), output.status));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    Ok(messages.lines().filter_map(binary).collect())
}

/// The test binary that one of cargo's messages is about. No path and no name of ours needs an escape in JSON.
fn binary(message: &str) -> Option<Binary> {
    let after = |key: &str| message.split_once(key).map(|(_, rest)| rest);
    let text = |key: &str| after(key).and_then(|rest| rest.split_once('"')).map(|(text, _)| text);
    let (profile, _) = after(r#""profile":{"#)?.split_once('}')?;
    if !profile.contains(r#""test":true"#) {
        return None;
    }
    let path = PathBuf::from(text(r#""executable":""#)?);
    let folder = Path::new(text(r#""manifest_path":""#)?).parent()?.to_owned();
    let (_, target) = message.split_once(r#""target":{"#)?;
    let name = target.split_once(r#""name":""#)?.1.split_once('"')?.0.to_owned();
    Some(Binary { name, path, folder })
}

/// Runs a binary as cargo would; gives whether it passes, and what it said.
fn execute(binary: &Binary) -> (bool, String) {
    let mut command = Command::new(&binary.path);
    command.current_dir(&binary.folder).env("CARGO_MANIFEST_DIR", &binary.folder).stdin(Stdio::null());
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        command.env("RUST_TEST_THREADS", THREADS.to_string());
    }
    match command.output() {
        Ok(output) => {
            let said =
                [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            (output.status.success(), said.concat())
        }
        Err(error) => (false, format!("{} cannot be run: {error}\n", binary.path.display())),
    }
}

struct Ended {
    began: Instant,
    passed: u64,
    failed: Vec<String>,
}

impl Default for Ended {
    fn default() -> Self {
        Self { began: Instant::now(), passed: 0, failed: Vec::new() }
    }
}

impl Ended {
    fn note(&mut self, binary: &Binary, passes: bool, said: &str) {
        let result = said.lines().rev().find(|line| line.starts_with("test result:"));
        self.passed += result.map_or(0, passed);
        let after = self.began.elapsed().as_secs();
        if passes {
            println!("{after:>5} s  {:<14} {}", binary.name, result.unwrap_or("no test"));
        } else {
            println!("{after:>5} s  {:<14} FAILED; all it said:\n{said}", binary.name);
            self.failed.push(binary.name.clone());
        }
    }

    fn result(&self) -> Result<(), String> {
        println!("{} tests passed in {} s", self.passed, self.began.elapsed().as_secs());
        if self.failed.is_empty() {
            return Ok(());
        }
        Err(format!("tests failed in: {}", self.failed.join(", ")))
    }
}

/// How many tests passed, by the line that ends a binary's output.
fn passed(result: &str) -> u64 {
    let (before, _) = result.split_once(" passed").unwrap_or_default();
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = r#"{"reason":"compiler-artifact","package_id":"x","manifest_path":"/a/tests/Cargo.toml","target":{"kind":["test"],"crate_types":["bin"],"name":"fleet","src_path":"/a/tests/tests/fleet.rs","edition":"2024","doc":false,"doctest":false,"test":true},"profile":{"opt_level":"0","debuginfo":1,"test":true},"features":[],"filenames":["/t/fleet-1"],"executable":"/t/fleet-1","fresh":true}"#;

    #[test]
    fn cargo_says_what_it_built() {
        let fleet = Binary { name: "fleet".into(), path: "/t/fleet-1".into(), folder: "/a/tests".into() };
        assert_eq!(binary(MESSAGE), Some(fleet));
        for other in [
            MESSAGE.replace(r#""debuginfo":1,"test":true"#, r#""debuginfo":1,"test":false"#),
            MESSAGE.replace(r#""executable":"/t/fleet-1""#, r#""executable":null"#),
            r#"{"reason":"build-finished","success":true}"#.into(),
        ] {
            assert_eq!(binary(&other), None, "{other}");
        }
    }

    #[test]
    fn results_are_counted() {
        let line =
            "test result: ok. 36 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 2.39s";
        assert_eq!((passed(line), passed("no test")), (36, 0));
    }
}
