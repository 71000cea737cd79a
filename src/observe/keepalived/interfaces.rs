//! `Interfaces` of the data dump: every link of the host.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;

use config::ready::{Config, Family};
use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::net::if_::InterfaceFlags;

use super::{Page, Picture, delays, words};
use crate::observe::event::State;

/// `ARPHRD_ETHER`, `ARPHRD_LOOPBACK`
const ETHERNET: u16 = 1;
const LOOPBACK: u16 = 772;

/// A link as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// `IFF_*`
    pub flags: InterfaceFlags,
    /// `ARPHRD_*`
    pub kind: u16,
    /// Hardware address; `None` for the loopback.
    pub mac: Option<[u8; 6]>,
    /// Largest packet in octets.
    pub mtu: Option<u32>,
    /// In the kernel's order.
    pub ipv4: Vec<Ipv4Addr>,
    /// Link-local ones.
    pub ipv6: Vec<Ipv6Addr>,
    /// The host forwards IPv6 there: neighbour advertisements carry the router flag.
    pub is_router: bool,
}

/// All links of this network namespace, by index. It asks the kernel, so it may take milliseconds.
///
/// # Errors
/// From the kernel.
pub fn read() -> io::Result<Vec<Interface>> {
    let mut interfaces: Vec<Interface> = Vec::new();
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok();
    for entry in getifaddrs()? {
        let Some(address) = entry.address else { continue };
        if let Some(link) = address.as_link_addr() {
            let forwarding = format!("/proc/sys/net/ipv6/conf/{}/forwarding", entry.interface_name);
            interfaces.push(Interface {
                index: u32::try_from(link.ifindex()).unwrap_or(0),
                flags: entry.flags,
                kind: link.hatype(),
                mac: link.addr().filter(|_| link.hatype() != LOOPBACK),
                mtu: socket.as_ref().and_then(|socket| mtu(socket, &entry.interface_name)),
                ipv4: Vec::new(),
                ipv6: Vec::new(),
                is_router: std::fs::read_to_string(forwarding).is_ok_and(|text| text.trim() != "0"),
                name: entry.interface_name,
            });
            continue;
        }
        // An alias has the name of its label.
        let name = entry.interface_name.split(':').next().unwrap_or_default();
        let Some(interface) = interfaces.iter_mut().find(|one| one.name == name) else { continue };
        if let Some(v4) = address.as_sockaddr_in() {
            interface.ipv4.push(v4.ip());
        } else if let Some(v6) = address.as_sockaddr_in6()
            && v6.ip().is_unicast_link_local()
        {
            interface.ipv6.push(v6.ip());
        }
    }
    interfaces.sort_by_key(|interface| interface.index);
    Ok(interfaces)
}

fn mtu(socket: &std::net::UdpSocket, name: &str) -> Option<u32> {
    // SAFETY: an `ifreq` is plain numbers; the name is copied with a zero behind it; the kernel fills in `ifru_mtu`.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        let room = request.ifr_name.len() - 1;
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(room)) {
            *to = from as libc::c_char;
        }
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) < 0 {
            return None;
        }
        u32::try_from(request.ifr_ifru.ifru_mtu).ok()
    }
}

/// Addresses that are no link's own.
fn ours(config: &Config) -> HashSet<IpAddr> {
    let instances = config.instances.iter().flat_map(|one| one.held());
    let statics = config.static_addresses.iter().map(|one| &one.address);
    instances.chain(statics).map(|address| address.address).collect()
}

pub(super) fn section(page: &mut Page, picture: &Picture<'_>) {
    let ours = ours(picture.config);
    for (index, one) in picture.interfaces.iter().enumerate() {
        if index == 0 {
            page.section("Interfaces");
        }
        interface(page, picture, one, &ours);
    }
}

