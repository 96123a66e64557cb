//! All that is printed. Tables are plain columns, so that `grep` and `awk` are at home in them;
//! `--json` prints the same as JSON. Results go to standard output, everything else to standard error.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// Prints a line.
///
/// # Errors
/// Where standard output cannot be written to.
pub fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Prints a text that ends its own lines.
///
/// # Errors
/// As [`line()`].
pub fn text(text: &str) -> io::Result<()> {
    line(text.strip_suffix('\n').unwrap_or(text))
}

/// Prints pretty JSON.
///
/// # Errors
/// As [`line()`], and where `value` cannot be JSON.
pub fn json(value: &impl Serialize) -> io::Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Prints JSON on one line: an entry of a sequence that grows.
///
/// # Errors
/// As [`json`].
pub fn json_line(value: &impl Serialize) -> io::Result<()> {
    line(&serde_json::to_string(value)?)
}

/// Prints columns under their names.
///
/// # Errors
/// As [`line()`].
pub fn table<const N: usize>(
    columns: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.map(str::to_uppercase));
    for row in rows {
        table.add_row(row);
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim().to_owned()).collect();
    line(&lines.join("\n"))
}

/// Says something that is no result.
pub fn note(text: &str) {
    let mut out = io::stderr().lock();
    // There is nobody left to tell that telling failed.
    let _ = writeln!(out, "{text}");
}

/// What stands in a column that has nothing to say.
#[must_use]
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
