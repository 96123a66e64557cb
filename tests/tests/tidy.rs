//! The walls of the house, kept by a test: who may import whom, where a crate may be known at all,
//! and the shape of every file. ARCHITECTURE.md says why.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Each member's dependencies, those for tests and benches left out.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo metadata runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let normal = package["dependencies"].as_array().unwrap().iter().filter(|d| d["kind"].is_null());
            let names = normal.map(|d| d["name"].as_str().unwrap().to_owned()).collect();
            (package["name"].as_str().unwrap().to_owned(), names)
        })
        .collect()
}

#[test]
fn rooms_import_only_what_their_walls_allow() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("otpd-core", &[][..]),
        ("otpd-providers", &["otpd-core"][..]),
        ("otpd-queue", &["otpd-core"][..]),
        ("otpd-client", &["otpd-core"][..]),
        ("otpd-worker", &["otpd-core", "otpd-providers", "otpd-queue"][..]),
        ("otpd-gateway", &["otpd-core", "otpd-providers", "otpd-queue"][..]),
        ("otpd-sim", &["otpd-core", "otpd-client"][..]),
        (
            "otpd",
            &[
                "otpd-core",
                "otpd-providers",
                "otpd-queue",
                "otpd-client",
                "otpd-worker",
                "otpd-gateway",
                "otpd-sim",
            ][..],
        ),
        ("xtask", &[][..]),
    ]);
    for (room, needs) in dependencies() {
        let Some(may) = allowed.get(room.as_str()) else {
            assert!(matches!(room.as_str(), "otpd-tests" | "otpd-benches"), "a room without walls: {room}");
            continue;
        };
        for other in needs.iter().filter(|n| n.starts_with("otpd")) {
            assert!(may.contains(&other.as_str()), "{room} must not import {other}");
        }
    }
}

#[test]
fn a_crate_is_known_only_where_it_belongs() {
    let homes: [(&str, &[&str]); 9] = [
        ("lapin", &["otpd-queue", "otpd-client"]),
        ("rusqlite", &["otpd-queue"]),
        ("reqwest", &["otpd-providers", "otpd-sim"]),
        ("axum", &["otpd-sim", "otpd-gateway", "otpd"]),
        ("governor", &["otpd-core", "otpd-gateway"]),
        ("backoff", &["otpd-core"]),
        ("deadpool", &["otpd-client"]),
        ("opentelemetry", &["otpd-worker", "otpd"]),
        ("opentelemetry-otlp", &["otpd"]),
    ];
    let needs = dependencies();
    for (name, homes) in homes {
        for (room, needs) in &needs {
            let is_test = matches!(room.as_str(), "otpd-tests" | "otpd-benches");
            assert!(
                is_test || homes.contains(&room.as_str()) || !needs.contains(name),
                "{room} must not know {name}"
            );
        }
        assert!(homes.iter().any(|h| needs[*h].contains(name)), "nobody needs {name} any more: drop it");
    }
}

#[test]
fn the_core_is_pure() {
    for file in rust_files(&root().join("crates/otpd-core/src")) {
        let text = std::fs::read_to_string(&file).unwrap();
        for word in
            ["tokio", "SystemTime", "Instant::now", "std::fs", "std::net", "std::env", "rand::", "async fn"]
        {
            assert!(!text.contains(word), "{} speaks of {word}", file.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is_and_stays_short() {
    let mut files = rust_files(&root().join("crates"));
    files.extend(rust_files(&root().join("tests")));
    files.extend(rust_files(&root().join("benches")));
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//!"), "{} does not open with what it owns", file.display());
        let lines = text.lines().count();
        assert!(lines <= 450, "{} has {lines} lines", file.display());
    }
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|n| n != "target") {
                found.extend(rust_files(&path));
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}
