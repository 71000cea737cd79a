//! `global_defs`.

use std::net::IpAddr;
use std::time::Duration;

use crate::diagnostic::{Diagnostic, Located, Location};
use crate::iproute::Iproute;
use crate::ready::{ExtraAnnouncements, Fifo, User, Version};
use crate::written::Statement;

use super::process::Pending;
use super::values::Rest;
use super::{Lower, inside, located};

/// Defaults of instances and scripts.
#[derive(Debug)]
pub(super) struct Globals {
    pub version: Version,
    pub groups: (IpAddr, IpAddr),
    pub garp: Garp,
    pub min_garp: bool,
    pub lower_prio_no_advert: Option<bool>,
    pub higher_prio_send_advert: Option<bool>,
    pub down_timer_adverts: Option<Located<u8>>,
    pub check_unicast_src: bool,
    pub strict: Option<Located<bool>>,
    pub checksum_message_only: bool,
    pub notify_priority_changes: bool,
    pub script_user: Option<User>,
    pub script_security: bool,
    /// keepalived's `default_interface`: that of static entries.
    pub default_interface: Option<Located<String>>,
    pub skip_address_check: bool,
    pub owner_ignores_adverts: Option<bool>,
    pub smtp_alert: Option<bool>,
    pub smtp_alert_vrrp: Option<bool>,
    pub smtp_alert_checker: Option<bool>,
    /// `lvs_timeouts tcp`.
    pub lvs_tcp_timeout: Option<Duration>,
    pub pending: Pending,
    fifos: [PendingFifo; 2],
    /// Names of routing tables and the like.
    pub iproute: Iproute,
    /// `vmac_prefix` and `vmac_addr_prefix`.
    pub vmac_prefixes: (Option<Located<String>>, Option<Located<String>>),
    /// `vrrp_garp_extra_if`.
    pub extra_announcements: Option<ExtraAnnouncements>,
}

/// A FIFO and its script are written in two directives.
#[derive(Clone, Debug, Default)]
struct PendingFifo {
    path: Option<Located<String>>,
    user: Option<User>,
    script: Option<Statement>,
}

/// When to announce, as far as it was written.
#[derive(Clone, Debug, Default)]
pub(super) struct Garp {
    pub delay: Option<u64>,
    pub repeat: Option<u32>,
    pub refresh: Option<u64>,
    pub refresh_repeat: Option<u32>,
    pub lower_delay: Option<u64>,
    pub lower_repeat: Option<u32>,
    pub interval: Option<Duration>,
    pub gna_interval: Option<Duration>,
}

impl Garp {
    /// Nothing was written, so neighbour advertisements follow RFC 4861.
    pub fn is_default(&self) -> bool {
        self.delay.is_none()
            && self.repeat.is_none()
            && self.refresh.is_none()
            && self.refresh_repeat.is_none()
            && self.lower_delay.is_none()
            && self.lower_repeat.is_none()
    }

    /// What is written in `self` counts before what is in `global`.
    pub fn or(&self, global: &Self) -> Self {
        Self {
            delay: self.delay.or(global.delay),
            repeat: self.repeat.or(global.repeat),
            refresh: self.refresh.or(global.refresh),
            refresh_repeat: self.refresh_repeat.or(global.refresh_repeat),
            // Where the instance says nothing of these, the global values count, be they defaults (2.2.7).
            lower_delay: self
                .lower_delay
                .or(global.lower_delay)
                .or(self.delay.map(|_| global.delay.unwrap_or(5))),
            lower_repeat: self
                .lower_repeat
                .or(global.lower_repeat)
                .or(self.repeat.map(|_| global.repeat.unwrap_or(5))),
            interval: self.interval.or(global.interval),
            gna_interval: self.gna_interval.or(global.gna_interval),
        }
    }
}

