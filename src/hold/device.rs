//! The interface with the virtual router's own MAC address: a macvlan in private mode, and its sysctls.
//!
//! Private mode: what a peer sends from the same MAC address reaches this interface and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use nix::libc;
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_core::NlasIterator;
use rtnetlink::sys::protocols::NETLINK_ROUTE;

use super::sysctl::{Sysctls, of_interface, write};
use crate::netlink::attributes::Attributes;
use crate::netlink::kernel::Kernel;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_GROUP: u16 = 27;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const MODE_PRIVATE: u32 = 1;
/// IN6_ADDR_GEN_MODE_NONE.
const NO_ADDRESSES: u8 = 1;
/// `struct ifinfomsg`.
const LINK_HEADER: usize = 16;

/// A VMAC as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmacSpec {
    /// At most 15 octets.
    pub name: String,
    /// Below it.
    pub base: String,
    /// Its MAC.
    pub mac: [u8; 6],
    /// `IFLA_GROUP`.
    pub group: Option<u32>,
    /// It carries IPv4 virtual addresses.
    pub ipv4: bool,
    /// It carries IPv6 virtual addresses; IPv6 is off without.
    pub ipv6: bool,
}

/// A VMAC in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MadeVmac {
    /// Of the VMAC.
    pub index: u32,
    /// Of what is below it.
    pub base: u32,
}

/// What a VMAC lacks.
#[derive(Debug, thiserror::Error)]
pub enum VmacError {
    /// Nothing to put it on.
    #[error("interface {base} does not exist, VMAC {name} cannot be made")]
    NoBase {
        /// Of the VMAC.
        name: String,
        /// Below it.
        base: String,
    },
    /// Something else has its name.
    #[error(
        "there is an interface {name} that is no VMAC on {base}: give the VMAC another name (use_vmac NAME)"
    )]
    Taken {
        /// Of the VMAC.
        name: String,
        /// Below it.
        base: String,
    },
    /// The kernel refused.
    #[error("cannot {operation} VMAC {name} on {base}: {cause}")]
    Kernel {
        /// In words.
        operation: &'static str,
        /// Of the VMAC.
        name: String,
        /// Below it.
        base: String,
        /// What it said.
        cause: io::Error,
    },
}

/// What was made and changed on this host. Lives on a thread that may wait.
#[derive(Debug, Default)]
pub(super) struct Devices {
    kernel: Option<Kernel>,
    sysctls: Sysctls,
    /// With the sysctls of their bases.
    made: BTreeMap<String, (VmacSpec, Vec<PathBuf>)>,
    promoting: BTreeMap<String, PathBuf>,
}

/// What the kernel says about a link.
#[derive(Debug)]
struct Found {
    index: u32,
    base: Option<u32>,
    mac: Vec<u8>,
    is_private_macvlan: bool,
}

impl Devices {
    /// Makes the VMAC, still down, or takes over the one that a former life has left; settings included.
    pub fn make(&mut self, spec: &VmacSpec) -> Result<(MadeVmac, Vec<String>), VmacError> {
        let base = if_nametoindex(spec.base.as_str())
            .map_err(|_| VmacError::NoBase { name: spec.name.clone(), base: spec.base.clone() })?;
        let found = self.find(&spec.name).map_err(|cause| spec.error("look at", cause))?;
        let index = match found {
            Some(found) if found.is_private_macvlan && found.base == Some(base) && found.mac == spec.mac => {
                found.index
            }
            Some(found) if found.is_private_macvlan && is_virtual(&found.mac, spec) => {
                self.delete(&spec.name).map_err(|cause| spec.error("remove the old", cause))?;
                self.create(spec, base)?
            }
            Some(_) => return Err(VmacError::Taken { name: spec.name.clone(), base: spec.base.clone() }),
            None => self.create(spec, base)?,
        };
        self.set(index, IFLA_AF_SPEC, &addr_gen_none(), 0).map_err(|cause| spec.error("set up", cause))?;
        let refused = self.settings(spec);
        Ok((MadeVmac { index, base }, refused))
    }

    /// Sets it up administratively.
    pub fn raise(&mut self, spec: &VmacSpec, index: u32) -> Result<(), VmacError> {
        let up = u32::try_from(libc::IFF_UP).expect("1");
        self.set(index, 0, &Attributes::default(), up).map_err(|cause| spec.error("bring up", cause))
    }

