//! Put the VIP on, take it off, never leave it behind.
//!
//! [`Hold`] asks the kernel, [`Monitor`] tells what somebody else did. Both share one table of links and
//! addresses that is fed by the kernel's own news alone, so it cannot drift away from the truth.
//!
//! Everything here belongs to the engine thread, but for the sending of requests, which may have to wait for
//! a lock of the kernel (`courier`).

mod courier;
mod device;
mod entry;
mod error;
mod firewall;
pub mod lease;
mod links;
mod news;
mod nft;
mod request;
mod route;
mod rule;
mod slow;
mod sysctl;
mod watch;
mod way_back;

use std::cell::{Ref, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;

use config::ready::VirtualAddress;
use futures_util::{Stream, StreamExt};
use nix::libc;
use rtnetlink::Handle;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::Socket;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

pub use self::device::{MadeVmac, VmacError, VmacSpec};
#[cfg(test)]
pub(crate) use self::entry::refused;
pub use self::entry::{Entry, EntryError, Outcome, address_text};
pub use self::error::HoldError;
pub use self::firewall::{FirewallError, OverBase, Silenced};
use self::links::{AddressKey, Change, Table};
pub use self::links::{Fact, Link, LinkAddress, Links};
use self::news::{Left, NewsSocket};
use self::slow::Slow;
use self::way_back::WayBack;
use crate::guard::ToGuard;

/// Opens both connections and reads every link and address.
///
/// Runs inside the engine's runtime; requests are sent by a thread of their own.
///
/// # Errors
///
/// [`HoldError::Open`] when the kernel gives no netlink socket or does not answer.
pub async fn open() -> Result<(Hold, Monitor), HoldError> {
    open_with(|| {}, ToGuard::none()).await
}

/// As [`open`]; `prepare` runs first on the thread that sends the requests, to schedule it as the engine is. `guard` is
/// told how to take off what is put on.
///
/// # Errors
///
/// As for [`open`].
pub async fn open_with(
    prepare: impl Fn() + Clone + Send + 'static,
    guard: ToGuard,
) -> Result<(Hold, Monitor), HoldError> {
    connect(prepare, guard).await.map_err(|cause| HoldError::Open { cause })
}

async fn connect(prepare: impl Fn() + Clone + Send + 'static, guard: ToGuard) -> io::Result<(Hold, Monitor)> {
    let slow = Slow::start(prepare.clone())?;
    let handle = courier::start(prepare)?;
    let mut news = NewsSocket::open()?;
    let socket = news.socket();
    let mut table = Table::default();
    news.begin_reading()?;
    while news.is_reading() {
        let mut ready = socket.readable().await?;
        match news.read(&mut table)? {
            Left::Nothing => ready.clear_ready(),
            Left::More => ready.retain_ready(),
        }
    }
    table.facts.clear();

    let shared = Rc::new(Shared {
        table: RefCell::new(table),
        news: RefCell::new(news),
        held: RefCell::default(),
        facts: Notify::new(),
        watch: RefCell::default(),
        way_back: WayBack::open(guard)?,
    });
    Ok((Hold { handle, slow, shared: shared.clone() }, Monitor { shared, socket }))
}

/// Asks the kernel to add and remove addresses. A clone is the same hold.
#[derive(Clone)]
pub struct Hold {
    handle: Handle,
    slow: Slow,
    shared: Rc<Shared>,
}

/// Tells what others did to links and addresses.
pub struct Monitor {
    shared: Rc<Shared>,
    socket: Rc<AsyncFd<Socket>>,
}

struct Shared {
    table: RefCell<Table>,
    news: RefCell<NewsSocket>,
    /// Index of the link that each address was put on: the link may have another name when the address goes.
    held: RefCell<HashMap<(String, IpAddr, u8), u32>>,
    /// Facts were found while nobody waited on the socket.
    facts: Notify,
    way_back: WayBack,
    /// Open while there are routes or rules to look after.
    watch: RefCell<Option<watch::Watch>>,
}

impl Hold {
    /// From now on removals of entries like these are facts; of no others.
    ///
    /// # Errors
    ///
    /// When the kernel gives no socket for it.
    pub fn watch_for<'a>(&self, entries: impl Iterator<Item = &'a Entry>) -> io::Result<()> {
        let protocols = watch::protocols(entries);
        let mut watch = self.shared.watch.borrow_mut();
        if protocols.is_empty() {
            *watch = None;
        } else if !watch.as_ref().is_some_and(|watch| watch.covers(&protocols)) {
            *watch = Some(watch::Watch::open(protocols)?);
        }
        Ok(())
    }

    /// Adds all addresses; every request is sent before the first answer is waited for.
    ///
    /// Gives the failures, by position. An address that is there already is none.
    pub async fn add(&self, addresses: &[VirtualAddress]) -> Vec<(usize, HoldError)> {
        self.add_for(addresses, None).await
    }

    /// As [`Hold::add`]; they vanish after `lifetime` seconds, `None`: never. One that is there already keeps its
    /// lifetime.
    pub async fn add_for(
        &self,
        addresses: &[VirtualAddress],
        lifetime: Option<u32>,
    ) -> Vec<(usize, HoldError)> {
        let failures = self.change(Change::Add, addresses, lifetime).await;
        failures.into_iter().map(|(i, cause)| (i, failure(Change::Add, &addresses[i], cause))).collect()
    }

    /// Removes all addresses, and goes on after failures.
    ///
    /// Gives the failures, by position. An address or an interface that is not there is none. Only the
    /// prefix length that is asked for is removed.
    pub async fn remove(&self, addresses: &[VirtualAddress]) -> Vec<(usize, HoldError)> {
        let failures = self.change(Change::Remove, addresses, None).await;
        failures.into_iter().map(|(i, cause)| (i, failure(Change::Remove, &addresses[i], cause))).collect()
    }

    /// Every link with its addresses, as far as the kernel has told. Not to be kept over an `await`.
    pub fn links(&self) -> Ref<'_, Links> {
        Ref::map(self.shared.table.borrow(), |table| &table.links)
    }

    /// Whether the kernel has this address there, with any prefix length.
    pub fn has_address(&self, ifindex: u32, address: IpAddr) -> bool {
        self.links().by_index(ifindex).is_some_and(|link| link.address(address).is_some())
    }

    /// Lets addresses live for so many seconds from now; `None`: for ever. What cannot be done shows when they vanish.
    pub async fn renew(&self, addresses: &[(VirtualAddress, Option<u32>)]) {
        let mut under_way = Vec::with_capacity(addresses.len());
        for (wanted, lifetime) in addresses {
            let Some(index) = self.shared.index(wanted, Change::Add) else { continue };
            under_way.extend(self.handle.clone().request(request::renew(index, wanted, *lifetime)));
        }
        for answers in under_way {
            let _ = acknowledged(Change::Add, answers).await;
        }
    }

    async fn change(
        &self,
        change: Change,
        addresses: &[VirtualAddress],
        lifetime: Option<u32>,
    ) -> Vec<(usize, io::Error)> {
        // What happened before must not be taken for a consequence of what is asked now.
        self.shared.read_news();
        let mut failures = Vec::new();
        let mut under_way = Vec::with_capacity(addresses.len());
        for (position, wanted) in addresses.iter().enumerate() {
            let Some(index) = self.shared.index(wanted, change) else {
                if change == Change::Add {
                    failures.push((position, io::Error::from_raw_os_error(libc::ENODEV)));
                }
                continue;
            };
            let request = match change {
                Change::Add => request::add(index, wanted, lifetime),
                Change::Remove => request::remove(index, wanted),
            };
            if change == Change::Add && !self.has_address(index, wanted.address) {
                // What was there before us stays.
                self.shared.way_back.leave_address(index, wanted);
            }
            let expected = Expected::new(&self.shared, index, wanted, change);
            match self.handle.clone().request(request) {
                Ok(answers) => under_way.push((position, expected, answers)),
                Err(_) => failures.push((position, connection_closed())),
            }
        }
        let mut answered = Vec::with_capacity(under_way.len());
        for (position, expected, answers) in under_way {
            answered.push((position, expected, acknowledged(change, answers).await));
        }
        // IPv4's news are there before the answer.
        self.shared.read_news();
        for (position, expected, result) in answered {
            expected.settle(&addresses[position], result.is_ok());
            if let Err(cause) = result {
                failures.push((position, cause));
            }
        }
        failures.sort_by_key(|(position, _)| *position);
        failures
    }
}

