//! What a configuration means to vipd, said in the words of keepalived's dump.
//!
//! The counterpart of [`crate::dump`]: both give [`Facts`], which are then compared one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use config::ready::{
    Announcements, Authentication, Check, Command, Config, DynamicInterfaces, Effect, Family, FileExpect,
    Instance, Notify, OldUnicastChecksum, ParameterMatch, Probe, StaticAddress, SyncGroup, TrackBfd,
    TrackCheck, TrackInterface, Transport, User, Version, VirtualAddress,
};

use crate::dump::{self, Facts, add};

/// The facts of a configuration.
pub fn facts(config: &Config) -> Facts {
    let mut facts = Facts::new();
    global(&mut facts, config);
    for address in &config.static_addresses {
        add(&mut facts, "static", "addresses", static_address(address));
    }
    for route in &config.static_routes {
        add(&mut facts, "static", "routes", dump::route(&route.text));
    }
    for rule in &config.static_rules {
        add(&mut facts, "static", "rules", rule.text.clone());
    }
    for group in &config.track_groups {
        let object = format!("track group {}", group.name);
        add(&mut facts, "order", "track group", &group.name);
        group.instances.iter().for_each(|i| add(&mut facts, &object, "VRRP member instances", i));
    }
    for instance in &config.instances {
        add(&mut facts, "order", "instance", &instance.name);
        self::instance(&mut facts, config, instance);
    }
    for group in &config.sync_groups {
        add(&mut facts, "order", "sync group", &group.name);
        sync_group(&mut facts, config, group);
    }
    for check in &config.checks {
        self::check(&mut facts, check);
    }
    for group in &config.announcement_groups {
        add(&mut facts, "order", "announcement group", "");
        for (name, gap) in [("GARP", group.arp_gap), ("GNA", group.na_gap)] {
            if !gap.is_zero() {
                let text = format!("{name} interval = {}", gap.as_secs_f64());
                add(&mut facts, "announcement groups", "gaps", text);
            }
        }
        group.interfaces.iter().for_each(|i| add(&mut facts, "announcement groups", "interfaces", i));
    }
    for bfd in &config.bfd {
        self::bfd(&mut facts, bfd);
    }
    facts
}

fn said(yes: bool, positive: &str, negative: &str) -> String {
    if yes { positive } else { negative }.to_owned()
}

fn flag(facts: &mut Facts, object: &str, field: &str, on: bool) {
    if on {
        add(facts, object, field, "");
    }
}

fn seconds(time: Duration) -> String {
    time.as_secs().to_string()
}

