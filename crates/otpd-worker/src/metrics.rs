//! What a worker counts, under the names of the contract (prefix `otpd_`). Labels come from closed
//! sets: provider names, outcomes, classes, reasons. Never a number, an id or a code.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use otpd_core::{Answered, Fact, FactKind, ProviderName, Reason};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabels {
    provider: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    provider: String,
    class: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderLabel {
    provider: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    revision: &'static str,
}

type Histograms = Family<ProviderLabel, Histogram, fn() -> Histogram>;
type RatioGauge = Gauge<f64, AtomicU64>;

/// The ceilings a second by provider: what is in force, and what is configured.
#[derive(Clone, Debug, Default)]
struct Ceilings {
    in_force: Family<ProviderLabel, RatioGauge>,
    configured: Family<ProviderLabel, RatioGauge>,
}

/// Seconds a job may wait: from a millisecond to five minutes.
const WAITS: [f64; 14] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0];
/// Seconds a request may take: the buckets of OpenTelemetry's `http.client.request.duration`.
const REQUESTS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

fn waits() -> Histogram {
    Histogram::new(WAITS)
}

fn requests() -> Histogram {
    Histogram::new(REQUESTS)
}

/// The families of one process.
#[derive(Debug)]
pub struct Metrics {
    jobs: Family<JobLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    queue_wait: Histograms,
    permit_wait: Histograms,
    request: Histograms,
    ceiling: Ceilings,
    ceiling_used: Family<ProviderLabel, RatioGauge>,
    in_flight: Family<ProviderLabel, Gauge>,
    waiting: Family<ProviderLabel, Gauge>,
    awaiting: Family<ProviderLabel, Gauge>,
    not_awaited: Family<ProviderLabel, Counter>,
    extra_sends: Family<ProviderLabel, Counter>,
    dead: Family<ReasonLabel, Counter>,
    oldest: Family<ProviderLabel, RatioGauge>,
    possible_duplicates: Family<ProviderLabel, Counter>,
    breaker_open: Family<ProviderLabel, Gauge>,
    paused: Family<ProviderLabel, Gauge>,
    consuming: Family<ProviderLabel, Gauge>,
    unconfirmed: Family<ProviderLabel, Gauge>,
    events_lag: Family<ProviderLabel, RatioGauge>,
    reconnects: Counter,
    registry: Mutex<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All families, registered.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("otpd");
        macro_rules! family {
            ($metric:expr, $name:literal, $help:literal) => {{
                let metric = $metric;
                registry.register($name, $help, metric.clone());
                metric
            }};
        }
        Self {
            jobs: family!(Family::default(), "jobs", "Jobs that ended, by outcome"),
            attempts: family!(
                Family::default(),
                "attempts",
                "Requests to providers, by class and reason of the answer"
            ),
            queue_wait: family!(
                Family::new_with_constructor(waits as fn() -> Histogram),
                "queue_wait_seconds",
                "From being taken by broker or gateway to being read by a lane"
            ),
            permit_wait: family!(
                Family::new_with_constructor(waits as fn() -> Histogram),
                "permit_wait_seconds",
                "From being ready to the permit"
            ),
            request: family!(
                Family::new_with_constructor(requests as fn() -> Histogram),
                "provider_request_seconds",
                "From the permit to the provider's answer"
            ),
            ceiling: Ceilings {
                in_force: family!(
                    Family::default(),
                    "ceiling_per_second",
                    "The ceiling in force: the configured one, or what the provider was found to take; absent when it has none"
                ),
                configured: family!(
                    Family::default(),
                    "ceiling_configured_per_second",
                    "The ceiling of the config; absent when the provider has none"
                ),
            },
            ceiling_used: family!(
                Family::default(),
                "ceiling_used_ratio",
                "Share of the fullest window in use, 0 to 1"
            ),
            in_flight: family!(Family::default(), "in_flight", "Requests under way"),
            waiting: family!(Family::default(), "waiting_jobs", "Jobs held in the lane's waiting room"),
            awaiting: family!(
                Family::default(),
                "awaiting_delivery_jobs",
                "Accepted jobs whose delivery the lane awaits (confirm_within)"
            ),
            not_awaited: family!(
                Family::default(),
                "delivery_not_awaited",
                "Accepted jobs whose delivery was no longer awaited, because too many were"
            ),
            extra_sends: family!(
                Family::default(),
                "extra_sends",
                "Accepted jobs that went to the next provider because their delivery failed or was not heard of in time"
            ),
            dead: family!(Family::default(), "dead", "Dead letters, by reason"),
            oldest: family!(
                Family::default(),
                "oldest_job_seconds",
                "Age of the job that has waited longest in the lane"
            ),
            possible_duplicates: family!(
                Family::default(),
                "possible_duplicates",
                "Messages that may have reached the recipient twice"
            ),
            breaker_open: family!(
                Family::default(),
                "breaker_open",
                "1 while the provider refuses or fails and is asked with one job at a time"
            ),
            paused: family!(
                Family::default(),
                "provider_paused",
                "1 while nothing is sent because the provider refused for a limit (429)"
            ),
            consuming: family!(
                Family::default(),
                "lane_consuming",
                "1 while the lane consumes, as owner or as the one who takes over; 0 while its queue is away"
            ),
            unconfirmed: family!(
                Family::default(),
                "events_unconfirmed",
                "Events handed to the broker that it has not confirmed yet; their jobs are not acknowledged"
            ),
            events_lag: family!(
                Family::default(),
                "events_lag_seconds",
                "Seconds since the broker last confirmed an event while some wait; 0 when none does"
            ),
            reconnects: family!(
                Counter::default(),
                "broker_reconnects",
                "Times a lane found the broker again after it was lost"
            ),
            registry: Mutex::new(registry),
        }
    }

    /// The exposition in OpenMetrics text.
    ///
    /// # Errors
    /// [`std::fmt::Error`] where the text cannot be written.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }

    /// Registers what another part of the process counts.
    pub fn extend(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// Says which build this is, as `otpd_build_info`: always 1.
    pub fn built_from(&self, version: &'static str, revision: &'static str) {
        let build = Family::<BuildLabels, Gauge>::default();
        build.get_or_create(&BuildLabels { version, revision }).set(1);
        self.extend(|registry| registry.register("build_info", "1; its labels say what was built", build));
    }

    /// The handles of one lane, looked up once.
    #[must_use]
    pub fn lane(&self, provider: &ProviderName) -> LaneMetrics {
        let label = ProviderLabel { provider: provider.to_string() };
        LaneMetrics {
            accepted: self.jobs.get_or_create_owned(&job_labels(provider, FactKind::Accepted)),
            accepted_attempts: self.attempts.get_or_create_owned(&AttemptLabels {
                provider: provider.to_string(),
                class: otpd_core::Class::Accepted.as_str(),
                reason: "",
            }),
            jobs: self.jobs.clone(),
            attempts: self.attempts.clone(),
            dead: self.dead.clone(),
            queue_wait: self.queue_wait.get_or_create_owned(&label),
            permit_wait: self.permit_wait.get_or_create_owned(&label),
            request: self.request.get_or_create_owned(&label),
            ceiling: self.ceiling.clone(),
            ceiling_used: self.ceiling_used.get_or_create_owned(&label),
            in_flight: self.in_flight.get_or_create_owned(&label),
            waiting: self.waiting.get_or_create_owned(&label),
            awaiting: self.awaiting.get_or_create_owned(&label),
            not_awaited: self.not_awaited.get_or_create_owned(&label),
            extra_sends: self.extra_sends.get_or_create_owned(&label),
            oldest: self.oldest.get_or_create_owned(&label),
            possible_duplicates: self.possible_duplicates.get_or_create_owned(&label),
            breaker_open: self.breaker_open.get_or_create_owned(&label),
            paused: self.paused.get_or_create_owned(&label),
            consuming: self.consuming.get_or_create_owned(&label),
            unconfirmed: self.unconfirmed.get_or_create_owned(&label),
            events_lag: self.events_lag.get_or_create_owned(&label),
            reconnects: self.reconnects.clone(),
            provider: provider.clone(),
        }
    }
}

