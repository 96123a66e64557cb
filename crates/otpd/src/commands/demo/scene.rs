//! What the demo plays with: providers that are strict and sometimes fail, a config file that points at
//! them, and jobs of which some are resends and some too old.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use otpd_core::{JobId, RouteName, UnixMs};
use otpd_sim::mock::Kind;
use otpd_sim::{Control, FaultPlan, Jobs, Mock, MockConfig};

use crate::config::{Config, Sources};
use crate::failure::Failure;

/// One provider of the demo: its kind, its ceiling, its latency, its faults, and its share of the jobs.
struct Part {
    kind: Kind,
    ceiling: &'static str,
    latency: &'static str,
    faults: &'static str,
    share: u64,
    keys: &'static str,
}

const PARTS: [Part; 6] = [
    Part {
        kind: Kind::Verihubs,
        ceiling: "50/s",
        latency: "20ms..80ms",
        faults: "500=4%,429=2%,bad_recipient=2%,reset=1%",
        share: 40,
        keys: "app_id = \"demo\"\napi_key = \"demo-key\"",
    },
    Part {
        kind: Kind::Msgai,
        ceiling: "100/min",
        latency: "60ms..200ms",
        faults: "500=3%",
        share: 8,
        keys: "api_key = \"sk_live_demo\"\ntemplate = \"otp\"",
    },
    Part {
        kind: Kind::OneMsg,
        ceiling: "20/s",
        latency: "30ms..120ms",
        faults: "500=2%,429=2%",
        share: 14,
        keys: "channel_id = \"DEMO1\"\ntoken = \"demo-token\"\ntemplate = \"otp\"\nlanguage = \"en\"\nnamespace = \"demo\"",
    },
    Part {
        kind: Kind::MetaCloud,
        ceiling: "80/s",
        latency: "50ms..150ms",
        faults: "503=2%,bad_recipient=2%",
        share: 20,
        keys: "phone_number_id = \"1001\"\ntoken = \"demo-token\"\ntemplate = \"otp\"\nlanguage = \"en\"",
    },
    Part {
        kind: Kind::MetaOnprem,
        ceiling: "50/s",
        latency: "20ms..60ms",
        faults: "500=2%",
        share: 12,
        keys: "username = \"demo\"\npassword = \"Demo-pass-1\"\ntemplate = \"otp\"\nlanguage = \"en\"\nnamespace = \"demo\"",
    },
    Part {
        kind: Kind::Betatel,
        ceiling: "10/s",
        latency: "40ms..160ms",
        faults: "500=3%",
        share: 6,
        keys: "api_key = \"demo-key\"\naccount_id = \"demo\"",
    },
];

/// Of a hundred jobs, how many ask again for a recipient whose code is still waiting.
const RESENDS: u64 = 4;
/// Of a hundred jobs, how many come with a code that is about to be of no use.
const STALE: u64 = 2;

