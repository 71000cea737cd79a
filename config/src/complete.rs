//! From what is meant to what can run: every default filled in.
//!
//! The order is keepalived's: family, version, priority and state, authentication, transport, addresses,
//! preemption, interval, trackers.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::diagnostic::{Diagnostic, Diagnostics, Located, Location};
use crate::model::{self, FirstState, Model};
use crate::ready::{
    Announcements, Authentication, Backend, Check, Config, Control, Engine, ExtraAnnouncements, Family,
    Firewall, Hmac, Instance, Keepalive, Listener, Mail, Process, StaticAddress, TrackCheck, TrackGroup,
    Transport, Version, VirtualAddress,
};
use crate::users::Users;
use crate::validate;

mod eligible;
mod groups;
mod trackers;

/// Default path of the control socket.
pub const CONTROL_SOCKET: &str = "/run/vipd/control.sock";

/// How long a backend may take to answer a connect.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long sent bytes may stay unacknowledged.
pub(crate) const USER_TIMEOUT: Duration = Duration::from_secs(20);
/// Probes on both legs of a session.
pub(crate) const KEEPALIVE: Keepalive =
    Keepalive { idle: Duration::from_secs(30), interval: Duration::from_secs(10), count: 3 };
/// Sessions of a listener at a time.
pub(crate) const MAX_SESSIONS: u32 = 10_000;
/// How long a client keeps its backend after its last session.
pub(crate) const PERSISTENCE_TIMEOUT: Duration = Duration::from_secs(360);
/// Errors in a row that sessions may meet at a backend (HAProxy's `error-limit`).
pub(crate) const ERROR_LIMIT: u32 = 10;
/// How long a backend without a check is down for them.
pub(crate) const OBSERVED_DOWN_FOR: Duration = Duration::from_secs(10);
/// From round to round of gratuitous ARP with a virtual MAC. Who lets go of the address may still answer the first
/// round, from the same MAC: the switch then turns back to it, and stays so until the next frame from here.
pub(crate) const VMAC_ROUND_GAP: Duration = Duration::from_millis(10);
/// Successes that bring a check up, in TOML.
pub(crate) const RISE: u32 = 2;
/// Failures that bring a check down, in TOML.
pub(crate) const FALL: u32 = 3;

/// Required_Min_RX and Desired_Min_TX of a BFD session.
pub(crate) const BFD_INTERVAL: Duration = Duration::from_millis(10);
/// Desired_Min_TX while a session is not up (RFC 5880 §6.8.3).
pub(crate) const BFD_IDLE: Duration = Duration::from_secs(1);
/// Detect_Mult.
pub(crate) const BFD_MULTIPLIER: u8 = 5;
/// Port of SMTP.
pub(crate) const SMTP_PORT: u16 = 25;
/// Until an SMTP server answers.
pub(crate) const SMTP_TIMEOUT: Duration = Duration::from_secs(30);

/// keepalived sends 64 over IPv6 too, and is not heard by those who follow RFC 5881 §5.
pub(crate) fn bfd_ttl(multihop: bool) -> u8 {
    if multihop { 64 } else { 255 }
}

