//! What the queue must look like for a config: pure data, made once from providers and routes, used
//! to declare it, to compare with it, and to bind.

use std::time::Duration;

use otpd_core::{ProviderName, RouteName};

/// The lane of one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanePlan {
    /// Whose lane.
    pub provider: ProviderName,
    /// Whether exactly one worker may own it (the provider has a ceiling).
    pub single_owner: bool,
    /// The routes whose first provider this is: the keys bound to the lane.
    pub routes: Vec<RouteName>,
}

/// The whole topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What every name begins with: `otp.` unless configured otherwise.
    pub prefix: String,
    /// One lane a provider.
    pub lanes: Vec<LanePlan>,
    /// How long dead letters are kept, 1 s to 3650 days.
    pub dead_retention: Duration,
    /// How long facts are kept (24 h).
    pub events_retention: Duration,
}

/// How often a job may be delivered without being settled before the broker buries it.
pub const DELIVERY_LIMIT: u32 = 20;

impl Plan {
    /// `otp.jobs`: where producers publish.
    #[must_use]
    pub fn jobs_exchange(&self) -> String {
        format!("{}jobs", self.prefix)
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

    /// `otp.events`: exchange and stream.
    #[must_use]
    pub fn events(&self) -> String {
        format!("{}events", self.prefix)
    }

    /// True if at most one worker at a time may own the lane of `provider`.
    #[must_use]
    pub fn has_single_owner(&self, provider: &ProviderName) -> bool {
        self.lanes.iter().all(|lane| lane.provider != *provider || lane.single_owner)
    }

    /// `otp.lane.<provider>`.
    #[must_use]
    pub fn lane_queue(&self, provider: &ProviderName) -> String {
        format!("{}lane.{provider}", self.prefix)
    }
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
