//! Every keyword of keepalived 2.4.3 and what becomes of it here.
//!
//! A keyword that is not in these tables is unknown; one that is known and has no meaning yet says so at
//! its place.

use std::collections::HashMap;
use std::sync::LazyLock;

pub(crate) mod line;

/// What may stand in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Context {
    Top,
    Global,
    Instance,
    Authentication,
    AuthHmac,
    SyncGroup,
    Script,
    TrackFile,
    TrackProcess,
    TrackGroup,
    GarpGroup,
    Bfd,
    Ssl,
    VirtualServer,
    RealServer,
    /// `TCP_CHECK` and `PING_CHECK`.
    Checker,
    HttpChecker,
    SmtpChecker,
    DnsChecker,
    MiscChecker,
    UdpChecker,
    FileChecker,
    BfdChecker,
    Url,
    Host,
    /// One entry a line, or words; read by whoever knows them.
    Entries,
}

/// What becomes of a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It has a meaning here.
    Meaning,
    /// It has a meaning here that differs from keepalived's: how.
    Differs(&'static str),
    /// keepalived's own affair (its processes, files and buffers); nothing is lost without it.
    NotNeeded,
    /// Accepted without effect: what does its work instead.
    Instead(&'static str),
    /// Refused with an error: why, and what to write.
    Refused(&'static str),
    /// Not supported yet; what happens instead.
    Later(&'static str),
}

impl Status {
    /// Whoever lowers statements sees the keyword.
    pub fn has_meaning(self) -> bool {
        matches!(self, Self::Meaning | Self::Differs(_))
    }
}

/// A keyword in its context.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyword {
    pub name: &'static str,
    pub status: Status,
    /// What its block holds.
    pub block: Option<Context>,
}

use Status::{Differs, Instead, Later, Meaning, NotNeeded, Refused};

const fn word(name: &'static str, status: Status) -> Keyword {
    Keyword { name, status, block: None }
}

const fn block(name: &'static str, status: Status, inside: Context) -> Keyword {
    Keyword { name, status, block: Some(inside) }
}

/// Not a word of keepalived's, which warns of it and goes on.
const OUR_LEASE: Status = Differs(
    "vipd's own: how long a virtual address answers when nobody renews that; `auto` (default), `off`, or seconds",
);
const NO_SNMP: Status = Later("there is no SNMP; use the metrics");
const NO_DBUS: Status = Later("there is no D-Bus; use the control socket");
const NO_IPTABLES: Status = Instead("the nftables table does the work of iptables and its sets");
const NO_IPVLAN: Status = Refused(
    "an ipvlan has the MAC address of its base, so nothing is gained over the base itself; write `use_vmac`, or leave the line out",
);

const NO_IPVS: Status =
    Instead("nothing is put into the kernel's IPVS, so nothing is flushed and no marks are set");
const NO_IPVS_NAMESPACE: Status = Later("everything runs in one network namespace, that of `net_namespace`");
const NO_SYNC: Status =
    Later("connections are not copied to the other hosts: they end when the address moves");
const SERVER_MAIL: Status = Differs(
    "one mail for each change of a server, not of each of its checkers, as with `no_checker_emails`; none at the end of the daemon, nor of servers that a reload removes",
);
const NO_SERVER_FIFO: Status = Later(
    "no line is written about servers; `vipd events` tells their changes, and `notify_up` and the like run programs",
);
const LAST_ANSWER: Status = Instead("`vipd status` shows the last answer of every check, a failed one too");
const NO_SUSPEND: Status =
    Instead("checks run on every host, so that a new holder of the address knows its servers at once");

/// The keywords that may stand in a context.
pub(crate) fn table(context: Context) -> &'static [Keyword] {
    match context {
        Context::Top => TOP,
        Context::Global => GLOBAL,
        Context::Instance => INSTANCE,
        Context::Authentication => AUTHENTICATION,
        Context::AuthHmac => AUTH_HMAC,
        Context::SyncGroup => SYNC_GROUP,
        Context::Script => SCRIPT,
        Context::TrackFile => TRACK_FILE,
        Context::TrackProcess => TRACK_PROCESS,
        Context::TrackGroup => TRACK_GROUP,
        Context::GarpGroup => GARP_GROUP,
        Context::Bfd => BFD,
        Context::Ssl => SSL,
        Context::VirtualServer => VIRTUAL_SERVER,
        Context::RealServer => REAL_SERVER,
        Context::Checker => CHECKER,
        Context::HttpChecker => HTTP_CHECKER,
        Context::SmtpChecker => SMTP_CHECKER,
        Context::DnsChecker => DNS_CHECKER,
        Context::MiscChecker => MISC_CHECKER,
        Context::UdpChecker => UDP_CHECKER,
        Context::FileChecker => FILE_CHECKER,
        Context::BfdChecker => BFD_CHECKER,
        Context::Url => URL,
        Context::Host => HOST,
        Context::Entries => &[],
    }
}

/// Finds a keyword in its context.
pub(crate) fn find(context: Context, name: &str) -> Option<&'static Keyword> {
    table(context).iter().find(|keyword| keyword.name == name)
}

