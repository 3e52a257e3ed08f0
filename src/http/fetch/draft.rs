use super::client::Fetched;
use super::{Files, Refusal, Room, target};
use crate::email::{Attachment, Email};
use crate::http::ApiError;
use crate::http::attachment_request::guess;

/// An e-mail that lacks the files which are still to be fetched, and is good otherwise.
pub(in crate::http) struct Draft {
    pub(in crate::http) email: Email,
    pub(in crate::http) wanted: Vec<Wanted>,
}

/// A file to fetch, and what the caller said of it.
#[derive(Debug)]
pub(in crate::http) struct Wanted {
    /// The attachment that it is for, from 0.
    pub(in crate::http) position: usize,
    pub(in crate::http) path: String,
    pub(in crate::http) filename: Option<String>,
    pub(in crate::http) content_type: Option<String>,
    pub(in crate::http) content_id: Option<String>,
}

impl Draft {
    pub(in crate::http) fn lacks_files(&self) -> bool {
        !self.wanted.is_empty()
    }

    pub(super) fn complete(mut self, files: &Files, room: &Room) -> Result<Email, ApiError> {
        for wanted in self.wanted {
            let refused = |refusal: Refusal| {
                ApiError::Attachment(format!("attachments[{}].path {refusal}", wanted.position))
            };
            let file = match files.get(&wanted.path) {
                Some(Ok(found)) => found.take(room).map_err(refused)?,
                Some(Err(Refusal::Client)) => return Err(ApiError::Internal),
                Some(Err(refusal)) => return Err(refused(refusal.clone())),
                None => return Err(ApiError::Internal),
            };
            let position = wanted.position;
            self.email.set_attachment(position, wanted.with(file))?;
        }
        Ok(self.email)
    }
}

impl Wanted {
    /// The caller's words first; then the server's type and the address's last part, if they will do.
    fn with(self, file: &Fetched) -> Attachment {
        let will_do = |name: &str, kind: &str| Attachment::new(name, kind, Vec::new()).check().is_ok();
        let plain = "application/octet-stream";
        let filename = self.filename.or_else(|| target::name(&self.path).filter(|name| will_do(name, plain)));
        let filename = filename.unwrap_or_else(|| "attachment".into());
        let told = file.content_type.as_deref().filter(|kind| *kind != plain && will_do("a", kind));
        let kind = self.content_type.or_else(|| told.map(str::to_owned));
        Attachment {
            content_type: kind.unwrap_or_else(|| guess(&filename).into()),
            filename,
            content_id: self.content_id,
            content: file.content.clone(),
        }
    }
}
