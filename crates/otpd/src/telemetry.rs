//! Logs and traces of a process. Logs: for people on a terminal, as JSON elsewhere, to standard error, so
//! that what a command prints can be piped. Traces: see [`crate::traces`].

use std::fmt;
use std::io::IsTerminal;

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Dispatch;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::{self, LogFormat};
use crate::traces;

/// What writes log lines.
type Lines = Box<dyn Layer<Registry> + Send + Sync>;

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
    subscriber(lines, filter, spans.as_ref()).try_init().map_err(|e| e.to_string())?;
    Ok(Telemetry { level: LogLevel(level), spans: Spans(spans) })
}

/// What listens to events and spans. Where nothing is exported no layer stands for that, not even an absent one:
/// it would be asked for every span and want it, which costs a tenth of a job's CPU.
fn subscriber(
    lines: Lines,
    filter: reload::Layer<EnvFilter, Registry>,
    spans: Option<&SdkTracerProvider>,
) -> Dispatch {
    // The filter is that of the lines alone: what is exported does not depend on it.
    let logs = tracing_subscriber::registry().with(lines.with_filter(filter));
    match spans {
        Some(spans) => logs.with(traces::layer(spans)).into(),
        None => logs.into(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn is_a_span_made(spans: Option<&SdkTracerProvider>) -> bool {
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::sink).boxed();
        let (filter, _level) = reload::Layer::new(parse("info").unwrap());
        tracing::dispatcher::with_default(&subscriber(lines, filter, spans), || {
            !tracing::info_span!(target: otpd_worker::trace::TARGET, "process").is_disabled()
        })
    }

    #[test]
    fn a_span_is_made_only_where_it_is_exported() {
        assert!(!is_a_span_made(None));
        assert!(is_a_span_made(Some(&SdkTracerProvider::builder().build())));
        assert!(!is_a_span_made(None));
    }
}
