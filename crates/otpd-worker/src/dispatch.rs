//! The lane: one task that owns everything about one provider account. This is the page to read
//! first.
//!
//! ```text
//! inbox ─▶ arrive ─▶ waiting room ─▶ start (admit, gates, permit) ─▶ request ─▶ finish (decide) ─▶ settle
//!             │            ▲                                                │              (awaiting) ─▶ settle
//!             └─ refused   └──────────────────── a retry ◀──────────────────┘
//! ```
//!
//! Nothing here waits except the `select!` in [`Lane::run`]: every other step is a plain function
//! over the lane's own state, so there are no locks and no half-done states. What the loop waits for:
//! an answer, something from the queue, one timer (the next permit, the next retry, the next expiry),
//! other settings, or the order to drain.
//!
//! Invariants: a request starts only with a permit and a place among `max_in_flight`, which ends that
//! are not confirmed yet take up too; a delivery is
//! settled at most once a session; what ended is remembered before it is handed to the
//! queue, so a delivery that comes back is recognised even while its fact is on its way.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use otpd_core::checkpoint::{LONG, Pause};
use otpd_core::{
    Breaker, Ceiling, JobId, Mono, Pace, ReadyAt, Reason, Recipients, Route, Served, Singled, TrafficClass,
    UnixMs, Unlisted,
};
use otpd_queue::{Checkpoint, Inbound, LaneQueue, LaneStop, Prefetch, QueueNames, Settler};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::attempt::{Ended, Flying};
use crate::awaiting::Awaiting;
use crate::clock::Clock;
use crate::endpoint::Endpoint;
use crate::gates::Closed;
use crate::lease::Lease;
use crate::metrics::LaneMetrics;
use crate::reconfigure::{self, Inbox, routes_of};
use crate::settings::{LaneSettings, Shared};
use crate::spill::Looks;
use crate::waiting_room::WaitingRoom;
use crate::worker::LaneState;
use crate::written::Told;

/// How many queue messages are taken in one turn before requests are started.
pub(crate) const INBOX_TURN: usize = 256;
/// How often the gauges that cost a look at everything are set.
const GAUGES_EVERY: Duration = Duration::from_millis(500);
/// What a queue has at least to confirm what ended, and to take back what did not, when a worker ends.
const LAST_MOMENT: Duration = Duration::from_millis(500);
/// The longest sleep: gauges are fresh, and a clock that was set is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// One lane. [`Lane::run`] drives it to its end.
pub struct Lane<E: Endpoint> {
    pub(crate) settings: LaneSettings,
    pub(crate) shared: Shared,
    pub(crate) clock: Clock,
    pub(crate) endpoint: Arc<E>,
    pub(crate) metrics: LaneMetrics,
    pub(crate) settler: Settler,
    pub(crate) state: watch::Sender<LaneState>,
    inbox: mpsc::UnboundedReceiver<Inbound>,
    stop: LaneStop,
    pub(crate) names: QueueNames,
    pub(crate) checkpoint: Checkpoint,
    /// Where other settings come from; `None`: from nowhere.
    orders: Option<Inbox<E>>,