/// Where words that are known in few contexts belong. In this order: a word counts for the first.
const PLACES: [(Context, &str); 12] = [
    (Context::Top, "the top level"),
    (Context::Global, "`global_defs`"),
    (Context::Instance, "`vrrp_instance`"),
    (Context::Script, "`vrrp_script`"),
    (Context::SyncGroup, "`vrrp_sync_group`"),
    (Context::Authentication, "`authentication`"),
    (Context::VirtualServer, "`virtual_server`"),
    (Context::RealServer, "`real_server`"),
    (Context::Checker, "a checker"),
    (Context::HttpChecker, "`HTTP_GET`"),
    (Context::Url, "`url`"),
    (Context::MiscChecker, "`MISC_CHECK`"),
];

/// A context in which a word is known, other than the one it stood in.
pub(crate) fn elsewhere(name: &str) -> Option<&'static str> {
    static ALL: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
        let words = |(context, place)| table(context).iter().map(move |keyword| (keyword.name, place));
        // The first place of a word stays.
        PLACES.into_iter().rev().flat_map(words).collect()
    });
    ALL.get(name).copied()
}

/// A directive whose line is split as a command.
pub(crate) fn is_script(name: &str) -> bool {
    matches!(
        name,
        "script" | "misc_path" | "quorum_up" | "quorum_down" | "startup_script" | "shutdown_script" | "regex"
    ) || (name.starts_with("notify") && !matches!(name, "notify_fifo" | "notify_priority_changes"))
        || name.ends_with("_fifo_script")
}

/// How many words a directive with a meaning takes; `None` when whoever reads it looks at all of them.
pub(crate) fn parameters(name: &str) -> Option<usize> {
    match name {
        "process" | "user" | "script_user" | "notify_fifo" | "vrrp_notify_fifo" | "include_check" => None,
        "lvs_timeouts"
        | "lb_kind"
        | "lvs_method"
        | "sorry_server_lvs_method"
        | "status_code"
        | "payload"
        | "require_reply"
        | "regex_options"
        | "name" => None,
        "real_server" | "sorry_server" | "virtual_server" => Some(2),
        "alpha" | "inhibit_on_failure" => Some(1),
        "omega" | "ops" | "sorry_server_inhibit" | "misc_dynamic" | "regex_no_match" | "ha_suspend" => {
            Some(0)
        }
        "TCP_CHECK" | "PING_CHECK" | "HTTP_GET" | "SSL_GET" | "SMTP_CHECK" | "DNS_CHECK" | "MISC_CHECK"
        | "UDP_CHECK" | "FILE_CHECK" | "BFD_CHECK" | "url" | "host" | "SSL" => Some(0),
        "vrrp_cpu_affinity" | "umask" | "init_file" => None,
        "weight" | "smtp_server" | "key" => Some(2),
        "group" | "interfaces" | "notification_email" | "track_bfd" | "auth_hmac" => Some(0),
        name if is_script(name) => None,
        "global_defs" | "authentication" | "nopreempt" | "preempt" | "accept" | "no_accept"
        | "dont_track_primary" => Some(0),
        "virtual_ipaddress" | "virtual_ipaddress_excluded" | "unicast_peer" => Some(0),
        "track_interface" | "track_script" | "track_process" => Some(0),
        "use_vmac" | "garp_extra_if" | "vmac_garp_intvl" | "vrrp_garp_extra_if" | "vrrp_vmac_garp_intvl" => {
            None
        }
        "virtual_routes" | "virtual_rules" | "static_ipaddress" | "static_routes" | "static_rules" => Some(0),
        "vmac_xmit_base" | "use_vmac_addr" | "promote_secondaries" => Some(0),
        "nftables_counters" | "nftables_ifindex" => Some(0),
        _ => Some(1),
    }
}

