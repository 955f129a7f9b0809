//! Retries and their pauses.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use chrono::DateTime;
use rand::RngCore;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// True if a failure with this status is transient.
pub(super) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 425 | 429) || (500..600).contains(&status) && status != 501
}

/// The pause before attempt `attempt + 1` (from 0): exponential, with up to a quarter taken off by `salt` so that
/// clients that failed together do not come back together.
pub(super) fn backoff(attempt: u32, first: f64, longest: f64, salt: u64) -> Duration {
    let pause = (first * 2f64.powi(attempt.min(40) as i32)).min(longest);
    let mut random = ChaCha8Rng::seed_from_u64(salt ^ u64::from(attempt));
    let share = f64::from(random.next_u32()) / f64::from(u32::MAX);
    Duration::from_secs_f64(pause * (1.0 - 0.25 * share))
}

/// Longest pause that is believed: a clock cannot count every one.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok().map(|pause| pause.min(LONGEST));
    }
    let date = DateTime::parse_from_rfc2822(value).ok()?;
    Some(SystemTime::from(date).duration_since(now).unwrap_or(Duration::ZERO).min(LONGEST))
}

/// The time before which no client sends a request: a pause that the server requests of one client applies to all.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<Option<Instant>>);

impl Gate {
    /// Closes the gate for `pause` from now, or leaves it closed for longer.
    pub fn close(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut gate = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if gate.is_none_or(|closed| closed < until) {
            *gate = Some(until);
        }
    }

    /// Blocks until it is open.
    pub fn pass(&self) {
        loop {
            let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match until.and_then(|until| until.checked_duration_since(Instant::now())) {
                Some(pause) if !pause.is_zero() => thread::sleep(pause),
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::from(DateTime::parse_from_rfc2822("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date"));
        assert_eq!(retry_after(" 7 ", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("0.25", now), Some(Duration::from_millis(250)));
        assert_eq!(retry_after("10000000000000000000", now), Some(LONGEST));
        assert_eq!(retry_after("Sun, 06 Nov 9994 08:49:37 GMT", now).map(|pause| pause <= LONGEST), Some(true));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:07 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        for nonsense in ["", "soon", "-3", "NaN", "inf", "1e300"] {
            assert_eq!(retry_after(nonsense, now), None, "{nonsense:?}");
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_differ_by_client() {
        let seconds = |attempt, salt| backoff(attempt, 0.5, 8.0, salt).as_secs_f64();
        for attempt in 0..50 {
            let full = (0.5 * 2f64.powi(attempt as i32)).min(8.0);
            assert!((0.75 * full..=full).contains(&seconds(attempt, 3)), "attempt {attempt}");
        }
        assert_ne!(seconds(2, 1), seconds(2, 2));
    }

    #[test]
    fn only_what_is_transient_is_tried_again() {
        assert!([408, 425, 429, 500, 502, 503, 504, 529].into_iter().all(is_transient));
        assert!(![200, 400, 401, 403, 404, 422, 501].into_iter().any(is_transient));
    }
}
