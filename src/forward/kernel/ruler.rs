//! The table and the flows as they are. Lives on a thread that may wait.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::sync::Arc;

use config::ready::Protocol;
use nix::libc;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use tracing::{debug, warn};

use super::conntrack::{self, Flow};
use super::counting::{self, Counting, Way, Ways, answers, ways_of};
use super::forwarding;
use super::nudge;
use super::pool::Share;
use super::rules::{self, COUNTING_WAS_OFF, Names, ONLY_OURS, Router, Service};
use crate::netlink::kernel::Kernel;
use crate::netlink::nft::{self, Requests};
use crate::netlink::ruleset::{Ruleset, Table};

const NAME: &str = "vipd-forward";
const COMMENT: &str = "vipd: listeners in mode kernel";
/// Daemons in one network namespace that each have a table.
const MOST_TABLES: u32 = 16;
/// A batch with a thousand listeners has some megabytes.
const LARGEST_BATCH: usize = 16 << 20;
/// Looks of which one reads the counters, so that not more is lost when somebody removes them.
const READS_COUNTERS: u32 = 4;

/// The tables and flows of the network namespace, as far as they are ours.
#[derive(Debug, Default)]
pub struct Ruler {
    kernel: Option<Kernel>,
    /// The right to the table's name; other daemons leave it alone as long as this lives.
    claim: Option<(UnixDatagram, String)>,
    services: BTreeMap<String, Service>,
    applied: Ruleset,
    router: Router,
    exists: bool,
    counting: Counting,
    ways: Arc<Ways>,
    /// Of all tables, when ours was as it should be.
    generation: Option<u32>,
    looks: u32,
    /// Packets that the counters have seen, and what those had that somebody has removed.
    seen: BTreeMap<String, u64>,
    before: BTreeMap<String, u64>,
}

/// Flows that have to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Of these addresses of a listener.
    pub protocol: Protocol,
    /// Where their clients wanted to. None: wherever that is no listener's address, since marks chose them.
    pub bind: Vec<SocketAddr>,
    /// Whose flows.
    pub who: Who,
}

/// Whose flows end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// These backends'.
    These(Vec<SocketAddr>),
    /// Everybody else's: flows of UDP never end by themselves.
    AllBut(Vec<SocketAddr>),
}

/// What has been carried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Sessions that are open.
    pub open: u64,
    /// Since the first table of this life was made.
    pub sessions: u64,
    /// Octets from clients, with the headers of IP; of what is open and of what has ended since.
    pub bytes_in: u64,
    /// To clients.
    pub bytes_out: u64,
}

/// By listener: what was refused, and what each backend, by its name, has carried.
pub type Looked = HashMap<String, (u64, HashMap<String, Carried>)>;

impl Ruler {
    /// Removes what a former life has left, if nobody uses it and nothing takes its place.
    pub fn tidy(&mut self) -> Result<(), String> {
        // Who has no right to look has not left anything either.
        if let Err(error) = self.remove_orphans() {
            debug!(%error, "no look for tables of a former life");
        }
        Ok(())
    }

    fn remove_orphans(&mut self) -> io::Result<()> {
        for number in 1..=MOST_TABLES {
            let Some(claim) = claim(number)? else { continue };
            let table = table(&claim.1);
            let kernel = self.kernel()?;
            if table.exists(kernel)? {
                restore(kernel, &table)?;
                let mut requests = Requests::default();
                table.remove(&mut requests);
                requests.send(kernel)?;
            }
        }
        Ok(())
    }

    /// Whether the kernel would do this: nothing of it stays.
    pub fn try_out(&mut self, name: &str, service: &Service) -> Result<(), String> {
        for is_ipv6 in [false, true] {
            if service.is_ipv6 == is_ipv6 {
                forwarding::can_be_on(is_ipv6)?;
            }
        }
        let table = Table { name: format!("{NAME}-trial-{}", std::process::id()), ..table("") };
        let wanted = rules::ruleset(&BTreeMap::from([(name.to_owned(), service.clone())]), Router::default());
        let mut requests = Requests::default();
        table.make(&mut requests);
        table.change(&mut requests, &Ruleset::default(), &wanted);
        table.remove(&mut requests);
        self.kernel().and_then(|kernel| requests.send(kernel)).map_err(|error| explained(&error))
    }

