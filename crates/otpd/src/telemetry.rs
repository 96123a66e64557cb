//! Logs: for people on a terminal, as JSON elsewhere. To standard error, so that what a command
//! prints can be piped.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Starts logging with a filter such as `info` or `otpd_worker=debug,info`.
///
/// # Errors
/// A sentence, where the filter cannot be read.
pub fn start(filter: &str, format: LogFormat) -> Result<(), String> {
    // lapin logs a returned message with its body, code and all: that stays off whatever is asked for.
    let directives = format!("lapin=off,{filter},lapin::returned_messages=off");
    let filter = EnvFilter::try_new(directives)
        .map_err(|e| format!("log level `{filter}` cannot be read ({e}); write for example OTPD_LOG=info"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let terminal = std::io::stderr().is_terminal();
    let started = match (format, terminal) {
        (LogFormat::Text, _) | (LogFormat::Auto, true) => lines.with_ansi(terminal).try_init(),
        (LogFormat::Json, _) | (LogFormat::Auto, false) => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|e| e.to_string())
}
