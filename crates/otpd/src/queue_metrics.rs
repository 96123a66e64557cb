//! What the queue counts by itself, shown with the worker's own counters.

use std::fmt;

use otpd_queue::Queue;
use otpd_worker::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;

/// `otpd_observer_events_dropped_total`.
#[derive(Debug)]
struct QueueMetrics(Queue);

impl Collector for QueueMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let dropped = ConstCounter::new(self.0.observer_events_dropped());
        let encoder = encoder.encode_descriptor(
            "observer_events_dropped",
            "Copies of events that observers of the topic exchange did not get; they are on the stream",
            None,
            dropped.metric_type(),
        )?;
        dropped.encode(encoder)
    }
}

/// Shows what `queue` counts.
pub(crate) fn register(metrics: &Metrics, queue: &Queue) {
    metrics.extend(|registry| registry.register_collector(Box::new(QueueMetrics(queue.clone()))));
}
