//! What was on the wire: a packet socket at the bridge, and a small reader of adverts and announcements.
//!
//! Not `tcpdump`: it insists on changing its user, which under `unshare -Urn` it cannot.

use std::fs::File;
use std::io::{self, IoSliceMut, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::lab::Lab;
use crate::observer::Worker;
use crate::{Outcome, Stamp, ensure};

/// A running capture of VRRP, ARP and neighbour discovery at the bridge. Frames of the stranger are left
/// out: they are forged.
#[derive(Debug)]
pub struct Capture {
    file: PathBuf,
    seen: Arc<Mutex<Seen>>,
    _worker: Worker,
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Seen {
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
    /// Starts, and returns when frames are taken.
    ///
    /// # Panics
    ///
    /// When there is no right to capture, or no place for the file.
    pub fn start(lab: &Lab) -> Self {
        Self::at(lab, "br0")
    }

    /// The same at another bridge of the lab's.
    ///
    /// # Panics
    ///
    /// As [`Capture::start`].
    pub fn at(lab: &Lab, bridge: &'static str) -> Self {
        let name = if bridge == "br0" { "bridge" } else { bridge };
        let file = lab.bridge.directory.join(format!("{name}.pcap"));
        let mut pcap = PcapWriter::create(&file).expect("the lab's directory is ours");
        let socket =
            lab.bridge.inside(|| open(bridge, lab.stranger.number)).expect("a packet socket at the bridge");
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let shared = seen.clone();
        let worker = Worker::start(move |stop| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let frame = match receive(&socket) {
                    Ok(frame) => frame,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => panic!("the capture ended: {error}"),
                };
                let mut seen = shared.lock().unwrap_or_else(PoisonError::into_inner);
                seen.adverts.extend(Advert::read(&frame));
                seen.announcements.extend(Announcement::read(&frame));
                pcap.add(&frame).expect("the lab's directory is ours");
            }
        });
        Self { file, seen, _worker: worker }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All adverts so far.
    pub fn adverts(&self) -> Vec<Advert> {
        self.seen().adverts.clone()
    }

    /// Adverts from this address after this time.
    pub fn adverts_of(&self, source: IpAddr, after: Stamp) -> Vec<Advert> {
        let seen = self.seen();
        let mine = seen.adverts.iter().filter(|advert| advert.source == source && advert.at > after);
        mine.cloned().collect()
    }

    /// Every frame so far, from the Ethernet header on.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        let file = std::fs::read(&self.file).expect("the capture's own file");
        let mut rest = file.get(24..).unwrap_or_default();
        let mut frames = Vec::new();
        while let Some((head, behind)) = rest.split_at_checked(16) {
            let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
            // The last one may be on its way.
            let Some((frame, behind)) = behind.split_at_checked(length) else { break };
            frames.push(frame.to_vec());
            rest = behind;
        }
        frames
    }

    /// All announcements so far.
    pub fn announcements(&self) -> Vec<Announcement> {
        self.seen().announcements.clone()
    }

    /// Gives every frame to the independent checker; each advert must be right in all that it sums.
    pub fn check(&self, message_only: bool) -> Outcome {
        let wanted = self.adverts().len();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/check_pcap.py");
        let output = std::process::Command::new("python3")
            .arg(script)
            .args(["--ah-key", AH_KEY])
            .arg(&self.file)
            .output();
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

/// Password of every story with authentication headers.
pub const AH_KEY: &str = "s3cr3t";
/// IP protocol of such adverts.
const AUTHENTICATION_HEADER: u8 = 51;

/// Writes a classic pcap file with nanoseconds.
struct PcapWriter {
    file: File,
}

impl PcapWriter {
    fn create(path: &Path) -> io::Result<Self> {
        let mut file = File::create(path)?;
        let words: [u32; 6] = [0xa1b2_3c4d, 4 << 16 | 2, 0, 0, 65_535, 1];
        file.write_all(&words.map(u32::to_le_bytes).concat())?;
        Ok(Self { file })
    }

    fn add(&mut self, frame: &Frame) -> io::Result<()> {
        let length = frame.bytes.len() as u32;
        let words = [frame.at.as_secs() as u32, frame.at.subsec_nanos(), length, length];
        self.file.write_all(&[&words.map(u32::to_le_bytes).concat()[..], &frame.bytes].concat())
    }
}

/// A packet socket on `br0` of the calling thread's namespace that hears what the bridge forwards.
fn open(bridge: &str, stranger: u8) -> io::Result<OwnedFd> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};
    // Without a protocol it hears nothing until it is bound, so that the filter is there first.
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &nix::sys::time::TimeVal::new(0, 100_000))?;
    setsockopt(&socket, sockopt::RcvBuf, &(8 << 20))?;
    let index = nix::net::if_::if_nametoindex(bridge)?;
    let mut filter = filter(stranger);
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    let membership = libc::packet_mreq {
        mr_ifindex: index as i32,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    // SAFETY: zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index as i32;
    // SAFETY: every structure lives through its call and has the length that is said.
    let results = unsafe {
        [
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                size_of_val(&program) as u32,
            ),
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_ADD_MEMBERSHIP,
                (&raw const membership).cast(),
                size_of_val(&membership) as u32,
            ),
            libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as u32),
        ]
    };
    if results.contains(&-1) { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

/// VRRP, ARP and neighbour advertisements, unless the source MAC address ends with the stranger's number.
/// A flood must cost the capture nothing.
fn filter(stranger: u8) -> [libc::sock_filter; 15] {
    const WORD: u16 = 0x20;
    const HALF: u16 = 0x28;
    const BYTE: u16 = 0x30;
    const EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    [
        step(WORD, 8, 0, 0),
        step(EQUAL, stranger.into(), 12, 0),
        step(HALF, 12, 0, 0),
        step(EQUAL, 0x0806, 9, 0),
        step(EQUAL, 0x0800, 0, 3),
        step(BYTE, 23, 0, 0),
        step(EQUAL, 112, 6, 0),
        step(EQUAL, AUTHENTICATION_HEADER.into(), 5, 6),
        step(EQUAL, 0x86dd, 0, 5),
        step(BYTE, 20, 0, 0),
        step(EQUAL, 112, 2, 0),
        step(EQUAL, 58, 0, 2),
        // The type of ICMPv6 is judged by the reader.
        step(BYTE, 54, 0, 0),
        step(RETURN, 65_535, 0, 0),
        step(RETURN, 0, 0, 0),
    ]
}

/// The next frame with the kernel's time of it.
fn receive(socket: &OwnedFd) -> io::Result<Frame> {
    let mut bytes = [0; 9000];
    let mut space = nix::cmsg_space!(nix::sys::time::TimeSpec);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())?;
    let stamp = message.cmsgs()?.find_map(|part| match part {
        ControlMessageOwned::ScmTimestampns(at) => {
            Some(Duration::new(at.tv_sec() as u64, at.tv_nsec() as u32))
        }
        _ => None,
    });
    let (length, at) = (message.bytes, stamp.unwrap_or_else(crate::now));
    Ok(Frame { at, bytes: bytes[..length].to_vec() })
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
                let sealed = match *b.get(23)? {
                    112 => 0,
                    AUTHENTICATION_HEADER => 24,
                    _ => return None,
                };
                let message = b.get(14 + header + sealed..14 + total)?;
                (ipv4(b.get(26..30)?)?, ipv4(b.get(30..34)?)?, b[22], message, 4)
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