/// Fills in the defaults; what cannot run is reported and left out.
pub(crate) fn complete(
    mut model: Model,
    host_name: String,
    users: &Users,
    diagnostics: &mut Diagnostics,
) -> Config {
    eligible::expand(&mut model, diagnostics);
    validate::names(&model, diagnostics);
    validate::sessions(&model, diagnostics);
    let only_if_used = model.checks.iter().filter(|c| c.only_if_used).map(|c| c.name.value.clone()).collect();
    let trackers = trackers::Rules::new(&model);
    let checks: Vec<Check> = model.checks.into_iter().map(check).collect();
    let mut instances = Vec::new();
    for mut instance in model.instances {
        instance.lease = instance.lease.or_else(|| model.lease.clone());
        instances.extend(complete_instance(instance, &trackers, diagnostics));
    }
    let groups = std::mem::take(&mut model.sync_groups);
    let sync_groups = groups::complete(groups, &mut instances, &trackers, diagnostics);
    let instances = exact(instances.into_iter().map(Arc::new).collect());
    let mail = mail(model.mail, &host_name, users);
    validate::virtual_routers(&instances, diagnostics);
    let optional = model.listeners.iter().filter(|l| l.optional).map(|l| l.name.value.clone()).collect();
    let listeners = model.listeners.into_iter().map(|l| listener(l, &instances)).collect();
    let control = Control {
        socket: model.control_socket.map_or_else(|| PathBuf::from(CONTROL_SOCKET), |s| s.value),
        metrics: model.metrics.map(|m| m.value),
        web: model.web.map(|w| w.value),
    };
    let mut config = Config {
        engine: Engine {
            realtime_priority: model.realtime_priority.map(|p| p.value),
            lock_memory: model.lock_memory.is_some_and(|l| l.value),
            log_unknown_vrids: model.log_unknown_vrids.is_some_and(|l| l.value),
            startup_delay: model.startup_delay.map_or(Duration::ZERO, |d| d.value),
            ..model.engine
        },
        checks,
        instances,
        listeners,
        forwarder: model.forwarder,
        health_pages: model.health_pages,
        fifos: model.fifos,
        track_groups: model.track_groups.into_iter().map(track_group).collect(),
        static_addresses: model.static_addresses.into_iter().map(static_address).collect(),
        static_routes: model.static_routes,
        static_rules: model.static_rules,
        firewall: model.firewall.map_or_else(Firewall::default, |f| f.value),
        sync_groups,
        bfd: model.bfd,
        announcement_groups: model.announcement_groups,
        link_delays: model.link_delays,
        process: Process { mail, ..model.process },
        shown: model.shown,
        ..Config::empty(model.router_id.map_or(host_name, |id| id.value), control)
    };
    vips(&mut config);
    validate::use_of_checks(&mut config, &only_if_used, diagnostics);
    validate::ruled(&mut config, &optional, diagnostics);
    config
}

/// Which virtual addresses lead to what a check looks at: those of the instances that track it, and those that are
/// bound by the listeners that use it.
fn vips(config: &mut Config) {
    let Config { checks, instances, sync_groups, listeners, .. } = config;
    for check in checks {
        let tracks = |tracked: &[TrackCheck]| tracked.iter().any(|tracked| tracked.check == check.name);
        let mut vips = BTreeSet::new();
        for instance in instances.iter() {
            let mut groups = sync_groups.iter().filter(|group| group.members.contains(&instance.name));
            if tracks(&instance.track_checks) || groups.any(|group| tracks(&group.track_checks)) {
                vips.extend(instance.held().map(|address| address.address));
            }
        }
        for listener in listeners.iter() {
            let uses = |backend: &Backend| backend.checks.contains(&check.name);
            if listener.backends.iter().any(uses) {
                vips.extend(bound(listener));
            }
        }
        check.vips = vips.into_iter().collect();
    }
    for listener in listeners {
        let vips: Vec<_> = bound(listener).collect();
        for check in listener.discovered.iter_mut().filter_map(|found| found.check.as_mut()) {
            check.vips.clone_from(&vips);
        }
    }
}

fn bound(listener: &Listener) -> impl Iterator<Item = IpAddr> {
    listener.bind.iter().map(SocketAddr::ip).filter(|address| !address.is_unspecified())
}

fn track_group(group: model::TrackGroup) -> TrackGroup {
    TrackGroup {
        name: group.name.value,
        instances: group.instances.into_iter().map(|name| name.value).collect(),
        place: group.name.at.place,
    }
}

fn static_address(fixed: model::StaticAddress) -> StaticAddress {
    StaticAddress { address: fixed.address.value, track_group: fixed.track_group }
}

/// Nobody to mail, or no server: no mail, as in keepalived.
fn mail(mail: model::Mail, host_name: &str, users: &Users) -> Option<Mail> {
    let (server, port) = mail.server.filter(|_| !mail.to.is_empty())?;
    Some(Mail {
        to: mail.to,
        from: mail.from.unwrap_or_else(|| format!("{}@{host_name}", users.own_name())),
        server,
        port,
        helo: mail.helo.unwrap_or_else(|| host_name.to_owned()),
        connect_timeout: mail.connect_timeout.unwrap_or(SMTP_TIMEOUT),
        no_faults: mail.no_faults,
        start_tls: mail.start_tls,
        login: mail.login,
    })
}

pub(crate) fn check(check: model::Check) -> Check {
    Check {
        name: check.name.value,
        place: check.name.at.place,
        probe: check.probe,
        interval: check.interval,
        timeout: check.timeout.unwrap_or(check.interval),
        rise: check.rise,
        fall: check.fall,
        first_result_decides: check.first_result_decides,
        pace: check.pace,
        dial: check.dial,
        vips: Vec::new(),
    }
}

