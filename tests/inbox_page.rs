//! The inbox's page in a real browser.
#![cfg(feature = "local")]

#[path = "inbox/browser.rs"]
mod browser;
mod inbox;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use browser::Browser;
use fantoccini::Locator;
use inbox::{Done, Running, start};
use serde_json::json;
use tokio::net::TcpListener;

/// Runs a test in a browser of its own, which is closed whatever comes of it.
async fn in_browser(test: impl AsyncFnOnce(&Browser, &Running) -> Done) -> Done {
    let inbox = start().await?;
    let browser = Browser::open().await?;
    let outcome = test(&browser, &inbox).await;
    browser.close().await?;
    outcome
}

macro_rules! ensure {
    ($condition:expr, $($said:tt)+) => {
        let holds: bool = $condition;
        if !holds {
            return Err(format!($($said)+).into());
        }
    };
}

fn html(subject: &str, body: &str) -> String {
    format!(
        "From: Facteur <sender@local.test>\r\nTo: test@local.test\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{body}"
    )
}

fn text(subject: &str, body: &str) -> String {
    format!("From: Ada Lovelace <ada@local.test>\r\nTo: test@local.test\r\nSubject: {subject}\r\n\r\n{body}")
}

#[tokio::test]
async fn a_mail_appears_on_the_open_list_and_loses_its_mark_when_read() -> Done {
    in_browser(async |browser, inbox| {
        browser.visit(inbox.http, "/").await?;
        ensure!(
            browser
                .text(".empty")
                .await?
                .contains("curl -X POST \"http://localhost:8000/api/test-email?to=test@local.test\""),
            "the empty inbox does not say what to do"
        );
        browser.page.execute("window.sameDocument = true", Vec::new()).await?;
        inbox.deliver(&["test@local.test"], &text("First of all", "Good day")).await?;
        ensure!(browser.text(".mails .unread .subject").await? == "First of all", "no mail");
        inbox.deliver(&["test@local.test"], &text("Second", "Good day")).await?;
        browser.page.wait().for_element(Locator::XPath("//li[1]//*[.='Second']")).await?;
        ensure!(browser.value("window.sameDocument").await? == json!(true), "the page was loaded again");
        ensure!(
            browser.page.title().await? == "(2) Inbox · Facteur",
            "title {}",
            browser.page.title().await?
        );
        ensure!(
            browser.text("#counts").await? == "2 mails, 2 unread",
            "counts {}",
            browser.text("#counts").await?
        );

        browser.click(".mails li:first-child a").await?;
        ensure!(browser.text(".mail h1").await? == "Second", "not the mail that was clicked");
        browser.click(".back a").await?;
        ensure!(browser.text(".unread .subject").await? == "First of all", "the wrong mark went");
        ensure!((browser.count(".mails li").await?, browser.count(".unread").await?) == (2, 1), "marks");
        ensure!(browser.page.title().await? == "(1) Inbox · Facteur", "title");

        browser.page.find(Locator::Id("q")).await?.send_keys("first").await?;
        browser.click(".search button").await?;
        browser.page.wait().for_element(Locator::XPath("//h1[contains(., 'Results')]")).await?;
        ensure!(browser.count(".mails li").await? == 1, "the search found another number");
        browser.click(".clear button").await?;
        ensure!(browser.text(".empty h2").await? == "No mail yet", "not cleared");
        Ok(())
    })
    .await
}

