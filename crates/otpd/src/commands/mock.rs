//! `otpd mock`: mock providers on one port until the process is asked to end, then what they counted.

use std::path::Path;
use std::process::ExitCode;

use otpd_core::Rate;
use otpd_sim::mock::{AccountStats, Address, CallTo, Callbacks, Shares};
use otpd_sim::{Control, FaultPlan, Kind, Latency, Mock, MockConfig, Stats};
use serde_json::json;

use crate::cli::MockArgs;
use crate::failure::Failure;
use crate::output::{self, or_dash};
use crate::signals;

/// Runs the command.
///
/// # Errors
/// Where an argument is wrong or the address is taken.
pub async fn run(args: MockArgs) -> Result<ExitCode, Failure> {
    let mut setup = setup(&args.ceilings, &args.latencies, &args.faults)?;
    callbacks(&mut setup, &args)?;
    let config = MockConfig {
        seed: args.seed,
        setup: setup.clone(),
        tls: args.tls_ca.is_some().then_some(args.tls_certificate),
        streams: args.streams,
        ..MockConfig::default()
    };
    let listen = args.listen;
    let mock = Mock::start(config, listen).await.map_err(|e| {
        Failure::Failed(format!("cannot listen on {listen}: {e}; choose another address with --listen"))
    })?;
    if let (Some(file), Some(authority)) = (&args.tls_ca, mock.authority()) {
        std::fs::write(file, authority)
            .map_err(|e| Failure::Failed(format!("--tls-ca {}: cannot be written: {e}", file.display())))?;
    }
    announce(&mock.url(), args.tls_ca.as_deref(), &setup, args.json.json)?;
    signals::asked_to_end().await;
    report(&mock.stop().await, args.json.json)?;
    Ok(ExitCode::SUCCESS)
}

/// One control a kind, in the order of the kinds; wrong arguments are wrong use.
pub(crate) fn setup(
    ceilings: &[String],
    latencies: &[String],
    faults: &[String],
) -> Result<Vec<Control>, Failure> {
    let mut all = Kind::ALL.map(Control::of);
    for text in ceilings {
        let (kind, rate) = of_kind("--ceiling", text, '=')?;
        let rate: Rate = rate.parse().map_err(|e| wrong("--ceiling", text, e))?;
        control(&mut all, kind, |control| control.ceilings.get_or_insert_default().push(rate));
    }
    for text in latencies {
        let (kind, latency) = of_kind("--latency", text, '=')?;
        let latency: Latency = latency.parse().map_err(|e| wrong("--latency", text, e))?;
        control(&mut all, kind, |control| control.latency = Some(latency));
    }
    for text in faults {
        let plan: FaultPlan = text.parse().map_err(|e| wrong("--fault", text, e))?;
        if all.iter().any(|control| control.kind == plan.kind() && control.faults.is_some()) {
            return Err(wrong(
                "--fault",
                text,
                "this kind has faults already; write them into one, with commas",
            ));
        }
        control(&mut all, plan.kind(), |control| control.faults = Some(plan.clone()));
    }
    Ok(all.into())
}

/// What becomes of messages, and who is told.
fn callbacks(all: &mut [Control], args: &MockArgs) -> Result<(), Failure> {
    for text in &args.callbacks {
        let (kind, url) = of_kind("--callback", text, '=')?;
        let address: Address = url.parse().map_err(|e| wrong("--callback", text, e))?;
        calling(all, kind, |callbacks| callbacks.url = Some(CallTo::Address(address)));
    }
    for text in &args.callback_delays {
        let (kind, delay) = of_kind("--callback-delay", text, '=')?;
        let delay: Latency = delay.parse().map_err(|e| wrong("--callback-delay", text, e))?;
        calling(all, kind, |callbacks| callbacks.delay = Some(delay));
    }
    for text in &args.callback_shares {
        let (kind, shares) = of_kind("--callback-share", text, ':')?;
        let shares: Shares = shares.parse().map_err(|e| wrong("--callback-share", text, e))?;
        calling(all, kind, |callbacks| callbacks.shares = Some(shares));
    }
    for text in &args.callback_secrets {
        // The text is not repeated: it is a secret.
        let (kind, secret) = of_kind("--callback-secret", text, '=')
            .map_err(|_| Failure::Usage("--callback-secret: must be KIND=SECRET".into()))?;
        calling(all, kind, |callbacks| callbacks.secret = Some(secret.to_owned()));
    }
    Ok(())
}

