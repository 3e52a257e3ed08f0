//! Every variable that Facteur reads: a name that is not in this table does not exist for it.

/// One variable.
#[derive(Debug)]
pub(super) struct Known {
    /// Its name in the environment.
    pub(super) name: &'static str,
    /// What it is for: the line above it in `.env.example`, which a test holds to it.
    #[cfg_attr(not(test), expect(dead_code, reason = "the documentation of the variable"))]
    pub(super) doc: &'static str,
    /// Whether it can be a file: `NAME_FILE` is then read too.
    pub(super) secret: bool,
}

const fn plain(name: &'static str, doc: &'static str) -> Known {
    Known { name, doc, secret: false }
}

const fn secret(name: &'static str, doc: &'static str) -> Known {
    Known { name, doc, secret: true }
}

#[rustfmt::skip]
pub(super) static KNOWN: &[Known] = &[
    plain("SMTP_HOST", "The SMTP server that mail leaves through: a host name or an address. Required in staging and production."),
    plain("SMTP_PORT", "Its port. Unset: 465 with implicit TLS, 587 with STARTTLS, and without TLS 1025 in development, 25 elsewhere."),
    plain("EMAIL_FROM", "The sender of mail that names none: an address, or \"Name <address>\" in quotes. Required in staging and production."),

    plain("APP_ENV", "development, staging or production. Unset means production; `facteur dev` is always development."),

    secret("SMTP_USERNAME", "The login at the SMTP server. A user name needs a password, and the reverse."),
    secret("SMTP_PASSWORD", "The password at the SMTP server. In this file, single quotes keep a $ or a # as it is."),
    plain("SMTP_TLS", "none, starttls or implicit. Unset: implicit on port 465, none on this machine and in development without a login or a certificate, starttls otherwise."),
    plain("SMTP_HELLO_NAME", "The name given in EHLO. Unset: this machine's address, as in [192.0.2.1]."),
    plain("SMTP_CA_FILE", "A file with the certificates (PEM) of authorities of your own, trusted besides this machine's."),
    plain("SMTP_CLIENT_CERT_FILE", "A file with the certificate (PEM) shown to a server that asks who connects. It needs its key, and the reverse."),
    plain("SMTP_CLIENT_KEY_FILE", "A file with the private key (PEM) of that certificate."),
    plain("SMTP_MAX_CONNECTIONS", "Connections to the SMTP server at once, at most."),
    plain("SMTP_MAX_PER_CONNECTION", "Mails on one connection, at most."),
    plain("SMTP_IDLE_TIMEOUT", "A connection that carried no mail for so long is closed."),
    plain("SMTP_MAX_CONNECTION_AGE", "A connection that has been open for so long is closed."),

    plain("SMTP_OAUTH_TOKEN_URL", "Log in by XOAUTH2: where tokens are fetched by client credentials (https). SMTP_USERNAME is the mailbox; no password is needed."),
    plain("SMTP_OAUTH_CLIENT_ID", "The client id of the application that may send."),
    secret("SMTP_OAUTH_CLIENT_SECRET", "Its client secret."),
    plain("SMTP_OAUTH_SCOPE", "The scope of the token, if the endpoint wants one."),

    secret("MAIL_TRANSPORTS", "Instead of one SMTP server: URLs in order of preference, separated by spaces. See the README."),
    plain("MAIL_DOMAIN_LIMITS", "How much may go to one recipients' domain, all processes together: a rate, mails at once, or both; * is each other domain. See the README."),

    plain("EMAIL_HOST", "The same as SMTP_HOST."),
    plain("EMAIL_PORT", "The same as SMTP_PORT."),
    secret("EMAIL_HOST_USER", "The same as SMTP_USERNAME."),
    secret("EMAIL_HOST_PASSWORD", "The same as SMTP_PASSWORD."),
    plain("EMAIL_USE_TLS", "True is SMTP_TLS=starttls; False alone is SMTP_TLS=none."),
    plain("EMAIL_USE_SSL", "True is SMTP_TLS=implicit."),
    plain("EMAIL_SSL_CERTFILE", "The same as SMTP_CLIENT_CERT_FILE."),
    plain("EMAIL_SSL_KEYFILE", "The same as SMTP_CLIENT_KEY_FILE."),
    plain("DEFAULT_FROM_EMAIL", "The same as EMAIL_FROM."),

    secret("DATABASE_URL", "The database: postgres://user:password@host:5432/name. Required, except for `facteur dev`, which then runs a private Postgres."),
    secret("DATABASE_PASSWORD", "The password of the user that DATABASE_URL names, instead of one in the URL: a file that Postgres itself may read too."),
    plain("API_DATABASE_CONNECTIONS", "Connections for the HTTP doors, at most."),
    plain("WORKER_DATABASE_CONNECTIONS", "Connections for the worker, at most. A pool of its own, so that neither starves the other."),
    plain("DATABASE_TIMEOUT", "How long a statement may take before its connection is given up; six times as long for whole e-mails."),
    plain("DATABASE_POOLER", "transaction when DATABASE_URL leads through PgBouncer in transaction mode; none otherwise."),
    secret("DATABASE_DIRECT_URL", "Behind a pooler: Postgres itself, for migrations and for the bell between processes."),

    plain("HTTP_HOST", "The address that the API listens on. Unset: 127.0.0.1 in development, 0.0.0.0 elsewhere."),
    plain("HTTP_PORT", "The port of the API."),
    plain("HTTP_TRUSTED_HOPS", "How many proxies of yours are in front of the API: the caller is the address that the outermost of them saw, by X-Forwarded-For. 0 believes no such header."),
    plain("METRICS_PORT", "A port of its own for /metrics, /healthz and /readyz, without a token; a worker has it too. Unset: none."),
    plain("METRICS_HOST", "The address that it listens on. Whoever reaches it reads the metrics."),
    plain("API_RATE", "Requests a second of one caller, such as 10/s, or off. Unset: off in development, 100/s elsewhere."),
    plain("API_REQUEST_TIMEOUT", "How long a request may take to arrive."),
    plain("ATTACHMENTS_FROM_LOCALHOST", "True: attachments by URL may be fetched from this machine too. Development only."),
    secret("JWT_SECRET", "The HS256 key of bearer tokens, at least 32 bytes (`openssl rand -base64 48`). Required in staging and production, unused in development."),

    plain("INBOX_HTTP_PORT", "The page of the development inbox: http://localhost:1080."),
    plain("INBOX_SMTP_PORT", "The SMTP port of the development inbox. Unset: SMTP_PORT if SMTP_HOST is this machine, 1025 otherwise."),
    plain("FACTEUR_HOME", "The folder of what `facteur dev` keeps: the private Postgres and the inbox."),
    plain("FACTEUR_POSTGRES_MIRROR", "Where `facteur dev` downloads PostgreSQL when the machine has none: a mirror of the release folder."),

    plain("WORKER_CONCURRENCY", "Mails being sent at once by one process."),
    plain("WORKER_POLL", "How often the queue is looked at when nothing woke the worker. Durations: 500ms, 10s, 2m, 1h, 30d."),
    plain("WORKER_LEASE", "How long a claimed mail is one worker's alone: at least 30s, and twice WORKER_POLL."),
    plain("WORKER_HEARTBEAT", "How often a process says that it lives: less than half of WORKER_SESSION_EXPIRY."),
    plain("WORKER_SESSION_EXPIRY", "A process that has not been heard of for so long is taken for dead."),
    plain("SHUTDOWN_GRACE", "How long mail in flight may finish after the first signal."),
    plain("MAIL_HOLD_ON_START", "True after a restore from a backup: mail that is in the queue at the start is parked for a person (`facteur held`). Unset it afterwards."),

    plain("KEEP_SENT", "How long what was sent or cancelled is kept, bodies and all, and up to 7 days longer: from 1d to 3650d."),
    plain("KEEP_FAILED", "The same for what failed."),

    plain("LOG_FORMAT", "text or json."),
    plain("LOG_LEVEL", "error, warn, info, debug or trace; or a filter such as info,facteur=debug."),
    plain("RUST_LOG", "The same; it wins over LOG_LEVEL."),
    plain("NO_COLOR", "Set to anything: no colours in text logs (there are none unless stderr is a terminal)."),

    plain("OTEL_EXPORTER_OTLP_ENDPOINT", "Where traces go by OTLP over HTTP, such as http://collector:4318. Unset: nowhere. Needs a build with the feature otlp."),
    secret("OTEL_EXPORTER_OTLP_HEADERS", "Headers for it, name=value and separated by commas: such as a token."),
    plain("OTEL_SERVICE_NAME", "The name under which traces show this program."),
];

/// Each name that is looked up, `NAME_FILE` included.
pub(super) fn names() -> impl Iterator<Item = String> {
    KNOWN.iter().flat_map(|known| {
        let file = known.secret.then(|| file_name(known.name));
        std::iter::once(known.name.to_owned()).chain(file)
    })
}

/// The variable that names the file which holds a secret.
pub(super) fn file_name(name: &str) -> String {
    format!("{name}_FILE")
}
