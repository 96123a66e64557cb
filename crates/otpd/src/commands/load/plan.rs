//! From the command line to a valid plan: the profile of arrivals, the routes and their weights, what is
//! written where. Everything that can be wrong is found here, before anything is connected.

use std::path::PathBuf;
use std::time::Duration;

use otpd_core::RouteName;
use otpd_sim::chance::Chance;
use otpd_sim::jobs::MAX_JOBS;
use otpd_sim::{Arrivals, Segment, Spacing};

use super::args::{LoadArgs, ProfileName};
use super::objective::Objective;
use super::rate;
use crate::failure::Failure;

/// The rate where none is named, jobs a second.
const RATE: f64 = 100.0;
/// The most routes.
const MAX_ROUTES: usize = 32;

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) segments: Vec<Segment>,
    pub(super) spacing: Spacing,
    /// The profile, for people.
    pub(super) profile: String,
    pub(super) duration: Duration,
    pub(super) drain: Duration,
    pub(super) seed: u64,
    pub(super) routes: Vec<Share>,
    /// How long codes are valid, where the run says so.
    pub(super) ttl: Option<Duration>,
    pub(super) objectives: Vec<Objective>,
    pub(super) reports: Vec<Target>,
}

/// A route and its share.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Share {
    pub(super) name: RouteName,
    /// Above 0; relative to the others.
    pub(super) weight: f64,
}

/// Where a report goes, and in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Html(PathBuf),
    Json(PathBuf),
}

impl Plan {
    /// Checks it all.
    ///
    /// # Errors
    /// Wrong use: which flag, what is wrong, what would be right.
    pub(super) fn new(args: &LoadArgs) -> Result<Self, Failure> {
        let duration = within("--duration", args.duration, Duration::from_millis(100))?;
        let drain = within("--drain", args.drain, Duration::ZERO)?;
        let (segments, spacing, profile) = profile(args)?;
        let routes = routes(&args.routes)?;
        for objective in &args.objectives {
            if let Some(route) = objective.route.as_ref().filter(|r| routes.iter().all(|s| s.name != **r)) {
                return Err(usage(format!("--objective '{objective}': this run has no route {route}")));
            }
        }
        let seed = args.seed.unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0));
        let plan = Self {
            segments,
            spacing,
            profile,
            duration,
            drain,
            seed,
            routes,
            ttl: args.ttl.map(|ttl| within("--ttl", ttl, Duration::from_secs(1))).transpose()?,
            objectives: args.objectives.clone(),
            reports: args.reports.iter().map(target).collect::<Result<_, _>>()?,
        };
        let expected = plan.arrivals().expected();
        if expected >= MAX_JOBS as f64 / 2.0 {
            let most = MAX_JOBS / 2;
            return Err(usage(format!("{expected:.0} jobs are too many for one run; at most {most}")));
        }
        if expected < 0.5 {
            return Err(usage("this comes to no job at all; raise --rate or --duration".to_owned()));
        }
        Ok(plan)
    }

    /// When jobs are due.
    pub(super) fn arrivals(&self) -> Arrivals {
        Arrivals::new(&self.segments, self.spacing, self.seed)
    }

    /// The route of job `number`, by its place in `routes`.
    pub(super) fn route_of(&self, number: u64) -> usize {
        let all: f64 = self.routes.iter().map(|share| share.weight).sum();
        let mut drawn = Chance::of(&[self.seed, 0x726F_7574, number]).share() * all;
        for (place, share) in self.routes.iter().enumerate() {
            drawn -= share.weight;
            if drawn < 0.0 {
                return place;
            }
        }
        self.routes.len().saturating_sub(1)
    }
}

fn usage(text: String) -> Failure {
    Failure::Usage(text)
}

fn within(flag: &str, time: Duration, least: Duration) -> Result<Duration, Failure> {
    let most = Duration::from_secs(86_400);
    if (least..=most).contains(&time) {
        return Ok(time);
    }
    let show = humantime::format_duration;
    Err(usage(format!("{flag} must be {} to {}", show(least), show(most))))
}