/// A directive whose parameters are secret.
pub(crate) fn is_secret(name: &str) -> bool {
    matches!(name, "auth_pass" | "password" | "auth_hmac_key")
}

const TOP: &[Keyword] = &[
    block("global_defs", Meaning, Context::Global),
    block("vrrp_instance", Meaning, Context::Instance),
    block("vrrp_script", Meaning, Context::Script),
    block("vrrp_sync_group", Meaning, Context::SyncGroup),
    block("vrrp_track_process", Meaning, Context::TrackProcess),
    block("track_file", Meaning, Context::TrackFile),
    block("vrrp_track_file", Meaning, Context::TrackFile),
    block("track_group", Meaning, Context::TrackGroup),
    block("static_ipaddress", Meaning, Context::Entries),
    block("static_routes", Meaning, Context::Entries),
    block("static_rules", Meaning, Context::Entries),
    block("garp_group", Meaning, Context::GarpGroup),
    block("linkbeat_interfaces", NotNeeded, Context::Entries),
    block("interface_up_down_delays", Meaning, Context::Entries),
    block("bfd_instance", Meaning, Context::Bfd),
    block("virtual_server", Meaning, Context::VirtualServer),
    block("virtual_server_group", Meaning, Context::Entries),
    block("SSL", Meaning, Context::Ssl),
    word("net_namespace", Meaning),
    word("net_namespace_ipvs", NO_IPVS_NAMESPACE),
    word("namespace_with_ipsets", NotNeeded),
    word("instance", Meaning),
    word("use_pid_dir", Meaning),
    word("child_wait_time", NotNeeded),
    word("linkbeat_use_polling", NotNeeded),
    word("include_check", Meaning),
];

const ALWAYS_BY_INDEX: &str = "an interface is matched by its index with and without it; keepalived takes the name for \
    link-local addresses with `dont_track_primary`, where the interface may come back with another index, which is \
    followed here";

