//! `.env`, the file of a development machine.

use std::cell::Cell;
use std::io::{self, Read};
use std::path::Path;

use super::faults::{Fault, Faults};
use super::variables::Variables;

impl Variables {
    /// Adds what `.env` in the current directory says; the environment of the process wins.
    pub fn load_dotenv(&mut self) -> Result<(), Faults> {
        self.load_dotenv_file(Path::new(".env"))
    }

    /// Adds what a file in the format of `.env` says; values that are there already win. A file
    /// that does not exist says nothing.
    pub fn load_dotenv_file(&mut self, path: &Path) -> Result<(), Faults> {
        let fault = |text: String| Fault::new(&[&path.display().to_string()], text);
        let content = match std::fs::read(path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(fault(format!("cannot be read: {error}")).into()),
        };
        for (name, value) in parse(&content).map_err(fault)? {
            self.add(name, value);
        }
        Ok(())
    }
}

/// All or nothing, so that a file is never half in force.
fn parse(content: &[u8]) -> Result<Vec<(String, String)>, String> {
    // Editors on Windows put a byte order mark in front.
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let line = Cell::new(0);
    let lines = LineByLine { rest: content, line: &line };
    dotenvy::from_read_iter(lines).collect::<Result<_, _>>().map_err(|error| explain(&error, line.get()))
}

/// dotenvy's own text holds the line, and the line may hold a password.
fn explain(error: &dotenvy::Error, last_line: usize) -> String {
    match error {
        dotenvy::Error::LineParse(text, _) => {
            let first_line = (last_line + 1).saturating_sub(text.lines().count().max(1));
            format!(
                "line {first_line} is not NAME=value; a value with spaces needs quotes around it, \
                 and each quote its closing one"
            )
        }
        _ => format!("line {last_line} is not UTF-8 text"),
    }
}

/// Hands out one line at a time, because the parser does not say where it is.
struct LineByLine<'a> {
    rest: &'a [u8],
    line: &'a Cell<usize>,
}

impl Read for LineByLine<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        let length = end.map_or(self.rest.len(), |end| end + 1);
        let count = length.min(buffer.len());
        let (now, later) = self.rest.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.rest = later;
        if count > 0 && count == length {
            self.line.set(self.line.get() + 1);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_line_is_malformed_and_not_what_it_says() {
        let cases: [(&[u8], &str); 6] = [
            (b"SMTP_HOST=a\nhunter2 oops\n", "line 2 is not NAME=value"),
            (b"# one\n\nEMAIL_FROM=Hunter2 <a@b.test>\nX=1", "line 3 is not"),
            (b"A=1\nB='hunter2\nC=3\nD=4\n", "line 2 is not NAME=value"),
            (b"A=1\r\nB='hunter2\r\nC=3", "line 2 is not NAME=value"),
            (b"FOO=hunter2\nFOO\n", "line 2 is not NAME=value"),
            (b"A=1\nB=hunter2\xff\n", "line 2 is not UTF-8"),
        ];
        for (content, expected) in cases {
            let text = parse(content).expect_err("a fault");
            assert!(text.contains(expected), "{text}");
            assert!(!text.to_lowercase().contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn reads_quotes_comments_and_a_byte_order_mark() {
        let content = b"\xef\xbb\xbfSMTP_HOST=localhost # here\r\nSMTP_PASSWORD='pa$$ #1'\n";
        let pairs = parse(content).expect("well-formed");
        let expected = [("SMTP_HOST", "localhost"), ("SMTP_PASSWORD", "pa$$ #1")];
        assert_eq!(pairs, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn the_real_environment_wins_even_empty() {
        let folder = tempfolder("wins");
        let path = folder.join(".env");
        std::fs::write(&path, "SMTP_HOST=a\nSMTP_PORT=1\nEMAIL_FROM=x@y.test\nOTHER=z\n")
            .expect("a temporary folder");
        let mut variables = Variables::from_iter([("SMTP_HOST", "b"), ("SMTP_PORT", "")]);
        variables.load_dotenv_file(&path).expect("well-formed");
        std::fs::remove_dir_all(folder).expect("a temporary folder");
        assert_eq!(variables.get("SMTP_HOST"), Some(&"b".into()));
        assert_eq!(variables.get("SMTP_PORT"), None);
        assert_eq!(variables.get("EMAIL_FROM"), Some(&"x@y.test".into()));
        assert!(!format!("{variables:?}").contains("OTHER"));
    }

    #[test]
    fn a_missing_file_says_nothing_and_an_unreadable_one_is_named() {
        let folder = tempfolder("missing");
        let mut variables = Variables::default();
        let missing = variables.load_dotenv_file(&folder.join(".env"));
        let unreadable = variables.load_dotenv_file(&folder);
        std::fs::remove_dir_all(&folder).expect("a temporary folder");
        assert!(missing.is_ok());
        let text = unreadable.expect_err("a fault").to_string();
        assert!(text.contains(&folder.display().to_string()), "{text}");
    }

    fn tempfolder(name: &str) -> std::path::PathBuf {
        let folder = format!("facteur-dotenv-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        folder
    }
}
