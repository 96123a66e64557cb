//! The image and the Compose file as they are written: linted, and held to what they promise. Nothing is
//! built and nothing is started here; deploy/docker/README.md says how the image itself is checked.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use otpd_tests::otpd_bin;
use serde_json::{Map, Value};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Runs a tool of `cargo xtask setup`, or else of this machine, in the root of the repository.
fn tool(name: &str, arguments: &[&str]) -> Output {
    let own = root().join("target/tools/venv/bin").join(name);
    let program = if own.is_file() { own.as_os_str() } else { OsStr::new(name) };
    let output = Command::new(program).args(arguments).current_dir(root()).output();
    output.unwrap_or_else(|e| panic!("{name}: {e}; `cargo xtask setup` installs it"))
}

/// The Compose file, with its anchors and merges resolved.
fn compose() -> Value {
    let program = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let output = tool("python3", &["-c", program, "deploy/docker/compose.yaml"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`cargo xtask setup` installs PyYAML; {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn services(compose: &Value) -> &Map<String, Value> {
    compose["services"].as_object().unwrap()
}

/// A list of texts; empty where there is none.
fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap()).collect()
}

fn seconds(text: &str) -> u64 {
    text.strip_suffix('s').and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

/// The instructions of the Dockerfile, each on one line, without comments.
fn instructions() -> Vec<String> {
    let text = read("deploy/docker/Dockerfile");
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    joined.lines().map(words).filter(|line| !line.is_empty()).collect()
}

/// The instructions of the stage that becomes the image: the last one.
fn last_stage() -> Vec<String> {
    let all = instructions();
    let from = all.iter().rposition(|line| line.starts_with("FROM ")).unwrap();
    all[from..].to_vec()
}

fn argument<'a>(stage: &'a [String], instruction: &str) -> Vec<&'a str> {
    let with_space = format!("{instruction} ");
    stage.iter().filter_map(|line| line.strip_prefix(&with_space)).collect()
}

/// `otpd` with what the Compose file gives its workers.
fn otpd(compose: &Value, arguments: &[&str]) -> Output {
    let mut command = Command::new(otpd_bin());
    command.args(arguments).env_clear().current_dir(root().join("deploy/docker/config"));
    for (name, value) in compose["services"]["worker"]["environment"].as_object().unwrap() {
        // ${NAME:?why} and ${NAME:-default} are the shell's; any value does.
        let value = value.as_str().unwrap();
        let value = match value.split_once("${") {
            Some((before, rest)) => format!("{before}s3cret{}", rest.split_once('}').unwrap().1),
            None => value.to_owned(),
        };
        command.env(name, value);
    }
    command.output().unwrap()
}

#[test]
fn the_dockerfile_passes_its_linter() {
    let output = tool("hadolint", &["deploy/docker/Dockerfile"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_compose_file_passes_its_linter() {
    let rules = "{extends: default, rules: {line-length: {max: 130}}}";
    let output = tool("yamllint", &["--strict", "-d", rules, "deploy/docker/compose.yaml"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_image_holds_one_program_and_runs_it_as_nobody() {
    let stage = last_stage();
    assert_eq!(argument(&stage, "FROM"), ["${RUN_BASE} AS run"]);
    assert!(argument(&stage, "RUN").is_empty(), "there is no shell to run anything with");
    assert_eq!(argument(&stage, "USER"), ["65532:65532"]);
    assert_eq!(argument(&stage, "ENTRYPOINT"), [r#"["/usr/local/bin/otpd"]"#]);
    assert_eq!(argument(&stage, "WORKDIR"), ["/etc/otpd"]);
    let health = argument(&stage, "HEALTHCHECK");
    assert!(health[0].ends_with(r#"CMD ["/usr/local/bin/otpd", "health"]"#), "{health:?}");
    let trusted = "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt";
    assert_eq!(argument(&stage, "ENV"), [trusted]);
}

#[test]
fn the_build_repeats_and_starts_from_what_it_names() {
    let all = instructions();
    let builds: Vec<&String> = all.iter().filter(|line| line.contains("cargo build")).collect();
    assert!(builds.len() == 1 && builds[0].contains("--release --locked --package otpd"), "{builds:?}");
    for line in all.iter().filter(|line| line.contains("cargo install")) {
        assert!(line.contains("--locked --version "), "{line}");
    }
    assert!(all.contains(&"ARG SOURCE_DATE_EPOCH=0".to_owned()), "mimalloc compiles the date in");
    let mut known = vec!["scratch".to_owned(), "${BUILD_BASE}".to_owned(), "${RUN_BASE}".to_owned()];
    for from in argument(&all, "FROM") {
        let (base, name) = from.split_once(" AS ").unwrap();
        assert!(known.iter().any(|known| known == base), "{base} can be neither replaced nor pinned");
        known.push(name.to_owned());
    }
    let arguments = argument(&all, "ARG");
    assert!(arguments.contains(&"RUN_BASE=scratch"), "{arguments:?}");
    let version = env!("CARGO_PKG_VERSION");
    assert!(arguments.contains(&format!("OTPD_VERSION={version}").as_str()), "{arguments:?}");
    // The compiler is one that the workspace allows.
    let base = arguments.iter().find_map(|line| line.strip_prefix("BUILD_BASE=rust:1.")).unwrap();
    let minor: u32 = base.split_once('.').unwrap().0.parse().unwrap();
    assert!(minor >= minimum_rust(env!("CARGO_PKG_RUST_VERSION")).1, "{base}");
}

#[test]
fn the_context_holds_what_is_built_and_nothing_else() {
    let text = read(".dockerignore");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines[0], "*", "all is left out but what is named");
    let mut named: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix('!')).collect();
    named.sort_unstable();
    assert_eq!(named, [".cargo", "Cargo.lock", "Cargo.toml", "benches", "crates", "tests"]);
    for name in named {
        assert!(root().join(name).exists(), "{name}");
    }
}

#[test]
fn the_containers_may_do_little_and_are_reached_from_this_machine_only() {
    let compose = compose();
    for (name, service) in services(&compose) {
        let image = service["image"].as_str().unwrap();
        let (_, tag) = image.trim_end_matches('}').rsplit_once(':').unwrap_or_else(|| panic!("{image}"));
        assert_ne!(tag, "latest", "{name}");
        for port in texts(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name} publishes {port}");
        }
        // RabbitMQ's image takes the rights of its files and then steps down from root.
        if name != "rabbitmq" {
            assert_eq!(service["read_only"], true, "{name}");
            assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
            assert_eq!(texts(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        }
        let text = service.to_string();
        assert!(!text.contains("privileged") && !text.contains("docker.sock"), "{name}");
    }
}

#[test]
fn what_the_compose_file_mounts_is_there() {
    let compose = compose();
    let volumes = compose["volumes"].as_object().unwrap();
    for (name, service) in services(&compose) {
        for mount in texts(&service["volumes"]) {
            let (from, to) = mount.split_once(':').unwrap();
            if from.starts_with('.') {
                assert!(root().join("deploy/docker").join(from).is_dir(), "{name} mounts {from}");
                assert!(to.ends_with(":ro"), "{name} may write to {from}");
            } else {
                assert!(volumes.contains_key(from), "{name} mounts {from}");
            }
        }
    }
    let prometheus = &compose["services"]["prometheus"];
    let config = texts(&prometheus["command"])[0].strip_prefix("--config.file=/etc/prometheus/").unwrap();
    let scraped = read(&format!("deploy/observability/{config}"));
    assert!(scraped.contains("worker"), "Prometheus does not know the workers by their name");
}

#[test]
fn the_config_of_the_workers_is_fine_and_fits_the_containers() {
    let compose = compose();
    let checked = otpd(&compose, &["config", "check"]);
    // All of it is on one machine, in a network of its own: clear text is warned of, and nothing else.
    let said = String::from_utf8_lossy(&checked.stderr);
    let others: Vec<&str> = said.lines().filter(|line| !line.contains(":// to another machine")).collect();
    assert!(checked.status.success() && others.is_empty(), "{checked:?}");
    let shown = otpd(&compose, &["config", "show", "--json"]);
    let config: Value = serde_json::from_slice(&shown.stdout).unwrap();

    let service = |name: &str| &compose["services"][name];
    let worker = service("worker");
    let grace = seconds(config["worker"]["shutdown_grace"].as_str().unwrap());
    assert!(seconds(worker["stop_grace_period"].as_str().unwrap()) >= grace + 5, "{grace} s");
    assert_eq!(worker["deploy"]["replicas"], 2);
    assert_eq!(worker["volumes"][0], "./config:/etc/otpd:ro", "where WORKDIR looks for otpd.toml");
    assert_eq!(config["admin"]["listen"], "0.0.0.0:9090");
    for depends_on in ["rabbitmq", "mock"] {
        assert_eq!(worker["depends_on"][depends_on]["condition"], "service_healthy");
        assert!(!service(depends_on)["healthcheck"]["test"].is_null());
    }
    let broker = worker["environment"]["OTPD_BROKER_URL"].as_str().unwrap();
    let user = service("rabbitmq")["environment"]["RABBITMQ_DEFAULT_USER"].as_str().unwrap();
    assert!(broker.starts_with(&format!("amqp://{user}:${{OTPD_BROKER_PASSWORD:?")), "{broker}");
    assert!(broker.ends_with("@rabbitmq:5672/%2f"), "{broker}");

    let mock = texts(&service("mock")["command"]).join(" ");
    assert!(mock.contains("--listen=0.0.0.0:8090"), "{mock}");
    for (name, provider) in config["providers"].as_object().unwrap() {
        assert_eq!(provider["base_url"], "http://mock:8090", "{name}");
        let ceiling = &provider["ceiling"];
        let ceiling = ceiling.as_str().or_else(|| ceiling[0].as_str()).unwrap();
        let strict = format!("--ceiling={name}={ceiling}");
        assert!(mock.contains(&strict), "the mock holds {name} to another ceiling than {ceiling}");
    }
}

#[test]
fn the_commands_of_the_containers_exist() {
    let compose = compose();
    let ours = services(&compose).iter().filter(|(_, service)| !service["build"].is_null());
    let mut seen = 0;
    for (name, service) in ours {
        let health = texts(&service["healthcheck"]["test"]);
        let health = health.strip_prefix(&["CMD", "/usr/local/bin/otpd"]).unwrap_or_default();
        for command in [texts(&service["command"]), health.to_vec()] {
            let Some((command, flags)) = command.split_first() else { continue };
            let help = otpd(&compose, &[command, "--help"]);
            let help = String::from_utf8(help.stdout).unwrap();
            assert!(help.contains(&format!("Usage: otpd {command}")), "{name}: {command}");
            for flag in flags {
                let flag = flag.split('=').next().unwrap();
                assert!(help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")), "{flag}");
                seen += 1;
            }
        }
    }
    assert!(seen > 5, "{seen}");
}

/// `1.90` and `1.90.1`.
fn minimum_rust(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap_or(0))
}

/// What is promised of the compiler in Cargo.toml holds for what is built in as well. The workspace's own
/// code is held to it by clippy (`incompatible_msrv`).
#[test]
fn no_dependency_needs_a_newer_compiler_than_the_workspace() {
    let metadata = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--locked",
            "--format-version",
            "1",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let promised = minimum_rust(env!("CARGO_PKG_RUST_VERSION"));
    let packages = metadata["packages"].as_array().unwrap();
    let mut says = 0;
    for package in packages {
        let Some(version) = package["rust_version"].as_str() else { continue };
        says += 1;
        assert!(minimum_rust(version) <= promised, "{} needs Rust {version}", package["name"]);
    }
    assert!(says > 100, "most packages say what they need");
}
