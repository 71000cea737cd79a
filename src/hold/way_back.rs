//! The way back, left with the guard before anything is put on: the requests that take it off again.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use config::ready::VirtualAddress;
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{Socket, protocols::NETLINK_ROUTE};

use super::entry::Entry;
use super::request;
use crate::guard::{Name, Order, ToGuard};

/// What is told to the guard, and the socket that it sends by.
pub(super) struct WayBack {
    guard: ToGuard,
    /// None without a guard.
    socket: Option<Socket>,
    /// Routes and rules that it knows of.
    entries: RefCell<HashSet<Name>>,
}

impl WayBack {
    /// A netlink socket belongs to the network namespace it was opened in, whoever sends by it.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub fn open(guard: ToGuard) -> io::Result<Self> {
        let socket = guard.is_there().then(|| Socket::new(NETLINK_ROUTE)).transpose()?;
        let this = Self { guard, socket, entries: RefCell::default() };
        if let Some(socket) = this.socket() {
            this.guard.lend(socket);
        }
        Ok(this)
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: it is open as long as `self` is.
        self.socket.as_ref().map(|socket| unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) })
    }

    pub fn leave_address(&self, index: u32, wanted: &VirtualAddress) {
        self.leave(address_name(index, wanted), Order::Address, || request::remove(index, wanted));
    }

    pub fn forget_address(&self, index: u32, wanted: &VirtualAddress) {
        self.guard.forget(address_name(index, wanted));
    }

    /// Whether it was not left before.
    pub fn leave_entry(&self, entry: &Entry, removal: NetlinkMessage<RouteNetlinkMessage>) -> bool {
        let name = entry_name(entry);
        let is_new = self.entries.borrow_mut().insert(name);
        if is_new {
            self.leave(name, Order::Entry, || removal);
        }
        is_new
    }

    pub fn forget_entry(&self, entry: &Entry) {
        let name = entry_name(entry);
        self.entries.borrow_mut().remove(&name);
        self.guard.forget(name);
    }

    fn leave(&self, name: Name, order: Order, removal: impl FnOnce() -> NetlinkMessage<RouteNetlinkMessage>) {
        let Some(socket) = self.socket() else { return };
        let mut removal = removal();
        // Nobody reads answers there.
        removal.header.flags = NLM_F_REQUEST;
        removal.finalize();
        let mut bytes = vec![0; removal.buffer_len()];
        removal.serialize(&mut bytes);
        self.guard.undo(name, order, socket, None, &bytes);
    }
}

fn address_name(index: u32, wanted: &VirtualAddress) -> Name {
    Name::of(("address", index, wanted.address, request::prefix(wanted)))
}

fn entry_name(entry: &Entry) -> Name {
    Name::of(("entry", entry.to_string()))
}