fn job_labels(provider: &ProviderName, outcome: FactKind) -> JobLabels {
    JobLabels { provider: provider.to_string(), outcome: outcome.as_str() }
}

/// One lane's handles: the frequent ones are looked up already.
#[derive(Debug)]
pub struct LaneMetrics {
    provider: ProviderName,
    accepted: Counter,
    accepted_attempts: Counter,
    jobs: Family<JobLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    dead: Family<ReasonLabel, Counter>,
    ceiling: Ceilings,
    /// Seconds from being taken to being read.
    pub queue_wait: Histogram,
    /// Seconds from being ready to the permit.
    pub permit_wait: Histogram,
    /// Seconds from the permit to the answer.
    pub request: Histogram,
    /// Share of the ceiling in use.
    pub ceiling_used: RatioGauge,
    /// Requests under way.
    pub in_flight: Gauge,
    /// Jobs in the waiting room.
    pub waiting: Gauge,
    /// Accepted jobs whose delivery is awaited.
    pub awaiting: Gauge,
    /// Accepted jobs whose delivery is awaited no longer, because too many were.
    pub not_awaited: Counter,
    /// Accepted jobs that went to the next provider.
    pub extra_sends: Counter,
    /// Age of the oldest waiting job.
    pub oldest: RatioGauge,
    /// Messages that may have arrived twice.
    pub possible_duplicates: Counter,
    /// 1 while the breaker is open.
    pub breaker_open: Gauge,
    /// 1 while the provider has asked for a pause.
    pub paused: Gauge,
    /// 1 while the lane consumes.
    pub consuming: Gauge,
    /// Events not confirmed yet.
    pub unconfirmed: Gauge,
    /// Since when nothing was confirmed though something waits, in seconds.
    pub events_lag: RatioGauge,
    /// Sessions found again after one was lost.
    pub reconnects: Counter,
}

