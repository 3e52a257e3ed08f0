//! What several integration tests share.

#[expect(dead_code, reason = "each test program uses a part")]
pub(crate) mod outbox;
pub(crate) mod postgres;
#[expect(dead_code, reason = "each test program uses a part")]
pub(crate) mod prometheus;
