//! What each provider is sent, to the byte.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests, and what they call")]

mod common;

use otpd_core::{Reason, TemplateChoice, UnixMs};
use otpd_providers::{Adapter, Kind, ProviderSettings, Secret, SetupError};

use common::{NOW, adapter, job, job_with, settings, template};

/// 90.9 seconds later.
const EXPIRES: UnixMs = UnixMs(NOW.0 + 90_900);

fn check(adapter: &Adapter, url: &str, headers: &[(&str, &str)], body: &str) {
    let request = adapter.request(&job(), NOW, EXPIRES).unwrap();
    assert_eq!(request.url.as_str(), url);
    let mut sent: Vec<(&str, &str)> =
        request.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    sent.sort_unstable();
    assert_eq!(sent, headers);
    assert_eq!(std::str::from_utf8(&request.body).unwrap(), body);
}

fn body_of(adapter: &Adapter, job: &otpd_core::SendJob) -> serde_json::Value {
    serde_json::from_slice(&adapter.request(job, NOW, EXPIRES).unwrap().body).unwrap()
}

#[test]
fn onemsg() {
    check(
        &adapter(Kind::OneMsg, "https://api.1msg.io"),
        "https://api.1msg.io/CH-1/sendTemplate",
        &[("authorization", "Bearer sk_live_tokenTOKENtoken"), ("content-type", "application/json")],
        concat!(
            r#"{"phone":"628123456890","template":"otp_login","namespace":"ns_1","#,
            r#""language":{"policy":"deterministic","code":"id"},"params":["#,
            r#"{"type":"body","parameters":[{"type":"text","text":"482910"}]},"#,
            r#"{"type":"button","sub_type":"url","index":"0","parameters":[{"type":"text","text":"482910"}]}]}"#,
        ),
    );
}

#[test]
fn meta_cloud() {
    check(
        &adapter(Kind::MetaCloud, "https://graph.facebook.com"),
        "https://graph.facebook.com/v25.0/10229/messages",
        &[("authorization", "Bearer sk_live_tokenTOKENtoken"), ("content-type", "application/json")],
        concat!(
            r#"{"messaging_product":"whatsapp","recipient_type":"individual","to":"628123456890","type":"template","#,
            r#""template":{"name":"otp_login","language":{"code":"id"},"components":["#,
            r#"{"type":"body","parameters":[{"type":"text","text":"482910"}]},"#,
            r#"{"type":"button","sub_type":"url","index":"0","parameters":[{"type":"text","text":"482910"}]}]},"#,
            r#""biz_opaque_callback_data":"{\"job\":\"job-1\"}"}"#,
        ),
    );
}

#[test]
fn meta_onprem() {
    check(
        &adapter(Kind::MetaOnPrem, "https://wa.internal:9090/"),
        "https://wa.internal:9090/v1/messages",
        &[("content-type", "application/json")],
        concat!(
            r#"{"to":"628123456890","type":"template","template":{"namespace":"ns_1","name":"otp_login","#,
            r#""language":{"code":"id","policy":"deterministic"},"components":["#,
            r#"{"type":"body","parameters":[{"type":"text","text":"482910"}]},"#,
            r#"{"type":"button","sub_type":"url","index":0,"parameters":[{"type":"text","text":"482910"}]}]}}"#,
        ),
    );
}

