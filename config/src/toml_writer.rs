//! Writes a configuration as TOML: the way from keepalived.conf to the native format.
//!
//! What is written, loaded again, is the same configuration; only the places differ. Values at their
//! default are left out.

use std::fmt::Write as _;
use std::time::Duration;

use crate::complete::{self, CONTROL_SOCKET};
use crate::diagnostic::{Diagnostic, Diagnostics, Severity};
use crate::ready::{
    Announcements, Authentication, Bfd, Command, Config, Effect, Family, Fifo, Hmac, HmacMode, Instance,
    Lease, Notify, OldUnicastChecksum, TrackBfd, TrackCheck, TrackInterface, Transport, UnicastPeer, User,
    Version, VirtualAddress,
};
use crate::time::shown;
use crate::users::Users;

mod check;
mod forward;
mod network;
mod process;

use check::check;
use process::optional;

/// The configuration as TOML. Findings of the loading (what was dropped, and what is done instead) become
/// comments above it.
pub fn to_toml(config: &Config, dropped: &Diagnostics) -> String {
    let mut text = String::new();
    comments(&mut text, dropped);
    line(&mut text, "router_id", &quoted(&config.router_id));
    network::fixed(&mut text, config);
    let mut control = String::new();
    if config.control.socket.as_os_str() != CONTROL_SOCKET {
        line(&mut control, "socket", &quoted(&config.control.socket.to_string_lossy()));
    }
    if let Some(metrics) = config.control.metrics {
        line(&mut control, "metrics", &quoted(&metrics.to_string()));
    }
    if let Some(web) = config.control.web {
        line(&mut control, "web", &quoted(&web.to_string()));
    }
    section(&mut text, "[control]", &control);
    section(&mut text, "[engine]", &process::engine(&config.engine));
    section(&mut text, "[process]", &process::process(&config.process));
    if let Some(mail) = &config.process.mail {
        section(&mut text, "[mail]", &process::mail(mail));
    }
    network::tables(&mut text, config);
    for written in &config.announcement_groups {
        section(&mut text, "[[announcement_group]]", &process::announcement_group(written));
    }
    for written in &config.link_delays {
        section(&mut text, "[[link_delay]]", &process::link_delay(written));
    }
    for written in &config.bfd {
        section(&mut text, "[[bfd]]", &process::bfd(written));
    }
    for written in &config.checks {
        section(&mut text, "[[check]]", &check(written));
    }
    for written in &config.instances {
        section(&mut text, "[[instance]]", &instance(written, &config.bfd));
    }
    for written in &config.sync_groups {
        section(&mut text, "[[sync_group]]", &process::sync_group(written, &config.bfd));
    }
    for written in &config.listeners {
        section(&mut text, "[[listener]]", &forward::listener(written, config));
    }
    section(&mut text, "[forwarder]", &forward::forwarder(config.forwarder));
    for written in &config.health_pages {
        section(&mut text, "[[health_page]]", &forward::health_page(written));
    }
    for written in &config.fifos {
        section(&mut text, "[[fifo]]", &fifo(written));
    }
    text
}

fn comments(text: &mut String, dropped: &Diagnostics) {
    // Words that have no effect here are only noticed, but they are not in the TOML either.
    let lost = |finding: &&Diagnostic| finding.severity != Severity::Notice || finding.code == "not-needed";
    let dropped: Vec<_> = dropped.iter().filter(lost).collect();
    if dropped.is_empty() {
        return;
    }
    text.push_str("# Not taken over as it was written:\n");
    for finding in dropped {
        let help = finding.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
        let comment = format!("#   {}: {}{help}", finding.location.place, finding.message);
        let _ = writeln!(text, "{}", comment.replace(|c: char| c.is_control(), " "));
    }
    text.push('\n');
}

fn section(text: &mut String, head: &str, body: &str) {
    if !body.is_empty() {
        let _ = write!(text, "\n{head}\n{body}");
    }
}

fn line(text: &mut String, key: &str, value: &str) {
    let _ = writeln!(text, "{key} = {value}");
}

