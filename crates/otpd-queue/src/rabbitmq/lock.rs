//! The lock of whoever changes the topology: a queue that one connection may hold at a time.
//!
//! It has a connection of its own, on which everything that it guards is done as well: when the broker
//! takes the connection for dead and lets the next one in, it takes nothing more from this one either.
//! A holder that is killed is gone within milliseconds, one that falls silent after two heartbeats.

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use tokio::time::Instant;

use super::dial::{refusal, refused_or_away};
use super::link::{Frames, Link, Open};
use super::nodes::Nodes;
use super::wire::short;
use crate::error::QueueError;
use crate::plan::Plan;

/// How long somebody else may hold it.
const PATIENCE: Duration = Duration::from_secs(60);
/// The waits in between: short, as an apply takes tens of milliseconds.
const WAIT_MS: std::ops::Range<u64> = 20..150;

/// The lock, held.
pub(super) struct Lock {
    link: Link,
    holder: Open,
}

impl Lock {
    /// Takes it; waits for who has it now.
    ///
    /// # Errors
    /// [`QueueError::InUse`] where somebody holds it for a minute, [`QueueError::Away`].
    pub(super) async fn take(source: &str, nodes: &Nodes, plan: &Plan) -> Result<Self, QueueError> {
        let link = Link::new("topology", source, nodes, Frames::AsOffered);
        let until = Instant::now() + PATIENCE;
        loop {
            let holder = link.channel().await?;
            let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
            let mut arguments = FieldTable::default();
            // Whatever the virtual host's default is: only this type can be exclusive.
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
            let declare = holder.channel.queue_declare(short(&plan.topology_lock()), options, arguments);
            let Some(answer) = holder.within(declare).await else {
                link.close().await;
                return Err(super::dial::away(holder.url(), "no answer to a declaration in time"));
            };
            let error = match answer {
                Ok(_) => return Ok(Self { link, holder }),
                Err(error) => error,
            };
            match refusal(&error) {
                // Locked; or, in the moment of being let go, not there although it just was.
                Some((404 | 405, _)) if Instant::now() < until => {
                    let wait = Duration::from_millis(rand::random_range(WAIT_MS));
                    tokio::time::sleep(wait).await;
                }
                Some((404 | 405, _)) => {
                    link.close().await;
                    return Err(QueueError::InUse {
                        why: format!(
                            "another otpd has been changing the topology for {} s (it holds the queue {}); wait for it, or end it",
                            PATIENCE.as_secs(),
                            plan.topology_lock()
                        ),
                    });
                }
                Some(_) | None => {
                    let error = refused_or_away(holder.url(), &error);
                    link.close().await;
                    return Err(error);
                }
            }
        }
    }

    /// The connection that holds it.
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// That it is still held.
    ///
    /// # Errors
    /// [`QueueError::Away`] where it got lost with its connection.
    pub(super) fn still_held(&self) -> Result<(), QueueError> {
        if self.holder.channel.status().connected() {
            Ok(())
        } else {
            Err(super::dial::away(
                self.holder.url(),
                "the connection was lost, and with it the lock on the topology, in the middle of a change; run it again",
            ))
        }
    }

    /// Gives it back.
    pub(super) async fn release(self) {
        self.link.close().await;
    }
}
