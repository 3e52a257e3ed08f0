//! The pages for people. They work without JavaScript, which only makes the list live.

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{Html, Redirect};
use serde::Deserialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::super::reading::{Attachment, HeaderLine};
use super::super::store::Entry;
use super::api::received_at;
use super::failure::Failure;
use super::{Desk, Opened};

/// More than this of a source or a text is not put into a page; the download has it whole.
const SHOWN: usize = 512 * 1024;

/// What stands on every page.
pub(super) struct Frame {
    pub(super) unread: usize,
    pub(super) total: usize,
    pub(super) query: String,
}

impl Frame {
    pub(super) fn new(desk: &Desk, query: &str) -> Self {
        let counts = desk.store.counts();
        Self { unread: counts.unread, total: counts.total, query: query.to_owned() }
    }
}

/// A mail as a line of the list, and as the head of its page.
struct Row {
    id: Uuid,
    from: String,
    /// The name without the address, where there is one.
    sender: String,
    to: String,
    subject: String,
    snippet: String,
    /// For machines and for people.
    time: String,
    date: String,
    unread: bool,
    attachments: usize,
}

impl From<Entry> for Row {
    fn from(entry: Entry) -> Self {
        let summary = &entry.summary;
        Self {
            id: summary.id,
            from: or(&summary.from, "(no sender)"),
            sender: or(summary.from.split(" <").next().unwrap_or_default(), "(no sender)"),
            to: summary.envelope.to.join(", "),
            subject: or(&summary.subject, "(no subject)"),
            snippet: summary.snippet.clone(),
            time: received_at(&entry),
            date: date(summary.received_at()),
            unread: entry.unread,
            attachments: summary.attachments,
        }
    }
}

#[derive(Template)]
#[template(path = "inbox/list.html")]
struct ListPage {
    frame: Frame,
    rows: Vec<Row>,
    revision: i64,
    api: String,
}

/// The search of the list.
#[derive(Deserialize)]
pub(super) struct Search {
    #[serde(default)]
    q: String,
}

/// `GET /`
pub(super) async fn list(
    State(desk): State<Desk>,
    search: Result<Query<Search>, QueryRejection>,
) -> Result<Html<String>, Failure> {
    let query = search.map(|Query(search)| search.q).unwrap_or_default();
    // Taken first: a mail that arrives meanwhile makes the page look behind, never up to date.
    let revision = *desk.store.revisions().borrow();
    let rows = desk.store.list(&query).into_iter().map(Row::from).collect();
    page(&ListPage { frame: Frame::new(&desk, query.trim()), rows, revision, api: desk.api.to_string() })
}

/// The five ways to look at a mail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tab {
    Html,
    Text,
    Source,
    Headers,
    Attachments,
}

impl Tab {
    const ALL: [Self; 5] = [Self::Html, Self::Text, Self::Source, Self::Headers, Self::Attachments];

    fn name(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Text => "text",
            Self::Source => "source",
            Self::Headers => "headers",
            Self::Attachments => "attachments",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Html => "HTML",
            Self::Text => "Text",
            Self::Source => "Source",
            Self::Headers => "Headers",
            Self::Attachments => "Attachments",
        }
    }
}

#[derive(Template)]
#[template(path = "inbox/mail.html")]
struct MailPage {
    frame: Frame,
    row: Row,
    cc: String,
    size: String,
    tab: Tab,
    has_html: bool,
    text: Option<Shown>,
    source: Shown,
    headers: Vec<HeaderLine>,
    attachments: Vec<Attachment>,
}

impl Attachment {
    fn shown_size(&self) -> String {
        size(self.content.len())
    }
}

/// A text that may have been cut.
struct Shown {
    text: String,
    cut: bool,
}

/// Which tab is asked for.
#[derive(Deserialize)]
pub(super) struct Look {
    #[serde(default)]
    tab: String,
}

/// `GET /messages/{id}`: opening a mail takes its unread mark away.
pub(super) async fn mail(
    State(desk): State<Desk>,
    Path(id): Path<String>,
    look: Result<Query<Look>, QueryRejection>,
) -> Result<Html<String>, Failure> {
    let asked = look.map(|Query(look)| look.tab).unwrap_or_default();
    let opened = desk.open(&id).await?;
    desk.mark_read(opened.entry.summary.id).await?;
    let default = if opened.reading.html.is_some() { Tab::Html } else { Tab::Text };
    let tab = Tab::ALL.into_iter().find(|tab| tab.name() == asked).unwrap_or(default);
    page(&mail_page(Frame::new(&desk, ""), opened, tab))
}

fn mail_page(frame: Frame, opened: Opened, tab: Tab) -> MailPage {
    let Opened { entry, raw, reading } = opened;
    let cc = reading
        .headers
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("cc"))
        .map(|field| field.value.clone());
    MailPage {
        frame,
        cc: cc.unwrap_or_default(),
        size: size(entry.summary.size),
        row: entry.into(),
        tab,
        has_html: reading.html.is_some(),
        text: reading.text.as_deref().map(|text| cut(text.as_bytes())),
        source: cut(&raw),
        headers: reading.headers,
        attachments: reading.attachments,
    }
}

/// `POST /clear`, from the form; back to the empty list.
pub(super) async fn clear(State(desk): State<Desk>) -> Result<Redirect, Failure> {
    desk.clear().await?;
    Ok(Redirect::to("/"))
}

fn page(template: &impl Template) -> Result<Html<String>, Failure> {
    template.render().map(Html).map_err(Failure::internal)
}

fn cut(bytes: &[u8]) -> Shown {
    let shown = &bytes[..bytes.len().min(SHOWN)];
    Shown { text: String::from_utf8_lossy(shown).into_owned(), cut: shown.len() < bytes.len() }
}

fn or(text: &str, placeholder: &str) -> String {
    let text = if text.trim().is_empty() { placeholder } else { text };
    text.to_owned()
}

fn date(time: OffsetDateTime) -> String {
    let month = time.month().to_string();
    format!("{} {} {}, {:02}:{:02} UTC", time.day(), &month[..3], time.year(), time.hour(), time.minute())
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn size(bytes: usize) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
