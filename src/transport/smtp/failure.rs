use super::super::{Outcome, Report, Stage};
use super::classify;

/// Why a stage did not end as it should. All but a refusal leave a connection nobody may use again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server said no, in order.
    Refused { stage: Stage, code: u16, text: String },
    /// Lost, too late, or out of step.
    Broken { stage: Stage, text: String },
    /// The server can never do what the settings ask for.
    Unfit { stage: Stage, text: String },
    /// The gate closed: we stopped on our own account.
    Closed,
}

impl Failure {
    /// A stage that did not end by its deadline.
    pub(super) fn late(stage: Stage) -> Self {
        Self::Broken { stage, text: "no answer in time".into() }
    }

    /// What it means while the last byte has not left: there is no mail.
    pub(super) fn before_dot(self) -> Outcome {
        match self {
            Self::Refused { stage, code, text } => classify::refusal(stage, code, text),
            Self::Broken { stage, text } => Outcome::Retry(Report::new(stage, text), None),
            Self::Unfit { stage, text } => Outcome::Unusable(Report::new(stage, text)),
            Self::Closed => Outcome::Interrupted,
        }
    }

    /// What it means once the last byte may have left: only a refusal proves that there is no mail.
    pub(super) fn after_dot(self) -> Outcome {
        match self {
            Self::Refused { stage, code, text } => classify::refusal(stage, code, text),
            Self::Broken { stage, text } | Self::Unfit { stage, text } => {
                Outcome::Unknown(Report::new(stage, text))
            }
            Self::Closed => {
                Outcome::Unknown(Report::new(Stage::EndOfData, "stopped while the reply was awaited"))
            }
        }
    }

    /// Whether the connection is still in step with the server.
    pub(super) fn leaves_connection_usable(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if *code != 421)
    }

    /// Whether the server has as many connections as it wants.
    pub(super) fn is_one_too_many(&self) -> bool {
        matches!(self, Self::Refused { code: 421, stage, .. } if stage.concerns_every_mail())
    }

    /// What an idle connection that the server had given up looks like at its first command.
    pub(super) fn is_stale_connection(&self) -> bool {
        match self {
            Self::Refused { stage, code, .. } => *code == 421 && matches!(stage, Stage::Mail | Stage::Noop),
            Self::Broken { stage, .. } => matches!(stage, Stage::Mail | Stage::Noop),
            Self::Unfit { .. } | Self::Closed => false,
        }
    }
}
