//! Changing the topology: one writer at a time, and each route bound to exactly one lane at every moment.
//!
//! **How a route changes its lane in one step.** A direct exchange cannot swap a binding: bind the new
//! queue first, and for a moment every job goes to both and is sent twice; unbind the old one first, and
//! for a moment producers get their jobs back as unroutable. So the route is bound to its next queue at
//! `otp.routes` first, the alternate exchange of `otp.jobs`. The broker asks that only for a key that is
//! bound nowhere at `otp.jobs`, so nothing changes yet. Then the old binding at `otp.jobs` is removed,
//! which is one transaction: the moment it is gone, the other one leads. Then the next queue is bound at
//! `otp.jobs`, to which the same job goes as before. The binding at `otp.routes` stays, or a job whose
//! routing had looked at `otp.jobs` before that and looks at `otp.routes` after could find neither.
//! Each node of a cluster sees these steps in their order.
//!
//! **Crashes.** What is about to change is recorded first, so whoever comes next knows every queue to
//! which a route may be bound, and unbinds all but the planned one.
//!
//! **Workers** change nothing, but on a broker on which nothing was ever applied.

use std::collections::{BTreeMap, BTreeSet};

use super::desk::{Answer, Declare, Desk};
use super::link::Link;
use super::lock::Lock;
use super::nodes::Nodes;
use super::publisher::Publisher;
use super::record::{self, Record, State};
use super::topology::{self, Binding, Part};
use crate::error::QueueError;
use crate::plan::{Applied, Difference, Plan, Standing};
use crate::seam::{Proof, Section};

/// On which broker to apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// Whatever was applied to it before.
    AnyBroker,
    /// Only where nothing ever was.
    EmptyBroker,
}

/// Whoever applies.
pub(super) struct Writer<'a> {
    pub(super) plan: &'a Plan,
    pub(super) source: &'a str,
    pub(super) nodes: &'a Nodes,
}

impl Writer<'_> {
    /// Makes the broker as planned, if nothing there differs.
    ///
    /// # Errors
    /// [`QueueError::Topology`], [`QueueError::Away`], [`QueueError::Refused`].
    pub(super) async fn apply(&self, on: On) -> Result<Applied, QueueError> {
        let lock = Lock::take(self.source, self.nodes, self.plan).await?;
        let applied = self.apply_under(&lock, on).await;
        lock.release().await;
        applied
    }

    async fn apply_under(&self, lock: &Lock, on: On) -> Result<Applied, QueueError> {
        let plan = self.plan;
        let mut desk = Desk::new(lock.link());
        let parts = topology::parts(plan);
        if on == On::AnyBroker {
            let mut found = desk.compare_all(&parts).await?;
            found.retain(|difference| matches!(difference, Difference::Different { .. }));
            if !found.is_empty() {
                return Err(QueueError::Topology(found));
            }
        }
        let (record_parts, binding) = topology::record_parts(plan);
        let mut is_recorded = true;
        for part in &record_parts {
            is_recorded &= desk.has(part).await?;
        }
        declare(&mut desk, &record_parts).await?;
        desk.bind(&binding).await?;
        let mut publisher = Publisher::new(lock.link().clone(), Proof::default());
        let before =
            if is_recorded { record::last_for_sure(lock.link(), plan, &mut publisher).await? } else { None };
        if let (On::EmptyBroker, Some(before)) = (on, &before) {
            // Somebody was faster.
            return Ok(Applied { generation: before.generation, to_retire: Vec::new() });
        }
        let after = Record::of(plan, self.source, before.as_ref());
        let is_new = !before.as_ref().is_some_and(|before| before.says_the_same_as(&after));
        if is_new {
            after.begun(before.as_ref()).publish(plan, &mut publisher).await?;
        }
        let there = if before.is_some() { BTreeSet::new() } else { lanes_there(&mut desk, plan).await? };
        declare(&mut desk, &parts).await?;
        for binding in topology::fixed_bindings(plan) {
            desk.bind(&binding).await?;
        }
        desk.unbind(&topology::former_events_binding(plan)).await?;
        let planned = topology::routes(plan);
        for (route, led) in led(&planned, before.as_ref(), &there) {
            lock.still_held()?;
            lead(&mut desk, plan, &route, &led, planned.get(&route)).await?;
        }
        lock.still_held()?;
        if is_new {
            after.publish(plan, &mut publisher).await?;
        }
        let generation = if is_new { after.generation } else { before.map_or(1, |before| before.generation) };
        Ok(Applied { generation, to_retire: after.to_retire.into_iter().collect() })
    }
}