fn flag(text: &mut String, key: &str, value: bool, default: bool) {
    if value != default {
        line(text, key, if value { "true" } else { "false" });
    }
}

fn duration(text: &mut String, key: &str, value: Duration, default: Duration) {
    if value != default {
        line(text, key, &quoted(&shown(value)));
    }
}

fn number<T: PartialEq + ToString>(text: &mut String, key: &str, value: &T, default: &T) {
    if value != default {
        line(text, key, &value.to_string());
    }
}

fn never(value: Option<Duration>) -> String {
    value.map_or_else(|| "\"never\"".to_owned(), |time| quoted(&shown(time)))
}

/// A basic string on one line.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

/// `{ a = 1, b = 2 }` from lines of `key = value`.
fn inline(body: &str) -> String {
    format!("{{ {} }}", body.trim_end().replace('\n', ", "))
}

fn words(command: &Command) -> String {
    let program = command.program.to_string_lossy();
    list(std::iter::once(quoted(&program)).chain(command.arguments.iter().map(|a| quoted(a))))
}

fn user(text: &mut String, user: Option<&User>) {
    let Some(user) = user else { return };
    line(text, "user", &quoted(&user.name));
    let own_group = Users::Host.find(&user.name, None).is_ok_and(|found| found == *user);
    if !own_group {
        line(text, "group", &user.gid.to_string());
    }
}

fn command(text: &mut String, key: &str, command: Option<&Command>) {
    let Some(command) = command else { return };
    if command.user.is_none() {
        return line(text, key, &words(command));
    }
    let mut body = String::new();
    line(&mut body, "command", &words(command));
    user(&mut body, command.user.as_ref());
    line(text, key, &inline(&body));
}

fn instance(instance: &Instance, sessions: &[Bfd]) -> String {
    let mut text = String::new();
    line(&mut text, "name", &quoted(&instance.name));
    let interface = Some(instance.interface.as_str()).filter(|interface| !interface.is_empty());
    process::word(&mut text, "interface", interface);
    line(&mut text, "vrid", &instance.vrid.to_string());
    if instance.version == Version::V2 {
        line(&mut text, "version", "2");
    }
    number(&mut text, "priority", &instance.priority, &100);
    flag(&mut text, "start_active", instance.start_active, instance.priority == 255);
    flag(&mut text, "wants_active", instance.wants_active, false);
    duration(&mut text, "advert_interval", instance.advert_interval, Duration::from_secs(1));
    flag(&mut text, "preempt", instance.preempt, true);
    duration(&mut text, "preempt_delay", instance.preempt_delay, Duration::ZERO);
    number(&mut text, "down_timer_adverts", &instance.down_timer_adverts, &3);
    if let Some(source) = instance.source {
        line(&mut text, "source", &quoted(&source.to_string()));
    }
    transport(&mut text, instance);
    match &instance.authentication {
        Authentication::None => {}
        Authentication::Pass(password) => {
            line(&mut text, "authentication", &format!("{{ {} }}", password_value(password)));
        }
        Authentication::Ah(key) => {
            line(&mut text, "authentication", &format!("{{ type = \"header\", {} }}", password_value(key)));
        }
    }
    if let Some(hmac) = &instance.hmac {
        line(&mut text, "hmac", &hmac_value(hmac, instance.advert_interval));
    }
    flag(&mut text, "checksum_message_only", instance.checksum_message_only, false);
    flag(&mut text, "strict", instance.strict, false);
    habits(&mut text, instance);
    addresses(&mut text, "addresses", &instance.addresses, instance);
    addresses(&mut text, "excluded", &instance.excluded, instance);
    flag(&mut text, "no_addresses", instance.addresses.is_empty(), false);
    track(&mut text, instance, sessions);
    let (arp, na) = (complete::arp_announcements(), complete::neighbor_announcements());
    announcements(&mut text, "gratuitous_arp", &instance.gratuitous_arp, &arp, instance.strict);
    announcements(
        &mut text,
        "neighbor_advertisements",
        &instance.neighbor_advertisements,
        &na,
        instance.strict,
    );
    flag(&mut text, "answer_lower_priority", instance.answer_lower_priority, !instance.strict);
    flag(&mut text, "answer_higher_priority", instance.answer_higher_priority, false);
    network::instance(&mut text, instance);
    notify(&mut text, "[instance.notify]", &instance.notify);
    text
}

