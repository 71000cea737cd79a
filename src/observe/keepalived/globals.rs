//! `Global definitions` of the data dump.

use std::time::Duration;

use config::ready::{DynamicInterfaces, Fifo, Process};

use super::{Page, Picture, words};

/// Whose settings: keepalived's parent process writes its own, and knows of no interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Parent,
    Vrrp,
}

/// `PARAMETER_UNSET`
const UNSET: u32 = u32::MAX;

pub(super) fn globals(page: &mut Page, picture: &Picture<'_>, of: Of) {
    page.section("Global definitions");
    identity(page, picture);
    mail(page, picture);
    process(page, &picture.config.process);
    interfaces(page, picture, of);
    fifos(page, picture);
    election(page, picture, of);
    firewall_and_checks(page, picture);
    scheduling(page, picture);
    rest(page, picture);
}

fn identity(page: &mut Page, picture: &Picture<'_>) {
    let process = &picture.config.process;
    let namespace = process.net_namespace.as_deref().unwrap_or("(default)");
    page.line(format!(" Network namespace = {namespace}"));
    page.line(" Network namespace ipvs = (main namespace)");
    if let Some(instance) = &process.instance {
        page.line(format!(" Instance name = {instance}"));
    }
    if let Some(name) = &process.name {
        page.line(format!(" Parent process name = {name}"));
    }
    page.line(format!(" Router ID = {}", picture.config.router_id));
}

fn mail(page: &mut Page, picture: &Picture<'_>) {
    if let Some(mail) = &picture.config.process.mail {
        page.line(format!(" Smtp server = {}", mail.server));
        page.line(format!(" Smtp server port = {}", mail.port));
        page.line(format!(" Smtp HELO name = {}", mail.helo));
        page.line(format!(" Smtp server connection timeout = {}", mail.connect_timeout.as_secs()));
        page.line(format!(" Email notification from = {}", mail.from));
        page.line(" Email notification to:");
        mail.to.iter().for_each(|to| page.line(format!("   {to}")));
    }
    let alert = |value: Option<bool>| match value {
        None => "unset",
        Some(true) => "on",
        Some(false) => "off",
    };
    let [all, vrrp, checkers] = picture.config.shown.smtp_alert;
    page.line(format!(" Default smtp_alert = {}", alert(all)));
    page.line(format!(" Default smtp_alert_vrrp = {}", alert(vrrp)));
    page.line(format!(" Default smtp_alert_checker = {}", alert(checkers)));
    page.line(" Checkers log all failures = false");
}

fn process(page: &mut Page, process: &Process) {
    match &process.reload_check {
        Some(log) => page.line(format!(" Test config before reload, log to {}", log.display())),
        None => page.line(" No test config before reload"),
    }
    if let Some(file) = &process.reload_time_file {
        let repeat = if process.reload_repeat { " (repeat)" } else { "" };
        page.line(format!(" Reload time file = {}{repeat}", file.display()));
        page.line(" No reload scheduled");
    }
    if let Some(file) = &process.reload_file {
        page.line(format!(" Reload_file = {}", file.display()));
    }
    if process.data_use_instance {
        page.line(" Use instance name in data dumps");
    }
}

fn interfaces(page: &mut Page, picture: &Picture<'_>, of: Of) {
    let config = picture.config;
    let dynamic = config.engine.dynamic_interfaces;
    page.line(format!(" Dynamic interfaces = {}", dynamic != DynamicInterfaces::No));
    if dynamic != DynamicInterfaces::No {
        page.line(format!(" Allow interface changes = {}", dynamic == DynamicInterfaces::AllowChanges));
    }
    if config.process.mail.as_ref().is_some_and(|mail| mail.no_faults) {
        page.line(" Send emails for fault transitions = off");
    }
    if of == Of::Vrrp {
        let name = config.shown.default_interface.as_deref().unwrap_or("eth0");
        page.line(format!(" Default interface = {name}"));
    }
    page.line(format!(" Disable local IGMP = {}", words::yes_no(config.engine.disable_local_igmp)));
    page.line(" LVS flush = false");
    page.line(" LVS flush on stop = disabled");
}

fn fifos(page: &mut Page, picture: &Picture<'_>) {
    let shown = &picture.config.shown;
    let line = |page: &mut Page, what: &str, fifo: &Fifo| {
        let owner = words::user(fifo.user.as_ref());
        page.line(format!(" {what} notify fifo = {}, uid:gid {owner}", fifo.path.display()));
        if let Some(script) = &fifo.script {
            let (words, user) = (words::command(script), words::user(script.user.as_ref()));
            page.line(format!(" {what} notify fifo script = {words}, uid:gid {user}"));
        }
    };
    for fifo in &picture.config.fifos {
        let is_vrrp = shown.vrrp_fifo.as_ref() == Some(&fifo.path);
        line(page, if is_vrrp { "VRRP" } else { "Global" }, fifo);
    }
    page.line(format!(
        " FIFO write vrrp states on reload = {}",
        picture.config.process.fifo_states_on_reload
    ));
    page.line(format!(" VRRP notify priority changes = {}", shown.notify_priority_changes));
}

