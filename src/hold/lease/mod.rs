//! The lease of virtual addresses: they answer only as long as the engine says so again and again.
//!
//! Tables of nf_tables of our own (`table`) drop what goes to an address whose term has ended, in the kernel, whatever
//! has become of this process: killed, stopped, or hung. [`Keeper`] is the way to the thread that writes them. The
//! engine leaves orders and never waits; the thread does nothing without an order, so an engine that hangs renews
//! nothing.
//!
//! A term is renewed by taking its element out and putting it in, together: when it has ended the first fails, and with
//! it the second. So a renewal that was held up cannot bring back what has ended meanwhile.

mod table;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::libc;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use tokio::sync::oneshot;

use self::table::Tables;
use crate::netlink::kernel::Kernel;
use crate::netlink::nft::{DELSETELEM, NEWSETELEM, Requests};

/// Room for a batch with some ten thousand addresses.
const LARGEST_BATCH: usize = 8 << 20;
/// What never worked is tried again after this time.
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// A renewal that took longer from reading the clock to the kernel's answer is done once more.
const TOO_SLOW: Duration = Duration::from_millis(20);

/// How long an address answers after a renewal, in milliseconds: terms of the same length are renewed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(u32);

impl Term {
    /// Never runs: the address is silent.
    pub const ENDED: Self = Self(0);

    /// Of this length; milliseconds.
    pub fn of(length: Duration) -> Self {
        Self(u32::try_from(length.as_millis()).unwrap_or(u32::MAX))
    }

    /// Its length.
    pub fn length(self) -> Duration {
        Duration::from_millis(self.0.into())
    }
}

/// What is known of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// It answers while this runs.
    pub term: Term,
    /// Forgotten after this time: the address itself is gone by then.
    pub kept: Duration,
}

/// How far the tables work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// They are in force.
    pub works: bool,
    /// Why not, in words.
    pub trouble: Option<String>,
    /// Times that somebody had removed them, and they were made again.
    pub remade: u64,
    /// Terms that ended before they were renewed, and were begun anew.
    pub lapsed: u64,
}

/// What the thread is to do; a later order takes the place of an earlier one.
#[derive(Debug, Default)]
struct Orders {
    /// `None`: no longer ours to guard.
    addresses: HashMap<IpAddr, Option<Guard>>,
    /// Until when terms run.
    terms: BTreeMap<Term, Instant>,
    end: Option<oneshot::Sender<Option<String>>>,
    /// Nobody will leave another order.
    is_over: bool,
    health: Health,
}

#[derive(Debug, Default)]
struct Desk {
    orders: Mutex<Orders>,
    left: Condvar,
}

impl Desk {
    /// Held only to take or leave orders, by either side.
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The engine's way to the thread.
#[derive(Debug)]
pub struct Keeper {
    desk: Arc<Desk>,
}

impl Keeper {
    /// Starts the thread; `prepare` runs on it first. `name` is that of the tables, `tell` what people are told through.
    ///
    /// # Errors
    ///
    /// When there is no thread to be had.
    pub fn start(
        name: String,
        prepare: impl FnOnce() + Send + 'static,
        tell: impl Fn(String) + Send + 'static,
    ) -> io::Result<Self> {
        let desk = Arc::<Desk>::default();
        let shared = Arc::clone(&desk);
        std::thread::Builder::new().name("vipd-lease".into()).spawn(move || {
            prepare();
            Clerk::new(shared, Tables { name }, tell).work();
        })?;
        Ok(Self { desk })
    }

    /// Guards these addresses from now on, or no longer, and lets terms run until then at least.
    pub fn order(
        &self,
        addresses: impl IntoIterator<Item = (IpAddr, Option<Guard>)>,
        terms: impl IntoIterator<Item = (Term, Instant)>,
    ) {
        let mut orders = self.desk.orders();
        orders.addresses.extend(addresses);
        orders.terms.extend(terms);
        drop(orders);
        self.desk.left.notify_one();
    }

    /// How far it works.
    pub fn health(&self) -> Health {
        self.desk.orders().health.clone()
    }

    /// Whether the tables are in force.
    pub fn works(&self) -> bool {
        self.desk.orders().health.works
    }

