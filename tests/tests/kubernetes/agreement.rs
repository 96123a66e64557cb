//! What is said in two places is said alike: config and manifests, selectors and labels, ports.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use otpd_tests::{otpd_bin, tools};
use serde_json::Value;

use crate::render::{Folder, Rendered};
use crate::{dev, everything, overlays};

const SECRETS: &str = "/run/secrets/otpd";
const BROKER_CA: &str = "/etc/otpd-broker-ca/ca.crt";

/// Runs `otpd config` with the config of an overlay. Its secrets are those that ExternalSecrets deliver, with
/// other content: a file that nobody delivers is missing here as it would be in the pod.
fn otpd_config(rendered: &Rendered, what: &str) -> Value {
    let folder = Folder::new();
    for secret in rendered.all("ExternalSecret") {
        let mounted = mounted_secrets(rendered);
        let (name, spec) = (secret["metadata"]["name"].as_str().unwrap(), &secret["spec"]);
        let made = spec["target"]["template"]["data"].as_object();
        let keys: Vec<&str> = match made {
            Some(made) => made.keys().map(String::as_str).collect(),
            None => {
                spec["data"].as_array().unwrap().iter().map(|d| d["secretKey"].as_str().unwrap()).collect()
            }
        };
        for key in keys {
            let whole = mounted.contains(&(name.to_owned(), None));
            if whole || mounted.contains(&(name.to_owned(), Some(key.to_owned()))) {
                let url = made.and_then(|made| made[key].as_str()).filter(|text| text.contains("://"));
                folder
                    .write(key, &url.unwrap_or("sk_live_0123456789abcdef").replace("{{ .password }}", "pw"));
            }
        }
    }
    let file = folder.write("otpd.toml", &with_secrets_in(&folder, rendered));
    let mut command = Command::new(otpd_bin());
    let (done, out, said) =
        tools::output(command.env_clear().args(["config", what, "--json", "--config"]).arg(file));
    assert!(done, "{out}{said}");
    serde_json::from_str(&out).unwrap()
}

/// The config, with its secrets in this folder, and a certificate there.
pub(crate) fn with_secrets_in(folder: &Folder, rendered: &Rendered) -> String {
    let ca = folder.write("ca.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let toml = rendered.toml().replace(SECRETS, folder.path().to_str().unwrap());
    toml.replace(BROKER_CA, ca.to_str().unwrap())
}

/// What the worker sees under `/run/secrets/otpd`: a Secret, and which key of it, or all.
fn mounted_secrets(rendered: &Rendered) -> BTreeSet<(String, Option<String>)> {
    let pod = &rendered.worker()["spec"]["template"]["spec"];
    let mount = pod["containers"][0]["volumeMounts"].as_array().unwrap().iter();
    let mount = mount.clone().find(|m| m["mountPath"] == SECRETS).expect("secrets are mounted");
    let volume = pod["volumes"].as_array().unwrap().iter().find(|v| v["name"] == mount["name"]).unwrap();
    let mut all = BTreeSet::new();
    for source in volume["projected"]["sources"].as_array().unwrap() {
        let name = source["secret"]["name"].as_str().unwrap().to_owned();
        match source["secret"]["items"].as_array() {
            None => drop(all.insert((name, None))),
            Some(items) => all.extend(items.iter().map(|item| {
                assert_eq!(item["key"], item["path"]);
                (name.clone(), Some(item["key"].as_str().unwrap().to_owned()))
            })),
        }
    }
    all
}

#[test]
fn otpd_takes_the_configs_and_every_secret_is_delivered() {
    let checked = otpd_config(everything(), "check");
    assert_eq!(checked["warnings"], Value::Array(vec![]), "{checked}");
    // The mock's credentials are in the file, and nobody needs to keep them; otpd says so, and nothing else.
    let checked = otpd_config(dev(), "check");
    let others = checked["warnings"].as_array().unwrap().iter();
    let expected = ["is a secret", "to another machine"];
    let others: Vec<_> = others
        .filter(|w| !expected.iter().any(|words| w["problem"].as_str().unwrap().contains(words)))
        .collect();
    assert!(others.is_empty(), "{others:?}");
}

/// The broker's authority is the broker's alone, and each pod that speaks to the broker finds it where the config says.
#[test]
fn the_broker_s_authority_is_trusted_for_nothing_else() {
    let rendered = everything();
    assert!(rendered.toml().contains(&format!("ca = {{ file = {BROKER_CA:?} }}")));
    for component in ["worker", "maintenance"] {
        let pods = rendered.pods();
        let labels = |pod: &Value| pod["metadata"]["labels"]["app.kubernetes.io/component"] == component;
        let pod = &pods.iter().find(|pod| labels(pod)).unwrap_or_else(|| panic!("no {component}"))["spec"];
        let container = &pod["containers"][0];
        let mounts = container["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|m| {
            BROKER_CA.starts_with(m["mountPath"].as_str().unwrap()) && m["mountPath"] != "/etc/otpd"
        });
        let mount = mount.unwrap_or_else(|| panic!("{component}: nothing is mounted at {BROKER_CA}"));
        let volume = pod["volumes"].as_array().unwrap().iter().find(|v| v["name"] == mount["name"]).unwrap();
        let items = volume["secret"]["items"].as_array().unwrap();
        assert_eq!(items.len(), 1, "{component}: only the certificate");
        assert_eq!((&items[0]["key"], &items[0]["path"]), (&"ca.crt".into(), &"ca.crt".into()));
        let variables = container["env"].as_array().into_iter().flatten();
        for variable in variables.map(|v| v["name"].as_str().unwrap()) {
            assert!(!variable.starts_with("SSL_CERT"), "{component}: {variable} is for providers too");
        }
    }
}

