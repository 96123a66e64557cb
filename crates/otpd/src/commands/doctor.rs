//! `otpd doctor`: looks at everything outside this process and says what is not well, and what to do about it.
//!
//! It changes nothing, sends no message and shows no secret. Each check is bounded in time; one that fails does not
//! keep the others from being made.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use axum::http::Uri;
use futures::future::join_all;
use otpd_core::{JobId, UnixMs};
use otpd_queue::{DeadFilter, Difference, Queue, Standing};
use serde_json::json;
use tokio::net::TcpStream;

use crate::cli::Json;
use crate::config::{Config, Environment, Loaded};
use crate::failure::Failure;
use crate::{open, output};

/// How long a check may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a provider may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(3);
/// The most dead letters that are looked at.
const LETTERS: usize = 1_000;
/// From which waiting jobs on a lane is mentioned.
const MANY: u64 = 1_000;

/// How it stands with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    Well,
    /// It works; somebody should look.
    Odd,
    /// It does not work.
    Bad,
}

impl Health {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Well => "ok",
            Self::Odd => "look",
            Self::Bad => "bad",
        }
    }
}

/// What one check found.
#[derive(Debug)]
struct Finding {
    what: String,
    health: Health,
    said: String,
}

fn finding(what: impl Into<String>, health: Health, said: impl Into<String>) -> Finding {
    Finding { what: what.into(), health, said: said.into() }
}

