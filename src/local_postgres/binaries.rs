//! Finding PostgreSQL's programs: the machine's own, else a copy downloaded earlier, else a new one.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::download;
use super::error::LocalPostgresError;
use super::home::Place;
use super::progress::Progress;

/// The oldest major version whose defaults (SCRAM) and SQL Facteur relies on.
const OLDEST: u32 = 14;

/// The folder of the programs to use: of version `wanted` when there is data of that version.
pub(super) async fn obtain(
    place: &Place,
    wanted: Option<&str>,
    mirror: Option<&str>,
    progress: &dyn Progress,
) -> Result<PathBuf, LocalPostgresError> {
    let mut other_versions = Vec::new();
    for folder in candidates(place) {
        match version(place, &folder) {
            Ok(found) if fits(&found, wanted) => return Ok(folder),
            Ok(found) => other_versions.push(format!("{found} in {}", folder.display())),
            // Half an installation, or one that this user may not run: the next may do.
            Err(_) => {}
        }
    }
    if let Some(cluster) = wanted
        && cluster != major(download::VERSION)
    {
        return Err(LocalPostgresError::ClusterVersion {
            cluster: cluster.to_owned(),
            found: describe(&other_versions),
            folder: place.data(),
        });
    }
    let folder = download::fetch(&place.folder, mirror, progress).await?;
    let said = version(place, &folder).err();
    match said {
        None => Ok(folder),
        Some(said) => Err(LocalPostgresError::Unusable { folder, said }),
    }
}

fn describe(versions: &[String]) -> String {
    if versions.is_empty() { "none".to_owned() } else { format!("only {}", versions.join(", ")) }
}

fn fits(version: &str, wanted: Option<&str>) -> bool {
    match wanted {
        Some(wanted) => major(version) == wanted,
        None => major(version).parse::<u32>().is_ok_and(|major| major >= OLDEST),
    }
}

fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or(version)
}

/// The version of the `postgres` in `folder`, asked as the user that will run it; else what it said.
fn version(place: &Place, folder: &Path) -> Result<String, String> {
    let mut command = Command::new(program(folder, "postgres"));
    command.arg("--version").current_dir(&place.folder);
    place.account.apply(&mut command);
    let output = command.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, `postgres (PostgreSQL) 18beta1`
    said.split_whitespace()
        .nth(2)
        .filter(|_| output.status.success())
        .map(|version| {
            let end = version.find(|c: char| c != '.' && !c.is_ascii_digit());
            version[..end.unwrap_or(version.len())].to_owned()
        })
        .ok_or_else(|| {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            format!("{} {said}", output.status)
        })
}

/// Folders that hold all three programs, best first, each once.
fn candidates(place: &Place) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    folders.extend(answer("pg_config", &["--bindir"]));
    folders.extend(in_path());
    for (parent, prefix, rest) in USUAL {
        folders.extend(expand(Path::new(parent), prefix, rest));
    }
    folders.extend(expand(&place.folder, "postgresql-", "bin"));
    let mut seen = Vec::new();
    for folder in folders {
        let folder = fs::canonicalize(&folder).unwrap_or(folder);
        if is_complete(&folder) && !seen.contains(&folder) {
            seen.push(folder);
        }
    }
    seen
}

/// Where package managers put a server, as parent, start of the version's folder, and the rest.
const USUAL: &[(&str, &str, &str)] = &[
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/lib", "postgresql", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/opt/homebrew", "bin", ""),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ("C:\\Program Files\\PostgreSQL", "", "bin"),
];

/// `parent/prefix*/rest`, the newest version first.
fn expand(parent: &Path, prefix: &str, rest: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let version = name.strip_prefix(prefix)?;
            let numbers = version.split(['.', '-']).map_while(|n| n.parse().ok());
            Some((numbers.collect(), entry.path().join(rest)))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, folder)| folder).collect()
}

fn in_path() -> Option<PathBuf> {
    // Asked of the shell: only the settings room reads the environment.
    let program = if cfg!(windows) {
        answer("where", &["pg_ctl"])
    } else {
        answer("sh", &["-c", "command -v pg_ctl"])
    }?;
    fs::canonicalize(program).ok()?.parent().map(Path::to_owned)
}

fn answer(program: &str, arguments: &[&str]) -> Option<PathBuf> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let line = String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned();
    (output.status.success() && !line.is_empty()).then(|| PathBuf::from(line))
}

/// Client packages bring `pg_config` or `initdb`'s neighbours without the server.
fn is_complete(folder: &Path) -> bool {
    ["initdb", "postgres", "pg_ctl"].iter().all(|name| program(folder, name).is_file())
}

fn program(folder: &Path, name: impl AsRef<OsStr>) -> PathBuf {
    let mut path = folder.join(name.as_ref());
    if cfg!(windows) {
        path.set_extension("exe");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_asks_for_its_own_major_version() {
        assert!(fits("15.18", Some("15")));
        assert!(!fits("17.2", Some("15")));
        assert!(!fits("1.5", Some("15")));
    }

    #[test]
    fn new_data_takes_any_version_that_is_not_too_old() {
        assert!(fits("14.0", None));
        assert!(fits("18", None));
        assert!(!fits("13.21", None));
        assert!(!fits("", None));
    }

    #[test]
    fn newest_folder_comes_first() {
        let parent = std::env::temp_dir().join(format!("facteur-{}", uuid::Uuid::new_v4()));
        for name in ["v9.6", "v17", "v15", "other"] {
            fs::create_dir_all(parent.join(name)).expect("a new folder");
        }
        let found = expand(&parent, "v", "bin");
        fs::remove_dir_all(&parent).expect("the folder made above");
        assert_eq!(found, ["v17", "v15", "v9.6"].map(|name| parent.join(name).join("bin")));
    }
}
