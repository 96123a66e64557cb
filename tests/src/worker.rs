//! A worker process in the hand of a test.

use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use crate::eventually;
use crate::rabbit::PATIENCE;

/// A worker process; killed when dropped.
#[derive(Debug)]
pub struct WorkerProcess {
    child: Child,
    admin: u16,
}

impl WorkerProcess {
    /// A child process that serves its admin port at `admin`.
    pub(crate) fn new(child: Child, admin: u16) -> Self {
        Self { child, admin }
    }

    /// What the admin port answers: status and text. `None` while it does not.
    pub async fn admin(&self, path: &str) -> Option<(u16, String)> {
        let url = format!("http://127.0.0.1:{}{path}", self.admin);
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().ok()?;
        let answer = client.get(url).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    /// How many jobs it holds in the waiting room of a lane: more than none only where it owns the lane.
    pub async fn waiting(&self, provider: &str) -> u64 {
        let sample = format!("otpd_waiting_jobs{{provider=\"{provider}\"}} ");
        let shown = self.admin("/metrics").await.map(|(_, text)| text).unwrap_or_default();
        shown.lines().find_map(|line| line.strip_prefix(&sample)?.parse().ok()).unwrap_or(0)
    }

    /// A sample of `/metrics`, by its name and labels as they are shown; 0 where it is not.
    pub async fn sample(&self, name: &str) -> f64 {
        let shown = self.admin("/metrics").await.map(|(_, text)| text).unwrap_or_default();
        let found = shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        found.unwrap_or(0.0)
    }

    /// Sends it a signal, such as `HUP`.
    ///
    /// # Panics
    /// Where that cannot be done.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|s| s.success()), "kill is there");
    }

    /// Stops it where it is, as a machine does that is suspended: nothing of it runs, its connections stay open.
    ///
    /// # Panics
    /// Where that cannot be done.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// Where that cannot be done.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// How much memory it has in use, in KiB.
    ///
    /// # Panics
    /// Where the system does not tell.
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the worker runs, on Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells it");
        line.trim().trim_end_matches("kB").trim().parse().expect("a number")
    }

    /// Waits until every lane consumes.
    pub async fn ready(&self) {
        eventually("the worker to be ready", PATIENCE, || async { self.is_ready().await.then_some(()) })
            .await;
    }

    /// Whether every lane consumes.
    pub async fn is_ready(&self) -> bool {
        self.admin("/readyz").await.is_some_and(|(status, _)| status == 200)
    }

    /// Tells it to look at its config, and waits until it has applied another one for the `times`th time.
    ///
    /// # Panics
    /// Where it does not.
    pub async fn applies(&self, times: u32) {
        self.signal("HUP");
        eventually("the config to be applied", PATIENCE, || async {
            let applied = self.sample("otpd_config_reloads_total{result=\"applied\"}").await;
            (applied >= f64::from(times)).then_some(())
        })
        .await;
    }

    /// Kills it as a crash would.
    ///
    /// # Panics
    /// Where it cannot be killed.
    pub fn kill9(&mut self) {
        self.child.kill().expect("it can be killed");
        let _ = self.child.wait();
    }

    /// Asks it to stop, and waits.
    ///
    /// # Panics
    /// Where it does not stop within a minute.
    pub async fn stop(mut self) -> ExitStatus {
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(killed.is_ok_and(|s| s.success()), "kill is there");
        eventually("the worker to stop", PATIENCE, || {
            let ended = self.child.try_wait().expect("a child");
            async move { ended }
        })
        .await
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
