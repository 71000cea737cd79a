//! `VRRP Instance = …` of the data dump.

use config::ready::{
    Authentication, Effect, Instance, Notify, OldUnicastChecksum, Probe, TrackBfd, TrackCheck,
    TrackInterface, Transport, Version, Vmac,
};

use super::{Page, Picture, words};
use crate::observe::event::State;
use crate::observe::status::InstanceStatus;

/// Is it in FAULT while its own interface is down (not `dont_track_primary`)?
pub(super) fn tracks_primary(instance: &Instance) -> bool {
    instance.track_interfaces.iter().any(|track| is_primary(instance, track))
}

fn is_primary(instance: &Instance, track: &TrackInterface) -> bool {
    track.interface == instance.interface && track.effect == Effect::Fault { reverse: false }
}

/// Those that were written.
pub(super) fn tracked_interfaces(instance: &Instance) -> impl Iterator<Item = &TrackInterface> {
    instance.track_interfaces.iter().filter(|track| !is_primary(instance, track))
}

/// Name of its macvlan.
pub(super) fn vmac_name(instance: &Instance) -> Option<String> {
    let vmac = instance.vmac.as_ref()?;
    Some(vmac.name.clone().unwrap_or_else(|| match instance.family {
        config::ready::Family::Ipv4 => format!("{}.{}", vmac.prefix, instance.vrid),
        config::ready::Family::Ipv6 => format!("{}6.{}", vmac.prefix, instance.vrid),
    }))
}

/// Not terminated when it has all eight octets.
pub(super) fn password(password: &[u8; 8]) -> String {
    let end = password.iter().position(|octet| *octet == 0).unwrap_or(password.len());
    String::from_utf8_lossy(&password[..end]).into_owned()
}

/// Where it wants to be: where it is, and at the start what was written.
pub(super) fn wanted(instance: &Instance, status: &InstanceStatus) -> State {
    match status.state {
        State::Initialize if instance.start_active => State::Active,
        State::Initialize => State::Backup,
        state => state,
    }
}

pub(super) fn instance(page: &mut Page, picture: &Picture<'_>, instance: &Instance, status: &InstanceStatus) {
    page.line(format!(" VRRP Instance = {}", instance.name));
    page.line(format!("   VRRP Version = {}", status.version));
    let group = picture.config.sync_groups.iter().find(|group| group.members.contains(&instance.name));
    if let Some(group) = group {
        page.line(format!("   Sync group = {}", group.name));
    }
    if instance.family == config::ready::Family::Ipv6 {
        page.line("   Using Native IPv6");
    }
    standing(page, picture, instance, status);
    interface(page, instance, status);
    announcements(page, instance);
    protocol(page, instance, status);
    held(page, instance, status);
    trackers(page, picture, "processes", &instance.track_checks, &instance.track_bfd);
    page.line(format!("   Using smtp notification = {}", words::yes_no(instance.smtp_alert)));
    let deleted = instance.notify.tells_deleted;
    page.line(format!("   Notify deleted = {}", if deleted { "Deleted" } else { "Fault" }));
    scripts(page, &instance.notify);
    page.line(format!("   Notify priority changes = {}", instance.notify.priority_changes));
}

fn standing(page: &mut Page, picture: &Picture<'_>, instance: &Instance, status: &InstanceStatus) {
    page.line(format!("   State = {}", words::state(status.state)));
    if status.state == State::Backup {
        let unknown = match instance.family {
            config::ready::Family::Ipv4 => "0.0.0.0",
            config::ready::Family::Ipv6 => "::",
        };
        let address = status.active.as_ref().map_or(unknown.into(), |peer| peer.address.to_string());
        page.line(format!("   Master router = {address}"));
        page.line(format!("   Master priority = {}", status.active.as_ref().map_or(0, |p| p.priority)));
        if instance.version == Version::V3 {
            let interval = status.active.as_ref().map_or(instance.advert_interval, |p| p.advert_interval);
            page.line(format!("   Master advert int = {:.2} sec", interval.as_secs_f64()));
        }
    }
    match &instance.transport {
        Transport::Unicast { .. } => page.line("   Flags:\n     Using unicast"),
        Transport::Multicast { .. } if instance.vmac.is_some() => page.line("   Flags:"),
        Transport::Multicast { .. } if !plain(instance) => page.line("   Flags:"),
        Transport::Multicast { .. } => page.line("   Flags: none"),
    }
    page.line(format!("   Wantstate = {}", words::state(wanted(instance, status))));
    page.line("   Number of config faults = 0");
    let (waiting, faults): (Vec<_>, Vec<_>) = status
        .faults
        .iter()
        .partition(|fault| matches!(fault, crate::observe::event::Fault::CheckUnknown { .. }));
    page.line(format!("   Number of interface and track script faults = {}", faults.len()));
    page.line(format!("   Number of track scripts init = {}", waiting.len()));
    page.line(format!("   Last transition = {}", words::stamp_and_date(status.since)));
    match status.runtime.next_timer {
        Some(left) => page.line(format!("   Read timeout = {}", words::stamp_and_date(picture.now + left))),
        None => page.line("   Read timeout = DISABLED"),
    }
    page.line(format!("   Master down timer = {} usecs", status.active_down_interval.as_micros()));
}