fn global(facts: &mut Facts, config: &Config) {
    let (engine, process) = (&config.engine, &config.process);
    let truth = |on| said(on, "true", "false");
    let mut say = |field: &str, value: String| add(facts, "global", field, value);
    say("Router ID", config.router_id.clone());
    say("Network namespace", process.net_namespace.clone().unwrap_or_else(|| "(default)".into()));
    say("Dynamic interfaces", truth(engine.dynamic_interfaces != DynamicInterfaces::No));
    if engine.dynamic_interfaces != DynamicInterfaces::No {
        say("Allow interface changes", truth(engine.dynamic_interfaces == DynamicInterfaces::AllowChanges));
    }
    if let Some(instance) = &process.instance {
        say("Instance name", instance.clone());
    }
    if let Some(mail) = &process.mail {
        mail.to.iter().for_each(|to| say("Email notification to", to.clone()));
        say("Email notification from", mail.from.clone());
        say("Smtp server", mail.server.clone());
        say("Smtp server port", mail.port.to_string());
        say("Smtp HELO name", mail.helo.clone());
        if mail.no_faults {
            say("Send emails for fault transitions", "off".into());
        }
    }
    for fifo in &config.fifos {
        // Which of the two it is is said by nothing else than its lines.
        say("fifo", format!("{}, uid:gid {}", fifo.path.display(), ids(fifo.user.as_ref())));
        if let Some(script) = &fifo.script {
            let arguments = script.arguments.iter().cloned().chain([fifo.path.display().to_string()]);
            say(
                "fifo script",
                command(&Command { arguments: arguments.collect(), ..Command::clone(script) }),
            );
        }
    }
    say("FIFO write vrrp states on reload", truth(process.fifo_states_on_reload));
    say("Disable local IGMP", said(engine.disable_local_igmp, "yes", "no"));
    say("VRRP process priority", engine.nice.unwrap_or(0).to_string());
    say("VRRP don't swap", truth(engine.lock_memory));
    say("VRRP realtime priority", engine.realtime_priority.unwrap_or(0).to_string());
    say("VRRP realtime limit", engine.rlimit_rttime.map_or(10_000, |limit| limit.as_micros()).to_string());
    if !engine.startup_delay.is_zero() {
        say("vrrp_startup_delay", format!("{}", engine.startup_delay.as_secs_f64()));
    }
    if engine.log_unknown_vrids {
        say("log_unknown_vrids", String::new());
    }
    say("Script security", said(process.script_security, "enabled", "disabled"));
    say("umask", format!("0{:o}", process.umask.unwrap_or(0o177)));
    let gap = |announcements: Option<&Announcements>| {
        format!("{:.6}", announcements.map_or(Duration::ZERO, |a| a.packet_gap).as_secs_f64())
    };
    let first = config.instances.first();
    say("Gratuitous ARP interval", gap(first.map(|i| &i.gratuitous_arp)));
    say("Gratuitous NA interval", gap(first.map(|i| &i.neighbor_advertisements)));
    firewall(&mut say, config);
    // keepalived's VRRP process does not know the start-up and shutdown scripts, which its parent runs.
    if let Some(name) = &process.name {
        say("VRRP process name", name.clone());
    }
    if let Some(file) = &process.reload_check {
        say("Test config before reload, log to", file.display().to_string());
    }
    if let Some(file) = &process.reload_file {
        say("Reload_file", file.display().to_string());
    }
    if let Some(file) = &process.reload_time_file {
        let repeat = if process.reload_repeat { " (repeat)" } else { "" };
        say("Reload time file", format!("{}{repeat}", file.display()));
    }
    if process.data_use_instance {
        say("Use instance name in data dumps", String::new());
    }
}

fn firewall(say: &mut impl FnMut(&str, String), config: &Config) {
    let firewall = &config.firewall;
    let default = config::ready::Firewall::default();
    if firewall.table != default.table {
        say("nftables table name", firewall.table.clone());
    }
    if firewall.priority != default.priority {
        say("nftables base chain priority", firewall.priority.to_string());
    }
    if firewall.counters {
        say("nftables with counters", String::new());
    }
    if firewall.by_index {
        say("nftables force use ifindex for link local IPv6", String::new());
    }
}