    /// Exactly these listeners from now on, all at once.
    ///
    /// Gives the flows that have to end.
    pub fn replace(&mut self, services: BTreeMap<String, Service>) -> Result<Vec<Ending>, String> {
        let mut endings = Vec::new();
        for (name, service) in &services {
            endings.extend(endings_between(self.services.get(name), service));
        }
        if self.exists {
            self.keep_table()?;
        }
        self.forward(&services)?;
        if !services.is_empty() {
            self.begin_to_count();
        }
        self.apply(&services).map_err(|error| explained(&error))?;
        self.services = services;
        if self.services.is_empty() {
            self.give_back();
        }
        self.ways = Arc::new(Ways::of_services(self.services.values()));
        self.counting.retain(&self.ways);
        Ok(endings)
    }

    /// Octets are worth a warning, not a refusal.
    fn begin_to_count(&mut self) {
        let was_off = self.table().and_then(|table| table.has_chain(self.kernel()?, COUNTING_WAS_OFF));
        let switched = counting::switch_on();
        self.router.counting_was_off |= was_off.unwrap_or(false) || switched == Ok(true);
        if let Err(error) = switched.and_then(|_| self.counting.listen()) {
            warn!("{error}");
        }
    }

    /// Where clients of listeners with addresses want to.
    fn addressed(&self) -> impl Iterator<Item = (Protocol, SocketAddr)> {
        let of =
            |service: &Service| service.bind.iter().map(|bind| (service.protocol, *bind)).collect::<Vec<_>>();
        self.services.values().flat_map(of)
    }

