use std::fmt;

use crate::email::EmailId;

/// One envelope recipient of one e-mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    /// The e-mail.
    pub email: EmailId,
    /// Which of its envelope recipients, from 0.
    pub position: i16,
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.email, self.position)
    }
}

/// Proof of a claim (a fencing token): only who holds the newest one can settle the delivery.
///
/// There is no way to make one but [`Outbox::claim`](super::Outbox::claim).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseToken(i64);

impl LeaseToken {
    pub(super) fn new(token: i64) -> Self {
        Self(token)
    }

    pub(super) fn get(self) -> i64 {
        self.0
    }
}
