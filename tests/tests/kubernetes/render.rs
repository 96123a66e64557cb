//! Builds kustomizations, in a copy, so that a test can add to them or break them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use otpd_tests::tools;
use serde_json::Value;

/// A folder of its own; removed when dropped, but not by a test that fails: its logs are in it.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("otpd-kubernetes-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it; says where.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// A copy of `deploy/kubernetes`, and of `deploy/observability` that a component points to, with one more
/// overlay: `everything` is production with all components.
pub(crate) struct Tree(Folder);

const EVERYTHING: &str = "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: otpd
resources: [../overlays/production]
components:
  - ../components/external-secrets
  - ../components/monitoring
  - ../components/tracing
";

impl Tree {
    pub(crate) fn copy() -> Self {
        let folder = Folder::new();
        for part in ["kubernetes", "observability"] {
            copy(&tools::root().join("deploy").join(part), &folder.path().join(part));
        }
        folder.write("kubernetes/everything/kustomization.yaml", EVERYTHING);
        Self(folder)
    }

    /// What `kubectl apply -k` would send.
    pub(crate) fn build(&self, kustomization: &str) -> Rendered {
        let folder = self.0.path().join("kubernetes").join(kustomization);
        let (built, yaml, said) = tools::output(tools::kustomize().arg(folder));
        assert!(built && said.is_empty(), "{kustomization} does not build: {said}");
        let objects = check(&yaml).unwrap_or_else(|wrong| panic!("{kustomization}: {wrong}"));
        Rendered { yaml, objects }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap_or_else(|e| panic!("{}: {e}", from.display())) {
        let (path, name) = entry.map(|e| (e.path(), e.file_name())).unwrap();
        if path.is_dir() {
            if name != "node_modules" {
                copy(&path, &to.join(name));
            }
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// All objects of a kustomization.
pub(crate) struct Rendered {
    pub(crate) yaml: String,
    pub(crate) objects: Vec<Value>,
}

impl Rendered {
    /// All objects of a kind.
    pub(crate) fn all(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    /// The one object of this kind and name.
    pub(crate) fn one(&self, kind: &str, name: &str) -> &Value {
        let mut found = self.all(kind).filter(|object| object["metadata"]["name"] == name);
        let one = found.next().unwrap_or_else(|| panic!("there is no {kind} {name}"));
        assert!(found.next().is_none(), "there are several {kind} {name}");
        one
    }

    /// The worker's Deployment.
    pub(crate) fn worker(&self) -> &Value {
        self.one("Deployment", "otpd-worker")
    }

    /// Every pod that is started, by its template.
    pub(crate) fn pods(&self) -> Vec<&Value> {
        let makers = ["Deployment", "StatefulSet", "DaemonSet", "Job"];
        let templates = self.objects.iter().filter(|o| makers.contains(&o["kind"].as_str().unwrap()));
        let templates = templates.map(|object| &object["spec"]["template"]);
        templates.chain(self.all("CronJob").map(|o| &o["spec"]["jobTemplate"]["spec"]["template"])).collect()
    }

    /// The config of the worker.
    pub(crate) fn toml(&self) -> &str {
        self.one("ConfigMap", "otpd-config")["data"]["otpd.toml"].as_str().unwrap()
    }
}

/// Reads manifests, and holds custom resources against their schemas.
pub(crate) fn check(yaml: &str) -> Result<Vec<Value>, String> {
    let folder = Folder::new();
    let script = tools::root().join("deploy/kubernetes/validate/check.mjs");
    let (valid, objects, said) =
        tools::output(Command::new("node").arg(script).arg(folder.write("rendered.yaml", yaml)));
    if valid { Ok(serde_json::from_str(&objects).expect("JSON")) } else { Err(said) }
}

/// Holds Kubernetes' own objects against the schemas of one of its versions.
pub(crate) fn kubernetes_takes(objects: &[Value], version: &str) -> Result<(), String> {
    let own = objects.iter().filter(|o| {
        let group = o["apiVersion"].as_str().unwrap().rsplit_once('/').map_or("", |(group, _)| group);
        !group.contains('.') || group.ends_with(".k8s.io")
    });
    // JSON is YAML.
    let own: Vec<String> = own.map(Value::to_string).collect();
    let folder = Folder::new();
    let file = folder.write("own.yaml", &own.join("\n---\n"));
    let mut command = Command::new(tools::python_tool("kubernetes-validate"));
    let (valid, out, said) = tools::output(command.args(["--strict", "-k", version]).arg(file));
    // An object whose kind it does not know is only warned of.
    let passed = [&out, &said].iter().flat_map(|s| s.lines()).filter(|l| l.contains(" passed ")).count();
    if valid && passed == own.len() {
        Ok(())
    } else {
        Err(format!("{passed} of {} passed: {out}{said}", own.len()))
    }
}