/// Declares all of them. Nobody else holds the lock, so what differs now was made by hand.
async fn declare(desk: &mut Desk, parts: &[Part]) -> Result<(), QueueError> {
    for part in parts {
        match desk.declare(part, Declare::AsPlanned).await? {
            Answer::Fine => {}
            Answer::Missing | Answer::Different(_) => {
                return Err(QueueError::Topology(desk.compare(part).await?.into_iter().collect()));
            }
        }
    }
    Ok(())
}

/// The keys of the planned lanes that are there already.
async fn lanes_there(desk: &mut Desk, plan: &Plan) -> Result<BTreeSet<String>, QueueError> {
    let mut there = BTreeSet::new();
    for lane in &plan.lanes {
        for section in [Section::Main, Section::Bulk] {
            if desk.count(&plan.section_queue(&lane.provider, section)).await?.is_some() {
                there.insert(Plan::section_key(&lane.provider, section));
            }
        }
    }
    Ok(there)
}

/// Every route of before and after, with the keys of all queues to which it may be bound now. Where nothing
/// is recorded (applied by hand, or by an otpd that recorded nothing) that is any lane that is there.
fn led(
    planned: &BTreeMap<String, String>,
    before: Option<&Record>,
    there: &BTreeSet<String>,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut led = before.map(|before| before.routes.clone()).unwrap_or_default();
    for route in planned.keys() {
        led.entry(route.clone()).or_insert_with(|| there.clone());
    }
    led
}

/// Leads a route from wherever it leads to where it is planned, or nowhere.
pub(super) async fn lead(
    desk: &mut Desk,
    plan: &Plan,
    route: &str,
    led: &BTreeSet<String>,
    planned: Option<&String>,
) -> Result<(), QueueError> {
    let binding = |exchange: String, key: &str| Binding {
        exchange,
        key: route.to_owned(),
        queue: topology::queue_of(plan, key),
    };
    let former: Vec<&String> = led.iter().filter(|key| Some(*key) != planned).collect();
    for key in &former {
        desk.unbind(&binding(plan.routes_exchange(), key)).await?;
    }
    if let Some(key) = planned {
        desk.bind(&binding(plan.routes_exchange(), key)).await?;
    }
    for key in &former {
        desk.unbind(&binding(plan.jobs_exchange(), key)).await?;
    }
    if let Some(key) = planned {
        desk.bind(&binding(plan.jobs_exchange(), key)).await?;
    }
    Ok(())
}

/// Compares the broker with the plan, arguments included; needs the right to configure.
///
/// # Errors
/// [`QueueError::Away`], [`QueueError::Refused`].
pub(super) async fn check(link: &Link, plan: &Plan) -> Result<Vec<Difference>, QueueError> {
    let mut desk = Desk::new(link);
    let mut differences = desk.compare_all(&topology::parts(plan)).await?;
    let (record_parts, _) = topology::record_parts(plan);
    for part in &record_parts {
        if !desk.has(part).await? {
            return Ok(differences);
        }
    }
    match record::last(link, plan).await? {
        Some(record) => differences.extend(record.differences(plan)),
        None => differences.push(no_record()),
    }
    Ok(differences)
}

fn no_record() -> Difference {
    Difference::Missing { what: "the record of what was applied".to_owned() }
}

/// How the broker stands for a worker of this plan, without any right to configure.
///
/// # Errors
/// [`QueueError::Away`], [`QueueError::Refused`].
pub(super) async fn standing(link: &Link, plan: &Plan) -> Result<Standing, QueueError> {
    let mut desk = Desk::new(link);
    let mut missing = Vec::new();
    let (mut any_lane, mut recorded) = (false, true);
    let (record_parts, _) = topology::record_parts(plan);
    for part in topology::parts(plan) {
        let is_record = record_parts.contains(&part);
        let is_lane = matches!(&part, Part::Queue { name, .. } if plan.provider_of(name).is_some());
        if desk.has(&part).await? {
            any_lane |= is_lane;
        } else {
            recorded &= !is_record;
            missing.push(Difference::Missing { what: part.what() });
        }
    }
    let record = if recorded { record::last(link, plan).await? } else { None };
    let Some(record) = record else {
        if !any_lane {
            return Ok(Standing::Empty);
        }
        missing.push(no_record());
        return Ok(Standing::Behind(missing));
    };
    for lane in plan.lanes.iter().filter(|lane| !record.has_lane(&lane.provider, lane.owners)) {
        let how = format!("was not applied with owners = \"{}\"", lane.owners.as_str());
        missing.push(Difference::Different { what: format!("lane {}", lane.provider), how });
    }
    let mut others = record.differences(plan);
    if record.state == State::Applying {
        // The first of them says so. Its queues may not be there, or its routes not lead anywhere yet.
        missing.push(others.remove(0));
    }
    Ok(if missing.is_empty() { Standing::Ready(others) } else { Standing::Behind(missing) })
}
