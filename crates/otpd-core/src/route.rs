//! Routes: which providers a job may go through, in which order, and how long its code is of use.

use std::collections::HashMap;
use std::time::Duration;

use crate::names::{ProviderName, RouteName};

/// Who waits for the code: a person at a screen, or nobody in particular.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TrafficClass {
    /// Goes first.
    #[default]
    Interactive,
    /// Goes when no interactive job is ready.
    Bulk,
}

/// One route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name: the routing key.
    pub name: RouteName,
    /// The providers, first choice first; never empty, none twice.
    pub providers: Vec<ProviderName>,
    /// Validity of a code whose job names no `expires_at`.
    pub ttl: Duration,
    /// A job that would wait longer than this for a permit moves to the next provider with room.
    pub spill_after: Option<Duration>,
    /// A job that waited this long for its first attempt is dead.
    pub max_wait: Option<Duration>,
    /// A job not delivered by then is tried at the next provider.
    pub confirm_within: Option<Duration>,
    /// Who waits.
    pub class: TrafficClass,
}

/// The default validity of a code.
pub const DEFAULT_TTL: Duration = Duration::from_secs(300);

impl Route {
    /// The route that every provider is to itself.
    #[must_use]
    pub fn of_provider(provider: &ProviderName) -> Self {
        Self {
            name: RouteName::from(provider),
            providers: vec![provider.clone()],
            ttl: DEFAULT_TTL,
            spill_after: None,
            max_wait: None,
            confirm_within: None,
            class: TrafficClass::default(),
        }
    }

    /// The provider after `provider` on this route.
    #[must_use]
    pub fn after(&self, provider: &ProviderName) -> Option<&ProviderName> {
        let place = self.providers.iter().position(|p| p == provider)?;
        self.providers.get(place + 1)
    }

    /// How long the delivery of a job that `provider` accepted is awaited; `None` where nothing would follow.
    #[must_use]
    pub fn confirms_after(&self, provider: &ProviderName) -> Option<Duration> {
        self.confirm_within.filter(|_| self.after(provider).is_some())
    }

    /// How many providers come after `provider` on this route.
    #[must_use]
    pub fn left_after(&self, provider: &ProviderName) -> u32 {
        let place = self.providers.iter().position(|p| p == provider);
        let left = place.map_or(0, |p| self.providers.len() - p - 1);
        u32::try_from(left).unwrap_or(u32::MAX)
    }
}

/// All routes by name, each provider's own included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteTable {
    routes: HashMap<RouteName, Route>,
}

impl RouteTable {
    /// The named routes and, for each provider without one of its name, its own.
    #[must_use]
    pub fn new(
        providers: impl IntoIterator<Item = ProviderName>,
        named: impl IntoIterator<Item = Route>,
    ) -> Self {
        let own = providers.into_iter().map(|p| Route::of_provider(&p));
        Self { routes: own.chain(named).map(|r| (r.name.clone(), r)).collect() }
    }

    /// The route called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Route> {
        self.routes.get(name)
    }

    /// All routes, in the order of their names.
    #[must_use]
    pub fn all(&self) -> Vec<&Route> {
        let mut all: Vec<&Route> = self.routes.values().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}
