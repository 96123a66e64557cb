//! The users of the production overlay on a real broker: each can do its work, and not another's.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use otpd_sim::mock::{Balance, Kind};
use otpd_sim::{Control, FaultPlan, Mock, MockConfig};
use otpd_tests::rabbit::PATIENCE;
use otpd_tests::{Broker, claim_port, eventually, otpd_bin, tools};
use serde_json::{Value, json};

use crate::agreement::with_secrets_in;
use crate::everything;
use crate::render::Folder;

const PASSWORD: &str = "pw";

/// What the topology operator would set, as RabbitMQ imports it.
fn definitions() -> Value {
    let specs = |kind: &'static str| everything().all(kind).map(|object| &object["spec"]);
    let users = everything()
        .all("User")
        .map(|user| json!({ "name": user["metadata"]["name"], "password": PASSWORD, "tags": "" }));
    let grants = |kind: &'static str| {
        specs(kind).map(|spec| {
            let mut grant = spec["permissions"].clone();
            grant["user"] = spec["userReference"]["name"].clone();
            grant["vhost"] = spec["vhost"].clone();
            grant
        })
    };
    let policies = specs("Policy").map(|spec| {
        json!({
            "vhost": spec["vhost"], "name": spec["name"], "pattern": spec["pattern"], "apply-to": spec["applyTo"],
            "definition": spec["definition"], "priority": 0,
        })
    });
    json!({
        "vhosts": specs("Vhost").map(|spec| json!({ "name": spec["name"] })).collect::<Vec<_>>(),
        "users": users.collect::<Vec<_>>(),
        "permissions": grants("Permission").collect::<Vec<_>>(),
        "topic_permissions": grants("TopicPermission").collect::<Vec<_>>(),
        "policies": policies.collect::<Vec<_>>(),
    })
}

/// The production config, its providers played by a mock.
struct Stage {
    broker: SocketAddr,
    mock: String,
    folder: Folder,
}

impl Stage {
    fn set(broker: &Broker, mock: &Mock) -> Self {
        let folder = Folder::new();
        let config = with_secrets_in(&folder, everything());
        for file in config
            .split('"')
            .filter(|text| text.starts_with(folder.path().to_str().unwrap()) && !text.ends_with("ca.crt"))
        {
            folder.write(file, "sk_live_0123456789abcdef");
        }
        folder.write("otpd.toml", &config);
        Self { broker: broker.address(), mock: mock.url(), folder }
    }

    /// `otpd` as one of the users.
    fn command(&self, user: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(otpd_bin());
        command.args(arguments).arg("--config").arg(self.folder.path().join("otpd.toml"));
        command.env("OTPD__BROKER__URL", format!("\"amqp://{user}:{PASSWORD}@{}/otp\"", self.broker));
        for provider in ["VERIHUBS", "MSGAI", "ONEMSG", "META", "BETATEL"] {
            command.env(format!("OTPD__PROVIDERS__{provider}__BASE_URL"), format!("\"{}\"", self.mock));
        }
        command
    }

    fn otpd(&self, user: &str, arguments: &[&str]) -> (bool, String) {
        // A broker on busy cores may take longer than a handshake may: that says nothing of rights.
        loop {
            let (done, out, said) = tools::output(&mut self.command(user, arguments));
            if !said.contains("no AMQP handshake within") {
                return (done, out + &said);
            }
        }
    }

    fn can(&self, user: &str, arguments: &[&str]) -> String {
        let (done, said) = self.otpd(user, arguments);
        assert!(done, "{user} must be able to {arguments:?}: {said}");
        said
    }

    fn cannot(&self, user: &str, arguments: &[&str]) {
        let (done, said) = self.otpd(user, arguments);
        assert!(!done && is_refusal(&said), "{user} must not be able to {arguments:?}: {said}");
    }

    fn send<'a>(&self, route: &'a str, to: &'a str) -> [&'a str; 7] {
        ["send", "--code", "482910", "--route", route, "--to", to]
    }
}

/// A refused publish closes the channel and takes the confirm with it.
fn is_refusal(said: &str) -> bool {
    said.contains("ACCESS_REFUSED") || said.contains("no confirm")
}

const MAINTENANCE: &str = "otpd-maintenance";

/// Takes each name that maintenance has a right to away in turn: one of its commands is then refused. And none of them
/// is, as long as nothing is taken away. Needs a dead letter, and a worker.
fn nothing_too_many(stage: &Stage, broker: &Broker) {
    let rights = &everything().one("Permission", MAINTENANCE)["spec"]["permissions"];
    let kinds = ["configure", "write", "read"].map(|kind| (kind, names(rights[kind].as_str().unwrap())));
    let without = |taken: Option<(&str, &str)>| -> Vec<String> {
        let left = |(kind, names): &(&str, Vec<String>)| {
            let left = names.iter().filter(|name| taken != Some((kind, name))).cloned();
            format!(r"^otp\.({})$", left.collect::<Vec<_>>().join("|"))
        };
        kinds.iter().map(left).collect()
    };
    let mut idle = Vec::new();
    let all = kinds.iter().flat_map(|(kind, names)| names.iter().map(|name| (*kind, name.as_str())));
    for (number, taken) in [None].into_iter().chain(all.map(Some)).enumerate() {
        let works = maintenance_works(stage, broker, &without(taken), number);
        match taken {
            None => assert!(works, "maintenance cannot do its work"),
            Some((kind, name)) if works => idle.push(format!("{kind} {name}")),
            Some(_) => {}
        }
    }
    grant(broker, "otp", &without(None));
    assert!(idle.is_empty(), "no command of maintenance needs {idle:?}");
}

