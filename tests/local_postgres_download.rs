//! The download of PostgreSQL's programs, from a mirror that can fail in every way.
#![cfg(feature = "local")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use facteur::local_postgres::{DOWNLOADED_VERSION, LocalPostgresError, Progress, Silent, download_binaries};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

/// What the mirror answers to a request for the archive.
#[derive(Clone, Copy, PartialEq)]
enum Archive {
    Whole,
    CutShort,
    Missing,
}

struct Mirror {
    url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Mirror {
    async fn serving(archive: Archive, checksum: Option<&str>) -> Self {
        let bytes = archive_bytes();
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let checksum = format!("{}  archive.tar.gz\n", checksum.unwrap_or(&hex));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/releases/", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                answer(stream, archive, &bytes, checksum.as_bytes()).await;
            }
        });
        Self { url, task }
    }

    /// Its address, where nobody listens any more.
    async fn end(self) -> String {
        self.task.abort();
        let _ = self.task.await;
        self.url
    }
}

async fn answer(stream: tokio::net::TcpStream, archive: Archive, bytes: &[u8], checksum: &[u8]) {
    let mut stream = BufReader::new(stream);
    let mut path = String::new();
    stream.read_line(&mut path).await.unwrap();
    let mut line = String::new();
    while stream.read_line(&mut line).await.unwrap() > 2 {
        line.clear();
    }
    let path = path.split(' ').nth(1).unwrap_or_default();
    let expected = format!("/releases/{DOWNLOADED_VERSION}/postgresql-{DOWNLOADED_VERSION}-");
    assert!(path.starts_with(&expected), "{path}");
    let (status, body, sent) = match archive {
        Archive::Missing => ("404 Not Found", &b"none"[..], 4),
        _ if path.ends_with(".sha256") => ("200 OK", checksum, checksum.len()),
        Archive::Whole => ("200 OK", bytes, bytes.len()),
        Archive::CutShort => ("200 OK", bytes, bytes.len() / 2),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body[..sent]).await.unwrap();
    stream.shutdown().await.unwrap();
}

/// As the publisher's: one folder, `bin` in it.
fn archive_bytes() -> Vec<u8> {
    let mut builder =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let program = b"#!/bin/sh\necho 'postgres (PostgreSQL) 17.11'\n";
    for name in ["initdb", "postgres", "pg_ctl"] {
        let mut header = tar::Header::new_gnu();
        header.set_size(program.len() as u64);
        header.set_mode(0o755);
        let path = format!("postgresql-{DOWNLOADED_VERSION}-somewhere/bin/{name}");
        builder.append_data(&mut header, path, &program[..]).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("facteur-download-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(&self.0).unwrap().next().is_none()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn fetch(folder: &Path, mirror: &str) -> Result<PathBuf, LocalPostgresError> {
    download_binaries(folder, Some(mirror), &Silent).await
}

#[derive(Default)]
struct Recorder {
    bytes: AtomicUsize,
    lines: Mutex<Vec<String>>,
}

impl Progress for Recorder {
    fn step(&self, line: &str) {
        self.lines.lock().unwrap().push(line.to_owned());
    }

    fn downloaded(&self, bytes: u64, total: Option<u64>) {
        assert!(total.is_some_and(|total| bytes <= total));
        self.bytes.store(bytes.try_into().unwrap(), Ordering::SeqCst);
    }
}

#[tokio::test]
async fn archive_is_unpacked_once_and_then_found() {
    let folder = Folder::new();
    // What a download that was killed has left.
    fs::create_dir(folder.0.join("download.new")).unwrap();
    let mut half = fs::File::create(folder.0.join("download.new/archive.tar.gz")).unwrap();
    half.write_all(b"half").unwrap();

    let mirror = Mirror::serving(Archive::Whole, None).await;
    let seen = Recorder::default();
    let bin = download_binaries(&folder.0, Some(&mirror.url), &seen).await.unwrap();
    assert!(bin.join("postgres").is_file());
    assert_eq!(seen.bytes.into_inner(), archive_bytes().len());
    assert_eq!(seen.lines.into_inner().unwrap().len(), 1);
    let left: Vec<_> = fs::read_dir(&folder.0).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");

    let nobody_there = mirror.end().await;
    assert_eq!(fetch(&folder.0, &nobody_there).await.unwrap(), bin);
}

#[tokio::test]
async fn wrong_checksum_leaves_nothing() {
    let folder = Folder::new();
    let mirror = Mirror::serving(Archive::Whole, Some(&"0".repeat(64))).await;
    let error = fetch(&folder.0, &mirror.url).await.unwrap_err();
    assert!(matches!(error, LocalPostgresError::Checksum { .. }), "{error}");
    assert!(folder.is_empty());
}

#[tokio::test]
async fn checksum_file_without_a_checksum_is_refused() {
    let folder = Folder::new();
    let mirror = Mirror::serving(Archive::Whole, Some("<html>")).await;
    let error = fetch(&folder.0, &mirror.url).await.unwrap_err();
    assert!(error.to_string().contains("no SHA-256"), "{error}");
    assert!(folder.is_empty());
}

#[tokio::test]
async fn download_that_is_cut_short_leaves_nothing() {
    let folder = Folder::new();
    let mirror = Mirror::serving(Archive::CutShort, None).await;
    let error = fetch(&folder.0, &mirror.url).await.unwrap_err();
    assert!(matches!(error, LocalPostgresError::Download { .. }), "{error}");
    assert!(folder.is_empty());
}

#[tokio::test]
async fn missing_archive_says_what_to_do_instead() {
    let folder = Folder::new();
    let mirror = Mirror::serving(Archive::Missing, None).await;
    let text = fetch(&folder.0, &mirror.url).await.unwrap_err().to_string();
    for part in ["404", "apt-get install postgresql", "DATABASE_URL"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn no_network_says_what_to_do_instead() {
    let folder = Folder::new();
    let mirror = Mirror::serving(Archive::Whole, None).await.end().await;
    let text = fetch(&folder.0, &mirror).await.unwrap_err().to_string();
    for part in ["refused", mirror.as_str(), "apt-get install postgresql", "DATABASE_URL"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
