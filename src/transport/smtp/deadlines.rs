use std::time::Duration;

/// How long each stage may take. RFC 5321 §4.5.3.2 wants a timeout per command, never one for the
/// whole; its values are for relays on the open Internet, these for a relay of one's own.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Name look-up and TCP.
    pub connect: Duration,
    /// The TLS handshake.
    pub tls: Duration,
    /// The server's greeting.
    pub banner: Duration,
    /// EHLO, and STARTTLS.
    pub ehlo: Duration,
    /// AUTH, all its steps together.
    pub auth: Duration,
    /// MAIL, RCPT, DATA, RSET: each.
    pub command: Duration,
    /// 16 KiB of the content; all of it has a second more for each 16 KiB.
    pub body: Duration,
    /// The reply to the last byte: the one that decides whether a mail is sent twice.
    pub end_of_data: Duration,
    /// NOOP on a connection that idled.
    pub noop: Duration,
    /// QUIT, whose answer nobody needs.
    pub quit: Duration,
    /// Unused for longer, a connection is asked (NOOP) before it is trusted with a mail.
    pub doubted: Duration,
    /// Unused for longer, it is closed.
    pub idle: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            tls: Duration::from_secs(10),
            banner: Duration::from_secs(30),
            ehlo: Duration::from_secs(15),
            auth: Duration::from_secs(30),
            command: Duration::from_secs(30),
            body: Duration::from_secs(30),
            end_of_data: Duration::from_secs(60),
            noop: Duration::from_secs(5),
            quit: Duration::from_secs(2),
            doubted: Duration::from_secs(5),
            idle: Duration::from_secs(20),
        }
    }
}

impl Deadlines {
    /// For content of so many bytes.
    pub(super) fn body_of(&self, bytes: usize) -> Duration {
        self.body + Duration::from_secs((bytes / 16_384) as u64)
    }
}