#[test]
fn verihubs() {
    let headers = [
        ("accept", "application/json"),
        ("api-key", "sk_live_tokenTOKENtoken"),
        ("app-id", "accountACCOUNT"),
        ("content-type", "application/json"),
    ];
    let url = "https://api.verihubs.com/v2/whatsapp/otp/send";
    check(
        &adapter(Kind::Verihubs, "https://api.verihubs.com"),
        url,
        &headers,
        r#"{"msisdn":"628123456890","otp":"482910","time_limit":"90","lang_code":"id","template_name":"otp_login"}"#,
    );
    let bare = Adapter::new(ProviderSettings::Verihubs {
        base_url: "https://api.verihubs.com".into(),
        app_id: Secret::new("accountACCOUNT"),
        api_key: Secret::new("sk_live_tokenTOKENtoken"),
        callback_url: Some("https://cb.example/callbacks/verihubs/t0ken".into()),
        template: TemplateChoice::default(),
    })
    .unwrap();
    check(
        &bare,
        url,
        &headers,
        concat!(
            r#"{"msisdn":"628123456890","otp":"482910","time_limit":"90","lang_code":"en","#,
            r#""callback_url":"https://cb.example/callbacks/verihubs/t0ken/job-1"}"#,
        ),
    );
    // A code that is of no use any more still has a time limit that Verihubs takes.
    let late = bare.request(&job(), EXPIRES, NOW).unwrap();
    assert!(std::str::from_utf8(&late.body).unwrap().contains(r#""time_limit":"1""#));
}

#[test]
fn betatel() {
    let headers = [
        ("content-type", "application/json"),
        ("x-account-id", "accountACCOUNT"),
        ("x-api-key", "sk_live_tokenTOKENtoken"),
    ];
    let url = "https://api.betatel.com/api/v1/connect-hub/whatsapp/otp";
    let text = |text: &str| {
        Adapter::new(ProviderSettings::Betatel {
            base_url: "https://api.betatel.com".into(),
            api_key: Secret::new("sk_live_tokenTOKENtoken"),
            account_id: Secret::new("accountACCOUNT"),
            text: text.into(),
        })
    };
    check(&text("{code}").unwrap(), url, &headers, r#"{"to":"628123456890","text":"482910"}"#);
    check(
        &text("\"{code}\" is your code.").unwrap(),
        url,
        &headers,
        r#"{"to":"628123456890","text":"\"482910\" is your code."}"#,
    );
    for bad in [String::new(), "your code".into(), "x".repeat(4090) + "{code}"] {
        assert!(matches!(text(&bad), Err(SetupError::Setting { key: "text", .. })));
    }
}

#[test]
fn msgai() {
    check(
        &adapter(Kind::Msgai, "https://api.msgai.in"),
        "https://api.msgai.in/api/v1/public/message",
        &[("authorization", "Basic sk_live_tokenTOKENtoken"), ("content-type", "application/json")],
        concat!(
            r#"{"fullPhoneNumber":"+628123456890","callbackData":"{\"job\":\"job-1\"}","type":"Template","#,
            r#""template":{"name":"otp_login","languageCode":"id","bodyValues":["482910"],"#,
            r#""template_category":"authentication"}}"#,
        ),
    );
    let named = TemplateChoice { name: Some("otp".into()), ..TemplateChoice::default() };
    let bare = Adapter::new(settings(Kind::Msgai, "https://api.msgai.in", named)).unwrap();
    assert_eq!(body_of(&bare, &job())["template"].get("languageCode"), None);
}

#[test]
fn a_jobs_own_template_wins() {
    let job = job_with(r#","template":{"name":"mine","language":"pt_BR","namespace":"own"}"#);
    let body = body_of(&adapter(Kind::OneMsg, "https://a"), &job);
    assert_eq!((&body["template"], &body["namespace"]), (&"mine".into(), &"own".into()));
    assert_eq!(body["language"]["code"], "pt_BR");
    let body = body_of(&adapter(Kind::Verihubs, "https://a"), &job);
    assert_eq!((&body["template_name"], &body["lang_code"]), (&"mine".into(), &"pt_BR".into()));
}

#[test]
fn metadata_is_echoed() {
    let job = job_with(r#","metadata":{"order":"A-7"}"#);
    let echo = r#"{"job":"job-1","metadata":{"order":"A-7"}}"#;
    assert_eq!(body_of(&adapter(Kind::MetaCloud, "https://a"), &job)["biz_opaque_callback_data"], echo);
    assert_eq!(body_of(&adapter(Kind::Msgai, "https://a"), &job)["callbackData"], echo);
}

#[test]
fn each_job_has_its_callback_address_at_verihubs() {
    let verihubs = |callback_url: &str| {
        Adapter::new(ProviderSettings::Verihubs {
            base_url: "https://a".into(),
            app_id: Secret::new("a"),
            api_key: Secret::new("k"),
            callback_url: Some(callback_url.into()),
            template: TemplateChoice::default(),
        })
    };
    for (base, id, address) in [
        ("https://cb.example/cb/v/t", "A.b_c-9", "https://cb.example/cb/v/t/A.b_c-9"),
        ("http://cb.example/", "j", "http://cb.example/j"),
        ("https://cb.example/t", "..", "https://cb.example/t"),
        ("https://cb.example/t", ".", "https://cb.example/t"),
    ] {
        let job = format!(r#"{{"id":"{id}","to":"+628123456890","code":"482910"}}"#);
        let job = otpd_core::SendJob::parse(job.as_bytes(), NOW).unwrap();
        assert_eq!(body_of(&verihubs(base).unwrap(), &job)["callback_url"], address, "{id}");
    }
    for bad in ["", "cb.example/t", "ftp://cb.example", "https://cb.example?x=1", "https://cb.example/#t"] {
        assert!(matches!(verihubs(bad), Err(SetupError::Setting { key: "callback_url", .. })), "{bad}");
    }
}

#[test]
fn a_missing_template_is_a_reason() {
    for (kind, given) in [
        (Kind::OneMsg, TemplateChoice::default()),
        (Kind::OneMsg, TemplateChoice { namespace: None, ..template() }),
        (Kind::MetaCloud, TemplateChoice::default()),
        (Kind::MetaOnPrem, TemplateChoice { namespace: None, ..template() }),
        (Kind::Msgai, TemplateChoice::default()),
    ] {
        let adapter = Adapter::new(settings(kind, "https://a", given)).unwrap();
        assert_eq!(adapter.request(&job(), NOW, EXPIRES).err(), Some(Reason::TemplateMissing), "{kind}");
    }
}

#[test]
fn settings_that_cannot_be_used_name_their_key() {
    let onemsg = |base_url: &str, channel_id: &str, token: &str| {
        let (base_url, channel_id) = (base_url.to_owned(), channel_id.to_owned());
        let token = Secret::new(token);
        Adapter::new(ProviderSettings::OneMsg { base_url, channel_id, token, template: template() })
    };
    for (base_url, channel_id, token, key) in [
        ("api.1msg.io", "C", "t", "base_url"),
        ("https://a?token=x", "C", "t", "base_url"),
        ("https://a", "../x", "t", "channel_id"),
        ("https://a", "C", "", "token"),
        ("https://a", "C", "s3cret with spaces", "token"),
    ] {
        let error = onemsg(base_url, channel_id, token).unwrap_err();
        assert!(matches!(error, SetupError::Setting { key: k, .. } if k == key), "{error}");
        assert!(!error.to_string().contains("s3cret"));
    }
}
