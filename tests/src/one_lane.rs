//! The scene that most cases need: one lane over one account, whose mock counts and refuses nothing.
//!
//! What must not happen is told by conditions: [`Scene::until_judged`] returns when the lane's owner has had its
//! chance to send whatever was published before.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use otpd_core::FactKind;
use otpd_queue::TraceContext;
use otpd_sim::mock::{AccountStats, Kind};
use otpd_sim::{Control, Job, MockConfig};

use crate::marks::mark;
use crate::rabbit::{LaneInHand, PATIENCE, job, now, route};
use crate::{Broker, Scene, WorkerProcess, eventually};

/// The lane's name, which is its provider's and a route's too.
pub const LANE: &str = "verihubs";
/// The account at the mock.
pub const ACCOUNT: &str = "app";

/// Sets up a scene of one lane; `keys` are lines of its `[providers]` section, `sections` the other sections.
///
/// # Panics
/// Where a part cannot be had.
pub async fn one_lane(broker: &Broker, keys: &str, sections: &str, latency: &str) -> Scene {
    let config = format!(
        "{sections}\n[providers.{LANE}]\nkind = \"verihubs\"\nbase_url = \"{{mock}}\"\n{keys}\napp_id = \"{ACCOUNT}\"\n\
         api_key = \"key\"\n"
    );
    let control = Control {
        ceilings: Some(Vec::new()),
        latency: Some(latency.parse().expect("a test's latency is one")),
        ..Control::of(Kind::Verihubs)
    };
    let mock = MockConfig { setup: vec![control], ..MockConfig::default() };
    Scene::set(broker, &broker.url(), &config, &[(LANE, true, &[LANE][..])], mock).await
}

/// The worker that owns `lane`: the one that holds its backlog.
///
/// # Panics
/// Where none does within a minute.
pub async fn owner(workers: &[WorkerProcess], lane: &str) -> usize {
    eventually("a worker to own the lane", PATIENCE, || async {
        for (i, worker) in workers.iter().enumerate() {
            if worker.waiting(lane).await > 0 {
                return Some(i);
            }
        }
        None
    })
    .await
}

impl Scene {
    /// What the mock counted of the account; nothing before its first request.
    #[must_use]
    pub fn account(&self) -> Option<AccountStats> {
        self.mock.stats().account(Kind::Verihubs, ACCOUNT).cloned()
    }

    /// How many requests arrived at the account.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.account().map_or(0, |account| account.attempts)
    }

    /// How many requests were announced, over all lanes.
    #[must_use]
    pub fn announced(&self) -> usize {
        self.count(FactKind::Sending)
    }

    /// Waits until so many requests arrived at the account.
    ///
    /// # Panics
    /// Where they do not within a minute.
    pub async fn until_requests(&self, least: u64) {
        eventually("so many requests", PATIENCE, || async { (self.requests() >= least).then_some(()) }).await;
    }

    /// Publishes copies of jobs that were published before: the ledger expects nothing more of them.
    ///
    /// # Panics
    /// Where one is not confirmed.
    pub async fn publish_again(&self, to: &str, jobs: impl IntoIterator<Item = Job>) {
        let (to, trace) = (route(to), TraceContext::default());
        let sends = jobs.into_iter().map(|copy| {
            let (to, trace) = (&to, &trace);
            async move { self.queue.enqueue(to, &job(&copy.id), Bytes::from(copy.body), trace).await }
        });
        for sent in futures::future::join_all(sends).await {
            sent.expect("confirmed");
        }
    }

    /// Waits until the owner of `lane` could have started whatever was published before: two jobs whose code has
    /// expired come behind everything, what comes back included, and the second is judged a turn later than the
    /// first. Every request that was started by then is announced, if there is a ceiling, and read here.
    ///
    /// # Panics
    /// Where nobody judges them within a minute.
    pub async fn until_judged(&mut self, lane: &str) {
        for _ in 0..2 {
            let id = mark().to_string().replacen("marker", "stale", 1);
            let (made, over) = (now().minus(Duration::from_secs(20)), now().minus(Duration::from_secs(10)));
            let body = format!(
                r#"{{"id":"{id}","to":"+99900000000","code":"482910","purpose":"{id}","created_at":"{made}","expires_at":"{over}"}}"#
            );
            self.publish_bodies(lane, vec![(id.clone(), Bytes::from(body))]).await;
            let id = job(&id);
            self.until("an expired job to be told", |s| s.has_ended(&id)).await;
        }
    }

    /// Takes the jobs that are left in `lane` from the broker, and tells the ledger that they are queued still.
    /// No worker may be there any more.
    ///
    /// # Panics
    /// Where they cannot be had, or one of them comes twice.
    pub async fn find_queued(&mut self, lane: &str, how_many: usize) {
        let mut in_hand =
            LaneInHand::open(&self.queue, lane, u16::try_from(how_many + 1).unwrap_or(u16::MAX));
        let mut found = HashSet::new();
        while found.len() < how_many {
            let delivery = in_hand.delivery().await;
            let id = delivery.message_id.expect("jobs have ids");
            self.is_queued(&id);
            found.insert(id);
        }
        in_hand.stop.close().await;
    }
}