/// More workers send no more, and each scale-down is a hand-over: the number is fixed, an owner and a spare.
#[test]
fn nothing_scales_the_workers() {
    for (name, rendered) in overlays() {
        for kind in ["ScaledObject", "HorizontalPodAutoscaler", "VerticalPodAutoscaler"] {
            assert_eq!(rendered.all(kind).count(), 0, "{name}: {kind}");
        }
    }
    assert_eq!(everything().worker()["spec"]["replicas"], 2);
}

fn seconds(text: &Value) -> Duration {
    let text = text.as_str().unwrap();
    let seconds = text.strip_suffix('s').unwrap_or_else(|| panic!("{text} is not in seconds"));
    Duration::from_secs_f64(seconds.parse().unwrap())
}

#[test]
fn the_pod_is_given_longer_than_the_worker_takes() {
    for (name, rendered) in [("dev", dev()), ("everything", everything())] {
        let shown = otpd_config(rendered, "show");
        let timeouts = shown["providers"].as_object().unwrap().values().map(|p| seconds(&p["timeout"]));
        let needed = seconds(&shown["worker"]["shutdown_grace"]) + timeouts.max().unwrap();
        let given = &rendered.worker()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
        let given = Duration::from_secs(given.as_u64().unwrap());
        assert!(given > needed + Duration::from_secs(2), "{name}: {given:?} for {needed:?}");
    }
}

#[test]
fn probes_and_scrapes_ask_the_port_that_otpd_listens_on() {
    for (name, rendered) in [("dev", dev()), ("everything", everything())] {
        let listen = otpd_config(rendered, "show")["admin"]["listen"].as_str().unwrap().to_owned();
        let listen: std::net::SocketAddr = listen.parse().unwrap();
        assert!(listen.ip().is_unspecified(), "{name}: the kubelet cannot reach {listen}");
        let container = &rendered.worker()["spec"]["template"]["spec"]["containers"][0];
        let ports = container["ports"].as_array().unwrap();
        let admin = ports.iter().find(|p| p["name"] == "admin").unwrap();
        assert_eq!(admin["containerPort"], listen.port(), "{name}");
        for (probe, path) in
            [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]
        {
            let asks = &container[probe]["httpGet"];
            assert_eq!((&asks["port"], &asks["path"]), (&"admin".into(), &path.into()), "{name}: {probe}");
        }
    }
    let monitor = &everything().one("PodMonitor", "otpd-worker")["spec"];
    let worker = &everything().worker()["spec"]["template"]["metadata"]["labels"];
    assert!(selects(&monitor["selector"]["matchLabels"], worker));
    let endpoint = &monitor["podMetricsEndpoints"][0];
    assert_eq!((&endpoint["port"], &endpoint["path"]), (&"admin".into(), &"/metrics".into()));
}

