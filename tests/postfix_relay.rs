//! A real Postfix as the internal relay: STARTTLS required, SASL, an authority of one's own.
//!
//! Each test program starts an instance of its own, with its own queue, on free ports. Postfix must be
//! installed and wants to be started as root; without either the test says LEFT OUT.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]
#![expect(clippy::print_stdout, reason = "what is left out is said")]

#[expect(dead_code, reason = "each test program uses a part")]
mod transport;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use facteur::settings::{Kind, Relay, Settings, Tls, Variables};
use facteur::testing::{Script, SmtpServer, TestAuthority};
use facteur::transport::smtp::SmtpTransport;
use facteur::transport::{Outcome, Parcel};

use transport::{FROM, MESSAGE, OpenGate, send};

const PASSWORD: &str = "hunter2 and more";
const LIMIT: usize = 50_000;

/// An instance in a folder; stopped, and gone, when it is dropped.
struct Postfix {
    folder: PathBuf,
    submission: u16,
    submissions: u16,
}

impl Postfix {
    /// None without Postfix, SASL's tools or root.
    fn start(authority: &TestAuthority, sink: u16) -> Option<Self> {
        let found = |program: &str| Path::new("/usr/sbin").join(program).exists();
        if !found("postfix") || !found("saslpasswd2") {
            println!(
                "LEFT OUT: no Postfix on this machine (apt-get install postfix sasl2-bin libsasl2-modules)"
            );
            return None;
        }
        if said("id", &["-u"]) != "0" {
            println!("LEFT OUT: Postfix can only be started by root");
            return None;
        }
        // Not below the sources: its processes are another user's, who may not look there.
        let folder = std::env::temp_dir().join(format!("facteur-postfix-{}", std::process::id()));
        let ports = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
        let [submission, submissions] = ports.map(|port| port.local_addr().unwrap().port());
        let postfix = Self { folder, submission, submissions };
        postfix.configure(authority, sink);
        run(Command::new("/usr/sbin/postfix").arg("-c").arg(postfix.folder.join("etc")).arg("start"));
        Some(postfix)
    }

