//! What all lanes of a process know together: the jobs of the last minutes, and the requests of other owners.
//!
//! The queue's reader feeds it from the events stream as long as the process lives, so a lane that takes over
//! knows at once what its former owner knew. What this process does itself is remembered as it happens.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use otpd_core::checkpoint::LONG;
use otpd_core::hand_over::{READ_BEYOND, ReadAt, TakenOver};
use otpd_core::memory::Author;
use otpd_core::{
    Ceiling, Checkpoint, Fact, JobId, Known, Mono, ProviderName, Rate, Stage, UnixMs, Verdict, recent,
};
use otpd_queue::{Listener, News, When};
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::forgotten::Forgotten;
use crate::held::Held;

/// The memory of one process.
#[derive(Debug)]
pub struct Memory {
    clock: Clock,
    inner: Mutex<Inner>,
    /// Who is told of which jobs a delivery was heard.
    lanes: Mutex<Vec<mpsc::UnboundedSender<JobId>>>,
}

#[derive(Debug)]
struct Inner {
    memory: otpd_core::Memory,
    windows: HashMap<ProviderName, Window>,
    forgotten: Forgotten,
}

/// How far back the requests to an account must be known.
#[derive(Debug, Default)]
struct Window {
    /// The longest window of its ceiling; zero while this process has no lane of it.
    longest: Duration,
    /// When the last checkpoint was made that accounts for all of that window: what is older need not be read.
    checkpoint_at: Option<UnixMs>,
}

impl Memory {
    /// An empty memory, which dates what it hears by `clock`; each recipient may get messages up to `limits`.
    #[must_use]
    pub fn new(clock: Clock, limits: Vec<Rate>) -> Self {
        let memory = otpd_core::Memory::new(limits);
        let inner = Inner { memory, windows: HashMap::new(), forgotten: Forgotten::default() };
        Self { clock, inner: Mutex::new(inner), lanes: Mutex::default() }
    }

    /// How many recipients were forgotten so far although a limit still counted a message to them.
    #[must_use]
    pub fn forgotten_recipients(&self) -> u64 {
        self.inner().memory.recipients.forgotten_early()
    }

    /// Warns of recipients that were forgotten too early, once a minute at most.
    pub(crate) fn warn_of_forgotten(&self, now: Mono) {
        let mut inner = self.inner();
        let (all, most) = (inner.memory.recipients.forgotten_early(), inner.memory.recipients.most());
        if let Some(more) = inner.forgotten.untold(all, now) {
            tracing::warn!(
                recipients = more,
                most,
                "recipients were forgotten although limits.recipient still counts a message to them: more numbers than this worker can remember got one lately, so some may get more than their limit; make the longest limit shorter"
            );
        }
    }

    /// Does something with what is remembered.
    pub(crate) fn with<T>(&self, does: impl FnOnce(&mut otpd_core::Memory) -> T) -> T {
        does(&mut self.inner().memory)
    }

    /// The lane of `provider` goes by this ceiling.
    pub(crate) fn set_ceiling(&self, provider: &ProviderName, rates: &[Rate]) {
        let mut inner = self.inner();
        inner.memory.follow(provider, rates);
        let window = inner.windows.entry(provider.clone()).or_default();
        let longest = rates.iter().map(|rate| rate.per).max().unwrap_or_default();
        if longest > window.longest {
            window.checkpoint_at = None;
        }
        window.longest = longest;
    }

    /// What is known of a stage of a job's life, as the lane of `provider` sees it.
    pub(crate) fn known(&self, job: &JobId, stage: Stage, provider: &ProviderName) -> Known {
        self.with(|memory| memory.recent.known(job, stage, provider))
    }

    /// What is known of the delivery of a job that the lane of `provider` holds.
    pub(crate) fn verdict(&self, held: &Held, provider: &ProviderName) -> Option<Verdict> {
        self.with(|memory| memory.recent.verdict(&held.job.id, held.life, held.attempts, provider))
    }

