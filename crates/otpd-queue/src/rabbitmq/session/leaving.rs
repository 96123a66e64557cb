//! The end of a session that is not sudden: the lane is stopped, or another worker has claimed it. What waits goes
//! to the next owner at once, what is under way is settled here as it ends.
//!
//! Invariant: a delivery is handed back only once the lane's consumers are cancelled (it would come to them
//! again), and the lane has named those that it keeps.

use std::time::Duration;

use futures::future::join_all;
use futures::{FutureExt, StreamExt};
use lapin::options::{BasicCancelOptions, BasicNackOptions};
use tokio::time::Instant;

use super::{SILENT, Session};
use crate::seam::{Inbound, Tag};

/// Why a session ends that another worker's claim has ended.
pub(super) const OVERTAKEN: &str = "another worker has opened it";
/// How long a session that another worker has overtaken stays to settle what is under way: longer than a request
/// usually takes.
const LEAVING: Duration = Duration::from_secs(30);

impl Session<'_> {
    /// Another worker has claimed the lane, for which this one stays only to settle what is under way: its channel
    /// closed at once would have those requests repeated. All else is handed back when the lane says so.
    pub(super) async fn overtaken(&mut self) -> Result<(), String> {
        self.lost = None;
        if self.stopped {
            return Ok(());
        }
        // Whether the channel still stands is not known: until it is, nothing is moved for its deliveries.
        self.lane.open_session.send_replace(0);
        self.lane.say(Inbound::Lost { session: self.number });
        self.leaves_by = Some(Instant::now() + LEAVING);
        // Overtaken because the broker holds the connection for dead, perhaps.
        self.cancel().await.inspect_err(|_| self.open.suspect())?;
        self.lane.open_session.send_replace(self.number);
        Ok(())
    }

    /// True once a session that was overtaken has nothing left to settle.
    pub(super) fn has_left(&self) -> bool {
        self.leaves_by.is_some() && self.acks.outstanding() == 0 && self.acks.waiting() == 0
    }

    /// Hands deliveries back, which only goes without a consumer: they would come to it again.
    pub(super) async fn hand_back(&mut self, session: u32, kept: &[Tag]) -> Result<(), String> {
        if session != self.number || !(self.stopped || self.leaves_by.is_some()) {
            return Ok(());
        }
        self.write_acks().await?;
        let kept = kept.iter().filter(|tag| tag.session == session).map(|tag| tag.number).collect();
        let channel = &self.open.channel;
        let writes = self.acks.hand_back(&kept).into_iter().map(|ack| {
            let (number, multiple) = ack.parts();
            channel.basic_nack(number, BasicNackOptions { multiple, requeue: true })
        });
        let written = join_all(writes).map(|all| all.into_iter().collect::<lapin::Result<()>>());
        self.open.call(written).await.map_err(|error| format!("deliveries cannot be handed back: {error}"))
    }

    /// No more deliveries. What is held here was never handed on; it goes back with the channel.
    pub(super) async fn stop(&mut self) -> Result<(), String> {
        if self.stopped {
            return Ok(());
        }
        self.renew();
        self.stopped = true;
        let cancelled = if self.leaves_by.take().is_some() { Ok(()) } else { self.cancel().await };
        self.lane.say(Inbound::Stopped);
        cancelled
    }

    /// Takes no more deliveries, and forgets those that were not handed on.
    async fn cancel(&mut self) -> Result<(), String> {
        self.barrier = None;
        self.held.clear();
        self.early.clear();
        let (lane, open) = (self.lane, &self.open);
        let cancelling = async {
            for section in lane.sections() {
                let cancel =
                    open.channel.basic_cancel(lane.consumer_tag(*section), BasicCancelOptions::default());
                open.call(cancel).await.map_err(|error| error.to_string())?;
            }
            Ok(())
        };
        let silent = || Err("the broker does not answer on the consuming connection".to_owned());
        let cancelled = tokio::time::timeout(SILENT, cancelling).await.unwrap_or_else(|_| silent());
        // What came before the answers is ours as long as it is not handed back.
        while let Some(Some((_, got))) = self.inflow.next().now_or_never() {
            if let Some(Ok(delivery)) = got {
                self.acks.delivered(delivery.delivery_tag);
            }
        }
        self.inflow.clear();
        cancelled
    }
}
