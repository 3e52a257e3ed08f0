//! PostgreSQL's programs from the net, for a machine without them: checked, and whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::digest::{Context, SHA256};

use super::cluster::hex;
use super::error::LocalPostgresError;
use super::progress::Progress;

/// The version that is downloaded.
pub const VERSION: &str = "17.11.0";

/// Builds for all of Rust's common targets, named after them, each with its checksum beside it.
const PUBLISHER: &str = "https://github.com/theseus-rs/postgresql-binaries/releases/download";

/// Downloads PostgreSQL into `folder`, unless an earlier download is there, and returns where its programs are.
///
/// `mirror` replaces the publisher's address; below it, paths and names are the same. Only an
/// archive with the right SHA-256 is unpacked, beside its place, and then renamed into it.
pub async fn fetch(
    folder: &Path,
    mirror: Option<&str>,
    progress: &dyn Progress,
) -> Result<PathBuf, LocalPostgresError> {
    let ready = folder.join(format!("postgresql-{VERSION}"));
    if ready.join("bin").is_dir() {
        return Ok(ready.join("bin"));
    }
    let target = target()?;
    let base = mirror.unwrap_or(PUBLISHER).trim_end_matches('/');
    let url = format!("{base}/{VERSION}/postgresql-{VERSION}-{target}.tar.gz");
    let partial = folder.join("download.new");
    let result = fetch_into(&partial, &url, &ready, progress).await;
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(LocalPostgresError::folder(&partial))?;
    }
    result.map(|()| ready.join("bin"))
}

async fn fetch_into(
    partial: &Path,
    url: &str,
    ready: &Path,
    progress: &dyn Progress,
) -> Result<(), LocalPostgresError> {
    let failed = |reason: String| LocalPostgresError::Download { url: without_login(url), reason };
    // What a killed download left.
    if partial.exists() {
        fs::remove_dir_all(partial).map_err(LocalPostgresError::folder(partial))?;
    }
    fs::create_dir_all(partial).map_err(LocalPostgresError::folder(partial))?;
    progress.step(&format!("PostgreSQL is not on this machine: downloading version {VERSION}, once"));
    let client = client(url).map_err(&failed)?;
    let expected = expected_digest(&client, url).await.map_err(&failed)?;
    let archive = partial.join("archive.tar.gz");
    let found = download(&client, url, &archive, progress).await.map_err(&failed)?;
    if found != expected {
        return Err(LocalPostgresError::Checksum { url: without_login(url), expected, found });
    }
    let (into, ready) = (partial.join("unpacked"), ready.to_owned());
    tokio::task::spawn_blocking(move || unpack(&archive, &into, &ready))
        .await
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(format!("unpacking it: {error}")))
}

fn client(url: &str) -> Result<reqwest::Client, String> {
    // The process's TLS stack; that somebody else has chosen it already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(30));
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(causes)
}

/// A mirror on this machine is not for the network's proxy.
fn is_loopback(url: &str) -> bool {
    ["http://127.0.0.1", "http://localhost", "http://[::1]"].iter().any(|start| url.starts_with(start))
}

/// A mirror's address may hold a password, which is for nobody's screen.
fn without_login(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let host = rest.find('/').unwrap_or(rest.len());
    let start = rest[..host].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[start..])
}

/// The first word of the checksum file, which is in the format of `sha256sum`.
async fn expected_digest(client: &reqwest::Client, url: &str) -> Result<String, String> {
    let text = get(client, &format!("{url}.sha256")).await?.text().await.map_err(causes)?;
    text.split_whitespace()
        .next()
        .filter(|word| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .map(str::to_ascii_lowercase)
        .ok_or_else(|| "its .sha256 file holds no SHA-256".to_owned())
}

/// Streams the archive to disk and returns its SHA-256.
async fn download(
    client: &reqwest::Client,
    url: &str,
    path: &Path,
    progress: &dyn Progress,
) -> Result<String, String> {
    let mut response = get(client, url).await?;
    let total = response.content_length();
    let mut file = File::create(path).map_err(|error| error.to_string())?;
    let mut digest = Context::new(&SHA256);
    let mut bytes = 0;
    progress.downloaded(bytes, total);
    while let Some(chunk) = response.chunk().await.map_err(causes)? {
        digest.update(&chunk);
        file.write_all(&chunk).map_err(|error| error.to_string())?;
        bytes += chunk.len() as u64;
        progress.downloaded(bytes, total);
    }
    Ok(hex(digest.finish().as_ref()))
}

async fn get(client: &reqwest::Client, url: &str) -> Result<reqwest::Response, String> {
    let response = client.get(url).send().await;
    response.and_then(reqwest::Response::error_for_status).map_err(causes)
}

/// An error and what caused it: reqwest's own text stops at "error sending request". Without
/// the address, which is told once.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut next = std::error::Error::source(&error);
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Unpacks, and moves the folder that holds `bin` to its place.
fn unpack(archive: &Path, into: &Path, ready: &Path) -> std::io::Result<()> {
    let file = std::io::BufReader::new(File::open(archive)?);
    tar::Archive::new(flate2::read::GzDecoder::new(file)).unpack(into)?;
    // The archive has one folder at its root, named after itself.
    let mut roots = fs::read_dir(into)?.flatten().map(|entry| entry.path()).chain([into.to_owned()]);
    let root = roots
        .find(|root| root.join("bin").is_dir())
        .ok_or_else(|| std::io::Error::other("there is no folder `bin` in it"))?;
    fs::rename(root, ready)
}

/// The publisher's name for this machine: Rust's target triple.
fn target() -> Result<String, LocalPostgresError> {
    let arch = std::env::consts::ARCH;
    let system = match std::env::consts::OS {
        "linux" if cfg!(target_env = "musl") => "unknown-linux-musl",
        "linux" => "unknown-linux-gnu",
        "macos" => "apple-darwin",
        "windows" => "pc-windows-msvc",
        other => {
            return Err(LocalPostgresError::NoDownload { target: format!("{arch} {other}") });
        }
    };
    Ok(format!("{arch}-{system}"))
}
