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
    Checker,
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
    /// keepalived's load balancing, which the embedded forwarder does here.
    Forwarder,
    /// Inside something whose status was already told.
    Inside,
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

use Status::{Differs, Forwarder, Inside, Instead, Later, Meaning, NotNeeded, Refused};

const fn word(name: &'static str, status: Status) -> Keyword {
    Keyword { name, status, block: None }
}

const fn block(name: &'static str, status: Status, inside: Context) -> Keyword {
    Keyword { name, status, block: Some(inside) }
}

const NO_SNMP: Status = Later("there is no SNMP; use the metrics");
const NO_DBUS: Status = Later("there is no D-Bus; use the control socket");
const NO_IPTABLES: Status = Instead("the nftables table does the work of iptables and its sets");
const NO_IPVLAN: Status = Refused(
    "an ipvlan has the MAC address of its base, so nothing is gained over the base itself; write `use_vmac`, or leave the line out",
);

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
const PLACES: [(Context, &str); 9] = [
    (Context::Top, "the top level"),
    (Context::Global, "`global_defs`"),
    (Context::Instance, "`vrrp_instance`"),
    (Context::Script, "`vrrp_script`"),
    (Context::SyncGroup, "`vrrp_sync_group`"),
    (Context::Authentication, "`authentication`"),
    (Context::VirtualServer, "`virtual_server`"),
    (Context::RealServer, "`real_server`"),
    (Context::Checker, "a checker"),
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
    block("virtual_server", Forwarder, Context::VirtualServer),
    block("virtual_server_group", Forwarder, Context::Entries),
    block("SSL", Forwarder, Context::Ssl),
    word("net_namespace", Meaning),
    word("net_namespace_ipvs", Forwarder),
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
    word("smtp_alert_checker", Forwarder),
    word("no_email_faults", Meaning),
    word("no_checker_emails", Forwarder),
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
    word("lvs_notify_fifo", Forwarder),
    word("lvs_notify_fifo_script", Forwarder),
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
    word("checker_log_all_failures", Forwarder),
    word("rs_init_notifies", Forwarder),
    word("lvs_timeouts", Forwarder),
    word("lvs_flush", Forwarder),
    word("lvs_flush_on_stop", Forwarder),
    word("lvs_flush_onstop", Forwarder),
    word("lvs_sync_daemon", Forwarder),
    word("nftables_ipvs", Forwarder),
    word("nftables_ipvs_priority", Forwarder),
    word("nftables_ipvs_start_fwmark", Forwarder),
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
    word("net_namespace_ipvs", Forwarder),
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
    word("lvs_sync_daemon_interface", Forwarder),
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

const SSL: &[Keyword] =
    &[word("password", Inside), word("ca", Inside), word("certificate", Inside), word("key", Inside)];

const VIRTUAL_SERVER: &[Keyword] = &[
    word("protocol", Inside),
    word("lb_algo", Inside),
    word("lvs_sched", Inside),
    word("lb_kind", Inside),
    word("lvs_method", Inside),
    word("delay_loop", Inside),
    word("ip_family", Inside),
    word("retry", Inside),
    word("delay_before_retry", Inside),
    word("warmup", Inside),
    word("connect_timeout", Inside),
    word("weight", Inside),
    word("alpha", Inside),
    word("omega", Inside),
    word("quorum", Inside),
    word("hysteresis", Inside),
    word("quorum_up", Inside),
    word("quorum_down", Inside),
    word("sorry_server", Inside),
    word("sorry_server_inhibit", Inside),
    word("sorry_server_lvs_method", Inside),
    word("inhibit_on_failure", Inside),
    word("persistence_timeout", Inside),
    word("persistence_granularity", Inside),
    word("persistence_engine", Inside),
    word("ops", Inside),
    word("hashed", Inside),
    word("flag-1", Inside),
    word("flag-2", Inside),
    word("flag-3", Inside),
    word("sh-port", Inside),
    word("sh-fallback", Inside),
    word("mh-port", Inside),
    word("mh-fallback", Inside),
    word("virtualhost", Inside),
    word("smtp_alert", Inside),
    word("ha_suspend", Inside),
    word("snmp_name", Inside),
    block("real_server", Inside, Context::RealServer),
];

const REAL_SERVER: &[Keyword] = &[
    word("weight", Inside),
    word("lvs_method", Inside),
    word("uthreshold", Inside),
    word("lthreshold", Inside),
    word("inhibit_on_failure", Inside),
    word("notify_up", Inside),
    word("notify_down", Inside),
    word("alpha", Inside),
    word("retry", Inside),
    word("delay_before_retry", Inside),
    word("warmup", Inside),
    word("delay_loop", Inside),
    word("connect_timeout", Inside),
    word("smtp_alert", Inside),
    word("virtualhost", Inside),
    word("snmp_name", Inside),
    block("TCP_CHECK", Inside, Context::Checker),
    block("HTTP_GET", Inside, Context::Checker),
    block("SSL_GET", Inside, Context::Checker),
    block("SMTP_CHECK", Inside, Context::Checker),
    block("DNS_CHECK", Inside, Context::Checker),
    block("MISC_CHECK", Inside, Context::Checker),
    block("UDP_CHECK", Inside, Context::Checker),
    block("PING_CHECK", Inside, Context::Checker),
    block("FILE_CHECK", Inside, Context::Checker),
    block("BFD_CHECK", Inside, Context::Checker),
];

const CHECKER: &[Keyword] = &[
    word("connect_ip", Inside),
    word("connect_port", Inside),
    word("bindto", Inside),
    word("bind_port", Inside),
    word("bind_if", Inside),
    word("connect_timeout", Inside),
    word("fwmark", Inside),
    word("retry", Inside),
    word("nb_get_retry", Inside),
    word("delay_before_retry", Inside),
    word("warmup", Inside),
    word("delay_loop", Inside),
    word("alpha", Inside),
    word("log_all_failures", Inside),
    block("url", Inside, Context::Url),
    word("virtualhost", Inside),
    word("http_protocol", Inside),
    word("enable_sni", Inside),
    word("sni_name", Inside),
    word("fast_recovery", Inside),
    word("helo_name", Inside),
    block("host", Inside, Context::Host),
    word("type", Inside),
    word("name", Inside),
    word("misc_path", Inside),
    word("misc_timeout", Inside),
    word("misc_dynamic", Inside),
    word("user", Inside),
    word("payload", Inside),
    word("require_reply", Inside),
    word("min_reply_length", Inside),
    word("max_reply_length", Inside),
    word("track_file", Inside),
    word("weight", Inside),
];

const URL: &[Keyword] = &[
    word("path", Inside),
    word("digest", Inside),
    word("status_code", Inside),
    word("virtualhost", Inside),
    word("regex", Inside),
    word("regex_no_match", Inside),
    word("regex_options", Inside),
    word("regex_stack", Inside),
    word("regex_min_offset", Inside),
    word("regex_max_offset", Inside),
    word("tls_compliant", Inside),
];

const HOST: &[Keyword] = &[
    word("connect_ip", Inside),
    word("connect_port", Inside),
    word("bindto", Inside),
    word("bind_port", Inside),
    word("bind_if", Inside),
    word("connect_timeout", Inside),
    word("fwmark", Inside),
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
