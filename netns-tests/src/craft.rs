//! Forged adverts, built here and nowhere else in the project: vipd must not judge its own packets.

use std::net::IpAddr;

/// An advert with every octet in the hand of the forger.
#[derive(Clone, Debug)]
pub struct Craft {
    /// Ethernet destination; `None`: the group's.
    pub to_mac: Option<[u8; 6]>,
    /// IP source.
    pub source: IpAddr,
    /// IP destination.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// High nibble of the first octet.
    pub version: u8,
    /// Low nibble of the first octet.
    pub kind: u8,
    /// Virtual router.
    pub vrid: u8,
    /// Priority.
    pub priority: u8,
    /// Count, if it is to lie.
    pub count: Option<u8>,
    /// Version 3: centiseconds. Version 2: authentication type and seconds.
    pub interval: u16,
    /// Virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// After the addresses. Version 2: eight octets of authentication.
    pub trailer: Vec<u8>,
    /// Changes the right checksum.
    pub spoil_checksum: u16,
    /// Changes the right checksum of the IPv4 header.
    pub spoil_header: u16,
    /// Destination that the checksum is made with, if it is to lie.
    pub summed_destination: Option<IpAddr>,
    /// Whether the checksum covers a pseudo-header. Version 2: never.
    pub pseudo_header: bool,
    /// Whether the checksum covers the trailer, though version 3 has none.
    pub sum_trailer: bool,
}

