//! Tables for [`super::HandOver`]: what each sequence of facts makes the next owner count.

use super::*;
use crate::names::{JobId, ProviderName};

const NOW: Mono = Mono(1_000_000_000_000_000);
const WALL: UnixMs = UnixMs(1_800_000_000_000);

fn secs(n: f64) -> Duration {
    Duration::from_secs_f64(n)
}

fn rates() -> Vec<Rate> {
    ["100/min", "100/h"].into_iter().map(|rate| rate.parse().unwrap()).collect()
}

/// A fact of an owner whose clock is five minutes ahead, `at` seconds after the beginning.
fn fact(kind: FactKind, job: &str, at: f64) -> Fact {
    let wall = WALL.plus(secs(300.0 + at));
    let mut fact = Fact::new(kind, JobId::parse(job).unwrap(), ProviderName::parse("p").unwrap(), wall);
    fact.attempt = 1;
    fact
}

fn sending(job: &str, at: f64) -> Said {
    (at, Some(fact(FactKind::Sending, job, at)), None)
}

/// An answer at `at`, half a second after the request was written, or to one that was not.
fn answered(job: &str, at: f64, was_written: bool) -> Said {
    let mut fact = fact(FactKind::Retrying, job, at);
    fact.sent_at = was_written.then(|| fact.at.minus(secs(0.5)));
    fact.http_status = was_written.then_some(500);
    (at, Some(fact), None)
}

/// A checkpoint of `requests` just before, made at `made` and read at `at`.
fn opened(claim: &'static str, at: f64, made: f64, requests: u32) -> Said {
    let mut counts = Counts::default();
    counts.add(NOW.plus(secs(made)), requests);
    let wall = WALL.plus(secs(300.0 + made));
    let checkpoint = (requests > 0).then(|| Checkpoint::new(wall, counts, &rates(), NOW.plus(secs(made))));
    (at, None, Some((claim, checkpoint)))
}

