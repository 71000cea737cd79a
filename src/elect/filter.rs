//! A socket filter for the kernel: adverts of virtual routers that are none of ours never wake us.
//!
//! Classic BPF, the same few instructions for one VRID as for 255: the VRID selects one bit of 256.

use nix::libc;
use socket2::SockFilter;
use vrrp::AuthenticationHeader;

use super::socket::Carrier;

// linux/bpf_common.h; the classes, sizes and modes are added together.
const LDX_MSH: u16 = 0x01 | 0x10 | 0xa0; // X = 4 * (packet[k] & 0xf): length of the IPv4 header
const LD_B_IND: u16 = 0x40 | 0x10; // A = packet[X + k]
const LD_IMM: u16 = 0x00;
const LDX_MEM: u16 = 0x01 | 0x60;
const ST: u16 = 0x02;
const ALU_AND: u16 = 0x04 | 0x50;
const ALU_RSH: u16 = 0x04 | 0x70;
const ALU_RSH_X: u16 = 0x04 | 0x70 | 0x08;
const JMP_JEQ: u16 = 0x05 | 0x10;
const JMP_JA: u16 = 0x05;
const RET_A: u16 = 0x06 | 0x10;
const MISC_TAX: u16 = 0x07;
const MISC_TXA: u16 = 0x07 | 0x80;
const LDX_IMM: u16 = 0x01;
const ALU_NEG: u16 = 0x04 | 0x80;

/// Passes packets whose VRID is in `vrids` whole and drops the others.
pub fn known_vrids(carrier: Carrier, vrids: impl IntoIterator<Item = u8>) -> Vec<SockFilter> {
    let mut words = [0_u32; 8];
    for vrid in vrids {
        words[usize::from(vrid) / 32] |= 1 << (vrid % 32);
    }
    let step = |code, k| SockFilter::new(code, 0, 0, k);
    let mut program = vec![
        // IPv4 raw sockets see the IP header, IPv6 ones the message; the VRID is its second octet.
        match carrier {
            Carrier::Ipv4 | Carrier::Sealed => step(LDX_MSH, 0),
            Carrier::Ipv6 => step(LDX_IMM, 0),
        },
        match carrier {
            Carrier::Ipv4 | Carrier::Ipv6 => step(LD_B_IND, 1),
            Carrier::Sealed => step(LD_B_IND, 1 + AuthenticationHeader::LEN as u32),
        },
        step(MISC_TAX, 0),
        step(ALU_AND, 31),
        step(ST, 0), // M[0] = bit
        step(MISC_TXA, 0),
        step(ALU_RSH, 5),
    ];
    // A switch over the word: compare, load, go to the end.
    for (index, word) in words.into_iter().enumerate() {
        let after = (words.len() - 1 - index) * 3;
        program.push(SockFilter::new(JMP_JEQ, 0, 2, index as u32));
        program.push(step(LD_IMM, word));
        program.push(step(JMP_JA, after as u32));
    }
    program.extend([
        step(LDX_MEM, 0),
        step(ALU_RSH_X, 0),
        step(ALU_AND, 1),
        step(ALU_NEG, 0), // 0 drops, 0xffff_ffff passes the whole packet
        step(RET_A, 0),
    ]);
    debug_assert!(program.len() < libc::BPF_MAXINSNS as usize);
    program
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixDatagram;

    use super::*;

    /// The kernel itself runs the filter: on a Unix datagram socket, whose packets begin like ours.
    fn passes(carrier: Carrier, vrids: &[u8], packet: &[u8]) -> bool {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        let receiver = socket2::Socket::from(receiver);
        receiver.attach_filter(&known_vrids(carrier, vrids.iter().copied())).unwrap();
        receiver.set_nonblocking(true).unwrap();
        // A filtered datagram is dropped in silence, or refused; both mean that it did not pass.
        let _ = sender.send(packet);
        let mut buffer = [0; 64];
        (&receiver).read(&mut buffer).is_ok_and(|length| length == packet.len())
    }

    fn ipv4(header_words: u8, vrid: u8) -> Vec<u8> {
        let mut packet = vec![0; usize::from(header_words) * 4];
        packet[0] = 0x40 | header_words;
        packet.write_all(&[0x31, vrid, 100, 1]).unwrap();
        packet
    }

    #[test]
    fn known_vrids_pass_whole_and_others_do_not() {
        for vrid in 1..=255 {
            assert!(passes(Carrier::Ipv4, &[1, 31, 32, 51, 255, vrid], &ipv4(5, vrid)), "VRID {vrid}");
            assert!(!passes(Carrier::Ipv4, &[vrid.wrapping_add(1), vrid.wrapping_add(32)], &ipv4(5, vrid)));
        }
    }

    #[test]
    fn ip_options_are_skipped() {
        assert!(passes(Carrier::Ipv4, &[51], &ipv4(6, 51)));
        assert!(!passes(Carrier::Ipv4, &[52], &ipv4(6, 51)));
    }

    #[test]
    fn authentication_headers_are_skipped() {
        let mut packet = ipv4(5, 7);
        packet.truncate(20);
        packet.extend([0; AuthenticationHeader::LEN]);
        packet.extend([0x21, 51, 100, 1]);
        assert!(passes(Carrier::Sealed, &[51], &packet));
        assert!(!passes(Carrier::Sealed, &[7], &packet));
    }

    #[test]
    fn ipv6_sockets_see_the_message_alone() {
        assert!(passes(Carrier::Ipv6, &[51], &[0x31, 51, 100, 1]));
        assert!(!passes(Carrier::Ipv6, &[50], &[0x31, 51, 100, 1]));
    }
}
