//! How often one caller may knock: a token bucket each, in this process.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::peer::peer;
use super::{Access, ApiError};

/// Above so many buckets the full ones are thrown away: a full bucket is as good as none.
const MANY: usize = 10_000;

/// The buckets of all callers.
#[derive(Debug, Clone, Default)]
pub(super) struct Rates {
    buckets: Arc<Mutex<HashMap<String, Bucket>>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// So many at once, and again as many in each `window`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    pub(super) most: NonZeroU32,
    pub(super) window: Duration,
}

/// What a bucket holds after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) granted: bool,
    /// Requests that may follow at once.
    pub(super) remaining: u32,
    /// Seconds until it is full again; for one that was not granted, until there is one.
    pub(super) reset: u64,
}

impl Rates {
    pub(super) fn take(&self, whose: &str, rate: Rate, now: Instant) -> Level {
        let most = f64::from(rate.most.get());
        let per_second = most / rate.window.as_secs_f64();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() > MANY {
            let hour_ago = now.checked_sub(Duration::from_secs(3_600));
            buckets.retain(|_, bucket| hour_ago.is_some_and(|then| bucket.at > then));
        }
        if buckets.len() > 10 * MANY {
            buckets.clear();
        }
        let bucket = buckets.entry(whose.to_owned()).or_insert(Bucket { tokens: most, at: now });
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * per_second).min(most);
        bucket.at = now;
        let granted = bucket.tokens >= 1.0;
        if granted {
            bucket.tokens -= 1.0;
        }
        let lacking = if granted { most - bucket.tokens } else { 1.0 - bucket.tokens };
        Level {
            granted,
            remaining: bucket.tokens as u32,
            reset: (lacking / per_second).ceil().max(1.0) as u64,
        }
    }
}

/// What counting a request takes.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    pub(super) access: Access,
    pub(super) rate: Option<NonZeroU32>,
    pub(super) rates: Rates,
    /// Proxies of our own in front.
    pub(super) hops: u8,
}

/// Probes are not counted.
pub(super) fn is_free(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/metrics")
}

/// Counts each request against its caller, and says on every answer what is left.
pub(super) async fn count(State(meter): State<Meter>, mut request: Request, next: Next) -> Response {
    if is_free(request.uri().path()) {
        return next.run(request).await;
    }
    let caller = meter.access.admit(request.headers());
    // A colon is in no name: whoever is nobody is counted by where they come from.
    let whose = caller.as_ref().map(|caller| caller.name().to_owned());
    let whose = whose.unwrap_or_else(|_| format!("nobody:{}", peer(&request, meter.hops)));
    request.extensions_mut().insert(caller);
    let Some(most) = meter.rate else { return next.run(request).await };
    let level = meter.rates.take(&whose, Rate { most, window: Duration::from_secs(1) }, Instant::now());
    let mut answer = if level.granted {
        next.run(request).await
    } else {
        ApiError::TooMany { seconds: level.reset }.into_response()
    };
    tell(answer.headers_mut(), most, level);
    answer
}

fn tell(headers: &mut HeaderMap, most: NonZeroU32, level: Level) {
    let mut say = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    say("ratelimit-limit", most.to_string());
    say("ratelimit-remaining", level.remaining.to_string());
    say("ratelimit-reset", level.reset.to_string());
    say("ratelimit-policy", format!("{most};w=1"));
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Rate = Rate { most: NonZeroU32::new(2).expect("not zero"), window: Duration::from_secs(1) };

    #[test]
    fn a_bucket_gives_what_it_holds_and_fills_with_time() {
        let (rates, now) = (Rates::default(), Instant::now());
        let granted = |at: Duration| rates.take("ada", TWO, now + at).granted;
        assert_eq!(
            [granted(Duration::ZERO), granted(Duration::ZERO), granted(Duration::ZERO)],
            [true, true, false]
        );
        assert!(!granted(Duration::from_millis(400)));
        assert!(granted(Duration::from_millis(600)));
        assert!(rates.take("bob", TWO, now).granted, "each has a bucket of their own");
        let after_an_hour = rates.take("ada", TWO, now + Duration::from_secs(3_600));
        assert_eq!(after_an_hour, Level { granted: true, remaining: 1, reset: 1 });
    }

    #[test]
    fn who_is_refused_learns_when_to_come_back() {
        let (rates, now) = (Rates::default(), Instant::now());
        let slow = Rate { most: NonZeroU32::MIN, window: Duration::from_secs(64) };
        assert_eq!(rates.take("a", slow, now), Level { granted: true, remaining: 0, reset: 64 });
        assert_eq!(
            rates.take("a", slow, now + Duration::from_secs(16)),
            Level { granted: false, remaining: 0, reset: 48 }
        );
    }
}