fn listener(listener: model::Listener, instances: &[Arc<Instance>]) -> Listener {
    let bind: Vec<_> = listener.bind.iter().map(|b| b.value).collect();
    let instances = match listener.instances {
        Some(named) => named.into_iter().map(|n| n.value).collect(),
        None => instances_of(&bind, instances),
    };
    let backend = |b: model::Backend| Backend {
        name: b.name.value,
        address: b.address.value,
        weight: b.weight,
        checks: b.checks.into_iter().map(|c| c.value).collect(),
        place: b.name.at.place,
        policy: b.policy,
    };
    Listener {
        name: listener.name.value,
        place: listener.name.at.place,
        bind,
        balance: listener.balance,
        backends: listener.backends.into_iter().map(backend).collect(),
        connect_timeout: listener.connect_timeout,
        idle_timeout: listener.idle_timeout,
        keepalive: listener.keepalive,
        user_timeout: listener.user_timeout,
        max_sessions: listener.max_sessions,
        close_sessions_on_backend_down: listener.close_sessions_on_backend_down,
        instances,
        discovered: listener.discovered,
        policy: listener.policy,
    }
}

/// The instances that hold an address which is bound.
pub(crate) fn instances_of(bind: &[SocketAddr], instances: &[Arc<Instance>]) -> Vec<String> {
    let bound = |ip: IpAddr| bind.iter().any(|b| b.ip() == ip);
    let holds = |instance: &&Arc<Instance>| instance.held().any(|a| bound(a.address));
    instances.iter().filter(holds).map(|i| i.name.clone()).collect()
}

fn complete_instance(
    mut meant: model::Instance,
    trackers: &trackers::Rules,
    diagnostics: &mut Diagnostics,
) -> Option<Instance> {
    let family = family(&meant);
    let version = version(&meant, family, diagnostics);
    let strict = meant.strict.as_ref().is_some_and(|s| s.value);
    let priority = match (&meant.priority, &meant.first_state) {
        (Some(priority), _) => priority.value,
        // keepalived: `state MASTER` without a priority is the address owner.
        (None, Some(state)) if state.value == FirstState::Active => 255,
        (None, _) => 100,
    };
    let owner = priority == 255;
    validate::first_state(&meant, owner, strict, diagnostics);
    let authentication = authentication(&meant, version, strict, diagnostics);
    validate::first_state_with_header(&meant, owner, &authentication, diagnostics);
    let header = matches!(authentication, Authentication::Ah(_));
    let wants_active = meant.first_state.as_ref().map_or(owner, |s| s.value == FirstState::Active);
    // Strict mode and AH make MASTER of any but the owner BACKUP.
    let master = wants_active && (owner || !(strict || header));
    let transport = transport(&meant, family, strict, diagnostics);
    let preempt = preempt(&meant, master, diagnostics);
    let preempt_delay = preempt_delay(&meant, master, preempt, strict, diagnostics);
    let advert_interval = advert_interval(&meant, version, diagnostics);
    let interface = validate::interface(&meant, family, diagnostics);
    let vrid = validate::vrid(&meant, diagnostics);
    let accept = accept(&meant, owner, strict, version, diagnostics);
    let hmac = hmac(&meant, advert_interval, &authentication, diagnostics);
    let down_timer_adverts = match (&meant.down_timer_adverts, strict) {
        (Some(count), true) if count.value != 3 => {
            let finding =
                Diagnostic::warning("strict-mode", &count.at, "strict mode takes over after 3 adverts");
            diagnostics.push(finding.help("`down_timer_adverts` is ignored, as in keepalived"));
            3
        }
        (Some(count), _) => count.value,
        (None, _) => 3,
    };
    let (interface, vrid, transport) = (interface?, vrid?, transport?);
    let (addresses, excluded) = addresses(&mut meant, family, version, strict, &interface, diagnostics);
    let timer_expired_backup = validate::timer_expired_backup(&meant, preempt, diagnostics);
    let lease = validate::lease(&meant, advert_interval, diagnostics);
    let own = Some(interface.as_str()).filter(|interface| !interface.is_empty());
    let tracked = trackers.of_instance(&meant, owner, own, diagnostics);
    let mut gratuitous_arp = meant.gratuitous_arp;
    if meant.vmac.is_some() && gratuitous_arp.round_gap.is_zero() {
        gratuitous_arp.round_gap = VMAC_ROUND_GAP;
    }
    let mut neighbor_advertisements = meant.neighbor_advertisements;
    // Strict mode leaves nothing of it, whatever is written.
    if strict {
        for announcements in [&mut gratuitous_arp, &mut neighbor_advertisements] {
            announcements.lower_priority_rounds = 0;
            announcements.lower_priority_again_after = None;
        }
    }
    let extra_announcements =
        extra_announcements(meant.extra_announcements, &interface, &addresses, &excluded);
    Some(Instance {
        name: meant.name.value,
        place: meant.name.at.place,
        interface,
        vrid,
        version,
        family,
        priority,
        advert_interval,
        start_active: owner && master,
        preempt,
        preempt_delay,
        down_timer_adverts,
        source: meant.source.filter(|s| family_of(s.value) == family).map(|s| s.value),
        transport,
        authentication,
        checksum_message_only: meant.checksum_message_only,
        strict,
        extra_announcements,
        addresses,
        excluded,
        track_checks: exact(tracked.checks),
        track_interfaces: exact(tracked.interfaces),
        gratuitous_arp,
        neighbor_advertisements,
        answer_lower_priority: !strict && meant.answer_lower_priority.unwrap_or(true),
        answer_higher_priority: !strict && meant.answer_higher_priority.unwrap_or(false),
        notify: meant.notify,
        wants_active: master && !owner,
        accept,
        vmac: meant.vmac,
        routes: exact(meant.routes),
        rules: exact(meant.rules),
        promote_secondaries: meant.promote_secondaries,
        track_bfd: exact(tracked.bfd),
        track_source: meant.track_source,
        timer_expired_backup,
        skip_address_check: meant.skip_address_check,
        owner_ignores_adverts: meant.owner_ignores_adverts.unwrap_or(strict && owner),
        old_unicast_checksum: meant.old_unicast_checksum,
        hmac,
        smtp_alert: meant.smtp_alert,
        receive_buffer: meant.receive_buffer,
        lease,
    })
}