/// The segments, the spacing, and both in words.
fn profile(args: &LoadArgs) -> Result<(Vec<Segment>, Spacing, String), Failure> {
    let line = args.ramp.as_deref().and_then(|text| text.split_once(".."));
    let name = args.profile.unwrap_or(match (&line, &args.spike) {
        (Some(_), _) => ProfileName::Ramp,
        (None, Some(_)) => ProfileName::Spike,
        (None, None) => ProfileName::Constant,
    });
    let fits = match name {
        ProfileName::Constant => line.is_none() && args.spike.is_none(),
        ProfileName::Ramp => args.spike.is_none(),
        ProfileName::Spike => args.ramp.is_none(),
        ProfileName::Poisson => true,
    };
    if !fits {
        return Err(usage(
            "--profile does not fit: constant takes no --spike and of --ramp only a TIME, ramp takes no --spike, spike takes no --ramp".to_owned(),
        ));
    }
    let (seconds, rate) = (args.duration.as_secs_f64(), args.rate.unwrap_or(RATE));
    let whole = humantime::format_duration(args.duration);
    let (segments, words) = if let Some((from, to)) = line {
        if args.rate.is_some() {
            return Err(usage("--ramp FROM..TO names the rates itself; leave --rate out".to_owned()));
        }
        let read = |text| rate::parse_or_zero(text).map_err(|e| usage(format!("--ramp: FROM and TO {e}")));
        let (from, to) = (read(from)?, read(to)?);
        let words = format!("ramp from {} to {} over {whole}", rate::show(from), rate::show(to));
        (vec![Segment { seconds, from, to }], words)
    } else if let Some(text) = &args.ramp {
        let rise = humantime::parse_duration(text)
            .ok()
            .filter(|rise| *rise <= args.duration)
            .ok_or_else(|| usage(format!("--ramp {text}: must be FROM..TO such as 10/s..200/s, or a TIME such as 10s, at most --duration")))?;
        let words = format!(
            "{}, after a rise of {}, for {whole}",
            rate::show(rate),
            humantime::format_duration(rise)
        );
        let rise = rise.as_secs_f64();
        (vec![Segment { seconds: rise, from: 0.0, to: rate }, Segment::flat(seconds - rise, rate)], words)
    } else if name == ProfileName::Ramp {
        let words = format!("ramp from 0/s to {} over {whole}", rate::show(rate));
        (vec![Segment { seconds, from: 0.0, to: rate }], words)
    } else if name == ProfileName::Spike || args.spike.is_some() {
        spike(args.spike.as_deref(), args.duration, rate)?
    } else {
        (vec![Segment::flat(seconds, rate)], format!("{} for {whole}", rate::show(rate)))
    };
    if segments.iter().any(|s| s.from > rate::HIGHEST || s.to > rate::HIGHEST) {
        return Err(usage(format!("the rate goes above {}/s", rate::HIGHEST)));
    }
    if name == ProfileName::Poisson {
        return Ok((segments, Spacing::Poisson, format!("{words}, Poisson arrivals")));
    }
    Ok((segments, Spacing::Even, words))
}

/// One rate, and for a while a multiple of it.
fn spike(text: Option<&str>, duration: Duration, rate: f64) -> Result<(Vec<Segment>, String), Failure> {
    let wrong = || {
        usage(format!(
            "--spike {}: must be FACTORxTIME[@START] within --duration, such as 5x10s or 5x10s@20s",
            text.unwrap_or_default()
        ))
    };
    let (factor, length, start) = match text {
        None => (5.0, duration / 10, duration / 3),
        Some(text) => {
            let (factor, rest) = text.split_once('x').ok_or_else(wrong)?;
            let (length, start) = rest.split_once('@').map_or((rest, None), |(l, s)| (l, Some(s)));
            let factor = factor.trim().parse().map_err(|_| wrong())?;
            let time = |text| humantime::parse_duration(text).map_err(|_| wrong());
            (factor, time(length)?, start.map(time).transpose()?.unwrap_or(duration / 3))
        }
    };
    let end = start.checked_add(length).filter(|end| *end <= duration).ok_or_else(wrong)?;
    if !(0.0..=1000.0).contains(&factor) {
        return Err(wrong());
    }
    let show = humantime::format_duration;
    let words = format!(
        "{} for {}, {factor} times as much for {} from {} on",
        rate::show(rate),
        show(duration),
        show(length),
        show(start)
    );
    let segments = vec![
        Segment::flat(start.as_secs_f64(), rate),
        Segment::flat(length.as_secs_f64(), rate * factor),
        Segment::flat((duration - end).as_secs_f64(), rate),
    ];
    Ok((segments, words))
}

fn routes(texts: &[String]) -> Result<Vec<Share>, Failure> {
    let own = ["verihubs".to_owned()];
    let texts = if texts.is_empty() { &own[..] } else { texts };
    let mut routes: Vec<Share> = Vec::with_capacity(texts.len());
    for text in texts {
        let (name, weight) = text.split_once('=').unwrap_or((text, "1"));
        let name =
            RouteName::parse(name.trim()).map_err(|e| usage(format!("--route {text}: the name {e}")))?;
        let weight =
            weight.trim().parse::<f64>().ok().filter(|weight| *weight > 0.0 && *weight <= 1e6).ok_or_else(
                || usage(format!("--route {text}: the weight must be a number above 0, such as 3")),
            )?;
        if routes.iter().any(|share| share.name == name) {
            return Err(usage(format!("--route {text}: names {name} twice; give it one weight")));
        }
        routes.push(Share { name, weight });
    }
    if routes.len() > MAX_ROUTES {
        return Err(usage(format!("{} routes are too many for one run; at most {MAX_ROUTES}", routes.len())));
    }
    Ok(routes)
}