pub(crate) fn selects(selector: &Value, labels: &Value) -> bool {
    selector.as_object().unwrap().iter().all(|(key, value)| &labels[key] == value)
}

/// The labels of every pod, those included that the cluster operator starts.
fn pod_labels(rendered: &Rendered) -> Vec<Value> {
    let mut all: Vec<Value> = rendered.pods().iter().map(|pod| pod["metadata"]["labels"].clone()).collect();
    let clusters = rendered.all("RabbitmqCluster").map(|cluster| &cluster["metadata"]["name"]);
    all.extend(clusters.map(|name| serde_json::json!({ "app.kubernetes.io/name": name })));
    all
}

#[test]
fn selectors_select_pods_that_are_there() {
    for (name, rendered) in overlays() {
        let pods = pod_labels(rendered);
        let found = |selector: &Value| pods.iter().any(|labels| selects(selector, labels));
        for object in &rendered.objects {
            let selector = match object["kind"].as_str().unwrap() {
                "PodDisruptionBudget" | "Deployment" => &object["spec"]["selector"]["matchLabels"],
                "Service" => &object["spec"]["selector"],
                "NetworkPolicy" => &object["spec"]["podSelector"]["matchLabels"],
                _ => continue,
            };
            let all_pods = object["metadata"]["name"] == "default-deny" && selector.is_null();
            assert!(all_pods || found(selector), "{name}: {} selects nothing", object["metadata"]["name"]);
        }
        let budget = &rendered.one("PodDisruptionBudget", "otpd-worker")["spec"];
        let worker = &rendered.worker()["spec"];
        assert_eq!(budget["selector"], worker["selector"], "{name}: the budget is the worker's");
    }
}

/// Ports that no container here has: names, providers, and what RabbitMQ listens on.
const ELSEWHERE: [u64; 9] = [53, 443, 5671, 15671, 15692, 4369, 25672, 6000, 35672];

#[test]
fn every_port_of_a_network_policy_is_in_use() {
    for (name, rendered) in overlays() {
        for policy in rendered.all("NetworkPolicy") {
            let rules = ["ingress", "egress"].into_iter().filter_map(|way| policy["spec"][way].as_array());
            for (rule, port) in
                rules.flatten().flat_map(|r| r["ports"].as_array().into_iter().flatten().map(move |p| (r, p)))
            {
                let of = format!("{name}: {} {}", policy["metadata"]["name"], port["port"]);
                if let Some(named) = port["port"].as_str() {
                    assert!(is_named(rendered, policy, rule, named), "{of}");
                    continue;
                }
                let number = port["port"].as_u64().unwrap();
                let asked = rendered.yaml.contains(&format!(":{number}"));
                let broker = rendered.all("RabbitmqCluster").next().is_some();
                assert!(asked || ELSEWHERE.contains(&number) && (number < 1024 || broker), "{of}");
            }
        }
    }
}

/// Whether the pods that the rule leads to have a port of that name.
fn is_named(rendered: &Rendered, policy: &Value, rule: &Value, named: &str) -> bool {
    let to = match rule["to"][0].as_object() {
        Some(peer) => &peer["podSelector"]["matchLabels"],
        None => &policy["spec"]["podSelector"]["matchLabels"],
    };
    let pods = rendered.pods();
    let mut pods = pods.iter().filter(|pod| selects(to, &pod["metadata"]["labels"])).peekable();
    let has = |pod: &&&Value| {
        let containers = pod["spec"]["containers"].as_array().unwrap().iter();
        containers.flat_map(|c| c["ports"].as_array().unwrap()).any(|p| p["name"] == named)
    };
    pods.peek().is_some() && pods.by_ref().all(|pod| has(&pod))
}