/// None where no address is on another interface, or without `all` on another VMAC, as in keepalived.
fn extra_announcements(
    wanted: Option<ExtraAnnouncements>,
    interface: &str,
    addresses: &[VirtualAddress],
    excluded: &[VirtualAddress],
) -> Option<ExtraAnnouncements> {
    let elsewhere = |all: bool| {
        let mut held = addresses.iter().chain(excluded);
        held.any(|one| one.own_vmac.is_some() || all && one.interface != interface)
    };
    wanted.filter(|extra| elsewhere(extra.all))
}

/// Without room for more: the list stays as long as the daemon runs. One that was made of another, in place, would keep
/// the room of that one's larger elements.
fn exact<T>(mut list: Vec<T>) -> Vec<T> {
    list.shrink_to_fit();
    list
}

pub(crate) fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
}

/// From the first address, or the source, or the peers; IPv4 if there is none.
fn family(meant: &model::Instance) -> Family {
    let first = meant.addresses.first().map(|a| a.value.address.address);
    let source = meant.source.as_ref().map(|s| s.value);
    let peer = meant.unicast.as_ref().and_then(|u| u.peers.first()).map(|p| p.value.address);
    first.or(source).or(peer).map_or(Family::Ipv4, family_of)
}

fn version(meant: &model::Instance, family: Family, diagnostics: &mut Diagnostics) -> Version {
    match (&meant.version, family) {
        (Some(version), Family::Ipv6) if version.value == Version::V2 => {
            let finding =
                Diagnostic::warning("version-for-ipv6", &version.at, "VRRP version 2 carries no IPv6");
            diagnostics.push(finding.expected("version 3").help("version 3 is used"));
            Version::V3
        }
        (_, Family::Ipv6) => Version::V3,
        (Some(version), Family::Ipv4) => version.value,
        (None, Family::Ipv4) => meant.default_version,
    }
}

