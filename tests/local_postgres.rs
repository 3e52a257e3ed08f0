//! The private Postgres: real clusters, killed and started again.
#![cfg(all(feature = "local", target_os = "linux"))]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and one tells its figures"
)]

#[path = "local_postgres/fixture.rs"]
mod fixture;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use facteur::local_postgres::{LocalPostgres, LocalPostgresError, Silent};
use facteur::settings::ExposeSecret;
use sqlx::Connection;

use fixture::{
    Holder, Home, connect, ended, is_root, kill_9, postmaster, process_group, run_as_normal_user, start,
};

const KEPT: &str = "SELECT count(*) FROM kept";
const KEEP: &str = "CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)";

async fn keep_a_row(url: &str) {
    let mut connection = connect(url).await;
    sqlx::raw_sql(KEEP).execute(&mut connection).await.unwrap();
}

async fn kept_rows(server: &LocalPostgres) -> i64 {
    let mut connection = connect(server.url().expose_secret()).await;
    sqlx::query_scalar(KEPT).fetch_one(&mut connection).await.unwrap()
}

#[tokio::test]
async fn second_start_has_the_rows_and_the_port_of_the_first() {
    let home = Home::new();
    let begun = Instant::now();
    let server = start(&home).await;
    println!("first start: {:?}", begun.elapsed());
    let url = server.url();
    keep_a_row(url.expose_secret()).await;

    let begun = Instant::now();
    server.stop().await.unwrap();
    println!("stop: {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(3));

    let begun = Instant::now();
    let server = start(&home).await;
    println!("second start: {:?}", begun.elapsed());
    assert_eq!(server.url().expose_secret(), url.expose_secret());
    assert_eq!(kept_rows(&server).await, 1);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn server_is_durable_private_and_away_from_the_terminals_ctrl_c() {
    let home = Home::new();
    let server = start(&home).await;
    let mut connection = connect(server.url().expose_secret()).await;
    for (setting, value) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
    ] {
        let found: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(setting)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(found, value, "{setting}");
    }

    let url = server.url().expose_secret().to_owned();
    let (start_of_url, rest) = url.split_once(':').unwrap();
    let other = format!("{start_of_url}://postgres:guess@{}", rest.split_once('@').unwrap().1);
    let refused = sqlx::PgConnection::connect(&other).await;
    assert!(refused.unwrap_err().to_string().contains("password"));

    let folder = server.folder();
    assert_eq!(fs::metadata(folder).unwrap().mode() & 0o777, 0o700);
    let password = fs::metadata(folder.join("data/facteur.password")).unwrap();
    assert_eq!(password.mode() & 0o777, 0o600);

    let pid = postmaster(folder);
    assert_ne!(process_group(pid), process_group(std::process::id()));
    if is_root() {
        assert_ne!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), 0);
    }

    drop(connection);
    drop(server);
    ended(pid);
}

#[tokio::test]
async fn killed_facteur_and_killed_postgres_lose_nothing() {
    let home = Home::new();
    let mut holder = Holder::start(&home);
    keep_a_row(&holder.url).await;
    let orphan = postmaster(&home.path().join("postgres"));

    // Facteur alone: its Postgres still runs, and is ended by the next start.
    holder.kill();
    assert!(fs::exists(format!("/proc/{orphan}")).unwrap());
    let mut holder = Holder::start(&home);
    let next = postmaster(&home.path().join("postgres"));
    assert_ne!(next, orphan);

    // Both, in the middle of a session.
    let session = connect(&holder.url).await;
    holder.kill();
    kill_9(next);
    let server = start(&home).await;
    assert_eq!(kept_rows(&server).await, 1);
    drop(session);

    // And a copy of the folder, with the PID file of the server that runs on the original.
    let copy = Home::new();
    let status =
        Command::new("cp").arg("-a").arg(home.path().join("postgres")).arg(copy.path()).status().unwrap();
    assert!(status.success());
    let of_copy = start(&copy).await;
    assert_eq!(kept_rows(&of_copy).await, 1);
    assert_eq!(kept_rows(&server).await, 1);
    of_copy.stop().await.unwrap();
    server.stop().await.unwrap();
}

#[tokio::test]
async fn pid_file_that_names_a_stranger_stops_nobody() {
    let home = Home::new();
    let server = start(&home).await;
    let data = server.folder().join("data");
    let pid_file = fs::read_to_string(data.join("postmaster.pid")).unwrap();
    server.stop().await.unwrap();

    // After a power cut, the number of the dead server can be any process's: here one of the same user.
    let mut stranger = Command::new("sleep");
    stranger.arg("600").stdout(Stdio::null()).stderr(Stdio::null());
    fixture::as_owner_of(&mut stranger, &data);
    let mut stranger = stranger.spawn().unwrap();
    let rest = pid_file.split_once('\n').unwrap().1;
    let path = data.join("postmaster.pid");
    fs::write(&path, format!("{}\n{rest}", stranger.id())).unwrap();
    fixture::give_to_owner_of(&path, &data);

    let started = LocalPostgres::start(home.path(), None, &Silent).await;
    let survived = stranger.try_wait().unwrap().is_none();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    started.unwrap().stop().await.unwrap();
    assert!(survived);
}

