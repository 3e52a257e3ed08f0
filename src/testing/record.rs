use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

/// A mail that the server has taken responsibility for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedMail {
    /// The connection that brought it, counted from one.
    pub connection: usize,
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients.
    pub to: Vec<String>,
    /// The message as it was before its dots were doubled.
    pub content: Vec<u8>,
}

impl AcceptedMail {
    /// The `Message-ID` of its header, without angle brackets.
    pub fn message_id(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.content);
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let value = value.trim().trim_start_matches('<').trim_end_matches('>');
            name.eq_ignore_ascii_case("message-id").then(|| value.to_owned())
        })
    }

    /// On disk when it returns.
    pub(super) fn append_to(&self, file: &Path) -> io::Result<()> {
        let line = serde_json::json!({
            "connection": self.connection,
            "from": self.from,
            "to": self.to,
            "message_id": self.message_id(),
            "bytes": self.content.len(),
        });
        // One write, so that servers that share a file do not mix their lines.
        let mut file = OpenOptions::new().create(true).append(true).open(file)?;
        file.write_all(format!("{line}\n").as_bytes())?;
        file.sync_data()
    }
}