/// What few need to say.
fn habits(text: &mut String, instance: &Instance) {
    let owner = instance.priority == 255;
    flag(text, "accept", instance.accept, owner || !instance.strict);
    flag(text, "mail", instance.smtp_alert, false);
    flag(text, "track_source", instance.track_source, false);
    optional(text, "timer_expired_backup", instance.timer_expired_backup);
    match instance.lease {
        Lease::Auto => {}
        Lease::Off => line(text, "lease", "\"off\""),
        Lease::For(time) => line(text, "lease", &quoted(&shown(time))),
    }
    flag(text, "skip_address_check", instance.skip_address_check, false);
    flag(text, "owner_ignores_adverts", instance.owner_ignores_adverts, instance.strict && owner);
    optional(text, "receive_buffer", instance.receive_buffer);
    match instance.old_unicast_checksum {
        OldUnicastChecksum::Detect => {}
        OldUnicastChecksum::Always => line(text, "old_unicast_checksum", "\"always\""),
        OldUnicastChecksum::Never => line(text, "old_unicast_checksum", "\"never\""),
    }
}

fn hmac_value(hmac: &Hmac, advert_interval: Duration) -> String {
    let key = |key: &crate::ready::HmacKey| {
        let secret = match (&key.file, std::str::from_utf8(&key.secret)) {
            (Some(file), _) => format!("file = {}", quoted(&file.to_string_lossy())),
            (None, Ok(text)) if !text.contains(char::is_control) => format!("secret = {}", quoted(text)),
            (None, _) => {
                format!(
                    "secret_hex = \"{}\"",
                    key.secret.iter().map(|b| format!("{b:02x}")).collect::<String>()
                )
            }
        };
        format!("{{ id = {}, {secret} }}", key.id)
    };
    let mut body = String::new();
    line(&mut body, "keys", &list(hmac.keys.iter().map(key)));
    line(&mut body, "active_key", &hmac.active_key.to_string());
    duration(&mut body, "time_window", hmac.time_window, complete::hmac_window(advert_interval));
    flag(&mut body, "monotonic", hmac.monotonic, false);
    match hmac.mode {
        HmacMode::Enforce => {}
        HmacMode::Permissive => line(&mut body, "mode", "\"permissive\""),
        HmacMode::ReceiveOnly => line(&mut body, "mode", "\"receive-only\""),
    }
    inline(&body)
}

fn transport(text: &mut String, instance: &Instance) {
    match &instance.transport {
        Transport::Multicast { group } => {
            let default = match instance.family {
                Family::Ipv4 => "224.0.0.18",
                Family::Ipv6 => "ff02::12",
            };
            if group.to_string() != default {
                line(text, "multicast_group", &quoted(&group.to_string()));
            }
        }
        Transport::Unicast { peers, ttl, check_source } => {
            let mut body = String::new();
            line(&mut body, "peers", &list(peers.iter().map(peer)));
            number(&mut body, "ttl", ttl, &255);
            flag(&mut body, "check_source", *check_source, false);
            line(text, "unicast", &inline(&body));
        }
    }
}

fn peer(peer: &UnicastPeer) -> String {
    let address = quoted(&peer.address.to_string());
    if peer.min_ttl.is_none() && peer.max_ttl.is_none() {
        return address;
    }
    let mut body = String::new();
    line(&mut body, "address", &address);
    for (key, ttl) in [("min_ttl", peer.min_ttl), ("max_ttl", peer.max_ttl)] {
        if let Some(ttl) = ttl {
            line(&mut body, key, &ttl.to_string());
        }
    }
    inline(&body)
}

