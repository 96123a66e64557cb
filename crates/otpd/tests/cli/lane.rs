//! A lane in this process, for commands in another: both share one embedded queue.

use otpd_queue::embedded::{Durability, Embedded, EmbeddedConfig};
use otpd_queue::{Inbound, LaneQueue, Queue, Tag};

use crate::{LAPTOP, Place};

/// A place with a queue as its config plans it.
pub(crate) async fn laptop_queue() -> (Place, Queue) {
    let place = Place::new(LAPTOP);
    let loaded = otpd::config::Sources::default().load_over(Some(("otpd.toml", LAPTOP)));
    let embedded = Embedded::open(EmbeddedConfig {
        path: place.0.join("otpd.db"),
        plan: loaded.ok().unwrap().config.plan(),
        source: "otpd/test".into(),
        durability: Durability::ProcessDeath,
    });
    let queue = Queue::Embedded(embedded.unwrap());
    queue.apply_topology().await.unwrap();
    (place, queue)
}

/// The next job that is handed to `lane`.
pub(crate) async fn next_job(lane: &mut LaneQueue) -> Tag {
    loop {
        match lane.inbox.recv().await.unwrap() {
            Inbound::Delivery(delivery) => return delivery.tag,
            Inbound::Opened { .. } | Inbound::Lost { .. } | Inbound::Stopped => {}
        }
    }
}