    /// Looks after what others may have changed, and takes in what has ended. Gives what an operator should know.
    pub fn tend(&mut self) -> Result<Vec<String>, String> {
        if !self.exists {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        found.extend(self.read_ends().err());
        found.extend(self.keep_forwarding()?);
        found.extend(self.keep_table()?);
        self.looks += 1;
        if self.looks.is_multiple_of(READS_COUNTERS) {
            self.counters()?;
        }
        Ok(found)
    }

    fn read_ends(&mut self) -> Result<(), String> {
        let ways = &self.ways;
        self.counting.read(|flow| ways.of(flow))
    }

    /// Puts the table back if somebody has changed it.
    fn keep_table(&mut self) -> Result<Option<String>, String> {
        self.put_back().map_err(|error| explained(&error))
    }

    fn put_back(&mut self) -> io::Result<Option<String>> {
        let table = self.table()?;
        let now = nft::generation(self.kernel()?)?;
        if self.generation == Some(now) {
            return Ok(None);
        }
        let wanted = std::mem::take(&mut self.applied);
        let mut holds = || gone_is_false(table.holds(self.kernel()?, &wanted));
        // Somebody may have been at work between two of its questions.
        let is_whole = holds().and_then(|first| if first { Ok(true) } else { holds() });
        if let Ok(false) = is_whole {
            let services = self.services.clone();
            self.exists = false;
            let made = self.apply(&services);
            self.exists = true;
            if made.is_ok() {
                self.before = self.seen.clone();
                return Ok(Some(format!(
                    "somebody has removed or changed the table inet {}; it is there again, and open sessions go on",
                    table.name
                )));
            }
            self.applied = wanted;
            return made.map(|()| None);
        }
        self.applied = wanted;
        self.generation = is_whole?.then_some(now);
        Ok(None)
    }

    /// Switches forwarding on again if somebody has switched it off.
    fn keep_forwarding(&mut self) -> Result<Option<String>, String> {
        let mut found = None;
        for is_ipv6 in [false, true] {
            let is_needed = self.services.values().any(|service| service.is_ipv6 == is_ipv6);
            if is_needed && forwarding::switch_on(is_ipv6)? {
                let family = if is_ipv6 { "IPv6" } else { "IPv4" };
                found = Some(format!(
                    "somebody has switched {family} forwarding off, which listeners in the kernel need; it is on again"
                ));
            }
        }
        Ok(found)
    }

    /// One listener changes. One that is not there stays so.
    pub fn set(&mut self, name: &str, service: Service) -> Result<Vec<Ending>, String> {
        let Some(before) = self.services.get(name) else { return Ok(Vec::new()) };
        let endings = endings_between(Some(before), &service);
        let mut services = self.services.clone();
        services.insert(name.to_owned(), service);
        self.apply(&services).map_err(|error| explained(&error))?;
        self.services = services;
        Ok(endings)
    }

    fn kernel(&mut self) -> io::Result<&mut Kernel> {
        match &mut self.kernel {
            Some(kernel) => Ok(kernel),
            none => {
                let mut kernel = Kernel::open(NETLINK_NETFILTER)?;
                kernel.make_room(LARGEST_BATCH);
                Ok(none.insert(kernel))
            }
        }
    }

    fn table(&mut self) -> io::Result<Table> {
        if let Some((_, name)) = &self.claim {
            return Ok(table(name));
        }
        for number in 1..=MOST_TABLES {
            if let Some(claim) = claim(number)? {
                let table = table(&claim.1);
                self.claim = Some(claim);
                return Ok(table);
            }
        }
        Err(io::Error::other(format!("{MOST_TABLES} daemons have a table here already")))
    }

    fn apply(&mut self, services: &BTreeMap<String, Service>) -> io::Result<()> {
        let wanted = rules::ruleset(services, self.router);
        if wanted == self.applied && (self.exists || wanted == Ruleset::default()) {
            return Ok(());
        }
        let table = self.table()?;
        let mut requests = Requests::default();
        if wanted == Ruleset::default() {
            table.remove(&mut requests);
        } else {
            if !self.exists {
                // What a former life has left goes in the moment in which this comes.
                table.make(&mut requests);
                table.remove(&mut requests);
                table.make(&mut requests);
            }
            table.change(&mut requests, &self.applied, &wanted);
        }
        requests.send(self.kernel()?)?;
        self.exists = wanted != Ruleset::default();
        self.generation = None;
        for counts in [&mut self.seen, &mut self.before] {
            counts.retain(|name, _| wanted.counters.contains(name));
        }
        self.applied = wanted;
        Ok(())
    }

    /// Switches forwarding on for what needs it.
    fn forward(&mut self, services: &BTreeMap<String, Service>) -> Result<(), String> {
        let table = self.table().map_err(|error| explained(&error))?;
        for is_ipv6 in [false, true] {
            let is_needed = services.values().any(|service| service.is_ipv6 == is_ipv6);
            if self.is_only_ours(is_ipv6) || !is_needed {
                continue;
            }
            // A former life may have done it, and had no time to undo it.
            let kernel = self.kernel().map_err(|error| explained(&error))?;
            let chain = ONLY_OURS[usize::from(is_ipv6)];
            let is_ours = table.has_chain(kernel, chain).map_err(|error| explained(&error))?;
            let was_off = forwarding::switch_on(is_ipv6)?;
            if was_off || is_ours {
                match is_ipv6 {
                    false => self.router.only_ours_ipv4 = true,
                    true => self.router.only_ours_ipv6 = true,
                }
            }
        }
        Ok(())
    }

    fn is_only_ours(&self, is_ipv6: bool) -> bool {
        if is_ipv6 { self.router.only_ours_ipv6 } else { self.router.only_ours_ipv4 }
    }

    /// Nothing is carried any more: forwarding is as it was.
    fn give_back(&mut self) {
        for is_ipv6 in [false, true] {
            if self.is_only_ours(is_ipv6) {
                forwarding::switch_off(is_ipv6);
            }
        }
        if self.router.counting_was_off {
            counting::switch_off();
        }
        self.router = Router::default();
        self.counting.stop();
    }

    /// The table goes.
    pub fn clear(&mut self) -> Result<(), String> {
        if !self.exists {
            return Ok(());
        }
        self.replace(BTreeMap::new()).map(drop)
    }

    /// Ends flows, and has their clients told. How many they were.
    pub fn end(&mut self, endings: &[Ending]) -> Result<usize, String> {
        let addressed: HashSet<_> = self.addressed().collect();
        let end = |flow: &Flow| {
            endings.iter().any(|ending| {
                let is_wanted = match ending.bind.is_empty() {
                    true => !addressed.contains(&(flow.protocol, flow.wanted)),
                    false => ending.protocol == flow.protocol && ending.bind.contains(&flow.wanted),
                };
                is_wanted
                    && match &ending.who {
                        Who::These(backends) => {
                            backends.iter().any(|backend| answers(*backend, flow.answering))
                        }
                        Who::AllBut(backends) => !backends.contains(&flow.answering),
                    }
            })
        };
        let all = endings.iter().any(|ending| matches!(ending.who, Who::AllBut(_)));
        self.end_those(all, end)
    }

    /// Ends the flows to an address that has left this host.
    pub fn left(&mut self, address: IpAddr) -> Result<usize, String> {
        let is_named = self.addressed().any(|(_, bind)| bind.ip() == address);
        let has_marks = self.services.values().any(|service| !service.marks.is_empty());
        if !is_named && !has_marks {
            return Ok(0);
        }
        let ways = self.ways.clone();
        self.end_those(false, |flow| flow.wanted.ip() == address && (is_named || ways.of(flow).is_some()))
    }

    fn end_those(&mut self, all: bool, end: impl Fn(&Flow) -> bool) -> Result<usize, String> {
        let work = |kernel: &mut Kernel| {
            let mut flows = Vec::new();
            conntrack::flows(kernel, all, |flow| {
                if end(&flow) {
                    flows.push(flow);
                }
            })?;
            let mut ended = Vec::new();
            for flow in flows {
                if conntrack::end(kernel, &flow)? && !flow.is_over {
                    ended.push(flow);
                }
            }
            Ok(ended)
        };
        let ended = self.kernel().and_then(work).map_err(|error: io::Error| untracked(&error))?;
        if let Err(error) = nudge::clients(&ended) {
            warn!(%error, "clients of ended sessions hear of it only when they send something");
        }
        Ok(ended.len())
    }

    /// What the counters of the table have seen, also of one that somebody has removed.
    fn counters(&mut self) -> Result<(), String> {
        let table = self.table().map_err(|error| explained(&error))?;
        let kernel = self.kernel().map_err(|error| explained(&error))?;
        let counters = table.counters(kernel).map_err(|error| explained(&error))?;
        for (name, (packets, _)) in counters {
            let before = self.before.get(&name).copied().unwrap_or_default();
            self.seen.insert(name, before + packets);
        }
        Ok(())
    }

    /// What has been carried, and what is open.
    pub fn look(&mut self) -> Result<Looked, String> {
        if !self.exists {
            return Ok(Looked::new());
        }
        self.counters()?;
        // What ends meanwhile is missing now, and there the next time.
        if let Err(error) = self.read_ends() {
            debug!(error, "octets are missing");
        }
        let mut open: HashMap<Way, (u64, [u64; 2])> = HashMap::new();
        let ways = self.ways.clone();
        let kernel = self.kernel().map_err(|error| explained(&error))?;
        let tracked = conntrack::flows(kernel, false, |flow| {
            let Some(way) = ways.of(&flow) else { return };
            let (open, octets) = open.entry(way).or_default();
            *open += u64::from(!flow.is_over);
            (octets[0], octets[1]) = (octets[0] + flow.octets[0], octets[1] + flow.octets[1]);
        });
        tracked.map_err(|error| untracked(&error))?;
        let count = |name: &str| self.seen.get(name).copied().unwrap_or_default();
        let carried = |name: &str, service: &Service| {
            let of = |member: &super::pool::Member| {
                let mut carried = Carried {
                    sessions: count(&Names::of(name, &member.name).sessions),
                    ..Carried::default()
                };
                for way in ways_of(service, member.address) {
                    let (now, octets) = open.get(&way).copied().unwrap_or_default();
                    let ended = self.counting.ended(&way);
                    carried.open += now;
                    carried.bytes_in += octets[0] + ended[0];
                    carried.bytes_out += octets[1] + ended[1];
                }
                (member.name.clone(), carried)
            };
            (count(&Names::refused(name)), service.members.iter().map(of).collect())
        };
        Ok(self.services.iter().map(|(name, service)| (name.clone(), carried(name, service))).collect())
    }
}

impl Drop for Ruler {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            warn!(error, "the table of the kernel path stays");
        }
    }
}