/// Whether all commands of maintenance are done with these rights, on the worker's virtual host and on an empty one:
/// what is there already is declared with fewer rights.
fn maintenance_works(stage: &Stage, broker: &Broker, rights: &[String], number: usize) -> bool {
    grant(broker, "otp", rights);
    // Another recipient each time: one and the same would have to wait.
    let to = format!("+{}", 628_123_457_000 + number);
    let mut smoke = stage.send("login", &to).to_vec();
    smoke.push("--wait");
    let commands: [&[&str]; 3] = [&["topology", "apply"], &["dead", "list"], &smoke];
    for command in commands {
        let (done, said) = stage.otpd(MAINTENANCE, command);
        if !done {
            assert!(is_refusal(&said), "{command:?} with {rights:?}: {said}");
            return false;
        }
    }
    let empty = format!("empty{number}");
    broker.ctl(&["add_vhost", &empty]);
    grant(broker, &empty, rights);
    let mut apply = stage.command(MAINTENANCE, &["topology", "apply"]);
    let url = format!("\"amqp://{MAINTENANCE}:{PASSWORD}@{}/{empty}\"", stage.broker);
    let (done, _, said) = tools::output(apply.env("OTPD__BROKER__URL", url));
    assert!(done || is_refusal(&said), "apply with {rights:?}: {said}");
    done
}

fn grant(broker: &Broker, vhost: &str, rights: &[String]) {
    let rights: Vec<&str> = rights.iter().map(String::as_str).collect();
    broker.ctl(&[&["set_permissions", "-p", vhost, MAINTENANCE], &rights[..]].concat());
}

/// The names of `^otp\.(a|b)$`.
fn names(regex: &str) -> Vec<String> {
    let inner = regex.strip_prefix(r"^otp\.(").and_then(|rest| rest.strip_suffix(")$"));
    inner.unwrap_or_else(|| panic!("{regex}")).split('|').map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_user_can_do_its_work_and_not_another_s() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // The first provider of `login` wants money, so its job moves to the next lane; the only one of `betatel` refuses the
    // recipient, so its job dies.
    let faults: FaultPlan = "betatel:bad_recipient=100%".parse().unwrap();
    let setup = vec![
        Control { balance: Some(Balance::Left(0)), ..Control::of(Kind::MetaCloud) },
        Control { faults: Some(faults), ..Control::of(Kind::Betatel) },
    ];
    let mock = MockConfig { setup, ..MockConfig::default() };
    let mock = Mock::start(mock, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    let broker = Broker::shared();
    let stage = Stage::set(broker, &mock);
    let definitions = stage.folder.write("definitions.json", &definitions().to_string());
    broker.ctl(&["import_definitions", definitions.to_str().unwrap()]);

    // Maintenance makes everything; the worker may make nothing, and works.
    stage.cannot("otpd-worker", &["topology", "apply"]);
    assert!(stage.can("otpd-maintenance", &["topology", "apply"]).contains("as configured"));
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, claim_port()));
    let mut command = tokio::process::Command::from(stage.command("otpd-worker", &["worker"]));
    command.env("OTPD__ADMIN__LISTEN", format!("\"{admin}\"")).kill_on_drop(true);
    let log = std::fs::File::create(stage.folder.path().join("log")).unwrap();
    let mut worker = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let said = || std::fs::read_to_string(stage.folder.path().join("log")).unwrap_or_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    eventually("the worker to be ready", PATIENCE, || async {
        let answer = client.get(format!("http://{admin}/readyz")).send().await.ok()?;
        (answer.status() == 200).then_some(())
    })
    .await;
    assert!(worker.try_wait().unwrap().is_none(), "{}", said());

    stage.can("otpd-producer", &stage.send("login", "+628123456890"));
    stage.can("otpd-producer", &stage.send("betatel", "+628123456891"));
    eventually("one job to be accepted by the next provider", PATIENCE, || async {
        mock.stats().of(Kind::Verihubs).any(|account| account.accepted == 1).then_some(())
    })
    .await;
    let dead = ["dead", "list", "--json"];
    eventually("the other one to be dead", PATIENCE, || async {
        stage.can("otpd-maintenance", &dead).contains("betatel").then_some(())
    })
    .await;

    stage.cannot("otpd-worker", &stage.send("login", "+628123456892"));
    // While there is a dead letter: to look into an empty queue needs no right.
    stage.cannot("otpd-producer", &dead);
    stage.cannot("otpd-producer", &["topology", "check"]);

    nothing_too_many(&stage, broker);
    assert!(stage.can("otpd-maintenance", &["topology", "check"]).contains("as configured"));
    assert!(stage.can("otpd-maintenance", &["dead", "replay"]).contains("replayed 1"));
    stage.can("otpd-maintenance", &["dead", "purge", "--yes"]);
    assert!(!said().contains("ACCESS_REFUSED"), "{}", said());
    let _ = worker.kill().await;
}
