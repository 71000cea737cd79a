//! An nftables table of our own: what keeps virtual addresses silent, and switches from learning a virtual MAC wrongly.
//!
//! Same rules, names and order as keepalived 2.2.7: in the families `ip` and `ip6` the chains `in` and `out` drop what
//! goes to and comes from the addresses in the set `vips`, IPv6 neighbour discovery excepted; what a VMAC tells the
//! network about multicast groups leaves by the interface below it, with that one's MAC. Changes of the sets are
//! atomic, and the table goes when nothing is left in it.
//!
//! Beyond keepalived, a table of the same name in the family `arp`: a VMAC does not answer the announcements of the
//! router that takes over from it with the same MAC.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use config::ready;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;

use super::nft::{Batch, Table};
use crate::netlink::kernel::Kernel;
use crate::netlink::nft::Family;

/// The firewall would not do what it is asked.
#[derive(Debug, thiserror::Error)]
#[error("nftables table {table}: {cause}{}", hint(cause))]
pub struct FirewallError {
    table: String,
    cause: io::Error,
}

fn hint(cause: &io::Error) -> &'static str {
    use nix::libc::{EOPNOTSUPP, EPERM, EPROTONOSUPPORT};
    match cause.raw_os_error() {
        Some(EPERM) => "; it needs CAP_NET_ADMIN",
        Some(EOPNOTSUPP | EPROTONOSUPPORT) => "; the kernel lacks nf_tables, or nft_dup for VMACs",
        _ => "",
    }
}

/// A virtual address that must not answer; its interface counts for link-local ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Silenced {
    /// The address.
    pub address: IpAddr,
    /// Where it is.
    pub interface: u32,
}

/// A VMAC and what is below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OverBase {
    /// It carries IPv6.
    pub is_ipv6: bool,
    /// Its index.
    pub vmac: u32,
    /// Of what is below it.
    pub base: u32,
    /// Its MAC.
    pub mac: [u8; 6],
}

/// The tables as they are. Lives on a thread that may wait.
#[derive(Debug)]
pub(super) struct Firewall {
    options: ready::Firewall,
    kernel: Option<Kernel>,
    silenced: BTreeSet<Silenced>,
    vmacs: BTreeSet<OverBase>,
    /// Tables that are there, with their parts.
    ip: Table,
    ip6: Table,
    arp: Table,
}

impl Firewall {
    pub fn new(options: ready::Firewall) -> Self {
        Self {
            options,
            kernel: None,
            silenced: BTreeSet::new(),
            vmacs: BTreeSet::new(),
            ip: Table::default(),
            ip6: Table::default(),
            arp: Table::default(),
        }
    }

    /// Another table from now on, or what a former life has left is removed.
    pub fn reset(&mut self, options: ready::Firewall) -> Result<(), FirewallError> {
        self.remove_all()?;
        self.options = options;
        self.remove_all()?;
        let (silenced, vmacs) = (std::mem::take(&mut self.silenced), std::mem::take(&mut self.vmacs));
        self.change(&silenced, &BTreeSet::new(), &vmacs, &BTreeSet::new())
    }

    /// Silences these too; in force when this returns.
    pub fn silence(&mut self, addresses: &BTreeSet<Silenced>) -> Result<(), FirewallError> {
        self.change(addresses, &BTreeSet::new(), &BTreeSet::new(), &BTreeSet::new())
    }

    /// Lets these answer again.
    pub fn unsilence(&mut self, addresses: &BTreeSet<Silenced>) -> Result<(), FirewallError> {
        self.change(&BTreeSet::new(), addresses, &BTreeSet::new(), &BTreeSet::new())
    }

    /// From now on its membership reports leave by its base.
    pub fn put_vmac(&mut self, vmac: OverBase) -> Result<(), FirewallError> {
        // An index may come back with another VMAC.
        let stale = self.vmacs.iter().filter(|one| one.vmac == vmac.vmac && **one != vmac).copied().collect();
        self.change(&BTreeSet::new(), &BTreeSet::new(), &[vmac].into(), &stale)
    }

    /// It is gone.
    pub fn drop_vmac(&mut self, index: u32) -> Result<(), FirewallError> {
        let gone = self.vmacs.iter().filter(|one| one.vmac == index).copied().collect();
        self.change(&BTreeSet::new(), &BTreeSet::new(), &BTreeSet::new(), &gone)
    }