    /// The routes by name, shared with the jobs that came by them.
    pub(crate) routes: HashMap<String, Arc<Route>>,
    /// The route of jobs whose own is not known here.
    pub(crate) own_route: Arc<Route>,
    pub(crate) room: WaitingRoom,
    /// Accepted jobs whose delivery is awaited.
    pub(crate) awaiting: Awaiting,
    /// Of which jobs a delivery was heard.
    pub(crate) deliveries: mpsc::UnboundedReceiver<JobId>,
    pub(crate) ceiling: Ceiling,
    /// The requests of others were counted in this session.
    pub(crate) window_is_ours: bool,
    pub(crate) breaker: Breaker,
    /// The even flow of bulk.
    pub(crate) pace: Pace,
    /// What is really served.
    pub(crate) served: Served,
    /// How far the waiting jobs have been judged again.
    pub(crate) looks: Looks,
    /// How many deliveries the lane gets at most.
    pub(crate) prefetch: Prefetch,
    /// When deliveries that were held for long were renewed last.
    pub(crate) renewed_at: Mono,
    /// Until when the provider wants nothing.
    pub(crate) paused_until: Option<Mono>,
    pub(crate) resume_untold: bool,
    /// Why it wants nothing.
    pub(crate) pause_reason: Reason,
    /// The ceiling in force is one that was learned.
    pub(crate) is_learned: bool,
    /// Whose refusals are.
    pub(crate) singled: Singled,
    /// Refusals that nobody has documented.
    pub(crate) unlisted: Unlisted,
    /// Until when the provider wants nothing for a recipient.
    pub(crate) pairs: Recipients,
    pub(crate) session: u32,
    /// The session, as the requests under way see it.
    pub(crate) lease: Lease,
    pub(crate) arrivals: u64,
    pub(crate) in_flight: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// The deliveries of jobs whose request is under way; a redelivery updates its tag.
    pub(crate) flying: HashMap<JobId, Flying>,
    /// Which of them the next owner knows to be written.
    pub(crate) told: Told,
    pub(crate) draining: bool,
    gauges_at: Mono,
    /// When no event was left unconfirmed.
    confirmed_at: UnixMs,
}

impl<E: Endpoint> Lane<E> {
    /// A lane over an open queue.
    #[must_use]
    pub fn new(
        settings: LaneSettings,
        shared: Shared,
        clock: Clock,
        endpoint: Arc<E>,
        metrics: LaneMetrics,
        queue: LaneQueue,
        state: watch::Sender<LaneState>,
    ) -> Self {
        let ceiling = Ceiling::new(&settings.ceiling, settings.burst, clock.mono());
        metrics.set_ceiling(ceiling.per_second(), ceiling.configured());
        shared.memory.set_ceiling(&settings.provider, &settings.ceiling);
        let (routes, own_route) = routes_of(&shared.routes, &settings.provider);
        let deliveries = shared.memory.deliveries();
        Self {
            routes,
            own_route,
            settings,
            shared,
            clock,
            endpoint,
            metrics,
            settler: queue.settler,
            state,
            inbox: queue.inbox,
            stop: queue.stop,
            names: queue.names,
            checkpoint: queue.checkpoint,
            orders: None,
            room: WaitingRoom::default(),
            awaiting: Awaiting::default(),
            deliveries,
            ceiling,
            window_is_ours: false,
            breaker: Breaker::default(),
            pace: Pace::default(),
            served: Served::default(),
            looks: Looks::default(),
            prefetch: queue.prefetch,
            renewed_at: Mono::default(),
            paused_until: None,
            resume_untold: false,
            pause_reason: Reason::RateProvider,
            is_learned: false,
            singled: Singled::default(),
            unlisted: Unlisted::default(),
            pairs: Recipients::default(),
            session: 0,
            lease: Lease::of(queue.alive),
            arrivals: 0,
            in_flight: FuturesUnordered::new(),
            flying: HashMap::new(),
            told: Told::default(),
            draining: false,
            gauges_at: Mono::default(),
            confirmed_at: clock.wall(),
        }
    }

    /// The same lane, which takes other settings from here.
    #[must_use]
    pub fn steered(self, orders: Inbox<E>) -> Self {
        Self { orders: Some(orders), ..self }
    }

    /// Runs until `drain` is cancelled, what is under way has ended and everything that ended is settled, or
    /// `grace` is over. What was not sent is handed back. Gives how many settlements the queue has not
    /// confirmed: their jobs come again to the next owner.
    pub async fn run(mut self, drain: CancellationToken, mut grace: Duration) -> usize {
        let sleep = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(sleep);
        let mut deadline: Option<Instant> = None;
        loop {
            let wake = self.start_what_may_start();
            if self.draining && self.in_flight.is_empty() {
                break;
            }
            let wake = deadline.map_or(wake, |d| d.min(wake));
            if sleep.deadline() != wake {
                sleep.as_mut().reset(wake);
            }
            tokio::select! {
                Some(ended) = self.in_flight.next(), if !self.in_flight.is_empty() => self.finish_all(ended),
                inbound = self.inbox.recv() => match inbound {
                    Some(inbound) => self.receive(inbound),
                    None => break,
                },
                Some(job) = self.deliveries.recv() => self.hear_deliveries(&job),
                () = self.settler.fewer(), if !self.room.is_empty() && !self.has_room() => {}
                () = &mut sleep => {
                    if deadline.is_some_and(|d| Instant::now() >= d) {
                        tracing::warn!(provider = %self.settings.provider, unfinished = self.in_flight.len(),
                            "the grace period is over; unfinished requests are given up and their jobs handed back");
                        break;
                    }
                }
                orders = reconfigure::next(&mut self.orders) => {
                    grace = orders.grace;
                    self.reconfigure(&orders);
                }
                () = drain.cancelled(), if deadline.is_none() => {
                    deadline = Some(Instant::now() + grace);
                    self.begin_drain();
                }
            }
        }
        self.end(deadline.unwrap_or_else(|| Instant::now() + grace)).await
    }