fn interface(page: &mut Page, picture: &Picture<'_>, one: &Interface, ours: &HashSet<IpAddr>) {
    page.line(format!(" Name = {}", one.name));
    page.line(format!("   index = {}", one.index));
    addresses(page, "IPv4", one.ipv4.iter().map(|address| IpAddr::V4(*address)), ours);
    addresses(page, "IPv6", one.ipv6.iter().map(|address| IpAddr::V6(*address)), ours);
    if let Some(mac) = one.mac {
        let text = |mac: [u8; 6]| mac.map(|octet| format!("{octet:02x}")).join(":");
        page.line(format!("   MAC = {}", text(mac)));
        page.line(format!("   MAC broadcast = {}", text([0xff; 6])));
    }
    page.line(format!("   State = {}", state(one.flags)));
    let up = one.flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING);
    page.line(format!("   Seen up = {}", u8::from(up)));
    page.line("   Delayed state change running = false");
    let delay = picture.config.link_delays.iter().find(|delay| delay.interface == one.name);
    let (up, down) = delay.map_or((0, 0), |delay| (delay.up.as_micros(), delay.down.as_micros()));
    page.line(format!("   Up debounce timer = {up}us"));
    page.line(format!("   Down debounce timer = {down}us"));
    page.line(format!("   MTU = {}", one.mtu.unwrap_or(0)));
    match one.kind {
        LOOPBACK => page.line("   HW Type = LOOPBACK"),
        ETHERNET => page.line("   HW Type = ETHERNET"),
        other => page.line(format!("   HW Type = UNKNOWN ({other})")),
    }
    page.line("   NIC netlink status update");
    delays::of_interface(page, picture.config, &one.name);
    page.line("   Reset ARP config counter 0");
    page.line("   Original arp_ignore 0");
    page.line("   Original arp_filter 0");
    page.line("   Original promote_secondaries 0");
    page.line("   Reset promote_secondaries counter 0");
    if let Some(when) = neighbours_told(picture, one) {
        let not = if one.is_router { "" } else { "Not " };
        let (date, year) = words::date(when);
        let stamp = words::stamp(when);
        let micros = stamp.split('.').nth(1).unwrap_or_default();
        page.line(format!("   {not}IPv6 forwarding. Last checked {stamp} ({date} {year}.{micros})"));
    }
    tracking(page, picture, &one.name);
}

/// Since when neighbour advertisements go out there.
fn neighbours_told(picture: &Picture<'_>, one: &Interface) -> Option<std::time::SystemTime> {
    let there = picture.instances().filter(|(config, status)| {
        status.state == State::Active && config.family == Family::Ipv6 && config.interface == one.name
    });
    there.map(|(_, status)| status.since).max()
}

fn addresses(page: &mut Page, family: &str, all: impl Iterator<Item = IpAddr>, ours: &HashSet<IpAddr>) {
    let mut own = all.filter(|address| !ours.contains(address));
    match own.next() {
        Some(first) => page.line(format!("   {family} address = {first}")),
        None => page.line(format!("   {family} address = (none)")),
    }
    for (index, address) in own.enumerate() {
        if index == 0 {
            page.line(format!("   Additional {family} addresses :"));
        }
        page.line(format!("     {address}"));
    }
}

fn state(flags: InterfaceFlags) -> String {
    let not = |flag| if flags.contains(flag) { "" } else { "not " };
    let mut text = format!("{}UP, {}RUNNING", not(InterfaceFlags::IFF_UP), not(InterfaceFlags::IFF_RUNNING));
    let words = [
        (!flags.contains(InterfaceFlags::IFF_BROADCAST), ", no broadcast"),
        (flags.contains(InterfaceFlags::IFF_LOOPBACK), ", loopback"),
        (flags.contains(InterfaceFlags::IFF_POINTOPOINT), ", point to point"),
        (flags.contains(InterfaceFlags::IFF_NOARP), ", no arp"),
        (!flags.contains(InterfaceFlags::IFF_MULTICAST), ", no multicast"),
    ];
    words.iter().filter(|(is, _)| *is).for_each(|(_, word)| text.push_str(word));
    text
}

fn tracking(page: &mut Page, picture: &Picture<'_>, name: &str) {
    let mut first = true;
    for instance in &picture.config.instances {
        let group = picture.config.sync_groups.iter().find(|group| group.members.contains(&instance.name));
        let by_group = group.into_iter().flat_map(|group| &group.track_interfaces);
        let track = instance.track_interfaces.iter().chain(by_group).find(|track| track.interface == name);
        if let Some(track) = track {
            if first {
                page.line("   Tracking VRRP instances :");
                first = false;
            }
            page.line(format!("     {}, weight {}", instance.name, words::weight(track.effect)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the dump of keepalived 2.2.7.
    #[test]
    fn the_loopback_is_described_as_keepalived_does() {
        let lo = read().unwrap().into_iter().find(|one| one.name == "lo").unwrap();
        assert_eq!((lo.kind, lo.mac, lo.mtu), (LOOPBACK, None, Some(65536)));
        let flags = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING | InterfaceFlags::IFF_LOOPBACK;
        assert_eq!(state(flags), "UP, RUNNING, no broadcast, loopback, no multicast");
        assert_eq!(
            state(InterfaceFlags::IFF_BROADCAST | InterfaceFlags::IFF_MULTICAST),
            "not UP, not RUNNING"
        );
    }
}
