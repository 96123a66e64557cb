//! Logs: for people on a terminal, as JSON elsewhere. To standard error, so that what a command
//! prints can be piped.

use std::fmt;
use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::LogFormat;

/// What is logged, while the process runs.
#[derive(Clone)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogLevel")
    }
}

impl LogLevel {
    /// Logs by another filter from now on.
    ///
    /// # Errors
    /// A sentence, where the filter cannot be read; then nothing changes.
    pub fn set(&self, filter: &str) -> Result<(), String> {
        self.0.reload(parse(filter)?).map_err(|e| e.to_string())
    }
}

/// Starts logging with a filter such as `info` or `otpd_worker=debug,info`.
///
/// # Errors
/// A sentence, where the filter cannot be read.
pub fn start(filter: &str, format: LogFormat) -> Result<LogLevel, String> {
    let (filter, level) = reload::Layer::new(parse(filter)?);
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match (format, terminal) {
        (LogFormat::Text, _) | (LogFormat::Auto, true) => lines.with_ansi(terminal).boxed(),
        (LogFormat::Json, _) | (LogFormat::Auto, false) => lines.json().flatten_event(true).boxed(),
    };
    let started = tracing_subscriber::registry().with(filter).with(lines).try_init();
    started.map_err(|e| e.to_string())?;
    Ok(LogLevel(level))
}

/// Reads a filter.
///
/// # Errors
/// A sentence that says what to write instead.
pub fn parse(filter: &str) -> Result<EnvFilter, String> {
    // lapin logs a returned message with its body, code and all: that stays off whatever is asked for.
    let directives = format!("lapin=off,{filter},lapin::returned_messages=off");
    EnvFilter::try_new(directives)
        .map_err(|e| format!("log level `{filter}` cannot be read ({e}); write for example OTPD_LOG=info"))
}
