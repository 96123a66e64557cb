//! A lane on a bench: its queue is two channels, its provider a function, its clock held.

use std::collections::HashMap;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use otpd_core::{
    Answered, Fact, FactKind, MessageId, OnAmbiguous, Outcome, ProviderName, Rate, Reason, RetryPolicy,
    Route, RouteTable, Scope, SendJob, Stamp, UnixMs,
};
use otpd_queue::seam::{Order, Proof, StopOrder};
use otpd_queue::{
    Burial, Carried, Checkpoint, Delivery, Inbound, LaneQueue, LaneStop, Listener, Move, News, Prefetch,
    QueueNames, Section, Settlement, Settler, Tag, Then, TraceContext, When,
};
use otpd_worker::{
    Board, Clock, Endpoint, Lane, LaneSettings, LaneState, Memory, Metrics, Orders, Shared, Steering,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const NOW: UnixMs = UnixMs(1_800_000_000_000);

type Answer = dyn Fn(&SendJob, usize) -> Outcome + Send + Sync;

/// A provider that answers by a function of the job and of how often it came, after `latency`.
pub struct Script {
    pub clock: Clock,
    pub latency: Duration,
    pub look_up: Duration,
    /// How long a request waits for a connection, by its job's id and how often that came.
    pub waits: fn(&str, usize) -> Duration,
    pub answer: Box<Answer>,
    pub asked: Mutex<HashMap<String, usize>>,
    pub sent: Mutex<Vec<(String, otpd_core::Mono)>>,
}

impl Endpoint for Script {
    async fn send(&self, job: &SendJob, _expires_at: UnixMs, stamp: &Stamp) -> Answered {
        let asked = {
            let mut asked = self.asked.lock().unwrap();
            *asked.entry(job.id.to_string()).and_modify(|asked| *asked += 1).or_insert(1)
        };
        let waits = (self.waits)(job.id.as_str(), asked);
        if !waits.is_zero() {
            tokio::time::sleep(waits).await;
        }
        let now = self.clock.mono();
        if !stamp.try_write(now) {
            let reason = Reason::ConnectFailed;
            let outcome = Outcome::Transient { reason, wait: None, possibly_sent: false };
            return Answered { outcome, http_status: None, code: None, detail: None };
        }
        let times = {
            let mut sent = self.sent.lock().unwrap();
            sent.push((job.id.to_string(), now));
            sent.iter().filter(|(id, _)| id == job.id.as_str()).count()
        };
        tokio::time::sleep(self.latency).await;
        Answered { outcome: (self.answer)(job, times), http_status: Some(200), code: None, detail: None }
    }

    fn can_find(&self, job: &SendJob) -> bool {
        job.purpose.as_str() == "findable" || job.purpose.as_str() == "not-findable"
    }

    async fn find(&self, job: &SendJob, _since: UnixMs) -> Option<MessageId> {
        tokio::time::sleep(self.look_up).await;
        MessageId::new("found").filter(|_| job.purpose.as_str() == "findable")
    }
}

/// What became of a delivery.
#[derive(Debug)]
pub enum Left {
    Acknowledged,
    Moved(Box<Move>),
    Buried(Box<Burial>),
}

pub struct Bench {
    pub script: Arc<Script>,
    pub steering: Steering<Script>,
    settings: LaneSettings,
    shared: Shared,
    pub metrics: Metrics,
    pub facts: Vec<Fact>,
    pub announced: Vec<Fact>,
    pub left: HashMap<Tag, Left>,
    /// What has left since somebody looked, in order.
    pub just_left: Vec<Tag>,
    pub flushed: usize,
    pub closed: bool,
    inbox: mpsc::UnboundedSender<Inbound>,
    orders: mpsc::UnboundedReceiver<Order>,
    stops: mpsc::UnboundedReceiver<StopOrder>,
    pub state: watch::Receiver<LaneState>,
    pub drain: CancellationToken,
    pub lane: JoinHandle<usize>,
    session: u32,
    next: u64,
    /// Announcements are read back in time.
    pub certain: bool,
    /// How often the next deliveries have come back before.
    pub returned: u32,
    /// By how many milliseconds the wall clock was set forward (negative: back).
    pub wall_set_by: &'static AtomicI64,
}

pub struct Setup {
    pub ceiling: &'static str,
    pub max_in_flight: usize,
    pub latency: Duration,
    pub look_up: Duration,
    pub waits: fn(&str, usize) -> Duration,
    pub routes: Vec<Route>,
    pub keep_code: bool,
    pub on_ambiguous: OnAmbiguous,
    pub recipients: Vec<Rate>,
    pub prefetch: Prefetch,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            ceiling: "",
            max_in_flight: 100,
            latency: Duration::from_millis(20),
            look_up: Duration::ZERO,
            waits: |_, _| Duration::ZERO,
            routes: Vec::new(),
            keep_code: true,
            on_ambiguous: OnAmbiguous::Resend,
            recipients: Vec::new(),
            prefetch: Prefetch { main: 10_000, bulk: 500, later: Some(40_000) },
        }
    }
}

