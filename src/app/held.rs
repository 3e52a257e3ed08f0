//! `facteur held`: what is parked because nobody knows whether it was sent, and a person's word on it.

use std::io::{BufRead, Write};

use super::transports::{actor, time};
use super::{AppError, pool};
pub use crate::outbox::HeldChoice;
use crate::outbox::{HeldPlace, HeldView, Outbox};
use crate::settings::Database;

/// So many are shown.
const SHOWN: i64 = 50;
/// So many are moved by one statement: a moment's lock, however many there are.
const AT_ONCE: i64 = 1_000;

/// What a person wants of the parked mail. True: without asking for the number.
#[derive(Debug, Clone)]
pub enum ByHandHeld {
    /// To see it.
    List,
    /// To have it sent, perhaps for the second time.
    Release(HeldChoice, bool),
    /// To have it ended as failed.
    GiveUp(HeldChoice, bool),
}

/// Shows the parked mail, or releases it or gives it up, by the many.
///
/// # Errors
/// The database is away; nothing is meant; or the number that was typed is not the number that is meant.
pub async fn held(
    database: &Database,
    what: ByHandHeld,
    input: &mut impl BufRead,
    out: &mut impl Write,
) -> Result<(), AppError> {
    let outbox = Outbox::new(pool(database, 1)?).with_deadline(database.access.timeout);
    match what {
        ByHandHeld::List => list(&outbox, out).await,
        ByHandHeld::Release(choice, yes) => {
            agree(&outbox, &choice, yes, "go back in the queue, and be sent", input, out).await?;
            let (mut place, mut all) = (HeldPlace::default(), 0);
            loop {
                match outbox.release_held(&choice, &mut place, AT_ONCE, &actor()).await? {
                    0 => break,
                    step => all += step,
                }
            }
            say(out, &format!("{all} released, by {}", actor()));
            Ok(())
        }
        ByHandHeld::GiveUp(choice, yes) => {
            agree(&outbox, &choice, yes, "end as failed, and never be sent", input, out).await?;
            let (mut place, mut all) = (HeldPlace::default(), 0);
            loop {
                match outbox.give_up_held(&choice, &mut place, AT_ONCE, &actor()).await? {
                    0 => break,
                    step => all += step,
                }
            }
            say(out, &format!("{all} given up, by {}", actor()));
            Ok(())
        }
    }
}

/// A closed pipe undoes nothing.
fn say(out: &mut impl Write, text: &str) {
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Says how many are meant, and goes on when the same number comes back.
async fn agree(
    outbox: &Outbox,
    choice: &HeldChoice,
    yes: bool,
    what: &str,
    input: &mut impl BufRead,
    out: &mut impl Write,
) -> Result<(), AppError> {
    let (meant, expired) = outbox.count_held(choice).await?;
    if expired > 0 {
        say(out, &format!("{expired} more have expired, and stay parked: --expired takes them too."));
    }
    if meant == 0 {
        return Err(AppError::Held("nothing of that is parked; nothing was changed".into()));
    }
    if yes {
        return Ok(());
    }
    let _ = write!(out, "{meant} deliveries will {what}. Type {meant} to do it: ").and_then(|()| out.flush());
    let mut typed = String::new();
    // What cannot be read is no word at all.
    let _ = input.read_line(&mut typed);
    if typed.trim() == meant.to_string() {
        return Ok(());
    }
    say(out, "");
    Err(AppError::Held(format!("{meant} was not typed; nothing was changed (in a script: --yes)")))
}

async fn list(outbox: &Outbox, out: &mut impl Write) -> Result<(), AppError> {
    let everything = HeldChoice { expired: true, ..HeldChoice::default() };
    let (all, _) = outbox.count_held(&everything).await?;
    if all == 0 {
        say(out, "nothing is parked");
        return Ok(());
    }
    say(out, &format!("{:<36}  {:<20}  {:<20}  RECIPIENT  WHY", "ID", "ACCEPTED", "EXPIRES"));
    for view in outbox.list_held(SHOWN).await? {
        say(out, &line(&view));
    }
    let shown = all.min(SHOWN.unsigned_abs());
    say(
        out,
        &format!("{shown} of {all} shown. `facteur held release` sends, `facteur held give-up` ends them."),
    );
    Ok(())
}

fn line(view: &HeldView) -> String {
    let expires = if view.expired { "expired".to_owned() } else { time(view.expires_at) };
    format!(
        "{:<36}  {:<20}  {expires:<20}  {}  {}",
        view.id.email.to_string(),
        time(view.accepted_at),
        view.recipient.escape_debug(),
        view.why.escape_debug().take(200).collect::<String>()
    )
}