impl Default for Globals {
    fn default() -> Self {
        Self {
            version: Version::V2,
            groups: (IpAddr::from([224, 0, 0, 18]), IpAddr::from([0xff02, 0, 0, 0, 0, 0, 0, 0x12])),
            garp: Garp::default(),
            min_garp: false,
            lower_prio_no_advert: None,
            higher_prio_send_advert: None,
            down_timer_adverts: None,
            check_unicast_src: false,
            strict: None,
            checksum_message_only: false,
            notify_priority_changes: false,
            script_user: None,
            script_security: false,
            default_interface: None,
            skip_address_check: false,
            owner_ignores_adverts: None,
            smtp_alert: None,
            smtp_alert_vrrp: None,
            smtp_alert_checker: None,
            lvs_tcp_timeout: None,
            pending: Pending::default(),
            fifos: Default::default(),
            iproute: Iproute::default(),
            vmac_prefixes: (None, None),
            extra_announcements: None,
        }
    }
}

impl Globals {
    /// Mail of instances and groups that do not say.
    pub fn smtp_alert(&self) -> bool {
        self.smtp_alert_vrrp.or(self.smtp_alert).unwrap_or(false)
    }

    /// Mail of virtual and real servers that do not say.
    pub fn smtp_alert_of_servers(&self) -> Option<bool> {
        self.smtp_alert_checker.or(self.smtp_alert)
    }
}

const IGNORED: &str = "the line is ignored";

