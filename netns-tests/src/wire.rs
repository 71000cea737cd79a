//! What was on the wire: `tcpdump` at the bridge, and a small reader of what it wrote.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::lab::Lab;
use crate::process::Process;
use crate::{Outcome, Stamp, ensure};

/// A running capture of VRRP, ARP and neighbour discovery at the bridge.
#[derive(Debug)]
pub struct Capture {
    file: PathBuf,
    read: Mutex<Read>,
    _tcpdump: Process,
}

/// What was read of the growing file so far.
#[derive(Debug, Default)]
struct Read {
    offset: u64,
    adverts: Vec<Advert>,
    announcements: Vec<Announcement>,
}

/// One frame, from the Ethernet header on.
struct Frame {
    at: Stamp,
    bytes: Vec<u8>,
}

/// One VRRP advert.
#[derive(Clone, Debug, PartialEq)]
pub struct Advert {
    /// When the bridge had it.
    pub at: Stamp,
    /// Ethernet source.
    pub mac: String,
    /// IP source.
    pub source: IpAddr,
    /// IP destination.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// 2 or 3.
    pub version: u8,
    /// Virtual router.
    pub vrid: u8,
    /// 0 when the sender gives up.
    pub priority: u8,
    /// As it says.
    pub interval: Duration,
    /// Virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// Length of the whole frame.
    pub length: usize,
}

/// A gratuitous ARP, or an unsolicited neighbour advertisement.
#[derive(Clone, Debug, PartialEq)]
pub struct Announcement {
    /// When the bridge had it.
    pub at: Stamp,
    /// Ethernet source.
    pub mac: String,
    /// Whose place it announces.
    pub address: IpAddr,
}

impl Capture {
    /// Starts, and returns when frames are taken. Frames of the stranger are left out: they are forged.
    pub fn start(lab: &Lab) -> Self {
        let file = lab.bridge.directory.join("bridge.pcap");
        let mut command = lab.bridge.command("tcpdump");
        command.args(["-i", "br0", "-n", "-U", "--immediate-mode", "-s", "2000", "-B", "8192"]);
        command.args(["--time-stamp-precision=nano", "-w"]).arg(&file);
        command.args(["-Z", "root"]);
        command.arg(format!(
            "not ether src {} and (ip proto 112 or ip6 proto 112 or arp or (icmp6 and ip6[40] == 136))",
            lab.stranger.mac()
        ));
        let mut tcpdump =
            Process::start(command, &lab.bridge.directory.join("tcpdump.log")).expect("tcpdump starts");
        tcpdump
            .wait_for_output("listening on", Duration::from_secs(10))
            .unwrap_or_else(|error| panic!("{}", error.text));
        Self { file, read: Mutex::default(), _tcpdump: tcpdump }
    }

    /// Reads what is new, and gives what `look` makes of all there is.
    fn look<T>(&self, look: impl FnOnce(&Read) -> T) -> T {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let (frames, offset) = read_pcap(&self.file, read.offset);
        read.offset = offset;
        read.adverts.extend(frames.iter().filter_map(Advert::read));
        read.announcements.extend(frames.iter().filter_map(Announcement::read));
        look(&read)
    }

    /// All adverts so far.
    pub fn adverts(&self) -> Vec<Advert> {
        self.look(|read| read.adverts.clone())
    }

    /// Adverts from this address after this time.
    pub fn adverts_of(&self, source: IpAddr, after: Stamp) -> Vec<Advert> {
        self.look(|read| {
            let mine = read.adverts.iter().filter(|advert| advert.source == source && advert.at > after);
            mine.cloned().collect()
        })
    }

    /// All announcements so far.
    pub fn announcements(&self) -> Vec<Announcement> {
        self.look(|read| read.announcements.clone())
    }

    /// Gives every frame to the independent checker; each advert must be right in all that it sums.
    pub fn check(&self, message_only: bool) -> Outcome {
        let wanted = self.adverts().len();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/check_pcap.py");
        let output = std::process::Command::new("python3").arg(script).arg(&self.file).output();
        let output = output.map_err(|error| format!("python3: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure(output.status.success(), || {
            format!("check_pcap.py: {}", String::from_utf8_lossy(&output.stderr))
        })?;
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(" vrid=")).collect();
        ensure(lines.len() >= wanted, || format!("check_pcap.py saw {} of {wanted} adverts", lines.len()))?;
        for line in lines {
            let rules = line.split(['[', ']']).nth(1).unwrap_or_default();
            let rule = if line.contains(" v2 ") || message_only { "msg" } else { "pseudo" };
            ensure(rules.split(' ').any(|word| word == rule) && !line.contains("BAD"), || {
                format!("check_pcap.py wants rule {rule}: {line}")
            })?;
        }
        Ok(())
    }
}

