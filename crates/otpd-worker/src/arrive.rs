//! What comes from the queue: sessions, history, jobs. After `Lane::hear` a job is held, settled
//! without a request, or was known already.

use std::sync::Arc;
use std::time::Duration;

use otpd_core::admission::{Arrival, Arriving, SKEW, arrive};
use otpd_core::{FactKind, Known, Reason, Refusals, Route, SendJob, Stage, UnixMs};
use otpd_queue::{Delivery, Inbound, Section, Settlement, Then};

use crate::dispatch::Lane;
use crate::endpoint::Endpoint;
use crate::held::Held;
use crate::trace;
use crate::worker::LaneState;

/// A job that came back so often, from owners that died, without ever having been tried, is no cause of
/// their deaths. It gets a fresh message before the queue buries it.
const RETURNED_OFTEN: u32 = otpd_queue::plan::DELIVERY_LIMIT / 2;

impl<E: Endpoint> Lane<E> {
    /// Takes one thing the queue said.
    pub(crate) fn hear(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Opened { session } => {
                self.session = session;
                self.lease.hold(session);
                self.window_is_ours = false;
                self.let_go();
                self.metrics.breaker_open.set(i64::from(self.breaker.open_reason().is_some()));
                if session > 1 {
                    self.metrics.reconnects.inc();
                }
                if !self.draining {
                    self.state.send_replace(LaneState::Open);
                }
            }
            Inbound::Lost { session } => {
                tracing::warn!(provider = %self.settings.provider, session, waiting = self.room.len(),
                    "the lane is lost: its queue is away, or another worker has it; waiting jobs go to its next owner");
                self.lease.lose();
                self.let_go();
                // What is not written yet must not be: the next owner counts it as written by now.
                self.flying.values().for_each(|flying| flying.stamp.revoke());
                self.hand_back(session);
                // Whoever owns the lane next shows these.
                self.metrics.breaker_open.set(0);
                self.metrics.paused.set(0);
                if !self.draining {
                    self.state.send_replace(LaneState::Lost);
                }
            }
            Inbound::Delivery(delivery) => {
                self.take_over();
                self.take_in(delivery);
            }
            Inbound::Stopped => self.hand_back(self.session),
        }
    }

    /// Forgets what waits: its deliveries are void or handed back.
    pub(crate) fn let_go(&mut self) {
        self.room.clear();
        self.awaiting.clear();
    }

    /// The session is at its end: what waits goes to the next owner now, and what is under way as it ends. Again
    /// where that does not end the job.
    pub(crate) fn hand_back(&self, session: u32) {
        self.settler.hand_back(session, self.flying.values().map(|flying| flying.tag).collect());
    }

    /// Before the first delivery of a session: somebody else may have been the owner meanwhile. The window of
    /// this process goes on; the requests of others are added to it.
    fn take_over(&mut self) {
        if self.window_is_ours {
            return;
        }
        self.window_is_ours = true;
        let (now, wall, provider) = (self.clock.mono(), self.clock.wall(), &self.settings.provider);
        if self.shared.memory.with(|memory| memory.was_served_lately(provider, wall)) {
            self.breaker.trust();
        }
        let taken = self.shared.memory.take_over(&self.settings.provider, &mut self.ceiling, now);
        if let Some((until, _)) = taken.pause.filter(|(until, _)| *until > now) {
            self.paused_until = self.paused_until.max(Some(until));
            self.resume_untold = true;
        }
        if self.session > 1 || taken.requests > 0 {
            self.ceiling.start_paced(now);
        } // else nobody was here: whatever idling earns is there
        self.note_learned();
    }

    fn take_in(&mut self, delivery: Delivery) {
        self.arrivals += 1;
        if self.draining || delivery.tag.session != self.session {
            return; // handed back, or void: it comes again
        }
        let now = self.clock.wall();
        let taken_at = delivery.taken_at.map_or(now, |at| at.min(now));
        let job = match SendJob::parse(&delivery.body, taken_at) {
            Ok(job) => job,
            Err(malformed) => return self.bury_malformed(&delivery, malformed, now),
        };
        let known = self.known(&job, &delivery);
        match arrive(known, &self.arriving(&job, &delivery, now)) {
            Arrival::AlreadySettled => {
                let life = delivery.carried.life;
                let then = Then::AcknowledgeSettled { tag: delivery.tag, job: job.id, life };
                self.settler.settle(Settlement { fact: None, then });
            }
            Arrival::Duplicate => self.drop_duplicate(&job, &delivery, now),
            Arrival::Await { since, attempts } => {
                let returned_often = delivery.returned >= RETURNED_OFTEN;
                let held = self.hold(job, delivery, attempts, taken_at, now);
                self.await_again(held, since.min(now), returned_often);
            }
            Arrival::BeginAnew { life } => {
                let mut held = self.hold(job, delivery, 0, taken_at, now);
                held.life = life;
                self.begin_anew(held, None);
            }
            Arrival::MaybeEnded { life } => {
                let mut held = self.hold(job, delivery, 0, taken_at, now);
                held.life = life;
                self.bury(held, Reason::MaybeEnded, None, Some(now));
            }
            Arrival::Work { attempts, not_before } => {
                if let Some(flying) = self.flying.get_mut(&job.id) {
                    flying.tag = delivery.tag; // its request is under way: this is where its end is settled
                    return;
                }
                let innocent = attempts == 0 && delivery.returned >= RETURNED_OFTEN;
                let held = self.hold(job, delivery, attempts, taken_at, now);
                if innocent && !self.settings.ceiling.is_empty() {
                    return self.begin_anew(held, not_before);
                }
                self.admit(held, not_before, now);
            }
        }
    }

    /// What is known of a job's id: first what this lane holds itself, then what is remembered.
    fn known(&self, job: &SendJob, delivery: &Delivery) -> Known {
        let here = self.room.tag_of(&job.id).or_else(|| self.flying.get(&job.id).map(|f| f.tag));
        let here = here.or_else(|| self.awaiting.tag_of(&job.id));
        match here {
            // A second message with the same id while the first is alive in this session.
            Some(tag) if tag.session == self.session && tag != delivery.tag => Known::Accepted,
            // A request from before the session is still under way; this is its delivery come again.
            Some(_) => Known::Nothing,
            None => self.shared.memory.known(&job.id, stage_of(delivery), &self.settings.provider),
        }
    }

    fn hold(
        &mut self,
        job: SendJob,
        delivery: Delivery,
        attempts: u32,
        taken_at: UnixMs,
        now: UnixMs,
    ) -> Held {
        let route = self.route_of(&delivery);
        let expires_at = job.expires_at(route.ttl);
        let taken_at = if delivery.taken_at.is_some() { taken_at } else { job.created_at.min(now) };
        let arrived_at = self.clock.mono();
        let span = trace::process(&self.names, &self.settings.provider, &delivery, &job.id);
        let waits_since = delivery.carried.replayed_at.unwrap_or(taken_at);
        if delivery.carried.accepted_at.is_none() {
            self.metrics.queue_wait.observe(now.since(waits_since).as_secs_f64());
        }
        let was_ambiguous =
            self.shared.memory.with(|memory| memory.recent.was_ambiguous(&job.id, delivery.carried.life));
        let ambiguous = delivery.carried.ambiguous.max(u32::from(was_ambiguous));
        let was_tried_here = delivery.redelivered || was_set_aside(&delivery);
        Held {
            tag: delivery.tag,
            section: delivery.section,
            keys: self.shared.recipients.of(&job),
            job,
            body: delivery.body,
            route,
            hops: delivery.carried.hops,
            life: delivery.carried.life,
            replayed_at: delivery.carried.replayed_at,
            attempts,
            ambiguous,
            extra: delivery.carried.extra,
            accepted_at: delivery.carried.accepted_at,
            moves_on: None,
            refusals: Refusals::default(),
            probed: 0,
            // Tried before by an owner that is gone: what came of it may not be on the stream.
            unsure_since: (attempts > 0 && was_tried_here).then_some(taken_at),
            expires_at,
            taken_at,
            arrived_at,
            ready_at: arrived_at,
            place: self.arrivals,
            trace: delivery.trace,
            span,
        }
    }

    fn arriving(&self, job: &SendJob, delivery: &Delivery, now: UnixMs) -> Arriving {
        let awaits = self.awaits(&self.route_of(delivery), delivery.carried.extra).is_some();
        arriving(job, delivery, now, awaits)
    }

    /// The route a job came by; one that the config no longer knows is taken as the provider's own.
    fn route_of(&self, delivery: &Delivery) -> Arc<Route> {
        let named = delivery.carried.route.as_ref().and_then(|r| self.routes.get(r.as_str()));
        match named {
            Some(route) if route.providers.contains(&self.settings.provider) => route.clone(),
            Some(_) | None => self.own_route.clone(),
        }
    }

    /// A job that arrived: into the room, unless its code is of no use already.
    pub(crate) fn admit(&mut self, held: Held, not_before: Option<UnixMs>, now: UnixMs) {
        if held.expires_at <= now {
            return self.expire(held);
        }
        let (key, job) = (held.keys.purpose, &held.job);
        if self.shared.memory.with(|memory| memory.newest.superseded(key, &job.id, job.created_at)) {
            return self.end_without_request(held, FactKind::Superseded, Reason::Superseded);
        }
        let expires_at = held.expires_at;
        self.shared.memory.with(|memory| memory.newest.note(key, &job.id, job.created_at, expires_at, now));
        let Some(mut held) = self.spill(held, now) else { return };
        let due = not_before.filter(|at| *at > now).map(|at| self.clock.mono_of(at));
        held.ready_at = due.unwrap_or(held.ready_at);
        if let Some(replaced) = self.room.enter(held, due) {
            self.end_without_request(replaced, FactKind::Superseded, Reason::Superseded);
        }
    }
}