    fn configure(&self, authority: &TestAuthority, sink: u16) {
        for name in ["etc/sasl", "queue", "data"] {
            std::fs::create_dir_all(self.folder.join(name)).unwrap();
        }
        let identity = authority.issue("localhost").unwrap();
        self.file("etc/cert.pem", &identity.pem());
        self.file("etc/key.pem", &identity.key_pem());
        self.file("ca.pem", &authority.pem());
        self.file("etc/recipients", "nobody@example.test 550 5.1.1 no such user here\n");
        self.file("etc/main.cf", &self.main_cf(sink));
        self.file("etc/master.cf", &self.master_cf());
        let users = self.path("users");
        let sasl = "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\n";
        self.file("etc/sasl/smtpd.conf", &format!("{sasl}sasldb_path: {users}\n"));
        let mut adding = Command::new("/usr/sbin/saslpasswd2");
        adding.args(["-p", "-c", "-f", &users, "-u", "relay.internal.test", "shop"]);
        let mut adding = adding.stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut adding.stdin.take().unwrap(), PASSWORD.as_bytes()).unwrap();
        assert!(adding.wait().unwrap().success());
        run(Command::new("chown").arg("-R").arg("postfix").args([users, self.path("data")]));
    }

    fn main_cf(&self, sink: u16) -> String {
        let at = self.folder.display();
        format!(
            "compatibility_level = 3.6\n\
             queue_directory = {at}/queue\n\
             data_directory = {at}/data\n\
             maillog_file = {at}/log\n\
             maillog_file_prefixes = {at}\n\
             myhostname = relay.internal.test\n\
             mydestination =\n\
             alias_maps =\n\
             alias_database =\n\
             local_recipient_maps =\n\
             inet_interfaces = 127.0.0.1\n\
             inet_protocols = ipv4\n\
             mynetworks = 127.0.0.2\n\
             relayhost = [127.0.0.1]:{sink}\n\
             message_size_limit = {LIMIT}\n\
             smtpd_tls_cert_file = {at}/etc/cert.pem\n\
             smtpd_tls_key_file = {at}/etc/key.pem\n\
             smtpd_tls_security_level = encrypt\n\
             smtpd_tls_auth_only = yes\n\
             smtpd_sasl_auth_enable = yes\n\
             smtpd_sasl_local_domain = relay.internal.test\n\
             cyrus_sasl_config_path = {at}/etc/sasl\n\
             smtpd_relay_restrictions = permit_sasl_authenticated, reject\n\
             smtpd_recipient_restrictions = check_recipient_access texthash:{at}/etc/recipients\n"
        )
    }

    fn master_cf(&self) -> String {
        let (submission, submissions) = (self.submission, self.submissions);
        format!(
            "127.0.0.1:{submission} inet n - n - - smtpd\n\
             127.0.0.1:{submissions} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n\
             pickup unix n - n 60 1 pickup\n\
             cleanup unix n - n - 0 cleanup\n\
             qmgr unix n - n 300 1 qmgr\n\
             tlsmgr unix - - n 1000? 1 tlsmgr\n\
             rewrite unix - - n - - trivial-rewrite\n\
             bounce unix - - n - 0 bounce\n\
             defer unix - - n - 0 bounce\n\
             trace unix - - n - 0 bounce\n\
             verify unix - - n - 1 verify\n\
             flush unix n - n 1000? 0 flush\n\
             proxymap unix - - n - - proxymap\n\
             proxywrite unix - - n - 1 proxymap\n\
             smtp unix - - n - - smtp\n\
             relay unix - - n - - smtp\n\
             showq unix n - n - - showq\n\
             error unix - - n - - error\n\
             retry unix - - n - - error\n\
             anvil unix - - n - 1 anvil\n\
             scache unix - - n - 1 scache\n\
             postlog unix-dgram n - n - 1 postlogd\n"
        )
    }

    /// As production reads it.
    fn relay(&self, changes: &[(&str, &str)]) -> Relay {
        let (port, ca) = (self.submission.to_string(), self.path("ca.pem"));
        let all = [
            ("SMTP_HOST", "localhost"),
            ("SMTP_PORT", port.as_str()),
            ("SMTP_TLS", "starttls"),
            ("SMTP_USERNAME", "shop"),
            ("SMTP_PASSWORD", PASSWORD),
            ("SMTP_CA_FILE", ca.as_str()),
            ("EMAIL_FROM", FROM),
            ("DATABASE_URL", "postgres://localhost/mail"),
            ("JWT_SECRET", "kW3vXo0n1yqfT8sB5hUe2RmZ7dLcA9pJ4gQiYxN6wFt"),
        ];
        let variables: Variables = all.iter().chain(changes).copied().collect();
        let settings = Settings::from_variables(&variables).unwrap();
        match &settings.profile.ways()[0].kind {
            Kind::Smtp(relay) => relay.clone(),
            Kind::Api(api) => panic!("{api:?}"),
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn file(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).unwrap();
    }

    /// What it wrote down.
    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// What it writes down it writes a moment later.
    async fn wait_for_log(&self, words: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.log().contains(words) {
            assert!(Instant::now() < deadline, "never written: {words}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.log());
        }
        let mut stop = Command::new("/usr/sbin/postfix");
        // One that never started cannot be stopped.
        let _ = stop.arg("-c").arg(self.folder.join("etc")).arg("stop").output();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&text));
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// As `facteur serve` makes it.
fn way(relay: &Relay) -> SmtpTransport {
    SmtpTransport::new(relay).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_postfix_takes_what_it_should_and_refuses_what_it_must() {
    let authority = TestAuthority::new().unwrap();
    let sink = SmtpServer::start(Script::new()).await.unwrap();
    let Some(postfix) = Postfix::start(&authority, sink.addr().port()) else { return };

    mail_is_delivered(&postfix, &sink).await;
    a_wrong_password_is_the_ways_fault(&postfix).await;
    nothing_goes_in_clear(&postfix).await;
    an_authority_that_is_not_ours_is_not_trusted(&postfix).await;
    a_mail_over_the_limit_is_rejected(&postfix).await;
    a_refused_recipient_costs_nobody_else(&postfix, &sink).await;

    let log = postfix.log();
    let expected = ["authentication fail", "TLS library problem"];
    for line in log.lines().filter(|line| line.contains("warning") || line.contains("fatal")) {
        assert!(expected.iter().any(|words| line.contains(words)), "{line}");
    }
    assert!(!log.contains(PASSWORD));
}

async fn mail_is_delivered(postfix: &Postfix, sink: &SmtpServer) {
    let implicit = postfix.submissions.to_string();
    let implicit = postfix.relay(&[("SMTP_TLS", "implicit"), ("SMTP_PORT", &implicit)]);
    for (n, relay) in [postfix.relay(&[]), implicit].iter().enumerate() {
        let way = way(relay);
        assert_eq!(way.check().await, Ok(()));
        for m in 1..=3 {
            let outcome = send(&way, "ada@example.test").await;
            assert!(
                matches!(&outcome, Outcome::Sent(report) if report.text.contains("queued as")),
                "{outcome:?}"
            );
            let mails = sink.wait_for(3 * n + m).await;
            let mail = mails.last().unwrap();
            assert_eq!((mail.from.as_str(), &*mail.to), (FROM, &["ada@example.test".to_owned()][..]));
            assert!(mail.content.ends_with(b"\r\n\r\nGood day.\r\n"));
        }
    }
    // Each: one login for the three.
    postfix.wait_for_log("ehlo=2 starttls=1 auth=1 mail=3 rcpt=3 data=3 commands=").await;
    postfix.wait_for_log("ehlo=1 auth=1 mail=3 rcpt=3 data=3 commands=").await;
}

async fn a_wrong_password_is_the_ways_fault(postfix: &Postfix) {
    for changes in [[("SMTP_PASSWORD", "wrong")], [("SMTP_USERNAME", "nobody")]] {
        let Outcome::Unusable(report) = send(&way(&postfix.relay(&changes)), "ada@example.test").await else {
            panic!("{changes:?}")
        };
        assert_eq!((report.stage.as_str(), report.code), ("auth", Some(535)), "{report}");
    }
}

async fn nothing_goes_in_clear(postfix: &Postfix) {
    let secure = postfix.relay(&[]);
    // As a relay for development could be; production's settings refuse it.
    let clear = Relay { tls: Tls::None, ..secure.clone() };
    let Outcome::Unusable(report) = send(&way(&clear), "ada@example.test").await else { panic!() };
    assert_eq!(report.stage.as_str(), "auth", "{report}");
    let anonymous = Relay { credentials: None, ..clear };
    let Outcome::Unusable(report) = send(&way(&anonymous), "ada@example.test").await else { panic!() };
    assert_eq!((report.stage.as_str(), report.code), ("mail", Some(530)), "{report}");
    // Inside TLS and without a login, nobody is relayed for.
    let anonymous = Relay { credentials: None, ..secure };
    let Outcome::Unusable(report) = send(&way(&anonymous), "ada@example.test").await else { panic!() };
    assert_eq!((report.stage.as_str(), report.code), ("rcpt", Some(554)), "{report}");
}

async fn an_authority_that_is_not_ours_is_not_trusted(postfix: &Postfix) {
    postfix.file("other.pem", &TestAuthority::new().unwrap().pem());
    let other = postfix.path("other.pem");
    for changes in [[("SMTP_CA_FILE", other.as_str())], [("SMTP_CA_FILE", "")], [("SMTP_HOST", "127.0.0.1")]]
    {
        let Outcome::Unusable(report) = send(&way(&postfix.relay(&changes)), "ada@example.test").await else {
            panic!("{changes:?}")
        };
        assert_eq!(report.stage.as_str(), "tls", "{report}");
    }
}

async fn a_mail_over_the_limit_is_rejected(postfix: &Postfix) {
    let way = way(&postfix.relay(&[]));
    let large = [MESSAGE, "A line of a large mail.\r\n".repeat(LIMIT / 20).as_bytes()].concat();
    let parcel = Parcel { from: FROM, to: "ada@example.test", message: &large, email: &transport::EMAIL };
    let Outcome::Reject(report) = way.send(parcel, &OpenGate).await else { panic!() };
    assert!(report.text.ends_with(&format!("the server takes {LIMIT} at most")), "{report}");
}

async fn a_refused_recipient_costs_nobody_else(postfix: &Postfix, sink: &SmtpServer) {
    let way = way(&Relay { max_connections: 1, ..postfix.relay(&[]) });
    let before = sink.accepted().len();
    for n in 1..=3 {
        let Outcome::Reject(report) = send(&way, "nobody@example.test").await else { panic!() };
        assert_eq!((report.stage.as_str(), report.code), ("rcpt", Some(550)));
        assert!(report.text.contains("no such user here"), "{report}");
        assert!(matches!(send(&way, "eve@example.test").await, Outcome::Sent(_)));
        sink.wait_for(before + n).await;
    }
    // All six on one connection, of which it took three.
    drop(way);
    postfix.wait_for_log("auth=1 mail=6 rcpt=3/6 data=3/6 rset=3 ").await;
    assert!(sink.accepted().iter().all(|mail| mail.to != ["nobody@example.test"]));
}
