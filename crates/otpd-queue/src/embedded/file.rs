//! The file: how it is opened, what is in it, and what an operator is told when it cannot be used.
//!
//! WAL, so that readers never wait for the writer nor it for them. The application id keeps otpd
//! from writing into somebody else's database; `user_version` is the schema's number, and a file of
//! a newer otpd is refused rather than guessed at. Jobs hold codes and phone numbers: on Unix the
//! file is made readable by its owner alone (SQLite gives the `-wal` and `-shm` beside it the same
//! rights).
//!
//! Invariant: ids of jobs only grow and are never used twice, over all processes; a lane's cursor,
//! its `handed_out` mark and its tags rest on that (hence `AUTOINCREMENT`).

use std::path::Path;
use std::time::{Duration, Instant};

use otpd_core::UnixMs;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::error::QueueError;

/// How safe a commit is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// What is confirmed survives a power cut: every commit waits for the disk.
    #[default]
    PowerLoss,
    /// What is confirmed survives the death of the process; the last moments before a power cut
    /// may be lost. For demos and load tests.
    ProcessDeath,
}

/// How long a transaction waits for another process that is writing.
pub(super) const BUSY: Duration = Duration::from_secs(5);

/// `otpd` in ASCII.
const APPLICATION: i32 = 0x6f74_7064;
/// The schema below.
const VERSION: i32 = 4;

