//! Named places at which the fault suite makes the process die.
//!
//! Without the feature `crash-points` (it is in no build but the tests') reaching one does nothing.

/// A place on the way of a delivery, in the order in which they are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// Leased; nothing was tried.
    AfterClaim,
    /// About to be rendered: a mail that breaks its renderer breaks here.
    BeforeRender,
    /// A connection is open.
    AfterConnect,
    /// The server took MAIL.
    AfterMail,
    /// The server took RCPT.
    AfterRcpt,
    /// The server answered 354.
    AfterData,
    /// A part of the content is out.
    MidBody,
    /// All is out but the last piece, and the lease was found to hold.
    BeforeDot,
    /// The final dot is out.
    AfterDot,
    /// The server took it; nobody else knows.
    AfterReply,
    /// The outcome is on its way to the database.
    DuringCommit,
    /// The outcome is in the database.
    AfterCommit,
}

#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub(crate) fn reach(_: Point, _: &str) {}

#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub(crate) async fn within<T>(_: Point, work: impl Future<Output = T>) -> T {
    work.await
}

#[cfg(feature = "crash-points")]
pub use armed::{Crash, arm};
#[cfg(feature = "crash-points")]
pub(crate) use armed::{reach, within};

#[cfg(feature = "crash-points")]
mod armed {
    use std::str::FromStr;
    use std::sync::OnceLock;
    use std::time::Duration;

    use super::Point;

    /// Where and how to die, as in `after_dot`, `panic:before_render` or `after_claim:poison@x.test`.
    #[derive(Debug, Clone)]
    pub struct Crash {
        point: Point,
        panics: bool,
        /// Only for mail to this recipient.
        recipient: Option<String>,
    }

    /// One for the whole process, which is what it ends.
    static ARMED: OnceLock<Crash> = OnceLock::new();

    /// From here on, reaching the place is the end. The first call counts.
    pub fn arm(crash: Crash) {
        // Armed twice is armed.
        let _ = ARMED.set(crash);
    }

    pub(crate) fn reach(point: Point, recipient: &str) {
        let Some(crash) = ARMED.get() else { return };
        if crash.point != point || crash.recipient.as_ref().is_some_and(|only| only != recipient) {
            return;
        }
        assert!(!crash.panics, "the fault suite wants a panic at {point:?}");
        // No destructor, no goodbye: as kill -9 would.
        std::process::abort();
    }

    /// Dies in the middle of some work: a different middle each time.
    pub(crate) async fn within<T>(point: Point, work: impl Future<Output = T>) -> T {
        if ARMED.get().is_none_or(|crash| crash.point != point) {
            return work.await;
        }
        let moment = Duration::from_micros(u64::from(std::process::id() % 8) * 150);
        let dying = async {
            tokio::time::sleep(moment).await;
            reach(point, "");
        };
        tokio::select! {
            result = work => result,
            () = dying => unreachable!("the process has ended"),
        }
    }

    impl FromStr for Crash {
        type Err = String;

        fn from_str(text: &str) -> Result<Self, String> {
            let (panics, rest) = match text.strip_prefix("panic:") {
                Some(rest) => (true, rest),
                None => (false, text),
            };
            let (name, recipient) = match rest.split_once(':') {
                Some((name, recipient)) => (name, Some(recipient.to_owned())),
                None => (rest, None),
            };
            let point = match name {
                "after_claim" => Point::AfterClaim,
                "before_render" => Point::BeforeRender,
                "after_connect" => Point::AfterConnect,
                "after_mail" => Point::AfterMail,
                "after_rcpt" => Point::AfterRcpt,
                "after_data" => Point::AfterData,
                "mid_body" => Point::MidBody,
                "before_dot" => Point::BeforeDot,
                "after_dot" => Point::AfterDot,
                "after_reply" => Point::AfterReply,
                "during_commit" => Point::DuringCommit,
                "after_commit" => Point::AfterCommit,
                _ => return Err(format!("{name} is not a crash point")),
            };
            Ok(Self { point, panics, recipient })
        }
    }
}
