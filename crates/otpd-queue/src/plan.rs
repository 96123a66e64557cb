//! What the queue must look like for a config: pure data, made once from providers and routes, used
//! to declare it, to compare with it, and to bind.
//!
//! Every lane has three queues ([`Section`]), whoever consumes them, so that a lane is declared, bound
//! and retired in one way. Names of providers and routes have no dot, so `verihubs.bulk` is the key and
//! `otp.lane.verihubs.bulk` the queue of nobody else.

use std::time::Duration;

use otpd_core::{ProviderName, RouteName};

use crate::seam::Section;

/// How many workers may consume a lane at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owners {
    /// One worker of the fleet; the others stand by. Ceilings, idempotency by id, superseding and the
    /// order of bulk behind interactive jobs rest on it.
    #[default]
    One,
    /// Every worker. The id is no idempotency key, and a newer code does not replace an older one that
    /// another worker holds. Not with a ceiling.
    Many,
}

impl Owners {
    /// As the config writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Many => "many",
        }
    }
}

/// The lane of one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanePlan {
    /// Whose lane.
    pub provider: ProviderName,
    /// How many workers may consume it.
    pub owners: Owners,
    /// The interactive routes whose first provider this is: the keys bound to the lane's main queue.
    pub routes: Vec<RouteName>,
    /// The same of class bulk: the keys bound to the lane's bulk queue, or where it has many owners, who
    /// consume nothing but the main queue, to that.
    pub bulk_routes: Vec<RouteName>,
}

impl LanePlan {
    /// A lane with one owner and only interactive routes.
    #[must_use]
    pub fn new(provider: ProviderName, routes: Vec<RouteName>) -> Self {
        Self { provider, owners: Owners::One, routes, bulk_routes: Vec::new() }
    }

    /// Where the jobs of its bulk routes arrive.
    #[must_use]
    pub fn bulk_section(&self) -> Section {
        match self.owners {
            Owners::One => Section::Bulk,
            Owners::Many => Section::Main,
        }
    }

    /// Its routes, and the section to which each leads.
    pub fn bound_routes(&self) -> impl Iterator<Item = (&RouteName, Section)> {
        let interactive = self.routes.iter().map(|route| (route, Section::Main));
        interactive.chain(self.bulk_routes.iter().map(|route| (route, self.bulk_section())))
    }
}

/// The whole topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What every name begins with: `otp.` unless configured otherwise.
    pub prefix: String,
    /// One lane per provider.
    pub lanes: Vec<LanePlan>,
    /// How long dead letters are kept, 1 s to 3650 days.
    pub dead_retention: Duration,
    /// How long facts are kept (24 h).
    pub events_retention: Duration,
    /// How many bytes of facts are kept at most.
    pub events_max_bytes: u64,
    /// How many jobs may wait in a lane's main queue, and how many in its bulk queue, before publishers are
    /// refused. Jobs that a worker holds do not count.
    pub lane_limit: u32,
}

/// How often a job may be delivered without being settled before the broker buries it.
pub const DELIVERY_LIMIT: u32 = 20;
/// A full lane takes some 80 MB of the broker's memory and 0.5 GB of its disk; at 50/s it is worked off in
/// 5 h 33 min, when every code in it has long expired.
pub const LANE_LIMIT: u32 = 1_000_000;
/// Some 40 million facts of 500 bytes: what 230 jobs a second under ceilings (two facts each) write in 24 h.
pub const EVENTS_MAX_BYTES: u64 = 20_000_000_000;

/// The names and limits of a fleet that configures nothing, without lanes.
impl Default for Plan {
    fn default() -> Self {
        Self {
            prefix: "otp.".to_owned(),
            lanes: Vec::new(),
            dead_retention: Duration::from_secs(7 * 86_400),
            events_retention: Duration::from_secs(86_400),
            events_max_bytes: EVENTS_MAX_BYTES,
            lane_limit: LANE_LIMIT,
        }
    }
}

impl Section {
    /// All queues of a lane.
    pub const ALL: [Self; 3] = [Self::Main, Self::Bulk, Self::Later];

    /// What is appended to the provider's name in keys and names of queues.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Bulk => ".bulk",
            Self::Later => ".later",
        }
    }
}

impl Plan {
    /// `otp.jobs`: where producers publish.
    #[must_use]
    pub fn jobs_exchange(&self) -> String {
        format!("{}jobs", self.prefix)
    }

    /// `otp.routes`: the alternate exchange of `otp.jobs`, by which a route changes its lane in one step.
    #[must_use]
    pub fn routes_exchange(&self) -> String {
        format!("{}routes", self.prefix)
    }

