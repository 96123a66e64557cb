//! The binary as an operator runs it: what it prints, where, and with which exit code. The queue is an
//! embedded one in a folder of its own, so nothing has to be installed.

#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod config;
mod dead;
mod health;
mod lane;
mod mock;
mod send;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder with an `otpd.toml`, gone when dropped.
pub(crate) struct Place(pub(crate) PathBuf);

/// What a run printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) const LAPTOP: &str = r#"
[broker]
url = "embedded:otpd.db"
[providers.verihubs]
kind = "verihubs"
ceiling = "45/s"
app_id = { env = "APP_ID" }
api_key = { env = "API_KEY" }
[routes.login]
providers = ["verihubs"]
ttl = "10m"
"#;

impl Place {
    pub(crate) fn new(config: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("otpd-cli-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("otpd.toml"), config).unwrap();
        Self(folder)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_otpd"));
        command.args(args).current_dir(&self.0).env_clear();
        command.env("APP_ID", "s3cret-id").env("API_KEY", "s3cret-key");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "")
    }

    pub(crate) fn run_with(&self, args: &[&str], input: &str) -> Ran {
        let mut child = self.command(args).spawn().unwrap();
        // A command that reads nothing may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn wrong_use_exits_with_2() {
    let place = Place::new("");
    for args in
        [&[][..], &["fly"], &["send"], &["dead", "purge"], &["config", "schema", "--job", "--asyncapi"]]
    {
        assert_eq!(place.run(args).code, 2, "{args:?}");
    }
}

#[test]
fn says_its_version() {
    let place = Place::new("");
    let short = place.run(&["-V"]);
    assert_eq!((short.code, short.out.as_str()), (0, concat!("otpd ", env!("CARGO_PKG_VERSION"), "\n")));
    let long = place.run(&["--version"]);
    let lines: Vec<&str> = long.out.lines().collect();
    let [name, revision, compiler, target] = lines[..] else { panic!("{long:?}") };
    assert_eq!(name, concat!("otpd ", env!("CARGO_PKG_VERSION")));
    assert_eq!(revision, format!("revision: {}", otpd::version::REVISION));
    assert!(compiler.starts_with("compiler: rustc 1."), "{compiler}");
    assert!(target.starts_with("target:   ") && target.contains("-linux-"), "{target}");
}

#[test]
fn a_reader_that_hangs_up_is_no_failure() {
    let place = Place::new(LAPTOP);
    let mut child = place.command(&["config", "schema"]).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
