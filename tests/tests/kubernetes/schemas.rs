//! Every object is one that the API server would take, and a mistake is noticed.

use std::process::Command;

use otpd_tests::tools;

use crate::render::{check, kubernetes_takes};
use crate::{everything, overlays};

/// The oldest Kubernetes that knows all we use (PodDisruptionBudget's unhealthyPodEvictionPolicy and the spread
/// constraints' matchLabelKeys, on by default since 1.27), a usual one, and the newest that can be checked.
const VERSIONS: [&str; 3] = ["1.27.0", "1.32.0", "1.37.0"];

#[test]
fn every_overlay_is_valid_for_the_oldest_and_the_newest_kubernetes() {
    for (name, rendered) in overlays() {
        for version in VERSIONS {
            kubernetes_takes(&rendered.objects, version).unwrap_or_else(|e| panic!("{name}, {version}: {e}"));
        }
    }
}

#[test]
fn a_mistake_in_a_custom_resource_is_refused() {
    let mistakes = [
        ("scrapeTimeout:", "timeout:", "PodMonitor otpd-rabbitmq: /spec/podMetricsEndpoints/0"),
        ("params:", "parameters:", "PodMonitor otpd-rabbitmq: /spec/podMetricsEndpoints/1"),
        ("expr:", "expression:", "PrometheusRule"),
        ("importCredentialsSecret:", "importCredentials:", "User otpd-worker: /spec"),
        ("configure:", "config:", "Permission otpd-producer: /spec/permissions"),
        ("exchange:", "exchanges:", "TopicPermission otpd-worker-events: /spec/permissions"),
        ("deletionPolicy: retain", "deletionPolicy: keep", "Vhost otp: /spec/deletionPolicy"),
        ("additionalConfig:", "extraConfig:", "RabbitmqCluster otpd-rabbitmq: /spec/rabbitmq"),
        ("secretKey:", "key:", "ExternalSecret otpd-broker: /spec/data/0"),
        ("kind: Vhost", "kind: VHost", "VHost otp: schemas/ knows no such kind"),
    ];
    for (right, wrong, place) in mistakes {
        let yaml = &everything().yaml;
        assert!(yaml.contains(right), "{right} is not used any more");
        let refused = check(&yaml.replace(right, wrong)).expect_err(wrong);
        assert!(refused.contains(place), "{right} -> {wrong}: {refused}");
    }
}

#[test]
fn a_mistake_in_kubernetes_own_objects_is_refused() {
    let mistakes = [
        ("terminationGracePeriodSeconds: 45", "terminationGracePeriod: 45"),
        ("readOnlyRootFilesystem:", "readonlyRootFilesystem:"),
        ("unhealthyPodEvictionPolicy:", "unhealthyEvictionPolicy:"),
        ("except:", "exceptions:"),
        ("containerPort: 9090", "containerPort: admin"),
    ];
    for (right, wrong) in mistakes {
        let yaml = &everything().yaml;
        assert!(yaml.contains(right), "{right} is not used any more");
        let objects =
            check(&yaml.replace(right, wrong)).expect("check.mjs leaves these to kubernetes-validate");
        let refused = kubernetes_takes(&objects, "1.32.0").expect_err(wrong);
        assert!(refused.contains("did not validate"), "{right} -> {wrong}: {refused}");
    }
}

#[test]
fn the_sources_are_tidy() {
    let folder = tools::root().join("deploy/kubernetes");
    let mut command = Command::new(tools::python_tool("yamllint"));
    command.arg("--strict").arg("-c").arg(folder.join("validate/yamllint.yaml")).arg(&folder);
    let (tidy, found, said) = tools::output(&mut command);
    assert!(tidy, "{found}{said}");
}