impl Lower<'_> {
    pub(super) fn global_defs(&mut self, block: &Statement) {
        for statement in inside(block) {
            self.global(statement);
        }
    }

    fn global(&mut self, statement: &Statement) {
        let keyword = statement.keyword();
        if let Some(garp) = keyword.strip_prefix("vrrp_") {
            let mut written = std::mem::take(&mut self.globals.garp);
            let known = self.garp(garp, statement, &mut written);
            self.globals.garp = written;
            if known {
                return;
            }
        }
        if self.network_global(statement) {
            return;
        }
        match keyword {
            "router_id" => {
                let value = self.required(statement, "a name").map(located);
                let mut slot = self.model.router_id.take();
                self.set(&mut slot, statement, value);
                self.model.router_id = slot;
            }
            "vrrp_version" => {
                if let Some(version) = self.version(statement) {
                    self.globals.version = version.value;
                }
            }
            "vrrp_mcast_group4" | "vrrp_mcast_group6" => self.group(statement),
            "default_interface" => {
                self.globals.default_interface = self.required(statement, "an interface").map(located)
            }
            "vrrp_min_garp" => self.globals.min_garp = self.boolean(statement).is_some_and(|b| b.value),
            "vrrp_lower_prio_no_advert" => {
                self.globals.lower_prio_no_advert = self.boolean(statement).map(|b| b.value)
            }
            "vrrp_higher_prio_send_advert" => {
                self.globals.higher_prio_send_advert = self.boolean(statement).map(|b| b.value)
            }
            "vrrp_down_timer_adverts" => self.globals.down_timer_adverts = self.down_timer_adverts(statement),
            "vrrp_check_unicast_src" => self.globals.check_unicast_src = true,
            "vrrp_strict" => self.globals.strict = self.boolean(statement),
            "v3_checksum_as_v2" => {
                self.globals.checksum_message_only = self.boolean(statement).is_some_and(|b| b.value)
            }
            "vrrp_startup_delay" => {
                let value = self.required(statement, "seconds");
                let delay = value.and_then(|word| self.seconds(word, 0.001..=86_400.0, 6, IGNORED));
                self.model.startup_delay = delay.map(|delay| Located::new(delay, statement.whole()));
            }
            "vipd_lease" => self.model.lease = self.lease(statement),
            "log_unknown_vrids" => self.model.log_unknown_vrids = self.boolean(statement),
            "vrrp_notify_priority_changes" => {
                self.globals.notify_priority_changes = self.boolean(statement).is_some_and(|b| b.value);
            }
            "vrrp_rt_priority" => {
                let value = self.required(statement, "1 to 99");
                let priority = value.and_then(|word| self.number(word, 1..=99, Rest::Warned, IGNORED));
                let priority = priority.and_then(|p| u8::try_from(p).ok());
                self.model.realtime_priority = priority.map(|p| Located::new(p, statement.whole()));
            }
            "vrrp_no_swap" => self.model.lock_memory = self.boolean(statement),
            "script_user" => {
                if self.required(statement, "a user").is_some() {
                    self.globals.script_user = self.user(statement.parameters(), IGNORED);
                }
            }
            "enable_script_security" => self.globals.script_security = true,
            "notify_fifo" | "vrrp_notify_fifo" => self.fifo(statement),
            "notify_fifo_script" => self.globals.fifos[0].script = Some(statement.clone()),
            "vrrp_notify_fifo_script" => self.globals.fifos[1].script = Some(statement.clone()),
            "vrrp_skip_check_adv_addr" => {
                self.globals.skip_address_check = self.boolean(statement).is_some_and(|b| b.value);
            }
            "vrrp_owner_ignore_adverts" => {
                self.globals.owner_ignores_adverts = self.boolean(statement).map(|b| b.value);
            }
            "include_check" => {}
            "lvs_timeouts" => self.lvs_timeouts(statement),
            other => {
                let known = self.process_word(statement);
                debug_assert!(known, "no meaning for {other}");
            }
        }
    }

    pub(super) fn version(&mut self, statement: &Statement) -> Option<Located<Version>> {
        let word = self.required(statement, "2 or 3")?;
        let number = self.number(word, 2..=3, Rest::Warned, IGNORED)?;
        Some(Located::new(if number == 3 { Version::V3 } else { Version::V2 }, statement.whole()))
    }

    pub(super) fn down_timer_adverts(&mut self, statement: &Statement) -> Option<Located<u8>> {
        let word = self.required(statement, "1 to 100")?;
        let number = self.number(word, 1..=100, Rest::Warned, IGNORED)?;
        Some(Located::new(u8::try_from(number).ok()?, statement.whole()))
    }

    fn group(&mut self, statement: &Statement) {
        let six = statement.keyword().ends_with('6');
        let expected = if six { "an IPv6 multicast address" } else { "an IPv4 multicast address" };
        let Some(word) = self.required(statement, expected) else { return };
        match word.text.parse::<IpAddr>() {
            Ok(group) if group.is_multicast() && group.is_ipv6() == six => {
                *(if six { &mut self.globals.groups.1 } else { &mut self.globals.groups.0 }) = group;
            }
            _ => self.invalid(word, expected, "the default group is used"),
        }
    }

    /// The `garp_*` and `gna_*` directives, global and of instances; `false` for any other.
    pub(super) fn garp(&mut self, keyword: &str, statement: &Statement, garp: &mut Garp) -> bool {
        if !matches!(
            keyword,
            "garp_master_delay"
                | "garp_master_repeat"
                | "garp_master_refresh"
                | "garp_master_refresh_repeat"
                | "garp_lower_prio_delay"
                | "garp_lower_prio_repeat"
                | "garp_interval"
                | "gna_interval"
        ) {
            return false;
        }
        let Some(word) = self.required(statement, "a number") else { return true };
        if let "garp_interval" | "gna_interval" = keyword {
            let gap = self.seconds(word, 0.0..=86_400.0, 6, IGNORED);
            *(if keyword == "garp_interval" { &mut garp.interval } else { &mut garp.gna_interval }) = gap;
            return true;
        }
        // keepalived counts delays in microseconds in 32 bits.
        let most = match keyword {
            "garp_master_delay" | "garp_lower_prio_delay" => i64::from(u32::MAX / 1_000_000),
            "garp_lower_prio_repeat" => i64::from(i32::MAX),
            _ => i64::from(u32::MAX),
        };
        let otherwise = match keyword {
            "garp_master_refresh" => "0 is used: no refresh, as in keepalived",
            _ => "the line is ignored, as in keepalived",
        };
        let number = self.number(word, 0..=most, Rest::Warned, otherwise);
        let Some(number) = number.or((keyword == "garp_master_refresh").then_some(0)) else { return true };
        let mut number = u32::try_from(number).unwrap_or(u32::MAX);
        if number == 0 && matches!(keyword, "garp_master_repeat" | "garp_master_refresh_repeat") {
            self.invalid(word, "at least 1", "1 is used");
            number = 1;
        }
        match keyword {
            "garp_master_delay" => garp.delay = Some(number.into()),
            "garp_master_repeat" => garp.repeat = Some(number),
            "garp_master_refresh" => garp.refresh = Some(number.into()),
            "garp_master_refresh_repeat" => garp.refresh_repeat = Some(number),
            "garp_lower_prio_delay" => garp.lower_delay = Some(number.into()),
            _ => garp.lower_repeat = Some(number),
        }
        true
    }

    /// `tcp SECONDS`, `tcpfin SECONDS`, `udp SECONDS`, in any order.
    fn lvs_timeouts(&mut self, statement: &Statement) {
        const MOST: i64 = 31 * 86_400;
        if statement.parameter().is_none() {
            let finding =
                Diagnostic::warning("missing-value", statement.at(), "`lvs_timeouts` without a value");
            self.diagnostics.push(finding.expected("`tcp SECONDS`").help(IGNORED));
        }
        let mut words = statement.parameters().iter();
        while let Some(word) = words.next() {
            if !matches!(word.text.as_str(), "tcp" | "tcpfin" | "udp") {
                self.invalid(word, "`tcp`, `tcpfin` or `udp`", "the word is ignored");
                continue;
            }
            let Some(value) = words.next() else {
                let message = format!("`{}` without a value", word.text);
                let finding = Diagnostic::warning("missing-value", &word.at, message);
                self.diagnostics.push(finding.expected("seconds").help("it is ignored"));
                continue;
            };
            let seconds = self.number(value, 0..=MOST, Rest::Refused, "it is ignored");
            let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
            if word.text == "tcp" {
                let seconds = seconds.filter(|seconds| *seconds > 0);
                self.globals.lvs_tcp_timeout = seconds.map(Duration::from_secs);
            }
        }
    }

    fn fifo(&mut self, statement: &Statement) {
        let Some(path) = self.required(statement, "a path").map(located) else { return };
        let user = match &statement.parameters()[1..] {
            // Only a user that was named before.
            [] => self.globals.script_user.clone(),
            words => {
                let help = "the FIFO belongs to the daemon's user";
                self.user_or("unknown-notify-user", words, help)
            }
        };
        let index = usize::from(statement.keyword() == "vrrp_notify_fifo");
        self.repeated(statement, self.globals.fifos[index].path.clone().map(|p| p.at).as_ref());
        self.globals.fifos[index] =
            PendingFifo { path: Some(path), user, script: self.globals.fifos[index].script.take() };
    }

    /// What can only be said when all of `global_defs` is read.
    pub(super) fn finish_globals(&mut self) {
        self.model.shown = self.shown();
        self.model.shown.vrrp_fifo =
            self.globals.fifos[1].path.as_ref().map(|path| path.value.clone().into());
        for pending in std::mem::take(&mut self.globals.fifos) {
            let Some(path) = pending.path else {
                if let Some(script) = pending.script {
                    let finding = Diagnostic::warning(
                        "fifo-script-without-fifo",
                        script.at(),
                        format!("`{}` without its FIFO", script.keyword()),
                    );
                    self.diagnostics.push(finding.help("the script is not run"));
                }
                continue;
            };
            let script = pending.script.and_then(|statement| self.notify_command(&statement));
            let place = path.at.place.clone();
            self.model.fifos.push(Fifo { path: path.value.into(), script, user: pending.user, place });
        }
        self.finish_process();
    }

    /// A command that may name its user behind it.
    pub(super) fn notify_command(&mut self, statement: &Statement) -> Option<Box<crate::ready::Command>> {
        let own_user = statement.parameters().len() > 1;
        let at: Location = statement.at().clone();
        let default = if own_user { None } else { self.script_user(&at).ok()? };
        self.command(statement, default, true).map(Box::new)
    }
}