/// Runs the command. Exit code 1 where anything is bad.
///
/// # Errors
/// Where the embedded queue cannot be opened, or nothing can be printed.
pub async fn run(json: Json, loaded: &Loaded) -> Result<ExitCode, Failure> {
    let config = &loaded.config;
    let mut found = vec![of_config(loaded)];
    let queue = open::queue(config, open::source())?;
    found.extend(of_queue(&queue, config).await);
    queue.close().await;
    found.extend(join_all(config.providers.iter().map(|p| reach(p.name.as_str(), p.base_url()))).await);
    let worst = found.iter().map(|finding| finding.health).max().unwrap_or(Health::Well);
    if json.json {
        let all: Vec<_> = found
            .iter()
            .map(|f| json!({ "check": f.what, "health": f.health.as_str(), "said": f.said }))
            .collect();
        output::json(&json!({ "health": worst.as_str(), "checks": all }))?;
    } else {
        let row = |f: &Finding| [f.health.as_str().to_owned(), f.what.clone(), f.said.clone()];
        output::table(["is", "what", "found"], found.iter().map(row))?;
    }
    Ok(if worst == Health::Bad { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn of_config(loaded: &Loaded) -> Finding {
    if let Err(issues) = loaded.config.open_providers(&Environment::of_process()) {
        let keys = issues.0.len();
        return finding(
            "config",
            Health::Bad,
            format!("{keys} secrets or settings; `otpd config check` names them"),
        );
    }
    match loaded.warnings.0.len() {
        0 => finding("config", Health::Well, format!("{} providers", loaded.config.providers.len())),
        warnings => {
            finding("config", Health::Odd, format!("{warnings} warnings; `otpd config check` names them"))
        }
    }
}

async fn of_queue(queue: &Queue, config: &Config) -> Vec<Finding> {
    let place = config.broker.address().to_string();
    let began = Instant::now();
    let standing = match within(queue.topology_standing()).await {
        Ok(standing) => standing,
        Err(problem) => return vec![finding("queue", Health::Bad, format!("{place}: {problem}"))],
    };
    let took = began.elapsed().as_millis();
    let mut found = vec![finding("queue", Health::Well, format!("{place}, {took} ms"))];
    found.push(of_topology(&standing));
    found.push(of_stream(queue).await);
    found.push(of_letters(queue).await);
    match within(queue.depths()).await {
        Ok(depths) => {
            let many = depths.into_iter().filter(|(_, depth)| *depth >= MANY);
            found.extend(many.map(|(lane, depth)| {
                let said = format!("{depth} jobs wait; `otpd top` shows whether they move");
                finding(format!("lane {lane}"), Health::Odd, said)
            }));
        }
        Err(problem) => found.push(finding("lanes", Health::Bad, problem)),
    }
    found
}

fn of_topology(standing: &Standing) -> Finding {
    let (differences, health) = match standing {
        Standing::Empty => {
            let said = "nothing was applied yet; the first worker does it, or `otpd topology apply`";
            return finding("topology", Health::Odd, said);
        }
        Standing::Ready(differences) => (differences, Health::Odd),
        Standing::Behind(differences) => (differences, Health::Bad),
    };
    match differences.first() {
        None => finding("topology", Health::Well, "as configured"),
        Some(Difference::Missing { what } | Difference::Different { what, .. }) => {
            let count = differences.len();
            let said = format!("{count} differences, the first {what}; `otpd topology check` names all");
            finding("topology", health, said)
        }
    }
}

/// The way of a record through the stream: no request starts under a ceiling where that does not work.
async fn of_stream(queue: &Queue) -> Finding {
    let Ok(nobody) = JobId::parse("doctor") else {
        return finding("events", Health::Bad, "no name for the check");
    };
    let began = Instant::now();
    match within(queue.story(&nobody, Duration::ZERO)).await {
        Ok(_) => finding(
            "events",
            Health::Well,
            format!("written and read back in {} ms", began.elapsed().as_millis()),
        ),
        Err(problem) => finding("events", Health::Bad, problem),
    }
}

async fn of_letters(queue: &Queue) -> Finding {
    let what = "dead letters";
    let now = open::now();
    match within(queue.dead_letters(&DeadFilter::default(), now, LETTERS)).await {
        Ok(letters) if letters.is_empty() => finding(what, Health::Well, "none"),
        Ok(letters) => {
            let count = if letters.len() < LETTERS {
                letters.len().to_string()
            } else {
                format!("{LETTERS} or more")
            };
            let newest = letters
                .iter()
                .filter_map(|letter| letter.died_at.zip(letter.reason))
                .max_by_key(|(at, _)| *at);
            let newest = newest
                .map(|(at, reason)| format!(", the newest {}: {reason}", ago(now, at)))
                .unwrap_or_default();
            finding(what, Health::Odd, format!("{count}{newest}; `otpd dead list` shows them"))
        }
        Err(problem) => finding(what, Health::Bad, problem),
    }
}

fn ago(now: UnixMs, at: UnixMs) -> String {
    let seconds = Duration::from_secs(now.since(at).as_secs());
    format!("{} ago", humantime::format_duration(seconds))
}

/// Whether a provider accepts connections. Nothing is said on it: that would be a request.
async fn reach(name: &str, base_url: &str) -> Finding {
    let what = format!("provider {name}");
    let uri = base_url.parse::<Uri>().ok();
    let target = uri.as_ref().and_then(|uri| {
        let port =
            uri.port_u16().or_else(|| if uri.scheme_str() == Some("http") { Some(80) } else { Some(443) })?;
        Some((uri.host()?.trim_matches(['[', ']']).to_owned(), port))
    });
    let Some((host, port)) = target else {
        return finding(what, Health::Bad, format!("{base_url} names no host"));
    };
    let began = Instant::now();
    match tokio::time::timeout(CONNECT, TcpStream::connect((host.as_str(), port))).await {
        Ok(Ok(_)) => finding(
            what,
            Health::Well,
            format!("{host}:{port} connects in {} ms", began.elapsed().as_millis()),
        ),
        Ok(Err(error)) => finding(what, Health::Bad, format!("{host}:{port}: {error}")),
        Err(_) => {
            finding(what, Health::Bad, format!("{host}:{port}: no connection within {} s", CONNECT.as_secs()))
        }
    }
}

async fn within<T, E: std::fmt::Display>(check: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match tokio::time::timeout(LIMIT, check).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_provider_is_reached_or_not() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let well = reach("p", &format!("http://127.0.0.1:{port}/path")).await;
        assert_eq!(well.health, Health::Well, "{well:?}");
        drop(server);
        let bad = reach("p", &format!("http://127.0.0.1:{port}")).await;
        assert_eq!(bad.health, Health::Bad, "{bad:?}");
        assert_eq!(reach("p", "nothing at all").await.health, Health::Bad);
    }
}