fn authentication(
    meant: &model::Instance,
    version: Version,
    strict: bool,
    diagnostics: &mut Diagnostics,
) -> Authentication {
    let Some(password) = &meant.password else { return Authentication::None };
    if version == Version::V3 || strict {
        let why = if strict { "strict mode" } else { "VRRP version 3" };
        let message = format!("{why} has no authentication (instance {})", meant.name.value);
        let finding = Diagnostic::warning("authentication-ignored", &password.at, message);
        diagnostics.push(finding.help("the password is ignored, as in keepalived"));
        return Authentication::None;
    }
    let mut bytes = [0; 8];
    for (byte, from) in bytes.iter_mut().zip(&password.value.0) {
        *byte = *from;
    }
    match meant.authentication_header {
        true => Authentication::Ah(bytes),
        false => Authentication::Pass(bytes),
    }
}

fn accept(
    meant: &model::Instance,
    owner: bool,
    strict: bool,
    version: Version,
    diagnostics: &mut Diagnostics,
) -> bool {
    let Some(accept) = &meant.accept else { return owner || !strict };
    if accept.value && strict && version == Version::V2 && !owner {
        let message = "version 2 in strict mode does not accept packets to the VIP";
        let finding = Diagnostic::warning("strict-mode", &accept.at, message);
        diagnostics.push(finding.help("`accept` is reset, as in keepalived"));
        return false;
    }
    accept.value
}

/// The window depends on the interval; version 2 authentication cannot be beside it.
fn hmac(
    meant: &model::Instance,
    advert_interval: Duration,
    authentication: &Authentication,
    diagnostics: &mut Diagnostics,
) -> Option<Hmac> {
    let hmac = meant.hmac.clone()?;
    if *authentication != Authentication::None {
        let at = meant.password.as_ref().map_or(&meant.name.at, |password| &password.at);
        let message = format!("instance {} has a password, and its adverts are signed", meant.name.value);
        let finding = Diagnostic::error("conflict", at, message);
        diagnostics
            .push(finding.expected("one of them").help("delete the password: signing is the stronger"));
    }
    let time_window =
        if hmac.time_window.is_zero() { hmac_window(advert_interval) } else { hmac.time_window };
    Some(Hmac { time_window, ..hmac })
}

/// Three advert intervals in whole seconds, 5–300 s.
pub(crate) fn hmac_window(advert_interval: Duration) -> Duration {
    Duration::from_secs((3 * advert_interval.as_secs()).clamp(5, 300))
}

fn transport(
    meant: &model::Instance,
    family: Family,
    strict: bool,
    diagnostics: &mut Diagnostics,
) -> Option<Transport> {
    let default_group = if family == Family::Ipv4 { meant.default_groups.0 } else { meant.default_groups.1 };
    let group = match &meant.group {
        Some(group) if family_of(group.value) == family => group.value,
        Some(group) => {
            let finding = Diagnostic::warning(
                "address-family",
                &group.at,
                "the group is of another family than the instance",
            );
            diagnostics.push(finding.help(format!("{default_group} is used")));
            default_group
        }
        None => default_group,
    };
    let Some(unicast) = &meant.unicast else { return Some(Transport::Multicast { group }) };
    let mut peers = Vec::new();
    for peer in &unicast.peers {
        if family_of(peer.value.address) == family {
            peers.push(peer.value);
        } else {
            let message = format!("peer {} is of another family than the instance", peer.value.address);
            let finding = Diagnostic::warning("address-family", &peer.at, message);
            diagnostics.push(finding.help("the peer is skipped, as in keepalived"));
        }
    }
    if peers.is_empty() {
        let message = format!("instance {} has unicast words but no peers", meant.name.value);
        let code = if unicast.fault_without_peer { "fault-without-peer" } else { "no-unicast-peer" };
        let finding = Diagnostic::warning(code, &unicast.at, message).expected("at least one peer");
        if unicast.fault_without_peer {
            diagnostics.push(finding.help("it stays in FAULT, as in keepalived"));
            let ttl = unicast.ttl.unwrap_or(255);
            return Some(Transport::Unicast { peers, ttl, check_source: unicast.check_source });
        }
        diagnostics.push(
            finding.help("multicast is used, as in keepalived; a router that uses unicast does not hear it"),
        );
        return Some(Transport::Multicast { group });
    }
    if strict && meant.interface.is_some() {
        let message = "unicast peers are beyond the protocol, which strict mode asks for";
        let finding = Diagnostic::warning("strict-mode", &unicast.at, message);
        diagnostics.push(finding.help(
            "it runs, as with keepalived 2.2.7; later versions refuse it: delete `strict_mode` or the peers",
        ));
    }
    Some(Transport::Unicast { peers, ttl: unicast.ttl.unwrap_or(255), check_source: unicast.check_source })
}

