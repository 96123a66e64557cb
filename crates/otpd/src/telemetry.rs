//! Logs and traces of a process. Logs: for people on a terminal, as JSON elsewhere, to standard error, so
//! that what a command prints can be piped. Traces: see [`crate::traces`].

use std::fmt;
use std::io::IsTerminal;

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::{self, LogFormat};
use crate::traces;

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

/// What goes on telling until the process ends.
#[derive(Debug)]
pub struct Telemetry {
    level: LogLevel,
    spans: Spans,
}

impl Telemetry {
    /// How to change what is logged.
    #[must_use]
    pub fn level(&self) -> LogLevel {
        self.level.clone()
    }

    /// Sends the spans that were not sent yet; at most 3 s.
    pub async fn finish(self) {
        self.spans.finish().await;
    }
}

/// What exports spans, where anything does.
#[derive(Debug)]
pub struct Spans(Option<SdkTracerProvider>);

impl Spans {
    /// Sends those that were not sent yet; at most 3 s.
    pub async fn finish(self) {
        if let Some(provider) = self.0 {
            traces::finish(provider).await;
        }
    }
}

/// Starts logging with a filter such as `info` or `otpd_worker=debug,info`, and tracing where the config
/// or OpenTelemetry's variables name a collector.
///
/// # Errors
/// A sentence, where the filter cannot be read or the exporter cannot be made.
pub fn start(filter: &str, config: &config::Telemetry) -> Result<Telemetry, String> {
    let (filter, level) = reload::Layer::new(parse(filter)?);
    let spans = traces::provider(config)?;
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match (config.log_format, terminal) {
        (LogFormat::Text, _) | (LogFormat::Auto, true) => lines.with_ansi(terminal).boxed(),
        (LogFormat::Json, _) | (LogFormat::Auto, false) => lines.json().flatten_event(true).boxed(),
    };
    // The filter is that of the lines alone: what is exported does not depend on it.
    let logs = tracing_subscriber::registry().with(lines.with_filter(filter));
    logs.with(spans.as_ref().map(traces::layer)).try_init().map_err(|e| e.to_string())?;
    Ok(Telemetry { level: LogLevel(level), spans: Spans(spans) })
}

/// Starts only tracing, for a command that prints its own lines.
///
/// # Errors
/// A sentence, where the exporter cannot be made.
pub fn only_traces(config: &config::Telemetry) -> Result<Spans, String> {
    let spans = traces::provider(config)?;
    if let Some(provider) = &spans {
        let exported = traces::layer(provider);
        tracing_subscriber::registry().with(exported).try_init().map_err(|e| e.to_string())?;
    }
    Ok(Spans(spans))
}

/// Reads a filter.
///
/// # Errors
/// A sentence that says what to write instead.
pub fn parse(filter: &str) -> Result<EnvFilter, String> {
    // lapin logs a returned message with its body, code and all: that stays off whatever is asked for.
    // Spans that are exported are no log lines.
    let (off, spans) = ("lapin::returned_messages=off", otpd_worker::trace::TARGET);
    let directives = format!("lapin=off,{filter},{off},{spans}=off");
    EnvFilter::try_new(directives)
        .map_err(|e| format!("log level `{filter}` cannot be read ({e}); write for example OTPD_LOG=info"))
}
