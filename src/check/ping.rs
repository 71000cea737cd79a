//! ICMP and ICMPv6 echo (RFC 792, RFC 4443 §4).
//!
//! By a ping socket, which needs no privilege where `net.ipv4.ping_group_range` lets us, otherwise by a raw one
//! (CAP_NET_RAW).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use config::ready::{Dial, Target};
use pnet::packet::icmp::{self, IcmpTypes, echo_request::MutableEchoRequestPacket};
use pnet::packet::icmpv6::{Icmpv6Types, echo_request as echo_request_v6};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::Spoken;
use super::dial::{Dialer, Limit};
use super::schedule::{BoxFuture, Outcome, Probing, draw};
use super::udp::{ATTEMPTS, exchange};

/// Type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;
/// Behind the header; a reply brings it back.
const TOKEN: usize = 16;

/// Pings one host.
#[derive(Debug)]
pub(super) struct PingCheck {
    dialer: Dialer,
}

impl PingCheck {
    pub(super) fn new(host: &str, dial: &Dial) -> Self {
        // The port means nothing here.
        let target = Target { host: host.to_owned(), port: 1 };
        Self { dialer: Dialer::new(&target, &Dial { source_port: None, ..dial.clone() }) }
    }

    async fn ask(&mut self, timeout: Duration) -> Result<String, String> {
        let address = self.dialer.addresses(Limit::new(timeout)).await?[0];
        let socket = self.socket(address)?;
        let mut token = [0; TOKEN];
        token[..8].copy_from_slice(&draw().to_ne_bytes());
        token[8..].copy_from_slice(&draw().to_ne_bytes());
        let request = request(address.ip(), &token);
        let start = tokio::time::Instant::now();
        let heard = |reply: &[u8]| is_reply(reply, address.ip(), &token).then_some(());
        match exchange(&socket, &request, ATTEMPTS, timeout, heard).await? {
            Some(()) => {
                let milliseconds = start.elapsed().as_secs_f64() * 1000.0;
                Ok(format!("answered in {milliseconds:.1} ms"))
            }
            None => Err(format!("no answer after {}", Spoken(timeout))),
        }
    }

    fn socket(&self, address: SocketAddr) -> Result<UdpSocket, String> {
        let (domain, protocol) = match address {
            SocketAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            SocketAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::DGRAM, Some(protocol))
            .or_else(|_| Socket::new(domain, Type::RAW, Some(protocol)))
            .map_err(|error| {
                format!(
                    "no socket for ICMP: {}; CAP_NET_RAW is needed, or a group in net.ipv4.ping_group_range",
                    Spoken(&error)
                )
            })?;
        let failed = |error: std::io::Error| Spoken(&error).to_string();
        self.dialer.mark(&socket)?;
        if let Some(local) = self.dialer.local(address) {
            socket
                .bind(&local.into())
                .map_err(|error| format!("source {} cannot be used: {}", local.ip(), Spoken(&error)))?;
        }
        let remote = SocketAddr::new(address.ip(), 0);
        socket.connect(&remote.into()).map_err(|error| super::tcp::connect_failure(&error))?;
        socket.set_nonblocking(true).map_err(failed)?;
        UdpSocket::from_std(socket.into()).map_err(failed)
    }
}

impl Probing for PingCheck {
    fn probe(&mut self, timeout: Duration) -> BoxFuture<'_, Outcome> {
        Box::pin(async move { Outcome::from(self.ask(timeout).await) })
    }
}

/// An echo request. A ping socket puts in its own identifier; the checksum of ICMPv6 is the kernel's.
fn request(to: IpAddr, token: &[u8; TOKEN]) -> Vec<u8> {
    let mut octets = vec![0; HEADER + TOKEN];
    let identifier = u16::from_ne_bytes([token[0], token[1]]);
    if to.is_ipv4() {
        if let Some(mut packet) = MutableEchoRequestPacket::new(&mut octets) {
            packet.set_icmp_type(IcmpTypes::EchoRequest);
            packet.set_identifier(identifier);
            packet.set_sequence_number(1);
            packet.set_payload(token);
        }
        if let Some(mut packet) = icmp::MutableIcmpPacket::new(&mut octets) {
            packet.set_checksum(icmp::checksum(&packet.to_immutable()));
        }
    } else if let Some(mut packet) = echo_request_v6::MutableEchoRequestPacket::new(&mut octets) {
        packet.set_icmpv6_type(Icmpv6Types::EchoRequest);
        packet.set_identifier(identifier);
        packet.set_sequence_number(1);
        packet.set_payload(token);
    }
    octets
}

/// An echo reply that brings our token back; a raw IPv4 socket gives the IP header too, and our own requests to
/// ourselves.
fn is_reply(octets: &[u8], from: IpAddr, token: &[u8; TOKEN]) -> bool {
    let message = match (from, octets.first()) {
        (IpAddr::V4(_), Some(first @ 0x45..=0x4f)) => octets.get(usize::from(first & 0x0f) * 4..),
        _ => Some(octets),
    };
    let reply = if from.is_ipv4() { IcmpTypes::EchoReply.0 } else { Icmpv6Types::EchoReply.0 };
    message.is_some_and(|message| message.first() == Some(&reply) && message.ends_with(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_host_answers() {
        for host in ["127.0.0.1", "::1"] {
            let outcome = PingCheck::new(host, &Dial::default()).probe(Duration::from_secs(20)).await;
            assert!(outcome.success && outcome.detail.starts_with("answered in "), "{host}: {outcome:?}");
        }
    }

    /// RFC 792: type, code, checksum, identifier, sequence number.
    #[test]
    fn a_request_has_the_form_of_the_rfc() {
        let octets = request([127, 0, 0, 1].into(), &[0; TOKEN]);
        // Type 8, code 0, the sum's complement of 0x0800 + 1.
        assert_eq!(octets[..HEADER], [8, 0, 0xf7, 0xfe, 0, 0, 0, 1]);
        assert_eq!(request([0u16; 8].into(), &[0; TOKEN])[..2], [128, 0]);
    }

    #[test]
    fn only_a_reply_with_our_token_is_one() {
        let (v4, token) = ([127, 0, 0, 1].into(), [7; TOKEN]);
        let mut reply = request(v4, &token);
        assert!(!is_reply(&reply, v4, &token), "our own request");
        reply[0] = 0;
        assert!(is_reply(&reply, v4, &token));
        assert!(!is_reply(&reply, v4, &[8; TOKEN]));
        let with_header = [&[0x45; 20], reply.as_slice()].concat();
        assert!(is_reply(&with_header, v4, &token));
        for length in 0..reply.len() {
            assert!(!is_reply(&reply[..length], v4, &token));
        }
    }
}
