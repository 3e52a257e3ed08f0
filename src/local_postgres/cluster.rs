//! The data folder: made once, whole or not at all.

use std::fs;
use std::path::Path;

use postgresql_commands::initdb::InitDbBuilder;
use ring::rand::{SecureRandom, SystemRandom};

use super::error::LocalPostgresError;
use super::home::Place;
use super::server::{self, Durability};
use crate::settings::{ExposeSecret, SecretString};

/// Built under this name, and renamed when it is whole.
const UNFINISHED: &str = "data.new";
/// Inside the data folder, so that data and password move together.
const PASSWORD: &str = "facteur.password";

/// The major version that wrote the data, or nothing when there is no data yet.
pub(super) fn major_version(place: &Place) -> Result<Option<String>, LocalPostgresError> {
    let path = place.data().join("PG_VERSION");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LocalPostgresError::folder(path)(error)),
    }
}

/// The password of a cluster that was made earlier.
pub(super) fn password(place: &Place) -> Result<SecretString, LocalPostgresError> {
    let path = place.data().join(PASSWORD);
    fs::read_to_string(&path)
        .map(|text| SecretString::from(text.trim().to_owned()))
        .map_err(LocalPostgresError::folder(path))
}

/// Makes a cluster with one superuser, [`USER`](super::server::USER), and a password drawn for it.
pub(super) async fn init(
    place: &Place,
    bin: &Path,
    durability: Durability,
) -> Result<SecretString, LocalPostgresError> {
    remove_unfinished(place)?;
    let password = draw_password()?;
    place.write_private(PASSWORD, password.expose_secret())?;
    let done = run_initdb(place, bin, durability).await;
    if done.is_err() {
        // A full disk must not stay full because of the half that was written.
        remove_unfinished(place)?;
        let _ = fs::remove_file(place.folder.join(PASSWORD));
    }
    done.map(|()| password)
}

async fn run_initdb(place: &Place, bin: &Path, durability: Durability) -> Result<(), LocalPostgresError> {
    let mut initdb = InitDbBuilder::new()
        .program_dir(bin)
        .pgdata(UNFINISHED)
        .username(server::USER)
        .auth("scram-sha-256")
        .pwfile(PASSWORD)
        .encoding("UTF8")
        .locale("C")
        .data_checksums();
    if durability == Durability::ForTests {
        initdb = initdb.no_sync();
    }
    server::run(place, initdb)
        .await
        .map_err(|said| LocalPostgresError::Init { folder: place.folder.clone(), said })?;
    let unfinished = place.folder.join(UNFINISHED);
    fs::rename(place.folder.join(PASSWORD), unfinished.join(PASSWORD))
        .and_then(|()| fs::rename(&unfinished, place.data()))
        .map_err(LocalPostgresError::folder(unfinished))
}

fn remove_unfinished(place: &Place) -> Result<(), LocalPostgresError> {
    let path = place.folder.join(UNFINISHED);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LocalPostgresError::folder(path)(error))
        }
        _ => Ok(()),
    }
}

/// 128 bits, in letters that need no escaping in a URL.
fn draw_password() -> Result<SecretString, LocalPostgresError> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| {
        LocalPostgresError::folder("the system's source of randomness")(std::io::Error::other(
            "it gave nothing",
        ))
    })?;
    Ok(SecretString::from(hex(&bytes)))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
