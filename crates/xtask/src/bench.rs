//! `cargo xtask bench`: runs all benchmarks and compares them with the committed baseline, by name.
//!
//! The baseline is a list of medians in nanoseconds, from one machine on one day; what it is good for is
//! to see what a change did when old and new are run on the same quiet machine: `--save` before, compare
//! after. Machines are noisy, so only a median that is [`WORSE`] times the baseline's fails.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::run::{cargo, run};

const BASELINE: &str = "benches/baseline.tsv";
const RESULTS: &str = "target/criterion";
/// How many times slower than the baseline is a failure.
const WORSE: f64 = 1.5;

type Medians = BTreeMap<String, f64>;

/// Runs the benchmarks whose names contain `filter`, then compares, or writes the baseline anew.
pub(crate) fn bench(arguments: &[String]) -> Result<(), String> {
    let save = arguments.iter().any(|a| a == "--save");
    let only_compare = arguments.iter().any(|a| a == "--compare-only");
    let filter: Vec<&String> = arguments.iter().filter(|a| !a.starts_with("--")).collect();
    if !only_compare {
        run(cargo().args(["bench", "--locked", "-p", "otpd-benches", "--"]).args(filter))?;
    }
    let measured = results(Path::new(RESULTS))?;
    if measured.is_empty() {
        return Err(format!("{RESULTS} holds no results; run `cargo xtask bench` without --compare-only"));
    }
    let before = baseline()?;
    let worse = compare(&before, &measured);
    if save {
        let merged: Medians = before.into_iter().chain(measured).collect();
        let lines: String = merged.iter().map(|(name, ns)| format!("{name}\t{ns:.1}\n")).collect();
        fs::write(BASELINE, lines).map_err(|e| format!("{BASELINE} cannot be written: {e}"))?;
        println!("written to {BASELINE}");
        return Ok(());
    }
    if worse.is_empty() {
        Ok(())
    } else {
        Err(format!("slower than {WORSE} x the baseline: {}", worse.join(", ")))
    }
}

/// Prints a line a benchmark; gives the names of those that are much slower.
fn compare(before: &Medians, measured: &Medians) -> Vec<String> {
    let mut worse = Vec::new();
    println!("{:<48} {:>14} {:>14} {:>7}", "benchmark", "baseline ns", "now ns", "ratio");
    for (name, now) in measured {
        match before.get(name) {
            Some(old) => {
                let ratio = now / old;
                println!("{name:<48} {old:>14.1} {now:>14.1} {ratio:>7.2}");
                if ratio > WORSE {
                    worse.push(name.clone());
                }
            }
            None => println!("{name:<48} {:>14} {now:>14.1} {:>7}", "-", "new"),
        }
    }
    worse
}

fn baseline() -> Result<Medians, String> {
    let text = match fs::read_to_string(BASELINE) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(format!("{BASELINE} cannot be read: {e}")),
    };
    let line = |line: &str| {
        let (name, ns) = line.split_once('\t')?;
        Some((name.to_owned(), ns.parse().ok()?))
    };
    text.lines()
        .map(|l| line(l).ok_or_else(|| format!("{BASELINE}: not NAME<tab>NANOSECONDS: {l}")))
        .collect()
}

/// The medians that criterion left behind: `.../<name>/new/estimates.json`.
fn results(dir: &Path) -> Result<Medians, String> {
    let mut found = Medians::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        for path in entries.filter_map(Result::ok).map(|e| e.path()).filter(|p| p.is_dir()) {
            if path.file_name().is_some_and(|n| n == "new") {
                if let (Some(name), Some(ns)) = (name(&path), median(&path)) {
                    found.insert(name, ns);
                }
            } else {
                folders.push(path);
            }
        }
    }
    Ok(found)
}

fn name(new: &Path) -> Option<String> {
    field(&fs::read_to_string(new.join("benchmark.json")).ok()?, "full_id", "")
}

fn median(new: &Path) -> Option<f64> {
    field(&fs::read_to_string(new.join("estimates.json")).ok()?, "median", "point_estimate")?.parse().ok()
}

/// The text of `key`, or of `inner` within it, in criterion's own flat JSON.
fn field(json: &str, key: &str, inner: &str) -> Option<String> {
    let mut rest = json.split_once(&format!("\"{key}\":"))?.1;
    if !inner.is_empty() {
        rest = rest.split_once(&format!("\"{inner}\":"))?.1;
    }
    match rest.strip_prefix('"') {
        Some(text) => text.split_once('"').map(|(text, _)| text.to_owned()),
        None => rest.split([',', '}']).next().map(str::to_owned),
    }
}