impl Monitor {
    /// The next thing that somebody else did. Cancel-safe: no fact is lost when the future is dropped.
    pub async fn next(&mut self) -> Fact {
        loop {
            if let Some(fact) = self.shared.table.borrow_mut().facts.pop_front() {
                return fact;
            }
            tokio::select! {
                () = self.shared.facts.notified() => {}
                ready = self.socket.readable() => {
                    let Ok(mut ready) = ready else {
                        // The runtime is going away, and the caller with it.
                        return std::future::pending().await;
                    };
                    match self.shared.read_news() {
                        Left::Nothing => ready.clear_ready(),
                        Left::More => ready.retain_ready(),
                    }
                }
                () = self.shared.watch_news() => {}
            }
        }
    }
}

impl Shared {
    /// Takes the next news of removed routes and rules.
    async fn watch_news(&self) {
        let Some(socket) = self.watch.borrow().as_ref().map(watch::Watch::socket) else {
            return std::future::pending().await;
        };
        let Ok(mut ready) = socket.readable().await else { return std::future::pending().await };
        self.table.borrow_mut().facts.extend(watch::read(socket.get_ref()));
        ready.clear_ready();
    }

    /// Takes the news that are there, and wakes the monitor if they hold facts.
    fn read_news(&self) -> Left {
        let mut table = self.table.borrow_mut();
        let left = self.news.borrow_mut().read(&mut table).unwrap_or_else(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot read the news of the kernel");
            Left::Nothing
        });
        if !table.facts.is_empty() {
            let links = &table.links;
            self.held.borrow_mut().retain(|_, index| links.by_index(*index).is_some());
            self.facts.notify_one();
        }
        left
    }

    /// An address goes from where it was put on, and is put where the name leads now.
    fn index(&self, wanted: &VirtualAddress, change: Change) -> Option<u32> {
        let held = self.held.borrow().get(&held_key(wanted)).copied().filter(|_| change == Change::Remove);
        held.or_else(|| self.table.borrow().links.by_name(&wanted.interface).map(|link| link.index))
    }
}

