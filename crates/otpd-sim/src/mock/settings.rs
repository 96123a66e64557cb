//! How an account behaves: what a [`Control`] changes, and an account starts with.

use otpd_core::Rate;

use super::callbacks::settings::Calling;
use super::control::{Balance, Control};
use super::fault::FaultPlan;
use super::latency::Latency;

/// How a request proves whose it is.
#[derive(Clone, Copy)]
pub(crate) enum Proof<'a> {
    /// With this; it is compared with the account's, where that has one.
    Secret(&'a str),
    /// By a session that was checked before.
    Session,
    /// Not at all.
    Nothing,
}

/// What an account is like; the part of it that a [`Control`] changes.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    pub(super) secret: Option<String>,
    pub(super) ceilings: Vec<Rate>,
    pub(super) balance: Balance,
    pub(super) latency: Latency,
    pub(super) faults: Option<FaultPlan>,
    /// `None`: messages are sent, and nothing more is known of them.
    pub(super) calling: Option<Calling>,
}

impl Settings {
    pub(crate) fn change(&mut self, control: &Control) {
        let Control { secret, ceilings, balance, latency, faults, callbacks, .. } = control;
        if let Some(callbacks) = callbacks {
            self.calling.get_or_insert_default().change(callbacks);
        }
        if let Some(secret) = secret {
            self.secret = Some(secret.clone());
        }
        if let Some(ceilings) = ceilings {
            self.ceilings.clone_from(ceilings);
        }
        self.balance = balance.unwrap_or(self.balance);
        self.latency = latency.unwrap_or(self.latency);
        if let Some(faults) = faults {
            self.faults = Some(faults.clone());
        }
    }

    /// Whether a request with this proof comes from the account.
    pub(super) fn is_proven(&self, proof: Proof<'_>) -> bool {
        match proof {
            Proof::Secret(secret) => self.secret.as_ref().is_none_or(|own| own == secret),
            Proof::Session => true,
            Proof::Nothing => false,
        }
    }
}