const GLOBAL: &[Keyword] = &[
    word("router_id", Meaning),
    block("notification_email", Meaning, Context::Entries),
    word("notification_email_from", Meaning),
    word("smtp_server", Meaning),
    word("smtp_helo_name", Meaning),
    word("smtp_connect_timeout", Meaning),
    word("smtp_alert", Meaning),
    word("smtp_alert_vrrp", Meaning),
    word("smtp_alert_checker", Meaning),
    word("no_email_faults", Meaning),
    word("no_checker_emails", NotNeeded),
    word("email_faults", NotNeeded),
    word("startup_script", Meaning),
    word("shutdown_script", Meaning),
    word("startup_script_timeout", Meaning),
    word("shutdown_script_timeout", Meaning),
    word("vrrp_version", Meaning),
    word("vrrp_mcast_group4", Meaning),
    word("vrrp_mcast_group6", Meaning),
    word("default_interface", Meaning),
    word("vrrp_garp_master_delay", Meaning),
    word("vrrp_garp_master_repeat", Meaning),
    word("vrrp_garp_master_refresh", Meaning),
    word("vrrp_garp_master_refresh_repeat", Meaning),
    word("vrrp_garp_lower_prio_delay", Meaning),
    word("vrrp_garp_lower_prio_repeat", Meaning),
    word("vrrp_garp_interval", Meaning),
    word("vrrp_gna_interval", Meaning),
    word("vrrp_min_garp", Meaning),
    word("vrrp_garp_extra_if", Meaning),
    word("vrrp_vmac_garp_intvl", Meaning),
    word("vrrp_lower_prio_no_advert", Meaning),
    word("vrrp_higher_prio_send_advert", Meaning),
    word("vrrp_owner_ignore_adverts", Meaning),
    word("vrrp_down_timer_adverts", Meaning),
    word("vrrp_check_unicast_src", Meaning),
    word("vrrp_skip_check_adv_addr", Meaning),
    word("vrrp_strict", Meaning),
    word("v3_checksum_as_v2", Meaning),
    word("vrrp_startup_delay", Meaning),
    word("vipd_lease", OUR_LEASE),
    word("vrrp_delay_after_boot", Meaning),
    word("log_unknown_vrids", Meaning),
    word("vrrp_notify_priority_changes", Meaning),
    word("fifo_write_vrrp_states_on_reload", Meaning),
    word("dynamic_interfaces", Meaning),
    word("disable_local_igmp", Meaning),
    word("vrrp_rx_bufs_policy", Meaning),
    word("vrrp_rx_bufs_multiplier", NotNeeded),
    word("vrrp_iptables", NO_IPTABLES),
    word("vrrp_ipsets", NO_IPTABLES),
    word("nftables", Meaning),
    word("nftables_priority", Meaning),
    word("nftables_counters", Meaning),
    word("nftables_ifindex", Differs(ALWAYS_BY_INDEX)),
    word("vmac_prefix", Meaning),
    word("vmac_addr_prefix", Meaning),
    word("script_user", Meaning),
    word("enable_script_security", Meaning),
    word("use_symlink_paths", Meaning),
    word("set_supplementary_groups", Meaning),
    word("notify_fifo", Meaning),
    word("notify_fifo_script", Meaning),
    word("vrrp_notify_fifo", Meaning),
    word("vrrp_notify_fifo_script", Meaning),
    word("lvs_notify_fifo", NO_SERVER_FIFO),
    word("lvs_notify_fifo_script", NO_SERVER_FIFO),
    word("enable_snmp_vrrp", NO_SNMP),
    word("enable_snmp_keepalived", NO_SNMP),
    word("enable_snmp_checker", NO_SNMP),
    word("enable_snmp_rfc", NO_SNMP),
    word("enable_snmp_rfcv2", NO_SNMP),
    word("enable_snmp_rfcv3", NO_SNMP),
    word("enable_traps", NO_SNMP),
    word("snmp_socket", NO_SNMP),
    word("snmp_vs_stats_update_interval", NO_SNMP),
    word("snmp_rs_stats_update_interval", NO_SNMP),
    word("enable_dbus", NO_DBUS),
    word("dbus_service_name", NO_DBUS),
    word("dbus_no_interface_name", NO_DBUS),
    word("checker_log_all_failures", LAST_ANSWER),
    word(
        "rs_init_notifies",
        Later("scripts are run when a server changes, and not for the state it begins in"),
    ),
    word(
        "lvs_timeouts",
        Differs(
            "`tcp` is the idle timeout of connections; `tcpfin` and `udp` are the kernel's own, see nf_conntrack",
        ),
    ),
    word("lvs_flush", NO_IPVS),
    word("lvs_flush_on_stop", NO_IPVS),
    word("lvs_flush_onstop", NO_IPVS),
    word("lvs_sync_daemon", NO_SYNC),
    word("nftables_ipvs", NO_IPVS),
    word("nftables_ipvs_priority", NO_IPVS),
    word("nftables_ipvs_start_fwmark", NO_IPVS),
    word("process_names", Meaning),
    word("process_name", Meaning),
    word("vrrp_process_name", Meaning),
    word("checker_process_name", NotNeeded),
    word("lvs_process_name", NotNeeded),
    word("bfd_process_name", NotNeeded),
    word("vrrp_priority", Meaning),
    word("checker_priority", NotNeeded),
    word("bfd_priority", NotNeeded),
    word("vrrp_no_swap", Meaning),
    word("checker_no_swap", NotNeeded),
    word("bfd_no_swap", NotNeeded),
    word("vrrp_rt_priority", Meaning),
    word("checker_rt_priority", NotNeeded),
    word("bfd_rt_priority", NotNeeded),
    word("vrrp_cpu_affinity", Meaning),
    word("checker_cpu_affinity", NotNeeded),
    word("bfd_cpu_affinity", NotNeeded),
    word("vrrp_rlimit_rttime", Meaning),
    word("vrrp_rlimit_rtime", Meaning),
    word("checker_rlimit_rttime", NotNeeded),
    word("checker_rlimit_rtime", NotNeeded),
    word("bfd_rlimit_rttime", NotNeeded),
    word("bfd_rlimit_rtime", NotNeeded),
    word("max_auto_priority", NotNeeded),
    word("min_auto_priority_delay", NotNeeded),
    word("umask", Meaning),
    word("random_seed", Meaning),
    word("include_check", Meaning),
    word("json_version", Meaning),
    word("data_use_instance", Meaning),
    word("state_dump_file", Meaning),
    word("stats_dump_file", NotNeeded),
    word("json_dump_file", NotNeeded),
    word("reload_check_config", Meaning),
    word("reload_time_file", Meaning),
    word("reload_repeat", Meaning),
    word("reload_file", Meaning),
    word("config_save_dir", NotNeeded),
    word("tmp_config_directory", NotNeeded),
    word("iproute_usr_dir", Meaning),
    word("iproute_etc_dir", Meaning),
    word("vrrp_netlink_cmd_rcv_bufs", NotNeeded),
    word("vrrp_netlink_cmd_rcv_bufs_force", NotNeeded),
    word("vrrp_netlink_monitor_rcv_bufs", NotNeeded),
    word("vrrp_netlink_monitor_rcv_bufs_force", NotNeeded),
    word("lvs_netlink_cmd_rcv_bufs", NotNeeded),
    word("lvs_netlink_cmd_rcv_bufs_force", NotNeeded),
    word("lvs_netlink_monitor_rcv_bufs", NotNeeded),
    word("lvs_netlink_monitor_rcv_bufs_force", NotNeeded),
    word("process_monitor_rcv_bufs", Meaning),
    word("process_monitor_rcv_bufs_force", Instead("the size is set beyond the kernel's limit in any case")),
    // Top-level words that keepalived also takes here.
    word("net_namespace", Meaning),
    word("net_namespace_ipvs", NO_IPVS_NAMESPACE),
    word("namespace_with_ipsets", NotNeeded),
    word("instance", Meaning),
    word("use_pid_dir", Meaning),
    word("child_wait_time", NotNeeded),
    word("linkbeat_use_polling", NotNeeded),
];

