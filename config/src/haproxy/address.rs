//! Addresses of `bind` and `server` (configuration manual, 4.2; str2sa_range).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where to listen or to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub host: Host,
    pub port: Port,
}

/// Before the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Ip(IpAddr),
    Name(String),
}

/// Behind the last colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    None,
    Fixed(u16),
    /// Both included.
    Range(u16, u16),
    /// That of the client's connection, and so many more.
    Offset(i32),
}

impl Address {
    pub fn ip(&self) -> Option<IpAddr> {
        match self.host {
            Host::Ip(ip) => Some(ip),
            Host::Name(_) => None,
        }
    }
}

/// What HAProxy says of an address that it cannot use, and what to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// HAProxy does not start with it either, or this cannot be carried.
    pub code: &'static str,
    pub message: String,
    pub help: Option<&'static str>,
}

fn wrong<T>(message: String, help: Option<&'static str>) -> Result<T, Wrong> {
    Err(Wrong { code: "invalid-value", message, help })
}

/// `ADDRESS`, `ADDRESS:PORT`, `*:PORT`, `:PORT`, `NAME:PORT`, `[IPV6]:PORT`, `IPV6:PORT`, `ipv4@…`.
pub(super) fn parse(text: &str) -> Result<Address, Wrong> {
    const ONLY_IP: &str = "write ADDRESS:PORT";
    let shown: String = text.chars().take(60).collect();
    let mut rest = text;
    let mut family = None;
    if let Some((prefix, behind)) = text.split_once('@') {
        family = match prefix {
            "ipv4" | "tcp4" => Some(4),
            "ipv6" | "tcp6" => Some(6),
            "tcp" => None,
            "udp" | "udp4" | "udp6" | "quic4" | "quic6" => {
                return wrong(
                    format!("`{shown}` is no TCP address"),
                    Some("write ADDRESS:PORT; UDP is carried in TOML with `mode = \"kernel\"`"),
                );
            }
            _ => return wrong(format!("`{shown}` is no address of IP"), Some(ONLY_IP)),
        };
        rest = behind;
    } else if text.starts_with('/') {
        let message = format!("`{shown}` is a Unix socket, which cannot be carried");
        return Err(Wrong { code: "refused", message, help: Some(ONLY_IP) });
    }
    let (host, port) = match rest.rfind([':', ']']) {
        Some(index) if rest.as_bytes()[index] == b':' => (&rest[..index], Some(&rest[index + 1..])),
        _ => (rest, None),
    };
    let port = port.map_or(Ok(Port::None), |port| parse_port(port, &shown))?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let host = match bare {
        "" | "*" if family == Some(6) => Host::Ip(Ipv6Addr::UNSPECIFIED.into()),
        "" | "*" => Host::Ip(Ipv4Addr::UNSPECIFIED.into()),
        _ => match bare.parse::<IpAddr>() {
            Ok(ip) => Host::Ip(ip),
            Err(_) if is_name(bare) => Host::Name(bare.to_owned()),
            Err(_) => {
                return wrong(
                    format!("invalid address: `{}` in `{shown}`", bare.chars().take(60).collect::<String>()),
                    None,
                );
            }
        },
    };
    Ok(Address { host, port })
}

fn parse_port(text: &str, whole: &str) -> Result<Port, Wrong> {
    let invalid = |text: &str| {
        wrong(format!("invalid port `{}` in `{whole}`", text.chars().take(60).collect::<String>()), None)
    };
    let one = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    if text.is_empty() {
        return Ok(Port::None);
    }
    if let Some(number) = text.strip_prefix(['+', '-']) {
        let Some(number) = one(number) else { return invalid(text) };
        let number = i32::from(number);
        return Ok(Port::Offset(if text.starts_with('-') { -number } else { number }));
    }
    if let Some((first, last)) = text.split_once('-') {
        return match (one(first), one(last)) {
            (Some(first), Some(last)) if first > 0 && first <= last => Ok(Port::Range(first, last)),
            _ => invalid(text),
        };
    }
    one(text).map_or_else(|| invalid(text), |port| Ok(Port::Fixed(port)))
}

/// What can be a name in the DNS or in a hosts file.
fn is_name(text: &str) -> bool {
    text.len() <= 253
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && !text.starts_with(['-', '.'])
        && !text
            .split('.')
            .next_back()
            .is_some_and(|last| !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(text: &str) -> (String, Port) {
        let address = parse(text).unwrap();
        let host = match address.host {
            Host::Ip(ip) => ip.to_string(),
            Host::Name(name) => name,
        };
        (host, address.port)
    }

    #[test]
    fn addresses_are_cut_at_the_last_colon() {
        let fixed = |host: &str, port| (host.to_owned(), Port::Fixed(port));
        assert_eq!(both("*:6443"), fixed("0.0.0.0", 6443));
        assert_eq!(both(":6443"), fixed("0.0.0.0", 6443));
        assert_eq!(both(":::6443"), fixed("::", 6443));
        assert_eq!(both("[::1]:80"), fixed("::1", 80));
        assert_eq!(both("2001:db8::1:6443"), fixed("2001:db8::1", 6443));
        assert_eq!(both("ipv6@:80"), fixed("::", 80));
        assert_eq!(both("cockroach_db1:26257"), fixed("cockroach_db1", 26257));
        assert_eq!(both("10.0.0.1"), ("10.0.0.1".to_owned(), Port::None));
        assert_eq!(both("10.0.0.1:+100"), ("10.0.0.1".to_owned(), Port::Offset(100)));
        assert_eq!(both("*:15937-15939"), ("0.0.0.0".to_owned(), Port::Range(15937, 15939)));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "<VIP>:8383",
            "*:${PORT}",
            "10.0.0.1:99999",
            "10.0.0.1:<NodePort>",
            "/run/x.sock",
            "unix@x",
            "fd@3",
            "10.0.0.300:1",
            "10.0.0.1:5-3",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
