//! Jobs to feed otpd with: any number, from a seed, no two with the same id, phone or code, so that
//! every message a provider saw can be traced to the one job it was sent for.
//!
//! Their phones begin with +999, a country code that nobody has: a generated job that reaches a real
//! provider by mistake reaches nobody.

use otpd_core::{OtpCode, Phone, UnixMs};
use serde::Serialize;

use crate::chance::mix;

/// The most jobs of one seed.
pub const MAX_JOBS: u64 = 1_000_000_000;

/// One job.
#[derive(Clone)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// Whom it is for.
    pub to: Phone,
    /// What is to be sent.
    pub code: OtpCode,
    /// The body to publish (version 1), with the code in clear.
    pub body: Vec<u8>,
}

/// A series of jobs; an iterator that can be cloned and starts over where it was.
#[derive(Clone, Debug)]
pub struct Jobs {
    seed: u64,
    next: u64,
    count: u64,
    code_space: u64,
    code_digits: usize,
    created_at: Option<UnixMs>,
    expires_at: Option<UnixMs>,
    purpose: Option<Box<str>>,
}

#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    to: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

impl Jobs {
    /// `count` jobs (at most [`MAX_JOBS`]) with six-digit codes; nine-digit ones above a million jobs.
    #[must_use]
    pub fn new(seed: u64, count: u64) -> Self {
        let count = count.min(MAX_JOBS);
        let (code_space, code_digits) = if count <= 1_000_000 { (1_000_000, 6) } else { (MAX_JOBS, 9) };
        Self {
            seed,
            next: 0,
            count,
            code_space,
            code_digits,
            created_at: None,
            expires_at: None,
            purpose: None,
        }
    }

    /// The same jobs, made then. Without it, whoever takes a job dates it.
    #[must_use]
    pub fn created_at(mut self, at: UnixMs) -> Self {
        self.created_at = Some(at);
        self
    }

    /// The same jobs, of no use from then on. Without it, their route's validity decides.
    #[must_use]
    pub fn expires_at(mut self, at: UnixMs) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// The same jobs with this purpose.
    #[must_use]
    pub fn purpose(mut self, purpose: impl Into<Box<str>>) -> Self {
        self.purpose = Some(purpose.into());
        self
    }

    /// Job `number` (from 0) under another id, made then and of no use from then on. What was set for the
    /// whole series, but for its purpose, does not count. `None` past the last job.
    #[must_use]
    pub fn made(&self, number: u64, id: &str, created: UnixMs, expires: Option<UnixMs>) -> Option<Job> {
        (number < self.count).then(|| self.job(number, id.to_owned(), Some(created), expires))?
    }

    fn job(&self, number: u64, id: String, created: Option<UnixMs>, expires: Option<UnixMs>) -> Option<Job> {
        let phone = format!("+999{:09}", shuffled(number, mix(self.seed), MAX_JOBS));
        let digits = self.code_digits;
        let code = format!("{:0digits$}", shuffled(number, mix(!self.seed), self.code_space));
        let body = serde_json::to_vec(&Body {
            id: &id,
            to: &phone,
            code: &code,
            purpose: self.purpose.as_deref(),
            created_at: created.map(|at| at.to_string()),
            expires_at: expires.map(|at| at.to_string()),
        });
        Some(Job { to: Phone::parse(&phone)?, code: OtpCode::parse(&code)?, body: body.ok()?, id })
    }
}

impl Iterator for Jobs {
    type Item = Job;

    fn next(&mut self) -> Option<Job> {
        if self.next >= self.count {
            return None;
        }
        let id = format!("job-{:x}-{}", self.seed, self.next);
        let job = self.job(self.next, id, self.created_at, self.expires_at);
        self.next += 1;
        job
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.count - self.next).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}

/// The `n`th number of a permutation of `0..space`, a power of ten: `n` times a factor that ends in 1
/// (and so shares no divisor with it), moved by an offset. The last k digits of any 10^k in a row differ,
/// so a fault for phones ending in `007` meets exactly one job in a thousand.
fn shuffled(n: u64, key: u64, space: u64) -> u64 {
    let space = u128::from(space);
    let factor = u128::from(key >> 32) * 10 + 1;
    let offset = u128::from(key & 0xFFFF_FFFF);
    let shuffled = (u128::from(n) * (factor % space) + offset) % space;
    u64::try_from(shuffled).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use otpd_core::SendJob;

    use super::*;

    #[test]
    fn valid_and_no_two_alike() {
        let at = UnixMs(1_800_000_000_000);
        let jobs: Vec<Job> = Jobs::new(7, 20_000).purpose("login").created_at(at).collect();
        let (mut ids, mut phones, mut codes) = (HashSet::new(), HashSet::new(), HashSet::new());
        for job in &jobs {
            let parsed = SendJob::parse(&job.body, UnixMs(1)).unwrap();
            assert_eq!((parsed.id.as_str(), parsed.to, parsed.created_at), (job.id.as_str(), job.to, at));
            assert_eq!((parsed.code.expose(), parsed.purpose.as_str()), (job.code.expose(), "login"));
            assert_eq!(job.code.expose().len(), 6);
            ids.insert(job.id.clone());
            phones.insert(job.to);
            codes.insert(job.code.expose().to_owned());
        }
        assert_eq!((jobs.len(), ids.len(), phones.len(), codes.len()), (20_000, 20_000, 20_000, 20_000));
        let ending = phones.iter().filter(|p| p.expose_digits().ends_with("007")).count();
        assert_eq!(ending, 20);
    }

    #[test]
    fn a_seed_makes_the_same_jobs_and_another_makes_others() {
        let bodies = |seed| Jobs::new(seed, 50).map(|job| job.body).collect::<Vec<_>>();
        assert_eq!(bodies(1), bodies(1));
        assert!(bodies(1).iter().all(|body| !bodies(2).contains(body)));
    }

    #[test]
    fn one_of_them_under_another_id() {
        let (at, later) = (UnixMs(1_800_000_000_000), UnixMs(1_800_000_060_000));
        let jobs = Jobs::new(7, 5);
        let same = jobs.clone().nth(3).unwrap();
        let job = jobs.made(3, "other", at, Some(later)).unwrap();
        let parsed = SendJob::parse(&job.body, UnixMs(1)).unwrap();
        assert_eq!((job.to, job.code.expose()), (same.to, same.code.expose()));
        assert_eq!((parsed.id.as_str(), parsed.created_at, parsed.named_expiry), ("other", at, Some(later)));
        assert!(jobs.made(5, "past", at, None).is_none());
    }

    #[test]
    fn more_than_a_million_need_longer_codes() {
        let jobs = Jobs::new(1, 1_000_001);
        assert_eq!(jobs.size_hint(), (1_000_001, Some(1_000_001)));
        assert_eq!(jobs.clone().next().unwrap().code.expose().len(), 9);
        let codes: HashSet<u64> = (0..1_000_000).map(|n| shuffled(n, mix(3), 1_000_000)).collect();
        assert_eq!(codes.len(), 1_000_000, "a permutation of all six-digit codes");
    }
}
