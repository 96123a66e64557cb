//! Another config for a worker that runs: on SIGHUP, and within [`LOOK`] of any change of the file or
//! of a secret's file.
//!
//! A wrong config is refused as a whole: the new config is read and checked as `otpd config check` does it, its
//! providers are set up; only then the lanes are told. Whatever is wrong on the way, the config in effect
//! stays, in everything. What only a restart can change waits for it (`waiting.rs`), named in the log and in a
//! metric, and holds up nothing else: a rotated password must not wait for a port.
//!
//! Found by content and not by time: Kubernetes mounts swap links. A config is used when it was read
//! twice the same, so that a file that is just being written is not taken for a config.

pub mod difference;
mod metrics;
pub mod snapshot;
pub(crate) mod waiting;

use std::sync::Arc;
use std::time::Duration;

use otpd_gateway::{Gateway, Settings};
use otpd_providers::Transport;
use otpd_queue::{Plan, Queue, QueueError};
use otpd_worker::{Clock, Steering};
use tokio::signal::unix::Signal;
use tokio::time::MissedTickBehavior;

use self::difference::Change;
pub use self::metrics::Reloads;
use self::snapshot::{Role, Snapshot, wrong};
use self::waiting::Divided;
use crate::config::{Config, Issues, Severity, Sources, issue::Place};
use crate::failure::Failure;
use crate::telemetry::{self, LogLevel};
use crate::wiring::{self, Transports};
use crate::{config, open};

/// How often the file and the files of secrets are looked at.
pub const LOOK: Duration = Duration::from_secs(5);
/// How long a change must have stayed before it is used.
const SETTLED: Duration = Duration::from_millis(100);
/// How long looking where routes lead may take.
const LOOK_WITHIN: Duration = Duration::from_secs(15);

/// What a worker goes by, and how it is told something else.
pub struct Reloader {
    sources: Sources,
    clock: Clock,
    told: Told,
    queue: Queue,
    log: Log,
    counted: Reloads,
    in_effect: Snapshot,
    /// The last config that was not refused: `in_effect`, and what of it waits for a restart.
    taken: Snapshot,
    /// The keys that wait, as they were told.
    waiting: Vec<Change>,
    transports: Transports,
    refused: Option<Refused>,
}

/// Who goes by the config.
pub(crate) struct Told {
    /// The lanes of a worker.
    pub(crate) lanes: Option<Arc<Steering<Transport>>>,
    /// A gateway.
    pub(crate) gateway: Option<Gateway>,
    /// Which of them there are, and so which secrets are read.
    pub(crate) role: Role,
}

/// What a worker was started with.
pub(crate) struct Start {
    /// The config.
    pub(crate) in_effect: Snapshot,
    /// How each provider is reached.
    pub(crate) transports: Transports,
}

/// The logs, as far as a config may change them.
#[derive(Clone, Debug)]
pub struct Log {
    /// How to change them.
    pub level: LogLevel,
    /// `--log-level` or `OTPD_LOG` goes before whatever the config says.
    pub is_overridden: bool,
}

/// A config that is not used.
struct Refused {
    read: Result<Snapshot, Issues>,
    why: Vec<String>,
    /// It may be used later without having been changed.
    again: bool,
}

/// Why a config that is valid cannot be used.
struct Unusable {
    why: Vec<String>,
    again: bool,
}

impl From<Issues> for Unusable {
    fn from(issues: Issues) -> Self {
        Self { why: lines(&issues), again: false }
    }
}

impl From<Failure> for Unusable {
    fn from(failure: Failure) -> Self {
        Self { why: vec![failure.to_string()], again: false }
    }
}

fn lines(issues: &Issues) -> Vec<String> {
    issues.of(Severity::Error).map(ToString::to_string).collect()
}

/// What to set up lanes with: the config, and how each provider is reached.
struct Prepared {
    snapshot: Snapshot,
    transports: Transports,
    settings: Settings,
}

impl Reloader {
    /// Of lanes and a gateway on `queue` that were started like this.
    pub(crate) fn new(
        sources: Sources,
        clock: Clock,
        told: Told,
        queue: Queue,
        log: Log,
        counted: Reloads,
        start: Start,
    ) -> Self {
        let Start { in_effect, transports } = start;
        let (taken, waiting) = (in_effect.clone(), Vec::new());
        Self {
            sources,
            clock,
            told,
            queue,
            log,
            counted,
            in_effect,
            taken,
            waiting,
            transports,
            refused: None,
        }
    }