/// True if the lane itself moved the job to its `later` queue.
fn was_set_aside(delivery: &Delivery) -> bool {
    delivery.section == Section::Later || delivery.carried.not_before.is_some()
}

/// Which part of its job's life a delivery belongs to.
fn stage_of(delivery: &Delivery) -> Stage {
    Stage { life: delivery.carried.life, extra: delivery.carried.extra > 0 }
}

/// What a delivery says of itself, for [`arrive`]; `awaits`: its delivery is awaited once it is accepted.
fn arriving(job: &SendJob, delivery: &Delivery, now: UnixMs, awaits: bool) -> Arriving {
    let carried = &delivery.carried;
    // A body that does not say when it was made was given the time at which it was taken.
    let taken_at = delivery.taken_at.map_or(now, |at| at.min(now));
    let created_at = Some(job.created_at).filter(|at| *at != taken_at && *at <= now);
    // AMQP's own times have seconds: it may have been their end. What is of the future proves nothing.
    let by_the_second =
        |at: UnixMs| if at.0.is_multiple_of(1000) { at.plus(Duration::from_millis(999)) } else { at };
    let published_at = delivery.taken_at.filter(|at| *at <= now.plus(SKEW));
    let published_at = published_at.map(|at| by_the_second(at).min(now));
    Arriving {
        life: carried.life,
        redelivered: delivery.redelivered,
        moved: carried.hops > 0 || carried.attempts > 0 || was_set_aside(delivery),
        attempts: carried.attempts,
        not_before: carried.not_before,
        accepted_at: carried.accepted_at,
        awaits,
        published_at,
        created_at,
    }
}