const INSTANCE: &[Keyword] = &[
    word("state", Meaning),
    word("interface", Meaning),
    word("virtual_router_id", Meaning),
    word("priority", Meaning),
    word("version", Differs("IPv6 is always version 3; keepalived sends version 2 where that is written")),
    word("advert_int", Meaning),
    block("authentication", Meaning, Context::Authentication),
    block("auth_hmac", Meaning, Context::AuthHmac),
    block("virtual_ipaddress", Meaning, Context::Entries),
    block("virtual_ipaddress_excluded", Meaning, Context::Entries),
    word("no_virtual_ipaddress", Meaning),
    block("virtual_routes", Meaning, Context::Entries),
    block("virtual_rules", Meaning, Context::Entries),
    word("promote_secondaries", Meaning),
    word("preempt", Meaning),
    word("nopreempt", Meaning),
    word("preempt_delay", Meaning),
    word("timer_expired_backup", Meaning),
    word("vipd_lease", OUR_LEASE),
    word("thread_timer_expired", Meaning),
    word("down_timer_adverts", Meaning),
    word("accept", Meaning),
    word("no_accept", Meaning),
    word("strict_mode", Meaning),
    word("skip_check_adv_addr", Meaning),
    word("mcast_src_ip", Meaning),
    word("unicast_src_ip", Meaning),
    word("mcast_dst_ip", Meaning),
    block("unicast_peer", Meaning, Context::Entries),
    word("unicast_ttl", Meaning),
    word("unicast_fault_no_peer", Meaning),
    word("check_unicast_src", Meaning),
    word("track_src_ip", Meaning),
    word("old_unicast_checksum", Meaning),
    word("v3_checksum_as_v2", Meaning),
    word("use_vmac", Meaning),
    word("vmac_xmit_base", Meaning),
    word("use_vmac_addr", Meaning),
    word("use_ipvlan", NO_IPVLAN),
    word("vrf", Differs("an instance needs an interface here: name the one inside the VRF")),
    word("dont_track_primary", Meaning),
    block("track_interface", Meaning, Context::Entries),
    block("track_script", Meaning, Context::Entries),
    block("track_file", Meaning, Context::Entries),
    block("track_process", Meaning, Context::Entries),
    block("track_bfd", Meaning, Context::Entries),
    word("garp_master_delay", Meaning),
    word("garp_master_repeat", Meaning),
    word("garp_master_refresh", Meaning),
    word("garp_master_refresh_repeat", Meaning),
    word("garp_lower_prio_delay", Meaning),
    word("garp_lower_prio_repeat", Meaning),
    word("garp_extra_if", Meaning),
    word("vmac_garp_intvl", Meaning),
    word("lower_prio_no_advert", Meaning),
    word("higher_prio_send_advert", Meaning),
    word("owner_ignore_adverts", Meaning),
    word("notify", Meaning),
    word("notify_master", Meaning),
    word("notify_backup", Meaning),
    word("notify_fault", Meaning),
    word("notify_stop", Meaning),
    word("notify_deleted", Meaning),
    word("notify_master_rx_lower_pri", Meaning),
    word("notify_priority_changes", Meaning),
    word("smtp_alert", Meaning),
    word("kernel_rx_buf_size", Meaning),
    word("debug", NotNeeded),
    word("native_ipv6", NotNeeded),
    word("linkbeat_use_polling", NotNeeded),
    word("lvs_sync_daemon_interface", NO_SYNC),
];

