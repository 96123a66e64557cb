//! Opening the queue that the config names.

use std::sync::Arc;

use otpd_core::UnixMs;
use otpd_queue::Queue;
use otpd_queue::embedded::{Durability, Embedded, EmbeddedConfig};
use otpd_queue::rabbitmq::{Access, Nodes, Rabbit, RabbitConfig, ReadAccess};

use crate::config::{Address, Config};
use crate::failure::Failure;

/// The queue of this config. `source` is who speaks, such as `otpd/pod-1`.
///
/// # Errors
/// Where the embedded queue's file cannot be used. A broker is not asked yet.
pub fn queue(config: &Config, source: String) -> Result<Queue, Failure> {
    let plan = config.plan();
    match config.broker.address() {
        Address::Amqp(urls) => {
            let first = Access { urls, ca: config.broker.ca.clone() };
            let nodes = match &config.broker.address {
                Some(_) => Nodes::read_by(first, access(config)),
                None => Nodes::fixed(first.urls),
            };
            Ok(Queue::Rabbit(Rabbit::new(RabbitConfig { nodes, plan, source })))
        }
        Address::Embedded(path) => {
            let durability = Durability::default();
            Ok(Queue::Embedded(Embedded::open(EmbeddedConfig { path, plan, source, durability })?))
        }
    }
}

/// Reads what a connection to the broker needs, anew each time.
pub(crate) fn access(config: &Config) -> ReadAccess {
    let sources = config.broker.sources.clone();
    Arc::new(move || sources.read())
}

/// Who speaks: `otpd/` and the host's name, which in Kubernetes is the pod's.
#[must_use]
pub fn source() -> String {
    let host = std::env::var("HOSTNAME").ok().filter(|host| !host.is_empty());
    let host =
        host.or_else(|| std::fs::read_to_string("/etc/hostname").ok().map(|text| text.trim().to_owned()));
    let host: String = host.unwrap_or_default().chars().filter(char::is_ascii_graphic).take(64).collect();
    if host.is_empty() { format!("otpd/{}", std::process::id()) } else { format!("otpd/{host}") }
}

/// The wall clock.
#[must_use]
pub fn now() -> UnixMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