/// The set-up demo. Its folder is removed when it is dropped.
pub(crate) struct Scene {
    /// The providers.
    pub(crate) mock: Mock,
    /// The config, read from its file.
    pub(crate) config: Config,
    _folder: Folder,
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A job to publish.
pub(crate) struct Published {
    /// Its id.
    pub(crate) id: JobId,
    /// Its route.
    pub(crate) route: RouteName,
    /// Its body.
    pub(crate) body: Bytes,
}

impl Scene {
    /// Starts the mock and reads the config.
    pub(crate) async fn build(seed: u64) -> Result<Self, Failure> {
        let setup = PARTS.iter().map(control).collect::<Result<Vec<_>, String>>().map_err(Failure::Failed)?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mock = Mock::start(MockConfig { seed, setup, ..MockConfig::default() }, any)
            .await
            .map_err(|e| Failure::Failed(format!("the mock providers cannot listen on 127.0.0.1: {e}")))?;
        let path = std::env::temp_dir().join(format!("otpd-demo-{}-{seed}", std::process::id()));
        let unwritable = |e| Failure::Failed(format!("the folder {} cannot be used: {e}", path.display()));
        std::fs::create_dir_all(&path).map_err(unwritable)?;
        let file = path.join("otpd.toml");
        std::fs::write(&file, config_text(mock.addr(), &path)).map_err(unwritable)?;
        let folder = Folder(path);
        let sources = Sources { file: Some(file), ..Sources::default() };
        let config = sources.load()?.config;
        Ok(Self { mock, config, _folder: folder })
    }
}

fn control(part: &Part) -> Result<Control, String> {
    let mut control = Control::of(part.kind);
    control.ceilings = Some(vec![part.ceiling.parse().map_err(|e| format!("{e}"))?]);
    control.latency = Some(part.latency.parse().map_err(|e| format!("{e}"))?);
    control.faults = Some(FaultPlan::parse(part.kind, part.faults).map_err(|e| e.to_string())?);
    Ok(control)
}

fn config_text(mock: SocketAddr, folder: &Path) -> String {
    let mut text = format!("[broker]\nurl = \"embedded:{}\"\n", folder.join("queue.db").display());
    text.push_str("[retry]\ninitial = \"250ms\"\nmax = \"4s\"\n");
    for part in &PARTS {
        let (kind, ceiling, keys) = (part.kind, part.ceiling, part.keys);
        text.push_str(&format!(
            "[providers.{kind}]\nkind = \"{kind}\"\nbase_url = \"http://{mock}\"\nceiling = \"{ceiling}\"\n{keys}\n"
        ));
    }
    text.push_str("[routes.login]\nproviders = [\"verihubs\", \"msgai\"]\n");
    text
}

/// Some `count` jobs, shared out over the providers by their routes (Verihubs' by `login`, which may go
/// on to Msgai); resends and stale ones among them.
pub(crate) fn jobs(seed: u64, count: u32, now: UnixMs) -> Vec<Published> {
    let of_hundred = |share: u64| (u64::from(count) * share).div_ceil(100);
    let (resends, stale) = (of_hundred(RESENDS), of_hundred(STALE));
    let total: u64 = PARTS.iter().map(|p| of_hundred(p.share)).sum();
    let mut made = Jobs::new(seed, total + stale).created_at(now);
    let mut published = Vec::new();
    for part in &PARTS {
        let route = if part.kind == Kind::Verihubs { "login" } else { part.kind.as_str() };
        let jobs: Vec<_> =
            made.by_ref().take(usize::try_from(of_hundred(part.share)).unwrap_or(usize::MAX)).collect();
        for job in &jobs {
            published.extend(entry(&job.id, route, job.body.clone()));
        }
        if part.kind == Kind::Verihubs {
            // Those that wait longest ask again: only their newer code is worth sending.
            for job in jobs.iter().rev().take(usize::try_from(resends).unwrap_or(usize::MAX)) {
                published.extend(ask_again(job, route, now.plus(Duration::from_millis(5))));
            }
        }
    }
    for job in made.expires_at(now.plus(Duration::from_millis(1))) {
        published.extend(entry(&job.id, "betatel", job.body));
    }
    published
}

/// A newer job for the same recipient, with another code.
fn ask_again(job: &otpd_sim::Job, route: &str, created_at: UnixMs) -> Option<Published> {
    let id = format!("{}-again", job.id);
    let to = job.to.expose_e164();
    let code: String = job.code.expose().chars().rev().collect();
    let body = format!(r#"{{"id":"{id}","to":"{to}","code":"{code}","created_at":"{created_at}"}}"#);
    entry(&id, route, body.into_bytes())
}

fn entry(id: &str, route: &str, body: Vec<u8>) -> Option<Published> {
    Some(Published { id: JobId::parse(id).ok()?, route: RouteName::parse(route).ok()?, body: body.into() })
}
