//! Other settings for lanes that run. A lane is told everything it goes by as one value and takes it
//! over between two turns of its loop, so no decision is ever made half by the old settings and half
//! by the new ones.
//!
//! What is under way ends as it began: a request keeps its transport and its route. Jobs that wait get
//! their route as it is now, and keep their place and their expiry. What the ceiling has counted stays
//! counted ([`otpd_core::Ceiling::reconfigure`]). The prefetch stays what it was when the lane was opened: it
//! bounds how much of the backlog the lane sees, and a ceiling needs no more than that to be used.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use otpd_core::{Pace, ProviderName, Rate, RetryPolicy, Route, RouteTable};
use tokio::sync::watch;

use crate::dispatch::Lane;
use crate::endpoint::Endpoint;
use crate::memory::Memory;
use crate::settings::{LaneSettings, Shared};

/// Everything a running lane may be told anew.
#[derive(Debug)]
pub struct Orders<E> {
    /// Its own settings. Whether there is a ceiling at all must stay as it is: its queue has one owner
    /// or many accordingly.
    pub settings: LaneSettings,
    /// All routes.
    pub routes: Arc<RouteTable>,
    /// When to retry.
    pub retry: RetryPolicy,
    /// Whether dead letters keep the code.
    pub keep_code: bool,
    /// How long requests under way may take to end once the lane drains.
    pub grace: Duration,
    /// The provider: the same as before, or another way to it, which is tried at once.
    pub endpoint: Arc<E>,
}

type Latest<E> = Option<Arc<Orders<E>>>;

/// The latest orders of one lane; none before the first change.
pub type Inbox<E> = watch::Receiver<Latest<E>>;

/// Gives orders to the running lanes of a worker.
#[derive(Debug)]
pub struct Steering<E> {
    lanes: Vec<(ProviderName, watch::Sender<Latest<E>>)>,
    memory: Arc<Memory>,
}

impl<E: Endpoint> Steering<E> {
    /// Of lanes that share this; none yet.
    #[must_use]
    pub fn new(shared: &Shared) -> Self {
        Self { lanes: Vec::new(), memory: shared.memory.clone() }
    }

    /// Where the lane of `provider` gets its orders from.
    pub fn lane(&mut self, provider: ProviderName) -> Inbox<E> {
        let (orders, inbox) = watch::channel(None);
        self.lanes.push((provider, orders));
        inbox
    }

    /// Tells every lane its orders, and all of them what a recipient may get. A lane without orders
    /// goes on as before.
    pub fn tell(&self, orders: Vec<Orders<E>>, recipient_limits: Vec<Rate>) {
        self.memory.with(|memory| memory.recipients.set_limits(recipient_limits));
        for orders in orders {
            if let Some((_, lane)) = self.lanes.iter().find(|(name, _)| *name == orders.settings.provider) {
                lane.send_replace(Some(Arc::new(orders)));
            }
        }
    }
}

/// Waits for orders; for ever where none can come any more. Cancel-safe.
pub(crate) async fn next<E>(inbox: &mut Option<Inbox<E>>) -> Arc<Orders<E>> {
    while let Some(open) = inbox {
        if open.changed().await.is_err() {
            *inbox = None;
        } else if let Some(orders) = open.borrow_and_update().clone() {
            return orders;
        }
    }
    std::future::pending().await
}

/// The routes by name, and the one for jobs whose own is not known.
pub(crate) fn routes_of(
    table: &RouteTable,
    provider: &ProviderName,
) -> (HashMap<String, Arc<Route>>, Arc<Route>) {
    let routes: HashMap<String, Arc<Route>> =
        table.all().into_iter().map(|r| (r.name.to_string(), Arc::new(r.clone()))).collect();
    let own = routes.get(provider.as_str()).filter(|r| r.providers.contains(provider)).cloned();
    (routes, own.unwrap_or_else(|| Arc::new(Route::of_provider(provider))))
}

impl<E: Endpoint> Lane<E> {
    /// Goes by these orders from now on.
    pub(crate) fn reconfigure(&mut self, orders: &Orders<E>) {
        let now = self.clock.mono();
        let Orders { settings, routes, retry, keep_code, grace: _, endpoint } = orders;
        if (&settings.ceiling, settings.burst) != (&self.settings.ceiling, self.settings.burst) {
            self.ceiling.reconfigure(&settings.ceiling, settings.burst, now);
            self.pace = Pace::default();
            self.shared.memory.set_ceiling(&settings.provider, &settings.ceiling);
            self.show_ceiling();
        }
        if !Arc::ptr_eq(endpoint, &self.endpoint) {
            self.endpoint = endpoint.clone();
            self.breaker.probe_now(now);
        }
        self.settings = settings.clone();
        (self.shared.retry, self.shared.keep_code) = (*retry, *keep_code);
        if self.shared.routes != *routes {
            self.shared.routes = routes.clone();
            self.reroute();
        }
    }

    /// The route of a job as it is now.
    pub(crate) fn route_now(&self, route: &Route) -> Arc<Route> {
        let named = self.routes.get(route.name.as_str());
        let named = named.filter(|route| route.providers.contains(&self.settings.provider));
        named.unwrap_or(&self.own_route).clone()
    }

    /// Waiting jobs go by the routes as they are now; a way out of a closed account is taken.
    fn reroute(&mut self) {
        (self.routes, self.own_route) = routes_of(&self.shared.routes, &self.settings.provider);
        let (routes, own, provider) = (&self.routes, &self.own_route, &self.settings.provider);
        self.room.reroute(|held| {
            let named = routes.get(held.route.name.as_str()).filter(|r| r.providers.contains(provider));
            Some(named.unwrap_or(own).clone())
        });
        if let Some(reason) = self.breaker.open_reason() {
            self.move_on(reason);
        }
        self.reroute_awaiting();
    }
}
