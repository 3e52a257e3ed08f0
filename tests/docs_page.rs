//! The page of the API in a real browser.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![cfg(feature = "local")]

#[expect(dead_code, reason = "a part of the browser is enough here")]
#[path = "inbox/browser.rs"]
mod browser;
#[expect(dead_code, reason = "a part of the door is enough here")]
#[path = "http/door.rs"]
mod door;
#[expect(dead_code, reason = "the browser needs a part of it")]
mod inbox;
mod support;

use browser::Browser;
use door::Door;
use serde_json::json;

#[tokio::test]
async fn the_page_shows_every_route_and_asks_nobody_for_anything() {
    let door = Door::open().await;
    let browser = Browser::open().await.unwrap();
    let shown = look(&browser, &door).await;
    browser.close().await.unwrap();
    shown.unwrap();
}

async fn look(browser: &Browser, door: &Door) -> inbox::Done {
    let address = door.base.trim_start_matches("http://").parse()?;
    browser.visit(address, "/docs").await?;
    assert_eq!(browser.text("h1").await?, "The API");
    assert_eq!(browser.count("article .route").await?, 17);
    let loaded = browser.value("performance.getEntriesByType('resource').map(entry => entry.name)").await?;
    assert_eq!(loaded, json!([]), "the page is one request");
    // The style sheet is let through by its hash.
    assert_eq!(
        browser.value("getComputedStyle(document.querySelector('article')).borderRadius").await?,
        json!("14px")
    );
    for (name, width, height) in [("docs", 1280, 900), ("docs-phone", 390, 844)] {
        browser.width(width, height).await?;
        let wide = browser
            .value("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            .await?;
        assert_eq!(wide, json!(0), "{name} scrolls to the side");
        for scheme in ["light", "dark"] {
            browser.colour_scheme(scheme).await?;
            browser.screenshot(&format!("{name}-{scheme}")).await?;
        }
    }
    Ok(())
}