/// Counts who connects.
async fn counting() -> Done<(SocketAddr, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (address, count) = (listener.local_addr()?, Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    Ok((address, count))
}

fn hostile(out: SocketAddr) -> String {
    let body = r#"<!DOCTYPE html><html><head><title>Hostile</title>
<base href="OUT/base/"><meta http-equiv="refresh" content="0;url=OUT/refresh"><meta http-equiv="x-dns-prefetch-control" content="on">
<link rel="stylesheet" href="OUT/link.css"><link rel="preconnect" href="OUT"><link rel="prefetch" href="OUT/prefetch"><LINK rel="icon" href="OUT/icon"><link rel="preload" as="image" href="OUT/preload">
<style>@import "OUT/import.css"; @import url(OUT/import2.css); @font-face{font-family:x;src:url(OUT/font)} body{background:url(OUT/background);font-family:x}</style>
<script>document.documentElement.dataset.ran = 1; fetch('OUT/fetch'); top.location = 'OUT/top'</script><script src="OUT/script.js"></script></head>
<body onload="document.documentElement.dataset.ran=2"><p id="shown">calm</p>
<img src="x" onerror="document.documentElement.dataset.ran=3"><img src="OUT/img"><img srcset="OUT/srcset 1x"><picture><source srcset="OUT/source"><img src="relative.png"></picture>
<iframe srcdoc="<script>parent.document.documentElement.dataset.ran=4;new Image().src='OUT/srcdoc'</script><img src='OUT/srcdocimg'>"></iframe><iframe src="OUT/iframe"></iframe>
<iframe src="javascript:parent.document.documentElement.dataset.ran=5"></iframe><object data="OUT/object"></object><embed src="OUT/embed"><video src="OUT/video" poster="OUT/poster" autoplay></video><audio src="OUT/audio" autoplay></audio>
<svg><image href="OUT/svg"/><use href="OUT/use#x"/><script>document.documentElement.dataset.ran=6</script><style>@import "OUT/svgimport"</style></svg><table background="OUT/table"><tr><td>x</table>
<math><mtext><img src="OUT/math"></mtext></math><div style="background:url('OUT/inline');list-style-image:image-set('OUT/imageset' 1x)">x</div><input type="image" src="OUT/input" form="f">
<form id="f" action="OUT/form" method="post"><button id="send" autofocus onfocus="document.documentElement.dataset.ran=7">Send</button></form>
<details open ontoggle="document.documentElement.dataset.ran=8">x</details><a id="self" href="OUT/self" target="_self">stay</a> <a id="top" href="OUT/toplink" target="_top">top</a> <a id="js" href="javascript:document.documentElement.dataset.ran=9" target="_self">js</a>
<a id="away" href="OUT/away" ping="OUT/ping">away</a></body></html>"#;
    html("<script>document.title='ran'</script>", &body.replace("OUT", &format!("http://{out}")))
}

#[tokio::test]
async fn a_hostile_mail_runs_nothing_and_asks_for_nothing() -> Done {
    in_browser(async |browser, inbox| {
        let (out, count) = counting().await?;
        inbox.deliver(&["test@local.test"], &hostile(out)).await?;
        browser.visit(inbox.http, "/").await?;
        browser.click(".mails a").await?;
        browser.page.wait().for_element(Locator::Css("iframe")).await?;
        let page = browser.page.current_url().await?;
        browser.page.find(Locator::Css("iframe")).await?.enter_frame().await?;
        ensure!(browser.text("#shown").await? == "calm", "the mail is not shown");
        for id in ["#send", "#js"] {
            browser.click(id).await?;
        }
        ensure!(browser.text("#shown").await? == "calm", "the frame went elsewhere");
        browser.page.enter_parent_frame().await?;
        ensure!(browser.page.current_url().await? == page, "the page went elsewhere");

        for tab in ["html", "text", "source", "headers", "attachments"] {
            browser.visit(inbox.http, &format!("{}?tab={tab}", page.path())).await?;
            ensure!(browser.page.title().await?.contains("<script>"), "the subject is not text");
        }
        // By itself as well, outside the page's frame.
        browser.visit(inbox.http, &format!("{}/html", page.path())).await?;
        ensure!(browser.text("#shown").await? == "calm", "not shown");
        ensure!(
            browser.value("document.documentElement.dataset.ran === undefined").await? == json!(true),
            "a script ran"
        );
        let left = count.load(Ordering::SeqCst);
        eprintln!("requests that left: {left}");
        ensure!(left == 0, "{left} connections left the browser");

        // The counter counts: following a link is the reader's will, and goes to a tab of its own.
        let windows = browser.page.windows().await?.len();
        browser.click("#top").await?;
        ensure!(browser.page.windows().await?.len() == windows + 1, "the link opened no tab");
        ensure!(browser.text("#shown").await? == "calm", "the link replaced the mail");
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while count.load(Ordering::SeqCst) == 0 && tokio::time::Instant::now() < deadline {
            browser.page.windows().await?;
        }
        ensure!(count.load(Ordering::SeqCst) > 0, "the link went nowhere");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn everything_works_without_javascript() -> Done {
    in_browser(async |browser, inbox| {
        browser.devtools("Emulation.setScriptExecutionDisabled", json!({"value": true})).await?;
        inbox.deliver(&["test@local.test"], &html("Of HTML", "<p id=shown>Good <b>day</b>")).await?;
        inbox.deliver(&["test@local.test"], &text("Of text", "Plain words")).await?;
        browser.visit(inbox.http, "/").await?;
        ensure!(browser.text(".mails time").await?.ends_with("UTC"), "a script ran");
        ensure!(browser.count(".mails .unread").await? == 2, "the list");
        browser.click(".mails li:last-child a").await?;
        ensure!(browser.text(".tabs [aria-current]").await? == "HTML", "the first tab");
        for (tab, expected) in [
            ("Source", "<p id=shown>"),
            ("Headers", "sender@local.test"),
            ("Attachments", "no attachment"),
            ("Text", "no text of its own"),
        ] {
            browser.page.find(Locator::LinkText(tab)).await?.click().await?;
            browser
                .page
                .wait()
                .for_element(Locator::XPath(&format!(
                    "//nav/a[@aria-current and starts-with(normalize-space(.), '{tab}')]"
                )))
                .await?;
            ensure!(
                browser.text(".panel").await?.contains(expected),
                "{tab}: {}",
                browser.text(".panel").await?
            );
        }
        browser.click(".brand").await?;
        browser.page.wait().for_element(Locator::Css(".mails")).await?;
        browser.page.find(Locator::Id("q")).await?.send_keys("plain").await?;
        browser.click(".search button").await?;
        browser.page.wait().for_element(Locator::XPath("//h1[contains(., 'Results')]")).await?;
        ensure!(
            browser.text(".mails").await?.contains("Of text") && browser.count(".mails li").await? == 1,
            "the search"
        );
        browser.click(".clear button").await?;
        ensure!(browser.text(".empty h2").await? == "No mail yet", "not cleared");
        Ok(())
    })
    .await
}

/// Mails as an application would send them, and some that strain the layout.
async fn fill(inbox: &Running) -> Done {
    let logo = "Content-Type: image/svg+xml\r\nContent-ID: <logo>\r\n\r\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"120\" height=\"40\"><rect width=\"120\" height=\"40\" rx=\"8\" fill=\"#1c4f93\"/><text x=\"60\" y=\"26\" fill=\"#fff\" font-family=\"sans-serif\" font-size=\"18\" text-anchor=\"middle\">Larkspur</text></svg>\r\n";
    let invoice = format!(
        "From: Larkspur Books <hello@larkspur.test>\r\nTo: Test <test@local.test>\r\nSubject: Your order is on its way\r\nMIME-Version: 1.0\r\nContent-Type: multipart/related; boundary=r\r\n\r\n\
         --r\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<!DOCTYPE html><body style=\"font-family:sans-serif;color:#222;max-width:36rem;margin:2rem auto\"><img src=\"cid:logo\" alt=\"Larkspur\"><h2>On its way</h2><p>Good day Test,</p><p>your three books left our shop this morning and will be with you on Thursday.</p><p><a href=\"https://larkspur.test/orders/81\" style=\"background:#1c4f93;color:#fff;padding:.7em 1.2em;border-radius:8px;text-decoration:none\">Follow the parcel</a></p><p>Until soon,<br>the shop</p></body>\r\n--r\r\n{logo}--r\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=\"invoice-2026-0081.pdf\"\r\n\r\n%PDF-1.7\r\n--r--\r\n"
    );
    inbox
        .deliver(
            &[
                "someone.with.a.very.long.address.indeed@department.of.long.names.example.test",
                "test@local.test",
            ],
            &text(&"Longsubjectwithoutanyspace".repeat(8), &"https://example.test/".repeat(30)),
        )
        .await?;
    inbox.deliver(&["test@local.test"], &text("", "A mail without a subject")).await?;
    inbox
        .deliver(
            &["ops@local.test"],
            &text(
                "Nightly report: 1,204 mails sent, none lost",
                "All queues are empty. The slowest delivery took 1.2 s.",
            ),
        )
        .await?;
    inbox
        .deliver(
            &["grace@local.test"],
            &text(
                "Réinitialisation de votre mot de passe",
                "Bonjour Grace, voici le lien que vous avez demandé.",
            ),
        )
        .await?;
    inbox
        .deliver(
            &["test@local.test"],
            &html("Welcome to Larkspur Books", "<h1>Welcome</h1><p>We are glad that you are here.</p>"),
        )
        .await?;
    inbox.deliver(&["test@local.test"], &invoice).await
}

#[tokio::test]
async fn a_phone_shows_every_page_without_scrolling_sideways() -> Done {
    in_browser(async |browser, inbox| {
        browser.width(360, 740).await?;
        browser.visit(inbox.http, "/").await?;
        fits(browser, "the empty list").await?;
        fill(inbox).await?;
        browser.visit(inbox.http, "/").await?;
        browser.page.wait().for_element(Locator::Css(".mails")).await?;
        fits(browser, "the list").await?;
        browser.screenshot("list-phone").await?;
        for row in [1, 6] {
            browser.visit(inbox.http, "/").await?;
            browser.click(&format!(".mails li:nth-child({row}) a")).await?;
            browser.page.wait().for_element(Locator::Css(".mail")).await?;
            let path = browser.page.current_url().await?.path().to_owned();
            for tab in ["html", "text", "source", "headers", "attachments"] {
                browser.visit(inbox.http, &format!("{path}?tab={tab}")).await?;
                fits(browser, tab).await?;
            }
        }
        browser.visit(inbox.http, "/nothing").await?;
        fits(browser, "the error page").await
    })
    .await
}

async fn fits(browser: &Browser, what: &str) -> Done {
    let widths = browser.value("[document.documentElement.scrollWidth, innerWidth]").await?;
    ensure!(widths == json!([360, 360]), "{what} is {widths} wide");
    Ok(())
}

#[tokio::test]
async fn dark_is_dark_and_light_is_light() -> Done {
    in_browser(async |browser, inbox| {
        fill(inbox).await?;
        browser.colour_scheme("light").await?;
        browser.visit(inbox.http, "/").await?;
        ensure!(contrast(browser).await?, "light: {}", browser.value(COLOURS).await?);
        ensure!(brightness(browser, "backgroundColor").await? > 0.8, "light is not light");
        browser.screenshot("list-light").await?;
        browser.click(".mails li:nth-child(1) a").await?;
        browser.page.wait().for_element(Locator::Css("iframe")).await?;
        browser.screenshot("mail-light").await?;
        browser.colour_scheme("dark").await?;
        ensure!(brightness(browser, "backgroundColor").await? < 0.2, "dark is not dark");
        ensure!(brightness(browser, "color").await? > 0.8, "dark text is dark");
        browser.screenshot("mail-dark").await?;
        browser.visit(inbox.http, "/").await?;
        ensure!(contrast(browser).await?, "dark: {}", browser.value(COLOURS).await?);
        browser.screenshot("list-dark").await?;
        browser.click(".clear button").await?;
        browser.page.wait().for_element(Locator::Css(".empty")).await?;
        browser.colour_scheme("light").await?;
        browser.screenshot("empty-light").await
    })
    .await
}

/// The colours of everything quiet, and of what it stands on.
const COLOURS: &str = "['.snippet', '.to', '.mails time', '#counts', '.brand small'].map(s => { const e = document.querySelector(s); let b = e, c; while ((c = getComputedStyle(b).backgroundColor) === 'rgba(0, 0, 0, 0)') b = b.parentElement; return [getComputedStyle(e).color, c].map(x => x.match(/[\\d.]+/g).map(Number)) })";

/// Whether all of it has the contrast of WCAG AA, 4.5.
async fn contrast(browser: &Browser) -> Done<bool> {
    let ratio = format!(
        "{COLOURS}.every(pair => {{ const [a, b] = pair.map(rgb => {{ const [r, g, b] = rgb.map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b }}); return (Math.max(a, b) + .05) / (Math.min(a, b) + .05) >= 4.5 }})"
    );
    Ok(browser.value(&ratio).await? == json!(true))
}

async fn brightness(browser: &Browser, property: &str) -> Done<f64> {
    let value = browser
        .value(&format!(
            "Math.max(...getComputedStyle(document.body).{property}.match(/\\d+/g).map(Number)) / 255"
        ))
        .await?;
    value.as_f64().ok_or_else(|| "no colour".into())
}
