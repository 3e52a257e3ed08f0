//! The e-mail itself: addresses, fields, attachments, and the bytes that leave.
//!
//! Pure: no I/O, no clock, no randomness. What is accepted here can be rendered, and rendering the
//! same [`StoredEmail`] twice gives the same bytes, so that every attempt sends the same message.

mod address;
mod attachment;
mod builder;
mod check;
mod field;
mod header;
mod id;
mod invalid;
mod mime;
mod stored;
mod tag;

pub use address::{Address, AddressError, Mailbox};
pub use attachment::{Attachment, AttachmentError};
pub use builder::{Email, EmailBuilder, OnUnknown, Priority};
pub use field::FieldError;
#[cfg(feature = "server")]
pub(crate) use header::RESERVED as RESERVED_HEADERS;
pub use header::{Header, HeaderError};
pub use id::EmailId;
pub use invalid::{InvalidEmail, Problem};
pub use mime::RenderError;
pub use stored::StoredEmail;
pub use tag::{Tag, TagError};
