//! What keeps a pod harmless, and secrets out of manifests.

use serde_json::json;

use crate::{everything, overlays};

#[test]
fn every_pod_is_restricted() {
    for (name, rendered) in overlays() {
        for pod in rendered.pods() {
            let (spec, of) = (&pod["spec"], &pod["metadata"]["labels"]);
            let context = &spec["securityContext"];
            assert_eq!(context["runAsNonRoot"], true, "{name}: {of}");
            assert!(context["runAsUser"].as_u64().is_some_and(|user| user > 0), "{name}: {of}");
            assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault", "{name}: {of}");
            assert_eq!(spec["automountServiceAccountToken"], false, "{name}: {of}");
            assert_eq!(spec["enableServiceLinks"], false, "{name}: {of}");
            for host in ["hostNetwork", "hostPID", "hostIPC"] {
                assert!(spec[host].is_null(), "{name}: {of}: {host}");
            }
            for container in spec["containers"].as_array().unwrap() {
                let context = &container["securityContext"];
                let expected = json!({
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"] },
                });
                assert_eq!(context, &expected, "{name}: {of}");
                let resources = &container["resources"];
                assert!(resources["limits"]["memory"].is_string(), "{name}: {of}");
                assert!(resources["requests"]["cpu"].is_string(), "{name}: {of}");
                for mount in container["volumeMounts"].as_array().into_iter().flatten() {
                    assert!(mount["subPath"].is_null(), "{name}: {of}: subPath hides edits");
                }
            }
        }
        let mut namespaces = rendered.all("Namespace");
        let labels = &namespaces.next().expect("an overlay brings its namespace")["metadata"]["labels"];
        assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted", "{name}");
    }
}

#[test]
fn everything_is_in_the_overlay_s_namespace_and_denied_by_default() {
    for (name, rendered) in overlays() {
        let namespace = &rendered.all("Namespace").next().unwrap()["metadata"]["name"];
        for object in rendered.objects.iter().filter(|o| o["kind"] != "Namespace") {
            assert_eq!(&object["metadata"]["namespace"], namespace, "{name}: {}", object["metadata"]);
        }
        let deny = &rendered.one("NetworkPolicy", "default-deny")["spec"];
        assert_eq!(deny, &json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }), "{name}");
    }
}

#[test]
fn the_config_map_has_a_fixed_name_and_is_the_only_one_the_worker_mounts() {
    for (name, rendered) in overlays() {
        let spec = &rendered.worker()["spec"]["template"]["spec"];
        let mounted = spec["volumes"].as_array().unwrap().iter().filter(|v| !v["configMap"].is_null());
        let mounted: Vec<_> = mounted.map(|v| &v["configMap"]["name"]).collect();
        assert_eq!(mounted, ["otpd-config"], "{name}");
        assert!(spec["containers"][0]["args"].as_array().unwrap().contains(&json!("/etc/otpd/otpd.toml")));
    }
}

#[test]
fn no_manifest_holds_a_secret() {
    for (name, rendered) in overlays() {
        assert_eq!(rendered.all("Secret").count(), 0, "{name}: Secrets come from elsewhere");
        for pod in rendered.pods() {
            for container in pod["spec"]["containers"].as_array().unwrap() {
                for variable in container["env"].as_array().into_iter().flatten() {
                    let value = variable["value"].as_str().unwrap_or_default();
                    assert!(!value.contains('@') && variable["valueFrom"].is_null(), "{name}: {variable}");
                }
            }
        }
    }
    // Every key of a credential in the production config names a file.
    let credentials = ["app_id", "api_key", "account_id", "token", "password", "url", "app_secret"];
    let toml = everything().toml().lines().filter_map(|line| line.split_once(" = "));
    let (files, others): (Vec<_>, Vec<_>) = toml
        .filter(|(key, _)| credentials.contains(key))
        .partition(|(_, value)| value.starts_with("{ file = \"/run/secrets/otpd/"));
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(files.len(), 8);
}
