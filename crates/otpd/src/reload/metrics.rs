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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Key {
    key: String,
}

/// `otpd_config_reloads_total`, `otpd_config_refused` and `otpd_config_waits_for_restart`.
#[derive(Clone, Debug)]
pub struct Reloads {
    applied: Counter,
    refused: Counter,
    is_refused: Gauge,
    waiting: Family<Key, Gauge>,
}

impl Reloads {
    /// Registered, and 0.
    #[must_use]
    pub fn register(metrics: &Metrics) -> Self {
        let reloads: Family<Labels, Counter> = Family::default();
        let count = |result| reloads.get_or_create_owned(&Labels { result });
        let counted = Self {
            applied: count("applied"),
            refused: count("refused"),
            is_refused: Gauge::default(),
            waiting: Family::default(),
        };
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
            registry.register(
                "config_waits_for_restart",
                "1 for each key of the config on disk that only a restart applies; everything else is in effect",
                counted.waiting.clone(),
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

    /// These keys, and no others, wait for a restart.
    pub(super) fn waiting(&self, keys: impl Iterator<Item = String>) {
        self.waiting.clear();
        for key in keys {
            self.waiting.get_or_create(&Key { key }).set(1);
        }
    }

    /// The config on disk is the one in effect again.
    pub(super) fn back(&self) {
        self.is_refused.set(0);
    }
}