    /// Looks at every `hangup`, and every [`LOOK`]; for ever.
    pub async fn run(mut self, mut hangup: Signal) {
        let mut beat = tokio::time::interval(LOOK);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                Some(()) = hangup.recv() => true,
                _ = beat.tick() => false,
            };
            self.look(asked).await;
        }
    }

    /// Looks once. What was told before is told again only where somebody asks.
    async fn look(&mut self, asked: bool) {
        let read = self.read().await;
        let known = match (&self.refused, &read) {
            (None, Ok(found)) => found.is_same_as(&self.taken),
            (Some(refused), read) => !refused.again && is_same(&refused.read, read),
            (None, Err(_)) => false,
        };
        if known && !asked {
            return;
        }
        let found = match read {
            Ok(found) => found,
            Err(issues) => {
                let why = lines(&issues);
                return self.refuse(Err(issues), why.into(), asked);
            }
        };
        let divided = Divided::of(&self.in_effect, &found);
        if divided.live.is_empty() {
            return self.nothing_to_apply(found, divided.waiting, asked);
        }
        match self.prepare(&divided, &found).await {
            Ok(Some(prepared)) => {
                self.apply(prepared, &divided.live);
                self.wait(divided.waiting, asked);
                self.taken = found;
            }
            // It is just being written: at the next look.
            Ok(None) => {}
            Err(unusable) => self.refuse(Ok(found), unusable, asked),
        }
    }

    async fn read(&self) -> Result<Snapshot, Issues> {
        let (sources, role) = (self.sources.clone(), self.told.role);
        let read = tokio::task::spawn_blocking(move || Snapshot::read(&sources, role)).await;
        read.unwrap_or_else(|e| Err(wrong(Place::Defaults, &[], format!("cannot be read: {e}"))))
    }

    fn nothing_to_apply(&mut self, found: Snapshot, waiting: Vec<Change>, asked: bool) {
        let was_other = self.refused.take().is_some() || !self.waiting.is_empty();
        self.counted.back();
        self.taken = found;
        if waiting.is_empty() && was_other {
            tracing::info!("the config is again the one in effect");
        } else if waiting.is_empty() && asked {
            tracing::info!("the config was read again; nothing changed");
        }
        self.wait(waiting, asked);
    }

    /// Says which keys wait for a restart, each once.
    fn wait(&mut self, waiting: Vec<Change>, asked: bool) {
        let file = self.sources.file.as_deref().unwrap_or(config::DEFAULT_FILE.as_ref()).display();
        for change in waiting.iter().filter(|change| asked || !self.waiting.contains(change)) {
            tracing::warn!(
                "{file}: {change}: only a restart applies this; restart the workers, or take it back; everything else is in effect"
            );
        }
        self.counted.waiting(waiting.iter().map(|change| change.path.to_string()));
        self.waiting = waiting;
    }

    /// Does everything that may fail. `None`: the config is another one by now.
    async fn prepare(&self, divided: &Divided, found: &Snapshot) -> Result<Option<Prepared>, Unusable> {
        let snapshot = &divided.snapshot;
        let filter = &snapshot.config.telemetry.log_level;
        telemetry::parse(filter).map_err(|problem| self.issue(&["telemetry", "log_level"], problem))?;
        let transports = self.transports(&divided.live, snapshot).await?;
        tokio::time::sleep(SETTLED).await;
        if !self.read().await.is_ok_and(|again| again.is_same_as(found)) {
            return Ok(None);
        }
        self.look_where_routes_lead(&snapshot.config).await?;
        let settings = if self.told.role.serves() {
            wiring::gateway(&snapshot.config, &self.sources.environment)?
        } else {
            Settings::default()
        };
        Ok(Some(Prepared { snapshot: snapshot.clone(), transports, settings }))
    }

    fn issue(&self, path: &[&str], problem: String) -> Issues {
        let file = self.sources.file.as_deref().unwrap_or(config::DEFAULT_FILE.as_ref());
        wrong(Place::File { file: file.display().to_string(), line: 0 }, path, problem)
    }

    /// Every provider's transport: a new one where it is reached in another way.
    async fn transports(&self, changes: &[Change], found: &Snapshot) -> Result<Transports, Unusable> {
        let mut transports = self.transports.clone();
        if !self.told.role.sends() {
            return Ok(transports);
        }
        let others: Vec<_> = changes.iter().filter_map(Change::another_way_to).collect();
        let (config, environment, clock) =
            (found.config.clone(), self.sources.environment.clone(), self.clock);
        let made = tokio::task::spawn_blocking(move || {
            let mut made = Transports::new();
            for provider in config.providers.iter().filter(|p| others.contains(&p.name)) {
                let open = provider.open(&environment)?;
                made.insert(provider.name.clone(), wiring::transport(provider, open, clock)?);
            }
            Ok::<_, Failure>(made)
        });
        let made = made.await.map_err(|e| Failure::Failed(e.to_string()))?;
        transports.extend(made.map_err(|failure| match failure {
            Failure::Config(issues) => Unusable::from(issues),
            other @ (Failure::Usage(_) | Failure::Failed(_) | Failure::HungUp) => Unusable::from(other),
        })?);
        Ok(transports)
    }

    /// Says which routes lead elsewhere by this config, and are not applied to the broker yet. Only a file
    /// follows by itself: a worker binds nothing, or two of different configs would take routes from each other.
    async fn look_where_routes_lead(&self, config: &Config) -> Result<(), Unusable> {
        let changed = changed_routes(&self.in_effect.config.plan(), &config.plan());
        if changed.is_empty() {
            return Ok(());
        }
        let queue = open::queue(config, open::source())?;
        let looked = tokio::time::timeout(LOOK_WITHIN, queue.follow_topology()).await;
        queue.close().await;
        let unknown = match looked {
            Ok(Ok(differences)) => {
                for difference in differences {
                    tracing::warn!("{difference}; run `otpd topology apply` with the new config");
                }
                return Ok(());
            }
            Ok(Err(file @ (QueueError::File { .. } | QueueError::Owned { .. }))) => {
                return Err(Failure::from(file).into());
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        let routes = changed.join(", ");
        tracing::warn!(
            routes,
            "where these routes lead on the broker is not known ({unknown}); run `otpd topology apply` with the new config"
        );
        Ok(())
    }

    fn apply(&mut self, prepared: Prepared, changes: &[Change]) {
        let Prepared { snapshot, transports, settings } = prepared;
        let config = &snapshot.config;
        self.queue.read_access_by(open::access(config));
        if let Some(lanes) = &self.told.lanes {
            lanes.tell(wiring::orders(config, &transports), config.recipient_limits.clone());
        }
        if let Some(gateway) = &self.told.gateway {
            gateway.apply(settings);
        }
        let mut told: Vec<String> = Vec::with_capacity(changes.len());
        for change in changes {
            let of_log = change.path.keys().first().is_some_and(|section| section == "telemetry");
            told.push(match (of_log, self.log.is_overridden) {
                (true, true) => format!("{change} (no effect: --log-level or OTPD_LOG goes before it)"),
                (true, false) => match self.log.level.set(&config.telemetry.log_level) {
                    Ok(()) => change.to_string(),
                    Err(problem) => format!("{change} (no effect: {problem})"),
                },
                (false, _) => change.to_string(),
            });
        }
        for warning in &snapshot.warnings.0 {
            tracing::warn!("{warning}");
        }
        tracing::info!("the changed config is in effect: {}", told.join("; "));
        self.counted.applied();
        self.refused = None;
        (self.in_effect, self.transports) = (snapshot, transports);
    }

    fn refuse(&mut self, read: Result<Snapshot, Issues>, unusable: Unusable, asked: bool) {
        let Unusable { why, again } = unusable;
        let told = self.refused.as_ref().is_some_and(|r| r.why == why && is_same(&r.read, &read));
        if asked || !told {
            for line in &why {
                tracing::error!("{line}");
            }
            tracing::error!(errors = why.len(), "the changed config is refused; the one in effect stays");
            self.counted.refused();
        }
        self.refused = Some(Refused { read, why, again });
    }
}

impl From<Vec<String>> for Unusable {
    fn from(why: Vec<String>) -> Self {
        Self { why, again: false }
    }
}

fn is_same(one: &Result<Snapshot, Issues>, other: &Result<Snapshot, Issues>) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => one.is_same_as(other),
        (Err(one), Err(other)) => one == other,
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
    }
}

/// The routes that are new, or begin with another provider or in another of its queues.
fn changed_routes(before: &Plan, after: &Plan) -> Vec<String> {
    let led = |plan: &Plan, route: &otpd_core::RouteName| {
        plan.lanes.iter().find_map(|lane| {
            let (_, section) = lane.bound_routes().find(|(name, _)| *name == route)?;
            Some((lane.provider.clone(), section))
        })
    };
    let all = after.lanes.iter().flat_map(otpd_queue::LanePlan::bound_routes).map(|(route, _)| route);
    all.filter(|route| led(before, route) != led(after, route)).map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests;
