//! Lives of jobs and sections of lanes in the file, and files from before there were any.

use otpd_core::Life;

use super::*;
use crate::seam::Section;

/// The tables of version 1 as far as they differ, with a job, a letter and a route in them.
const VERSION_1: &str = "
    CREATE TABLE lanes (id INTEGER PRIMARY KEY, provider TEXT NOT NULL UNIQUE,
                        handed_out INTEGER NOT NULL DEFAULT 0) STRICT;
    CREATE TABLE routes (route TEXT PRIMARY KEY,
                         lane INTEGER NOT NULL REFERENCES lanes (id)) STRICT, WITHOUT ROWID;
    CREATE TABLE retention (only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
                            dead_ms INTEGER NOT NULL, events_ms INTEGER NOT NULL) STRICT;
    CREATE TABLE jobs (id INTEGER PRIMARY KEY AUTOINCREMENT, lane INTEGER NOT NULL REFERENCES lanes (id),
                       job TEXT NOT NULL, route TEXT, attempts INTEGER NOT NULL, hops INTEGER NOT NULL,
                       returned INTEGER NOT NULL DEFAULT 0, taken_at INTEGER NOT NULL, traceparent TEXT,
                       tracestate TEXT, body BLOB NOT NULL) STRICT;
    CREATE INDEX jobs_of_lane ON jobs (lane);
    CREATE TABLE facts (seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL,
                        event TEXT NOT NULL) STRICT;
    CREATE TABLE dead (seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, job TEXT NOT NULL,
                       reason TEXT, class TEXT, provider TEXT, route TEXT, http_status INTEGER,
                       attempts INTEGER NOT NULL, detail TEXT, died_at INTEGER, traceparent TEXT,
                       tracestate TEXT, body BLOB NOT NULL) STRICT;
    INSERT INTO lanes VALUES (1, 'alpha', 1);
    INSERT INTO routes VALUES ('login', 1);
    INSERT INTO jobs (lane, job, route, attempts, hops, taken_at, body)
    VALUES (1, 'out', 'login', 2, 1, 5000, x'31'), (1, 'waits', 'login', 0, 0, 6000, x'32');
    INSERT INTO dead (at, job, reason, route, attempts, died_at, body)
    VALUES (unixepoch() * 1000, 'dead', 'expired', 'login', 3, 7000, x'33');
    PRAGMA application_id = 0x6f747064;
    PRAGMA user_version = 1;
";

#[tokio::test]
async fn a_file_of_version_1_is_brought_up_to_date_with_all_that_is_in_it() {
    let folder = Folder::new();
    folder.sql(VERSION_1);
    let queue = folder.open();
    let mut alpha = lane(&queue, "alpha");
    for (id, redelivered, taken_at, attempts) in [("out", true, 5000, 2), ("waits", false, 6000, 0)] {
        let got = delivery(&mut alpha).await;
        assert_eq!((got.message_id, got.redelivered), (Some(job(id)), redelivered));
        assert_eq!((got.taken_at, got.carried.attempts), (Some(UnixMs(taken_at)), attempts));
        assert_eq!((got.carried.life, got.section), (Life::default(), Section::Main));
    }
    let letters = queue.dead_letters(&DeadFilter::default(), now(), 10).await.unwrap();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    // Nobody noted then when its job was taken.
    assert_eq!((letter.died_at, letter.taken_at, letter.life), (Some(UnixMs(7000)), None, Life::default()));
    queue.replay_dead(&DeadFilter::default(), now(), &|_| true).await.unwrap();
    let back = delivery(&mut alpha).await;
    assert_eq!((back.carried.life, back.taken_at), (Life::after(UnixMs(7000)), Some(UnixMs(0))));
    drop(alpha);
    queue.close().await;
    folder.open().close().await;
}

fn moved(id: &str, section: Section, carried: Carried) -> Box<Move> {
    let (job, trace) = (job(id), TraceContext::default());
    let body = Bytes::from_static(b"{}");
    Box::new(Move { to: name("alpha"), section, job, body, carried, taken_at: UnixMs(5), trace })
}

#[tokio::test]
async fn a_deferred_job_comes_back_at_its_time_with_all_it_carries() {
    let folder = Folder::new();
    let queue = folder.open();
    put(&queue, "login", "a", b"{}").await.unwrap();
    let mut alpha = lane(&queue, "alpha");
    let first = delivery(&mut alpha).await;
    let not_before = now().plus(Duration::from_millis(400));
    let carried = Carried {
        attempts: 2,
        hops: 1,
        route: RouteName::parse("login").ok(),
        life: Life::from_number(77),
        not_before: Some(not_before),
        replayed_at: Some(UnixMs(88)),
        ambiguous: 1,
        extra: 1,
        accepted_at: Some(UnixMs(99)),
    };
    let then = Then::Move(first.tag, moved("a", Section::Later, carried.clone()));
    alpha.settler.settle(Settlement { fact: None, then });
    alpha.settler.flush().await;
    assert_eq!(queue.depths().await.unwrap()[0], (name("alpha"), 1));
    let back = delivery(&mut alpha).await;
    assert!(now() >= not_before, "handed out before its time");
    assert_eq!((back.section, back.carried, back.redelivered), (Section::Later, carried, false));
    assert_eq!(queue.depths().await.unwrap()[0], (name("alpha"), 0));
    // Whoever owns the lane next is told that it was out.
    alpha.stop.close().await;
    assert!(delivery(&mut lane(&queue, "alpha")).await.redelivered);
}

#[tokio::test]
async fn interactive_jobs_come_before_a_bulk_backlog_that_is_larger_than_the_prefetch() {
    let folder = Folder::new();
    let mut config = config(&folder.file());
    config.plan.lanes[0].bulk_routes = vec![RouteName::parse("news").unwrap()];
    let queue = Embedded::open(config).unwrap();
    for n in 0..300 {
        put(&queue, "news", &format!("bulk-{n}"), b"{}").await.unwrap();
    }
    let mut alpha = queue.open_lane(LaneSpec { provider: name("alpha"), prefetch: 200 }).unwrap();
    for n in 0..100 {
        let got = delivery(&mut alpha).await;
        assert_eq!((got.message_id, got.section), (Some(job(format!("bulk-{n}"))), Section::Bulk));
    }
    put(&queue, "login", "now", b"{}").await.unwrap();
    let got = delivery(&mut alpha).await;
    assert_eq!((got.message_id, got.section), (Some(job("now")), Section::Main));
    alpha.settler.settle(Settlement { fact: None, then: Then::Acknowledge(got.tag) });
    alpha.settler.flush().await;
    assert_eq!(queue.depths().await.unwrap()[0], (name("alpha"), 200));
}

#[tokio::test]
async fn a_file_of_the_version_before_is_brought_up_to_date() {
    let folder = Folder::new();
    let queue = folder.open();
    put(&queue, "login", "a", b"{}").await.unwrap();
    queue.close().await;
    folder.sql(
        "ALTER TABLE jobs DROP COLUMN accepted_at; ALTER TABLE jobs DROP COLUMN extra;
         ALTER TABLE jobs DROP COLUMN ambiguous; PRAGMA user_version = 2",
    );
    let queue = folder.open();
    let mut alpha = lane(&queue, "alpha");
    let carried = delivery(&mut alpha).await.carried;
    assert_eq!((carried.ambiguous, carried.extra, carried.accepted_at), (0, 0, None));
}
