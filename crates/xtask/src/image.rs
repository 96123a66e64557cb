//! `cargo xtask image`: builds the image twice, from nothing each time, lists what is inside, and compares.
//!
//! With docker where its daemon answers, else with buildah, which needs none. Only the root of the image is compared: names,
//! modes, owners and content. The layers' own dates are the builder's.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::run::{run, succeeds};

const FOLDER: &str = "target/image";
const DOCKERFILE: &str = "deploy/docker/Dockerfile";

/// Who builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Builder {
    Docker,
    Buildah,
}

/// Builds, lists and compares. `arguments` go to the builder, such as `--build-arg BUILD_BASE=...`.
///
/// # Errors
/// Where nobody can build, a build fails, or the two differ.
pub(crate) fn image(arguments: &[String]) -> Result<(), String> {
    let docker = succeeds(&["docker", "--version"]);
    let builder =
        chosen(docker, docker && succeeds(&["docker", "info"]), succeeds(&["buildah", "--version"]))?;
    fs::create_dir_all(FOLDER).map_err(|e| format!("{FOLDER} cannot be made: {e}"))?;
    let first = built(builder, 1, arguments)?;
    let second = built(builder, 2, arguments)?;
    for (name, what) in &first {
        println!("{what}  {name}");
    }
    let different = differences(&first, &second);
    if different.is_empty() {
        println!("xtask: two builds, {} names, the same in both", first.len());
        Ok(())
    } else {
        Err(format!("two builds of the same sources differ:\n{}", different.join("\n")))
    }
}

fn chosen(docker: bool, daemon: bool, buildah: bool) -> Result<Builder, String> {
    match (docker, daemon, buildah) {
        (_, true, _) => Ok(Builder::Docker),
        (_, false, true) => Ok(Builder::Buildah),
        (true, false, false) => Err(
            "docker is here, but its daemon does not answer, and there is no buildah; start the daemon, or \
             install buildah (`apt-get install buildah`), which needs none"
                .to_owned(),
        ),
        (false, false, false) => {
            Err("building the image needs docker or buildah (`apt-get install buildah`); there is neither"
                .to_owned())
        }
    }
}

/// What is in an image that was just built, by name.
type Contents = BTreeMap<String, String>;

fn built(builder: Builder, number: u8, arguments: &[String]) -> Result<Contents, String> {
    let tar = format!("{FOLDER}/{number}.tar");
    let output = format!("type=tar,dest={tar}");
    // Another number for each build: what one has compiled is no comparison for the other.
    let fresh = format!("OTPD_FRESH={number}");
    let mut command = match builder {
        Builder::Docker => {
            let mut command = Command::new("docker");
            command.arg("build");
            command
        }
        Builder::Buildah => {
            let mut command = Command::new("buildah");
            command.args(["bud", "--format", "docker"]);
            command
        }
    };
    command.args(["--no-cache", "--file", DOCKERFILE, "--build-arg", &fresh, "--output", &output]);
    println!("xtask: build {number} of 2");
    run(command.args(arguments).arg("."))?;
    contents(Path::new(&tar))
}

fn contents(tar: &Path) -> Result<Contents, String> {
    let listing =
        said(Command::new("tar").args(["--list", "--verbose", "--numeric-owner", "--file"]).arg(tar))?;
    let hash = r#"printf '%s  %s\n' "$(sha256sum | cut -c1-64)" "$TAR_FILENAME""#;
    let to_command = format!("--to-command={hash}");
    let hashes = said(Command::new("tar").args(["--extract", &to_command, "--file"]).arg(tar))?;
    Ok(merged(&listing, &hashes))
}

/// Modes, owners and sizes of tar's listing, without dates, beside the hashes of the files.
fn merged(listing: &str, hashes: &str) -> Contents {
    let hashes: BTreeMap<&str, &str> = hashes
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(hash, name)| (plain(name), hash))
        .collect();
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let [mode, owner, size] = [words.next()?, words.next()?, words.next()?];
        // Date and time.
        let name = words.skip(2).collect::<Vec<_>>().join(" ");
        let hash = hashes.get(plain(&name)).copied().unwrap_or("-");
        Some((name.clone(), format!("{mode} {owner:>11} {size:>9} {hash}")))
    };
    listing.lines().filter_map(entry).collect()
}

fn plain(name: &str) -> &str {
    name.trim_start_matches("./").trim_end_matches('/')
}

fn differences(first: &Contents, second: &Contents) -> Vec<String> {
    let mut all = Vec::new();
    for (name, what) in first {
        match second.get(name) {
            None => all.push(format!("{name}: only in the first")),
            Some(other) if other != what => all.push(format!("{name}: {what}\n{name}: {other}")),
            Some(_) => {}
        }
    }
    all.extend(
        second
            .keys()
            .filter(|name| !first.contains_key(*name))
            .map(|name| format!("{name}: only in the second")),
    );
    all
}

fn said(command: &mut Command) -> Result<String, String> {
    let line = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("`{line}` cannot be run: {e}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("`{line}` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn who_builds() {
        assert_eq!(chosen(true, true, true), Ok(Builder::Docker));
        assert_eq!(chosen(true, false, true), Ok(Builder::Buildah));
        assert_eq!(chosen(false, false, true), Ok(Builder::Buildah));
        assert!(chosen(true, false, false).unwrap_err().contains("its daemon does not answer"));
        assert!(chosen(false, false, false).unwrap_err().contains("there is neither"));
    }

    /// Two trees that differ in dates only, then in a byte, a mode, and a name.
    #[test]
    fn what_differs_is_found_and_dates_do_not_count() {
        let folder = std::env::temp_dir().join(format!("xtask-image-{}", std::process::id()));
        let made = |name: &str, script: &str| {
            let (root, tar) = (folder.join(name), folder.join(format!("{name}.tar")));
            fs::create_dir_all(root.join("etc")).unwrap();
            let fill = "cd \"$1\" && printf otpd > etc/passwd && chmod 644 etc/passwd && ";
            run(Command::new("sh").args(["-c", &format!("{fill}{script}"), "sh"]).arg(&root)).unwrap();
            run(Command::new("tar")
                .arg("--create")
                .arg("--file")
                .arg(&tar)
                .arg("--directory")
                .arg(&root)
                .arg("."))
            .unwrap();
            contents(&tar).unwrap()
        };
        let first = made("first", "true");
        assert!(
            first.iter().any(|(name, what)| name.ends_with("etc/passwd") && what.starts_with("-rw-r--r--")),
            "{first:?}"
        );
        assert!(first.values().any(|what| what.split(' ').next_back().unwrap().len() == 64), "{first:?}");
        assert_eq!(differences(&first, &made("dated", "touch -d 2001-01-01 etc/passwd etc .")), [""; 0]);
        for (name, script) in [
            ("byte", "printf otpe > etc/passwd"),
            ("mode", "chmod 600 etc/passwd"),
            ("more", "printf x > etc/group"),
            ("less", "rm etc/passwd"),
        ] {
            assert_eq!(differences(&first, &made(name, script)).len(), 1, "{name}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