const AUTHENTICATION: &[Keyword] = &[word("auth_type", Meaning), word("auth_pass", Meaning)];

const AUTH_HMAC: &[Keyword] = &[
    word("key", Meaning),
    word("active_key", Meaning),
    word("time_window", Meaning),
    word("anti_replay", Meaning),
    word("mode", Meaning),
];

const SYNC_GROUP: &[Keyword] = &[
    block("group", Meaning, Context::Entries),
    block("track_interface", Meaning, Context::Entries),
    block("track_script", Meaning, Context::Entries),
    block("track_file", Meaning, Context::Entries),
    block("track_process", Meaning, Context::Entries),
    block("track_bfd", Meaning, Context::Entries),
    word("notify", Meaning),
    word("notify_master", Meaning),
    word("notify_backup", Meaning),
    word("notify_fault", Meaning),
    word("notify_stop", Meaning),
    word("notify_priority_changes", Meaning),
    word("smtp_alert", Meaning),
    word("sync_group_tracking_weight", Meaning),
    word("global_tracking", Meaning),
];

const SCRIPT: &[Keyword] = &[
    word("script", Meaning),
    word("interval", Meaning),
    word("timeout", Meaning),
    word("weight", Meaning),
    word("rise", Meaning),
    word("fall", Meaning),
    word("user", Meaning),
    word("init_fail", Meaning),
];

const TRACK_FILE: &[Keyword] = &[word("file", Meaning), word("weight", Meaning), word("init_file", Meaning)];

const TRACK_PROCESS: &[Keyword] = &[
    word("process", Meaning),
    word("param_match", Meaning),
    word("full_command", Meaning),
    word("weight", Meaning),
    word("quorum", Meaning),
    word("quorum_max", Meaning),
    word("delay", Meaning),
    word("fork_delay", Meaning),
    word("terminate_delay", Meaning),
];

const TRACK_GROUP: &[Keyword] = &[block("group", Meaning, Context::Entries)];

const GARP_GROUP: &[Keyword] = &[
    word("garp_interval", Meaning),
    word("gna_interval", Meaning),
    word("interface", Meaning),
    block("interfaces", Meaning, Context::Entries),
];

const BFD: &[Keyword] = &[
    word("neighbor_ip", Meaning),
    word("neighbour_ip", Meaning),
    word("source_ip", Meaning),
    word("min_rx", Meaning),
    word("min_tx", Meaning),
    word("idle_tx", Meaning),
    word("multiplier", Meaning),
    word("passive", Meaning),
    word("ttl", Meaning),
    word("hoplimit", Meaning),
    word("max_hops", Meaning),
    word("multihop", Meaning),
    word("weight", Meaning),
    word("vrrp", Meaning),
    word("checker", Meaning),
];

