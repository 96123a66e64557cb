//! The command line of `otpd load`. What a text must be is said here; what the texts mean together is
//! decided in [`super::plan`], before anything is connected.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::objective::Objective;
use super::rate;
use crate::cli::{Json, time};

/// Of `otpd load`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct LoadArgs {
    /// Jobs a second: 100, 100/s, 6000/min [default: 100/s].
    #[arg(long, value_name = "COUNT/TIME", value_parser = rate::parse)]
    pub rate: Option<f64>,
    /// How long jobs are published.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    pub duration: Duration,
    /// How the rate changes, and how arrivals are spread [default: ramp for --ramp FROM..TO, spike for
    /// --spike, else constant].
    #[arg(long, value_enum)]
    pub profile: Option<ProfileName>,
    /// FROM..TO: the rate goes from one to the other over the whole duration, such as 10/s..200/s.
    /// TIME: it rises from 0 to --rate within this time and stays there.
    #[arg(long, value_name = "FROM..TO|TIME")]
    pub ramp: Option<String>,
    /// For TIME the rate is FACTOR times --rate, from START on, such as 5x10s or 5x10s@20s [default: 5x for a
    /// tenth of the duration, after a third of it].
    #[arg(long, value_name = "FACTORxTIME[@START]", conflicts_with = "ramp")]
    pub spike: Option<String>,
    /// A route, or provider, and its share of the jobs [default weight: 1]; may be repeated.
    #[arg(long = "route", value_name = "NAME[=WEIGHT]", required_unless_present = "with_worker")]
    pub routes: Vec<String>,
    /// How long each code is valid [default: the route's ttl].
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub ttl: Option<Duration>,
    /// How long to wait, after the last job, for those still open.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    pub drain: Duration,
    /// The seed of all that is left to chance: arrivals, routes, recipients, codes [default: a new one].
    /// Within a worker's recipient limits and dedupe window a run with the same seed meets the same
    /// recipients again.
    #[arg(long)]
    pub seed: Option<u64>,
    /// What must hold, or the exit code is 1; may be repeated. See below.
    #[arg(long = "objective", value_name = "TEXT", value_parser = Objective::parse)]
    pub objectives: Vec<Objective>,
    /// Needs nothing: runs mock providers, an embedded queue and a worker in this process. Each kind of
    /// provider is a route; without --route it is verihubs.
    #[arg(long, visible_alias = "self-contained", conflicts_with = "mock")]
    pub with_worker: bool,
    /// Ceiling of a kind, for its mock and for the worker, such as verihubs=50/s.
    #[arg(long = "ceiling", value_name = "KIND=COUNT/TIME", requires = "with_worker")]
    pub ceilings: Vec<String>,
    /// How long a kind takes to answer, as for `otpd mock` [default: 20ms..80ms].
    #[arg(long = "latency", value_name = "KIND=TIME", requires = "with_worker")]
    pub latencies: Vec<String>,
    /// What goes wrong, as for `otpd mock`, such as verihubs:429=5%,500=5%.
    #[arg(long = "fault", value_name = "KIND:FAULT=WHEN,...", requires = "with_worker")]
    pub faults: Vec<String>,
    /// The `otpd mock` that the worker sends to: what the provider counted goes into the report.
    #[arg(long, value_name = "URL")]
    pub mock: Option<String>,
    /// Writes a report: one HTML page with plots (.html), or the JSON (.json); may be repeated.
    #[arg(long = "report", value_name = "FILE")]
    pub reports: Vec<PathBuf>,
    /// The form of the output.
    #[command(flatten)]
    pub json: Json,
}

/// How the rate changes, and how arrivals are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProfileName {
    /// One rate, evenly spread.
    Constant,
    /// A rate that rises or falls, evenly spread; from 0 to --rate where --ramp says nothing else.
    Ramp,
    /// Independent arrivals, as people make them; goes with --ramp and --spike.
    Poisson,
    /// One rate, and for a while a multiple of it.
    Spike,
}

const EXAMPLES: &str = "\
Objectives: WHAT OP VALUE [for ROUTE], with <, <=, >, >= or ==
  p99 total <= 2s           a percentile (p50, p99.9, ...), max or mean of a part of the latency:
                            late, confirm, queued, permit, http, total, told
  accepted >= 99.9%         a count, or its share of the published jobs, of: accepted, dead, expired,
                            superseded, open, unpublished, retried, failed_over, rate_limited, ended_twice
  accepted_rate >= 45/s     jobs accepted a second, until the last one was published
  p95 total <= 1s for login only this route's jobs

Examples:
  otpd load --with-worker --rate 200 --duration 20s --report load.html
  otpd load --route login=3 --route bulk --profile poisson --ramp 30s --rate 40/s --duration 5m
  otpd load --route verihubs --ramp 10..100 --duration 2m --mock http://127.0.0.1:8090 \\
      --objective 'p99 total <= 2s' --objective 'rate_limited <= 0'

Exit codes: 0 all objectives met and every job's end known; 1 not so; 2 wrong use or wrong config.";
