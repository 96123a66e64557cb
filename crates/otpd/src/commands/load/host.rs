//! What the run cost this machine, and the command line as it may be shown: without secrets.

use std::time::Duration;

/// The clock ticks of Linux's `/proc`, in which it counts CPU time: always 100 a second.
const TICKS: f64 = 100.0;

/// Seconds of CPU time that this process has used; `None` where the system does not tell.
pub(super) fn cpu_seconds() -> Option<f64> {
    cpu_of(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

fn cpu_of(stat: &str) -> Option<f64> {
    // The command's name, in parentheses, may hold anything; user and system time are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}

/// The most memory that this process ever had, in MiB; `None` where the system does not tell.
pub(super) fn peak_memory_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some((kib / 102.4).round() / 10.0)
}

/// The cores that this process may use.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Cores' worth of CPU: `used` seconds within `during`.
pub(super) fn cores_used(used: f64, during: Duration) -> f64 {
    (used / during.as_secs_f64().max(0.001) * 100.0).round() / 100.0
}

/// The command line, with `***` for the values of `--set` and for whatever stands before an `@` in a URL.
pub(super) fn command_line(arguments: impl Iterator<Item = String>) -> String {
    let mut shown = Vec::new();
    let mut is_set = false;
    for (place, argument) in arguments.enumerate() {
        let argument = match argument.strip_prefix("--set=") {
            _ if place == 0 => "otpd".to_owned(),
            Some(set) => format!("--set={}", without_value(set)),
            None if is_set => without_value(&argument),
            None => without_credentials(&argument),
        };
        is_set = argument == "--set";
        shown.push(quoted(&argument));
    }
    shown.join(" ")
}

fn without_value(set: &str) -> String {
    set.split_once('=').map_or_else(|| "***".to_owned(), |(path, _)| format!("{path}=***"))
}

fn without_credentials(argument: &str) -> String {
    match argument.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}://***@{host}"),
            None => argument.to_owned(),
        },
        None => argument.to_owned(),
    }
}

fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+*".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_keeps_its_secrets() {
        for (line, shown) in [
            (&["/usr/bin/otpd", "load", "--rate", "100/s"][..], "otpd load --rate 100/s"),
            (
                &["otpd", "load", "--set", "providers.a.api_key=\"s3cret\"", "--rate", "5"],
                "otpd load --set providers.a.api_key=*** --rate 5",
            ),
            (&["otpd", "load", "--set=broker.url=amqp://u:s3cret@h"], "otpd load --set=broker.url=***"),
            (&["otpd", "--set", "s3cret"], "otpd --set ***"),
            (&["otpd", "--mock", "http://u:s3cret@h:1"], "otpd --mock http://***@h:1"),
            (&["otpd", "--objective", "p99 total <= 2s"], "otpd --objective 'p99 total <= 2s'"),
        ] {
            assert_eq!(command_line(line.iter().map(ToString::to_string)), shown);
        }
    }

    #[test]
    fn the_cpu_time_of_a_process_with_an_odd_name() {
        let stat = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
        assert_eq!(cpu_of(stat), Some(3.0));
        assert_eq!(cpu_of("nonsense"), None);
    }
}