    /// Removes the tables; gives what went wrong.
    pub fn clear(&self) -> impl Future<Output = Option<String>> + use<> {
        let (done, answer) = oneshot::channel();
        self.desk.orders().end = Some(done);
        self.desk.left.notify_one();
        async move { answer.await.unwrap_or_default() }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.desk.orders().is_over = true;
        self.desk.left.notify_one();
    }
}

/// The thread.
struct Clerk<T> {
    desk: Arc<Desk>,
    tables: Tables,
    tell: T,
    kernel: Option<Kernel>,
    /// What the tables hold, or should.
    addresses: BTreeMap<IpAddr, (Guard, Instant)>,
    terms: BTreeMap<Term, Instant>,
    /// Terms that the tables have sets for.
    known: BTreeSet<Term>,
    is_made: bool,
    try_at: Option<Instant>,
    health: Health,
}

impl<T: Fn(String)> Clerk<T> {
    fn new(desk: Arc<Desk>, tables: Tables, tell: T) -> Self {
        Self {
            desk,
            tables,
            tell,
            kernel: None,
            addresses: BTreeMap::new(),
            terms: BTreeMap::new(),
            known: BTreeSet::new(),
            is_made: false,
            try_at: None,
            health: Health::default(),
        }
    }

    fn work(mut self) {
        loop {
            let desk = Arc::clone(&self.desk);
            let mut orders = desk.orders();
            while orders.addresses.is_empty()
                && orders.terms.is_empty()
                && orders.end.is_none()
                && !orders.is_over
            {
                orders = desk.left.wait(orders).unwrap_or_else(PoisonError::into_inner);
            }
            let addresses = std::mem::take(&mut orders.addresses);
            let terms = std::mem::take(&mut orders.terms);
            let (end, is_over) = (orders.end.take(), orders.is_over);
            drop(orders);
            self.carry_out(addresses, terms);
            if let Some(end) = end {
                let _ = end.send(self.clear().err().map(|error| self.words(&error)));
            }
            desk.orders().health = self.health.clone();
            if is_over {
                return;
            }
        }
    }

    fn carry_out(&mut self, addresses: HashMap<IpAddr, Option<Guard>>, terms: BTreeMap<Term, Instant>) {
        let now = Instant::now();
        let mut requests = Requests::default();
        let gone: Vec<_> = self.kept(now).into_iter().filter(|one| addresses.contains_key(&one.0)).collect();
        for (address, guard) in &addresses {
            match guard {
                Some(guard) => self.addresses.insert(*address, (*guard, now + guard.kept)),
                None => self.addresses.remove(address),
            };
        }
        let ran: Vec<_> = self.left(now).into_iter().filter(|one| terms.contains_key(&one.0)).collect();
        self.terms.extend(&terms);
        self.terms.retain(|_, until| *until > now);
        let known = |term: &Term| *term == Term::ENDED || self.known.contains(term);
        let is_complete =
            terms.keys().all(known) && addresses.values().flatten().all(|guard| known(&guard.term));
        if !self.is_made || !is_complete {
            if self.is_made || !self.addresses.is_empty() {
                self.make();
            }
            return;
        }
        let come: Vec<_> =
            addresses.into_iter().filter_map(|(address, guard)| Some((address, guard?))).collect();
        let run: Vec<_> = self.left(now).into_iter().filter(|one| terms.contains_key(&one.0)).collect();
        self.tables.addresses(&mut requests, DELSETELEM, &gone);
        self.tables.addresses(&mut requests, NEWSETELEM, &come);
        self.tables.terms(&mut requests, DELSETELEM, &ran);
        self.tables.terms(&mut requests, NEWSETELEM, &run);
        if self.send(requests).is_err() {
            self.find_out();
        } else if now.elapsed() > TOO_SLOW {
            self.correct(&run);
        }
    }

    /// Terms run from when the kernel takes them: held up before that, they would end later than they should.
    fn correct(&mut self, terms: &[(Term, Duration)]) {
        let left = self.left(Instant::now());
        let left: Vec<_> =
            left.into_iter().filter(|one| terms.iter().any(|other| other.0 == one.0)).collect();
        let mut requests = Requests::default();
        self.tables.terms(&mut requests, DELSETELEM, terms);
        self.tables.terms(&mut requests, NEWSETELEM, &left);
        if self.send(requests).is_err() {
            self.find_out();
        }
    }