/// Nothing that keepalived keeps as a flag.
fn plain(instance: &Instance) -> bool {
    tracks_primary(instance)
        && instance.preempt
        && !instance.skip_address_check
        && !instance.promote_secondaries
        && instance.source.is_none()
}

fn interface(page: &mut Page, instance: &Instance, status: &InstanceStatus) {
    match (&instance.vmac, vmac_name(instance)) {
        (Some(vmac), Some(name)) => vmac_lines(page, instance, status, vmac, &name),
        _ => page.line(format!("   Interface = {}", instance.interface)),
    }
    if !tracks_primary(instance) {
        page.line("   VRRP interface tracking disabled");
    }
    if instance.skip_address_check {
        page.line("   Skip checking advert IP addresses");
    }
    if instance.strict {
        page.line("   Enforcing strict VRRP compliance");
    }
    let source = status.source.map_or("(none)".into(), |source| source.to_string());
    let written = if instance.source.is_some() { " (from configuration)" } else { "" };
    page.line(format!("   Using src_ip = {source}{written}"));
    if let Transport::Multicast { group } = &instance.transport {
        match (group.is_ipv6(), status.runtime.interface_index) {
            (true, Some(index)) => page.line(format!("   Multicast address {group}, ifindex {index}")),
            (true, None) => page.line(format!("   Multicast address {group}, ifindex 0")),
            (false, _) => page.line(format!("   Multicast address {group}")),
        }
    }
}

fn vmac_lines(page: &mut Page, instance: &Instance, status: &InstanceStatus, vmac: &Vmac, name: &str) {
    let up = status.state != State::Fault;
    let base = vmac.transmit_on_base;
    page.line(format!("   Use VMAC, i/f name {name}, is_up = {up}, xmit_base = {base}"));
    if let Some(mac) = vmac.mac {
        let mac = mac.map(|octet| format!("{octet:02x}")).join(":");
        page.line(format!("     MAC = {mac}"));
    }
    if vmac.for_other_interfaces {
        page.line("   Use VMAC for VIPs on other interfaces");
    }
    page.line(format!("   Interface = {name}, vmac on {}", instance.interface));
}

fn announcements(page: &mut Page, instance: &Instance) {
    let garp = &instance.gratuitous_arp;
    let seconds = |duration: Option<std::time::Duration>| duration.map_or(0, |duration| duration.as_secs());
    page.line(format!("   Gratuitous ARP delay = {}", seconds(garp.again_after)));
    page.line(format!("   Gratuitous ARP repeat = {}", garp.rounds));
    page.line(format!("   Gratuitous ARP refresh = {}", seconds(garp.refresh)));
    page.line(format!("   Gratuitous ARP refresh repeat = {}", garp.refresh_rounds));
    let lower = seconds(garp.lower_priority_again_after);
    page.line(format!("   Gratuitous ARP lower priority delay = {lower}"));
    page.line(format!("   Gratuitous ARP lower priority repeat = {}", garp.lower_priority_rounds));
    page.line(format!("   Down timer adverts = {}", instance.down_timer_adverts));
    if let Some(extra) = instance.extra_announcements {
        let kind = if extra.all { "i/f" } else { "VMAC" };
        let every = extra.interval.as_secs();
        page.line(format!("   Gratuitous ARP for each secondary {kind} = {every}"));
    }
}

fn protocol(page: &mut Page, instance: &Instance, status: &InstanceStatus) {
    let lower = instance.answer_lower_priority;
    page.line(format!("   Send advert after receive lower priority advert = {lower}"));
    let higher = instance.answer_higher_priority;
    page.line(format!("   Send advert after receive higher priority advert = {higher}"));
    page.line(format!("   Virtual Router ID = {}", instance.vrid));
    page.line(format!("   Priority = {}", instance.priority));
    page.line(format!("   Effective priority = {}", status.priority));
    page.line(format!("   Total priority = {}", total_priority(instance, status)));
    match instance.version {
        Version::V2 => page.line(format!("   Advert interval = {} sec", instance.advert_interval.as_secs())),
        Version::V3 => {
            page.line(format!("   Advert interval = {} milli-sec", instance.advert_interval.as_millis()));
        }
    }
    if status.state == State::Backup && instance.version == Version::V3 {
        let interval = status.active.as_ref().map_or(instance.advert_interval, |p| p.advert_interval);
        page.line(format!("   Master advert interval = {} milli-sec", interval.as_millis()));
    }
    page.line(format!("   Accept = {}", words::on_off(instance.accept)));
    page.line(format!("   Preempt = {}", words::on_off(instance.preempt)));
    if !instance.preempt_delay.is_zero() {
        page.line(format!("   Preempt delay = {} secs", words::seconds(instance.preempt_delay)));
    }
    page.line(format!("   Promote_secondaries = {}", words::on_off(instance.promote_secondaries)));
    match &instance.authentication {
        Authentication::None if instance.version == Version::V2 => {
            page.line("   Authentication type = none");
        }
        Authentication::None => {}
        Authentication::Pass(secret) => {
            page.line("   Authentication type = SIMPLE_PASSWORD");
            page.line(format!("   Password = {}", password(secret)));
        }
        Authentication::Ah(_) => page.line("   Authentication type = IPSEC_AH"),
    }
    if let Some(size) = instance.receive_buffer {
        page.line(format!("   Kernel rx buffer size = {size}"));
    }
}

