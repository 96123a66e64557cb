//! Logs and traces of a process. Logs: for people on a terminal, as JSON elsewhere, to standard error, so
//! that what a command prints can be piped. Traces: see [`crate::traces`].

use std::io::IsTerminal;

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{self, LogFormat};
use crate::traces;

/// What goes on telling until the process ends.
#[derive(Debug, Default)]
pub struct Telemetry {
    spans: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sends what was not sent yet; at most 3 s.
    pub async fn finish(self) {
        if let Some(provider) = self.spans {
            traces::finish(provider).await;
        }
    }

    /// Whether spans are exported.
    #[must_use]
    pub const fn traces(&self) -> bool {
        self.spans.is_some()
    }
}

/// Starts logging with a filter such as `info` or `otpd_worker=debug,info`, and tracing where the config
/// or OpenTelemetry's variables name a collector.
///
/// # Errors
/// A sentence, where the filter cannot be read or the exporter cannot be made.
pub fn start(filter: &str, config: &config::Telemetry) -> Result<Telemetry, String> {
    let filter = log_filter(filter)?;
    let spans = traces::provider(config)?;
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let logs = match (config.log_format, terminal) {
        (LogFormat::Text, _) | (LogFormat::Auto, true) => lines.with_ansi(terminal).boxed(),
        (LogFormat::Json, _) | (LogFormat::Auto, false) => lines.json().flatten_event(true).boxed(),
    };
    let exported = spans.as_ref().map(traces::layer);
    tracing_subscriber::registry()
        .with(logs.with_filter(filter))
        .with(exported)
        .try_init()
        .map_err(|e| e.to_string())?;
    Ok(Telemetry { spans })
}

/// Starts only tracing, for a command that prints its own lines.
///
/// # Errors
/// A sentence, where the exporter cannot be made.
pub fn only_traces(config: &config::Telemetry) -> Result<Telemetry, String> {
    let spans = traces::provider(config)?;
    if let Some(provider) = &spans {
        let exported = traces::layer(provider);
        tracing_subscriber::registry().with(exported).try_init().map_err(|e| e.to_string())?;
    }
    Ok(Telemetry { spans })
}

fn log_filter(filter: &str) -> Result<EnvFilter, String> {
    // lapin logs a returned message with its body, code and all: that stays off whatever is asked for.
    // Spans that are exported are no log lines.
    let directives =
        format!("lapin=off,{filter},lapin::returned_messages=off,{}=off", otpd_worker::trace::TARGET);
    EnvFilter::try_new(directives)
        .map_err(|e| format!("log level `{filter}` cannot be read ({e}); write for example OTPD_LOG=info"))
}