type Said = (f64, Option<Fact>, Option<(&'static str, Option<Checkpoint>)>);

fn heard(said: &[Said]) -> HandOver {
    let mut hand_over = HandOver::new(&rates());
    for (at, fact, opened) in said {
        let read = ReadAt::live(NOW.plus(secs(*at)), WALL.plus(secs(*at)));
        if let Some(fact) = fact {
            hand_over.note(fact, read);
        }
        if let Some((claim, checkpoint)) = opened {
            hand_over.note_opened(claim, checkpoint.as_ref(), read);
        }
    }
    hand_over
}

/// How many requests count in the hour.
fn counted(ceiling: &Ceiling, at: f64) -> usize {
    let now = NOW.plus(secs(at));
    ceiling.checkpoint(now, WALL).requests(now).len()
}

#[test]
fn each_request_counts_once() {
    for (name, said, hour) in [
        ("nothing", vec![], 0),
        ("announced", vec![sending("a", 0.0)], 1),
        ("announced and answered", vec![sending("a", 0.0), answered("a", 1.0, true)], 1),
        ("never written", vec![opened("x", 0.0, 0.0, 0), sending("a", 0.0), answered("a", 1.0, false)], 0),
        ("answered alone", vec![answered("a", 1.0, true)], 1),
        (
            "published again",
            vec![sending("a", 0.0), answered("a", 1.0, true), answered("a", 1.0, true), sending("a", 0.0)],
            1,
        ),
        (
            "announced anew after an answer",
            vec![sending("a", 0.0), answered("a", 1.0, true), sending("a", 2.0)],
            2,
        ),
        ("announced anew, for it did not leave", vec![sending("a", 0.0), sending("a", 2.0)], 1),
        (
            "never written, says another owner",
            vec![
                opened("x", 0.0, 0.0, 0),
                sending("a", 0.0),
                opened("y", 0.5, 0.0, 0),
                answered("a", 1.0, false),
            ],
            1,
        ),
        (
            "before a checkpoint",
            vec![
                opened("x", 0.0, 0.0, 0),
                sending("a", 0.1),
                answered("a", 1.0, true),
                opened("x", 2.0, 2.0, 7),
            ],
            7,
        ),
        (
            "after a checkpoint",
            vec![opened("x", 0.0, 0.0, 7), sending("a", 0.1), answered("a", 1.0, true)],
            8,
        ),
        (
            "answered after it",
            vec![
                opened("x", 0.0, 0.0, 0),
                sending("a", 0.1),
                opened("x", 0.5, 0.5, 7),
                answered("a", 1.0, true),
            ],
            7,
        ),
        (
            "announced after it was made, read before",
            vec![
                opened("x", 0.0, 0.0, 0),
                sending("a", 0.3),
                opened("x", 0.5, 0.2, 7),
                answered("a", 1.0, true),
            ],
            8,
        ),
        (
            "late news of a former owner",
            vec![opened("x", 0.0, 0.0, 9), opened("y", 1.0, 1.0, 8), opened("x", 2.0, 2.0, 5)],
            8,
        ),
        (
            "a new owner counted all before",
            vec![
                opened("x", 0.0, 0.0, 0),
                sending("a", 0.9),
                opened("y", 1.0, 0.0, 0),
                opened("y", 2.0, 0.2, 7),
            ],
            7,
        ),
        (
            "a checkpoint that knows less",
            vec![sending("a", 0.1), sending("b", 0.2), opened("x", 2.0, 2.0, 1)],
            2,
        ),
    ] {
        let mut hand_over = heard(&said);
        let mut ceiling = Ceiling::new(&rates(), None, NOW);
        hand_over.apply(&mut ceiling, NOW.plus(secs(5.0)));
        assert_eq!(counted(&ceiling, 5.0), hour, "{name}");
        // A second take-over, and an answer that comes between, change nothing.
        let read = ReadAt::live(NOW.plus(secs(6.0)), WALL.plus(secs(6.0)));
        let (_, late, _) = answered("a", 6.0, true);
        let is_open = hand_over.followed.values().any(|request| request.state == State::TakenOver);
        if let Some(late) = late.filter(|_| is_open) {
            hand_over.note(&late, read);
        }
        hand_over.apply(&mut ceiling, NOW.plus(secs(7.0)));
        assert_eq!(counted(&ceiling, 7.0), hour, "{name}, twice");
    }
}

/// Of the past every order of pieces comes to the same, or to more within a second of a checkpoint.
#[test]
fn the_past_may_be_told_backwards() {
    let told: Vec<Said> = vec![
        opened("x", 1.0, 1.0, 5),
        sending("a", 2.0),
        answered("a", 3.0, true),
        opened("x", 11.0, 11.0, 6),
        sending("b", 13.0),
        answered("b", 14.0, true),
        // Held, and announced anew with the same number of attempts.
        sending("b", 15.0),
        answered("b", 16.0, true),
        opened("y", 20.0, 20.0, 0),
        sending("c", 21.0),
        opened("y", 30.0, 30.0, 9),
        sending("d", 33.0),
        answered("d", 34.0, true),
        sending("e", 35.0),
    ];
    for pieces in
        [vec![0], vec![0, 4], vec![0, 5, 9], vec![0, 6], vec![0, 7, 11, 12], (0..told.len()).collect()]
    {
        let mut hand_over = HandOver::new(&rates());
        let mut upto = told.len();
        for from in pieces.iter().rev() {
            for (_, fact, opened) in &told[*from..upto] {
                let read = ReadAt::past(NOW.plus(secs(40.0)), WALL.plus(secs(340.0)));
                if let Some(fact) = fact {
                    hand_over.note(fact, read);
                }
                if let Some((claim, checkpoint)) = opened {
                    hand_over.note_opened(claim, checkpoint.as_ref(), read);
                }
            }
            upto = *from;
        }
        let mut ceiling = Ceiling::new(&rates(), None, NOW);
        hand_over.apply(&mut ceiling, NOW.plus(secs(40.0)));
        assert_eq!(counted(&ceiling, 40.0), 11, "9 in the checkpoint, and two after it: {pieces:?}");
        let short = hand_over_short(&told, &pieces);
        assert_eq!(short, 6, "a, b twice, c, d, e one by one: {pieces:?}");
    }
}

/// How many requests are counted one by one.
fn hand_over_short(told: &[Said], pieces: &[usize]) -> usize {
    let mut hand_over = HandOver::new(&["100/min".parse().unwrap()]);
    let mut upto = told.len();
    for from in pieces.iter().rev() {
        for (_, fact, _) in &told[*from..upto] {
            if let Some(fact) = fact {
                hand_over.note(fact, ReadAt::past(NOW.plus(secs(40.0)), WALL.plus(secs(340.0))));
            }
        }
        upto = *from;
    }
    let mut ceiling = Ceiling::new(&["100/min".parse().unwrap()], None, NOW);
    hand_over.apply(&mut ceiling, NOW.plus(secs(40.0)));
    (ceiling.used_ratio(NOW.plus(secs(40.0))) * 100.0).round() as usize
}

#[test]
fn requests_are_dated_by_durations_and_never_too_early() {
    // When the minute is free again, less the minute, for an owner that takes over at `end`.
    let free_at = |said: &[Said], end: f64| {
        let mut ceiling = Ceiling::new(&["1/min".parse().unwrap()], None, NOW);
        heard(said).apply(&mut ceiling, NOW.plus(secs(end)));
        match ceiling.take(NOW.plus(secs(end))) {
            Err(crate::ceiling::ReadyAt::At(at)) => at.since(NOW).as_secs_f64() - 60.25,
            other => panic!("{other:?}"),
        }
    };
    assert!((free_at(&[sending("a", 0.0)], 2.0) - 3.0).abs() < 0.01, "as late as it may be written");
    // Nothing was learned of how long answers take: from the answer.
    assert!((free_at(&[sending("a", 0.0), answered("a", 1.0, true)], 2.0) - 1.0).abs() < 0.01);
    // Once that is known, from the writing; the clock that is 5 minutes ahead does not matter.
    let mut said: Vec<Said> = (0..40)
        .flat_map(|n| {
            let (job, at) = (format!("j{n}"), f64::from(n));
            [sending(&job, at), answered(&job, at + 0.5, true)]
        })
        .collect();
    said.extend([sending("a", 120.9), answered("a", 121.4, true)]);
    assert!((free_at(&said, 122.0) - 120.9).abs() < 0.02, "{}", free_at(&said, 122.0));
}

/// Fault: a checkpoint of an owner that went by shorter windows, or by none, took the place of one that accounted
/// for all of them: live, and in a past that is told newest first.
#[test]
fn a_checkpoint_that_accounts_for_less_takes_nothing_away() {
    let made = |at: f64, rates: &[Rate], requests: u32| {
        let mut counts = Counts::default();
        counts.add(NOW.plus(secs(at)), requests);
        Checkpoint::new(WALL.plus(secs(300.0 + at)), counts, rates, NOW.plus(secs(at)))
    };
    let (whole, short): (_, Vec<Rate>) = (made(1.0, &rates(), 7), vec!["100/2min".parse().unwrap()]);
    for less in [made(30.0, &short, 2), made(30.0, &[], 0)] {
        for claim in ["x", "y"] {
            let mut told = [("x", &whole, 1.0), (claim, &less, 30.0)];
            for is_past in [false, true] {
                let mut hand_over = HandOver::new(&rates());
                for (claim, checkpoint, at) in &told {
                    let read = match is_past {
                        false => ReadAt::live(NOW.plus(secs(*at)), WALL.plus(secs(*at))),
                        true => ReadAt::past(NOW.plus(secs(40.0)), WALL.plus(secs(340.0))),
                    };
                    hand_over.note_opened(claim, Some(checkpoint), read);
                }
                let mut ceiling = Ceiling::new(&rates(), None, NOW);
                hand_over.apply(&mut ceiling, NOW.plus(secs(40.0)));
                assert_eq!(counted(&ceiling, 40.0), 7, "{claim}, past {is_past}: {less:?}");
                told.reverse();
            }
        }
    }
}

#[test]
fn pauses_and_named_limits_are_taken_over() {
    let from = crate::checkpoint::LearnedFrom::Words;
    let learned = LearnedLimit { rate: "10/min".parse().unwrap(), raise_in: secs(30.0), from };
    let pause = crate::checkpoint::Pause { remaining: secs(20.0), reason: Some(Reason::RateProvider) };
    let checkpoint = Checkpoint::default().with_learned(Some(learned)).with_pause(Some(pause));
    let mut hand_over = HandOver::new(&rates());
    hand_over.note_opened("x", Some(&checkpoint), ReadAt::live(NOW, WALL));
    let mut ceiling = Ceiling::new(&rates(), None, NOW);
    let taken = hand_over.apply(&mut ceiling, NOW.plus(secs(5.0)));
    assert_eq!(taken.pause, Some((NOW.plus(secs(20.0)), Some(Reason::RateProvider))));
    // The configured 100/h is slower than 10/min: not believed.
    assert_eq!(ceiling.per_second(), Some(100.0 / 3600.0));
    let mut ceiling = Ceiling::new(&["100/min".parse().unwrap()], None, NOW);
    hand_over.note_opened("x", Some(&checkpoint), ReadAt::live(NOW, WALL));
    hand_over.apply(&mut ceiling, NOW.plus(secs(5.0)));
    assert_eq!(ceiling.per_second(), Some(10.0 / 60.0));
    assert!(!ceiling.recover(NOW.plus(secs(29.0))) && ceiling.recover(NOW.plus(secs(30.0))));
    // What an owner after that had not learned is not learned.
    hand_over.note_opened("y", Some(&Checkpoint::default()), ReadAt::live(NOW, WALL));
    assert_eq!(hand_over.apply(&mut ceiling, NOW.plus(secs(6.0))).pause, None);
    assert_eq!(ceiling.per_second(), Some(100.0 / 60.0));
    let mut paused = fact(FactKind::Paused, "a", 7.0);
    paused.next_attempt_at = Some(paused.at.plus(secs(9.0)));
    hand_over.note(&paused, ReadAt::live(NOW.plus(secs(7.0)), WALL));
    assert_eq!(hand_over.pause(NOW.plus(secs(15.0))), Some((NOW.plus(secs(16.0)), None)));
    assert_eq!(hand_over.pause(NOW.plus(secs(16.0))), None);
    hand_over.note(&fact(FactKind::Resumed, "a", 8.0), ReadAt::live(NOW.plus(secs(8.0)), WALL));
    assert_eq!(hand_over.pause(NOW.plus(secs(9.0))), None);
}

/// Fault: a ceiling of short windows took over the last minute alone, and one that became longer began with that.
#[test]
fn a_longer_window_counts_what_former_owners_sent_before() {
    let mut said: Vec<Said> = (0..50)
        .flat_map(|n| {
            let (job, at) = (format!("j{n}"), f64::from(6 * n));
            [sending(&job, at), answered(&job, at + 1.0, true)]
        })
        .collect();
    said.push(sending("on-its-way", 299.0));
    for longer in ["60/10min", "60/h", "60/d"] {
        let short: Vec<Rate> = vec!["100/s".parse().unwrap()];
        let mut hand_over = heard(&said);
        hand_over.set_rates(&short);
        let mut ceiling = Ceiling::new(&short, None, NOW);
        let now = NOW.plus(secs(400.0));
        let taken = hand_over.apply(&mut ceiling, now);
        assert_eq!(taken.requests, 0, "none that the ceiling in force counts");
        hand_over.apply(&mut ceiling, now);
        ceiling.reconfigure(&[longer.parse().unwrap()], None, now);
        assert_eq!(counted(&ceiling, 400.0), 51, "{longer}");
    }
}

#[test]
fn what_is_followed_is_bounded() {
    let mut hand_over = HandOver::new(&rates());
    for n in 0..40_000 {
        let at = f64::from(n) / 1000.0;
        let read = ReadAt::live(NOW.plus(secs(at)), WALL.plus(secs(at)));
        hand_over.note(&fact(FactKind::Sending, &format!("j{n}"), at), read);
    }
    assert!(hand_over.followed.len() <= MOST_FOLLOWED && hand_over.since.len() <= MOST_SINCE);
    assert!(hand_over.short.times() <= 63_000 / 5 && hand_over.long.times() <= 40_000);
    let mut ceiling = Ceiling::new(&rates(), None, NOW);
    let taken = hand_over.apply(&mut ceiling, NOW.plus(secs(40.0)));
    assert_eq!(taken.requests, 40_000);
}

#[test]
fn a_request_counts_as_written_when_its_owner_said_so() {
    let wall = |at: f64| WALL.plus(secs(300.0 + at));
    let told = |at: f64, before: f64| -> Said {
        let checkpoint = Checkpoint::new(wall(at), Counts::default(), &[], NOW);
        (at, None, Some(("x", Some(checkpoint.with_written_before(Some(wall(before)))))))
    };
    let answers = (0..40).flat_map(|n| {
        let (job, at) = (format!("j{n}"), f64::from(n));
        [sending(&job, at), answered(&job, at + 0.5, true)]
    });
    let known: Vec<Said> = std::iter::once(opened("x", 0.0, 0.0, 0)).chain(answers).collect();
    let unknown = vec![opened("x", 0.0, 0.0, 0)];
    for (name, before, said, taken_at, written) in [
        ("not told", &known, vec![], 121.3, 124.0),
        ("told", &known, vec![told(121.2, 121.1)], 121.3, 121.2),
        ("told twice: the first counts", &known, vec![told(121.2, 121.1), told(121.3, 121.2)], 121.4, 121.2),
        ("it was not written yet", &known, vec![told(121.2, 121.0)], 121.3, 124.0),
        (
            "its answer is late: it may have been lost on the way",
            &known,
            vec![told(121.2, 121.1)],
            122.5,
            124.0,
        ),
        ("how long answers take is not known", &unknown, vec![told(121.2, 121.1)], 121.3, 124.0),
    ] {
        let all: Vec<Said> = before.iter().cloned().chain([sending("a", 121.0)]).chain(said).collect();
        let mut ceiling = Ceiling::new(&["1/min".parse().unwrap()], None, NOW);
        heard(&all).apply(&mut ceiling, NOW.plus(secs(taken_at)));
        let Err(crate::ceiling::ReadyAt::At(at)) = ceiling.take(NOW.plus(secs(taken_at))) else {
            panic!("{name}")
        };
        let counts = at.since(NOW).as_secs_f64() - 60.25;
        assert!((counts - written).abs() < 0.02, "{name}: counted as written at {counts}");
    }
    // Another owner's word says nothing of it.
    let mut all = known;
    all.extend([sending("a", 121.0), opened("y", 121.1, 121.1, 0)]);
    let mut hand_over = heard(&all);
    let (at, _, of_y) = told(121.2, 121.1);
    let checkpoint = of_y.and_then(|(_, checkpoint)| checkpoint);
    hand_over.note_opened("y", checkpoint.as_ref(), ReadAt::live(NOW.plus(secs(at)), WALL.plus(secs(at))));
    assert!(hand_over.followed.values().all(|request| request.written_by.is_none()));
}