/// As text where it is text; the zeros that pad it are left out.
fn password_value(password: &[u8; 8]) -> String {
    let length = password.iter().rposition(|b| *b != 0).map_or(1, |last| last + 1);
    let bytes = &password[..length];
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => format!("password = {}", quoted(text)),
        _ => format!("password_hex = \"{}\"", bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()),
    }
}

fn addresses(text: &mut String, key: &str, addresses: &[VirtualAddress], instance: &Instance) {
    match addresses {
        [] => {}
        [one] => line(text, key, &format!("[{}]", address(one, &instance.interface))),
        several => {
            let _ = writeln!(text, "{key} = [");
            for one in several {
                let _ = writeln!(text, "    {},", address(one, &instance.interface));
            }
            text.push_str("]\n");
        }
    }
}

/// Without what stands there by default on this interface.
fn address(address: &VirtualAddress, interface: &str) -> String {
    let with_length = |ip: std::net::IpAddr, length: u8| match (ip.is_ipv4(), length) {
        (true, 32) | (false, 128) => quoted(&ip.to_string()),
        _ => quoted(&format!("{ip}/{length}")),
    };
    let plain = complete::plain_address(address.address, address.prefix_length);
    let default = VirtualAddress {
        interface: interface.to_owned(),
        repeated: address.repeated,
        place: address.place.clone(),
        ..plain
    };
    let written = with_length(address.address, address.prefix_length);
    if *address == default {
        return written;
    }
    let mut body = String::new();
    line(&mut body, "address", &written);
    if address.interface != default.interface {
        line(&mut body, "interface", &quoted(&address.interface));
    }
    if let Some(label) = &address.label {
        line(&mut body, "label", &quoted(label));
    }
    if address.scope != default.scope {
        let scope = match address.scope {
            0 => "\"global\"".to_owned(),
            200 => "\"site\"".to_owned(),
            253 => "\"link\"".to_owned(),
            254 => "\"host\"".to_owned(),
            other => other.to_string(),
        };
        line(&mut body, "scope", &scope);
    }
    if let Some(broadcast) = address.broadcast {
        line(&mut body, "broadcast", &quoted(&broadcast.to_string()));
    }
    if let Some((peer, length)) = address.peer {
        line(&mut body, "peer", &with_length(peer, length));
    }
    if address.preferred_lifetime != default.preferred_lifetime {
        let lifetime = address.preferred_lifetime.map_or_else(|| "\"forever\"".to_owned(), |s| s.to_string());
        line(&mut body, "preferred_lifetime", &lifetime);
    }
    flag(&mut body, "duplicate_detection", !address.no_dad, !default.no_dad);
    flag(&mut body, "home", address.home, false);
    flag(&mut body, "prefix_route", !address.no_prefix_route, true);
    flag(&mut body, "autojoin", address.autojoin, false);
    flag(&mut body, "manage_temporary", address.manage_temporary, false);
    network::own_vmac(&mut body, address.own_vmac.as_deref());
    flag(&mut body, "track", address.track, true);
    inline(&body)
}

fn track(text: &mut String, instance: &Instance, sessions: &[Bfd]) {
    let own = |tracked: &TrackInterface| {
        tracked.interface == instance.interface && tracked.effect == Effect::Fault { reverse: false }
    };
    let (has_own, others) = match instance.track_interfaces.as_slice() {
        [first, others @ ..] if own(first) => (true, others),
        others => (false, others),
    };
    flag(text, "track_own_interface", has_own, !instance.interface.is_empty());
    let entries = track_entries(&instance.track_checks, others, &instance.track_bfd, sessions);
    if !entries.is_empty() {
        line(text, "track", &list(entries));
    }
}