/// The sum before it is brought into 1–254.
fn total_priority(instance: &Instance, status: &InstanceStatus) -> i32 {
    let weights: i32 = status.weights.iter().map(|weight| weight.delta).sum();
    i32::from(instance.priority) + weights
}

fn held(page: &mut Page, instance: &Instance, status: &InstanceStatus) {
    let set = status.state == State::Active;
    if !instance.addresses.is_empty() {
        page.line(format!("   Virtual IP ({}):", instance.addresses.len()));
        instance.addresses.iter().for_each(|one| page.line(format!("     {}", words::address(one, set))));
    }
    if !instance.excluded.is_empty() {
        page.line("   Virtual IP Excluded :");
        instance.excluded.iter().for_each(|one| page.line(format!("     {}", words::address(one, set))));
    }
    if let Transport::Unicast { peers, ttl, check_source } = &instance.transport {
        page.line(format!("   Unicast TTL = {ttl}"));
        page.line(format!("   Check unicast src : {}", words::yes_no(*check_source)));
        page.line("   Unicast Peer :");
        for peer in peers {
            let (min, max) = (peer.min_ttl.unwrap_or(0), peer.max_ttl.unwrap_or(255));
            page.line(format!("     {} min_ttl {min} max_ttl {max}", peer.address));
        }
        let compatibility = match instance.old_unicast_checksum {
            OldUnicastChecksum::Detect => "no",
            OldUnicastChecksum::Always => "config",
            OldUnicastChecksum::Never => "never",
        };
        page.line(format!("   Unicast checksum compatibility = {compatibility}"));
    }
    let descriptor = status.runtime.descriptor.unwrap_or(-1);
    page.line(format!("   fd_in {descriptor}, fd_out {descriptor}"));
    if !instance.routes.is_empty() {
        page.line("   Virtual Routes :");
        instance.routes.iter().for_each(|route| page.line(format!("     {}", route.text)));
    }
    if !instance.rules.is_empty() {
        page.line("   Virtual Rules :");
        instance.rules.iter().for_each(|rule| page.line(format!("     {}", rule.text)));
    }
    interfaces(page, tracked_interfaces(instance));
}

pub(super) fn interfaces<'a>(page: &mut Page, tracked: impl Iterator<Item = &'a TrackInterface>) {
    for (index, track) in tracked.enumerate() {
        if index == 0 {
            page.line("   Tracked interfaces :");
        }
        page.line(format!("     {} weight {}", track.interface, words::weight(track.effect)));
    }
}

/// Scripts, files, processes (a group has another word for them), BFD sessions.
pub(super) fn trackers(
    page: &mut Page,
    picture: &Picture<'_>,
    processes: &str,
    checks: &[TrackCheck],
    bfd: &[TrackBfd],
) {
    type Wanted = fn(&Probe) -> bool;
    let kinds: [(&str, &str, Wanted); 3] = [
        ("scripts", "", |probe| matches!(probe, Probe::Script(_))),
        ("files", ",", |probe| matches!(probe, Probe::File { .. })),
        (processes, ",", |probe| matches!(probe, Probe::Process(_))),
    ];
    for (head, comma, wanted) in kinds {
        let of_kind = checks
            .iter()
            .filter(|track| picture.check(&track.check).is_some_and(|(check, _)| wanted(&check.probe)));
        for (index, track) in of_kind.enumerate() {
            if index == 0 {
                page.line(format!("   Tracked {head} :"));
            }
            page.line(format!("     {}{comma} weight {}", track.check, words::weight(track.effect)));
        }
    }
    for (index, track) in bfd.iter().enumerate() {
        if index == 0 {
            page.line("   Tracked BFDs :");
        }
        page.line(format!("     {}: weight {}", track.bfd, words::weight(track.effect)));
    }
}

pub(super) fn scripts(page: &mut Page, notify: &Notify) {
    let scripts = [
        ("Backup", &notify.backup),
        ("Master", &notify.master),
        ("Fault", &notify.fault),
        ("Stop", &notify.stop),
        ("Deleted", &notify.deleted),
        ("Generic", &notify.any),
        ("Master rx lower pri", &notify.master_rx_lower_priority),
    ];
    for (kind, command) in scripts {
        if let Some(command) = command {
            let (words, user) = (words::command(command), words::user(command.user.as_ref()));
            page.line(format!("   {kind} state transition script = {words}, uid:gid {user}"));
        }
    }
}
