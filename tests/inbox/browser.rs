//! A real Chromium, driven through WebDriver.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::Stdio;

use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::inbox::{Done, client, new_folder};

const MISSING: &str = "the browser tests need Chromium and its driver: apt-get install -y chromium chromium-driver (./test does it)";

/// A browser window, closed by `close`.
pub(crate) struct Browser {
    pub(crate) page: Client,
    /// Where DevTools commands go.
    session: String,
    driver: Child,
    profile: std::path::PathBuf,
}

impl Browser {
    pub(crate) async fn open() -> Done<Self> {
        let (driver, url) = start_driver().await?;
        let profile = new_folder();
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1200,850",
            &format!("--user-data-dir={}", profile.display()),
        ];
        let options = json!({"goog:chromeOptions": {"args": arguments}});
        let Value::Object(capabilities) = options else { unreachable!("an object is written above") };
        let page = ClientBuilder::new(HttpConnector::new()).capabilities(capabilities).connect(&url).await;
        let page = page.map_err(|error| format!("{MISSING}: {error}"))?;
        let id = page.session_id().await?.ok_or("the driver gave no session")?;
        Ok(Self { page, session: format!("{url}/session/{id}"), driver, profile })
    }

    pub(crate) async fn close(mut self) -> Done {
        self.page.close().await?;
        self.driver.kill().await?;
        // The browser may still be writing its last; what is left over is in target/tmp.
        drop(std::fs::remove_dir_all(&self.profile));
        Ok(())
    }

    /// Opens a page of the inbox.
    pub(crate) async fn visit(&self, inbox: SocketAddr, path: &str) -> Done {
        Ok(self.page.goto(&format!("http://localhost:{}{path}", inbox.port())).await?)
    }

    /// The text of the first element, waited for.
    pub(crate) async fn text(&self, css: &str) -> Done<String> {
        Ok(self.page.wait().for_element(Locator::Css(css)).await?.text().await?)
    }

    pub(crate) async fn count(&self, css: &str) -> Done<usize> {
        Ok(self.page.find_all(Locator::Css(css)).await?.len())
    }

    pub(crate) async fn click(&self, css: &str) -> Done {
        Ok(self.page.wait().for_element(Locator::Css(css)).await?.click().await?)
    }

    /// What a JavaScript expression is within the page.
    pub(crate) async fn value(&self, expression: &str) -> Done<Value> {
        Ok(self.page.execute(&format!("return {expression}"), Vec::new()).await?)
    }

    /// A command of the DevTools protocol.
    pub(crate) async fn devtools(&self, command: &str, parameters: Value) -> Done {
        let body = json!({"cmd": command, "params": parameters}).to_string();
        let request = client()?
            .post(format!("{}/goog/cdp/execute", self.session))
            .header("content-type", "application/json")
            .body(body);
        Ok(request.send().await?.error_for_status().map(drop)?)
    }

    pub(crate) async fn colour_scheme(&self, name: &str) -> Done {
        self.devtools(
            "Emulation.setEmulatedMedia",
            json!({"features": [{"name": "prefers-color-scheme", "value": name}]}),
        )
        .await
    }

    pub(crate) async fn width(&self, width: u32, height: u32) -> Done {
        let phone = width < 600;
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}),
        )
        .await
    }

    pub(crate) async fn screenshot(&self, name: &str) -> Done {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
        std::fs::create_dir_all(&folder)?;
        Ok(std::fs::write(folder.join(format!("{name}.png")), self.page.screenshot().await?)?)
    }
}

async fn start_driver() -> Done<(Child, String)> {
    let started = Command::new("chromedriver")
        .arg("--port=0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let mut driver = started.map_err(|error| match error.kind() {
        ErrorKind::NotFound => MISSING.to_owned(),
        _ => format!("{MISSING}: {error}"),
    })?;
    let mut lines = BufReader::new(driver.stdout.take().ok_or("the driver has no output")?).lines();
    while let Some(line) = lines.next_line().await? {
        if let Some(port) = line.split("successfully on port ").nth(1) {
            let url = format!("http://127.0.0.1:{}", port.trim_end_matches('.'));
            // Read on, so that the driver is never stopped by a full pipe.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok((driver, url));
        }
    }
    Err("the driver ended at once".into())
}