fn calling(all: &mut [Control], kind: Kind, change: impl FnOnce(&mut Callbacks)) {
    control(all, kind, |control| change(control.callbacks.get_or_insert_default()));
}

fn control(all: &mut [Control], kind: Kind, change: impl FnOnce(&mut Control)) {
    if let Some(control) = all.iter_mut().find(|control| control.kind == kind) {
        change(control);
    }
}

fn of_kind<'a>(flag: &str, text: &'a str, sign: char) -> Result<(Kind, &'a str), Failure> {
    let (kind, value) =
        text.split_once(sign).ok_or_else(|| wrong(flag, text, format!("must be KIND{sign}VALUE")))?;
    let kind = kind.trim().parse().map_err(|e| wrong(flag, text, e))?;
    Ok((kind, value.trim()))
}

fn wrong(flag: &str, text: &str, problem: impl std::fmt::Display) -> Failure {
    Failure::Usage(format!("{flag} {text:?}: {problem}"))
}

fn announce(url: &str, ca: Option<&Path>, setup: &[Control], as_json: bool) -> Result<(), Failure> {
    if as_json {
        let base_urls: serde_json::Map<String, serde_json::Value> =
            setup.iter().map(|control| (control.kind.to_string(), url.into())).collect();
        return Ok(output::json_line(&json!({ "listening": url, "base_url": base_urls, "ca": ca }))?);
    }
    output::line(&format!("listening on {url} (counts: {url}/stats; Ctrl-C ends)\n"))?;
    let rows = setup.iter().map(|control| {
        let ceilings = control.ceilings.iter().flatten().map(ToString::to_string).collect::<Vec<_>>();
        let faults = control.faults.as_ref().map(ToString::to_string);
        [
            control.kind.to_string(),
            match ca {
                None => format!("base_url = \"{url}\""),
                Some(file) => format!("base_url = \"{url}\", ca = {{ file = {file:?} }}"),
            },
            or_dash((!ceilings.is_empty()).then(|| ceilings.join(", "))),
            or_dash(control.latency),
            or_dash(faults),
            or_dash(
                control.callbacks.as_ref().and_then(|callbacks| callbacks.url.as_ref()).and_then(address),
            ),
        ]
    });
    Ok(output::table(["kind", "write into its config", "ceiling", "latency", "faults", "calls back"], rows)?)
}

fn address(to: &CallTo) -> Option<&Address> {
    match to {
        CallTo::Nowhere => None,
        CallTo::Address(address) => Some(address),
    }
}

fn report(stats: &Stats, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return Ok(output::json_line(stats)?);
    }
    output::line("")?;
    let columns = [
        "kind",
        "account",
        "attempts",
        "accepted",
        "twice",
        "429",
        "4xx",
        "5xx",
        "reset",
        "stalled",
        "most in 1s",
        "callbacks taken",
    ];
    Ok(output::table(columns, stats.accounts.iter().map(row))?)
}

fn row(account: &AccountStats) -> [String; 12] {
    let answers = |statuses: std::ops::Range<u16>| {
        let all = account.answers.iter().filter(|&(status, _)| statuses.contains(status) && *status != 429);
        all.map(|(_, count)| count).sum::<u64>().to_string()
    };
    let callbacks = &account.callbacks;
    let second = account.most_in(std::time::Duration::from_secs(1));
    [
        account.kind.to_string(),
        account.account.clone(),
        account.attempts.to_string(),
        account.accepted.to_string(),
        account.duplicates.to_string(),
        account.answers.get(&429).copied().unwrap_or(0).to_string(),
        answers(400..500),
        answers(500..600),
        account.resets.to_string(),
        account.stalls.to_string(),
        or_dash(second),
        or_dash((callbacks.sent > 0).then(|| format!("{} of {}", callbacks.taken, callbacks.sent))),
    ]
}