fn endings_between(before: Option<&Service>, after: &Service) -> Vec<Ending> {
    let addresses = |wanted: fn(&Share) -> bool| -> Vec<SocketAddr> {
        after.members.iter().filter(|member| wanted(&member.share)).map(|member| member.address).collect()
    };
    let known = |address: &SocketAddr| {
        before.and_then(|before| before.members.iter().find(|member| member.address == *address))
    };
    let had_ended = |address: &SocketAddr| known(address).is_some_and(|member| member.share == Share::Ended);
    let of = |who| Ending { protocol: after.protocol, bind: after.bind.clone(), who };
    let is_other = before.is_none_or(|before| before.members != after.members);
    if after.protocol == Protocol::Udp && after.marks.is_empty() && is_other {
        return vec![of(Who::AllBut(addresses(|share| *share != Share::Ended)))];
    }
    let ended: Vec<_> =
        addresses(|share| *share == Share::Ended).into_iter().filter(|address| !had_ended(address)).collect();
    if ended.is_empty() { Vec::new() } else { vec![of(Who::These(ended))] }
}

fn table(name: &str) -> Table {
    Table { name: name.to_owned(), comment: COMMENT, owned: false }
}

/// The name of the table of this number, unless another daemon has it. Abstract sockets belong to a network namespace,
/// as tables do, and go with their process.
fn claim(number: u32) -> io::Result<Option<(UnixDatagram, String)>> {
    let name = if number == 1 { NAME.to_owned() } else { format!("{NAME}-{number}") };
    match UnixDatagram::bind_addr(&UnixAddr::from_abstract_name(&name)?) {
        Ok(socket) => Ok(Some((socket, name))),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a former life has switched on.
fn restore(kernel: &mut Kernel, table: &Table) -> io::Result<()> {
    if table.has_chain(kernel, COUNTING_WAS_OFF)? {
        counting::switch_off();
    }
    for (is_ipv6, chain) in [false, true].into_iter().zip(ONLY_OURS) {
        if table.has_chain(kernel, chain)? {
            forwarding::switch_off(is_ipv6);
        }
    }
    Ok(())
}

/// What is asked for, or its table, may be gone.
fn gone_is_false(holds: io::Result<bool>) -> io::Result<bool> {
    match holds {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        holds => holds,
    }
}

fn explained(error: &io::Error) -> String {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "; it needs CAP_NET_ADMIN",
        Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::ENOENT | libc::EAFNOSUPPORT) => {
            "; the kernel lacks nf_tables or a part of it (nft_nat, nft_masq, nft_ct, nft_numgen, nft_hash, nft_fib_inet, \
             nft_reject_inet, nft_objref): load the modules, or use mode = \"proxy\""
        }
        _ => "",
    };
    format!("nf_tables: {error}{hint}")
}

fn untracked(error: &io::Error) -> String {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "; it needs CAP_NET_ADMIN",
        Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EINVAL) => {
            "; load the module nf_conntrack_netlink"
        }
        _ => "",
    };
    format!("connection tracking: {error}{hint}")
}