fn instance(facts: &mut Facts, config: &Config, instance: &Instance) {
    let object = &format!("instance {}", instance.name);
    let enabled = |on| said(on, "enabled", "disabled");
    let mut say = |field: &str, value: String| add(facts, object, field, value);
    say("VRRP Version", said(instance.version == Version::V2, "2", "3"));
    say("Interface", instance.interface.clone());
    say("Virtual Router ID", instance.vrid.to_string());
    say("Priority", instance.priority.to_string());
    say("Advert interval", format!("{} ms", instance.advert_interval.as_millis()));
    say("Accept", enabled(instance.accept));
    say("Preempt", enabled(instance.preempt));
    if !instance.preempt_delay.is_zero() {
        say("Preempt delay", format!("{} secs", instance.preempt_delay.as_secs_f64()));
    }
    say("Promote_secondaries", enabled(instance.promote_secondaries));
    say("Down timer adverts", instance.down_timer_adverts.to_string());
    for (field, on) in [
        ("Send advert after receive lower priority advert", instance.answer_lower_priority),
        ("Send advert after receive higher priority advert", instance.answer_higher_priority),
        ("Notify priority changes", instance.notify.priority_changes),
    ] {
        say(field, said(on, "true", "false"));
    }
    if let Some(group) = config.sync_groups.iter().find(|g| g.members.contains(&instance.name)) {
        say("Sync group", group.name.clone());
    }
    if let Some(source) = instance.source {
        say("Using src_ip", source.to_string());
    }
    if let Some(bytes) = instance.receive_buffer {
        say("Kernel rx buffer size", bytes.to_string());
    }
    if let Some(extra) = instance.extra_announcements {
        let kind = if extra.all { "i/f" } else { "VMAC" };
        say(&format!("Gratuitous ARP for each secondary {kind}"), seconds(extra.interval));
    }
    say("Using smtp notification", said(instance.smtp_alert, "yes", "no"));
    say("Notify deleted", said(instance.notify.tells_deleted, "Deleted", "Fault"));
    flag(facts, object, "Using Native IPv6", instance.family == Family::Ipv6);
    flag(facts, object, "Skip checking advert IP addresses", instance.skip_address_check);
    flag(facts, object, "Enforcing strict VRRP compliance", instance.strict);
    announcements(facts, object, &instance.gratuitous_arp);
    authentication(facts, object, instance);
    transport(facts, object, instance);
    vmac(facts, object, config, instance);
    for (field, addresses) in
        [("Virtual IP", &instance.addresses), ("Virtual IP Excluded", &instance.excluded)]
    {
        addresses.iter().for_each(|a| add(facts, object, field, address(a)));
    }
    instance.routes.iter().for_each(|r| add(facts, object, "Virtual Routes", dump::route(&r.text)));
    instance.rules.iter().for_each(|r| add(facts, object, "Virtual Rules", r.text.clone()));
    let own = |t: &&TrackInterface| t.interface == instance.interface;
    let primary = instance.track_interfaces.iter().find(own);
    let fault =
        TrackInterface { interface: instance.interface.clone(), effect: Effect::Fault { reverse: false } };
    flag(facts, object, "VRRP interface tracking disabled", primary != Some(&fault));
    let interfaces: Vec<_> = instance.track_interfaces.iter().filter(|t| **t != fault).cloned().collect();
    trackers(
        facts,
        object,
        config,
        &instance.track_checks,
        &interfaces,
        &instance.track_bfd,
        "Tracked processes",
    );
    scripts(facts, object, &instance.notify);
}

fn announcements(facts: &mut Facts, object: &str, arp: &Announcements) {
    let delay = |time: Option<Duration>| time.map_or(0, |t| t.as_secs()).to_string();
    let mut say = |field: &str, value: String| add(facts, object, &format!("Gratuitous ARP {field}"), value);
    say("delay", delay(arp.again_after));
    say("repeat", arp.rounds.to_string());
    say("refresh", delay(arp.refresh));
    say("refresh repeat", arp.refresh_rounds.to_string());
    say("lower priority delay", delay(arp.lower_priority_again_after));
    say("lower priority repeat", arp.lower_priority_rounds.to_string());
}

fn authentication(facts: &mut Facts, object: &str, instance: &Instance) {
    let kind = match &instance.authentication {
        Authentication::None if instance.version == Version::V3 => return,
        Authentication::None => "none",
        Authentication::Pass(password) => {
            let end = password.iter().position(|b| *b == 0).unwrap_or(password.len());
            add(facts, object, "Password", String::from_utf8_lossy(&password[..end]));
            "SIMPLE_PASSWORD"
        }
        Authentication::Ah(_) => "IPSEC_AH",
    };
    add(facts, object, "Authentication type", kind);
}