impl LaneMetrics {
    /// A job ended, or was dropped as a duplicate.
    ///
    /// A job that was accepted is counted once, whatever becomes of its extra send; its dead letter is one all the same.
    pub fn job(&self, fact: &Fact) {
        if fact.kind == FactKind::Accepted && !fact.extra {
            self.accepted.inc();
        } else if !(fact.kind.is_final() && fact.extra) {
            self.jobs.get_or_create(&job_labels(&self.provider, fact.kind)).inc();
        }
        if fact.kind == FactKind::Dead {
            self.dead.get_or_create(&ReasonLabel { reason: fact.reason.map_or("", Reason::as_str) }).inc();
        }
    }

    /// A provider answered.
    pub fn attempt(&self, answered: &Answered) {
        match (answered.outcome.class(), answered.outcome.reason()) {
            (otpd_core::Class::Accepted, None) => {
                self.accepted_attempts.inc();
            }
            (class, reason) => {
                let labels = AttemptLabels {
                    provider: self.provider.to_string(),
                    class: class.as_str(),
                    reason: reason.map_or("", Reason::as_str),
                };
                self.attempts.get_or_create(&labels).inc();
            }
        }
    }

    /// The ceilings a second: what is in force, and what is configured.
    pub fn set_ceiling(&self, in_force: Option<f64>, configured: Option<f64>) {
        let label = ProviderLabel { provider: self.provider.to_string() };
        for (family, per_second) in
            [(&self.ceiling.in_force, in_force), (&self.ceiling.configured, configured)]
        {
            match per_second {
                Some(per_second) => {
                    family.get_or_create(&label).set(per_second);
                }
                None => {
                    family.remove(&label);
                }
            }
        }
    }
}
