//! One send through the whole provider path, one at a time, against the mock in this process: build
//! the request, HTTP over loopback, read the answer, classify it. The mock's own work is in the figure.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;

use criterion::{Criterion, criterion_group, criterion_main};
use otpd_benches::{NOW, job};
use otpd_core::{Class, Stamp, TemplateChoice};
use otpd_providers::{Adapter, Clock, HttpLimits, ProviderSettings, Secret, Transport};
use otpd_sim::{Mock, MockConfig};

fn secret() -> Secret {
    // Msgai knows its keys by their beginning; the others take any.
    Secret::new("sk_live_bench".to_owned())
}

fn template() -> TemplateChoice {
    let text = |t: &str| Some(t.into());
    TemplateChoice { name: text("otp"), language: text("en"), namespace: text("ns") }
}

fn providers(base: &str) -> Vec<(&'static str, ProviderSettings)> {
    let base_url = base.to_owned();
    vec![
        (
            "onemsg",
            ProviderSettings::OneMsg {
                base_url: base_url.clone(),
                channel_id: "C1".into(),
                token: secret(),
                template: template(),
            },
        ),
        (
            "meta_cloud",
            ProviderSettings::MetaCloud {
                base_url: base_url.clone(),
                phone_number_id: "1001".into(),
                token: secret(),
                api_version: "v21.0".into(),
                template: template(),
            },
        ),
        (
            "meta_onprem",
            ProviderSettings::MetaOnPrem {
                base_url: base_url.clone(),
                username: "bench".into(),
                password: secret(),
                template: template(),
            },
        ),
        (
            "verihubs",
            ProviderSettings::Verihubs {
                base_url: base_url.clone(),
                app_id: secret(),
                api_key: secret(),
                callback_url: None,
                template: template(),
            },
        ),
        (
            "betatel",
            ProviderSettings::Betatel {
                base_url: base_url.clone(),
                api_key: secret(),
                account_id: secret(),
                text: "{code}".into(),
            },
        ),
        ("msgai", ProviderSettings::Msgai { base_url, api_key: secret(), template: template() }),
    ]
}

fn send(c: &mut Criterion) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mock = runtime
        .block_on(Mock::start(MockConfig::default(), SocketAddr::from(([127, 0, 0, 1], 0))))
        .expect("the mock starts");
    let clock = otpd_worker::Clock::system();
    for (name, settings) in providers(&format!("http://{}", mock.addr())) {
        let clocks = Clock::new(move || clock.mono(), || NOW);
        let transport =
            Transport::new(Adapter::new(settings).unwrap(), HttpLimits::default(), clocks).unwrap();
        let job = job(1);
        let expires_at = NOW.plus(std::time::Duration::from_secs(300));
        let attempt = || async {
            let answered = transport.send(&job, expires_at, &Stamp::default()).await;
            assert_eq!(answered.outcome.class(), Class::Accepted, "{name}: {answered:?}");
        };
        c.bench_function(&format!("send/{name}"), |b| b.to_async(&runtime).iter(attempt));
    }
    runtime.block_on(mock.stop());
}

criterion_group!(benches, send);
criterion_main!(benches);