#[tokio::test]
async fn port_that_is_taken_is_left_to_its_owner() {
    let home = Home::new();
    let server = start(&home).await;
    let port_file = server.folder().join("port");
    server.stop().await.unwrap();
    let taken: u16 = fs::read_to_string(&port_file).unwrap().parse().unwrap();

    let _owner = TcpListener::bind(("127.0.0.1", taken)).unwrap();
    let server = start(&home).await;
    let chosen: u16 = fs::read_to_string(&port_file).unwrap().parse().unwrap();
    assert_ne!(chosen, taken);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn second_facteur_is_told_about_the_first() {
    let home = Home::new();
    let first = start(&home).await;
    let error = LocalPostgres::start(home.path(), None, &Silent).await.unwrap_err();
    let LocalPostgresError::AlreadyRunning { pid, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*pid, Some(std::process::id()));
    assert!(error.to_string().contains("end it first"), "{error}");
    first.stop().await.unwrap();

    let error_after_stop = LocalPostgres::start(home.path(), None, &Silent).await;
    error_after_stop.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn data_of_another_version_is_not_touched() {
    let home = Home::new();
    let data = home.path().join("postgres/data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("PG_VERSION"), "13\n").unwrap();
    let error = LocalPostgres::start(home.path(), None, &Silent).await.unwrap_err();
    assert!(
        matches!(&error, LocalPostgresError::ClusterVersion { cluster, .. } if cluster == "13"),
        "{error}"
    );
    let text = error.to_string();
    assert!(text.contains("Install PostgreSQL 13"), "{text}");
    assert!(text.contains("only 1"), "names the versions here: {text}");
}

#[tokio::test]
async fn failed_start_shows_the_end_of_the_log() {
    let home = Home::new();
    let server = start(&home).await;
    let settings = server.folder().join("data/postgresql.conf");
    server.stop().await.unwrap();
    fs::write(&settings, "no_such_setting = 1\n").unwrap();
    let error = LocalPostgres::start(home.path(), None, &Silent).await.unwrap_err();
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}

#[tokio::test]
async fn home_without_rights_is_named() {
    let home = Home::new();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let error = LocalPostgres::start(&file.join("home"), None, &Silent).await.unwrap_err();
    assert!(matches!(error, LocalPostgresError::Folder { .. }), "{error}");
    assert!(error.to_string().contains("FACTEUR_HOME"), "{error}");
}

#[test]
fn normal_user_needs_no_root() {
    run_as_normal_user("child_as_a_normal_user");
}

#[tokio::test]
#[ignore = "run by normal_user_needs_no_root, as that user"]
async fn child_as_a_normal_user() {
    let Some(home) = Home::from_stdin() else {
        return;
    };
    assert!(!is_root());
    let server = start(&home).await;
    keep_a_row(server.url().expose_secret()).await;
    let data = fs::metadata(server.folder().join("data")).unwrap();
    assert_eq!(data.uid(), fs::metadata(home.path()).unwrap().uid());
    server.stop().await.unwrap();

    let closed = home.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    let error = LocalPostgres::start(&closed.join("home"), None, &Silent).await.unwrap_err();
    assert!(matches!(error, LocalPostgresError::Folder { .. }), "{error}");
    println!("passed");
}

#[tokio::test]
async fn home_that_only_root_can_enter_gets_its_data_elsewhere() {
    if !is_root() {
        println!("left out: this is for root");
        return;
    }
    let closed = Home::new();
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let home = closed.path().join("project/.facteur");
    let server = LocalPostgres::start(&home, None, &Silent).await.unwrap();
    let folder = server.folder().to_owned();
    keep_a_row(server.url().expose_secret()).await;
    server.stop().await.unwrap();
    let server = LocalPostgres::start(&home, None, &Silent).await.unwrap();
    let rows = kept_rows(&server).await;
    server.stop().await.unwrap();
    fs::remove_dir_all(&folder).unwrap();
    assert!(folder.starts_with("/var/lib"), "{}", folder.display());
    assert_eq!(rows, 1);
}

#[tokio::test]
async fn full_disk_leaves_no_half_made_cluster() {
    let disk = Home::new();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=8m,mode=755", "tmpfs"])
        .arg(disk.path())
        .output()
        .is_ok_and(|output| output.status.success());
    if !mounted {
        println!("left out: this user cannot mount a small disk");
        return;
    }
    let result = LocalPostgres::start(disk.path(), None, &Silent).await;
    let left = fs::exists(disk.path().join("postgres/data.new")).unwrap();
    let status = Command::new("umount").arg(disk.path()).status().unwrap();
    assert!(status.success());
    let error = result.unwrap_err();
    assert!(matches!(error, LocalPostgresError::Init { .. }), "{error}");
    assert!(error.to_string().contains("No space left"), "{error}");
    assert!(!left);
}

#[tokio::test]
#[ignore = "run by the tests that kill it"]
async fn child_holding_a_server() {
    if let Some(home) = Home::from_stdin() {
        fixture::hold(&home).await;
    }
}
