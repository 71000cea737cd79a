//! Times and addresses as nginx reads them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// 136 years: what takes longer has no end either.
const LONGEST: Duration = Duration::from_secs(1 << 32);

/// A time; a number alone is seconds. Parts add up: `1h30m`.
pub(super) fn time(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().ok().filter(|number| *number <= 1 << 40)?;
        rest = &rest[digits..];
        let unit = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let milliseconds = match &rest[..unit] {
            "ms" => 1,
            "" | "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            "M" => 2_592_000_000,
            "y" => 31_536_000_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(milliseconds)?))?;
        rest = &rest[unit..];
    }
    Some(total.min(LONGEST))
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Ip(SocketAddr),
    Name(String, u16),
}

/// What is wrong with an address.
pub(super) fn address(text: &str) -> Result<Address, String> {
    let shown = super::parser::shown(text);
    if text.starts_with("unix:") {
        return Err(format!("`{shown}` is a Unix socket"));
    }
    let Some((host, port)) =
        text.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.starts_with('['))
    else {
        return Err(format!("no port in `{shown}`"));
    };
    let Some(port) = port.parse::<u16>().ok().filter(|port| *port > 0) else {
        return Err(format!("invalid port in `{shown}`"));
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(Address::Ip(SocketAddr::new(ip, port)));
    }
    let is_name = !bare.is_empty()
        && bare.len() <= 253
        && bare.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !is_name {
        return Err(format!("`{shown}` is no address"));
    }
    Ok(Address::Name(bare.to_owned(), port))
}

/// Ports from one to another, both included, at most so many.
const MOST_PORTS: usize = 1024;

/// What [`listen`] gives; of `8000-8010`, with or without an address, each of them.
pub(super) fn listens(text: &str) -> Result<Vec<SocketAddr>, String> {
    let start = text.rfind([':', ']']).map_or(0, |at| at + 1);
    let (address, ports) = text.split_at(start);
    let Some((first, last)) = ports.split_once('-').filter(|_| !text.starts_with("unix:")) else {
        return listen(text).map(|one| vec![one]);
    };
    let shown = super::parser::shown(text);
    let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else {
        return Err(format!("invalid ports in `{shown}`"));
    };
    if first > last {
        return Err(format!("`{shown}` ends before it begins"));
    }
    if usize::from(last - first) >= MOST_PORTS {
        return Err(format!("`{shown}` are more than {MOST_PORTS} ports"));
    }
    (first..=last).map(|port| listen(&format!("{address}{port}"))).collect()
}

/// `PORT`, `ADDRESS:PORT`, `*:PORT`, `[::]:PORT`.
pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    if let Ok(port) = text.parse::<u16>() {
        return if port > 0 { Ok(SocketAddr::new(any, port)) } else { Err("invalid port 0".to_owned()) };
    }
    if let Some(port) = text.strip_prefix("*:") {
        return listen(port);
    }
    if text == "[::]" {
        return Err(format!("no port in {}", IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
    }
    match address(text)? {
        Address::Ip(address) => Ok(address),
        Address::Name(name, port) if name == "localhost" => {
            Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))
        }
        Address::Name(..) => {
            Err(format!("`{}` is a name: a listener is bound to an address", super::parser::shown(text)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_without_a_unit() {
        for (text, seconds) in [("10", 10), ("10s", 10), ("10m", 600), ("1h30m", 5400), ("1d", 86_400)] {
            assert_eq!(time(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(time("142949672960s"), Some(LONGEST));
        assert_eq!(time("100ms"), Some(Duration::from_millis(100)));
        for wrong in ["", "s", "10x", "-1", "99999999999999999999"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_range_is_each_of_its_ports() {
        let ports = |text| listens(text).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(ports("587-588"), Ok(vec!["0.0.0.0:587".to_owned(), "0.0.0.0:588".to_owned()]));
        assert_eq!(ports("[::1]:1-2"), Ok(vec!["[::1]:1".to_owned(), "[::1]:2".to_owned()]));
        assert_eq!(ports("25"), Ok(vec!["0.0.0.0:25".to_owned()]));
        for wrong in ["2-1", "1-x", "0-1", "1-65535", "unix:/run/a-b"] {
            assert!(listens(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_port_alone_is_every_address_of_ipv4() {
        assert_eq!(listen("6443"), Ok("0.0.0.0:6443".parse().unwrap()));
        assert_eq!(listen("*:6443"), Ok("0.0.0.0:6443".parse().unwrap()));
        assert_eq!(listen("[::]:6443"), Ok("[::]:6443".parse().unwrap()));
        assert_eq!(listen("127.0.0.1:6443"), Ok("127.0.0.1:6443".parse().unwrap()));
        for wrong in ["unix:/x", "0", "70000", "example.org:80", "[::]", "::1:80"] {
            assert!(listen(wrong).is_err(), "{wrong}");
        }
    }
}