    /// Removes it, and restores what it has changed.
    pub fn unmake(&mut self, name: &str) -> Result<(), VmacError> {
        let Some((spec, paths)) = self.made.remove(name) else { return Ok(()) };
        let deleted = self.delete(name);
        for path in paths {
            self.sysctls.release(&path);
        }
        if !self.made.values().any(|(spec, _)| spec.ipv4) {
            self.sysctls.unfold_rp_filter();
        }
        match deleted {
            // It went with its base.
            Err(cause) if cause.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            deleted => deleted.map_err(|cause| spec.error("remove", cause)),
        }
    }

    /// `promote_secondaries` of exactly these interfaces; gives what was refused.
    pub fn promote_secondaries(&mut self, interfaces: &BTreeSet<String>) -> Vec<String> {
        let leaving: Vec<String> =
            self.promoting.keys().filter(|name| !interfaces.contains(*name)).cloned().collect();
        for name in leaving {
            if let Some(path) = self.promoting.remove(&name) {
                self.sysctls.release(&path);
            }
        }
        let mut refused = Vec::new();
        for name in interfaces {
            if self.promoting.contains_key(name) {
                continue;
            }
            let path = of_interface("ipv4", name, "promote_secondaries");
            match self.sysctls.hold(path.clone(), "1") {
                Ok(()) => {
                    self.promoting.insert(name.clone(), path);
                }
                Err(error) => refused.push(error.to_string()),
            }
        }
        refused
    }

    /// Everything goes, and everything is as before.
    pub fn clear(&mut self) -> Vec<VmacError> {
        let names: Vec<String> = self.made.keys().cloned().collect();
        let errors = names.iter().filter_map(|name| self.unmake(name).err()).collect();
        self.promoting.clear();
        self.sysctls.restore();
        errors
    }

    fn settings(&mut self, spec: &VmacSpec) -> Vec<String> {
        let mut refused = Vec::new();
        let mut own = Vec::new();
        if spec.ipv4 {
            refused.extend(self.sysctls.fold_rp_filter().err());
            own.extend([
                ("ipv4", "arp_ignore", "1"),
                ("ipv4", "accept_local", "1"),
                ("ipv4", "rp_filter", "0"),
                ("ipv4", "promote_secondaries", "1"),
            ]);
        }
        if spec.ipv6 {
            // Left 0 (keepalived 2.2.7), the VMAC of IPv6 answers ARP for the addresses of IPv4.
            own.push(("ipv4", "arp_ignore", "1"));
            own.extend([
                ("ipv6", "disable_ipv6", "0"),
                ("ipv6", "accept_ra", "0"),
                ("ipv6", "autoconf", "0"),
            ]);
        } else {
            own.push(("ipv6", "disable_ipv6", "1"));
        }
        for (family, name, value) in own {
            let path = of_interface(family, &spec.name, name);
            // A kernel without IPv6 needs nothing.
            if path.exists() {
                refused.extend(write(&path, value).err());
            }
        }
        let mut paths = Vec::new();
        if spec.ipv4 && !self.made.contains_key(&spec.name) {
            // arp_announce (not keepalived 2.2.7): what answers a client leaves by the base, and asking for that client's
            // MAC in the name of the virtual address would teach it the base's.
            for (name, value) in [("arp_ignore", "1"), ("arp_filter", "1"), ("arp_announce", "2")] {
                let path = of_interface("ipv4", &spec.base, name);
                match self.sysctls.hold(path.clone(), value) {
                    Ok(()) => paths.push(path),
                    Err(error) => refused.push(error),
                }
            }
        }
        let held = self.made.entry(spec.name.clone()).or_insert_with(|| (spec.clone(), paths));
        held.0 = spec.clone();
        refused.iter().map(ToString::to_string).collect()
    }

    fn kernel(&mut self) -> io::Result<&mut Kernel> {
        match &mut self.kernel {
            Some(kernel) => Ok(kernel),
            none => Ok(none.insert(Kernel::open(NETLINK_ROUTE)?)),
        }
    }

