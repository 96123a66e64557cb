//! What the tests share: one account of each kind, a job, and a server that answers as told.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test file uses its part"
)]

pub mod server;

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use otpd_core::{Mono, SendJob, TemplateChoice, UnixMs};
use otpd_providers::{Adapter, Clock, Kind, ProviderSettings, Secret};

/// The credentials of every account here: nothing may ever show them.
pub const SECRETS: [&str; 2] = ["sk_live_tokenTOKENtoken", "accountACCOUNT"];
pub const PHONE: &str = "628123456890";
pub const CODE: &str = "482910";
/// 20 November 2026, 09:30:00 UTC.
pub const NOW: UnixMs = UnixMs(1_795_167_000_000);

pub fn template() -> TemplateChoice {
    TemplateChoice {
        name: Some("otp_login".into()),
        language: Some("id".into()),
        namespace: Some("ns_1".into()),
    }
}

pub fn settings(kind: Kind, base_url: &str, template: TemplateChoice) -> ProviderSettings {
    let base_url = base_url.to_owned();
    let [token, account] = SECRETS.map(Secret::new);
    match kind {
        Kind::OneMsg => ProviderSettings::OneMsg { base_url, channel_id: "CH-1".into(), token, template },
        Kind::MetaCloud => ProviderSettings::MetaCloud {
            base_url,
            phone_number_id: "10229".into(),
            token,
            api_version: "v25.0".into(),
            template,
        },
        Kind::MetaOnPrem => {
            ProviderSettings::MetaOnPrem { base_url, username: "admin".into(), password: token, template }
        }
        Kind::Verihubs => ProviderSettings::Verihubs {
            base_url,
            app_id: account,
            api_key: token,
            callback_url: None,
            template,
        },
        Kind::Betatel => {
            ProviderSettings::Betatel { base_url, api_key: token, account_id: account, text: "{code}".into() }
        }
        Kind::Msgai => ProviderSettings::Msgai { base_url, api_key: token, template },
    }
}

pub fn adapter(kind: Kind, base_url: &str) -> Adapter {
    Adapter::new(settings(kind, base_url, template())).unwrap()
}

pub fn job_with(more: &str) -> SendJob {
    let body = format!(r#"{{"id":"job-1","to":"+{PHONE}","code":"{CODE}"{more}}}"#);
    SendJob::parse(body.as_bytes(), NOW).unwrap()
}

pub fn job() -> SendJob {
    job_with("")
}

pub fn now() -> UnixMs {
    UnixMs(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap())
}

pub fn clock() -> Clock {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let origin = *ORIGIN.get_or_init(Instant::now);
    Clock::new(move || Mono(u64::try_from(origin.elapsed().as_nanos()).unwrap()), now)
}

/// The examples of the providers' page: each an answer and what it means.
pub fn cases() -> Vec<serde_json::Value> {
    serde_json::from_str(include_str!("../data/provider_cases.json")).unwrap()
}

/// The kind a case is about; `None` for the hook, which is no provider.
pub fn kind_of(case: &serde_json::Value) -> Option<Kind> {
    match case["provider"].as_str().unwrap() {
        "1msg" => Some(Kind::OneMsg),
        "supabase_hook" => None,
        name => Some(Kind::parse(name).unwrap_or_else(|| panic!("{name}"))),
    }
}
