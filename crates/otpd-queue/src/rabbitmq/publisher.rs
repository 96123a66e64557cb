//! Publishing with confirms, in windows.
//!
//! One owner per channel: lapin gives confirms to the wrong message when several tasks publish on
//! one channel, and attributes returned messages by guess while others are in flight. So a
//! publisher is owned (`&mut`), sends at most [`WINDOW`] messages, awaits every confirm, and only
//! then says which came back, by what is written on them. A window that is not confirmed in time
//! costs the channel.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use futures::future::poll_fn;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, PublisherConfirm};
use tracing::{info, warn};

use super::backoff::Backoff;
use super::clock;
use super::link::{Link, Open};
use super::wire::Parcel;
use crate::error::QueueError;
use crate::seam::Proof;

/// The most messages in flight.
pub(super) const WINDOW: usize = 256;

/// What became of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// A queue has it.
    Confirmed,
    /// No queue wants it: nothing is bound to its key.
    Returned,
    /// Nobody can tell: refused for now (normal during an election), or no answer came. Publish it again.
    Unknown,
}

/// How an attempt to publish a window ended.
pub(super) enum Attempt {
    /// One fate for each parcel, in order.
    Published(Vec<Fate>),
    /// There was no channel, and a pause has passed.
    Again,
    /// The queue is closed.
    Closed,
}

/// A channel in confirm mode and what it takes to have one.
pub(super) struct Publisher {
    link: Link,
    open: Option<Open>,
    proof: Proof,
    backoff: Backoff,
    in_trouble: bool,
}

impl Publisher {
    /// A publisher that opens its channel when it is needed. Confirms are told to `proof`.
    pub(super) fn new(link: Link, proof: Proof) -> Self {
        Self { link, open: None, proof, backoff: Backoff::default(), in_trouble: false }
    }

    /// Publishes a window and waits for its confirms; one fate for each parcel, in order.
    ///
    /// # Errors
    /// [`QueueError::Away`], [`QueueError::Refused`]: no channel, and nothing was published.
    pub(super) async fn window(&mut self, parcels: &[&Parcel]) -> Result<Vec<Fate>, QueueError> {
        debug_assert!(parcels.len() <= WINDOW, "a window is at most {WINDOW} messages");
        let open = match self.open.take() {
            Some(open) if open.channel.status().connected() => open,
            Some(_) | None => self.reopen().await?,
        };
        let sent_at = clock::now();
        let Some(outcome) = open.within(Box::pin(exchange(&open.channel, parcels))).await else {
            // A confirm that comes later must not count for a later window: the channel is done.
            return Ok(vec![Fate::Unknown; parcels.len()]);
        };
        if outcome.fates.contains(&Fate::Confirmed) {
            self.proof.seen(sent_at);
        }
        if outcome.channel_is_good {
            self.open = Some(open);
        }
        Ok(outcome.fates)
    }

    /// Like [`Publisher::window`], and waits for a channel as long as it takes (0.2 s to 10 s between
    /// attempts). `None` once the queue is closed.
    pub(super) async fn window_at_last(&mut self, parcels: &[&Parcel]) -> Option<Vec<Fate>> {
        loop {
            match self.window_or_pause(parcels).await {
                Attempt::Published(fates) => return Some(fates),
                Attempt::Again => {}
                Attempt::Closed => return None,
            }
        }
    }

    /// One attempt of [`Publisher::window_at_last`]: for whoever looks again whether all of it is still to be
    /// published.
    pub(super) async fn window_or_pause(&mut self, parcels: &[&Parcel]) -> Attempt {
        match self.window(parcels).await {
            Ok(fates) => {
                let unknown = fates.contains(&Fate::Unknown);
                self.tell(unknown, "the broker refused or did not confirm");
                self.backoff.reset();
                Attempt::Published(fates)
            }
            Err(_) if self.link.is_closed() => Attempt::Closed,
            Err(error) => {
                self.tell(true, &error.to_string());
                self.backoff.pause().await;
                Attempt::Again
            }
        }
    }

    fn tell(&mut self, trouble: bool, why: &str) {
        if trouble && !self.in_trouble {
            warn!(
                "publishing fails: {why}; publishing again until it is confirmed, nothing is acknowledged before"
            );
        } else if !trouble && self.in_trouble {
            info!("publishing works again");
        }
        self.in_trouble = trouble;
    }