pub fn provider(name: &str) -> ProviderName {
    ProviderName::parse(name).unwrap()
}

pub fn accepted() -> Outcome {
    Outcome::Accepted { message_id: MessageId::new("m-1"), note: None }
}

pub fn transient() -> Outcome {
    Outcome::Transient { reason: Reason::InternalError, wait: None, possibly_sent: false }
}

pub fn permanent(reason: Reason) -> Outcome {
    Outcome::Permanent { reason, scope: Scope::Message }
}

impl Bench {
    pub fn start(setup: Setup, answer: impl Fn(&SendJob, usize) -> Outcome + Send + Sync + 'static) -> Self {
        let wall_set_by: &'static AtomicI64 = Box::leak(Box::default());
        let clock = Clock::held_and_set(NOW, wall_set_by);
        let (inbox, inbox_rx) = mpsc::unbounded_channel();
        let (orders_tx, orders) = mpsc::unbounded_channel();
        let (stops_tx, stops) = mpsc::unbounded_channel();
        let queue = LaneQueue {
            alive: otpd_queue::Alive::default(),
            inbox: inbox_rx,
            settler: Settler::new(orders_tx, Proof::default()),
            stop: LaneStop::new(stops_tx),
            names: QueueNames { system: "rabbitmq", prefix: "otp.".into() },
            checkpoint: Checkpoint::default(),
            prefetch: setup.prefetch,
        };
        let settings = LaneSettings {
            provider: provider("p"),
            ceiling: setup.ceiling.split(',').filter(|r| !r.is_empty()).map(|r| r.parse().unwrap()).collect(),
            burst: None,
            max_in_flight: setup.max_in_flight,
            on_ambiguous: setup.on_ambiguous,
        };
        let shared = Shared {
            routes: Arc::new(RouteTable::new([provider("p"), provider("q")], setup.routes)),
            retry: RetryPolicy::default(),
            keep_code: setup.keep_code,
            memory: Arc::new(Memory::new(clock, setup.recipients)),
            recipients: otpd_worker::RecipientKeys::private(),
            board: Arc::new(Board::new([provider("p"), provider("q")])),
        };
        let script = Arc::new(Script {
            clock,
            latency: setup.latency,
            look_up: setup.look_up,
            waits: setup.waits,
            answer: Box::new(answer),
            asked: Mutex::default(),
            sent: Mutex::default(),
        });
        let (state_tx, state) = watch::channel(LaneState::Opening);
        let metrics = Metrics::new();
        let counted = metrics.lane(&settings.provider);
        let mut steering = Steering::new(&shared);
        let told = steering.lane(provider("p"));
        let lane =
            Lane::new(settings.clone(), shared.clone(), clock, script.clone(), counted, queue, state_tx);
        let lane = lane.steered(told);
        let drain = CancellationToken::new();
        let lane = tokio::spawn(lane.run(drain.clone(), Duration::from_secs(10)));
        let mut bench = Self {
            script,
            steering,
            settings,
            shared,
            metrics,
            facts: Vec::new(),
            announced: Vec::new(),
            left: HashMap::new(),
            just_left: Vec::new(),
            flushed: 0,
            closed: false,
            inbox,
            orders,
            stops,
            state,
            drain,
            lane,
            session: 0,
            next: 0,
            returned: 0,
            certain: true,
            wall_set_by,
        };
        bench.open(Vec::new());
        bench
    }

    /// Orders to go on as before.
    pub fn orders(&self) -> Orders<Script> {
        Orders {
            settings: self.settings.clone(),
            routes: self.shared.routes.clone(),
            retry: self.shared.retry,
            keep_code: self.shared.keep_code,
            grace: Duration::from_secs(10),
            endpoint: self.script.clone(),
        }
    }

    /// A provider that answers otherwise from now on, in another way to it.
    pub fn another(
        &self,
        answer: impl Fn(&SendJob, usize) -> Outcome + Send + Sync + 'static,
    ) -> Arc<Script> {
        let Script { clock, latency, look_up, waits, .. } = *self.script;
        let (answer, asked, sent) = (Box::new(answer), Mutex::default(), Mutex::default());
        Arc::new(Script { clock, latency, look_up, waits, answer, asked, sent })
    }

