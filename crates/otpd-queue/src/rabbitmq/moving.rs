//! The moves and burials that are not confirmed yet, and the acknowledgements that wait for them. Owned
//! by the settling task alone, so whatever comes in whatever order is judged in one place.
//!
//! A delivery whose session is lost comes back. While the message of its settlement is on its way, the
//! delivery is the only safe copy of the job: an acknowledgement from the lane's memory is therefore held
//! here until nothing of that life of the job, or of a later one, is on its way.
//!
//! Bound: each message of the open session holds an unacknowledged delivery, so there are at most as many
//! as the prefetch. Those of a lost session are withheld, in memory only, until their delivery comes back
//! or the lane says something newer of the job.

use std::collections::HashMap;
use std::time::Duration;

use otpd_core::{JobId, Life, recent};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::destination::{Destinations, News, OpenSession, Outgoing};
use super::link::Link;
use super::wire::Parcel;
use crate::seam::{Proof, Tag, Ticket};

/// What is left to do of a settlement once its message, if any, is confirmed.
pub(super) struct Rest {
    pub(super) fact: Option<Parcel>,
    pub(super) tag: Option<Tag>,
    pub(super) _ticket: Ticket,
}

/// A settlement with a message.
pub(super) struct WithMessage {
    pub(super) job: JobId,
    /// The life that the message carries.
    pub(super) life: Life,
    pub(super) tag: Tag,
    pub(super) message: Parcel,
    pub(super) fact: Option<Parcel>,
    pub(super) ticket: Ticket,
}

/// What waits.
pub(super) struct Moving {
    destinations: Destinations,
    news: mpsc::UnboundedReceiver<News>,
    pending: HashMap<u64, Pending>,
    /// The numbers of a job's pending messages, oldest first.
    of_job: HashMap<JobId, Vec<u64>>,
    /// Acknowledgements that wait for a job's messages.
    held: HashMap<JobId, Vec<Held>>,
    last: u64,
    withheld: usize,
    /// When it was looked for what has been withheld for long.
    forgot_at: Instant,
}

/// How often it is looked for what has been withheld for long.
const LOOK_AT_WITHHELD: Duration = Duration::from_secs(30);

struct Pending {
    job: JobId,
    life: Life,
    rest: Rest,
    /// The message, while it is with no destination, and since when.
    withheld: Option<(Parcel, Instant)>,
}

struct Held {
    tag: Tag,
    life: Life,
    ticket: Ticket,
}

impl Moving {
    pub(super) fn new(link: Link, proof: Proof, session: OpenSession) -> Self {
        let (sender, news) = mpsc::unbounded_channel();
        Self {
            destinations: Destinations::new(link, proof, session, sender),
            news,
            pending: HashMap::new(),
            of_job: HashMap::new(),
            held: HashMap::new(),
            last: 0,
            withheld: 0,
            forgot_at: Instant::now(),
        }
    }