    async fn reopen(&mut self) -> Result<Open, QueueError> {
        let open = self.link.channel().await?;
        open.call(open.channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(open)
    }
}

/// Publishes without waiting for confirms, on a channel that gives none; ends when everything is written.
///
/// # Errors
/// lapin's, where the channel is gone: how much was published is then not known.
pub(super) async fn publish_unconfirmed(channel: &Channel, parcels: &[Parcel]) -> lapin::Result<()> {
    let mut sends = Vec::with_capacity(parcels.len());
    for parcel in parcels {
        sends.push(Send::begin(channel, parcel).await);
    }
    for send in sends {
        send.confirm().await?;
    }
    Ok(())
}

struct Exchange {
    fates: Vec<Fate>,
    channel_is_good: bool,
}

/// Exchange, key and id of a message that came back.
type Returned = (String, String, String);

async fn exchange(channel: &Channel, parcels: &[&Parcel]) -> Exchange {
    let mut sends = Vec::with_capacity(parcels.len());
    for parcel in parcels {
        sends.push(Send::begin(channel, parcel).await);
    }
    let mut fates = Vec::with_capacity(parcels.len());
    let mut returned: Vec<Returned> = Vec::new();
    let mut channel_is_good = true;
    for send in sends {
        let confirmation = match send.confirm().await {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        let (fate, back) = match confirmation {
            Ok(Confirmation::Ack(back)) => (Fate::Confirmed, back),
            Ok(Confirmation::Nack(back)) => (Fate::Unknown, back),
            Ok(Confirmation::NotRequested) | Err(_) => {
                channel_is_good = false;
                (Fate::Unknown, None)
            }
        };
        fates.push(fate);
        returned.extend(back.map(|b| {
            let id = b.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default();
            (b.exchange.to_string(), b.routing_key.to_string(), id)
        }));
    }
    let mut exchange = Exchange { fates, channel_is_good };
    exchange.judge(parcels, &returned);
    exchange
}

impl Exchange {
    /// Gives what came back to the messages that it is, whichever confirm it was handed out with.
    fn judge(&mut self, parcels: &[&Parcel], returned: &[Returned]) {
        if !self.channel_is_good && !returned.is_empty() {
            // Some confirms are missing, and with them perhaps what else came back: an `Ack` may stand
            // for another message's return. Had nothing come back at all, every `Ack` would be true.
            self.fates.fill(Fate::Unknown);
        }
        for (exchange, key, id) in returned {
            for (parcel, fate) in parcels.iter().zip(self.fates.iter_mut()) {
                let same_place = parcel.exchange.as_str() == exchange && parcel.key.as_str() == key;
                if same_place && parcel.id.as_str() == id {
                    *fate = Fate::Returned;
                }
            }
        }
    }
}

/// A publish under way. It is begun in order, and not waited for until all of the window are begun:
/// lapin's thread then writes many at once.
enum Send<'a> {
    Begun(Pin<Box<dyn Future<Output = lapin::Result<PublisherConfirm>> + std::marker::Send + 'a>>),
    Over(lapin::Result<PublisherConfirm>),
}

impl<'a> Send<'a> {
    async fn begin(channel: &'a Channel, parcel: &'a Parcel) -> Self {
        let mut sending = Box::pin(channel.basic_publish(
            parcel.exchange.clone(),
            parcel.key.clone(),
            BasicPublishOptions { mandatory: parcel.mandatory, immediate: false },
            &parcel.body,
            parcel.properties.clone(),
        ));
        poll_fn(|cx| {
            Poll::Ready(match sending.as_mut().poll(cx) {
                Poll::Ready(outcome) => Some(outcome),
                Poll::Pending => None,
            })
        })
        .await
        .map_or_else(|| Self::Begun(sending), Self::Over)
    }

    async fn confirm(self) -> lapin::Result<PublisherConfirm> {
        match self {
            Self::Begun(sending) => sending.await,
            Self::Over(outcome) => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::BasicProperties;

    fn parcel(key: &str, id: &str) -> Parcel {
        Parcel {
            exchange: "otp.lanes".into(),
            key: key.into(),
            id: id.into(),
            body: bytes::Bytes::new(),
            properties: BasicProperties::default(),
            mandatory: true,
        }
    }

    #[test]
    fn a_returned_message_is_known_by_what_is_written_on_it() {
        let (a, b, c) = (parcel("p", "1"), parcel("q", "1"), parcel("q", "2"));
        let parcels = [&a, &b, &c];
        let judged = |fates: [Fate; 3], channel_is_good, came_back: &[(&str, &str)]| {
            let returned: Vec<Returned> =
                came_back.iter().map(|(key, id)| ("otp.lanes".into(), (*key).into(), (*id).into())).collect();
            let mut exchange = Exchange { fates: fates.to_vec(), channel_is_good };
            exchange.judge(&parcels, &returned);
            exchange.fates
        };
        let (yes, no, who_knows) = (Fate::Confirmed, Fate::Returned, Fate::Unknown);
        // Attributed by lapin to whichever confirm came first.
        assert_eq!(judged([yes, yes, yes], true, &[("q", "1")]), [yes, no, yes]);
        assert_eq!(judged([yes, yes, who_knows], true, &[("q", "2"), ("p", "1")]), [no, yes, no]);
        // Of another window: there is none such.
        assert_eq!(judged([yes, yes, yes], true, &[("q", "3")]), [yes, yes, yes]);
        // The channel broke off: what came back is certain, what did not is not.
        assert_eq!(judged([yes, yes, who_knows], false, &[("p", "1")]), [no, who_knows, who_knows]);
        assert_eq!(judged([yes, yes, who_knows], false, &[]), [yes, yes, who_knows]);
    }
}