/// Sum of 16-bit words with the carry folded in (RFC 1071).
fn sum(bytes: &[u8], mut total: u32) -> u32 {
    for pair in bytes.chunks(2) {
        total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

impl Craft {
    /// A right advert from `source` to the group of its family: version 3, priority 150, 1 s.
    pub fn advert(source: IpAddr, vrid: u8, addresses: &[IpAddr]) -> Self {
        let group = if source.is_ipv4() { "224.0.0.18" } else { "ff02::12" };
        Self {
            to_mac: None,
            source,
            destination: group.parse().expect("a group"),
            ttl: 255,
            version: 3,
            kind: 1,
            vrid,
            priority: 150,
            count: None,
            interval: 100,
            addresses: addresses.to_vec(),
            trailer: Vec::new(),
            spoil_checksum: 0,
            spoil_header: 0,
            summed_destination: None,
            pseudo_header: true,
            sum_trailer: false,
        }
    }

    /// The same as version 2, without authentication.
    pub fn version_2(mut self) -> Self {
        self.version = 2;
        self.interval = 1;
        self.trailer = vec![0; 8];
        self.pseudo_header = false;
        self.sum_trailer = true;
        self
    }

    /// The same to one host alone: other hosts of the segment do not hear it.
    pub fn only_to(mut self, mac: [u8; 6]) -> Self {
        self.to_mac = Some(mac);
        self
    }

    /// The whole Ethernet frame.
    pub fn frame(&self, from_mac: [u8; 6]) -> Vec<u8> {
        let count = self.count.unwrap_or(self.addresses.len() as u8);
        let mut message = vec![self.version << 4 | self.kind, self.vrid, self.priority, count];
        message.extend(self.interval.to_be_bytes());
        message.extend([0, 0]);
        message.extend(self.addresses.iter().flat_map(|address| octets(*address)));
        let mut summed = message.clone();
        message.extend(&self.trailer);
        if self.sum_trailer {
            summed.extend(&self.trailer);
        }
        let mut start = 0;
        if self.pseudo_header {
            let length = (summed.len() as u32).to_be_bytes();
            start = sum(&octets(self.source), start);
            start = sum(&octets(self.summed_destination.unwrap_or(self.destination)), start);
            start = sum(&length, sum(&[0, 112], start));
        }
        let checksum = !(sum(&summed, start) as u16) ^ self.spoil_checksum;
        message[6..8].copy_from_slice(&checksum.to_be_bytes());

        let group_mac = match self.destination {
            IpAddr::V4(to) => [1, 0, 0x5e, to.octets()[1] & 0x7f, to.octets()[2], to.octets()[3]],
            IpAddr::V6(to) => {
                let o = to.octets();
                [0x33, 0x33, o[12], o[13], o[14], o[15]]
            }
        };
        let mut frame = self.to_mac.unwrap_or(group_mac).to_vec();
        frame.extend(from_mac);
        if self.source.is_ipv4() {
            frame.extend([0x08, 0x00]);
            let mut header = vec![0x45, 0xc0];
            header.extend(((20 + message.len()) as u16).to_be_bytes());
            header.extend([0, 1, 0, 0, self.ttl, 112, 0, 0]);
            header.extend(octets(self.source));
            header.extend(octets(self.destination));
            let checksum = !(sum(&header, 0) as u16) ^ self.spoil_header;
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            frame.extend(header);
        } else {
            frame.extend([0x86, 0xdd, 0x6c, 0, 0, 0]);
            frame.extend((message.len() as u16).to_be_bytes());
            frame.extend([112, self.ttl]);
            frame.extend(octets(self.source));
            frame.extend(octets(self.destination));
        }
        frame.extend(message);
        frame
    }
}

/// An advert that must change nothing.
#[derive(Clone, Debug)]
pub struct Forgery {
    /// Number of the vector in the protocol notes, and what is wrong with it.
    pub name: &'static str,
    /// What a receiver must not act on.
    pub craft: Craft,
    /// The daemon sees it (else the kernel throws it away before).
    pub reaches_daemon: bool,
}

/// Every kind of advert that a version 3 router must discard, out of a good one.
pub fn bad_version_3(good: &Craft, own_address: IpAddr) -> Vec<Forgery> {
    let v4 = good.source.is_ipv4();
    let mut list = Vec::new();
    let mut add = |name, reaches_daemon, change: &dyn Fn(&mut Craft)| {
        let mut craft = good.clone();
        change(&mut craft);
        list.push(Forgery { name, craft, reaches_daemon });
    };
    // With IPV6_CHECKSUM the kernel may drop a wrong checksum itself.
    add("M03/M53 checksum off by one bit", v4, &|c| c.spoil_checksum = 1);
    add("M04/M52 TTL 254", true, &|c| c.ttl = 254);
    add("M06 version 4", true, &|c| c.version = 4);
    add("M07 type 2", true, &|c| c.kind = 2);
    add("M08/M58 count 0", true, &|c| c.addresses.clear());
    add("M09 truncated", true, &|c| c.count = Some(c.addresses.len() as u8 + 1));
    add("M10 trailing octets", true, &|c| {
        c.trailer = octets(c.addresses[0]);
        c.sum_trailer = true;
    });
    add("M11/M57 trailer of 28 octets", true, &|c| {
        c.trailer = (0..28).collect();
        c.sum_trailer = !v4;
    });
    add("M14 interval 0", true, &|c| c.interval = 0);
    if v4 {
        add("M05 version 2", true, &|c| *c = c.clone().version_2());
        add("M25 IPv4 header checksum", false, &|c| c.spoil_header = 1);
        add("M28 checksum for another destination", true, &|c| c.summed_destination = Some(own_address));
    } else {
        add("M56 checksum without pseudo-header", false, &|c| c.pseudo_header = false);
    }
    list
}

/// Every kind of advert that a version 2 router must discard, out of a good one. `password`: the router
/// wants one.
pub fn bad_version_2(good: &Craft, password: Option<&str>) -> Vec<Forgery> {
    let mut list = Vec::new();
    let mut add = |name, reaches_daemon, change: &dyn Fn(&mut Craft)| {
        let mut craft = good.clone();
        change(&mut craft);
        list.push(Forgery { name, craft, reaches_daemon });
    };
    add("checksum off by one bit", true, &|c| c.spoil_checksum = 1);
    add("TTL 254", true, &|c| c.ttl = 254);
    add("M36 interval 2", true, &|c| c.interval = c.interval & 0xff00 | 2);
    add("M37 without authentication octets", true, &|c| c.trailer.clear());
    add("M39 authentication type 3", true, &|c| c.interval = 0x0301);
    add("M42 count 0", true, &|c| c.addresses.clear());
    add("M43 version 3", true, &|c| {
        c.version = 3;
        c.interval = 100;
        c.trailer.clear();
        c.pseudo_header = true;
    });
    if password.is_some() {
        add("M34 wrong password", true, &|c| c.trailer = b"wrong\0\0\0".to_vec());
        add("M35 no authentication", true, &|c| {
            c.interval = 1;
            c.trailer = vec![0; 8];
        });
    } else {
        add("M32 authentication type 1", true, &|c| {
            c.interval = 0x0101;
            c.trailer = b"s3cr3t\0\0".to_vec();
        });
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Octets that keepalived 2.2.7 sent (IP header on): version 3, IPv4, one address, 1 s.
    #[test]
    fn a_right_advert_is_what_keepalived_sends() {
        let craft = Craft::advert("192.0.2.1".parse().unwrap(), 52, &["192.0.2.100".parse().unwrap()]);
        let frame = craft.frame([2, 0, 0, 0, 0, 10]);
        assert_eq!(hex(&frame[14..]), "45c0002000010000ff701899c0000201e0000012313496010064d370c0000264");
    }

    /// The same of version 2, without authentication.
    #[test]
    fn a_right_version_2_advert_is_what_keepalived_sends() {
        let mut craft =
            Craft::advert("192.0.2.1".parse().unwrap(), 51, &["192.0.2.100".parse().unwrap()]).version_2();
        craft.priority = 100;
        let frame = craft.frame([2, 0, 0, 0, 0, 10]);
        assert_eq!(
            hex(&frame[14..]),
            "45c0002800010000ff701891c0000201e0000012213364010001b865c00002640000000000000000"
        );
    }
}
