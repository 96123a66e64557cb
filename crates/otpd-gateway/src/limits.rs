//! Every limit of the gateway in one place: how large, how long, how many.

use std::time::Duration;

/// The largest body of a batch, in bytes: 500 jobs of 2 KiB. A single job may have 64 KiB, in a batch too; a job
/// with every field as long as it may be has less than 4 KiB.
pub(crate) const BATCH_BODY: usize = 1024 * 1024;
/// The most jobs of a batch.
pub(crate) const BATCH_JOBS: usize = 500;
/// The largest body of the Supabase hook, in bytes: Supabase sends no more.
pub(crate) const HOOK_BODY: usize = 200 * 1024;
/// How long that may take: the hook's caller has 5 s for all its attempts, and nobody has shown a signature yet.
pub(crate) const HOOK_BODY_WITHIN: Duration = Duration::from_secs(2);
/// How long the Supabase hook may take to queue a job. Supabase waits 5 s for all of its attempts.
pub(crate) const HOOK_WITHIN: Duration = Duration::from_millis(1_200);
/// How long the head of a request may take, and how long a connection may be idle between two.
pub(crate) const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// How long the body of a request may take.
pub(crate) const BODY_WITHIN: Duration = Duration::from_secs(10);
/// How long a connection may take no byte of what is written to it.
pub(crate) const WRITE_WITHIN: Duration = Duration::from_secs(30);
/// The most open connections; the next ones wait to be accepted.
pub(crate) const CONNECTIONS: usize = 4096;
/// The most requests under way; more are answered with 503 at once.
pub(crate) const REQUESTS: usize = 1024;
/// How long requests may take to end once the gateway is asked to stop. Longer than a confirm (5 s).
pub(crate) const DRAIN_WITHIN: Duration = Duration::from_secs(8);

/// The most jobs whose state is known; the newest are kept. Some 1 KB each.
pub(crate) const KNOWN_JOBS: usize = 100_000;
/// How long a job is known after its first fact.
pub(crate) const KNOWN_FOR: Duration = Duration::from_secs(24 * 3600);
/// How far back the stream is read at the start.
pub(crate) const READ_BACK: Duration = Duration::from_secs(3600);
/// The most entries of a job's timeline. Beyond them the middle is left out.
pub(crate) const TIMELINE: usize = 64;

/// How long the content of an id is remembered: the dedupe window of the workers.
pub(crate) const IDS_FOR: Duration = otpd_core::recent::WINDOW;
/// The most ids whose content is remembered; the newest are kept. Some 150 bytes each.
pub(crate) const IDS: usize = 200_000;

/// The most watchers (server-sent events) of a gateway.
pub(crate) const WATCHERS: usize = 1024;
/// How long one watcher is served; it may connect again, and goes on where it was.
pub(crate) const WATCH_FOR: Duration = Duration::from_secs(600);
/// How many events may wait for a watcher before it is dropped.
pub(crate) const WATCHER_ROOM: usize = 2 * TIMELINE;
/// How often a silent watcher is sent a comment, so that nothing in between takes the connection for dead.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);
