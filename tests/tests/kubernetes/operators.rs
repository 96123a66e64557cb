//! What operators make of these objects, as their own sources say it: which port the topology operator calls and
//! whom it trusts, which ports the cluster operator opens, and how Prometheus names what a monitor scrapes.

use std::collections::BTreeSet;

use otpd_tests::tools;
use serde_json::{Value, json};

use crate::agreement::selects;
use crate::everything;
use crate::render::{Folder, kubernetes_takes};

/// Ports by the names that the cluster operator gives them.
const MANAGEMENT: u64 = 15672;
const MANAGEMENT_TLS: u64 = 15671;
const METRICS: u64 = 15692;
const AMQPS: u64 = 5671;

fn cluster() -> &'static Value {
    everything().one("RabbitmqCluster", "otpd-rabbitmq")
}

/// The port that the topology operator calls: HTTPS where the cluster has a certificate, unless an annotation names
/// another address.
fn called_by_the_topology_operator() -> u64 {
    assert!(cluster()["metadata"]["annotations"]["rabbitmq.com/operator-connection-uri"].is_null());
    if cluster()["spec"]["tls"]["secretName"].is_string() { MANAGEMENT_TLS } else { MANAGEMENT }
}

/// The ports of the broker that pods of a namespace may reach.
fn open_to(namespace: &str) -> BTreeSet<u64> {
    let policy = &everything().one("NetworkPolicy", "otpd-rabbitmq")["spec"];
    let rules = policy["ingress"].as_array().unwrap().iter();
    let rules = rules.filter(|rule| {
        let peers = rule["from"].as_array().unwrap().iter();
        peers
            .map(|p| &p["namespaceSelector"]["matchLabels"])
            .any(|labels| labels["kubernetes.io/metadata.name"] == namespace || labels[namespace].is_string())
    });
    rules.flat_map(|r| r["ports"].as_array().unwrap()).map(|p| p["port"].as_u64().unwrap()).collect()
}

#[test]
fn each_reaches_the_port_that_it_calls_and_no_other() {
    assert_eq!(open_to("rabbitmq-system"), BTreeSet::from([called_by_the_topology_operator()]));
    // Beside the TLS port, as the cluster's plain listeners are not switched off: metrics hold no secret.
    assert_ne!(cluster()["spec"]["tls"]["disableNonTLSListeners"], true);
    assert_eq!(open_to("monitoring"), BTreeSet::from([METRICS]));
    assert_eq!(open_to("otpd-producer"), BTreeSet::from([AMQPS]), "jobs hold codes: TLS only");
}

/// The operator trusts the certificates of its own image, in /etc/ssl/certs: the broker's CA has to be put there.
#[test]
fn the_topology_operator_is_told_whom_to_trust() {
    const PATCH: &str = "operators/topology-operator-ca.yaml";
    let folder = tools::root().join("deploy/kubernetes");
    let patch = std::fs::read_to_string(folder.join(PATCH)).unwrap_or_else(|e| panic!("{PATCH}: {e}"));
    // The part of the operator's own Deployment that the patch meets.
    let stub = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "messaging-topology-operator", "namespace": "rabbitmq-system" },
        "spec": {
            "selector": { "matchLabels": { "app.kubernetes.io/name": "messaging-topology-operator" } },
            "template": {
                "metadata": { "labels": { "app.kubernetes.io/name": "messaging-topology-operator" } },
                "spec": { "containers": [{ "name": "manager", "image": "operator" }] },
            },
        },
    });
    let made = Folder::new();
    made.write("stub.yaml", &stub.to_string());
    made.write("patch.yaml", &patch);
    made.write("kustomization.yaml", "resources: [stub.yaml]\npatches: [{ path: patch.yaml }]\n");
    let (built, yaml, said) = tools::output(tools::kustomize().arg(made.path()));
    assert!(built, "{said}");
    let objects = crate::render::check(&yaml).unwrap();
    kubernetes_takes(&objects, "1.32.0").unwrap();

    let pod = &objects[0]["spec"]["template"]["spec"];
    assert_eq!(pod["containers"].as_array().unwrap().len(), 1, "the patch names another container");
    let mount = &pod["containers"][0]["volumeMounts"][0];
    let file = mount["mountPath"].as_str().unwrap();
    assert!(file.strip_prefix("/etc/ssl/certs/").is_some_and(|file| file.ends_with(".crt")), "{file}");
    assert_eq!(mount["subPath"], "ca.crt", "the directory of the image's own roots stays as it is");
    let volume = &pod["volumes"][0];
    assert_eq!(
        (&volume["name"], volume["configMap"]["name"].as_str()),
        (&mount["name"], Some("otpd-rabbitmq-ca"))
    );
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    assert!(readme.contains(PATCH), "README.md does not say that this is needed");
}

