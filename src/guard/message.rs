//! What the daemon tells the guard: one datagram for each, over a socket pair that nobody else has.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Larger than any: an advert with 255 IPv6 addresses, its headers, and what is around it.
pub const LARGEST: usize = 9216;

/// What is undone first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Adverts of priority 0: peers take over meanwhile.
    Farewell,
    /// Routes and rules, which may lean on addresses.
    Entry,
    /// Addresses.
    Address,
}

impl Order {
    const ALL: [Self; 3] = [Self::Farewell, Self::Entry, Self::Address];
}

/// Where a datagram goes and what it is sent with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Destination; the port is always 0.
    pub to: SocketAddr,
    /// IPv6: source address, interface and hop limit, which the kernel puts into the header.
    pub from: Option<(Ipv6Addr, u32, u8)>,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// The socket that comes along is known by this number from now on.
    Slot(u32),
    /// The socket of this number is closed.
    Close(u32),
    /// If the daemon dies, this is to be sent.
    Undo {
        /// Replaces what has the same key.
        key: u64,
        order: Order,
        /// By which socket.
        slot: u32,
        /// `None`: to the kernel.
        envelope: Option<Envelope>,
        payload: &'a [u8],
    },
    /// That is no longer to be sent.
    Forget(u64),
    /// Nothing is.
    ForgetAll,
    /// The pidfd that comes along is that of the thread without which there is nothing left to keep.
    Heart,
    /// For the service manager, in its words (sd_notify(3)). The first `READY=1` says that the daemon runs.
    Tell(&'a str),
}

const SLOT: u8 = 1;
const CLOSE: u8 = 2;
const UNDO: u8 = 3;
const FORGET: u8 = 4;
const TELL: u8 = 5;
const FORGET_ALL: u8 = 6;
const HEART: u8 = 7;

const TO_KERNEL: u8 = 0;
const TO_IPV4: u8 = 4;
const TO_IPV6: u8 = 6;

impl<'a> Message<'a> {
    /// Appends it.
    pub fn write(&self, buffer: &mut Vec<u8>) {
        match self {
            Self::Slot(slot) => {
                buffer.push(SLOT);
                buffer.extend(slot.to_ne_bytes());
            }
            Self::Close(slot) => {
                buffer.push(CLOSE);
                buffer.extend(slot.to_ne_bytes());
            }
            Self::Undo { key, order, slot, envelope, payload } => {
                buffer.push(UNDO);
                buffer.extend(key.to_ne_bytes());
                buffer.push(*order as u8);
                buffer.extend(slot.to_ne_bytes());
                write_envelope(envelope.as_ref(), buffer);
                buffer.extend_from_slice(payload);
            }
            Self::Forget(key) => {
                buffer.push(FORGET);
                buffer.extend(key.to_ne_bytes());
            }
            Self::ForgetAll => buffer.push(FORGET_ALL),
            Self::Heart => buffer.push(HEART),
            Self::Tell(words) => {
                buffer.push(TELL);
                buffer.extend_from_slice(words.as_bytes());
            }
        }
    }

    /// `None`: it is none of ours.
    pub fn read(datagram: &'a [u8]) -> Option<Self> {
        let (kind, mut rest) = datagram.split_first()?;
        let rest = &mut rest;
        let message = match *kind {
            SLOT => Self::Slot(u32::from_ne_bytes(take(rest)?)),
            CLOSE => Self::Close(u32::from_ne_bytes(take(rest)?)),
            UNDO => {
                let key = u64::from_ne_bytes(take(rest)?);
                let [order] = take(rest)?;
                let order = *Order::ALL.get(usize::from(order))?;
                let slot = u32::from_ne_bytes(take(rest)?);
                let envelope = read_envelope(rest)?;
                return Some(Self::Undo { key, order, slot, envelope, payload: rest });
            }
            FORGET => Self::Forget(u64::from_ne_bytes(take(rest)?)),
            FORGET_ALL => Self::ForgetAll,
            HEART => Self::Heart,
            TELL => return std::str::from_utf8(rest).ok().map(Self::Tell),
            _ => return None,
        };
        rest.is_empty().then_some(message)
    }
}

fn write_envelope(envelope: Option<&Envelope>, buffer: &mut Vec<u8>) {
    match envelope {
        None => buffer.push(TO_KERNEL),
        Some(Envelope { to: SocketAddr::V4(to), .. }) => {
            buffer.push(TO_IPV4);
            buffer.extend(to.ip().octets());
        }
        Some(Envelope { to: SocketAddr::V6(to), from }) => {
            let (source, interface, hops) = from.unwrap_or((Ipv6Addr::UNSPECIFIED, 0, 255));
            buffer.push(TO_IPV6);
            buffer.extend(to.ip().octets());
            buffer.extend(to.scope_id().to_ne_bytes());
            buffer.extend(source.octets());
            buffer.extend(interface.to_ne_bytes());
            buffer.push(hops);
        }
    }
}

/// The outer `None`: it is none of ours.
#[expect(clippy::option_option, reason = "both mean something, and only here")]
fn read_envelope(rest: &mut &[u8]) -> Option<Option<Envelope>> {
    let [kind] = take(rest)?;
    Some(match kind {
        TO_KERNEL => None,
        TO_IPV4 => {
            let to = SocketAddrV4::new(take::<4>(rest)?.into(), 0);
            Some(Envelope { to: to.into(), from: None })
        }
        TO_IPV6 => {
            let to = Ipv6Addr::from(take::<16>(rest)?);
            let scope = u32::from_ne_bytes(take(rest)?);
            let source = Ipv6Addr::from(take::<16>(rest)?);
            let interface = u32::from_ne_bytes(take(rest)?);
            let [hops] = take(rest)?;
            let to = SocketAddrV6::new(to, 0, 0, scope);
            Some(Envelope { to: to.into(), from: Some((source, interface, hops)) })
        }
        _ => return None,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, others) = rest.split_first_chunk::<N>()?;
    *rest = others;
    Some(*first)
}

/// A number for something that is undone: the same thing has the same one.
pub fn key_of(what: &impl std::hash::Hash) -> u64 {
    use std::hash::Hasher as _;
    let mut hasher = std::hash::DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

impl Envelope {
    /// IPv4: everything else is in the packet.
    pub fn to_ipv4(to: std::net::Ipv4Addr) -> Self {
        Self { to: SocketAddr::new(IpAddr::V4(to), 0), from: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_read_as_it_was_written() {
        let ipv4 = Envelope::to_ipv4([224, 0, 0, 18].into());
        let to = SocketAddrV6::new("ff02::12".parse().unwrap(), 0, 0, 3);
        let ipv6 = Envelope { to: to.into(), from: Some(("fe80::1".parse().unwrap(), 3, 255)) };
        let undo = |envelope, order| Message::Undo { key: 7, order, slot: 9, envelope, payload: b"packet" };
        for message in [
            Message::Slot(4),
            Message::Close(u32::MAX),
            undo(None, Order::Address),
            undo(Some(ipv4), Order::Farewell),
            undo(Some(ipv6), Order::Entry),
            Message::Forget(u64::MAX),
            Message::ForgetAll,
            Message::Heart,
            Message::Tell("READY=1"),
        ] {
            let mut buffer = Vec::new();
            message.write(&mut buffer);
            assert_eq!(Message::read(&buffer), Some(message.clone()));
            for length in 0..buffer.len().min(12) {
                // What is cut off is read as nothing, or as less of the payload.
                let cut = Message::read(&buffer[..length]);
                assert_ne!(cut, Some(message.clone()));
            }
        }
        assert_eq!(Message::read(&[99, 1, 2]), None);
    }
}
