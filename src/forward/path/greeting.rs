//! Before a backend is chosen: the PROXY header of a client from which one is expected.
//!
//! Nothing beyond the header is taken from the socket, and what is kept of it does not grow with it.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use socket2::SockRef;

use super::event_loop::EventLoop;
use super::lane::Leg;
use super::proxy::{self, Ends, Fault, Header, Reader};
use super::service::{End, Side};
use super::session::{Phase, Session, Tries};
use super::slab::Key;

/// Milliseconds that a client has for its header: the specification asks for three seconds at least, so that a
/// segment may be lost.
const HEADER_LIMIT: u64 = 5000;

/// Read at a time; few headers are longer.
const PIECE: usize = 512;

impl EventLoop {
    /// Waits for a header, if the client is one of those that send them. Whether it does.
    pub(super) fn expects_header(&mut self, key: Key) -> bool {
        let until = self.now + HEADER_LIMIT;
        let Some(session) = self.sessions.get_mut(key) else { return false };
        if !is_trusted(session) {
            return false;
        }
        session.phase = Phase::Greeting(Box::new(Reader::new()));
        self.wake_at(until, key);
        true
    }

    /// The time for a header is over.
    pub(super) fn header_is_late(&mut self, key: Key) {
        self.end(key, End::Header(Fault::Late));
    }

    /// Reads what has come of the header, and goes on to a backend when it is whole.
    pub(super) fn read_header(&mut self, key: Key) {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(key) else { return };
        match greet(session) {
            Ok(None) => {}
            Ok(Some(header)) => {
                if let Header::For(ends) = header {
                    session.extra.get_or_insert_default().told = Some(ends);
                }
                // The first attempt begins now, not when the client was accepted.
                session.phase = Phase::Connecting(Some(Box::new(Tries::since(now))));
                self.try_next(key);
            }
            Err(end) => self.end(key, end),
        }
    }
}

/// Asks the kernel only where somebody is trusted.
fn is_trusted(session: &Session) -> bool {
    let trusted = &session.service.settings.trusted;
    !trusted.is_empty()
        && peer(session).is_some_and(|peer| trusted.iter().any(|network| network.contains(peer.ip())))
}

fn greet(session: &mut Session) -> Result<Option<Header>, End> {
    let Phase::Greeting(reader) = &mut session.phase else { return Ok(None) };
    let client = &mut session.client;
    let socket = client.socket.as_raw_fd();
    let mut piece = [0; PIECE];
    while client.is(Leg::READABLE) {
        let there = match recv(socket, &mut piece, MsgFlags::MSG_PEEK) {
            Ok(0) if reader.is_empty() => return Err(End::Header(Fault::Nothing)),
            Ok(0) => return Err(End::Header(Fault::Truncated)),
            Ok(there) => there,
            Err(Errno::EAGAIN) => {
                client.clear(Leg::READABLE);
                break;
            }
            Err(Errno::EINTR) => continue,
            Err(_) => return Err(End::Broken(Side::Client)),
        };
        let (taken, header) = reader.feed(&piece[..there]).map_err(End::Header)?;
        // They are there, so this takes just them.
        if recv(socket, &mut piece[..taken], MsgFlags::empty()) != Ok(taken) {
            return Err(End::Broken(Side::Client));
        }
        if taken == there && there < PIECE && !client.is(Leg::ENDING) {
            // That was all; what comes from now on is an event of its own.
            client.clear(Leg::READABLE);
        }
        if header.is_some() {
            return Ok(header);
        }
    }
    Ok(None)
}

/// Sends the PROXY header of a session on a connection that has just been established, if its backend wants one.
///
/// # Errors
///
/// The connection is gone, or does not take as much as fits into one segment.
pub fn introduce(session: &Session, index: u16, leg: &mut Leg) -> Result<(), Errno> {
    let Some(version) = session.service.backends[usize::from(index)].send_proxy else { return Ok(()) };
    let own = || Some(Ends { source: peer(session)?, destination: local(session)? });
    let ends = session.told().copied().or_else(own);
    let header = proxy::write(version, ends.as_ref());
    let bytes = header.bytes();
    match send(leg.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
        Ok(sent) if sent == bytes.len() => {
            // What follows is not to wait until the header is acknowledged.
            leg.set(Leg::WRITTEN);
            Ok(())
        }
        Ok(_) | Err(Errno::EAGAIN) => Err(Errno::ENOBUFS),
        Err(error) => Err(error),
    }
}

/// Who connected.
pub fn peer(session: &Session) -> Option<SocketAddr> {
    SockRef::from(&session.client.as_fd()).peer_addr().ok()?.as_socket()
}

fn local(session: &Session) -> Option<SocketAddr> {
    SockRef::from(&session.client.as_fd()).local_addr().ok()?.as_socket()
}