/// The name of the scrape job that the Prometheus operator makes of each monitor.
pub(crate) fn scrape_jobs() -> BTreeSet<String> {
    let part = |object: &Value, key: &str| object["metadata"][key].as_str().unwrap().to_owned();
    assert_eq!(everything().all("ServiceMonitor").count(), 0, "these would be named by their Service");
    let monitors = everything().all("PodMonitor").inspect(|m| assert!(m["spec"]["jobLabel"].is_null()));
    monitors.map(|monitor| format!("{}/{}", part(monitor, "namespace"), part(monitor, "name"))).collect()
}

/// One statement of the name in three places: the monitors, the rules that ask for it, and the rules' tests.
#[test]
fn the_rules_ask_for_the_jobs_that_the_monitors_make() {
    let read = |file: &str| {
        let path = tools::root().join("deploy/observability").join(file);
        let text = std::fs::read_to_string(path).unwrap();
        serde_saphyr::from_str::<Value>(&text).unwrap()
    };
    let (rules, tests, compose) =
        (read("otpd.rules.yaml"), read("otpd.rules.test.yaml"), read("prometheus.yml"));
    let jobs = scrape_jobs();
    assert_eq!(jobs, ["otpd/otpd-rabbitmq", "otpd/otpd-worker"].map(str::to_owned).into());
    let by_compose = compose["scrape_configs"].as_array().unwrap().iter();
    let by_compose: Vec<&str> = by_compose.map(|c| c["job_name"].as_str().unwrap()).collect();

    // `(.+/)?otpd-worker` takes both; a matcher of any other form would have to be read here first.
    let mut asked = BTreeSet::new();
    for rule in rules["groups"].as_array().unwrap().iter().flat_map(|g| g["rules"].as_array().unwrap()) {
        for (_, rest) in rule["expr"]
            .as_str()
            .unwrap()
            .match_indices("job=")
            .map(|(at, _)| rule["expr"].as_str().unwrap().split_at(at))
        {
            let matcher = rest.split('"').nth(1).unwrap();
            let name = matcher
                .strip_prefix("(.+/)?")
                .unwrap_or_else(|| panic!("{matcher}: not for every namespace"));
            assert!(rest.starts_with("job=~\""), "{rest}");
            assert!(jobs.iter().any(|job| job.rsplit('/').next() == Some(name)), "no monitor makes {name}");
            assert!(by_compose.contains(&name), "prometheus.yml has no scrape job {name}");
            asked.insert(name.to_owned());
        }
    }
    assert_eq!(asked, ["otpd-rabbitmq", "otpd-worker"].map(str::to_owned).into());

    let tested: BTreeSet<String> = tests["tests"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|test| test["input_series"].as_array().unwrap())
        .filter_map(|series| series["series"].as_str().unwrap().split_once("job=\""))
        .map(|(_, rest)| rest.split('"').next().unwrap().to_owned())
        .collect();
    let known: BTreeSet<String> =
        jobs.iter().cloned().chain(by_compose.iter().map(|&j| j.to_owned())).collect();
    // `node` stands for a target of somebody else.
    let tested: BTreeSet<String> = tested.into_iter().filter(|job| job != "node").collect();
    assert!(tested.is_subset(&known), "tests of rules with jobs that nothing makes: {tested:?}");
    assert!(jobs.is_subset(&tested), "the rules are not tested with the jobs of the monitors: {tested:?}");
}

#[test]
fn a_monitor_of_the_broker_finds_its_pods_and_a_port_that_they_have() {
    let monitor = &everything().one("PodMonitor", "otpd-rabbitmq")["spec"];
    let labels = json!({ "app.kubernetes.io/name": cluster()["metadata"]["name"] });
    assert!(selects(&monitor["selector"]["matchLabels"], &labels));
    // The cluster operator names the plain port so, and leaves it out only with disableNonTLSListeners.
    for endpoint in monitor["podMetricsEndpoints"].as_array().unwrap() {
        assert_eq!(endpoint["port"], "prometheus");
    }
}

/// One version of the broker everywhere, by its full number.
#[test]
fn one_version_of_the_broker_is_named_everywhere() {
    let root = tools::root().join("deploy");
    let mut named = BTreeSet::new();
    for file in [
        "docker/compose.yaml",
        "kubernetes/overlays/dev/rabbitmq.yaml",
        "kubernetes/overlays/production/rabbitmq.yaml",
    ] {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let images = text.lines().filter_map(|line| line.trim().strip_prefix("image: "));
        let mut images = images.filter_map(|image| image.split_once("rabbitmq:")).peekable();
        assert!(images.peek().is_some(), "{file} names no image of RabbitMQ");
        named.extend(images.map(|(_, tag)| tag.split('@').next().unwrap().to_owned()));
    }
    assert_eq!(named.len(), 1, "{named:?}");
    let version = named.first().unwrap().split('-').next().unwrap();
    assert_eq!(version.split('.').filter(|part| part.parse::<u32>().is_ok()).count(), 3, "{version}");
}