    /// Judges an answer, and those that are there with it: a turn of the loop costs as much as one of them.
    fn finish_all(&mut self, first: Ended) {
        self.finish(first);
        while let Some(Some(ended)) = self.in_flight.next().now_or_never() {
            self.finish(ended);
        }
    }

    /// Takes what the queue said, and what else it has said meanwhile.
    fn receive(&mut self, first: Inbound) {
        self.hear(first);
        for _ in 1..INBOX_TURN {
            match self.inbox.try_recv() {
                Ok(inbound) => self.hear(inbound),
                Err(_) => return,
            }
        }
    }

    /// Starts requests while there are jobs, places and permits; gives the time to look again.
    fn start_what_may_start(&mut self) -> Instant {
        let wall = self.clock.wall();
        while let Some(held) = self.room.take_expired(wall) {
            self.expire(held);
        }
        let now = self.clock.mono();
        self.room.turn(now);
        let judged = self.judge_waiting(now);
        let permit = self.start_while_permitted(wall);
        let crowded = self.make_room(now);
        let confirmed = self.judge_awaiting(now);
        self.note_backlog(now);
        self.show();
        let told = self.tell_written(now);
        let expiry = self.room.next_expiry().map(|at| self.clock.mono_of(at));
        let events = [permit, judged, crowded, confirmed, told, self.room.next_due(), expiry];
        let longest = Instant::now() + LONGEST_SLEEP;
        events.into_iter().flatten().map(|at| self.clock.instant(at)).fold(longest, Instant::min)
    }

    /// Jobs wait although the provider takes them: what ends meanwhile shows how much is served.
    fn note_backlog(&mut self, now: Mono) {
        let is_open =
            self.breaker.open_reason().is_none() && self.paused_until.is_none_or(|until| until <= now);
        self.served.turn(is_open && !self.room.is_idle(), now);
    }

    /// Starts requests; gives the time at which the next could start, where that is known.
    fn start_while_permitted(&mut self, wall: UnixMs) -> Option<Mono> {
        while !self.draining && self.has_room() && self.lease.is_fresh() && self.next_is_worth_it(wall) {
            let now = self.clock.mono();
            match self.gate(now) {
                Ok(()) => {}
                Err(Closed::Until(at)) => return Some(at),
                Err(Closed::UntilOneEnds) => return None,
            }
            if !self.recipient_is_ready(now) {
                continue;
            }
            let class_ready_at = self.class_ready_at(now);
            if class_ready_at > now {
                return Some(class_ready_at);
            }
            match self.ceiling.take(now) {
                Ok(stamp) => self.start(now, stamp),
                Err(ReadyAt::At(at)) => return Some(at),
                Err(ReadyAt::WhenOneEnds) => return None,
            }
        }
        None
    }

    /// Requests under way and ends that are not confirmed yet count together: that is what a crash
    /// could repeat.
    pub(crate) fn has_room(&self) -> bool {
        self.in_flight.len() + self.settler.unconfirmed() < self.settings.max_in_flight
    }

