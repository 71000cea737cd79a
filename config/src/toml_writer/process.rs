//! `[engine]`, `[process]`, `[mail]`, and what instances share.

use std::path::PathBuf;
use std::time::Duration;

use crate::complete::{self, BFD_IDLE, BFD_INTERVAL, BFD_MULTIPLIER, SMTP_PORT, SMTP_TIMEOUT};
use crate::ready::{
    AnnouncementGroup, Bfd, DynamicInterfaces, Effect, Engine, LinkDelay, Mail, Process, SyncGroup,
};
use crate::time::shown;

use super::{command, duration, flag, line, list, notify, number, quoted, track_entries, weight};

pub(super) fn engine(engine: &Engine) -> String {
    let mut text = String::new();
    optional(&mut text, "realtime_priority", engine.realtime_priority);
    flag(&mut text, "lock_memory", engine.lock_memory, false);
    flag(&mut text, "log_unknown_vrids", engine.log_unknown_vrids, false);
    duration(&mut text, "startup_delay", engine.startup_delay, Duration::ZERO);
    duration(&mut text, "delay_after_boot", engine.delay_after_boot, Duration::ZERO);
    match engine.dynamic_interfaces {
        DynamicInterfaces::No => {}
        DynamicInterfaces::Yes => line(&mut text, "dynamic_interfaces", "true"),
        DynamicInterfaces::AllowChanges => line(&mut text, "dynamic_interfaces", "\"allow_changes\""),
    }
    optional(&mut text, "nice", engine.nice);
    if !engine.cpus.is_empty() {
        line(&mut text, "cpus", &list(engine.cpus.iter().map(usize::to_string)));
    }
    time(&mut text, "realtime_limit", engine.rlimit_rttime);
    flag(&mut text, "local_igmp", !engine.disable_local_igmp, true);
    optional(&mut text, "receive_buffer", engine.receive_buffer);
    text
}

pub(super) fn process(process: &Process) -> String {
    let mut text = String::new();
    word(&mut text, "network_namespace", process.net_namespace.as_deref());
    word(&mut text, "instance", process.instance.as_deref());
    flag(&mut text, "pid_folder", process.use_pid_dir, false);
    word(&mut text, "umask", process.umask.map(|bits| format!("{bits:03o}")).as_deref());
    word(&mut text, "name", process.name.as_deref());
    command(&mut text, "startup", process.startup.as_deref());
    time(&mut text, "startup_timeout", process.startup_timeout);
    command(&mut text, "shutdown", process.shutdown.as_deref());
    time(&mut text, "shutdown_timeout", process.shutdown_timeout);
    flag(&mut text, "supplementary_groups", process.supplementary_groups, false);
    flag(&mut text, "script_security", process.script_security, false);
    flag(&mut text, "symlink_paths", process.symlink_paths, false);
    number(&mut text, "json_version", &process.json_version, &0);
    flag(&mut text, "dumps_by_instance", process.data_use_instance, false);
    path(&mut text, "state_dump_file", process.state_dump_file.as_ref());
    path(&mut text, "reload_check", process.reload_check.as_ref());
    path(&mut text, "reload_time_file", process.reload_time_file.as_ref());
    flag(&mut text, "reload_repeat", process.reload_repeat, false);
    path(&mut text, "reload_file", process.reload_file.as_ref());
    optional(&mut text, "process_events_buffer", process.process_monitor_buffer);
    flag(&mut text, "fifo_states_on_reload", process.fifo_states_on_reload, false);
    text
}

pub(super) fn mail(mail: &Mail) -> String {
    let mut text = String::new();
    line(&mut text, "to", &list(mail.to.iter().map(|to| quoted(to))));
    word(&mut text, "from", Some(&mail.from));
    let server = match (mail.port, mail.server.contains(':')) {
        (SMTP_PORT, _) => mail.server.clone(),
        (port, true) => format!("[{}]:{port}", mail.server),
        (port, false) => format!("{}:{port}", mail.server),
    };
    word(&mut text, "server", Some(&server));
    word(&mut text, "helo", Some(&mail.helo));
    duration(&mut text, "connect_timeout", mail.connect_timeout, SMTP_TIMEOUT);
    flag(&mut text, "faults", !mail.no_faults, true);
    flag(&mut text, "start_tls", mail.start_tls, false);
    if let Some((user, file)) = &mail.login {
        word(&mut text, "user", Some(user));
        path(&mut text, "password_file", Some(file));
    }
    text
}

pub(super) fn sync_group(group: &SyncGroup, sessions: &[Bfd]) -> String {
    let mut text = String::new();
    word(&mut text, "name", Some(&group.name));
    line(&mut text, "members", &list(group.members.iter().map(|member| quoted(member))));
    let entries = track_entries(&group.track_checks, &group.track_interfaces, &group.track_bfd, sessions);
    if !entries.is_empty() {
        line(&mut text, "track", &list(entries));
    }
    flag(&mut text, "tracking_weight", group.tracking_weight, false);
    flag(&mut text, "mail", group.smtp_alert, false);
    notify(&mut text, "[sync_group.notify]", &group.notify);
    text
}

pub(super) fn bfd(bfd: &Bfd) -> String {
    let mut text = String::new();
    word(&mut text, "name", Some(&bfd.name));
    word(&mut text, "neighbor", Some(&bfd.neighbor.to_string()));
    word(&mut text, "source", bfd.source.map(|source| source.to_string()).as_deref());
    duration(&mut text, "min_rx", bfd.min_rx, BFD_INTERVAL);
    duration(&mut text, "min_tx", bfd.min_tx, BFD_INTERVAL);
    duration(&mut text, "idle_tx", bfd.idle_tx, BFD_IDLE);
    number(&mut text, "multiplier", &bfd.multiplier, &BFD_MULTIPLIER);
    flag(&mut text, "passive", bfd.passive, false);
    number(&mut text, "ttl", &bfd.ttl, &complete::bfd_ttl(bfd.multihop));
    match bfd.max_hops {
        Some(hops) => number(&mut text, "max_hops", &hops, &0),
        None => line(&mut text, "max_hops", "\"any\""),
    }
    flag(&mut text, "multihop", bfd.multihop, false);
    weight(&mut text, bfd.effect, Effect::Fault { reverse: false });
    flag(&mut text, "for_instances", bfd.for_vrrp, true);
    flag(&mut text, "for_backends", bfd.for_checkers, true);
    text
}

pub(super) fn announcement_group(group: &AnnouncementGroup) -> String {
    let mut text = String::new();
    line(&mut text, "interfaces", &list(group.interfaces.iter().map(|interface| quoted(interface))));
    duration(&mut text, "arp_gap", group.arp_gap, Duration::ZERO);
    duration(&mut text, "na_gap", group.na_gap, Duration::ZERO);
    text
}

pub(super) fn link_delay(delay: &LinkDelay) -> String {
    let mut text = String::new();
    word(&mut text, "interface", Some(&delay.interface));
    duration(&mut text, "down", delay.down, Duration::ZERO);
    duration(&mut text, "up", delay.up, Duration::ZERO);
    text
}

pub(super) fn optional<T: ToString>(text: &mut String, key: &str, value: Option<T>) {
    if let Some(value) = value {
        line(text, key, &value.to_string());
    }
}

fn time(text: &mut String, key: &str, value: Option<Duration>) {
    word(text, key, value.map(shown).as_deref());
}

pub(super) fn word(text: &mut String, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        line(text, key, &quoted(value));
    }
}

fn path(text: &mut String, key: &str, value: Option<&PathBuf>) {
    word(text, key, value.map(|path| path.to_string_lossy()).as_deref());
}