/// A report's file, which must be writable already now.
fn target(path: &PathBuf) -> Result<Target, Failure> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let target = match extension {
        "html" | "htm" => Target::Html(path.clone()),
        "json" => Target::Json(path.clone()),
        _ => {
            return Err(usage(format!("--report {}: must end in .html or .json", path.display())));
        }
    };
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(|e| usage(format!("--report {}: cannot be written to: {e}", path.display())))?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: LoadArgs,
    }

    fn plan(line: &str) -> Result<Plan, String> {
        let line = Line::try_parse_from(format!("load --route login {line}").split_whitespace());
        Plan::new(&line.map_err(|e| e.to_string())?.args).map_err(|e| e.to_string())
    }

    #[test]
    fn profiles() {
        for (line, jobs, words) in [
            ("", 3000, "100/s for 30s"),
            ("--rate 50/s --duration 10s", 500, "50/s for 10s"),
            (
                "--profile constant --rate 50 --ramp 4s --duration 10s",
                400,
                "50/s, after a rise of 4s, for 10s",
            ),
            ("--ramp 10..30/s --duration 10s", 200, "ramp from 10/s to 30/s over 10s"),
            ("--profile ramp --duration 10s", 500, "ramp from 0/s to 100/s over 10s"),
            (
                "--profile spike --rate 10 --duration 30s",
                420,
                "10/s for 30s, 5 times as much for 3s from 10s on",
            ),
            (
                "--spike 10x2s@1s --rate 10 --duration 5s",
                230,
                "10/s for 5s, 10 times as much for 2s from 1s on",
            ),
        ] {
            let plan = plan(line).unwrap();
            assert_eq!((plan.arrivals().count(), plan.profile.as_str()), (jobs, words), "{line}");
        }
        let poisson = plan("--profile poisson --ramp 10..30 --duration 10s --seed 3").unwrap();
        assert_eq!(poisson.spacing, Spacing::Poisson);
        let count = poisson.arrivals().count();
        assert!((140..260).contains(&count), "{count} arrivals, expected 200");
    }

    #[test]
    fn wrong_use_is_said() {
        for (line, says) in [
            ("--profile constant --spike 5x1s", "--profile does not fit"),
            ("--profile constant --ramp 1..2", "--profile does not fit"),
            ("--profile spike --ramp 5s", "--profile does not fit"),
            ("--ramp 1..2 --rate 5", "leave --rate out"),
            ("--ramp fast", "must be FROM..TO"),
            ("--ramp 31s", "at most --duration"),
            ("--ramp 1..x", "FROM and TO must be COUNT/TIME"),
            ("--spike 5", "must be FACTORxTIME"),
            ("--spike 5x20s@20s", "must be FACTORxTIME"),
            ("--spike NaNx1s", "must be FACTORxTIME"),
            ("--rate 90000 --spike 5x1s", "goes above"),
            ("--rate 0", "must be COUNT/TIME"),
            ("--rate 1/h", "no job at all"),
            ("--rate 100000 --duration 24h", "too many for one run"),
            ("--duration 1ms", "--duration must be 100ms to 1day"),
            ("--ttl 1ms", "--ttl must be"),
            ("--route bulk=0", "the weight must be"),
            ("--route bulk=NaN", "the weight must be"),
            ("--route Bulk", "the name must be"),
            ("--route login=2", "names login twice"),
            ("--report load.txt", "must end in .html or .json"),
            ("--report no/such/folder/load.html", "cannot be written to"),
            ("--objective accepted>=1", ""),
            ("--ceiling verihubs=50/s", "--with-worker"),
        ] {
            match plan(line) {
                Ok(_) => assert!(says.is_empty(), "{line} passes"),
                Err(said) => assert!(!says.is_empty() && said.contains(says), "{line}: {said}"),
            }
        }
    }

    #[test]
    fn routes_get_their_share() {
        let plan = plan("--route bulk=3 --seed 9").unwrap();
        let bulk = (0..10_000).filter(|n| plan.route_of(*n) == 1).count();
        assert!((7_300..7_700).contains(&bulk), "{bulk} of 10000, expected 7500");
        let again = (0..10_000).filter(|n| plan.route_of(*n) == 1).count();
        assert_eq!(bulk, again);
    }

    #[test]
    fn an_objective_needs_its_route() {
        let line = |text: &str| {
            let line = ["load", "--route", "login", "--objective", text];
            Plan::new(&Line::try_parse_from(line).unwrap().args).map_err(|e| e.to_string())
        };
        assert!(line("dead <= 0 for login").is_ok());
        assert!(line("dead <= 0 for bulk").unwrap_err().contains("no route bulk"));
    }
}