fn track_entries(
    checks: &[TrackCheck],
    interfaces: &[TrackInterface],
    tracked: &[TrackBfd],
    sessions: &[Bfd],
) -> Vec<String> {
    const FAULT: Effect = Effect::Fault { reverse: false };
    let entry = |key: &str, name: &str, effect: Effect, default: Effect| {
        let mut body = String::new();
        line(&mut body, key, &quoted(name));
        weight(&mut body, effect, default);
        inline(&body)
    };
    let session = |name: &str| sessions.iter().find(|bfd| bfd.name == name).map_or(FAULT, |bfd| bfd.effect);
    let checks = checks.iter().map(|t| entry("check", &t.check, t.effect, FAULT));
    let interfaces = interfaces.iter().map(|t| entry("interface", &t.interface, t.effect, FAULT));
    let tracked = tracked.iter().map(|t| entry("bfd", &t.bfd, t.effect, session(&t.bfd)));
    checks.chain(interfaces).chain(tracked).collect()
}

/// `weight` and `reverse`, unless they are what is meant without them.
fn weight(body: &mut String, effect: Effect, default: Effect) {
    if effect == default {
        return;
    }
    let (weight, reverse) = match effect {
        Effect::Fault { reverse } => (0, reverse),
        Effect::Weight { weight, reverse } | Effect::Value { weight, reverse } => (weight, reverse),
    };
    if weight != 0 || !matches!(default, Effect::Fault { .. }) {
        line(body, "weight", &weight.to_string());
    }
    flag(body, "reverse", reverse, false);
}

fn announcements(text: &mut String, key: &str, made: &Announcements, default: &Announcements, strict: bool) {
    let mut body = String::new();
    number(&mut body, "rounds", &made.rounds, &default.rounds);
    duration(&mut body, "round_gap", made.round_gap, default.round_gap);
    if made.again_after != default.again_after {
        line(&mut body, "again_after", &never(made.again_after));
    }
    if made.refresh != default.refresh {
        line(&mut body, "refresh", &never(made.refresh));
    }
    number(&mut body, "refresh_rounds", &made.refresh_rounds, &default.refresh_rounds);
    // The default differs in strict mode, and one that is written holds for both tables.
    if strict || made.lower_priority_rounds != default.lower_priority_rounds {
        line(&mut body, "lower_priority_rounds", &made.lower_priority_rounds.to_string());
    }
    if strict || made.lower_priority_again_after != default.lower_priority_again_after {
        line(&mut body, "lower_priority_again_after", &never(made.lower_priority_again_after));
    }
    duration(&mut body, "packet_gap", made.packet_gap, default.packet_gap);
    if !body.is_empty() {
        line(text, key, &inline(&body));
    }
}

fn notify(text: &mut String, head: &str, notify: &Notify) {
    let mut body = String::new();
    command(&mut body, "any", notify.any.as_deref());
    command(&mut body, "master", notify.master.as_deref());
    command(&mut body, "backup", notify.backup.as_deref());
    command(&mut body, "fault", notify.fault.as_deref());
    command(&mut body, "stop", notify.stop.as_deref());
    command(&mut body, "deleted", notify.deleted.as_deref());
    flag(&mut body, "tells_deleted", notify.tells_deleted, notify.deleted.is_some());
    command(&mut body, "master_rx_lower_priority", notify.master_rx_lower_priority.as_deref());
    flag(&mut body, "priority_changes", notify.priority_changes, false);
    section(text, head, &body);
}

fn fifo(fifo: &Fifo) -> String {
    let mut text = String::new();
    line(&mut text, "path", &quoted(&fifo.path.to_string_lossy()));
    command(&mut text, "script", fifo.script.as_deref());
    user(&mut text, fifo.user.as_ref());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_survives_quoting() {
        let text: String = (0u32..0x300).filter_map(char::from_u32).collect();
        let document = format!("a = {}", quoted(&text));
        let table: toml::Table = document.parse().unwrap();
        assert_eq!(table["a"].as_str(), Some(text.as_str()));
    }

    #[test]
    fn password_that_is_no_text_is_hexadecimal() {
        assert_eq!(password_value(b"42\0\0\0\0\0\0"), "password = \"42\"");
        assert_eq!(password_value(&[0xc3, 1, 0, 0, 0, 0, 0, 0]), "password_hex = \"c301\"");
        assert_eq!(password_value(&[0; 8]), "password_hex = \"00\"");
    }
}
