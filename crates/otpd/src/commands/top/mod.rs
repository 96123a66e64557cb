//! `otpd top`: all lanes, live in the terminal.
//!
//! What it shows comes from the events stream and from the queues' depths, so it can be run anywhere and costs the
//! workers nothing. It begins with the facts of the last minute. On a terminal it draws over itself; elsewhere it
//! prints a table each time.

mod lanes;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use otpd_core::{Fact, ProviderName};
use otpd_queue::Queue;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use self::lanes::{Lanes, SPAN};
use crate::cli::TopArgs;
use crate::config::Config;
use crate::failure::Failure;
use crate::{open, output};

/// How long the last minute's facts may take to come before the first table.
const FIRST: Duration = Duration::from_millis(1500);
/// Puts the cursor at the top and clears what is below.
const OVER: &str = "\x1b[H\x1b[J";

/// Runs the command.
///
/// # Errors
/// Where the queue is away when it begins.
pub async fn run(args: TopArgs, config: &Config) -> Result<ExitCode, Failure> {
    let queue = open::queue(config, open::source())?;
    let ended = tokio::select! {
        ended = watch(&queue, &args, config) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    queue.close().await;
    ended.map(|()| ExitCode::SUCCESS)
}

async fn watch(queue: &Queue, args: &TopArgs, config: &Config) -> Result<(), Failure> {
    let mut facts = queue.follow(SPAN).await?;
    let mut lanes = Lanes::of(config);
    let first = if args.once { FIRST.max(args.every) } else { FIRST };
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + first, args.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            fact = facts.recv() => take(&mut lanes, fact, &mut facts)?,
            _ = ticks.tick() => {
                show(&mut lanes, queue, args).await?;
                if args.once {
                    return Ok(());
                }
            }
        }
    }
}

/// Takes a fact in, and those that are there with it.
fn take(lanes: &mut Lanes, first: Option<Fact>, facts: &mut mpsc::Receiver<Fact>) -> Result<(), Failure> {
    let Some(first) = first else {
        return Err(Failure::Failed("the queue stopped telling what happens".into()));
    };
    lanes.note(&first);
    while let Ok(fact) = facts.try_recv() {
        lanes.note(&fact);
    }
    Ok(())
}

async fn show(lanes: &mut Lanes, queue: &Queue, args: &TopArgs) -> Result<(), Failure> {
    // Without the broker the depths are not known; the rest is shown all the same.
    let depths = queue.depths().await.ok();
    let depth = |provider: &ProviderName| {
        depths.as_ref().and_then(|all| all.iter().find(|(name, _)| name == provider)).map(|(_, depth)| *depth)
    };
    let now = open::now();
    let rows = lanes.rows(now, depth);
    if args.json.json {
        let lanes: Vec<_> = rows.iter().map(lanes::Row::as_json).collect();
        output::json_line(&json!({ "at": now.to_string(), "connected": depths.is_some(), "lanes": lanes }))?;
        return Ok(());
    }
    let is_live = !args.once && std::io::stdout().is_terminal();
    let state = if depths.is_some() { "" } else { "  the broker is away" };
    output::line(&format!("{}{now}{state}", if is_live { OVER } else { "" }))?;
    output::table(
        [
            "lane",
            "accepted/s",
            "ceiling/s",
            "refused/s",
            "retried/s",
            "dead/s",
            "backlog",
            "p50",
            "p99",
            "state",
        ],
        rows.iter().map(lanes::Row::as_text),
    )?;
    Ok(())
}
