//! An `sk_lookup` program of some twenty instructions (bpf(2), `linux/bpf.h`): what goes to one address and port is
//! given to our socket, everything else goes its way.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;

const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
const MAP_TYPE_SOCKMAP: u32 = 15;
const PROG_TYPE_SK_LOOKUP: u32 = 30;
const ATTACH_SK_LOOKUP: u32 = 36;

const HELPER_MAP_LOOKUP: i32 = 1;
const HELPER_SK_RELEASE: i32 = 86;
const HELPER_SK_ASSIGN: i32 = 124;
const SK_PASS: i32 = 1;

/// Offsets in `struct bpf_sk_lookup`.
const FAMILY: i16 = 8;
const PROTOCOL: i16 = 12;
const LOCAL_IPV4: i16 = 40;
const LOCAL_IPV6: i16 = 44;
const LOCAL_PORT: i16 = 60;

/// The program's place in the network namespace. Closed, also by the end of the process, the program is gone.
#[derive(Debug)]
pub struct Link {
    _link: OwnedFd,
}

/// Gives what goes to `address` to `socket`, or to one of the sockets that share its port (SO_REUSEPORT).
///
/// # Errors
///
/// What the kernel says.
pub fn attach(address: SocketAddr, socket: BorrowedFd<'_>) -> io::Result<Link> {
    let map = make_map()?;
    put(&map, socket)?;
    let program = load(&program(address, map.as_raw_fd()))?;
    let namespace = std::fs::File::open("/proc/thread-self/ns/net")?;
    let attribute = LinkCreate {
        program: number(program.as_raw_fd()),
        target: number(namespace.as_raw_fd()),
        attach_type: ATTACH_SK_LOOKUP,
        flags: 0,
    };
    // The link has the program, the program the map, the map the socket.
    Ok(Link { _link: made(call(LINK_CREATE, &attribute)?) })
}

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

#[repr(C)]
struct MapUpdate {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

fn make_map() -> io::Result<OwnedFd> {
    let attribute =
        MapCreate { map_type: MAP_TYPE_SOCKMAP, key_size: 4, value_size: 8, max_entries: 1, flags: 0 };
    Ok(made(call(MAP_CREATE, &attribute)?))
}

fn put(map: &OwnedFd, socket: BorrowedFd<'_>) -> io::Result<()> {
    let (key, value) = (0_u32, u64::from(number(socket.as_raw_fd())));
    let attribute = MapUpdate {
        map: number(map.as_raw_fd()),
        pad: 0,
        key: (&raw const key).addr() as u64,
        value: (&raw const value).addr() as u64,
        flags: 0,
    };
    call(MAP_UPDATE_ELEM, &attribute).map(drop)
}

fn load(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    let mut name = [0; 16];
    name[..11].copy_from_slice(b"vipd_beside");
    let license = c"Apache-2.0";
    let attribute = ProgLoad {
        program_type: PROG_TYPE_SK_LOOKUP,
        instruction_count: u32::try_from(instructions.len()).unwrap_or(u32::MAX),
        instructions: instructions.as_ptr().addr() as u64,
        license: license.as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name,
        interface: 0,
        attach_type: ATTACH_SK_LOOKUP,
    };
    Ok(made(call(PROG_LOAD, &attribute)?))
}

fn call<T>(command: libc::c_long, attribute: &T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads so many bytes of the attribute, which lives through the call, as do the key, value,
    // instructions and license that it points to; it writes nowhere.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attribute), std::mem::size_of::<T>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn made(descriptor: libc::c_long) -> OwnedFd {
    let descriptor = RawFd::try_from(descriptor).expect("bpf(2) gives descriptors");
    // SAFETY: bpf(2) has just given this descriptor to us (close-on-exec), and nobody else knows of it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn number(descriptor: RawFd) -> u32 {
    u32::try_from(descriptor).expect("open descriptors are not negative")
}

/// `struct bpf_insn`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
struct Instruction {
    code: u8,
    /// Destination in the lower half, source in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

fn op(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: from << 4 | to, offset, immediate }
}

const LOAD_WORD: u8 = 0x61;
const STORE_WORD: u8 = 0x62;
const MOVE: u8 = 0xbf;
const MOVE_NUMBER: u8 = 0xb7;
const ADD_NUMBER: u8 = 0x07;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const IF_ZERO: u8 = 0x15;
/// Of the lower 32 bits.
const IF_NOT: u8 = 0x56;
const LOAD_MAP: u8 = 0x18;
const PSEUDO_MAP: u8 = 1;

fn program(address: SocketAddr, map: RawFd) -> Vec<Instruction> {
    let mut conditions = vec![
        (FAMILY, if address.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET }),
        (PROTOCOL, libc::IPPROTO_TCP),
        (LOCAL_PORT, address.port().into()),
    ];
    match address.ip() {
        IpAddr::V4(ip) => conditions.push((LOCAL_IPV4, i32::from_ne_bytes(ip.octets()))),
        IpAddr::V6(ip) => {
            let octets = ip.octets();
            let words = octets.chunks_exact(4).map(|word| word.try_into().map_or(0, i32::from_ne_bytes));
            conditions.extend((LOCAL_IPV6..).step_by(4).zip(words));
        }
    }
    // The context stays in register 6.
    let mut program = vec![op(MOVE, 6, 1, 0, 0)];
    let assign = [
        op(STORE_WORD, 10, 0, -4, 0),
        op(MOVE, 2, 10, 0, 0),
        op(ADD_NUMBER, 2, 0, 0, -4),
        op(LOAD_MAP, 1, PSEUDO_MAP, 0, map),
        op(0, 0, 0, 0, 0),
        op(CALL, 0, 0, 0, HELPER_MAP_LOOKUP),
        op(IF_ZERO, 0, 0, 7, 0),
        op(MOVE, 7, 0, 0, 0),
        op(MOVE, 1, 6, 0, 0),
        op(MOVE, 2, 7, 0, 0),
        op(MOVE_NUMBER, 3, 0, 0, 0),
        op(CALL, 0, 0, 0, HELPER_SK_ASSIGN),
        op(MOVE, 1, 7, 0, 0),
        op(CALL, 0, 0, 0, HELPER_SK_RELEASE),
        op(MOVE_NUMBER, 0, 0, 0, SK_PASS),
        op(EXIT, 0, 0, 0, 0),
    ];
    // To the last but one, which lets it pass.
    let end = 2 * conditions.len() + assign.len() - 2;
    for (index, (offset, wanted)) in conditions.into_iter().enumerate() {
        let jump = i16::try_from(end - 2 * index - 2).expect("the program is short");
        program.push(op(LOAD_WORD, 2, 6, offset, 0));
        program.push(op(IF_NOT, 2, 0, jump, wanted));
    }
    program.extend(assign);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_meant_jumps_to_the_end() {
        for address in ["192.0.2.1:6443", "[2001:db8::1]:6443"] {
            let program = program(address.parse().unwrap(), 5);
            let last = program.len() - 2;
            assert_eq!(program[last], op(MOVE_NUMBER, 0, 0, 0, SK_PASS));
            for (place, instruction) in program.iter().enumerate() {
                if matches!(instruction.code, IF_NOT | IF_ZERO) {
                    assert_eq!(
                        place + 1 + usize::try_from(instruction.offset).unwrap(),
                        last,
                        "{address} at {place}"
                    );
                }
            }
        }
    }
}