/// Frames of a classic pcap file from `offset` on (0: its beginning), whole ones only since the file may
/// still be growing; and where to go on reading.
fn read_pcap(file: &Path, offset: u64) -> (Vec<Frame>, u64) {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|mut file| {
        file.seek(SeekFrom::Start(offset))?;
        file.read_to_end(&mut bytes)
    });
    let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let mut at = 0;
    if offset == 0 {
        // Our tcpdump was asked for nanoseconds.
        if read.is_err() || word(0) != Some(0xa1b2_3c4d) {
            return (Vec::new(), 0);
        }
        at = 24;
    }
    let mut frames = Vec::new();
    while let (Some(seconds), Some(part), Some(length)) = (word(at), word(at + 4), word(at + 8)) {
        let Some(frame) = bytes.get(at + 16..at + 16 + length as usize) else { break };
        frames.push(Frame { at: Duration::new(seconds.into(), part), bytes: frame.to_vec() });
        at += 16 + length as usize;
    }
    (frames, offset + at as u64)
}

fn mac(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

fn ipv4(bytes: &[u8]) -> Option<IpAddr> {
    Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?))
}

fn ipv6(bytes: &[u8]) -> Option<IpAddr> {
    Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?))
}

impl Advert {
    /// The advert in a frame, if it is one. Says nothing about its checksums.
    fn read(frame: &Frame) -> Option<Self> {
        let b = &frame.bytes;
        let (source, destination, ttl, message, width) = match b.get(12..14)? {
            [0x08, 0x00] => {
                let header = usize::from(b.get(14)? & 15) * 4;
                let total = usize::from(u16::from_be_bytes([*b.get(16)?, *b.get(17)?]));
                if *b.get(23)? != 112 {
                    return None;
                }
                (ipv4(b.get(26..30)?)?, ipv4(b.get(30..34)?)?, b[22], b.get(14 + header..14 + total)?, 4)
            }
            [0x86, 0xdd] => {
                let length = usize::from(u16::from_be_bytes([*b.get(18)?, *b.get(19)?]));
                if *b.get(20)? != 112 {
                    return None;
                }
                (ipv6(b.get(22..38)?)?, ipv6(b.get(38..54)?)?, b[21], b.get(54..54 + length)?, 16)
            }
            _ => return None,
        };
        let version = message.first()? >> 4;
        let interval = if version == 2 {
            Duration::from_secs((*message.get(5)?).into())
        } else {
            10 * Duration::from_millis(
                (u16::from_be_bytes([*message.get(4)?, *message.get(5)?]) & 0xfff).into(),
            )
        };
        let count = usize::from(*message.get(3)?);
        let addresses = message.get(8..8 + count * width)?.chunks(width);
        let addresses =
            addresses.filter_map(|chunk| if width == 4 { ipv4(chunk) } else { ipv6(chunk) }).collect();
        Some(Self {
            at: frame.at,
            mac: mac(&b[6..12]),
            source,
            destination,
            ttl,
            version,
            vrid: message[1],
            priority: message[2],
            interval,
            addresses,
            length: b.len(),
        })
    }
}

impl Announcement {
    fn read(frame: &Frame) -> Option<Self> {
        let b = &frame.bytes;
        let address = match b.get(12..14)? {
            // Sender and target address are the same.
            [0x08, 0x06] if b.get(28..32)? == b.get(38..42)? => ipv4(&b[28..32])?,
            // To all nodes; the target.
            [0x86, 0xdd] if *b.get(20)? == 58 && *b.get(54)? == 136 => {
                if ipv6(b.get(38..54)?)? != IpAddr::from(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)) {
                    return None;
                }
                ipv6(b.get(62..78)?)?
            }
            _ => return None,
        };
        (address != IpAddr::from(Ipv4Addr::UNSPECIFIED)).then(|| Self {
            at: frame.at,
            mac: mac(&b[6..12]),
            address,
        })
    }
}
