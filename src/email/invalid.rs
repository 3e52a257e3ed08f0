use super::address::AddressError;
use super::attachment::AttachmentError;
use super::field::FieldError;
use super::header::HeaderError;
use super::tag::TagError;

/// A field that cannot be taken, by the name its caller knows it by, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct InvalidEmail {
    /// `to`, `subject`, `headers[2]`, …
    pub field: String,
    /// What is wrong with it, and what is accepted.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each is said by its text")]
pub enum Problem {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Attachment(#[from] AttachmentError),
    #[error(transparent)]
    Tag(#[from] TagError),
    #[error("is missing: {0}")]
    Missing(&'static str),
    #[error("has {count} entries, the most is {limit}")]
    TooMany { count: usize, limit: usize },
    #[error("is {bytes} bytes long, the most is {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("has a NUL character, which no mail may carry")]
    Nul,
    #[error("has a domain of {octets} octets, the most in a sender is {limit}: it is part of the Message-ID")]
    SenderDomain { octets: usize, limit: usize },
    #[error("must be later than scheduled_at")]
    ExpiresFirst,
    #[error("must be 1 to 255 printable ASCII characters")]
    Key,
    #[error("must be 1 to {limit} characters, none of them a control character")]
    Name { limit: usize },
}

impl InvalidEmail {
    pub(super) fn new(field: impl Into<String>, problem: impl Into<Problem>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}