const SSL: &[Keyword] = &[
    word("password", Instead("a key with a pass phrase cannot be read; take the pass phrase off")),
    word("ca", Instead("certificates of checked servers are not verified, as in keepalived")),
    word("certificate", Meaning),
    word("key", Meaning),
];

const KERNEL_FLAG: Status = Differs("it has no effect: vipd's schedulers are not the kernel's");

const VIRTUAL_SERVER: &[Keyword] = &[
    word("protocol", Differs("SCTP is not forwarded: such a virtual server is left out")),
    word("lb_algo", SCHEDULER),
    word("lvs_sched", SCHEDULER),
    word("lb_kind", METHOD),
    word("lvs_method", METHOD),
    word("delay_loop", Meaning),
    word("ip_family", Meaning),
    word("retry", Meaning),
    word("delay_before_retry", Meaning),
    word("warmup", Meaning),
    word("connect_timeout", Meaning),
    word("weight", Meaning),
    word("alpha", Meaning),
    word("omega", Meaning),
    word("quorum", Meaning),
    word("hysteresis", Meaning),
    word("quorum_up", Meaning),
    word("quorum_down", Meaning),
    word("sorry_server", Meaning),
    word("sorry_server_inhibit", Meaning),
    word("sorry_server_lvs_method", METHOD),
    word("inhibit_on_failure", Meaning),
    word("persistence_timeout", Meaning),
    word("persistence_granularity", Meaning),
    word("persistence_engine", Later("clients are known by their address alone")),
    word("ops", Differs("datagrams of one client and port go to one server while they keep coming")),
    word("hashed", KERNEL_FLAG),
    word("flag-1", KERNEL_FLAG),
    word("flag-2", KERNEL_FLAG),
    word("flag-3", KERNEL_FLAG),
    word("sh-port", KERNEL_FLAG),
    word("sh-fallback", KERNEL_FLAG),
    word("mh-port", KERNEL_FLAG),
    word("mh-fallback", KERNEL_FLAG),
    word("virtualhost", Meaning),
    word("smtp_alert", SERVER_MAIL),
    word("ha_suspend", NO_SUSPEND),
    word("snmp_name", NO_SNMP),
    block("real_server", Meaning, Context::RealServer),
];

const SCHEDULER: Status = Differs(
    "rr, wrr, lc, wlc, sh, mh, fo, ovf and twos mean the same, sed and nq nearly so (as wlc); instead of dh sh, instead of lblc and lblcr wlc",
);
const METHOD: Status = Differs(
    "with NAT connections are carried from socket to socket (UDP: by the kernel's NAT), with DR and TUN too: they go through this host both ways",
);

const REAL_SERVER: &[Keyword] = &[
    word("weight", Meaning),
    word("lvs_method", METHOD),
    word("uthreshold", Differs("a connection waits for a place when all servers are full; IPVS drops it")),
    word(
        "lthreshold",
        Differs("a server that was full gets connections as soon as it has fewer than `uthreshold`"),
    ),
    word("inhibit_on_failure", Meaning),
    word("notify_up", Meaning),
    word("notify_down", Meaning),
    word("alpha", Meaning),
    word("retry", Meaning),
    word("delay_before_retry", Meaning),
    word("warmup", Meaning),
    word("delay_loop", Meaning),
    word("connect_timeout", Meaning),
    word("smtp_alert", SERVER_MAIL),
    word("virtualhost", Meaning),
    word("snmp_name", NO_SNMP),
    block("TCP_CHECK", Meaning, Context::Checker),
    block("HTTP_GET", Meaning, Context::HttpChecker),
    block("SSL_GET", Meaning, Context::HttpChecker),
    block("SMTP_CHECK", Meaning, Context::SmtpChecker),
    block("DNS_CHECK", Meaning, Context::DnsChecker),
    block("MISC_CHECK", Meaning, Context::MiscChecker),
    block("UDP_CHECK", Meaning, Context::UdpChecker),
    block("PING_CHECK", Meaning, Context::Checker),
    block("FILE_CHECK", Meaning, Context::FileChecker),
    block("BFD_CHECK", Meaning, Context::BfdChecker),
];

