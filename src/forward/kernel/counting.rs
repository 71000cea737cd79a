//! Octets, by whom they were answered. Connection tracking counts those of each flow, which costs an established packet
//! next to nothing (no rule sees it); what a flow had is told when it is forgotten.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use config::ready::Protocol;

use super::conntrack::{Ends, Flow};
use super::rules::Service;

/// Of the network namespace: flows that begin while it is 1 are counted.
const SWITCH: &str = "/proc/sys/net/netfilter/nf_conntrack_acct";

/// Protocol, where clients wanted to, who answered; of flows that marks have chosen only the last.
pub type Way = (Protocol, SocketAddr, SocketAddr);

/// Wherever the client wanted to, over whatever.
const ANYWHERE: (Protocol, SocketAddr) =
    (Protocol::Tcp, SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0));

/// Which flows are ours.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    all: HashSet<Way>,
    addressed: HashSet<(Protocol, SocketAddr)>,
}

/// What the flows of a backend are counted by.
pub fn ways_of(service: &Service, backend: SocketAddr) -> impl Iterator<Item = Way> {
    let addressed = service.bind.iter().map(move |bind| (service.protocol, *bind, backend));
    addressed.chain((!service.marks.is_empty()).then_some((ANYWHERE.0, ANYWHERE.1, backend)))
}

/// Port 0 of a backend is any port.
pub fn answers(backend: SocketAddr, answering: SocketAddr) -> bool {
    backend.ip() == answering.ip() && (backend.port() == 0 || backend.port() == answering.port())
}

impl Ways {
    /// Of all listeners.
    pub fn of_services<'a>(services: impl Iterator<Item = &'a Service>) -> Self {
        let mut ways = Self::default();
        for service in services {
            ways.addressed.extend(service.bind.iter().map(|bind| (service.protocol, *bind)));
            for member in &service.members {
                ways.all.extend(ways_of(service, member.address));
            }
        }
        ways
    }

    /// What a flow is counted by; `None`: it is not ours.
    pub fn of(&self, flow: &Flow) -> Option<Way> {
        let with = |answering| {
            let way = (ANYWHERE.0, ANYWHERE.1, answering);
            self.all.contains(&way).then_some(way)
        };
        if self.addressed.contains(&(flow.protocol, flow.wanted)) {
            let way = (flow.protocol, flow.wanted, flow.answering);
            return self.all.contains(&way).then_some(way);
        }
        with(flow.answering).or_else(|| with(SocketAddr::new(flow.answering.ip(), 0)))
    }
}

/// What has ended.
#[derive(Debug, Default)]
pub struct Counting {
    ends: Option<Ends>,
    ended: HashMap<Way, [u64; 2]>,
}

/// Has flows counted from now on. Whether they were not before.
///
/// # Errors
///
/// They cannot be, with what to do about it.
pub fn switch_on() -> Result<bool, String> {
    let explained = |error: io::Error| {
        format!(
            "octets are not counted ({SWITCH}: {error}): set net.netfilter.nf_conntrack_acct=1 (in a container, from outside)"
        )
    };
    if fs::read_to_string(SWITCH).map_err(explained)?.trim() != "0" {
        return Ok(false);
    }
    fs::write(SWITCH, "1").map_err(explained)?;
    Ok(true)
}

/// As it was before [`switch_on`].
pub fn switch_off() {
    let _ = fs::write(SWITCH, "0");
}

impl Counting {
    /// Begins to hear of flows that end, if it does not already.
    pub fn listen(&mut self) -> Result<(), String> {
        if self.ends.is_none() {
            let ends = Ends::listen()
                .map_err(|error| format!("octets of ended sessions are not counted: {error}"))?;
            self.ends = Some(ends);
        }
        Ok(())
    }

    /// Takes in what has ended, as far as it is ours.
    ///
    /// # Errors
    ///
    /// Some ends are missing, why, and what to do about it.
    pub fn read(&mut self, way: impl Fn(&Flow) -> Option<Way>) -> Result<(), String> {
        let Some(ends) = &mut self.ends else { return Ok(()) };
        let ended = &mut self.ended;
        let is_whole = ends.read(|flow| {
            if let Some(way) = way(flow) {
                let sum = ended.entry(way).or_default();
                (sum[0], sum[1]) = (sum[0] + flow.octets[0], sum[1] + flow.octets[1]);
            }
        });
        match is_whole {
            Ok(true) => Ok(()),
            Ok(false) => Err("the octets of some ended sessions are not counted: more ended at once than there was room for".to_owned()),
            Err(error) => Err(format!("the octets of ended sessions are not counted: {error}")),
        }
    }

    /// Octets from clients and to them, of flows that have ended.
    pub fn ended(&self, way: &Way) -> [u64; 2] {
        self.ended.get(way).copied().unwrap_or_default()
    }

    /// Forgets what nobody will ask for.
    pub fn retain(&mut self, ways: &Ways) {
        self.ended.retain(|way, _| ways.all.contains(way));
    }

    /// Hears of nothing any more.
    pub fn stop(&mut self) {
        *self = Self::default();
    }
}
