//! What several integration tests share.

#[expect(dead_code, reason = "each test program uses a part")]
pub mod outbox;
pub mod postgres;