    /// The jobs of which a delivery, or that there will be none, is heard from now on. It is remembered before it is
    /// told.
    pub(crate) fn deliveries(&self) -> mpsc::UnboundedReceiver<JobId> {
        let (told, heard) = mpsc::unbounded_channel();
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).push(told);
        heard
    }

    fn tell_lanes(&self, jobs: &[JobId]) {
        if jobs.is_empty() {
            return;
        }
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.retain(|lane| jobs.iter().all(|job| lane.send(job.clone()).is_ok()));
    }

    /// True unless a newer job for the same recipient and purpose is known, in whichever lane.
    pub(crate) fn is_newest(&self, held: &Held) -> bool {
        self.with(|memory| memory.newest.is_newest(held.keys.purpose, &held.job.id))
    }

    /// Remembers what this process did.
    pub(crate) fn remember(&self, fact: &Fact, now: UnixMs) {
        self.with(|memory| memory.did(fact, now));
    }

    /// Counts the requests of other owners of a lane in its ceiling.
    pub(crate) fn take_over(&self, provider: &ProviderName, ceiling: &mut Ceiling, now: Mono) -> TakenOver {
        self.with(|memory| memory.hand_over(provider).map(|requests| requests.apply(ceiling, now)))
            .unwrap_or_default()
    }

    /// Counts what was read since then: of times before, for a window that has become longer.
    pub(crate) fn count_late(&self, provider: &ProviderName, ceiling: &mut Ceiling, now: Mono) {
        self.with(|memory| {
            if let Some(requests) = memory.hand_over(provider).filter(|requests| requests.has_untold()) {
                requests.apply(ceiling, now);
            }
        });
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Memory {
    fn hear(&self, news: Vec<News>, when: When) {
        let (mono, wall) = (self.clock.mono(), self.clock.wall());
        let read_at = match when {
            When::Live => ReadAt::live(mono, wall),
            When::Past => ReadAt::past(mono, wall),
        };
        let mut inner = self.inner();
        let Inner { memory, windows, .. } = &mut *inner;
        let mut delivered = Vec::new();
        for news in &news {
            match news {
                News::Fact(fact) => {
                    memory.fold(fact, read_at, Author::Another);
                    delivered.extend(Verdict::of(fact).map(|_| fact.job.clone()));
                }
                News::Opened { provider, claim, checkpoint } => {
                    let checkpoint: Option<Checkpoint> =
                        checkpoint.as_deref().and_then(|json| serde_json::from_str(json).ok());
                    let window = windows.entry(provider.clone()).or_default();
                    let whole = checkpoint.as_ref().filter(|it| it.window >= window.longest);
                    window.checkpoint_at = window.checkpoint_at.max(whole.map(|it| it.at));
                    memory.opened(provider, claim, checkpoint.as_ref(), read_at);
                }
            }
        }
        drop(inner);
        self.tell_lanes(&delivered);
    }

    fn horizon(&self) -> Duration {
        let inner = self.inner();
        let unknown = inner.windows.values().filter(|window| window.checkpoint_at.is_none());
        let windows = unknown.map(|window| window.longest + READ_BEYOND).max().unwrap_or_default();
        windows.max(recent::WINDOW).max(inner.memory.recipients.longest())
    }

    /// A checkpoint tells only of windows longer than a minute: the requests of shorter ones are read one by one,
    /// and so are all that came after it.
    fn knows_window(&self, provider: &ProviderName, known: Duration) -> bool {
        self.inner().windows.get(provider).is_none_or(|window| {
            let all = window.longest;
            let since = window.checkpoint_at.map(|at| self.clock.wall().since(at).max(LONG));
            let needed = since.map_or(all, |since| since.min(all));
            needed.is_zero() || known >= needed + READ_BEYOND
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: UnixMs = UnixMs(1_800_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn minutes(n: u64) -> Duration {
        Duration::from_secs(60 * n)
    }

    fn provider() -> ProviderName {
        ProviderName::parse("p").unwrap()
    }

    /// A claim, or its renewal with a checkpoint `ago` that accounts for `window`.
    fn opened(ago: Duration, window: Option<Duration>) -> News {
        let at = WALL.minus(ago).0;
        let checkpoint = window.map(|it| format!(r#"{{"at":{at},"window_ms":{}}}"#, it.as_millis()).into());
        News::Opened { provider: provider(), claim: "c".into(), checkpoint }
    }

    fn followed(ceiling: &str) -> Memory {
        let memory = Memory::new(Clock::held(WALL), Vec::new());
        memory.set_ceiling(&provider(), &[ceiling.parse().unwrap()]);
        memory
    }

    /// Only a checkpoint that accounts for the whole window stands for what is older than it, and only once
    /// everything after it has been read: met in the middle of a piece of the past it says nothing yet.
    #[tokio::test(start_paused = true)]
    async fn a_checkpoint_is_knowledge_only_if_it_is_whole_and_all_after_it_was_read() {
        let beyond = READ_BEYOND;
        for (name, news, needed) in [
            ("no claim", vec![], HOUR + beyond),
            ("a claim without a checkpoint", vec![opened(minutes(2), None)], HOUR + beyond),
            ("of no window", vec![opened(minutes(2), Some(Duration::ZERO))], HOUR + beyond),
            ("of a shorter window", vec![opened(minutes(2), Some(minutes(59)))], HOUR + beyond),
            ("whole", vec![opened(minutes(2), Some(HOUR))], minutes(2) + beyond),
            ("whole, of a longer window", vec![opened(minutes(7), Some(2 * HOUR))], minutes(7) + beyond),
            ("the last minute is read one by one", vec![opened(minutes(0), Some(HOUR))], LONG + beyond),
            (
                "the newest counts, whichever is read first",
                vec![opened(minutes(2), Some(HOUR)), opened(minutes(9), Some(HOUR))],
                minutes(2) + beyond,
            ),
            (
                "a newer one that is not whole takes nothing away",
                vec![opened(minutes(9), Some(HOUR)), opened(minutes(2), Some(minutes(1)))],
                minutes(9) + beyond,
            ),
        ] {
            let memory = followed("100/h");
            memory.hear(news, When::Past);
            for known in [Duration::ZERO, needed.saturating_sub(Duration::from_millis(1))] {
                assert!(!memory.knows_window(&provider(), known), "{name}: {known:?}");
            }
            assert!(memory.knows_window(&provider(), needed), "{name}");
            let reads_on = memory.horizon() > recent::WINDOW;
            assert_eq!(reads_on, needed > HOUR, "{name}: {:?}", memory.horizon());
        }
    }

    /// What accounted for the window before does not account for a longer one.
    #[tokio::test(start_paused = true)]
    async fn a_longer_window_is_not_known_by_the_checkpoint_of_a_shorter_one() {
        let memory = followed("100/h");
        memory.hear(vec![opened(minutes(2), Some(HOUR))], When::Live);
        assert!(memory.knows_window(&provider(), minutes(3)));
        memory.set_ceiling(&provider(), &["100/2h".parse().unwrap()]);
        assert!(!memory.knows_window(&provider(), minutes(3)));
        assert_eq!(memory.horizon(), 2 * HOUR + READ_BEYOND);
        memory.set_ceiling(&provider(), &["100/s".parse().unwrap()]);
        assert!(memory.knows_window(&provider(), minutes(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn recipients_that_are_forgotten_too_early_are_counted() {
        let memory = Memory::new(Clock::held(WALL), vec!["1000/d".parse().unwrap()]);
        let most = memory.with(|memory| memory.recipients.most());
        let now = memory.clock.mono();
        for n in 1..=most as u64 + 7 {
            assert_eq!(memory.forgotten_recipients(), n.saturating_sub(most as u64 + 1));
            memory.with(|memory| memory.recipients.sent(otpd_core::recipient::RecipientKey(n), now));
        }
        assert_eq!(memory.forgotten_recipients(), 7);
    }
}
