use super::field::{FieldError, single_line};

/// A file that travels with the mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// What the receiver sees; only its base name is kept.
    pub filename: String,
    /// A MIME type such as `application/pdf`.
    pub content_type: String,
    /// Set when the HTML refers to it as `cid:…`: it is then shown inline.
    pub content_id: Option<String>,
    /// The bytes.
    pub content: Vec<u8>,
}

/// Why an attachment is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachmentError {
    /// No name is left.
    #[error("needs a file name")]
    NoName,
    /// A name that does not fit on one line.
    #[error("has a file name that {0}")]
    Name(#[source] FieldError),
    /// Not a MIME type.
    #[error("has a content type that is not one (application/pdf, image/png, …)")]
    Type,
    /// Not usable in a `cid:` address.
    #[error("has a content id that is not 1 to 127 ASCII letters, digits and . _ - @")]
    ContentId,
}

impl Attachment {
    /// An attachment to download, its type as given.
    pub fn new(filename: impl Into<String>, content_type: impl Into<String>, content: Vec<u8>) -> Self {
        Self { filename: filename.into(), content_type: content_type.into(), content_id: None, content }
    }

    /// Shows it inline, where the HTML has `<img src="cid:…">` with this id.
    #[must_use]
    pub fn inline(mut self, content_id: impl Into<String>) -> Self {
        self.content_id = Some(content_id.into());
        self
    }

    /// Keeps the base name and checks the rest.
    pub(crate) fn check(mut self) -> Result<Self, AttachmentError> {
        if let Some(base) = self.filename.rsplit(['/', '\\']).next() {
            self.filename = base.to_owned();
        }
        if self.filename.is_empty() || self.filename == "." || self.filename == ".." {
            return Err(AttachmentError::NoName);
        }
        single_line(&self.filename, 255).map_err(AttachmentError::Name)?;
        if lettre::message::header::ContentType::parse(&self.content_type).is_err()
            || self.content_type.ends_with('/')
            || single_line(&self.content_type, 255).is_err()
        {
            return Err(AttachmentError::Type);
        }
        let id_byte = |b: u8| b.is_ascii_alphanumeric() || b"._-@".contains(&b);
        match &self.content_id {
            Some(id) if !(1..128).contains(&id.len()) || !id.bytes().all(id_byte) => {
                Err(AttachmentError::ContentId)
            }
            _ => Ok(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Result<String, AttachmentError> {
        Attachment::new(name, "text/plain", vec![]).check().map(|a| a.filename)
    }

    #[test]
    fn only_the_base_name_is_kept() {
        assert_eq!(named("../../etc/passwd"), Ok("passwd".into()));
        assert_eq!(named("C:\\temp\\facture été.pdf"), Ok("facture été.pdf".into()));
    }

    #[test]
    fn bad_names_types_and_ids_are_refused() {
        assert_eq!(named("dir/"), Err(AttachmentError::NoName));
        assert_eq!(named(".."), Err(AttachmentError::NoName));
        assert!(matches!(named("a\r\nb"), Err(AttachmentError::Name(_))));
        for odd in ["nonsense", "text/", "/plain"] {
            let odd_type = Attachment::new("a", odd, vec![]).check();
            assert_eq!(odd_type, Err(AttachmentError::Type), "{odd}");
        }
        let odd_id = Attachment::new("a", "image/png", vec![]).inline("a>b").check();
        assert_eq!(odd_id, Err(AttachmentError::ContentId));
    }
}
