//! A process with a gateway in the hand of a test, and what a caller of it does.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::{WorkerProcess, claim_port, otpd_bin};

/// A process with a gateway (`otpd gateway` or `otpd serve`); killed when dropped.
#[derive(Debug)]
pub struct GatewayProcess {
    /// The process.
    pub process: WorkerProcess,
    url: String,
    client: reqwest::Client,
}

/// What a caller was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The body as JSON; `null` where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// A header's text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl GatewayProcess {
    /// Starts `otpd COMMAND` with this config and these variables; it may not be ready yet.
    ///
    /// # Panics
    /// Where the binary cannot be started.
    #[must_use]
    pub fn start(command: &str, config: &Path, variables: &[(&str, String)]) -> Self {
        let (admin, port) = (claim_port(), claim_port());
        let log = config.with_extension(format!("{port}.log"));
        let log = std::fs::File::create(log).expect("a log");
        let child = Command::new(otpd_bin())
            .args([command, "--config"])
            .arg(config)
            .env("OTPD__ADMIN__LISTEN", format!("\"127.0.0.1:{admin}\""))
            .env("OTPD__GATEWAY__LISTEN", format!("\"127.0.0.1:{port}\""))
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build();
        Self {
            process: WorkerProcess::new(child, admin),
            url: format!("http://127.0.0.1:{port}"),
            client: client.expect("a client"),
        }
    }

    /// The address of a path of the gateway.
    #[must_use]
    pub fn address(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// A request to this path, to be completed and sent with [`GatewayProcess::send`].
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// Sends a request; gives the whole answer.
    ///
    /// # Errors
    /// Where nothing answers.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
        let answer = request.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Answer { status, headers, text: answer.text().await? })
    }

    /// Posts JSON with a key.
    ///
    /// # Errors
    /// Where nothing answers.
    pub async fn post(&self, path: &str, key: &str, body: String) -> Result<Answer, reqwest::Error> {
        let request = self.request("POST", path).header("content-type", "application/json").bearer_auth(key);
        self.send(request.body(body)).await
    }

    /// Gets with a key.
    ///
    /// # Errors
    /// Where nothing answers.
    pub async fn get(&self, path: &str, key: &str) -> Result<Answer, reqwest::Error> {
        self.send(self.request("GET", path).bearer_auth(key)).await
    }
}
