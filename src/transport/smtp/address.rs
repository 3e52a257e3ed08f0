use lettre::Address;

use super::super::Stage;
use super::failure::Failure;
use super::offers::Offers;

/// An address of the envelope as this server can be told it: domains in ASCII; a local part that is
/// not needs SMTPUTF8.
pub(super) struct EnvelopeAddress {
    pub(super) address: Address,
    pub(super) needs_utf8: bool,
}

impl EnvelopeAddress {
    /// # Errors
    /// It is no address, or one that this server cannot be told: never its mail, whenever it is tried.
    pub(super) fn new(stage: Stage, text: &str, offers: &Offers) -> Result<Self, Failure> {
        // Checked long ago; a row that somebody wrote by hand may still be anything.
        let unfit = |why: &str| Failure::Undeliverable { stage, text: why.to_owned() };
        let address: Address = text.parse().map_err(|_| unfit("not an address"))?;
        let domain = match address.domain().is_ascii() {
            true => address.domain().to_owned(),
            false => idna::domain_to_ascii(address.domain()).map_err(|_| unfit("not an address"))?,
        };
        let needs_utf8 = !address.user().is_ascii();
        if needs_utf8 && !offers.smtputf8 {
            return Err(unfit("the address is not ASCII, and the server does not offer SMTPUTF8"));
        }
        let address = Address::new(address.user(), domain).map_err(|_| unfit("not an address"))?;
        Ok(Self { address, needs_utf8 })
    }
}