fn transport(facts: &mut Facts, object: &str, instance: &Instance) {
    let (peers, ttl, check_source) = match &instance.transport {
        Transport::Multicast { group } => return add(facts, object, "Multicast address", group.to_string()),
        Transport::Unicast { peers, ttl, check_source } => (peers, ttl, check_source),
    };
    add(facts, object, "Unicast TTL", ttl.to_string());
    add(facts, object, "Check unicast src", said(*check_source, "yes", "no"));
    for peer in peers {
        let (least, most) = (peer.min_ttl.unwrap_or(0), peer.max_ttl.unwrap_or(255));
        add(facts, object, "Unicast Peer", format!("{} min_ttl {least} max_ttl {most}", peer.address));
    }
    let compatibility = match instance.old_unicast_checksum {
        OldUnicastChecksum::Detect => "no",
        OldUnicastChecksum::Always => "config",
        OldUnicastChecksum::Never => "never",
    };
    add(facts, object, "Unicast checksum compatibility", compatibility);
}

/// The names of VMACs, in the order in which keepalived gives them.
fn vmac_names(config: &Config) -> BTreeMap<String, String> {
    let written = config.instances.iter().filter_map(|i| i.vmac.as_ref()?.name.clone());
    let mut taken: BTreeSet<String> = written.collect();
    let mut names = BTreeMap::new();
    for instance in &config.instances {
        let Some(vmac) = &instance.vmac else { continue };
        let made = |number: &str| format!("{}{number}.{}", vmac.prefix, instance.vrid);
        let second = (instance.family == Family::Ipv6).then(|| made("6"));
        let others = (1..).map(|number: u32| made(&number.to_string()));
        let mut free =
            std::iter::once(made("")).chain(second).chain(others).filter(|name| !taken.contains(name));
        let name = vmac.name.clone().or_else(|| free.next()).unwrap_or_default();
        taken.insert(name.clone());
        names.insert(instance.name.clone(), name);
    }
    names
}

fn vmac(facts: &mut Facts, object: &str, config: &Config, instance: &Instance) {
    let Some(vmac) = &instance.vmac else { return };
    add(facts, object, "VMAC", vmac_names(config).remove(&instance.name).unwrap_or_default());
    add(facts, object, "VMAC on base", said(vmac.transmit_on_base, "true", "false"));
    if let Some(mac) = vmac.mac {
        let mac: Vec<_> = mac.iter().map(|b| format!("{b:02x}")).collect();
        add(facts, object, "MAC", mac.join(":"));
    }
    flag(facts, object, "Use VMAC for VIPs on other interfaces", vmac.for_other_interfaces);
}

fn address(address: &VirtualAddress) -> String {
    let whole = if address.address.is_ipv4() { 32 } else { 128 };
    let mut text = address.address.to_string();
    if address.peer.is_none() && address.prefix_length != whole {
        text += &format!("/{}", address.prefix_length);
    }
    if let Some(broadcast) = address.broadcast.filter(|b| !b.is_unspecified()) {
        text += &format!(" brd {broadcast}");
    }
    text += &format!(" dev {}", address.interface);
    if address.own_vmac.is_some() {
        text += " use_vmac";
    }
    if address.address.is_ipv4() {
        text += &format!(" scope {}", scope(address.scope));
    }
    if let Some(label) = &address.label {
        text += &format!(" label {label}");
    }
    if let Some((peer, length)) = address.peer {
        text += &format!(" peer {peer}/{length}");
    }
    let undo_dad = address.address.is_ipv6() && !address.no_dad;
    for (flag, on) in [
        (" home", address.home),
        (" -nodad", undo_dad),
        (" noprefixroute", address.no_prefix_route),
        (" autojoin", address.autojoin),
        (" no_track", !address.track),
    ] {
        text += if on { flag } else { "" };
    }
    if address.address.is_ipv6() {
        text += &match address.preferred_lifetime {
            Some(0) => " deprecated".to_owned(),
            None => " preferred_lft forever".to_owned(),
            Some(seconds) => format!(" preferred_lft {seconds}"),
        };
    }
    text
}

fn static_address(made: &StaticAddress) -> String {
    let text = address(&made.address);
    let Some(group) = &made.track_group else { return text };
    // The group stands before the lifetime.
    let end = text.find(" deprecated").or_else(|| text.find(" preferred_lft")).unwrap_or(text.len());
    format!("{} track_group {group}{}", &text[..end], &text[end..])
}

