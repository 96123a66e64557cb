//! What the lanes' memory counts by itself, shown with the worker's own counters.

use std::fmt;
use std::sync::Arc;

use otpd_worker::{Memory, Metrics};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;

/// `otpd_recipients_forgotten_total`.
#[derive(Debug)]
struct MemoryMetrics(Arc<Memory>);

impl Collector for MemoryMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let forgotten = ConstCounter::new(self.0.forgotten_recipients());
        let encoder = encoder.encode_descriptor(
            "recipients_forgotten",
            "Recipients that were forgotten although a limit still counted a message to them",
            None,
            forgotten.metric_type(),
        )?;
        forgotten.encode(encoder)
    }
}

/// Shows what `memory` counts.
pub(crate) fn register(metrics: &Metrics, memory: &Arc<Memory>) {
    metrics.extend(|registry| registry.register_collector(Box::new(MemoryMetrics(memory.clone()))));
}
