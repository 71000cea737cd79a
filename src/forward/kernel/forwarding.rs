//! `net.ipv4.ip_forward` and `net.ipv6.conf.all.forwarding`: switched on while the kernel carries a listener, and as
//! before after.

use std::fs;
use std::io;

const IPV4: &str = "/proc/sys/net/ipv4/ip_forward";
const IPV6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
/// A default route that a router's advertisement made (`linux/ipv6_route.h`).
const RTF_ADDRCONF_DEFAULT: u32 = 0x0004_0000 | 0x0001_0000;

/// Switches forwarding on. Whether it was off.
///
/// # Errors
///
/// It cannot be, with what to do about it; nothing is changed.
pub fn switch_on(is_ipv6: bool) -> Result<bool, String> {
    let was_off = can_be_on(is_ipv6)?;
    if was_off {
        let path = path(is_ipv6);
        fs::write(path, "1").map_err(|error| refused(path, &error))?;
    }
    Ok(was_off)
}

/// Whether [`switch_on`] would change it.
///
/// # Errors
///
/// As for that.
pub fn can_be_on(is_ipv6: bool) -> Result<bool, String> {
    let path = path(is_ipv6);
    let before = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    if before.trim() != "0" {
        return Ok(false);
    }
    if is_ipv6 && let Some(interface) = depends_on_advertisements() {
        return Err(format!(
            "IPv6 forwarding is off, and the default route by {interface} is from router advertisements, which a \
             host that forwards ignores: set net.ipv6.conf.{interface}.accept_ra=2 and \
             net.ipv6.conf.all.forwarding=1, or use mode = \"proxy\""
        ));
    }
    fs::File::options().write(true).open(path).map_err(|error| refused(path, &error))?;
    Ok(true)
}

/// As it was before [`switch_on`], unless somebody has changed it meanwhile.
pub fn switch_off(is_ipv6: bool) {
    let path = path(is_ipv6);
    if fs::read_to_string(path).is_ok_and(|now| now.trim() == "1") {
        let _ = fs::write(path, "0");
    }
}

fn path(is_ipv6: bool) -> &'static str {
    if is_ipv6 { IPV6 } else { IPV4 }
}

fn refused(path: &str, error: &io::Error) -> String {
    let name = path.trim_start_matches("/proc/sys/").replace('/', ".");
    format!(
        "forwarding is off and cannot be switched on ({path}: {error}): set {name}=1 (in a container, from outside), \
         or use mode = \"proxy\""
    )
}

/// The interface by which a default route goes that would be lost.
fn depends_on_advertisements() -> Option<String> {
    let routes = fs::read_to_string("/proc/net/ipv6_route").ok()?;
    routes.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let flags = u32::from_str_radix(fields.nth(8)?, 16).ok()?;
        let interface = fields.next()?;
        let accept_ra = fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{interface}/accept_ra"));
        let is_lost = accept_ra.is_ok_and(|accept| accept.trim() == "1");
        (flags & RTF_ADDRCONF_DEFAULT == RTF_ADDRCONF_DEFAULT && is_lost).then(|| interface.to_owned())
    })
}
