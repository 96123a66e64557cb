//! Who works on the file: one process, and in it one lane a provider.
//!
//! A ceiling is kept by the process that owns the lane, so two of them must never run on one file.
//! The mark is a lock of the operating system on `<file>.lock`: it is gone with the process, however
//! that ends, so nobody ever has to clean up. Processes that only send or look do not need it.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use otpd_core::ProviderName;

use super::file::unusable;
use crate::error::QueueError;

/// What this process owns of the file.
#[derive(Debug, Default)]
pub(super) struct Ownership(Mutex<Owned>);

#[derive(Debug, Default)]
struct Owned {
    /// Held from the first lane until the queue is closed: as long as a settlement may still come.
    lock: Option<File>,
    lanes: HashSet<ProviderName>,
}

impl Ownership {
    /// Takes the lane of `provider`, and with the first one the file.
    ///
    /// # Errors
    /// [`QueueError::Owned`] where another process (or another handle) has the file;
    /// [`QueueError::File`] where this handle has that lane open already, or the lock cannot be made.
    pub(super) fn take(&self, path: &Path, provider: &ProviderName) -> Result<(), QueueError> {
        let mut owned = self.owned();
        if owned.lanes.contains(provider) {
            return Err(unusable(path, format!("the lane of {provider} is open already")));
        }
        if owned.lock.is_none() {
            owned.lock = Some(lock(path)?);
        }
        owned.lanes.insert(provider.clone());
        Ok(())
    }

    /// Gives up one lane; the file stays owned.
    pub(super) fn leave(&self, provider: &ProviderName) {
        self.owned().lanes.remove(provider);
    }

    /// Gives up the file.
    pub(super) fn release(&self) {
        *self.owned() = Owned::default();
    }

    fn owned(&self) -> MutexGuard<'_, Owned> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock(path: &Path) -> Result<File, QueueError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(|e| unusable(path, format!("its lock {} cannot be made: {e}", name.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(QueueError::Owned { path: path.display().to_string() }),
        Err(TryLockError::Error(e)) => Err(unusable(path, format!("cannot be locked: {e}"))),
    }
}
