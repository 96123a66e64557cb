//! What the load is put on: the queue that the config names, with workers somewhere else; or, self-contained,
//! mock providers, an embedded queue in a temporary folder and a worker in this process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use otpd_providers::Transport;
use otpd_queue::Queue;
use otpd_sim::{Control, Kind, Latency, Mock, MockConfig};
use otpd_worker::{Clock, Metrics, Worker};

use super::args::LoadArgs;
use super::plan::Plan;
use super::provider::Gauge;
use crate::commands::mock;
use crate::config::{Config, Environment, Sources};
use crate::failure::Failure;
use crate::{open, output, wiring};

/// How long a mock takes to answer where nothing is said.
const LATENCY: &str = "20ms..80ms";
/// How long the worker may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// What the load is put on.
pub(super) struct Target {
    pub(super) queue: Queue,
    pub(super) config: Config,
    /// The config as an operator may see it.
    pub(super) shown: String,
    /// What it is, for people.
    pub(super) words: String,
    /// What the provider counts, where that can be asked.
    pub(super) gauge: Option<Gauge>,
    inside: Option<Inside>,
}

struct Inside {
    worker: Worker<Transport>,
    _folder: Folder,
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Target {
    /// Opens it.
    ///
    /// # Errors
    /// Where the config is wrong, the mock is away, or the scene cannot be set up.
    pub(super) async fn open(args: &LoadArgs, plan: &Plan, sources: &Sources) -> Result<Self, Failure> {
        if args.with_worker {
            Self::inside(args, plan).await
        } else {
            Self::outside(args, plan, sources).await
        }
    }

    async fn outside(args: &LoadArgs, plan: &Plan, sources: &Sources) -> Result<Self, Failure> {
        let loaded = sources.load()?;
        let config = loaded.config;
        for share in &plan.routes {
            if config.routes.get(share.name.as_str()).is_none() {
                output::note(&format!("warning: this config knows no route {}; the queue may", share.name));
            }
        }
        let gauge = match &args.mock {
            None => None,
            Some(url) => Some(Gauge::at(url).await?),
        };
        let queue = open::queue(&config, open::source())?;
        let words = format!("{}, workers elsewhere", config.broker.address());
        let shown = loaded.document.effective().to_toml().unwrap_or_default();
        Ok(Self { queue, config, shown, words, gauge, inside: None })
    }

    async fn inside(args: &LoadArgs, plan: &Plan) -> Result<Self, Failure> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut setup = mock::setup(&args.ceilings, &args.latencies, &args.faults)?;
        let usual: Option<Latency> = LATENCY.parse().ok();
        for control in &mut setup {
            control.latency = control.latency.or(usual);
        }
        let path = std::env::temp_dir().join(format!("otpd-load-{}-{:x}", std::process::id(), plan.seed));
        let unusable = |e| Failure::Failed(format!("the folder {} cannot be used: {e}", path.display()));
        std::fs::create_dir_all(&path).map_err(unusable)?;
        let folder = Folder(path.clone());
        let mocks = MockConfig { seed: plan.seed, setup: setup.clone(), ..MockConfig::default() };
        let mock = Mock::start(mocks, any)
            .await
            .map_err(|e| Failure::Failed(format!("the mock providers cannot listen on 127.0.0.1: {e}")))?;
        let file = path.join("otpd.toml");
        std::fs::write(&file, config_text(&mock.url(), &path, &setup)).map_err(unusable)?;
        let loaded = Sources { file: Some(file), ..Sources::default() }.load()?;
        let config = loaded.config;
        if let Some(share) = plan.routes.iter().find(|s| config.routes.get(s.name.as_str()).is_none()) {
            let there = Kind::ALL.map(Kind::as_str).join(", ");
            return Err(Failure::Usage(format!(
                "--route {}: with --with-worker the routes are {there}",
                share.name
            )));
        }
        let clock = Clock::system();
        let queue = open::queue(&config, "otpd/load".to_owned())?;
        queue.apply_topology().await?;
        let lanes = wiring::lanes(&config, &Environment::default(), clock)?;
        let shared = wiring::shared(&config, clock);
        let worker = Worker::start(&queue, lanes, &shared, clock, &Arc::new(Metrics::new()), GRACE)
            .map_err(|e| Failure::Failed(e.to_string()))?;
        let shown = loaded.document.effective().to_toml().unwrap_or_default();
        let words = "embedded queue, worker and mock providers in this process".to_owned();
        let gauge = Some(Gauge::inside(mock));
        Ok(Self { queue, config, shown, words, gauge, inside: Some(Inside { worker, _folder: folder }) })
    }

    /// Whether the worker is in this process.
    pub(super) fn is_inside(&self) -> bool {
        self.inside.is_some()
    }

    /// Ends what was started, in order.
    pub(super) async fn close(self) {
        let folder = match self.inside {
            None => None,
            Some(Inside { worker, _folder }) => {
                worker.drain().await;
                Some(_folder)
            }
        };
        self.queue.close().await;
        if let Some(gauge) = self.gauge {
            gauge.close().await;
        }
        drop(folder);
    }
}

/// A provider of each kind, sending to the mock, under the mock's ceilings.
fn config_text(mock: &str, folder: &std::path::Path, setup: &[Control]) -> String {
    let mut text = format!("[broker]\nurl = \"embedded:{}\"\n", folder.join("queue.db").display());
    for control in setup {
        let kind = control.kind;
        text.push_str(&format!(
            "[providers.{kind}]\nkind = \"{kind}\"\nbase_url = \"{mock}\"\n{}\n",
            keys(kind)
        ));
        let ceilings: Vec<String> =
            control.ceilings.iter().flatten().map(|rate| format!("\"{rate}\"")).collect();
        if !ceilings.is_empty() {
            text.push_str(&format!("ceiling = [{}]\n", ceilings.join(", ")));
        }
    }
    text
}

/// What a kind must be configured with; the mock takes any.
const fn keys(kind: Kind) -> &'static str {
    match kind {
        Kind::Verihubs => "app_id = \"load\"\napi_key = \"load-key\"",
        Kind::Msgai => "api_key = \"sk_live_load\"\ntemplate = \"otp\"",
        Kind::OneMsg => {
            "channel_id = \"LOAD1\"\ntoken = \"load-token\"\ntemplate = \"otp\"\nlanguage = \"en\"\nnamespace = \"load\""
        }
        Kind::MetaCloud => {
            "phone_number_id = \"1001\"\ntoken = \"load-token\"\ntemplate = \"otp\"\nlanguage = \"en\""
        }
        Kind::MetaOnprem => {
            "username = \"load\"\npassword = \"load-pass\"\ntemplate = \"otp\"\nlanguage = \"en\"\nnamespace = \"load\""
        }
        Kind::Betatel => "account_id = \"load\"\napi_key = \"load-key\"",
    }
}
