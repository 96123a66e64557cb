//! One request, from its arrival to its answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Query, Request};
use axum::response::Response;
use h2::Reason;
use http::request::Parts;
use otpd_core::clock::nanos;
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use super::account::{Account, Ending, Fate};
use super::callbacks::journey::Step;
use super::contract::{Call, Wrong};
use super::control::Control;
use super::endpoint::{Endpoint, Own};
use super::ends::Unended;
use super::fault::{Effect, Fault};
use super::frames;
use super::kind::Kind;
use super::kinds::betatel::{Question, Record, number_in};
use super::kinds::meta_onprem::Login;
use super::kinds::onemsg;
use super::outbox::Sent;
use super::reply::Reply;
use super::wire::Line;
use super::wire_fault::WireFault;
use super::world::World;
use crate::chance::mix;

/// The largest body that is read.
const MAX_BODY: usize = 64 * 1024;
/// The longest that an answer waits for a callback that is to come before it.
const EARLY: Duration = Duration::from_secs(1);
/// The wait that a 429 without a limit of its own names where its form needs one.
const A_MINUTE: Duration = Duration::from_secs(60);

/// Answers a request, the `number`th of its line. `Err` answers it not: over HTTP/2 it resets its
/// stream for this reason, over HTTP/1.1 it closes the connection.
pub(crate) async fn handle(
    world: &World,
    line: &Line,
    number: u32,
    request: Request,
) -> Result<Response, h2::Error> {
    let at = line.came_at().get();
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return Ok(Reply::text(413, "the body is too large").into_response());
    };
    if !line.take(number) {
        return Err(Reason::CANCEL.into());
    }
    let call = |sender| Call { sender, query: parts.uri.query(), headers: &parts.headers, body: &body };
    let reply = match Endpoint::of(&parts.method, parts.uri.path()) {
        Endpoint::Send { kind, sender } => {
            return send(world, (line, number), kind, &call(sender), at).await;
        }
        Endpoint::Login => match Login::read(&parts.headers) {
            Ok(login) => world.login(&login, at),
            Err(refusal) => refusal,
        },
        Endpoint::Record { uuid } => record(world, &call(""), uuid, at),
        Endpoint::Records => records(world, &call(""), at),
        Endpoint::HookInfo { sender } => hook_info(world, &call(sender), at),
        Endpoint::Missed { kind, wrong } => {
            world.strays.fetch_add(1, Ordering::Relaxed);
            missed(kind, wrong)
        }
        Endpoint::Own(own) => answer_own(world, own, &parts, &body),
        Endpoint::Nothing => {
            world.strays.fetch_add(1, Ordering::Relaxed);
            Reply::json(404, &json!({ "error": "no provider has this path" }))
        }
    };
    Ok(reply.into_response())
}

fn missed(kind: Kind, wrong: Wrong) -> Reply {
    let reply = kind.contract().no_such_endpoint(wrong);
    if reply.status == 405 { reply.header("allow", "POST") } else { reply }
}

/// A request to send: booked and decided at once, answered after the provider's latency. A client that
/// goes away meanwhile changes nothing, as with a real provider.
async fn send(
    world: &World,
    (line, number): (&Line, u32),
    kind: Kind,
    call: &Call<'_>,
    at: u64,
) -> Result<Response, h2::Error> {
    let contract = kind.contract();
    let sender = world.sender(kind, call, at);
    let account = &sender.account;
    let message = contract.message(call);
    let (fate, latency) = account.book(at, sender.proof, message.as_ref().ok());
    let early = match (fate.sent(), &message) {
        (Some(number), Ok(message)) => world.tell(account, number, message, (at, latency)),
        (None, _) | (Some(_), Err(_)) => None,
    };
    let sent = |number| match &message {
        Ok(message) => contract.accepted(message, &world.message_id(account, number)),
        Err(refusal) => refusal.clone(),
    };
    let (reply, wish) = match fate {
        Fate::Unauthorised => (sender.refusal.unwrap_or_else(|| contract.unauthorised(call)), Wish::Usual),
        Fate::TooMany(full) => (contract.too_many(Some(full.limit), full.wait), Wish::Usual),
        Fate::Invalid => (message.err().unwrap_or_else(|| Reply::empty(400)), Wish::Usual),
        Fate::OutOfBalance => (contract.out_of_balance(), Wish::Usual),
        Fate::Sent(number) => (sent(number), Wish::Usual),
        Fate::Fault(fault, number) => faulty(kind, fault, || number.map(sent)),
    };
    account.ended(wish.ending(reply.status));
    if let Wish::Wire(WireFault::GoAway) = wish {
        return Err(go_away(line, number));
    }
    if !latency.is_zero() {
        pause(world, latency).await;
    }
    if let Some(answered) = early {
        let _ = timeout(EARLY, answered).await;
    }
    match wish {
        Wish::Usual => {}
        Wish::Trickle => line.trickle(),
        Wish::Reset => line.reset(),
        Wish::Stall => {
            world.ending.cancelled().await;
            line.reset();
        }
        Wish::Wire(fault) => return on_the_wire(world, (line, number), reply, fault).await,
    }
    Ok(reply.into_response())
}