    pub fn open(&mut self, history: Vec<Fact>) {
        self.session += 1;
        self.next = 0;
        self.hear(Inbound::Opened { session: self.session });
        self.remember(history);
    }

    /// The process reads these facts of others on the stream.
    pub fn remember(&self, facts: Vec<Fact>) {
        self.shared.memory.hear(facts.into_iter().map(News::Fact).collect(), When::Past);
    }

    pub fn lose(&mut self) {
        self.hear(Inbound::Lost { session: self.session });
    }

    pub fn hear(&self, inbound: Inbound) {
        self.inbox.send(inbound).unwrap();
    }

    /// Delivers a body; gives its tag.
    pub fn deliver(&mut self, body: &str) -> Tag {
        self.deliver_as(body, false, Carried::default())
    }

    pub fn deliver_as(&mut self, body: &str, redelivered: bool, carried: Carried) -> Tag {
        self.deliver_from(Section::Main, body, redelivered, carried)
    }

    pub fn deliver_from(&mut self, section: Section, body: &str, redelivered: bool, carried: Carried) -> Tag {
        self.next += 1;
        let tag = Tag { session: self.session, number: self.next };
        self.hear(Inbound::Delivery(Delivery {
            tag,
            section,
            body: Bytes::copy_from_slice(body.as_bytes()),
            carried,
            message_id: None,
            taken_at: None,
            redelivered,
            returned: self.returned,
            trace: TraceContext::default(),
        }));
        tag
    }

    /// Lets (held) time pass, and reads what the lane handed in.
    pub async fn pass(&mut self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        loop {
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(Order::Settle(settlement, mut ticket)) => {
                        if let Some(announced) = ticket.take_awaited().filter(|_| self.certain) {
                            let _ = announced.send(());
                        }
                        self.settle(settlement);
                    }
                    Some(Order::HandBack(_, _)) => {}
                    Some(Order::Flush(done)) => {
                        self.flushed += 1;
                        let _ = done.send(());
                    }
                    None => return,
                },
                Some(stop) = self.stops.recv() => match stop {
                    StopOrder::Stop => self.hear(Inbound::Stopped),
                    StopOrder::Close(done) => {
                        self.closed = true;
                        let _ = done.send(());
                    }
                },
                () = tokio::time::sleep_until(end) => return,
            }
        }
    }

    fn settle(&mut self, settlement: Settlement) {
        // Announcements are looked at by the tests that are about them.
        let (announced, fact): (Vec<_>, Vec<_>) =
            settlement.fact.into_iter().partition(|f| f.kind == FactKind::Sending);
        self.announced.extend(announced);
        self.facts.extend(fact);
        let (tag, left) = match settlement.then {
            Then::Keep => return,
            Then::Acknowledge(tag) | Then::AcknowledgeSettled { tag, .. } => (tag, Left::Acknowledged),
            Then::Move(tag, moved) => (tag, Left::Moved(moved)),
            Then::Bury(tag, burial) => (tag, Left::Buried(burial)),
        };
        self.just_left.push(tag);
        assert!(self.left.insert(tag, left).is_none(), "{tag:?} settled twice");
    }

    pub fn sent(&self) -> Vec<String> {
        self.script.sent.lock().unwrap().iter().map(|(id, _)| id.clone()).collect()
    }

    pub fn sent_at(&self) -> Vec<otpd_core::Mono> {
        self.script.sent.lock().unwrap().iter().map(|(_, at)| *at).collect()
    }

    /// When each of these jobs was sent, for the first time.
    pub fn sent_when(&self, which: impl Fn(&str) -> bool) -> Vec<(String, otpd_core::Mono)> {
        let mut seen = std::collections::HashSet::new();
        let sent = self.script.sent.lock().unwrap();
        sent.iter().filter(|(id, _)| which(id) && seen.insert(id.clone())).cloned().collect()
    }

    pub fn count(&self, kind: FactKind) -> usize {
        self.facts.iter().filter(|f| f.kind == kind).count()
    }

    pub fn kinds(&self) -> Vec<FactKind> {
        self.facts.iter().map(|f| f.kind).collect()
    }
}

/// A job's body; `more` is further fields, beginning with a comma.
pub fn body(id: &str, to: &str, more: &str) -> String {
    format!(r#"{{"id":"{id}","to":"{to}","code":"482910"{more}}}"#)
}