    fn create(&mut self, spec: &VmacSpec, base: u32) -> Result<u32, VmacError> {
        let data = Attributes::default().with(IFLA_MACVLAN_MODE, &MODE_PRIVATE.to_ne_bytes());
        let info = Attributes::default().text(IFLA_INFO_KIND, "macvlan").nest(IFLA_INFO_DATA, &data);
        let mut attributes = Attributes::default()
            .text(IFLA_IFNAME, &spec.name)
            .with(IFLA_LINK, &base.to_ne_bytes())
            .with(IFLA_ADDRESS, &spec.mac)
            .nest(IFLA_LINKINFO, &info);
        if let Some(group) = spec.group {
            attributes.put(IFLA_GROUP, &group.to_ne_bytes());
        }
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let made = self
            .kernel()
            .and_then(|kernel| kernel.ask(libc::RTM_NEWLINK, flags as u16, &[0; LINK_HEADER], &attributes))
            .and_then(|_| if_nametoindex(spec.name.as_str()).map_err(io::Error::from));
        made.map_err(|cause| spec.error("make", cause))
    }

    fn delete(&mut self, name: &str) -> io::Result<()> {
        let attributes = Attributes::default().text(IFLA_IFNAME, name);
        self.kernel()?.ask(libc::RTM_DELLINK, 0, &[0; LINK_HEADER], &attributes).map(drop)
    }

    /// Sets an attribute (0: none) and flags of a link.
    fn set(&mut self, index: u32, kind: u16, value: &Attributes, flags: u32) -> io::Result<()> {
        let mut header = [0; LINK_HEADER];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        header[8..12].copy_from_slice(&flags.to_ne_bytes());
        header[12..16].copy_from_slice(&flags.to_ne_bytes());
        let mut attributes = Attributes::default();
        if kind != 0 {
            attributes = attributes.nest(kind, value);
        }
        match self.kernel()?.ask(libc::RTM_SETLINK, 0, &header, &attributes) {
            // A kernel without IPv6 has no addresses to generate.
            Err(error) if kind != 0 && error.raw_os_error() == Some(libc::EAFNOSUPPORT) => Ok(()),
            answer => answer.map(drop),
        }
    }

    fn find(&mut self, name: &str) -> io::Result<Option<Found>> {
        let attributes = Attributes::default().text(IFLA_IFNAME, name);
        match self.kernel()?.ask(libc::RTM_GETLINK, 0, &[0; LINK_HEADER], &attributes) {
            Ok(answer) => Ok(parse(&answer)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl VmacSpec {
    fn error(&self, operation: &'static str, cause: io::Error) -> VmacError {
        VmacError::Kernel { operation, name: self.name.clone(), base: self.base.clone(), cause }
    }
}

/// It is ours to remove: a virtual router's MAC (RFC 9568 §7.3), or the configured one.
fn is_virtual(mac: &[u8], spec: &VmacSpec) -> bool {
    mac.starts_with(&[0x00, 0x00, 0x5e, 0x00, 0x01])
        || mac.starts_with(&[0x00, 0x00, 0x5e, 0x00, 0x02])
        || mac == spec.mac
}

fn addr_gen_none() -> Attributes {
    let inet6 = Attributes::default().with(IFLA_INET6_ADDR_GEN_MODE, &[NO_ADDRESSES]);
    Attributes::default().nest(libc::AF_INET6 as u16, &inet6)
}

fn parse(payload: &[u8]) -> Option<Found> {
    let (header, attributes) = payload.split_at_checked(LINK_HEADER)?;
    let number = |octets: &[u8]| octets.try_into().ok().map(u32::from_ne_bytes);
    let mut found =
        Found { index: number(&header[4..8])?, base: None, mac: Vec::new(), is_private_macvlan: false };
    for attribute in NlasIterator::new(attributes).filter_map(Result::ok) {
        match attribute.kind() {
            IFLA_ADDRESS => found.mac = attribute.value().to_vec(),
            IFLA_LINK => found.base = number(attribute.value()),
            IFLA_LINKINFO => found.is_private_macvlan = is_private_macvlan(attribute.value()),
            _ => {}
        }
    }
    Some(found)
}

/// IFLA_LINKINFO of a macvlan in private mode.
pub(super) fn is_private_macvlan(info: &[u8]) -> bool {
    let (mut is_macvlan, mut is_private) = (false, false);
    for attribute in NlasIterator::new(info).filter_map(Result::ok) {
        match attribute.kind() {
            IFLA_INFO_KIND => is_macvlan = attribute.value().starts_with(b"macvlan\0"),
            IFLA_INFO_DATA => {
                let mode = NlasIterator::new(attribute.value())
                    .filter_map(Result::ok)
                    .find(|attribute| attribute.kind() == IFLA_MACVLAN_MODE);
                is_private = mode.is_some_and(|mode| mode.value() == MODE_PRIVATE.to_ne_bytes());
            }
            _ => {}
        }
    }
    is_macvlan && is_private
}
