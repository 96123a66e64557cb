//! What only a file can do, or suffer: damage, strangers, a full disk, age. What both backends
//! promise is tested by the conformance suite, and death by `embedded_crash`.

mod lives;

use std::path::Path;
use std::time::{Duration, Instant};

use otpd_core::{FactKind, Reason};

use super::*;
use crate::plan::{DELIVERY_LIMIT, LanePlan};
use crate::seam::{Carried, Delivery, Inbound, Move, Settlement, Tag, Then};

/// A folder of its own for a test, removed with all that is in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("otpd-queue-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("queue.db")
    }

    fn open(&self) -> Embedded {
        Embedded::open(config(&self.file())).unwrap()
    }

    fn sql(&self, sql: &str) {
        Connection::open(self.file()).unwrap().execute_batch(sql).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn config(path: &Path) -> EmbeddedConfig {
    EmbeddedConfig {
        path: path.to_owned(),
        plan: plan(&[("alpha", &["login"]), ("beta", &["alerts"])]),
        source: "otpd/test".into(),
        durability: Durability::ProcessDeath,
    }
}

fn plan(lanes: &[(&str, &[&str])]) -> Plan {
    let lane = |(provider, routes): &(&str, &[&str])| {
        LanePlan::new(name(provider), routes.iter().map(|r| RouteName::parse(r).unwrap()).collect())
    };
    Plan {
        prefix: "otp.".into(),
        lanes: lanes.iter().map(lane).collect(),
        dead_retention: Duration::from_secs(3_600),
        events_retention: Duration::from_secs(86_400),
        ..Plan::default()
    }
}

fn name(provider: &str) -> ProviderName {
    ProviderName::parse(provider).unwrap()
}

fn job(id: impl std::fmt::Display) -> JobId {
    JobId::parse(&id.to_string()).unwrap()
}

fn fact(kind: FactKind, id: &str) -> Fact {
    Fact::new(kind, job(id), name("alpha"), now())
}

async fn put(queue: &Embedded, route: &str, id: &str, body: &[u8]) -> Result<(), QueueError> {
    let route = RouteName::parse(route).unwrap();
    queue.enqueue(&route, &job(id), Bytes::copy_from_slice(body), &TraceContext::default()).await
}

fn lane(queue: &Embedded, provider: &str) -> LaneQueue {
    queue.open_lane(LaneSpec { provider: name(provider), prefetch: 100 }).unwrap()
}

async fn next(lane: &mut LaneQueue) -> Inbound {
    tokio::time::timeout(Duration::from_secs(20), lane.inbox.recv()).await.unwrap().unwrap()
}

/// The lane's session has begun.
async fn opened(lane: &mut LaneQueue) {
    while !matches!(next(lane).await, Inbound::Opened { .. }) {}
}

/// What the first lane of another process would be told.
fn history(folder: &Folder) -> Vec<Fact> {
    super::facts::history(&file::reader(&folder.file()).unwrap(), now()).unwrap()
}

async fn delivery(lane: &mut LaneQueue) -> Delivery {
    loop {
        if let Inbound::Delivery(delivery) = next(lane).await {
            return delivery;
        }
    }
}

fn why(opened: Result<Embedded, QueueError>) -> String {
    opened.unwrap_err().to_string()
}

#[tokio::test]
async fn a_file_that_is_no_queue_of_ours_is_refused_in_words() {
    let folder = Folder::new();
    let at = |file: &str| Embedded::open(config(&folder.0.join(file)));

    let away = why(at("not/there.db"));
    assert!(away.contains("not/there.db: cannot be made"), "{away}");
    assert!(why(at("")).contains("queue file"), "a folder");

    std::fs::write(folder.0.join("text"), "certainly not a database, however long it may be").unwrap();
    assert!(why(at("text")).contains("is not a SQLite database"));

    Connection::open(folder.0.join("other")).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
    assert!(why(at("other")).contains("not a queue of otpd"));

    folder.open().close().await;
    folder.sql("PRAGMA user_version = 7");
    let newer = why(at("queue.db"));
    assert!(newer.contains("another version of otpd (its schema is 7, this otpd knows 3)"), "{newer}");
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let queue = folder.open();
    put(&queue, "login", "a", b"{}").await.unwrap();
    for file in ["queue.db", "queue.db-wal", "queue.db-shm"] {
        let mode = std::fs::metadata(folder.0.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn one_worker_a_file() {
    let folder = Folder::new();
    let (first, second) = (folder.open(), folder.open());
    let held = lane(&first, "alpha");
    let spec = || LaneSpec { provider: name("beta"), prefetch: 1 };
    assert!(matches!(second.open_lane(spec()), Err(QueueError::Owned { .. })));
    let again = first.open_lane(LaneSpec { provider: name("alpha"), prefetch: 1 }).unwrap_err().to_string();
    assert!(again.contains("lane of alpha is open already"), "{again}");

    // Sending and looking need no ownership.
    put(&second, "login", "a", b"{}").await.unwrap();
    assert_eq!(second.dead_letters(&DeadFilter::default(), now(), 9).await.unwrap().len(), 0);

    held.stop.close().await;
    let reopened = lane(&first, "alpha");
    reopened.stop.close().await;
    first.close().await;
    assert!(!first.is_connected());
    let taken = second.open_lane(spec()).unwrap();
    taken.stop.close().await;
    let closed = put(&first, "login", "b", b"{}").await.unwrap_err().to_string();
    assert!(closed.contains("closed by this process"), "{closed}");
}

#[tokio::test]
async fn a_job_returned_too_often_is_buried_like_the_broker_does() {
    let folder = Folder::new();
    let queue = folder.open();
    put(&queue, "login", "poison", b"body").await.unwrap();
    for returned in 0..=DELIVERY_LIMIT {
        let mut lane = lane(&queue, "alpha");
        assert_eq!(delivery(&mut lane).await.redelivered, returned > 0);
        lane.stop.close().await;
    }
    let letters = queue.dead_letters(&DeadFilter::default(), now(), 10).await.unwrap();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((letter.job.as_str(), letter.reason), ("poison", Some(Reason::DeliveryLimit)));
    assert_eq!((letter.provider.clone(), &letter.body[..]), (Some(name("alpha")), &b"body"[..]));
    assert_eq!(letter.route, RouteName::parse("login").ok());

    let mut lane = lane(&queue, "alpha");
    opened(&mut lane).await;
    let told: Vec<_> = history(&folder).into_iter().map(|f| (f.kind, f.reason)).collect();
    assert_eq!(told, [(FactKind::Dead, Some(Reason::DeliveryLimit))]);
    assert_eq!(queue.depths().await.unwrap(), [(name("alpha"), 0), (name("beta"), 0)]);
}

#[tokio::test]
async fn the_first_job_of_a_new_file_needs_no_preparation() {
    let folder = Folder::new();
    let queue = folder.open();
    assert_eq!(queue.check_topology().await.unwrap().len(), 6);
    put(&queue, "alerts", "a", b"{}").await.unwrap();
    assert_eq!(queue.check_topology().await.unwrap(), []);
    let unknown = put(&queue, "nowhere", "b", b"{}").await;
    assert!(matches!(unknown, Err(QueueError::Unroutable { key, .. }) if key == "nowhere"));
}

#[tokio::test]
async fn the_file_follows_its_owners_config_and_keeps_every_job() {
    let folder = Folder::new();
    let before = folder.open();
    put(&before, "alerts", "old", b"{}").await.unwrap();
    before.close().await;

    let changed = EmbeddedConfig { plan: plan(&[("alpha", &["login", "alerts"])]), ..config(&folder.file()) };
    let after = Embedded::open(changed).unwrap();
    let told: Vec<String> = after.check_topology().await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(told, ["route alerts differs: leads to beta, planned is alpha"]);

    let mut alpha = lane(&after, "alpha");
    opened(&mut alpha).await;
    assert!(history(&folder).is_empty());
    assert_eq!(after.check_topology().await.unwrap(), []);
    put(&after, "alerts", "new", b"{}").await.unwrap();
    assert_eq!(delivery(&mut alpha).await.message_id, Some(job("new")));
    assert_eq!(after.depths().await.unwrap(), [(name("alpha"), 0), (name("beta"), 1)]);
}

#[tokio::test]
async fn old_facts_and_letters_are_forgotten() {
    let folder = Folder::new();
    let queue = folder.open();
    queue.apply_topology().await.unwrap();
    // Two letters more than one sweep takes.
    folder.sql(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2002)
         INSERT INTO dead (at, job, attempts, body) SELECT 1000, 'old' || i, 0, x'00' FROM n;
         INSERT INTO dead (at, job, attempts, body) VALUES (unixepoch() * 1000, 'young', 0, x'00');
         INSERT INTO facts (at, event) VALUES (1000, 'old'), (unixepoch() * 1000, 'young')",
    );
    let _open = lane(&queue, "alpha");
    let count = |table: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        Connection::open(folder.file()).unwrap().query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while (count("dead"), count("facts")) != (1, 1) {
        assert!(Instant::now() < deadline, "{} letters, {} facts", count("dead"), count("facts"));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let kept = queue.dead_letters(&DeadFilter::default(), now(), 10).await.unwrap();
    assert_eq!(kept.iter().map(|l| l.job.as_str()).collect::<Vec<_>>(), ["young"]);
}

#[tokio::test]
async fn history_is_the_last_ten_minutes() {
    let folder = Folder::new();
    let queue = folder.open();
    let open = lane(&queue, "alpha");
    for id in ["a", "b", "c"] {
        open.settler.settle(Settlement { fact: Some(fact(FactKind::Accepted, id)), then: Then::Keep });
    }
    open.settler.flush().await;
    open.stop.close().await;
    folder.sql("UPDATE facts SET at = at - 601000 WHERE seq = (SELECT min(seq) FROM facts)");
    let mut again = lane(&queue, "alpha");
    opened(&mut again).await;
    let known: Vec<_> = history(&folder).iter().map(|f| f.job.to_string()).collect();
    assert_eq!(known, ["b", "c"]);
    assert!(again.settler.proof().at() > UnixMs(0));
}

#[tokio::test]
async fn odd_rows_do_no_harm() {
    let folder = Folder::new();
    let queue = folder.open();
    queue.apply_topology().await.unwrap();
    folder.sql(
        "INSERT INTO jobs (lane, job, route, attempts, hops, taken_at, body)
         SELECT id, 'no id/', 'No Route', -5, 99999999999, -1, x'' FROM lanes WHERE provider = 'alpha';
         INSERT INTO facts (at, event) VALUES (9223372036854775807, '{}'), (-7, '');
         INSERT INTO dead (at, job, reason, class, provider, http_status, attempts, died_at, body)
         VALUES (unixepoch() * 1000, 'no id/', '', '', '', -1, -1, -1, x''),
                (unixepoch() * 1000, 'odd', 'x', 'y', 'Z', 99999, -1, -1, x'');",
    );
    let mut alpha = lane(&queue, "alpha");
    assert!(history(&folder).is_empty());
    let got = delivery(&mut alpha).await;
    assert_eq!((got.message_id, got.taken_at, got.body.len()), (None, Some(UnixMs(0)), 0));
    assert_eq!(
        got.carried,
        Carried { attempts: 0, hops: crate::seam::MOST_CARRIED, route: None, ..Carried::default() }
    );

    let letters = queue.dead_letters(&DeadFilter::default(), now(), 10).await.unwrap();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((letter.job.as_str(), letter.reason, letter.http_status), ("odd", None, None));
    assert_eq!((letter.provider.clone(), letter.died_at), (None, Some(UnixMs(0))));
    // It names no route, then one that is gone: either way it stays.
    let replay = async || queue.replay_dead(&DeadFilter::default(), now(), &|_| true).await;
    assert_eq!(replay().await.unwrap().len(), 0);
    folder.sql("UPDATE dead SET route = 'gone'");
    assert!(matches!(replay().await, Err(QueueError::Unroutable { key, .. }) if key == "gone"));
    assert_eq!(queue.purge_dead(&DeadFilter::default(), now()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_closed_lane_still_publishes_but_its_job_comes_again() {
    let folder = Folder::new();
    let queue = folder.open();
    put(&queue, "login", "a", b"{}").await.unwrap();
    let mut first = lane(&queue, "alpha");
    let taken = delivery(&mut first).await;
    let settler = first.settler.clone();
    first.stop.close().await;
    let to_beta = Move {
        to: name("beta"),
        section: crate::seam::Section::Main,
        job: job("a"),
        body: taken.body.clone(),
        carried: Carried::default(),
        taken_at: UnixMs(5),
        trace: TraceContext::default(),
    };
    let then = Then::Move(taken.tag, Box::new(to_beta));
    settler.settle(Settlement { fact: Some(fact(FactKind::FailedOver, "a")), then });
    settler.flush().await;

    let mut again = lane(&queue, "alpha");
    assert_eq!(history(&folder).len(), 1);
    assert!(delivery(&mut again).await.redelivered);
    let mut beta = lane(&queue, "beta");
    assert_eq!(delivery(&mut beta).await.taken_at, Some(UnixMs(5)));
    assert_eq!(queue.depths().await.unwrap(), [(name("alpha"), 0), (name("beta"), 0)]);
}

#[tokio::test]
async fn a_lane_settles_a_delivery_once() {
    let folder = Folder::new();
    let queue = folder.open();
    let mut alpha = lane(&queue, "alpha");
    put(&queue, "login", "a", b"{}").await.unwrap();
    let tag = delivery(&mut alpha).await.tag;
    alpha.settler.settle(Settlement { fact: None, then: Then::Acknowledge(tag) });
    let never = Tag { session: 1, number: u64::MAX };
    for tag in [tag, never] {
        let to = Move {
            to: name("beta"),
            section: crate::seam::Section::Main,
            job: job("a"),
            body: Bytes::new(),
            carried: Carried::default(),
            taken_at: UnixMs(5),
            trace: TraceContext::default(),
        };
        alpha.settler.settle(Settlement { fact: None, then: Then::Move(tag, Box::new(to)) });
    }
    alpha.settler.flush().await;
    assert_eq!(queue.depths().await.unwrap(), [(name("alpha"), 0), (name("beta"), 0)]);
}

#[tokio::test]
async fn a_lane_that_is_simply_dropped_is_handed_back() {
    let folder = Folder::new();
    let queue = folder.open();
    put(&queue, "login", "a", b"{}").await.unwrap();
    let mut dropped = lane(&queue, "alpha");
    delivery(&mut dropped).await;
    drop(dropped);
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut again = loop {
        match queue.open_lane(LaneSpec { provider: name("alpha"), prefetch: 1 }) {
            Ok(lane) => break lane,
            Err(e) => assert!(Instant::now() < deadline, "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(delivery(&mut again).await.redelivered);
}

/// A queue whose file cannot grow beyond `pages`: what a full disk looks like to SQLite.
fn on_a_small_disk(folder: &Folder, pages: u32) -> Embedded {
    folder.open();
    let config = config(&folder.file());
    let file = file::open(&config.path, config.durability).unwrap();
    file.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    let shared = Shared {
        path: config.path,
        plan: config.plan,
        source: config.source,
        owner: Ownership::default(),
        next_lane: AtomicU64::new(1),
        listeners: Mutex::default(),
        has_told: AtomicBool::new(false),
        healthy: AtomicBool::new(true),
        closed: AtomicBool::new(false),
    };
    Embedded::over(file, Arc::new(shared)).unwrap()
}

#[tokio::test]
async fn on_a_full_disk_senders_are_told_and_settlements_wait() {
    let folder = Folder::new();
    let queue = on_a_small_disk(&folder, 100);
    let mut alpha = lane(&queue, "alpha");
    opened(&mut alpha).await;
    let mut taken = 0;
    let full = loop {
        match put(&queue, "alerts", &format!("fill-{taken}"), &[0; 4_000]).await {
            Ok(()) => taken += 1,
            Err(e) => break e.to_string(),
        }
    };
    assert!(full.ends_with("the disk is full"), "{full}");
    assert!(taken > 20, "{taken}");

    for attempt in 0..50 {
        let mut retrying = fact(FactKind::Retrying, "waits");
        retrying.attempt = attempt;
        alpha.settler.settle(Settlement { fact: Some(retrying), then: Then::Keep });
    }
    let settler = alpha.settler.clone();
    let mut flushed = tokio::spawn(async move { settler.flush().await });
    let early = tokio::time::timeout(Duration::from_millis(500), &mut flushed).await;
    assert!(early.is_err(), "flushed although nothing can be written");
    assert!(!queue.is_connected());
    assert_eq!(alpha.settler.unconfirmed(), 50);

    // Somebody makes room.
    folder.sql("DELETE FROM jobs");
    tokio::time::timeout(Duration::from_secs(20), flushed).await.unwrap().unwrap();
    let mut told = queue.follow_marked(Duration::from_secs(60)).await.unwrap().facts;
    for attempt in 0..50 {
        assert_eq!(told.recv().await.unwrap().attempt, attempt);
    }
    assert!(queue.is_connected());
    put(&queue, "login", "after", b"{}").await.unwrap();
    assert_eq!(delivery(&mut alpha).await.message_id, Some(job("after")));
}
