use std::path::PathBuf;
use std::time::Duration;

use super::authority::Identity;
use super::fault::Fault;
use super::login::Login;

/// Where in a session a fault shows: at the reply to a command, or at what has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Right after the connection was taken, before any byte.
    Connect,
    /// The greeting.
    Banner,
    /// EHLO in clear, or the only one under implicit TLS.
    Ehlo,
    /// STARTTLS.
    StartTls,
    /// Instead of the TLS handshake.
    Tls,
    /// EHLO behind STARTTLS.
    EhloAfterTls,
    /// AUTH, at the reply that decides.
    Auth,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Rcpt,
    /// DATA.
    Data,
    /// Once the first bytes of the content have come. A reply here is one that nobody asked for.
    Body,
    /// After the final dot.
    EndOfData,
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// QUIT.
    Quit,
}

/// How a server behaves: like a good one, but for what is written here.
#[derive(Debug, Clone, Default)]
#[must_use = "a script is performed by SmtpServer::start"]
pub struct Script {
    pub(super) rules: Vec<Rule>,
    pub(super) extensions: Vec<String>,
    pub(super) tls: Option<Tls>,
    pub(super) strip_starttls: bool,
    pub(super) login: Option<Login>,
    pub(super) close_after: Option<usize>,
    pub(super) most_connections: Option<usize>,
    pub(super) idle_limit: Option<Duration>,
    pub(super) lifetime: Option<Duration>,
    pub(super) record: Option<PathBuf>,
    pub(super) receive_buffer: Option<u32>,
}

#[derive(Debug, Clone)]
pub(super) enum Tls {
    StartTls(Identity),
    Implicit(Identity),
}

/// A fault, and when it shows.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) stage: Stage,
    pub(super) fault: Fault,
    pub(super) recipient: Option<String>,
    pub(super) mail: Option<usize>,
    pub(super) mail_of_connection: Option<usize>,
    pub(super) connection: Option<usize>,
    pub(super) times: Option<usize>,
}

impl Script {
    /// A server that takes every mail, in clear and without a login.
    pub fn new() -> Self {
        Self::default().extension("PIPELINING").extension("8BITMIME").extension("SIZE 52428800")
    }

    /// A fault at a stage, each time, unless what follows narrows it. The first that fits shows.
    pub fn at(mut self, stage: Stage, fault: Fault) -> Self {
        self.rules.push(Rule::always(stage, fault));
        self
    }

    /// The last fault shows only for mail to this address.
    ///
    /// # Panics
    /// Without a fault before it, like all that narrow.
    pub fn for_recipient(self, address: &str) -> Self {
        self.narrow(|rule| rule.recipient = Some(address.to_owned()))
    }

    /// The last fault shows only for the n-th mail of the server, counted by MAIL commands from one.
    ///
    /// # Panics
    /// Without a fault before it.
    pub fn on_mail(self, n: usize) -> Self {
        self.narrow(|rule| rule.mail = Some(n))
    }

    /// The last fault shows only for the n-th mail of each connection, counted by MAIL commands from one.
    ///
    /// # Panics
    /// Without a fault before it.
    pub fn on_mail_of_connection(self, n: usize) -> Self {
        self.narrow(|rule| rule.mail_of_connection = Some(n))
    }

    /// The last fault shows only on the n-th connection, counted from one.
    ///
    /// # Panics
    /// Without a fault before it.
    pub fn on_connection(self, n: usize) -> Self {
        self.narrow(|rule| rule.connection = Some(n))
    }

    /// The last fault shows so many times only.
    ///
    /// # Panics
    /// Without a fault before it.
    pub fn times(self, n: usize) -> Self {
        self.narrow(|rule| rule.times = Some(n))
    }

    /// One more line in the reply to EHLO. STARTTLS and AUTH come with TLS and the login.
    pub fn extension(mut self, line: &str) -> Self {
        self.extensions.push(line.to_owned());
        self
    }

    /// Nothing in the reply to EHLO but STARTTLS and AUTH.
    pub fn without_extensions(mut self) -> Self {
        self.extensions.clear();
        self
    }

    /// STARTTLS is offered, and mail is taken only behind it.
    pub fn starttls(mut self, identity: Identity) -> Self {
        self.tls = Some(Tls::StartTls(identity));
        self
    }

    /// STARTTLS is missing from the offer, as if somebody on the way had cut it out, and mail is taken in clear.
    pub fn strip_starttls(mut self) -> Self {
        self.strip_starttls = true;
        self
    }

    /// TLS from the first byte.
    pub fn implicit_tls(mut self, identity: Identity) -> Self {
        self.tls = Some(Tls::Implicit(identity));
        self
    }

    /// Mail is taken only behind AUTH PLAIN or AUTH LOGIN with this.
    pub fn login(mut self, username: &str, password: &str) -> Self {
        self.login = Some(Login::new(username, password));
        self
    }

    /// What AUTH offers, when a login is asked for: `"PLAIN LOGIN"` unless said otherwise; `""` for no AUTH at all.
    ///
    /// # Panics
    /// Without a login before it.
    pub fn mechanisms(mut self, names: &str) -> Self {
        let login = self.login.as_mut().expect("mechanisms() belongs to a login: call login() first");
        login.mechanisms = names.to_owned();
        self
    }

    /// Each connection is closed behind its n-th mail, without a word.
    pub fn close_after(mut self, mails: usize) -> Self {
        self.close_after = Some(mails);
        self
    }

    /// So many connections at a time; who comes beyond hears 421 in place of the greeting.
    pub fn most_connections(mut self, n: usize) -> Self {
        self.most_connections = Some(n);
        self
    }

    /// A client that says nothing for so long hears 421, unasked, and the connection is closed.
    pub fn idle_limit(mut self, limit: Duration) -> Self {
        self.idle_limit = Some(limit);
        self
    }

    /// A connection that is older than this hears 421 at its next MAIL, and is closed.
    pub fn lifetime(mut self, limit: Duration) -> Self {
        self.lifetime = Some(limit);
        self
    }

    /// Accepted mails are appended to this file, one JSON object a line, on disk before the client hears 250.
    pub fn record_in(mut self, file: impl Into<PathBuf>) -> Self {
        self.record = Some(file.into());
        self
    }

    /// About how many bytes the server takes in without reading them. The usual megabytes hide a fault
    /// at [`Stage::Body`] from a client that has written its whole mail by then.
    pub fn receive_buffer(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    fn narrow(mut self, change: impl FnOnce(&mut Rule)) -> Self {
        change(self.rules.last_mut().expect("there is no fault to narrow: call at() first"));
        self
    }
}

impl Rule {
    fn always(stage: Stage, fault: Fault) -> Self {
        let (recipient, mail, mail_of_connection) = (None, None, None);
        Self { stage, fault, recipient, mail, mail_of_connection, connection: None, times: None }
    }

    pub(super) fn fits(&self, stage: Stage, moment: &Moment<'_>, shown: usize) -> bool {
        self.stage == stage
            && self.times.is_none_or(|times| shown < times)
            && self.connection.is_none_or(|n| n == moment.connection)
            && self.mail.is_none_or(|n| n == moment.mail)
            && self.mail_of_connection.is_none_or(|n| n == moment.mail_of_connection)
            && self.recipient.as_ref().is_none_or(|one| moment.recipients.contains(one))
    }
}

/// When it is, in the words of a rule.
pub(super) struct Moment<'a> {
    pub(super) connection: usize,
    pub(super) mail: usize,
    pub(super) mail_of_connection: usize,
    pub(super) recipients: &'a [String],
}
