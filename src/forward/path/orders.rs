//! What a loop does when it is told to.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;

use super::event_loop::EventLoop;
use super::mailbox::{self, Command, SessionId, Which};
use super::service::End;
use super::session::Session;
use super::slab::Key;

impl EventLoop {
    /// Does what is in the mailbox. Whether the loop goes on.
    pub(super) fn obey(&mut self) -> bool {
        let mailbox = self.mailbox.clone();
        for command in mailbox.take() {
            match command {
                Command::Serve(socket, service, done) => {
                    self.listen(socket, service);
                    drop(done);
                }
                Command::Close(socket, done) => {
                    self.close(&socket);
                    drop((socket, done));
                }
                Command::End(which, end, done) => {
                    // Nobody waits any more: the sessions are to end all the same.
                    let _ = done.send(self.end_some(&which, end));
                }
                Command::Redispatch(backend) => self.redispatch(&backend),
                Command::Call { key, ticket, service, choice } => self.called(key, ticket, service, choice),
                Command::List(sender) => self.list(|session| drop(sender.send(session))),
                Command::Stop => {
                    self.listening.clear();
                    self.end_where(End::Stopped, |_, _| true);
                    return false;
                }
            }
        }
        self.resume_full();
        true
    }

    fn end_some(&mut self, which: &Which, end: End) -> usize {
        match which {
            Which::Service(service) => {
                self.end_where(end, |_, session| Arc::ptr_eq(&session.service, service))
            }
            Which::Backend(backend) => self.end_where(end, |_, session| {
                session.has_backend()
                    && Arc::ptr_eq(&session.service.backends[usize::from(session.index)], backend)
            }),
            Which::Address(address) => self.end_where(end, |_, session| {
                let client = session.client.as_fd();
                let local = SockRef::from(&client).local_addr().ok().and_then(|local| local.as_socket());
                local.is_some_and(|local| local.ip() == *address)
            }),
            Which::One(id) if id.of_loop == self.number && self.sessions.get_mut(id.key).is_some() => {
                self.end(id.key, end);
                1
            }
            Which::One(_) => 0,
        }
    }

    fn end_where(&mut self, end: End, is: impl Fn(Key, &Session) -> bool) -> usize {
        let mut ended = 0;
        for place in 0..self.sessions.places() {
            if let Some((key, session)) = self.sessions.at(place)
                && is(key, session)
            {
                self.end(key, end);
                ended += 1;
            }
        }
        ended
    }

    fn list(&mut self, mut tell: impl FnMut(mailbox::Session)) {
        let (of_loop, now) = (self.number, self.now);
        for place in 0..self.sessions.places() {
            let Some((key, session)) = self.sessions.at(place) else { continue };
            let client = session.client.as_fd();
            let socket = SockRef::from(&client);
            let connected = session.has_backend();
            let (bytes_in, bytes_out) = session.bytes();
            tell(mailbox::Session {
                id: SessionId { of_loop, key },
                client: match session.told() {
                    Some(ends) => Some(ends.source),
                    None => socket.peer_addr().ok().and_then(|address| address.as_socket()),
                },
                local: socket.local_addr().ok().and_then(|address| address.as_socket()),
                service: session.service.clone(),
                backend: connected.then(|| usize::from(session.index)),
                age: Duration::from_millis(now.saturating_sub(session.born)),
                idle: Duration::from_millis(session.idle(now)),
                bytes_in,
                bytes_out,
            });
        }
    }
}
