//! What a gateway counts, under the names of the contract (prefix `otpd_`). Labels come from closed sets: calls,
//! statuses, providers. Never a number, an id or a code.

use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use otpd_core::{Fact, FactKind, ProviderName};
use otpd_queue::QueueError;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::index::{Found, Index};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    call: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabel {
    call: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallbackLabels {
    provider: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryLabels {
    provider: String,
    country: String,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderLabel {
    provider: String,
}

/// Seconds a request may take: from a millisecond to the longest confirm.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Seconds a message may take to a phone: from half a second to ten minutes.
const DELIVERIES: [f64; 12] = [0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];

fn deliveries() -> Histogram {
    Histogram::new(DELIVERIES)
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// The families of one gateway. Clones are the same families.
#[derive(Clone, Debug)]
pub struct GatewayMetrics {
    requests: Family<CallLabels, Counter>,
    took: Family<CallLabel, Histogram, fn() -> Histogram>,
    queue_away: Counter,
    callbacks: Family<CallbackLabels, Counter>,
    deliveries: Family<DeliveryLabels, Counter>,
    delivered_after: Family<ProviderLabel, Histogram, fn() -> Histogram>,
}

impl Default for GatewayMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            took: Family::new_with_constructor(seconds as fn() -> Histogram),
            queue_away: Counter::default(),
            callbacks: Family::default(),
            deliveries: Family::default(),
            delivered_after: Family::new_with_constructor(deliveries as fn() -> Histogram),
        }
    }
}

impl GatewayMetrics {
    /// Registers all families.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "gateway_requests",
            "Requests to the gateway, by call and status",
            self.requests.clone(),
        );
        registry.register(
            "gateway_request_seconds",
            "From a request's head to the head of its answer",
            self.took.clone(),
        );
        registry.register(
            "gateway_queue_away",
            "Jobs and facts that the queue did not confirm in time",
            self.queue_away.clone(),
        );
        registry.register(
            "callbacks",
            "What providers said of messages, and what became of it",
            self.callbacks.clone(),
        );
        registry.register(
            "deliveries",
            "Messages by what became of them, each status of a message once; country is the calling code, of three digits only the first two",
            self.deliveries.clone(),
        );
        registry.register(
            "delivery_seconds",
            "From a message's request to its delivery, as the provider dates it",
            self.delivered_after.clone(),
        );
    }

    pub(crate) fn request(&self, call: &'static str, status: u16, took: Duration) {
        self.requests.get_or_create(&CallLabels { call, status }).inc();
        self.took.get_or_create(&CallLabel { call }).observe(took.as_secs_f64());
    }

    pub(crate) fn callback(&self, provider: &ProviderName, outcome: &'static str) {
        self.callbacks.get_or_create(&CallbackLabels { provider: provider.to_string(), outcome }).inc();
    }

    /// A provider's word is on the stream.
    pub(crate) fn delivery(&self, found: &Found, fact: &Fact) {
        let FactKind::Delivery(status) = fact.kind else { return };
        let provider = fact.provider.to_string();
        let country = country(fact.to.as_deref().unwrap_or_default());
        let labels = DeliveryLabels { provider: provider.clone(), country, status: status.as_str() };
        self.deliveries.get_or_create(&labels).inc();
        let Some(message) = found.message.as_ref().filter(|message| !message.was_delivered()) else { return };
        if let (true, Some(sent_at)) = (status.is_delivered(), message.sent_at()) {
            let took = fact.at.since(sent_at).as_secs_f64();
            self.delivered_after.get_or_create(&ProviderLabel { provider }).observe(took);
        }
    }

    pub(crate) fn queue_away(&self, error: &QueueError) {
        tracing::warn!(%error, "the queue did not confirm");
        self.queue_away.inc();
    }
}

/// The calling codes of two digits (ITU-T E.164); one digit are 1 and 7, and all others have three.
const TWO_DIGITS: [&str; 43] = [
    "20", "27", "30", "31", "32", "33", "34", "36", "39", "40", "41", "43", "44", "45", "46", "47", "48",
    "49", "51", "52", "53", "54", "55", "56", "57", "58", "60", "61", "62", "63", "64", "65", "66", "81",
    "82", "84", "86", "90", "91", "92", "93", "94", "95",
];

/// The calling code of a masked number (`+62*******890`), as far as the mask shows it: at most 70 values.
fn country(masked: &str) -> String {
    let digits: String =
        masked.trim_start_matches('+').chars().take_while(char::is_ascii_digit).take(2).collect();
    match digits.as_str() {
        "" => String::new(),
        one if one.starts_with('1') => "1".to_owned(),
        seven if seven.starts_with('7') => "7".to_owned(),
        two if TWO_DIGITS.contains(&two) || two == "98" => two.to_owned(),
        three => format!("{three}x"),
    }
}

/// `otpd_gateway_known_jobs` and `otpd_gateway_watchers`, read when they are asked for.
#[derive(Debug)]
pub(crate) struct Sizes(pub(crate) Weak<Index>);

impl Collector for Sizes {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Some(index) = self.0.upgrade() else { return Ok(()) };
        let number = |count: usize| ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
        for (name, help, gauge) in [
            ("gateway_known_jobs", "Jobs whose state this gateway knows", number(index.len())),
            ("gateway_watchers", "Open streams of server-sent events", number(index.watchers().len())),
        ] {
            let encoder = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(encoder)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_country_is_a_calling_code() {
        for (masked, is) in [
            ("+62*******890", "62"),
            ("+12*******890", "1"),
            ("+79*******890", "7"),
            ("+98*******890", "98"),
            ("+35*******890", "35x"),
            ("+38*****555", "38x"),
            ("", ""),
            ("nonsense", ""),
        ] {
            assert_eq!(country(masked), is, "{masked}");
        }
    }
}
