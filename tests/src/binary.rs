//! Finds the `otpd` binary for tests that start processes. It belongs to another package, so cargo
//! does not hand it over: `cargo xtask test` builds it first.

use std::path::PathBuf;

/// The binary: `OTPD_BIN`, or else the one beside this test in the target directory.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn otpd_bin() -> PathBuf {
    if let Some(path) = std::env::var_os("OTPD_BIN") {
        return path.into();
    }
    // target/<profile>/deps/<test>
    let test = std::env::current_exe().expect("a test knows its own path");
    let path = test.parent().and_then(|deps| deps.parent()).expect("deps has a parent").join("otpd");
    assert!(
        path.is_file(),
        "{} is not there; run the tests with `cargo xtask test`, which builds it, or set OTPD_BIN",
        path.display()
    );
    path
}