fn scope(scope: u8) -> String {
    match scope {
        0 => "global".into(),
        200 => "site".into(),
        253 => "link".into(),
        254 => "host".into(),
        255 => "nowhere".into(),
        other => other.to_string(),
    }
}

fn effect(effect: Effect) -> String {
    let (weight, reverse) = match effect {
        Effect::Fault { reverse } => (0, reverse),
        Effect::Weight { weight, reverse } | Effect::Value { weight, reverse } => (weight, reverse),
    };
    format!("weight {weight}{}", if reverse { " reverse" } else { "" })
}

/// The list a tracked check stands in, and the name that the operator gave it.
fn kind_of<'n>(config: &Config, name: &'n str) -> (&'static str, &'n str) {
    let probe = config.checks.iter().find(|check| check.name == name).map(|check| &check.probe);
    let kind = match probe {
        Some(Probe::Process(_)) => "process",
        Some(Probe::File { expect: FileExpect::Value, .. }) => "file",
        _ => "script",
    };
    (kind, own_name(name, kind))
}

/// Checks have one space of names, keepalived's kinds one each: a name that was taken has its kind before it.
fn own_name<'n>(name: &'n str, kind: &str) -> &'n str {
    let stripped = name.strip_prefix(kind).and_then(|rest| rest.strip_prefix('/'));
    stripped.map_or(name, |rest| rest.trim_end_matches('_'))
}

fn trackers(
    facts: &mut Facts,
    object: &str,
    config: &Config,
    checks: &[TrackCheck],
    interfaces: &[TrackInterface],
    bfd: &[TrackBfd],
    processes: &str,
) {
    for tracked in interfaces {
        let text = format!("{} {}", tracked.interface, effect(tracked.effect));
        add(facts, object, "Tracked interfaces", text);
    }
    for tracked in checks {
        let (kind, name) = kind_of(config, &tracked.check);
        let list = match kind {
            "process" => processes,
            "file" => "Tracked files",
            _ => "Tracked scripts",
        };
        add(facts, object, list, format!("{name} {}", effect(tracked.effect)));
    }
    for tracked in bfd {
        add(facts, object, "Tracked BFDs", format!("{} {}", tracked.bfd, effect(tracked.effect)));
    }
}

fn scripts(facts: &mut Facts, object: &str, notify: &Notify) {
    for (name, script) in [
        ("Backup", &notify.backup),
        ("Master", &notify.master),
        ("Fault", &notify.fault),
        ("Stop", &notify.stop),
        ("Deleted", &notify.deleted),
        ("Generic", &notify.any),
        ("Master rx lower pri", &notify.master_rx_lower_priority),
    ] {
        if let Some(script) = script {
            add(facts, object, &format!("{name} state transition script"), command(script));
        }
    }
}

fn ids(user: Option<&User>) -> String {
    user.map_or_else(|| "0:0".to_owned(), |user| format!("{}:{}", user.uid, user.gid))
}

/// keepalived follows the links of a program that is there.
fn command(command: &Command) -> String {
    format!("{}, uid:gid {}", words(command), ids(command.user.as_ref()))
}

fn words(command: &Command) -> String {
    let program = program(&command.program);
    let quoted = |word: &str| format!("'{word}'");
    let first = if program.starts_with(['<', '>']) { program } else { quoted(&program) };
    let rest = command.arguments.iter().map(|a| quoted(a));
    std::iter::once(first).chain(rest).collect::<Vec<_>>().join(" ")
}

fn program(program: &Path) -> String {
    let found = if program.is_absolute() {
        Some(program.to_owned())
    } else {
        crate::host::find_program(&program.to_string_lossy())
    };
    let real = found.and_then(|path| path.canonicalize().ok());
    real.unwrap_or_else(|| program.to_owned()).display().to_string()
}