/// A table of a checker that runs on its own clock, and of one that makes connections too.
macro_rules! checker {
    (runs $(, $own:expr)* $(,)?) => {
        &[
            word("retry", Meaning),
            word("delay_before_retry", Meaning),
            word("warmup", Differs("without it the first check runs at once, not after a part of `delay_loop`")),
            word("delay_loop", Meaning),
            word("alpha", Meaning),
            word("log_all_failures", LAST_ANSWER),
            $($own,)*
        ]
    };
    (connects $(, $own:expr)* $(,)?) => {
        checker!(
            runs,
            word("connect_ip", Meaning),
            word("connect_port", Meaning),
            word("bindto", Meaning),
            word("bind_port", Meaning),
            word("bind_if", Meaning),
            word("connect_timeout", Meaning),
            word("fwmark", Meaning),
            $($own,)*
        )
    };
}

const CHECKER: &[Keyword] = checker!(connects);

const HTTP_CHECKER: &[Keyword] = checker!(
    connects,
    block("url", Differs("all URLs are asked for in each run, not one"), Context::Url),
    word("nb_get_retry", Meaning),
    word("virtualhost", Meaning),
    word("http_protocol", Meaning),
    word("enable_sni", Meaning),
    word("sni_name", Meaning),
    word("fast_recovery", Instead("all URLs are asked for in each run, without waiting between them")),
);

const SMTP_CHECKER: &[Keyword] =
    checker!(connects, word("helo_name", Meaning), block("host", Meaning, Context::Host));

const DNS_CHECKER: &[Keyword] = checker!(connects, word("type", Meaning), word("name", Meaning));

const MISC_CHECKER: &[Keyword] = checker!(
    runs,
    word("misc_path", Meaning),
    word("misc_timeout", Meaning),
    word("misc_dynamic", Meaning),
    word("user", Meaning),
);

const UDP_CHECKER: &[Keyword] = checker!(
    connects,
    word("payload", Meaning),
    word("require_reply", Meaning),
    word("min_reply_length", Meaning),
    word("max_reply_length", Meaning),
);

const FILE_CHECKER: &[Keyword] = &[
    word("track_file", Meaning),
    word("weight", Differs("with weight 0 `reverse` has no effect")),
    word("alpha", Meaning),
];

const BFD_CHECKER: &[Keyword] = &[word("name", Meaning), word("alpha", Meaning)];

const URL: &[Keyword] = &[
    word("path", Meaning),
    word("digest", Meaning),
    word("status_code", Meaning),
    word("virtualhost", Meaning),
    word("regex", Differs("without look-around and back references")),
    word("regex_no_match", Meaning),
    word("regex_options", Differs("caseless, multiline, dotall, extended and ungreedy count")),
    word("regex_stack", NotNeeded),
    word("regex_min_offset", Differs("the expression may match anywhere in the body")),
    word("regex_max_offset", Differs("the expression may match anywhere in the body")),
    word(
        "tls_compliant",
        Instead("a connection that ends without a TLS close is taken as it is by keepalived 2.2.7 too"),
    ),
];

const HOST: &[Keyword] = &[
    word("connect_ip", Meaning),
    word("connect_port", Meaning),
    word("bindto", Meaning),
    word("bind_port", Meaning),
    word("bind_if", Meaning),
    word("connect_timeout", Meaning),
    word("fwmark", Meaning),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_keyword_stands_twice_in_a_table() {
        let all = [
            Context::Top,
            Context::Global,
            Context::Instance,
            Context::SyncGroup,
            Context::Script,
            Context::VirtualServer,
            Context::RealServer,
            Context::Checker,
            Context::HttpChecker,
            Context::UdpChecker,
            Context::Url,
            Context::Bfd,
        ];
        for context in all {
            let mut names: Vec<_> = table(context).iter().map(|k| k.name).collect();
            names.sort_unstable();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count, "{context:?}");
        }
    }

    #[test]
    fn fifo_paths_are_not_commands() {
        assert!(
            is_script("notify_master")
                && is_script("vrrp_notify_fifo_script")
                && is_script("notify_fifo_script")
        );
        assert!(
            !is_script("notify_fifo")
                && !is_script("notify_priority_changes")
                && !is_script("vrrp_notify_fifo")
        );
    }
}
