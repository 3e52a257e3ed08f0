use std::net::SocketAddr;
use std::time::Duration;

use super::AppError;
use super::doors::lives;

/// A process that is well answers in a millisecond; whoever asks has a patience of its own.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks the process that listens on the first of `addresses` whether it lives, and nothing behind it: no
/// database, no relay. For the health check of a container; needs no runtime and takes 3 s at most for each address.
///
/// # Errors
/// Nobody listens, or what answers is not well.
pub fn check_live(addresses: &[SocketAddr]) -> Result<(), AppError> {
    lives(addresses, PATIENCE).map_err(|source| {
        let asked = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        AppError::NotLive { asked, source }
    })
}