/// How an answer is to be written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Usual,
    Trickle,
    Reset,
    Stall,
    Wire(WireFault),
}

impl Wish {
    /// How the request ends for the client, whose answer has this status if it gets one.
    fn ending(self, status: u16) -> Ending {
        match self {
            Self::Usual | Self::Trickle => Ending::Answered(status),
            Self::Reset | Self::Wire(WireFault::GoAway | WireFault::Refused) => Ending::Reset,
            Self::Stall | Self::Wire(WireFault::Silence) => Ending::Stalled,
            Self::Wire(
                WireFault::Cut
                | WireFault::OpenEnd
                | WireFault::Drip
                | WireFault::Late(_)
                | WireFault::Gzip
                | WireFault::Hints
                | WireFault::HugeHead,
            ) => Ending::Answered(status),
        }
    }
}

/// Says that this request and those after it are not processed; where it is too late for that, refuses
/// this one.
fn go_away(line: &Line, number: u32) -> h2::Error {
    match line.go_away(number) {
        Some(last) => {
            line.say(&frames::go_away(last));
            Reason::CANCEL.into()
        }
        None => Reason::REFUSED_STREAM.into(),
    }
}

/// Answers over a wire that does this.
async fn on_the_wire(
    world: &World,
    (line, number): (&Line, u32),
    reply: Reply,
    fault: WireFault,
) -> Result<Response, h2::Error> {
    match fault {
        WireFault::Cut => return Ok(reply.with_body(|data| Body::new(Unended::cut(data)))),
        WireFault::OpenEnd => return Ok(reply.with_body(|data| Body::new(Unended::held(data)))),
        WireFault::Drip => line.drip(),
        WireFault::Late(wait) => pause(world, wait).await,
        WireFault::Gzip => return Ok(reply.compressed()),
        WireFault::Hints => match line.stream(number) {
            Some(stream) => line.say(&frames::early_hints(stream)),
            None => line.say(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"),
        },
        WireFault::HugeHead => return Ok(reply.with_huge_head()),
        WireFault::Silence => {
            line.fall_silent();
            world.ending.cancelled().await;
            line.reset();
        }
        WireFault::GoAway => return Err(go_away(line, number)),
        WireFault::Refused => return Err(Reason::REFUSED_STREAM.into()),
    }
    Ok(reply.into_response())
}

fn faulty(kind: Kind, fault: Fault, sent: impl FnOnce() -> Option<Reply>) -> (Reply, Wish) {
    let contract = kind.contract();
    match fault.effect {
        Effect::TooMany { retry_after } => {
            let reply = contract.too_many(None, retry_after.unwrap_or(A_MINUTE));
            (reply.retry_after(retry_after), Wish::Usual)
        }
        Effect::Wordless => (Reply::empty(429), Wish::Usual),
        Effect::Failed { error, retry_after } => {
            (contract.failed(error).retry_after(retry_after), Wish::Usual)
        }
        Effect::Refused(refusal) => (contract.refused(refusal), Wish::Usual),
        Effect::Garbage => (Reply::garbage(), Wish::Usual),
        Effect::Slow => (sent().unwrap_or_else(Reply::garbage), Wish::Trickle),
        Effect::Reset => (Reply::empty(500), Wish::Reset),
        Effect::Stall => (Reply::empty(500), Wish::Stall),
        Effect::Wire(wire) => (sent().unwrap_or_else(|| Reply::empty(500)), Wish::Wire(wire)),
    }
}

/// Waits, but not for longer than the mock lives.
async fn pause(world: &World, latency: Duration) {
    tokio::select! {
        () = tokio::time::sleep(latency) => {}
        () = world.ending.cancelled() => {}
    }
}

/// The account of this kind that asks about its messages; `Err` is the answer to one that proves none.
fn asker(world: &World, kind: Kind, call: &Call<'_>, at: u64) -> Result<Arc<Account>, Reply> {
    let sender = world.sender(kind, call, at);
    if sender.account.is_proven(sender.proof) {
        sender.account.looked_up();
        Ok(sender.account)
    } else {
        Err(sender.refusal.unwrap_or_else(|| kind.contract().unauthorised(call)))
    }
}

/// All steps of one message so far (1MSG).
fn hook_info(world: &World, call: &Call<'_>, at: u64) -> Reply {
    let account = match asker(world, Kind::OneMsg, call, at) {
        Ok(account) => account,
        Err(refusal) => return refusal,
    };
    let Some((id, mixed)) = onemsg::message_asked(call.query) else {
        return onemsg::hook_info("", None, &[]);
    };
    let found = account.messages(|all| {
        let sent = all.iter().rev().find(|sent| mix(sent.number) == mixed)?;
        let elapsed = at.saturating_sub(sent.at);
        let steps = sent.journey.steps().filter(|(_, after)| nanos(*after) <= elapsed);
        let steps = steps.map(|(step, after)| (step, world.wall(sent.at).plus(after))).collect();
        (world.message_id(&account, sent.number) == id).then_some((Some(sent.phone), steps))
    });
    let (to, steps): (_, Vec<_>) = found.unwrap_or_default();
    onemsg::hook_info(id, to, &steps)
}

fn record(world: &World, call: &Call<'_>, uuid: &str, at: u64) -> Reply {
    let account = match asker(world, Kind::Betatel, call, at) {
        Ok(account) => account,
        Err(refusal) => return refusal,
    };
    let number = number_in(uuid).filter(|number| world.message_id(&account, *number) == uuid);
    account.messages(|sent| {
        let index = number.and_then(|number| sent.binary_search_by_key(&number, |sent| sent.number).ok());
        match index.and_then(|index| sent.get(index)) {
            Some(sent) => Reply::json(200, &as_record(world, &account, sent, at).to_json()),
            None => Question::not_found(),
        }
    })
}

fn records(world: &World, call: &Call<'_>, at: u64) -> Reply {
    let asked =
        asker(world, Kind::Betatel, call, at).and_then(|account| Ok((account, Question::read(call)?)));
    match asked {
        Err(refusal) => refusal,
        Ok((account, question)) => account
            .messages(|sent| question.answer(sent.iter().map(|sent| as_record(world, &account, sent, at)))),
    }
}

fn as_record<'a>(world: &World, account: &Account, sent: &'a Sent, now: u64) -> Record<'a> {
    let elapsed = Duration::from_nanos(now.saturating_sub(sent.at));
    let delivered = sent.journey.reached(Step::Delivered).filter(|after| *after <= elapsed);
    Record {
        step: sent.journey.at(elapsed).map(|(step, _)| step),
        delivered_at: delivered.map(|after| world.wall(sent.at).plus(after)),
        uuid: world.message_id(account, sent.number),
        to: sent.phone,
        text: sent.text.as_deref().unwrap_or_default(),
        at: world.wall(sent.at),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    #[serde(default)]
    kind: Option<Kind>,
    #[serde(default)]
    account: Option<String>,
    #[serde(default)]
    limit: Option<usize>,
}