fn preempt(meant: &model::Instance, master: bool, diagnostics: &mut Diagnostics) -> bool {
    match &meant.preempt {
        Some(preempt) if !preempt.value && master => {
            let message = format!(
                "no preemption does not work with the first state MASTER (instance {})",
                meant.name.value
            );
            let finding = Diagnostic::warning("nopreempt-with-master", &preempt.at, message);
            diagnostics.push(
                finding
                    .expected("`state BACKUP` on every router")
                    .help("it is cleared, as in keepalived: this router preempts"),
            );
            true
        }
        Some(preempt) => preempt.value,
        None => true,
    }
}

fn preempt_delay(
    meant: &model::Instance,
    master: bool,
    preempt: bool,
    strict: bool,
    diagnostics: &mut Diagnostics,
) -> Duration {
    let Some(delay) = meant.preempt_delay.as_ref().filter(|d| !d.value.is_zero()) else {
        return Duration::ZERO;
    };
    let why = match (master, preempt, strict) {
        (true, _, _) => "the first state MASTER",
        (_, false, _) => "no preemption",
        (_, _, true) => "strict mode",
        _ => return delay.value,
    };
    let message = format!("a preemption delay does not work with {why} (instance {})", meant.name.value);
    let finding = Diagnostic::warning("preempt-delay-ignored", &delay.at, message);
    diagnostics.push(finding.help("it is cleared, as in keepalived"));
    Duration::ZERO
}

fn advert_interval(meant: &model::Instance, version: Version, diagnostics: &mut Diagnostics) -> Duration {
    const SECOND: Duration = Duration::from_secs(1);
    let Some(written) = &meant.advert_interval else { return SECOND };
    let (time, unit, most, otherwise) = match version {
        Version::V2 => (written.value, SECOND, Duration::from_secs(255), SECOND),
        Version::V3 => (
            written.value,
            Duration::from_millis(10),
            Duration::from_millis(40_950),
            Duration::from_millis(40_950),
        ),
    };
    let rounded = crate::time::round_to(time, unit).max(unit);
    let used = if rounded > most { otherwise } else { rounded };
    if used == time {
        return time;
    }
    let (expected, why) = match version {
        Version::V2 => ("whole seconds from 1 to 255", "version 2"),
        Version::V3 => ("10 ms to 40.95 s, in steps of 10 ms", "version 3"),
    };
    let message = format!("{} between adverts cannot be sent in {why}", crate::time::shown(time));
    let finding = Diagnostic::warning("advert-interval", &written.at, message).expected(expected);
    diagnostics.push(
        finding.help(format!("{} is used, as in keepalived; all peers must agree", crate::time::shown(used))),
    );
    used
}

/// How many addresses an advert carries on a link with an MTU of 1500.
fn most_addresses(family: Family, signed: bool) -> usize {
    const TRAILER: usize = 28;
    match family {
        Family::Ipv4 => 255,
        Family::Ipv6 => (1500 - 14 - 40 - 8 - if signed { TRAILER } else { 0 }) / 16,
    }
}

