//! The script that runs one command as a Job, with a `kubectl` that only writes down what it is asked.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use otpd_tests::tools;
use serde_json::Value;

use crate::everything;
use crate::render::Folder;

/// Says yes to everything, in the form that the script reads; keeps the patch.
const KUBECTL: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/asked"
case " $* " in
  *" patch "*) cat > "$here/from"; while [ "$1" != -p ]; do shift; done; printf '%s' "$2" > "$here/patch"; echo patched ;;
  *" create job "*) echo job ;;
  *" create -f "*) cat > "$here/created" ;;
  *" get job "*) [ -e "$here/ended" ] && cat "$here/ended"; printf 'Complete' > "$here/ended" ;;
  *" logs "*) echo "what otpd said" ;;
esac
"#;

fn run(folder: &Folder, arguments: &[&str]) -> (bool, String, String) {
    let kubectl = folder.write("kubectl", KUBECTL);
    std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let script = tools::root().join("deploy/kubernetes/maintenance.sh");
    tools::output(Command::new(script).args(arguments).env("PATH", path))
}

#[test]
fn a_command_becomes_a_job_with_its_arguments_as_they_are() {
    let folder = Folder::new();
    let arguments = ["dead", "list", "--reason", "a \"quoted\" \\ one", "it's"];
    let (done, out, said) = run(&folder, &arguments);
    assert!(done && out == "what otpd said\n", "{out}{said}");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let patch: Value = serde_json::from_str(&read("patch")).unwrap();
    assert_eq!(patch[0]["value"], serde_json::json!(arguments));
    assert_eq!((read("from").as_str(), read("created").as_str()), ("job\n", "patched\n"));
    // What is replaced is there: the Job is made of this CronJob's template.
    let cron = everything().one("CronJob", "otpd-maintenance");
    let path = patch[0]["path"].as_str().unwrap();
    assert!(cron["spec"]["jobTemplate"].pointer(path).is_some_and(Value::is_array), "{path}");
    assert_eq!(cron["spec"]["suspend"], true);
    assert!(read("asked").contains("--from=cronjob/otpd-maintenance"));
}

#[test]
fn a_command_that_failed_fails() {
    let folder = Folder::new();
    folder.write("ended", "FailureTarget Failed");
    let (done, out, said) = run(&folder, &["topology", "check"]);
    assert!(!done && out == "what otpd said\n", "{out}{said}");
    let (done, _, said) = run(&folder, &[]);
    assert!(!done && said.starts_with("usage: "), "{said}");
}