const SCHEMA: &str = "
    CREATE TABLE lanes (
        id         INTEGER PRIMARY KEY,
        provider   TEXT NOT NULL UNIQUE,
        handed_out INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE routes (
        route TEXT PRIMARY KEY,
        lane  INTEGER NOT NULL REFERENCES lanes (id),
        section INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE retention (
        only_row  INTEGER PRIMARY KEY CHECK (only_row = 1),
        dead_ms   INTEGER NOT NULL,
        events_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE jobs (
        id          INTEGER PRIMARY KEY AUTOINCREMENT,
        lane        INTEGER NOT NULL REFERENCES lanes (id),
        job         TEXT NOT NULL,
        route       TEXT,
        attempts    INTEGER NOT NULL,
        hops        INTEGER NOT NULL,
        returned    INTEGER NOT NULL DEFAULT 0,
        taken_at    INTEGER NOT NULL,
        traceparent TEXT,
        tracestate  TEXT,
        body        BLOB NOT NULL,
        section     INTEGER NOT NULL DEFAULT 0,
        out         INTEGER NOT NULL DEFAULT 0,
        life        INTEGER NOT NULL DEFAULT 0,
        not_before  INTEGER,
        replayed_at INTEGER,
        ambiguous   INTEGER NOT NULL DEFAULT 0,
        extra       INTEGER NOT NULL DEFAULT 0,
        accepted_at INTEGER
    ) STRICT;
    CREATE INDEX jobs_of_lane ON jobs (lane, section);
    CREATE INDEX jobs_later ON jobs (lane, not_before) WHERE section = 2;
    CREATE TABLE facts (
        seq   INTEGER PRIMARY KEY AUTOINCREMENT,
        at    INTEGER NOT NULL,
        event TEXT NOT NULL
    ) STRICT;
    CREATE TABLE dead (
        seq         INTEGER PRIMARY KEY AUTOINCREMENT,
        at          INTEGER NOT NULL,
        job         TEXT NOT NULL,
        reason      TEXT,
        class       TEXT,
        provider    TEXT,
        route       TEXT,
        http_status INTEGER,
        attempts    INTEGER NOT NULL,
        detail      TEXT,
        died_at     INTEGER,
        traceparent TEXT,
        tracestate  TEXT,
        body        BLOB NOT NULL,
        taken_at    INTEGER,
        life        INTEGER NOT NULL DEFAULT 0
    ) STRICT;
";

/// What makes a file of version 1 one of version 2: lives of jobs, and sections of lanes. Its dead letters do
/// not say when their jobs were taken.
const FROM_1_TO_2: &str = "
    ALTER TABLE routes ADD COLUMN section INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN section INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN out INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN life INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN not_before INTEGER;
    ALTER TABLE jobs ADD COLUMN replayed_at INTEGER;
    ALTER TABLE dead ADD COLUMN taken_at INTEGER;
    ALTER TABLE dead ADD COLUMN life INTEGER NOT NULL DEFAULT 0;
    DROP INDEX jobs_of_lane;
    CREATE INDEX jobs_of_lane ON jobs (lane, section);
    CREATE INDEX jobs_later ON jobs (lane, not_before) WHERE section = 2;
";

/// What makes a file of version 2 one of version 3: attempts of which nobody can tell.
const FROM_2_TO_3: &str = "ALTER TABLE jobs ADD COLUMN ambiguous INTEGER NOT NULL DEFAULT 0;";

/// What makes a file of version 3 one of version 4: extra sends, and jobs that wait for their delivery.
const FROM_3_TO_4: &str = "
    ALTER TABLE jobs ADD COLUMN extra INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN accepted_at INTEGER;
";

/// Opens the file for writing; makes it where there is none.
pub(super) fn open(path: &Path, durability: Durability) -> Result<Connection, QueueError> {
    make_private(path)?;
    let prepare = || {
        let mut file = connect(path, OpenFlags::SQLITE_OPEN_CREATE)?;
        identify(&mut file)?;
        let mode: String = file.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
        if mode != "wal" {
            return Err(Unfit::Because(
                "its file system does not allow SQLite's WAL; use a local disk".into(),
            ));
        }
        let synchronous = match durability {
            Durability::PowerLoss => "full",
            Durability::ProcessDeath => "normal",
        };
        file.pragma_update(None, "synchronous", synchronous)?;
        file.pragma_update(None, "wal_autocheckpoint", 4_000)?;
        file.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
        Ok(file)
    };
    // Two processes that make the same file at once: SQLite does not wait by itself for the change to WAL.
    let deadline = Instant::now() + BUSY;
    loop {
        match prepare() {
            Ok(file) => return Ok(file),
            Err(Unfit::Sqlite(e)) if is_busy(&e) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(Unfit::Sqlite(e)) => return Err(error(path, &e)),
            Err(Unfit::Because(why)) => return Err(unusable(path, why)),
        }
    }
}

/// Opens the file for reading. It must have been opened for writing before.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let file = connect(path, OpenFlags::empty())?;
    file.pragma_update(None, "query_only", true)?;
    Ok(file)
}

/// Does `work` in one transaction that has the right to write from its beginning, so that it never
/// fails halfway because another process wrote first.
pub(super) fn transact<T>(
    file: &Connection,
    work: impl FnOnce() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    file.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let done = work().and_then(|value| {
        file.prepare_cached("COMMIT")?.execute([])?;
        Ok(value)
    });
    // A full disk rolls back by itself; then there is nothing left to roll back.
    if done.is_err() && !file.is_autocommit() {
        file.execute_batch("ROLLBACK")?;
    }
    done
}

/// Writes something, without changing anything: does the file take it?
pub(super) fn touch(file: &Connection) -> rusqlite::Result<()> {
    file.pragma_update(None, "user_version", VERSION)
}

/// Changes whenever another connection, of this process or another, has committed.
pub(super) fn data_version(file: &Connection) -> rusqlite::Result<i64> {
    file.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

/// The file's error in words.
pub(super) fn error(path: &Path, error: &rusqlite::Error) -> QueueError {
    let why = match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen) => "cannot be opened; is its folder there, and writable?".into(),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => "cannot be written: no right to".into(),
        Some(ErrorCode::NotADatabase) => "is not a SQLite database".into(),
        Some(ErrorCode::DatabaseCorrupt) => {
            "is damaged; `sqlite3 FILE .recover` may save what is in it".into()
        }
        Some(ErrorCode::DiskFull) => "the disk is full".into(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("another process has been writing to it for {} s", BUSY.as_secs())
        }
        Some(ErrorCode::SystemIoFailure) => format!("the disk fails: {error}"),
        Some(_) | None => error.to_string(),
    };
    unusable(path, why)
}

/// Why the file cannot be used.
pub(super) fn unusable(path: &Path, why: String) -> QueueError {
    QueueError::File { path: path.display().to_string(), why }
}

/// Time as the file keeps it.
pub(super) fn to_ms(at: UnixMs) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

/// Time as the file keeps it; what lies before 1970 becomes 1970.
pub(super) fn from_ms(ms: i64) -> UnixMs {
    UnixMs(u64::try_from(ms).unwrap_or(0))
}

/// Why a file is not taken.
enum Unfit {
    Sqlite(rusqlite::Error),
    Because(String),
}

impl From<rusqlite::Error> for Unfit {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn connect(path: &Path, more: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
    let file = Connection::open_with_flags(path, flags)?;
    file.busy_timeout(BUSY)?;
    file.set_prepared_statement_cache_capacity(64);
    Ok(file)
}

/// Sees to it that the file is a queue of this version: makes a queue of an empty file, and changes one of
/// an earlier version in place.
fn identify(file: &mut Connection) -> Result<(), Unfit> {
    let state = |file: &Connection| -> rusqlite::Result<(i32, i32, bool)> {
        let empty = file.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))?;
        let number = |name| file.pragma_query_value(None, name, |row| row.get(0));
        Ok((number("application_id")?, number("user_version")?, empty))
    };
    if state(file)? == (0, 0, true) {
        // Looked at again under the lock: another process may be making the same file.
        let made = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if state(&made)? == (0, 0, true) {
            made.execute_batch(SCHEMA)?;
            made.pragma_update(None, "application_id", APPLICATION)?;
            made.pragma_update(None, "user_version", VERSION)?;
        }
        made.commit()?;
    }
    for (from, change) in [(1, FROM_1_TO_2), (2, FROM_2_TO_3), (3, FROM_3_TO_4)] {
        let is_older = |(application, version, _)| (application, version) == (APPLICATION, from);
        if is_older(state(file)?) {
            let changed = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if is_older(state(&changed)?) {
                changed.execute_batch(change)?;
                changed.pragma_update(None, "user_version", from + 1)?;
                tracing::info!(from, to = from + 1, "the queue file's schema is brought up to date");
            }
            changed.commit()?;
        }
    }
    match state(file)? {
        (APPLICATION, VERSION, _) => Ok(()),
        (APPLICATION, version, _) => Err(Unfit::Because(format!(
            "was written by another version of otpd (its schema is {version}, this otpd knows {VERSION}); \
             use that version, or name another file"
        ))),
        (_, _, _) => {
            Err(Unfit::Because("is a SQLite database, but not a queue of otpd; name another file".into()))
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Makes the file, empty, before SQLite would with the rights of the umask.
fn make_private(path: &Path) -> Result<(), QueueError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(unusable(path, format!("cannot be made: {e}"))),
    }
}
