//! Global settings of keepalived as its data dump shows them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::User;

/// What was written in `global_defs`, or keepalived's default. Instances have what follows from it in themselves;
/// only the data dump reads this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// `vrrp_version`
    pub version: u8,
    /// `vrrp_mcast_group4`, `vrrp_mcast_group6`
    pub groups: (IpAddr, IpAddr),
    /// `vrrp_garp_master_delay` in seconds.
    pub garp_delay: u32,
    /// `vrrp_garp_master_repeat`
    pub garp_repeat: u32,
    /// `vrrp_garp_master_refresh` in seconds.
    pub garp_refresh: u32,
    /// `vrrp_garp_master_refresh_repeat`
    pub garp_refresh_repeat: u32,
    /// `vrrp_garp_lower_prio_delay` in seconds.
    pub garp_lower_delay: Option<u32>,
    /// `vrrp_garp_lower_prio_repeat`
    pub garp_lower_repeat: Option<u32>,
    /// `vrrp_garp_extra_if`: all interfaces or VMACs only; seconds.
    pub garp_extra: Option<(bool, u32)>,
    /// `vrrp_garp_interval`
    pub garp_interval: Duration,
    /// `vrrp_gna_interval`
    pub gna_interval: Duration,
    /// `vrrp_down_timer_adverts`
    pub down_timer_adverts: u8,
    /// `vrrp_lower_prio_no_advert`
    pub lower_prio_no_advert: bool,
    /// `vrrp_higher_prio_send_advert`
    pub higher_prio_send_advert: bool,
    /// `vrrp_check_unicast_src`
    pub check_unicast_src: bool,
    /// `vrrp_skip_check_adv_addr`
    pub skip_check_adv_addr: bool,
    /// `vrrp_strict`
    pub strict: bool,
    /// `default_interface`
    pub default_interface: Option<String>,
    /// `vrrp_notify_priority_changes`
    pub notify_priority_changes: bool,
    /// `enable_script_security`
    pub script_security: bool,
    /// `script_user`
    pub script_user: Option<User>,
    /// `smtp_alert`, `smtp_alert_vrrp`, `smtp_alert_checker`
    pub smtp_alert: [Option<bool>; 3],
    /// Path of `vrrp_notify_fifo`; another one is `notify_fifo`.
    pub vrrp_fifo: Option<PathBuf>,
    /// Instances that were written, those that cannot run among them.
    pub instances: usize,
    /// Virtual servers that were written, those that are left out among them.
    pub virtual_servers: usize,
    /// Programs of `virtual_server`: its checks, and those that are told of changes.
    pub checker_scripts: Vec<PathBuf>,
    /// `nftables` was written.
    pub nftables: bool,
    /// `vmac_prefix`
    pub vmac_prefix: Option<String>,
    /// Weights of scripts, files and processes where they are defined: number, `reverse`.
    pub weights: BTreeMap<String, (i32, bool)>,
}

impl Default for Shown {
    fn default() -> Self {
        Self {
            version: 2,
            groups: (IpAddr::from([224, 0, 0, 18]), IpAddr::from([0xff02, 0, 0, 0, 0, 0, 0, 0x12])),
            garp_delay: 5,
            garp_repeat: 5,
            garp_refresh: 0,
            garp_refresh_repeat: 1,
            garp_lower_delay: None,
            garp_lower_repeat: None,
            // What 2.2.7 prints when nothing is written.
            garp_extra: Some((false, 0)),
            garp_interval: Duration::ZERO,
            gna_interval: Duration::ZERO,
            down_timer_adverts: 3,
            lower_prio_no_advert: false,
            higher_prio_send_advert: false,
            check_unicast_src: false,
            skip_check_adv_addr: false,
            strict: false,
            default_interface: None,
            notify_priority_changes: false,
            script_security: false,
            script_user: None,
            smtp_alert: [None; 3],
            vrrp_fifo: None,
            instances: 0,
            virtual_servers: 0,
            checker_scripts: Vec::new(),
            nftables: false,
            vmac_prefix: None,
            weights: BTreeMap::new(),
        }
    }
}