    fn show(&mut self) {
        let now = self.clock.mono();
        if self.ceiling.recover(now) {
            self.note_learned();
        }
        if now.since(self.gauges_at) >= GAUGES_EVERY {
            self.gauges_at = now;
            self.count_late(now);
            let oldest = self.room.oldest().map_or(Duration::ZERO, |at| self.clock.wall().since(at));
            self.metrics.oldest.set(oldest.as_secs_f64());
            self.metrics.ceiling_used.set(self.ceiling.used_ratio(now));
            self.write_checkpoint(now);
            self.show_state(now);
            self.shared.memory.warn_of_forgotten(now);
        }
        self.shared.board.say(&self.settings.provider, self.estimate(TrafficClass::Bulk, now));
        self.metrics.waiting.set(i64::try_from(self.room.len()).unwrap_or(i64::MAX));
        self.metrics.awaiting.set(i64::try_from(self.awaiting.len()).unwrap_or(i64::MAX));
        self.metrics.in_flight.set(i64::try_from(self.in_flight.len()).unwrap_or(i64::MAX));
    }

    /// A window that has become longer counts what its lane's owners sent long ago as soon as that is read.
    fn count_late(&mut self, now: Mono) {
        if self.window_is_ours && self.lease.holds(self.session) && !self.settings.ceiling.is_empty() {
            self.shared.memory.count_late(&self.settings.provider, &mut self.ceiling, now);
        }
    }

    /// Writes down what the next owner must know beside the facts of the last minute, if there is any.
    pub(crate) fn write_checkpoint(&self, now: Mono) {
        let pause = self.paused_until.filter(|until| *until > now);
        let is_long = self.settings.ceiling.iter().any(|rate| rate.per > LONG);
        let written = self.written_before().filter(|_| !self.flying.is_empty());
        if !is_long && pause.is_none() && !self.ceiling.was_learned() && written.is_none() {
            return self.checkpoint.set(None);
        }
        let pause = pause.map(|until| Pause { remaining: until.since(now), reason: None });
        let checkpoint = self.ceiling.checkpoint(now, self.clock.wall()).with_pause(pause);
        let checkpoint = checkpoint.with_written_before(written);
        self.checkpoint.set(serde_json::to_string(&checkpoint).ok().map(Into::into));
    }

    fn show_state(&mut self, now: Mono) {
        let (wall, unconfirmed) = (self.clock.wall(), self.settler.unconfirmed());
        if unconfirmed == 0 {
            self.confirmed_at = wall;
        }
        let lag = wall.since(self.confirmed_at.max(self.settler.proof().at()));
        self.metrics.events_lag.set(lag.as_secs_f64());
        self.metrics.unconfirmed.set(i64::try_from(unconfirmed).unwrap_or(i64::MAX));
        self.metrics.consuming.set(i64::from(*self.state.borrow() == LaneState::Open));
        self.metrics.paused.set(i64::from(self.paused_until.is_some_and(|until| until > now)));
    }

    fn begin_drain(&mut self) {
        tracing::info!(provider = %self.settings.provider, in_flight = self.in_flight.len(), waiting = self.room.len(),
            "draining: requests under way are finished, waiting jobs are handed back");
        self.draining = true;
        self.metrics.consuming.set(0);
        self.state.send_replace(LaneState::Draining);
        self.let_go();
        self.tell_written_now(self.clock.mono(), Duration::ZERO);
        self.stop.stop();
    }

    /// Settles until `deadline`, hands back the rest; gives how much is not confirmed. A queue that is away
    /// cannot hold a worker that is to end: it hands the jobs out again by itself.
    async fn end(self, deadline: Instant) -> usize {
        drop(self.in_flight);
        let deadline = deadline.max(Instant::now() + LAST_MOMENT);
        let unconfirmed = match tokio::time::timeout_at(deadline, self.settler.flush()).await {
            Ok(()) => 0,
            Err(_) => self.settler.unconfirmed() + self.settler.moving(),
        };
        if unconfirmed > 0 {
            tracing::warn!(provider = %self.settings.provider, unconfirmed,
                "the grace period is over and the queue has not confirmed everything; these jobs come again to the lane's next owner, and some of them may be sent again");
        }
        let _ = tokio::time::timeout(LAST_MOMENT, self.stop.close()).await;
        self.state.send_replace(LaneState::Closed);
        unconfirmed
    }
}