fn sync_group(facts: &mut Facts, config: &Config, group: &SyncGroup) {
    let object = &format!("sync group {}", group.name);
    group.members.iter().for_each(|m| add(facts, object, "VRRP member instances", m));
    flag(facts, object, "sync group tracking weight set", group.tracking_weight);
    add(facts, object, "Using smtp notification", said(group.smtp_alert, "yes", "no"));
    trackers(
        facts,
        object,
        config,
        &group.track_checks,
        &group.track_interfaces,
        &group.track_bfd,
        "Tracked process",
    );
    scripts(facts, object, &group.notify);
}

fn check(facts: &mut Facts, check: &Check) {
    match &check.probe {
        Probe::Script(script) => {
            let name = own_name(&check.name, "script");
            script_check(facts, name, check, &words(script), &ids(script.user.as_ref()));
        }
        Probe::File { path, expect: FileExpect::Value, .. } => {
            let name = own_name(&check.name, "file");
            add(facts, "order", "file", name);
            add(facts, &format!("file {name}"), "File", path.display().to_string());
        }
        // keepalived: a script that only redirects.
        Probe::File { path, .. } => {
            script_check(facts, &check.name, check, &format!("<{}", path.display()), "0:0")
        }
        Probe::Process(process) => {
            let name = own_name(&check.name, "process");
            let object = &format!("process {name}");
            add(facts, "order", "process", name);
            add(facts, object, "Process", &process.name);
            if let Some((matched, words)) = &process.parameters {
                if !words.is_empty() {
                    add(facts, object, "Parameters", words.join(" "));
                }
                match matched {
                    ParameterMatch::Exact => add(facts, object, "Param match", ""),
                    ParameterMatch::Partial => add(facts, object, "Param match", "partial"),
                    ParameterMatch::Initial => add(facts, object, "Param match", "initial"),
                }
            }
            add(facts, object, "Min processes", process.quorum.to_string());
            if let Some(most) = process.quorum_max {
                add(facts, object, "Max processes", most.to_string());
            }
            for (field, delay) in
                [("Terminate delay", process.terminate_delay), ("Fork delay", process.fork_delay)]
            {
                add(facts, object, field, format!("{:.6}s", delay.as_secs_f64()));
            }
            add(facts, object, "Full command", said(process.full_command, "true", "false"));
        }
        _ => {}
    }
}

fn script_check(facts: &mut Facts, name: &str, check: &Check, command: &str, ids: &str) {
    let object = &format!("script {name}");
    add(facts, "order", "script", name);
    add(facts, object, "Command", command);
    add(facts, object, "Interval", format!("{} sec", check.interval.as_secs()));
    add(facts, object, "Timeout", format!("{} sec", check.timeout.as_secs()));
    add(facts, object, "Rise", check.rise.to_string());
    add(facts, object, "Fall", check.fall.to_string());
    add(facts, object, "Script uid:gid", ids);
}

fn bfd(facts: &mut Facts, bfd: &config::ready::Bfd) {
    let object = &format!("bfd {}", bfd.name);
    let micros = |time: Duration| format!("{} us", time.as_micros());
    add(facts, "order", "bfd", &bfd.name);
    if bfd.for_vrrp {
        add(facts, "order", "tracked bfd", &bfd.name);
    }
    let mut say = |field: &str, value: String| add(facts, object, field, value);
    say("Neighbor IP", bfd.neighbor.to_string());
    if let Some(source) = bfd.source {
        say("Source IP", source.to_string());
    }
    say("Required min RX interval", micros(bfd.min_rx));
    say("Desired min TX interval", micros(bfd.min_tx));
    say("Desired idle TX interval", micros(bfd.idle_tx));
    say("Detection multiplier", bfd.multiplier.to_string());
    say(if bfd.neighbor.is_ipv4() { "TTL" } else { "hoplimit" }, bfd.ttl.to_string());
    say("max_hops", bfd.max_hops.map_or(-1, i16::from).to_string());
    say("passive", said(bfd.passive, "true", "false"));
    say("send event to VRRP process", said(bfd.for_vrrp, "Yes", "No"));
    say("send event to checker process", said(bfd.for_checkers, "Yes", "No"));
}