    /// The addresses that the kernel still knows of, and how long yet.
    fn kept(&mut self, now: Instant) -> Vec<(IpAddr, Guard)> {
        self.addresses.retain(|_, (_, until)| *until > now);
        let left = |until: &Instant| until.saturating_duration_since(now);
        let guards = self.addresses.iter();
        guards.map(|(address, (guard, until))| (*address, Guard { kept: left(until), ..*guard })).collect()
    }

    /// What is left of the terms that run.
    fn left(&self, now: Instant) -> Vec<(Term, Duration)> {
        let left = |(term, until): (&Term, &Instant)| (*term, until.saturating_duration_since(now));
        self.terms.iter().map(left).filter(|(_, left)| !left.is_zero()).collect()
    }

    /// The kernel did not find what it should have: a term has ended, or somebody has removed something.
    fn find_out(&mut self) {
        let tables = self.tables.clone();
        let exist = self.kernel.as_mut().is_some_and(|kernel| tables.exist(kernel).unwrap_or(false));
        if exist {
            self.health.lapsed += 1;
        } else {
            self.health.remade += 1;
            if self.health.remade == 1 {
                (self.tell)(format!(
                    "somebody removed the nftables tables {} that keep a host that hangs from answering \
                     (`nft flush ruleset`?); they are made again, now and whenever that happens",
                    self.tables.name
                ));
            }
        }
        self.make();
    }

    /// Makes the tables with all they should hold.
    fn make(&mut self) {
        let now = Instant::now();
        if self.try_at.is_some_and(|at| now < at) {
            return;
        }
        let mut requests = Requests::default();
        let (addresses, running) = (self.kept(now), self.left(now));
        let used = addresses.iter().map(|one| one.1.term).filter(|term| *term != Term::ENDED);
        self.known = used.chain(running.iter().map(|one| one.0)).collect();
        self.tables.make(&mut requests, &self.known, &addresses, &running);
        match self.send(requests) {
            Ok(()) => {
                if self.health.trouble.take().is_some() {
                    (self.tell)(format!("nftables tables {} work now", self.tables.name));
                }
                (self.is_made, self.health.works, self.try_at) = (true, true, None);
            }
            Err(error) => {
                let text = self.words(&error);
                if self.health.trouble.as_ref() != Some(&text) {
                    (self.tell)(format!(
                        "a host that hangs answers until the lifetime of its addresses ends: {text}"
                    ));
                }
                // Where it worked before it is worth every try: the old tables end by themselves.
                self.try_at = (!self.is_made).then(|| now + TRY_AGAIN);
                (self.health.works, self.health.trouble) = (false, Some(text));
                self.kernel = None;
            }
        }
    }

    fn clear(&mut self) -> io::Result<()> {
        self.addresses.clear();
        self.terms.clear();
        let was_made = std::mem::take(&mut self.is_made);
        self.health = Health::default();
        let mut requests = Requests::default();
        self.tables.remove(&mut requests);
        // Where none can be made, none is left either.
        self.send(requests).or_else(|error| if was_made { Err(error) } else { Ok(()) })
    }

    fn send(&mut self, requests: Requests) -> io::Result<()> {
        let kernel = match &mut self.kernel {
            Some(kernel) => kernel,
            none => {
                let mut kernel = Kernel::open(NETLINK_NETFILTER)?;
                kernel.make_room(LARGEST_BATCH);
                none.insert(kernel)
            }
        };
        requests.send(kernel)
    }

    fn words(&self, error: &io::Error) -> String {
        let hint = match error.raw_os_error() {
            Some(libc::EPERM) => "; it needs CAP_NET_ADMIN",
            Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::ENOENT) => {
                "; the kernel lacks nf_tables, its families inet and arp, or nft_fib_inet"
            }
            _ => "",
        };
        format!("nftables tables {}: {error}{hint}", self.tables.name)
    }
}
