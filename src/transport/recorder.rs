//! What is said on the way out, for a person who watches: secrets masked, control characters escaped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::settings::{ExposeSecret, SecretString};

/// What stands for a secret.
const MASK: &str = "***";
/// Characters of a line that are shown.
const LONGEST_LINE: usize = 1_000;

/// Who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// Facteur.
    Us,
    /// The server.
    Them,
    /// Nobody: a fact about the connection.
    Note,
}

/// One line of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// From the beginning of the recording.
    pub at: Duration,
    /// Who.
    pub speaker: Speaker,
    /// What, safe to be shown.
    pub text: String,
}

/// Takes down a conversation. Clones write to the same record.
#[derive(Debug, Clone)]
pub struct Recorder {
    begun: Instant,
    hidden: Arc<Mutex<Vec<SecretString>>>,
    to: mpsc::UnboundedSender<Said>,
}

impl Recorder {
    /// A recorder, and what it takes down, as it does.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Said>) {
        let (to, said) = mpsc::unbounded_channel();
        (Self { begun: Instant::now(), hidden: Arc::default(), to }, said)
    }

    /// From here on this is masked, whoever says it.
    pub fn hide(&self, secret: &SecretString) {
        let mut hidden = self.lock();
        if !secret.expose_secret().is_empty() {
            hidden.push(secret.clone());
            // The longest first: a secret may be a part of another.
            hidden.sort_by_key(|secret| std::cmp::Reverse(secret.expose_secret().len()));
        }
    }

    /// A text as it may be shown: secrets masked, control characters and the like escaped, cut.
    pub fn clean(&self, text: &str) -> String {
        let hidden = self.lock();
        let masked =
            hidden.iter().fold(text.to_owned(), |text, secret| text.replace(secret.expose_secret(), MASK));
        let mut shown = String::new();
        for (n, c) in masked.chars().enumerate() {
            match c {
                _ if n == LONGEST_LINE => {
                    shown.push('…');
                    break;
                }
                '"' | '\'' | '\\' => shown.push(c),
                c => shown.extend(c.escape_debug()),
            }
        }
        shown
    }

    pub(super) fn us(&self, text: &str) {
        self.say(Speaker::Us, text);
    }

    pub(super) fn them(&self, text: &str) {
        self.say(Speaker::Them, text);
    }

    pub(super) fn note(&self, text: &str) {
        self.say(Speaker::Note, text);
    }

    /// The header of a mail, and how much follows it.
    pub(super) fn content(&self, message: &[u8]) {
        let end = message.windows(4).position(|four| four == b"\r\n\r\n").map_or(message.len(), |at| at + 2);
        String::from_utf8_lossy(&message[..end]).lines().for_each(|line| self.us(line));
        let body = message.len() - (end + 2).min(message.len());
        self.us("");
        self.us(&format!("({body} octets of body, not shown)"));
    }

    fn say(&self, speaker: Speaker, text: &str) {
        // Nobody watches any more: that is no reason to stop.
        let _ = self.to.send(Said { at: self.begun.elapsed(), speaker, text: self.clean(text) });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SecretString>> {
        // A list is whole after each push and sort.
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What may be shown of the bytes that pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mode {
    /// Commands and replies.
    #[default]
    Commands,
    /// Ours are a login.
    Secret,
    /// Ours are a content, which is shown otherwise.
    Content,
}

/// Makes lines of the bytes of a conversation.
#[derive(Debug)]
pub(super) struct Tap {
    recorder: Recorder,
    mode: Mode,
    ours: Vec<u8>,
    theirs: Vec<u8>,
}

impl Tap {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self { recorder, mode: Mode::default(), ours: Vec::new(), theirs: Vec::new() }
    }

    pub(super) fn set(&mut self, mode: Mode) {
        self.mode = mode;
    }

    pub(super) fn ours(&mut self, bytes: &[u8]) {
        if self.mode == Mode::Content {
            return;
        }
        self.ours.extend_from_slice(bytes);
        while let Some(line) = line(&mut self.ours) {
            if self.mode == Mode::Secret { self.login(&line) } else { self.recorder.us(&line) }
        }
    }

    pub(super) fn theirs(&mut self, bytes: &[u8]) {
        self.theirs.extend_from_slice(bytes);
        while let Some(line) = line(&mut self.theirs) {
            self.recorder.them(&line);
        }
    }

    /// The command and its mechanism are no secrets; the rest is, and whoever repeats it.
    fn login(&self, line: &str) {
        let mut words = line.splitn(3, ' ');
        let (command, mechanism) = (words.next().unwrap_or_default(), words.next());
        let (shown, payload) = match mechanism {
            Some(mechanism) if command == "AUTH" => (format!("AUTH {mechanism}"), words.next()),
            _ => (String::new(), Some(line)),
        };
        let payload = payload.filter(|payload| !payload.is_empty());
        if let Some(payload) = payload {
            self.recorder.hide(&payload.to_owned().into());
        }
        let mask = if payload.is_some() { MASK } else { "" };
        self.recorder.us(format!("{shown} {mask}").trim());
    }
}

/// The next whole line, or as much as anybody would look at.
fn line(bytes: &mut Vec<u8>) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
    let end = end.or((bytes.len() > 8 * LONGEST_LINE).then_some(bytes.len()))?;
    let line: Vec<u8> = bytes.drain(..end).collect();
    Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(record: impl FnOnce(&Recorder, &mut Tap)) -> Vec<String> {
        let (recorder, mut said) = Recorder::new();
        let mut tap = Tap::new(recorder.clone());
        record(&recorder, &mut tap);
        drop((recorder, tap));
        std::iter::from_fn(|| said.try_recv().ok().map(|said| said.text)).collect()
    }

    #[test]
    fn a_login_is_masked_and_so_is_whoever_repeats_it() {
        let lines = recorded(|recorder, tap| {
            recorder.hide(&"hunter2".to_owned().into());
            tap.ours(b"EHLO me\r\n");
            tap.set(Mode::Secret);
            tap.ours(b"AUTH PLAIN AGFkYQBodW50");
            tap.ours(b"ZXIy\r\n");
            tap.theirs(b"535 5.7.8 AGFkYQBodW50ZXIy is not right, nor is hunter2\r\n");
            tap.ours(b"AUTH LOGIN\r\n\r\naHVudGVyMg==\r\n");
            tap.set(Mode::Commands);
            tap.ours(b"MAIL FROM:<a@x.test>\r\n");
        });
        let expected = [
            "EHLO me",
            "AUTH PLAIN ***",
            "535 5.7.8 *** is not right, nor is ***",
            "AUTH LOGIN",
            "",
            "***",
            "MAIL FROM:<a@x.test>",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped_and_what_is_endless_is_cut() {
        let lines = recorded(|_, tap| {
            tap.theirs(b"220 \x1b[2J\x07\xff \xe2\x80\xae\"it's\"\\\r\n");
            tap.theirs(&[b'x'; 20_000]);
        });
        assert_eq!(lines[0], "220 \\u{1b}[2J\\u{7}\u{fffd} \\u{202e}\"it's\"\\");
        assert_eq!(lines[1].chars().count(), LONGEST_LINE + 1);
    }

    #[test]
    fn of_a_mail_the_header_is_shown_and_the_body_counted() {
        let lines = recorded(|recorder, _| recorder.content(b"Subject: a\r\nTo: b\r\n\r\nsecret body\r\n"));
        assert_eq!(lines, ["Subject: a", "To: b", "", "(13 octets of body, not shown)"]);
    }
}
