//! Who listens on an address already: for the message that says so.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Name and pid of the process that listens where `address` would, as far as `/proc` tells.
pub fn of(address: SocketAddr) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let table = fs::read_to_string(table).ok()?;
        table.lines().skip(1).find_map(|line| inode(line, address).map(str::to_owned))
    })?;
    let wanted = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|n| n.bytes().all(|b| b.is_ascii_digit())) else { continue };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = |link: std::path::PathBuf| fs::read_link(link).is_ok_and(|l| l.as_os_str() == &*wanted);
        if descriptors.flatten().any(|descriptor| holds(descriptor.path())) {
            let comm = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", comm.trim()));
        }
    }
    None
}

/// Whether a socket listens on the port of `address` on every address of its family.
pub fn is_on_every_address(address: SocketAddr) -> bool {
    let everywhere = |line: &str| {
        let (host, port, _) = listening(line)?;
        // One of IPv6 may have IPv4 too.
        (host.is_unspecified() && port == address.port() && (host.is_ipv6() || address.is_ipv4()))
            .then_some(())
    };
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines().skip(1)).any(|line| everywhere(line).is_some())
}

/// The inode of a listening socket that is in the way of `address`, from a line of `/proc/net/tcp`.
fn inode(line: &str, address: SocketAddr) -> Option<&str> {
    let (host, port, inode) = listening(line)?;
    let in_the_way = host == address.ip()
        || host.is_unspecified()
        || (address.ip().is_unspecified() && host.is_ipv4() == address.is_ipv4());
    (in_the_way && port == address.port()).then_some(inode)
}

/// Address, port and inode of a listening socket.
fn listening(line: &str) -> Option<(IpAddr, u16, &str)> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = fields.next()?;
    if fields.nth(1)? != LISTEN {
        return None;
    }
    let (host, port) = local.split_once(':')?;
    Some((parse_address(host)?, u16::from_str_radix(port, 16).ok()?, fields.nth(5)?))
}

/// Words of 32 bits in the host's byte order, in hexadecimal digits.
fn parse_address(digits: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(digits.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    match digits.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let octets = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            let octets: [u8; 16] = octets.try_into().ok()?;
            Some(IpAddr::V6(Ipv6Addr::from(octets)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn ours() -> String {
        let comm = fs::read_to_string("/proc/self/comm").unwrap();
        format!("{} (pid {})", comm.trim(), std::process::id())
    }

    #[test]
    fn the_process_that_listens_is_named() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            assert_eq!(of(listener.local_addr().unwrap()), Some(ours()), "{address}");
        }
    }

    #[test]
    fn a_listener_on_all_addresses_is_in_the_way_of_one() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(of(SocketAddr::from(([127, 0, 0, 1], port))), Some(ours()));
    }

    #[test]
    fn nobody_is_named_where_nobody_listens() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert_eq!(of(SocketAddr::from(([127, 0, 0, 1], port))), None);
    }
}
