//! What `otpd top` knows of each lane, folded from facts: a pure table of the last ten seconds.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use otpd_core::{Class, Fact, FactKind, ProviderName, Rate, Reason, UnixMs};
use serde_json::{Value, json};

use crate::config::Config;
use crate::output;

/// How far back facts are asked for: a pause may have begun some time ago.
pub(super) const SPAN: Duration = Duration::from_secs(60);
/// What a rate is counted over.
const RECENT: Duration = Duration::from_secs(10);
/// The most facts that are kept of one lane.
const MOST: usize = 50_000;
/// The most lanes that facts may bring in beside those of the config.
const MOST_LANES: usize = 1_000;

/// All lanes, by name.
pub(super) struct Lanes(BTreeMap<ProviderName, Lane>);

#[derive(Default)]
struct Lane {
    ceiling: Option<f64>,
    learned: Option<f64>,
    facts: VecDeque<Seen>,
    /// Until when it takes nothing, where that is known, and why.
    pause: Option<(Option<UnixMs>, Option<Reason>)>,
}

struct Seen {
    at: UnixMs,
    kind: FactKind,
    is_refusal: bool,
    /// From being taken to being accepted.
    total_ms: Option<u64>,
}

/// One line.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    lane: ProviderName,
    accepted: f64,
    ceiling: Option<f64>,
    refused: f64,
    retried: f64,
    dead: f64,
    backlog: Option<u64>,
    p50_ms: Option<u64>,
    p99_ms: Option<u64>,
    state: String,
}

impl Lanes {
    /// The lanes of the config, empty.
    pub(super) fn of(config: &Config) -> Self {
        let lane = |ceiling: &[Rate]| Lane {
            ceiling: ceiling.iter().map(|rate| rate.per_second()).min_by(f64::total_cmp),
            ..Lane::default()
        };
        Self(config.providers.iter().map(|p| (p.name.clone(), lane(&p.ceiling))).collect())
    }

    /// Takes a fact in.
    pub(super) fn note(&mut self, fact: &Fact) {
        if !self.0.contains_key(&fact.provider) && self.0.len() >= MOST_LANES {
            return;
        }
        let lane = self.0.entry(fact.provider.clone()).or_default();
        match fact.kind {
            FactKind::Paused => {
                let until = fact.next_attempt_at;
                lane.pause = Some((until, fact.reason));
                lane.learned = fact.ceiling_per_second.or(lane.learned);
            }
            FactKind::Resumed => {
                lane.pause = None;
                lane.learned = fact.ceiling_per_second.or(lane.learned);
            }
            FactKind::Accepted
            | FactKind::Retrying
            | FactKind::FailedOver
            | FactKind::Superseded
            | FactKind::Expired
            | FactKind::Duplicate
            | FactKind::Dead
            | FactKind::Sending
            | FactKind::Delivery(_)
            | FactKind::Verified => {}
        }
        let total_ms =
            fact.timings.map(|t| t.queued_ms.saturating_add(t.permit_ms).saturating_add(t.http_ms));
        let is_refusal = fact.class == Some(Class::RateLimited);
        lane.facts.push_back(Seen { at: fact.at, kind: fact.kind, is_refusal, total_ms });
        if lane.facts.len() > MOST {
            lane.facts.pop_front();
        }
    }

    /// The lines, by name. `depth` is how many jobs wait in a lane's queues.
    pub(super) fn rows(&mut self, now: UnixMs, depth: impl Fn(&ProviderName) -> Option<u64>) -> Vec<Row> {
        self.0.iter_mut().map(|(name, lane)| lane.row(name, now, depth(name))).collect()
    }
}

impl Lane {
    fn row(&mut self, name: &ProviderName, now: UnixMs, backlog: Option<u64>) -> Row {
        let since = now.minus(RECENT);
        // Workers' clocks differ, so times are nearly in order only.
        self.facts.retain(|seen| seen.at >= since);
        let per_second = |count: &dyn Fn(&Seen) -> bool| {
            let counted = self.facts.iter().filter(|seen| count(seen)).count();
            f64::from(u32::try_from(counted).unwrap_or(u32::MAX)) / RECENT.as_secs_f64()
        };
        let mut times: Vec<u64> = self.facts.iter().filter_map(|seen| seen.total_ms).collect();
        times.sort_unstable();
        let quantile = |of_hundred: usize| {
            let last = times.len().checked_sub(1)?;
            times.get(last * of_hundred / 100).copied()
        };
        Row {
            lane: name.clone(),
            accepted: per_second(&|seen| seen.kind == FactKind::Accepted),
            ceiling: self.ceiling,
            refused: per_second(&|seen| seen.is_refusal && seen.kind != FactKind::Paused),
            retried: per_second(&|seen| seen.kind == FactKind::Retrying),
            dead: per_second(&|seen| seen.kind == FactKind::Dead),
            backlog,
            p50_ms: quantile(50),
            p99_ms: quantile(99),
            state: self.state(now),
        }
    }

