use super::enqueue::SCOPE;

/// Who hands an e-mail over, and what a repetition of its idempotency key is compared by.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Whose idempotency keys are looked at, and who may read the e-mail again: at most 58 characters.
    /// None is the library itself.
    pub caller: Option<String>,
    /// What the caller asked for, hashed. None compares the e-mail itself, in which a moment such as
    /// "in 5 minutes" is another one each time.
    pub request: Option<[u8; 32]>,
    /// Whether the key is a batch's: those do not meet the keys of single e-mails.
    pub batch: bool,
}

impl Origin {
    pub(super) fn scope(&self) -> String {
        match &self.caller {
            None => SCOPE.to_owned(),
            Some(caller) if self.batch => format!("batch:{caller}"),
            Some(caller) => format!("http:{caller}"),
        }
    }
}