fn addresses(
    meant: &mut model::Instance,
    family: Family,
    version: Version,
    strict: bool,
    interface: &str,
    diagnostics: &mut Diagnostics,
) -> (Vec<VirtualAddress>, Vec<VirtualAddress>) {
    let name = meant.name.clone();
    let mut seen: HashSet<IpAddr> = HashSet::new();
    let mut kept = Vec::new();
    for address in std::mem::take(&mut meant.addresses) {
        let ip = address.value.address.address;
        if family_of(ip) != family {
            let message = format!("{ip} is of another family than instance {}", name.value);
            let finding = Diagnostic::warning("address-family", &address.at, message);
            diagnostics.push(finding.help("it is skipped, as in keepalived; put it under `virtual_ipaddress_excluded` or in an instance of its own"));
        } else if !has_interface(&address, interface, &name, diagnostics) {
            // Said.
        } else {
            kept.push(once(&mut seen, address, "; an advert names it as often as it is written, as in keepalived 2.2.7, so all peers must agree", diagnostics));
        }
    }
    let mut excluded: Vec<_> = Vec::new();
    let most = most_addresses(family, meant.hmac.is_some());
    if kept.len() > most {
        let first = &kept[most];
        let message = format!("{} addresses; an advert carries {most}", kept.len());
        let finding = Diagnostic::warning("too-many-addresses", &first.at, message);
        diagnostics.push(finding.help("the rest is held but not advertised, as in keepalived; put it under `virtual_ipaddress_excluded`"));
        excluded = kept.split_off(most);
    }
    for address in std::mem::take(&mut meant.excluded) {
        if has_interface(&address, interface, &name, diagnostics) {
            excluded.push(once(&mut seen, address, "", diagnostics));
        }
    }
    validate::address_count(&name, kept.len(), meant.no_addresses, version, strict, diagnostics);
    if let Some(first) = kept.first() {
        validate::first_address(first, strict, diagnostics);
    }
    let (has_vmac, for_others) = (meant.vmac.is_some(), &meant.vmac_for_others);
    let finish = |address: Located<model::Address>| {
        let model::Address { interface: own, address } = address.value;
        let on = own.map_or_else(|| interface.to_owned(), |i| i.value);
        let at_home = on == interface && family_of(address.address) == family;
        let own_vmac = match (at_home, for_others) {
            (true, _) if has_vmac => None,
            (false, Some(prefix)) => address.own_vmac.clone().or_else(|| Some(prefix.clone())),
            _ => address.own_vmac.clone(),
        };
        VirtualAddress { interface: on, own_vmac, ..address }
    };
    (exact(kept.into_iter().map(finish).collect()), exact(excluded.into_iter().map(finish).collect()))
}

/// Notes whether the address stands further up already.
fn once(
    seen: &mut HashSet<IpAddr>,
    mut address: Located<model::Address>,
    consequence: &str,
    diagnostics: &mut Diagnostics,
) -> Located<model::Address> {
    let ip = address.value.address.address;
    if !seen.insert(ip) {
        let message = format!("{ip} is written twice");
        let finding = Diagnostic::warning("counted-once", &address.at, message);
        diagnostics.push(finding.help(format!("the first counts{consequence}")));
        address.value.address.repeated = true;
    }
    address
}

/// An instance without an interface has none for its addresses.
fn has_interface(
    address: &Located<model::Address>,
    interface: &str,
    name: &Located<String>,
    diagnostics: &mut Diagnostics,
) -> bool {
    let has = !interface.is_empty() || address.value.interface.is_some();
    if !has {
        let ip = address.value.address.address;
        let message = format!("{ip} has no interface, nor has instance {}", name.value);
        let finding = Diagnostic::warning("address-without-interface", &address.at, message);
        diagnostics
            .push(finding.expected("an interface of its own").help("it is left out, as in keepalived 2.4"));
    }
    has
}

/// An address without options.
pub(crate) fn plain_address(address: IpAddr, prefix_length: u8) -> VirtualAddress {
    let link_local = matches!(address, IpAddr::V6(six) if six.is_unicast_link_local());
    VirtualAddress {
        address,
        prefix_length,
        interface: String::new(),
        label: None,
        scope: if link_local { 253 } else { 0 },
        broadcast: None,
        peer: None,
        // keepalived 2.2.7: a /128 is deprecated, so that nothing chooses it as a source.
        preferred_lifetime: (address.is_ipv6() && prefix_length == 128).then_some(0),
        no_dad: address.is_ipv6(),
        home: false,
        no_prefix_route: false,
        autojoin: false,
        manage_temporary: false,
        own_vmac: None,
        track: true,
        repeated: false,
        place: Location::file(&"".into()).place,
    }
}

/// keepalived's bursts of gratuitous ARP: all rounds at once, and once more after 5 s.
pub(crate) fn arp_announcements() -> Announcements {
    Announcements {
        rounds: 5,
        round_gap: Duration::ZERO,
        again_after: Some(Duration::from_secs(5)),
        refresh: None,
        refresh_rounds: 1,
        lower_priority_rounds: 5,
        lower_priority_again_after: Some(Duration::from_secs(5)),
        packet_gap: Duration::ZERO,
    }
}

/// RFC 4861 §7.2.6: up to three unsolicited advertisements, a second apart.
pub(crate) fn neighbor_announcements() -> Announcements {
    Announcements {
        rounds: 3,
        round_gap: Duration::from_secs(1),
        again_after: None,
        refresh: None,
        refresh_rounds: 1,
        lower_priority_rounds: 3,
        lower_priority_again_after: None,
        packet_gap: Duration::ZERO,
    }
}