fn answer_own(world: &World, own: Own, parts: &Parts, body: &Bytes) -> Reply {
    let invalid = |text: String| Reply::json(400, &json!({ "error": text }));
    let which = match Query::<Which>::try_from_uri(&parts.uri) {
        Ok(Query(which)) => which,
        Err(error) => return invalid(error.body_text()),
    };
    match own {
        Own::Stats => Reply::json(200, &world.stats()),
        Own::Messages => {
            let limit = which.limit.unwrap_or(100);
            Reply::json(200, &world.messages(which.kind, which.account.as_deref(), limit))
        }
        Own::Arrivals => {
            let limit = which.limit.unwrap_or(usize::MAX);
            let accounts = world.accounts(which.kind, which.account.as_deref());
            let mut times: Vec<u64> = accounts.iter().flat_map(|account| account.arrivals(limit)).collect();
            times.sort_unstable();
            let skipped = times.len().saturating_sub(limit);
            Reply::json(200, &times.get(skipped..).unwrap_or_default())
        }
        Own::Reset => {
            world.reset_stats();
            Reply::json(200, &json!({}))
        }
        Own::Control => match serde_json::from_slice::<Control>(body) {
            Ok(control) => {
                world.control(&control);
                Reply::json(200, &json!({}))
            }
            Err(error) => invalid(error.to_string()),
        },
    }
}
