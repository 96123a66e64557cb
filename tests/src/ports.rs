//! Ports for servers that cannot be asked to take any free one.
//!
//! A port that was free a moment ago may be taken by somebody else before it is used: by another test,
//! or by any connection that goes out, since the kernel gives those a port of the same range. So these
//! come from below that range, and each is claimed by a lock on a file for as long as this process lives.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

/// Below the ports that Linux gives to outgoing connections (32768 and more by default).
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// The locks on the files of the ports that this process has claimed.
static CLAIMED: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port that nobody listens on, and that no test gets until this process ends.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn claim_port() -> u16 {
    let folder = std::env::temp_dir().join("otpd-test-ports");
    std::fs::create_dir_all(&folder).expect("the temporary directory takes files");
    // Processes begin at different places, so that they rarely meet.
    let begin = u16::try_from(std::process::id() % u32::from(COUNT / 16)).unwrap_or(0) * 16;
    let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    for step in 0..COUNT {
        let port = FIRST + (begin + step) % COUNT;
        let path = folder.join(port.to_string());
        let Ok(file) = OpenOptions::new().create(true).append(true).open(path) else { continue };
        if file.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            claimed.push(file);
            return port;
        }
    }
    panic!("no port of {FIRST} to {} is free", FIRST + COUNT - 1);
}

#[cfg(test)]
mod tests {
    use super::claim_port;

    #[test]
    fn no_port_is_claimed_twice() {
        let mut ports: Vec<u16> = (0..50).map(|_| claim_port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 50);
    }
}