    /// The tables go.
    pub fn clear(&mut self) -> Result<(), FirewallError> {
        self.silenced.clear();
        self.vmacs.clear();
        if !self.ip.exists && !self.ip6.exists && !self.arp.exists {
            return Ok(());
        }
        self.remove_all()
    }

    fn change(
        &mut self,
        silence: &BTreeSet<Silenced>,
        unsilence: &BTreeSet<Silenced>,
        over: &BTreeSet<OverBase>,
        gone: &BTreeSet<OverBase>,
    ) -> Result<(), FirewallError> {
        let silence: BTreeSet<_> = silence.difference(&self.silenced).copied().collect();
        let unsilence: BTreeSet<_> = unsilence.intersection(&self.silenced).copied().collect();
        let over: BTreeSet<_> = over.difference(&self.vmacs).copied().collect();
        let gone: BTreeSet<_> = gone.intersection(&self.vmacs).copied().collect();
        let silenced: BTreeSet<_> =
            self.silenced.union(&silence).filter(|one| !unsilence.contains(one)).copied().collect();
        let vmacs: BTreeSet<_> = self.vmacs.union(&over).filter(|one| !gone.contains(one)).copied().collect();

        let mut batch = Batch::new(&self.options);
        let (mut ip, mut ip6) = (self.ip, self.ip6);
        for (family, table) in [(Family::Ip, &mut ip), (Family::Ip6, &mut ip6)] {
            let of_family = |one: &&Silenced| one.address.is_ipv6() == (family == Family::Ip6);
            let over_family = |one: &&OverBase| one.is_ipv6 == (family == Family::Ip6);
            let is_needed =
                silenced.iter().any(|one| of_family(&one)) || vmacs.iter().any(|one| over_family(&one));
            if !is_needed {
                if table.exists {
                    batch.remove_table(family);
                    *table = Table::default();
                }
                continue;
            }
            let has_vips = silenced.iter().any(|one| of_family(&one));
            let has_vmacs = vmacs.iter().any(|one| over_family(&one));
            batch.need(family, table, has_vips, has_vmacs);
            for one in unsilence.iter().filter(of_family) {
                batch.silenced(family, *one, false);
            }
            for one in gone.iter().filter(over_family) {
                batch.vmac(family, *one, false);
            }
            for one in over.iter().filter(over_family) {
                batch.vmac(family, *one, true);
            }
            for one in silence.iter().filter(of_family) {
                batch.silenced(family, *one, true);
            }
        }
        self.send(batch)?;
        (self.ip, self.ip6) = (ip, ip6);
        (self.silenced, self.vmacs) = (silenced, vmacs);
        self.deafen(&over, &gone)
    }

    /// In a batch of its own: the rest works on a kernel that has nf_tables but not for ARP.
    fn deafen(&mut self, over: &BTreeSet<OverBase>, gone: &BTreeSet<OverBase>) -> Result<(), FirewallError> {
        let mut arp = self.arp;
        let mut batch = Batch::new(&self.options);
        if self.vmacs.iter().any(|one| !one.is_ipv6) {
            for (changed, add) in [(gone, false), (over, true)] {
                for one in changed.iter().filter(|one| !one.is_ipv6) {
                    batch.deaf_vmac(&mut arp, *one, add);
                }
            }
        } else if arp.exists {
            batch.remove_table(Family::Arp);
            arp = Table::default();
        }
        self.send(batch)?;
        self.arp = arp;
        Ok(())
    }

    /// Also where there are none: a table is made first, then removed.
    fn remove_all(&mut self) -> Result<(), FirewallError> {
        let had_arp = std::mem::take(&mut self.arp).exists;
        match self.remove(&[Family::Arp]) {
            Err(error) if had_arp => return Err(error),
            // On a kernel without there is nothing to remove.
            _ => {}
        }
        self.remove(&[Family::Ip, Family::Ip6])?;
        (self.ip, self.ip6) = (Table::default(), Table::default());
        Ok(())
    }

    fn remove(&mut self, families: &[Family]) -> Result<(), FirewallError> {
        let mut batch = Batch::new(&self.options);
        for family in families {
            batch.make_table(*family);
            batch.remove_table(*family);
        }
        self.send(batch)
    }

    fn send(&mut self, batch: Batch) -> Result<(), FirewallError> {
        let error = |cause| FirewallError { table: self.options.table.clone(), cause };
        let kernel = match &mut self.kernel {
            Some(kernel) => kernel,
            none => none.insert(Kernel::open(NETLINK_NETFILTER).map_err(error)?),
        };
        batch.send(kernel).map_err(error)
    }
}