/// A request under way. Dropped without an answer, its news are facts again.
struct Expected {
    shared: Rc<Shared>,
    ticket: u64,
    index: u32,
    change: Change,
}

impl Expected {
    fn new(shared: &Rc<Shared>, index: u32, wanted: &VirtualAddress, change: Change) -> Self {
        let key = AddressKey { index, address: wanted.address, prefix: request::prefix(wanted) };
        let ticket = shared.table.borrow_mut().expect(key, change);
        Self { shared: shared.clone(), ticket, index, change }
    }

    fn settle(self, wanted: &VirtualAddress, done: bool) {
        if !done {
            return;
        }
        let address = LinkAddress {
            address: wanted.address,
            prefix: request::prefix(wanted),
            scope: wanted.scope,
            flags: 0,
        };
        self.shared.table.borrow_mut().settle(self.ticket, Some(address));
        let mut held = self.shared.held.borrow_mut();
        if self.change == Change::Remove {
            self.shared.way_back.forget_address(self.index, wanted);
        }
        match self.change {
            Change::Add => held.insert(held_key(wanted), self.index),
            Change::Remove => held.remove(&held_key(wanted)),
        };
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.shared.table.borrow_mut().settle(self.ticket, None);
    }
}

fn held_key(wanted: &VirtualAddress) -> (String, IpAddr, u8) {
    (wanted.interface.clone(), wanted.address, request::prefix(wanted))
}

/// The kernel's answer; what is already as it should be is a success.
async fn acknowledged(
    change: Change,
    answers: impl Stream<Item = NetlinkMessage<RouteNetlinkMessage>>,
) -> io::Result<()> {
    let mut answers = std::pin::pin!(answers);
    while let Some(answer) = answers.next().await {
        let NetlinkPayload::Error(answer) = answer.payload else { continue };
        return match (change, -answer.raw_code()) {
            (_, 0) | (Change::Add, libc::EEXIST) => Ok(()),
            (Change::Remove, libc::EADDRNOTAVAIL | libc::ENODEV) => Ok(()),
            (_, errno) => Err(io::Error::from_raw_os_error(errno)),
        };
    }
    Err(connection_closed())
}

fn connection_closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the netlink connection is closed")
}

fn failure(change: Change, wanted: &VirtualAddress, cause: io::Error) -> HoldError {
    let (address, prefix, interface) = (wanted.address, wanted.prefix_length, wanted.interface.clone());
    match change {
        Change::Add => HoldError::Add { address, prefix, interface, cause },
        Change::Remove => HoldError::Remove { address, prefix, interface, cause },
    }
}
