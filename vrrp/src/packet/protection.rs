//! What proves that an advert comes from one of us, beyond the password in it.

use std::time::Duration;

use super::header::AuthenticationHeader;
use super::trailer::{Mark, Trailer};
use super::{COUNT, Datagram, DiscardReason, Ladder, message_len};
use crate::Family;

/// Protection of the adverts of one virtual router, with its memory of numbers sent and heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Protection {
    /// None: version 3, and version 2 with or without a password.
    #[default]
    None,
    /// Version 2, authentication type 2.
    Header(AuthenticationHeader),
    /// `auth_hmac`.
    Trailer(Trailer),
}

/// A proof that was checked, to be remembered when the rest of the advert is right too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    None,
    Header(u32),
    Trailer(Mark),
}

impl Proof {
    /// The sender's clock is off.
    pub(super) const fn is_skewed(self) -> bool {
        matches!(self, Self::Trailer(Mark { skewed: true, .. }))
    }
}

impl Protection {
    /// Each advert has a number, and one that was heard before is not heard again.
    pub fn counts(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Protects as `after` does from now on; the numbers go on if it is of the same kind.
    pub fn change(&mut self, after: Self) {
        *self = match (&*self, after) {
            (Self::Header(before), Self::Header(after)) => Self::Header(before.rekeyed(after.key())),
            (Self::Trailer(before), Self::Trailer(after)) => Self::Trailer(after.remembering(before)),
            (_, after) => after,
        };
    }

    /// The message, and the trailer if there is one: exactly so much longer than its count of addresses says.
    pub(super) fn split<'a>(
        &self,
        ladder: &Ladder,
        datagram: &Datagram<'a>,
    ) -> (&'a [u8], Option<&'a [u8; Trailer::LEN]>) {
        let message = datagram.message;
        let family = Family::of(datagram.destination);
        let whole = |message: &[u8]| message_len(ladder.version, family, usize::from(message[COUNT]));
        match (self, message.split_last_chunk()) {
            (Self::Trailer(_), Some((message, trailer))) if message.len() == whole(datagram.message) => {
                (message, Some(trailer))
            }
            _ => (message, None),
        }
    }

    /// # Errors
    ///
    /// When the proof is missing, wrong or used.
    pub(super) fn check(
        &self,
        ladder: &Ladder,
        datagram: &Datagram<'_>,
        (message, trailer): (&[u8], Option<&[u8; Trailer::LEN]>),
        clock: Duration,
    ) -> Result<Proof, DiscardReason> {
        match (self, datagram.sealed) {
            (Self::Header(header), Some(sealed)) => header.check(sealed, message).map(Proof::Header),
            (Self::Header(_), None) => Err(DiscardReason::AuthTypeMismatch { got: 0, wanted: 2 }),
            (_, Some(_)) => {
                Err(DiscardReason::AuthTypeMismatch { got: 2, wanted: ladder.authentication.auth_type() })
            }
            (Self::None, None) => Ok(Proof::None),
            (Self::Trailer(signature), None) => signature
                .check(&ladder.transport, datagram.source, message, trailer, clock)
                .map(|mark| mark.map_or(Proof::None, Proof::Trailer)),
        }
    }

    pub(super) fn take(&mut self, proof: Proof) {
        match (self, proof) {
            (Self::Header(header), Proof::Header(sequence)) => header.take(sequence),
            (Self::Trailer(trailer), Proof::Trailer(mark)) => trailer.take(mark),
            _ => {}
        }
    }
}