fn election(page: &mut Page, picture: &Picture<'_>, of: Of) {
    let shown = &picture.config.shown;
    page.line(format!(" VRRP IPv4 mcast group = {}", shown.groups.0));
    page.line(format!(" VRRP IPv6 mcast group = {}", shown.groups.1));
    page.line(format!(" Gratuitous ARP delay = {}", shown.garp_delay));
    page.line(format!(" Gratuitous ARP repeat = {}", shown.garp_repeat));
    page.line(format!(" Gratuitous ARP refresh timer = {}", shown.garp_refresh));
    page.line(format!(" Gratuitous ARP refresh repeat = {}", shown.garp_refresh_repeat));
    // The VRRP process fills in what was not written.
    let filled = |written: Option<u32>, default: u32| match of {
        Of::Parent => written.unwrap_or(UNSET),
        Of::Vrrp => written.unwrap_or(default),
    };
    let delay = filled(shown.garp_lower_delay, shown.garp_delay);
    page.line(format!(" Gratuitous ARP lower priority delay = {delay}"));
    let repeat = filled(shown.garp_lower_repeat, shown.garp_repeat);
    page.line(format!(" Gratuitous ARP lower priority repeat = {repeat}"));
    page.line(format!(" Num adverts before down = {}", shown.down_timer_adverts));
    if let Some((all, seconds)) = shown.garp_extra {
        let kind = if all { "i/f" } else { "VMAC" };
        page.line(format!(" Gratuitous ARP for each secondary {kind} = {seconds}s"));
    }
    page.line(format!(" Send advert after receive lower priority advert = {}", !shown.lower_prio_no_advert));
    page.line(format!(
        " Send advert after receive higher priority advert = {}",
        shown.higher_prio_send_advert
    ));
    let decimal = |gap: Duration| format!("{:.6}", gap.as_secs_f64());
    page.line(format!(" Gratuitous ARP interval = {}", decimal(shown.garp_interval)));
    page.line(format!(" Gratuitous NA interval = {}", decimal(shown.gna_interval)));
    page.line(format!(" VRRP default protocol version = {}", shown.version));
}

fn firewall_and_checks(page: &mut Page, picture: &Picture<'_>) {
    let (shown, firewall) = (&picture.config.shown, &picture.config.firewall);
    if shown.nftables {
        page.line(format!(" nftables table name = {}", firewall.table));
        page.line(format!(" nftables base chain priority = {}", firewall.priority));
        let word = if firewall.by_index { "" } else { "don't " };
        page.line(format!(" nftables {word}force use ifindex for link local IPv6"));
    }
    page.line(format!(" nftables with{} counters", if firewall.counters { "" } else { "out" }));
    page.line(" libnftnl version 1.2.3");
    page.line(format!(" VRRP check unicast_src = {}", shown.check_unicast_src));
    page.line(format!(" VRRP skip check advert addresses = {}", shown.skip_check_adv_addr));
    page.line(format!(" VRRP strict mode = {}", shown.strict));
}

fn scheduling(page: &mut Page, picture: &Picture<'_>) {
    let engine = &picture.config.engine;
    page.line(" Max auto priority = 0");
    page.line(" Min auto priority delay = 1000000 usecs");
    for who in ["VRRP", "Checker", "BFD"] {
        let is_engine = who == "VRRP";
        let number = |value: Option<i64>| value.filter(|_| is_engine).unwrap_or(0);
        page.line(format!(" {who} process priority = {}", number(engine.nice.map(i64::from))));
        page.line(format!(" {who} don't swap = {}", is_engine && engine.lock_memory));
        let real_time = number(engine.realtime_priority.map(i64::from));
        page.line(format!(" {who} realtime priority = {real_time}"));
        if is_engine && !engine.cpus.is_empty() {
            let cpus: Vec<String> = engine.cpus.iter().map(ToString::to_string).collect();
            page.line(format!(" {who} CPU Affinity = {}", cpus.join(" ")));
        }
        let limit = engine.rlimit_rttime.filter(|_| is_engine);
        page.line(format!(" {who} realtime limit = {}", limit.map_or(10_000, |limit| limit.as_micros())));
    }
}

fn rest(page: &mut Page, picture: &Picture<'_>) {
    let (config, shown) = (picture.config, &picture.config.shown);
    for what in ["SNMP vrrp", "SNMP checker", "SNMP RFCv2", "SNMP RFCv3", "SNMP traps"] {
        page.line(format!(" {what} disabled"));
    }
    page.line(" SNMP socket = default (unix:/var/agentx/master)");
    page.line(" DBus disabled");
    page.line(" DBus service name = ");
    page.line(format!(" Script security {}", words::on_off(shown.script_security)));
    if let Some(user) = &shown.script_user {
        page.line(format!(" Default script uid:gid {}", words::user(Some(user))));
    }
    for buffers in [
        "vrrp_netlink_cmd_rcv_bufs",
        "vrrp_netlink_monitor_rcv_bufs",
        "process_monitor_rcv_bufs",
        "lvs_netlink_cmd_rcv_bufs",
        "lvs_netlink_monitor_rcv_bufs",
    ] {
        page.line(format!(" {buffers} = 0"));
        page.line(format!(" {buffers}_force = 0"));
    }
    page.line(" rs_init_notifies = 0");
    page.line(" no_checker_emails = 0");
    page.line(" rx_bufs_multiples = 3");
    page.line(format!(" umask = 0{:o}", picture.umask));
    if !config.engine.startup_delay.is_zero() {
        page.line(format!(" vrrp_startup_delay = {}", words::seconds(config.engine.startup_delay)));
    }
    if config.engine.log_unknown_vrids {
        page.line(" log_unknown_vrids");
    }
    if let Some(prefix) = &shown.vmac_prefix {
        page.line(format!(" VMAC prefix = {prefix}"));
    }
    if let Some(file) = &config.process.state_dump_file {
        page.line(format!(" state dump file {}", file.display()));
    }
}
