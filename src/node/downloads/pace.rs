//! Failed fetches by number: an upstream that has seen too many of them blocks the number. 360dialog does after 20
//! failures within an hour, for 30 minutes.

use crate::error::Result;
use crate::node::queue::{Jobs, Plan, Topic, decode, encode};
use crate::node::tables::FETCH_FAILURES;
use crate::volume::Volume;

/// Failures within an hour from which on nothing of a number is fetched: with those under way it stays below 20.
const MAX_FAILURES: usize = 10;
const HOUR_MS: i64 = 3600 * 1000;

/// Notes a failed fetch, and pauses its number when it was one too many. Kept with the plan.
///
/// # Errors
/// `Damaged`, `Io`.
pub fn note_failure(jobs: &Jobs, volume: &Volume, plan: &mut Plan, number: &str) -> Result<()> {
    let now = jobs.now();
    let mut failures = known(volume, number, now)?;
    failures.push(now);
    pause(jobs, number, &failures);
    plan.put(FETCH_FAILURES, number.as_bytes(), encode(&failures)?);
    Ok(())
}

/// The failures of the last hour.
fn known(volume: &Volume, number: &str, now: i64) -> Result<Vec<i64>> {
    let kept = volume.state_get(FETCH_FAILURES, number.as_bytes())?;
    let mut failures: Vec<i64> = kept.map(|bytes| decode(&bytes)).transpose()?.unwrap_or_default();
    failures.retain(|at| now.saturating_sub(*at) < HOUR_MS);
    Ok(failures)
}

fn pause(jobs: &Jobs, number: &str, failures: &[i64]) {
    let Some(nth) = failures.len().checked_sub(MAX_FAILURES) else { return };
    let Some(at) = failures.get(nth) else { return };
    let until = at.saturating_add(HOUR_MS);
    tracing::warn!(number, "too many fetches failed within an hour: nothing more is fetched until it is over");
    jobs.pause(Topic::Download, number, until);
}

/// Pauses numbers again that were paused before a restart.
///
/// # Errors
/// `Damaged`, `Io`.
pub fn restore(jobs: &Jobs, volume: &Volume) -> Result<()> {
    let mut numbers = Vec::new();
    crate::node::queue::each(volume, FETCH_FAILURES, |key, _| numbers.extend(String::from_utf8(key.to_vec())))?;
    for number in numbers {
        pause(jobs, &number, &known(volume, &number, jobs.now())?);
    }
    Ok(())
}
