//! What is counted of reloads.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use otpd_worker::Metrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    result: &'static str,
}

/// `otpd_config_reloads_total` and `otpd_config_refused`.
#[derive(Clone, Debug)]
pub struct Reloads {
    applied: Counter,
    refused: Counter,
    is_refused: Gauge,
}

impl Reloads {
    /// Registered, and 0.
    #[must_use]
    pub fn register(metrics: &Metrics) -> Self {
        let reloads: Family<Labels, Counter> = Family::default();
        let count = |result| reloads.get_or_create_owned(&Labels { result });
        let counted =
            Self { applied: count("applied"), refused: count("refused"), is_refused: Gauge::default() };
        metrics.extend(|registry| {
            registry.register(
                "config_reloads",
                "Changed configs that were read while the worker ran, by what became of them",
                reloads,
            );
            registry.register(
                "config_refused",
                "1 while the config on disk was refused and an older one is in effect",
                counted.is_refused.clone(),
            );
        });
        counted
    }

    pub(super) fn applied(&self) {
        self.applied.inc();
        self.is_refused.set(0);
    }

    pub(super) fn refused(&self) {
        self.refused.inc();
        self.is_refused.set(1);
    }

    /// The config on disk is the one in effect again.
    pub(super) fn back(&self) {
        self.is_refused.set(0);
    }
}