    /// `otp.lanes`: from lane to lane.
    #[must_use]
    pub fn lanes_exchange(&self) -> String {
        format!("{}lanes", self.prefix)
    }

    /// `otp.dead`: exchange and queue.
    #[must_use]
    pub fn dead(&self) -> String {
        format!("{}dead", self.prefix)
    }

    /// `otp.facts`: the exchange of the stream alone.
    #[must_use]
    pub fn facts_exchange(&self) -> String {
        format!("{}facts", self.prefix)
    }

    /// `otp.events`: the stream of facts, and the exchange for observers, which does not lead to the stream.
    #[must_use]
    pub fn events(&self) -> String {
        format!("{}events", self.prefix)
    }

    /// True if at most one worker at a time may own the lane of `provider`.
    #[must_use]
    pub fn has_single_owner(&self, provider: &ProviderName) -> bool {
        self.lanes.iter().all(|lane| lane.provider != *provider || lane.owners == Owners::One)
    }

    /// `otp.topology`: exchange and stream of what was applied.
    #[must_use]
    pub fn topology(&self) -> String {
        format!("{}topology", self.prefix)
    }

    /// `otp.topology.lock`: the queue that whoever applies holds exclusively.
    #[must_use]
    pub fn topology_lock(&self) -> String {
        format!("{}topology.lock", self.prefix)
    }

    /// `otp.lane.<provider>`, the main queue of its lane.
    #[must_use]
    pub fn lane_queue(&self, provider: &ProviderName) -> String {
        self.section_queue(provider, Section::Main)
    }

    /// One of the queues of a provider's lane: `otp.lane.<provider>`, `.bulk` or `.later` behind it.
    #[must_use]
    pub fn section_queue(&self, provider: &ProviderName, section: Section) -> String {
        format!("{}lane.{provider}{}", self.prefix, section.suffix())
    }

    /// The key on [`Plan::lanes_exchange`] that leads to one of the queues of a lane.
    #[must_use]
    pub fn section_key(provider: &ProviderName, section: Section) -> String {
        format!("{provider}{}", section.suffix())
    }

    /// Whose lane a queue belongs to, where it is a lane's.
    #[must_use]
    pub fn provider_of(&self, queue: &str) -> Option<ProviderName> {
        let name = queue.strip_prefix(&self.prefix)?.strip_prefix("lane.")?;
        let provider = match name.split_once('.') {
            None | Some((_, "bulk" | "later")) => name.split('.').next()?,
            Some(_) => return None,
        };
        ProviderName::parse(provider).ok()
    }

    /// The lane of a provider.
    #[must_use]
    pub fn lane(&self, provider: &ProviderName) -> Option<&LanePlan> {
        self.lanes.iter().find(|lane| lane.provider == *provider)
    }
}

/// What an apply came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Counts what was applied, from 1; 0 where nobody counts (a file).
    pub generation: u64,
    /// Providers whose lanes are still there and no longer planned.
    pub to_retire: Vec<String>,
}

/// How the queue stands for a worker that is about to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was ever applied: the worker may.
    Empty,
    /// Everything that the worker's lanes need is there. What else differs from its plan is beside it.
    Ready(Vec<Difference>),
    /// Something that it needs is not there: somebody has to apply.
    Behind(Vec<Difference>),
}

/// A part of the broker's topology that is not as planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// It is not there.
    Missing {
        /// Such as `queue otp.lane.verihubs`.
        what: String,
    },
    /// It is there, but otherwise.
    Different {
        /// Such as `queue otp.lane.verihubs`.
        what: String,
        /// The broker's words: which argument, what it has, what was asked.
        how: String,
    },
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing { what } => write!(f, "{what} is missing"),
            Self::Different { what, how } => write!(f, "{what} differs: {how}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_known_by_its_name() {
        let plan = Plan::default();
        let verihubs = ProviderName::parse("verihubs").unwrap();
        for section in Section::ALL {
            let queue = plan.section_queue(&verihubs, section);
            assert_eq!(plan.provider_of(&queue), Some(verihubs.clone()), "{queue}");
        }
        for other in ["otp.dead", "otp.lane.", "otp.lane.verihubs.soon", "lane.verihubs", "otp.lane.a.b.bulk"]
        {
            assert_eq!(plan.provider_of(other), None, "{other}");
        }
    }

    #[test]
    fn no_name_can_be_mistaken_for_a_section_of_another() {
        for section in Section::ALL {
            let key = format!("verihubs{}", section.suffix());
            assert_eq!(ProviderName::parse(&key).is_ok(), section == Section::Main);
            assert_eq!(RouteName::parse(&key).is_ok(), section == Section::Main);
        }
    }
}
