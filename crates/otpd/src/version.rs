//! What this binary was built from and with. Nothing here changes with the time or the place of the build,
//! so that the same commit, compiler and flags give the same bytes.

/// The version of the workspace, such as `0.1.0`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The git commit: `OTPD_REVISION` at build time, else the one checked out, else `unknown`.
pub const REVISION: &str = env!("OTPD_BUILD_REVISION");
/// The compiler, as `rustc --version` says it.
pub const COMPILER: &str = env!("OTPD_BUILD_COMPILER");
/// The target, such as `x86_64-unknown-linux-musl`.
pub const TARGET: &str = env!("OTPD_BUILD_TARGET");
/// All of it: what `otpd --version` prints after the name.
pub const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\nrevision: ",
    env!("OTPD_BUILD_REVISION"),
    "\ncompiler: ",
    env!("OTPD_BUILD_COMPILER"),
    "\ntarget:   ",
    env!("OTPD_BUILD_TARGET"),
);