    fn state(&self, now: UnixMs) -> String {
        let reason = |reason: Option<Reason>| reason.map(|r| format!(": {r}")).unwrap_or_default();
        match self.pause {
            Some((Some(until), why)) if until > now => {
                format!("paused for {:.0} s{}", until.since(now).as_secs_f64().ceil(), reason(why))
            }
            Some((None, why)) => format!("probing{}", reason(why)),
            Some(_) | None => match self.learned {
                Some(rate) if self.ceiling.is_none_or(|ceiling| rate < ceiling) => {
                    format!("takes {rate:.1}/s")
                }
                Some(_) | None => "open".to_owned(),
            },
        }
    }
}

impl Row {
    pub(super) fn as_text(&self) -> [String; 10] {
        let rate = |rate: f64| format!("{rate:.1}");
        let ms = |ms: Option<u64>| output::or_dash(ms.map(|ms| format!("{ms} ms")));
        [
            self.lane.to_string(),
            rate(self.accepted),
            output::or_dash(self.ceiling.map(rate)),
            rate(self.refused),
            rate(self.retried),
            rate(self.dead),
            output::or_dash(self.backlog),
            ms(self.p50_ms),
            ms(self.p99_ms),
            self.state.clone(),
        ]
    }

    pub(super) fn as_json(&self) -> Value {
        json!({
            "lane": self.lane.as_str(),
            "accepted_per_second": self.accepted,
            "ceiling_per_second": self.ceiling,
            "refused_per_second": self.refused,
            "retried_per_second": self.retried,
            "dead_per_second": self.dead,
            "backlog": self.backlog,
            "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms,
            "state": self.state,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use otpd_core::JobId;
    use otpd_core::fact::Timings;

    const NOW: UnixMs = UnixMs(1_800_000_000_000);

    fn fact(kind: FactKind, ago_ms: u64) -> Fact {
        let (job, provider) = (JobId::parse("a").unwrap(), ProviderName::parse("verihubs").unwrap());
        Fact::new(kind, job, provider, NOW.minus(Duration::from_millis(ago_ms)))
    }

    fn row(facts: &[Fact]) -> Row {
        let mut lanes = Lanes(BTreeMap::new());
        for fact in facts {
            lanes.note(fact);
        }
        lanes.rows(NOW, |_| Some(7)).remove(0)
    }

    #[test]
    fn the_last_ten_seconds_count() {
        let mut facts: Vec<Fact> = (0..100u64).map(|n| fact(FactKind::Accepted, n * 200)).collect();
        for (fact, ms) in facts.iter_mut().zip(1..) {
            fact.timings = Some(Timings { queued_ms: ms, permit_ms: 0, http_ms: 0 });
        }
        let mut refused = fact(FactKind::Retrying, 0);
        refused.class = Some(Class::RateLimited);
        facts.push(refused);
        let row = row(&facts);
        assert_eq!((row.accepted, row.refused, row.retried, row.dead), (5.1, 0.1, 0.1, 0.0));
        assert_eq!((row.p50_ms, row.p99_ms, row.backlog), (Some(26), Some(50), Some(7)));
        assert_eq!(row.state, "open");
    }

    #[test]
    fn a_pause_shows_its_reason_and_ends() {
        let mut paused = fact(FactKind::Paused, 1_000);
        paused.reason = Some(Reason::RateProvider);
        paused.next_attempt_at = Some(NOW.plus(Duration::from_secs(4)));
        assert_eq!(row(&[paused.clone()]).state, "paused for 4 s: rate_provider");
        paused.next_attempt_at = Some(NOW);
        paused.ceiling_per_second = Some(9.5);
        assert_eq!(row(&[paused.clone()]).state, "takes 9.5/s");
        paused.next_attempt_at = None;
        paused.reason = Some(Reason::InsufficientBalance);
        assert_eq!(row(&[paused.clone()]).state, "probing: insufficient_balance");
        assert_eq!(row(&[paused, fact(FactKind::Resumed, 10)]).state, "takes 9.5/s");
    }
}
