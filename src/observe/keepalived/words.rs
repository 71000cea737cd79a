//! Words and numbers as keepalived writes them.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use config::ready::{Command, Effect, User, VirtualAddress};
use nix::libc;

use crate::observe::event::State;

pub(super) fn state(state: State) -> &'static str {
    match state {
        State::Initialize => "INIT",
        State::Backup => "BACKUP",
        State::Active => "MASTER",
        State::Fault => "FAULT",
    }
}

/// The numbers of `state` and `wantstate` in the JSON dump.
pub(super) fn state_number(state: State) -> u8 {
    match state {
        State::Initialize => 0,
        State::Backup => 1,
        State::Active => 2,
        State::Fault => 3,
    }
}

pub(super) fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

pub(super) fn on_off(value: bool) -> &'static str {
    if value { "enabled" } else { "disabled" }
}

/// Every word in single quotes, the program by its path without links. A first word that is a redirection (a test for
/// a file) stays without.
pub(super) fn command(command: &Command) -> String {
    let real = std::fs::canonicalize(&command.program);
    let program = real.as_ref().unwrap_or(&command.program).display().to_string();
    let mut text = if program.starts_with(['<', '>']) { program } else { format!("'{program}'") };
    for argument in &command.arguments {
        text.push_str(&format!(" '{argument}'"));
    }
    text
}

/// `0:0`
pub(super) fn user(user: Option<&User>) -> String {
    user.map_or_else(|| "0:0".into(), |user| format!("{}:{}", user.uid, user.gid))
}

/// `weight 5 reverse`; an object that is tracked without a weight has 0.
pub(super) fn weight(effect: Effect) -> String {
    let (weight, reverse) = match effect {
        Effect::Fault { reverse } => (0, reverse),
        Effect::Weight { weight, reverse } | Effect::Value { weight, reverse } => (weight, reverse),
    };
    format!("{weight}{}", if reverse { " reverse" } else { "" })
}

/// An address with everything that belongs to it. `set`: it is on, and by us.
pub(super) fn address(address: &VirtualAddress, set: bool) -> String {
    let is_v4 = address.address.is_ipv4();
    let mut text = prefix(address.address, address.prefix_length);
    if let Some(broadcast) = address.broadcast {
        text.push_str(&format!(" brd {broadcast}"));
    }
    // The kernel alone knows better of an IPv6 address: keepalived asks for a global one.
    let asked = if is_v4 { address.scope } else { 0 };
    text.push_str(&format!(" dev {} scope {}", address.interface, scope(asked)));
    if let Some(label) = &address.label {
        text.push_str(&format!(" label {label}"));
    }
    if let Some((peer, length)) = address.peer {
        text.push_str(&format!(" peer {peer}/{length}"));
    }
    let flags = [
        (address.home, " home"),
        (!is_v4 && !address.no_dad, " -nodad"),
        (address.no_prefix_route, " noprefixroute"),
        (address.autojoin, " autojoin"),
        (!address.track, " no_track"),
    ];
    flags.iter().filter(|(is, _)| *is).for_each(|(_, word)| text.push_str(word));
    match address.preferred_lifetime {
        _ if is_v4 => {}
        Some(0) => text.push_str(" deprecated"),
        Some(seconds) => text.push_str(&format!(" preferred_lft {seconds}")),
        None => text.push_str(" preferred_lft forever"),
    }
    if set {
        text.push_str(" set");
    }
    text
}

/// A host's own length is left out.
pub(super) fn prefix(address: IpAddr, length: u8) -> String {
    let host = if address.is_ipv4() { 32 } else { 128 };
    if length == host { address.to_string() } else { format!("{address}/{length}") }
}

/// `rt_scopes` of iproute2.
pub(super) fn scope(scope: u8) -> String {
    match scope {
        0 => "global".into(),
        200 => "site".into(),
        253 => "link".into(),
        254 => "host".into(),
        255 => "nowhere".into(),
        other => other.to_string(),
    }
}

/// Seconds and microseconds since 1970.
pub(super) fn stamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:06}", since.as_secs(), since.subsec_micros())
}

/// `1795245971.753824 (Sat Nov 21 07:26:11.753824 2026)`, local time.
pub(super) fn stamp_and_date(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (date, year) = date(time);
    format!("{} ({date}.{:06} {year})", stamp(time), since.subsec_micros())
}

/// `Sat Nov 21 07:26:11` and the year, local time (`ctime`).
pub(crate) fn date(time: SystemTime) -> (String, i32) {
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = libc::time_t::try_from(since.as_secs()).unwrap_or(0);
    // SAFETY: `tm` is plain numbers (and a pointer that nobody reads), and both pointers are valid for the call.
    let tm = unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        libc::localtime_r(&raw const seconds, &raw mut tm);
        tm
    };
    let word = |words: &'static [&'static str], index: i32| {
        usize::try_from(index).ok().and_then(|index| words.get(index)).copied().unwrap_or("???")
    };
    let text = format!(
        "{} {} {:2} {:02}:{:02}:{:02}",
        word(&DAYS, tm.tm_wday),
        word(&MONTHS, tm.tm_mon),
        tm.tm_mday,
        tm.tm_hour,
        tm.tm_min,
        tm.tm_sec
    );
    (text, 1900 + tm.tm_year)
}

/// Seconds as C's `%g` writes them: six digits at most, none that say nothing.
pub(super) fn seconds(duration: Duration) -> String {
    let rounded = (duration.as_secs_f64() * 1e6).round() / 1e6;
    rounded.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_no_more_digits_than_needed() {
        let all = [0, 500, 1000, 40_950, 255_000, 10].map(|ms| seconds(Duration::from_millis(ms)));
        assert_eq!(all, ["0", "0.5", "1", "40.95", "255", "0.01"]);
    }

    #[test]
    fn scopes_have_the_names_of_iproute2() {
        assert_eq!([0, 200, 253, 254, 255, 7].map(scope), ["global", "site", "link", "host", "nowhere", "7"]);
    }
}
