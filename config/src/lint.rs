//! What is legal and runs, but cannot be what was meant.
//!
//! Works on the configuration that is ready to run, so it serves every door; what was written gives the
//! places alone. Nothing here is an error: whatever keepalived runs with, we run with.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::diagnostic::{Diagnostics, Location};
use crate::model;
use crate::ready::{Config, Instance, Transport};

mod group;
mod peers;
mod script;
mod service;
mod single;
mod weight;

/// One host: what it runs, and where that was written.
pub(crate) struct Host {
    pub config: Config,
    pub written: Written,
}

/// What was written, to find the places of values.
#[derive(Default)]
pub(crate) struct Written {
    instances: HashMap<String, model::Instance>,
    groups: HashMap<String, model::SyncGroup>,
    /// Listeners that are virtual servers of keepalived.conf.
    virtual_servers: HashSet<String>,
}

impl Written {
    /// Of duplicates the first counts.
    pub fn new(model: &model::Model) -> Self {
        let mut written = Self::default();
        for instance in &model.instances {
            written.instances.entry(instance.name.value.clone()).or_insert_with(|| instance.clone());
        }
        for group in &model.sync_groups {
            written.groups.entry(group.name.value.clone()).or_insert_with(|| group.clone());
        }
        let virtual_servers = model.listeners.iter().filter(|listener| listener.optional);
        written.virtual_servers = virtual_servers.map(|listener| listener.name.value.clone()).collect();
        written
    }
}

/// An instance and where it was written.
#[derive(Clone, Copy)]
struct Router<'h> {
    ready: &'h Instance,
    meant: &'h model::Instance,
}

/// Where one value of an instance was written; its name, when the value is a default.
macro_rules! place_of {
    ($($value:ident),*) => {
        $(fn $value(self) -> &'h Location {
            self.meant.$value.as_ref().map_or(&self.meant.name.at, |value| &value.at)
        })*
    };
}

impl<'h> Router<'h> {
    place_of!(
        vrid,
        version,
        priority,
        advert_interval,
        source,
        password,
        unicast,
        group,
        first_state,
        preempt
    );

    fn name(self) -> &'h Location {
        &self.meant.name.at
    }

    /// The place of one peer.
    fn peer(self, address: IpAddr) -> &'h Location {
        let peers = self.meant.unicast.iter().flat_map(|unicast| &unicast.peers);
        peers.into_iter().find(|peer| peer.value.address == address).map_or(self.name(), |peer| &peer.at)
    }

    /// The place of the first address.
    fn addresses(self) -> &'h Location {
        self.meant.addresses.first().map_or(self.name(), |address| &address.at)
    }

    fn peers(self) -> impl Iterator<Item = IpAddr> + 'h {
        let peers = match &self.ready.transport {
            Transport::Unicast { peers, .. } => peers.as_slice(),
            Transport::Multicast { .. } => &[],
        };
        peers.iter().map(|peer| peer.address)
    }

    fn holds(self, address: IpAddr) -> bool {
        self.ready.held().any(|held| held.address == address)
    }
}

impl Host {
    fn routers(&self) -> impl Iterator<Item = Router<'_>> {
        self.config.instances.iter().filter_map(|ready| self.router(ready))
    }

    fn router<'h>(&'h self, ready: &'h Instance) -> Option<Router<'h>> {
        let meant = self.written.instances.get(&ready.name)?;
        Some(Router { ready, meant })
    }

    fn named(&self, name: &str) -> Option<Router<'_>> {
        self.routers().find(|router| router.ready.name == name)
    }
}

/// What can be said about one host alone.
pub(crate) fn alone(host: &Host, diagnostics: &mut Diagnostics) {
    single::judge(host, diagnostics);
    service::judge(host, diagnostics);
    script::judge(host, diagnostics);
    group::judge(host, diagnostics);
    weight::judge(host, diagnostics);
}

/// What can be said about a host among its peers. Every finding is at a place of `host`.
pub(crate) fn among(host: &Host, others: &[Host], diagnostics: &mut Diagnostics) {
    peers::judge(host, others, diagnostics);
}