    /// Whether anything is on its way; what is withheld is not.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.len() == self.withheld
    }

    /// The deliveries that wait for a message.
    pub(super) fn tags(&self) -> impl Iterator<Item = Tag> {
        let held = self.held.values().flatten().map(|held| held.tag);
        self.pending.values().filter_map(|pending| pending.rest.tag).chain(held)
    }

    /// What the destinations say next. Cancel-safe.
    pub(super) async fn news(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            // The destinations' sender is held here.
            None => std::future::pending().await,
        }
    }

    /// Sends a message on its way. Whatever is withheld of the job is out of date.
    pub(super) fn begin(&mut self, with: WithMessage) {
        let WithMessage { job, life, tag, message, fact, ticket } = with;
        self.forget_withheld(&job, life);
        self.forget_long_withheld();
        self.last += 1;
        self.of_job.entry(job.clone()).or_default().push(self.last);
        let rest = Rest { fact, tag: Some(tag), _ticket: ticket };
        self.pending.insert(self.last, Pending { job, life, rest, withheld: None });
        self.destinations.send(Outgoing { number: self.last, session: tag.session, parcel: message });
    }

    /// Holds the acknowledgement of a delivery that came back while messages of its job are on their way;
    /// those that were withheld are sent again. Gives back the ticket where there is nothing to wait for.
    pub(super) fn hold(&mut self, job: &JobId, life: Life, tag: Tag, ticket: Ticket) -> Option<Ticket> {
        let numbers = self.of_job.get(job).cloned().unwrap_or_default();
        let mut waits = false;
        for number in numbers {
            let Some(pending) = self.pending.get_mut(&number).filter(|p| p.life >= life) else { continue };
            waits = true;
            if let Some((parcel, _)) = pending.withheld.take() {
                self.withheld -= 1;
                self.destinations.send(Outgoing { number, session: tag.session, parcel });
            }
        }
        if !waits {
            return Some(ticket);
        }
        let held = self.held.entry(job.clone()).or_default();
        held.retain(|h| h.tag.session == tag.session);
        held.push(Held { tag, life, ticket });
        None
    }

    /// Takes in what the destinations say; gives what can go on.
    pub(super) fn hear(&mut self, news: News) -> Vec<Rest> {
        match news {
            News::Taken(numbers) => numbers.into_iter().flat_map(|number| self.taken(number)).collect(),
            News::Withheld(messages) => {
                messages.into_iter().for_each(|message| self.withhold(message));
                Vec::new()
            }
        }
    }

    /// A message is in its queue: its fact may be told, and after it every delivery acknowledged that waited
    /// for this message and for no other.
    fn taken(&mut self, number: u64) -> Vec<Rest> {
        let Some(Pending { job, rest, .. }) = self.remove(number) else { return Vec::new() };
        let mut rests = vec![rest];
        let Some(held) = self.held.remove(&job) else { return rests };
        let (waits, free): (Vec<Held>, Vec<Held>) =
            held.into_iter().partition(|h| self.numbers(&job).any(|(_, p)| p.life >= h.life));
        if !waits.is_empty() {
            self.held.insert(job, waits);
        }
        let acknowledged = |h: Held| Rest { fact: None, tag: Some(h.tag), _ticket: h.ticket };
        rests.extend(free.into_iter().map(acknowledged));
        rests
    }

    /// A message's session was lost. Where its delivery has come back already, it is sent again at once.
    fn withhold(&mut self, message: Outgoing) {
        let Outgoing { number, session, parcel } = message;
        let Some(pending) = self.pending.get_mut(&number) else { return };
        let came_back = self.held.get(&pending.job).and_then(|held| held.iter().map(|h| h.tag.session).max());
        match came_back.filter(|later| *later > session) {
            Some(session) => self.destinations.send(Outgoing { number, session, parcel }),
            None => {
                pending.withheld = Some((parcel, Instant::now()));
                self.withheld += 1;
                // Void with their session.
                self.held.remove(&pending.job);
            }
        }
    }

    fn numbers(&self, job: &JobId) -> impl Iterator<Item = (u64, &Pending)> {
        let numbers = self.of_job.get(job).into_iter().flatten();
        numbers.filter_map(|number| Some((*number, self.pending.get(number)?)))
    }

    /// The lane works on this life of the job, or a later one, again: what was decided before its
    /// delivery came back is out of date.
    pub(super) fn forget_withheld(&mut self, job: &JobId, life: Life) {
        if self.withheld == 0 {
            return;
        }
        for number in self.of_job.get(job).cloned().unwrap_or_default() {
            let outdated = |p: &Pending| p.life <= life && p.withheld.is_some();
            if self.pending.get(&number).is_some_and(outdated) {
                self.withheld -= 1;
                self.remove(number);
            }
        }
    }

    /// Forgets what was withheld for so long that its job is not remembered any more either: if the delivery ever
    /// comes back, it is worked on anew.
    fn forget_long_withheld(&mut self) {
        if self.withheld == 0 || self.forgot_at.elapsed() < LOOK_AT_WITHHELD {
            return;
        }
        self.forgot_at = Instant::now();
        let is_old =
            |p: &Pending| p.withheld.as_ref().is_some_and(|(_, since)| since.elapsed() > recent::WINDOW);
        let old: Vec<u64> =
            self.pending.iter().filter(|(_, p)| is_old(p)).map(|(number, _)| *number).collect();
        for number in old {
            self.withheld -= 1;
            self.remove(number);
        }
    }

    fn remove(&mut self, number: u64) -> Option<Pending> {
        let pending = self.pending.remove(&number)?;
        if let Some(numbers) = self.of_job.get_mut(&pending.job) {
            numbers.retain(|n| *n != number);
            if numbers.is_empty() {
                self.of_job.remove(&pending.job);
            }
        }
        Some(pending)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lapin::BasicProperties;
    use tokio::sync::watch;

    use super::*;
    use crate::rabbitmq::link::Frames;
    use crate::rabbitmq::nodes::Nodes;
    use crate::seam::{Order, Settlement, Settler, Then};

    /// A lane's moves to a broker that is not there.
    struct Bench {
        moving: Moving,
        session: watch::Sender<u32>,
        settler: Settler,
        orders: mpsc::UnboundedReceiver<Order>,
    }

    impl Bench {
        fn new() -> Self {
            let (session, open) = watch::channel(0);
            let moving = Moving::new(
                Link::new("publish", "test", &Nodes::fixed(Vec::new()), Frames::Small),
                Proof::default(),
                open,
            );
            let (sender, orders) = mpsc::unbounded_channel();
            Self { moving, session, settler: Settler::new(sender, Proof::default()), orders }
        }

        fn open(&self, session: u32) {
            self.session.send_replace(session);
        }

        fn begin(&mut self, job: &str, session: u32) {
            let (job, tag) = (JobId::parse(job).unwrap(), Tag { session, number: 1 });
            let settled = Then::AcknowledgeSettled { tag, job: job.clone(), life: Life::default() };
            self.settler.settle(Settlement { fact: None, then: settled });
            let Some(Order::Settle(_, ticket)) = self.orders.try_recv().ok() else { panic!("an order") };
            let message = Parcel {
                exchange: "lanes".into(),
                key: "next".into(),
                id: job.as_str().into(),
                body: Bytes::new(),
                properties: BasicProperties::default(),
                mandatory: true,
            };
            self.moving.begin(WithMessage { job, life: Life::default(), tag, message, fact: None, ticket });
        }

        /// Loses the session, and takes in that what was on its way is withheld.
        async fn lose(&mut self) {
            self.open(0);
            let news = self.moving.news().await;
            assert!(matches!(news, News::Withheld(_)));
            self.moving.hear(news);
        }
    }

    /// Fault: a move whose delivery never came back, because another worker had it, was kept for ever.
    #[tokio::test(start_paused = true)]
    async fn what_is_withheld_longer_than_its_job_is_remembered_is_dropped() {
        let mut bench = Bench::new();
        bench.open(1);
        for job in ["a", "b", "c"] {
            bench.begin(job, 1);
        }
        bench.lose().await;
        assert!(bench.moving.is_idle(), "nothing is on its way");
        bench.open(2);
        tokio::time::advance(recent::WINDOW - LOOK_AT_WITHHELD).await;
        bench.begin("d", 2);
        assert_eq!((bench.moving.pending.len(), bench.settler.moving()), (4, 4), "they may come back yet");
        tokio::time::advance(LOOK_AT_WITHHELD * 2).await;
        bench.begin("e", 2);
        assert_eq!((bench.moving.pending.len(), bench.settler.moving()), (2, 2), "only what is on its way");
        assert_eq!((bench.moving.withheld, bench.moving.of_job.len()), (0, 2));
        // Whatever comes back after that is worked on anew: nothing holds its acknowledgement.
        let (job, tag) = (JobId::parse("a").unwrap(), Tag { session: 2, number: 9 });
        bench.settler.settle(Settlement { fact: None, then: Then::Acknowledge(tag) });
        let Some(Order::Settle(_, ticket)) = bench.orders.try_recv().ok() else { panic!("an order") };
        assert!(bench.moving.hold(&job, Life::default(), tag, ticket).is_some());
    }
}
