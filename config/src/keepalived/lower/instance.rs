//! `vrrp_instance`.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::complete::{family_of, neighbor_announcements};
use crate::diagnostic::{Diagnostic, Located, Location};
use crate::model::{FirstState, Instance, Password, Unicast};
use crate::ready::{Announcements, Command, Lease, Notify, OldUnicastChecksum, UnicastPeer};
use crate::validate::needs_no_interface;
use crate::written::Statement;

use super::globals::Garp;
use super::values::Rest;
use super::vmac::VmacWords;
use super::{Kind, Lower, inside, located};

impl Lower<'_> {
    pub(super) fn vrrp_instance(&mut self, statement: &Statement) {
        let [name] = statement.parameters() else {
            let finding =
                Diagnostic::warning("missing-name", statement.at(), "`vrrp_instance` must have one name");
            self.diagnostics
                .push(finding.expected("one word behind it").help("it is skipped, as in keepalived"));
            return;
        };
        let name = located(name);
        if let Some(first) = self.instances.get(&name.value) {
            let message = format!("`vrrp_instance` {} is defined twice", name.value);
            let help = format!("the first counts, at {}", first.place);
            self.diagnostics.push(Diagnostic::warning("duplicate", &name.at, message).help(help));
            return;
        }
        self.instances.insert(name.value.clone(), name.at.clone());
        let mut instance = self.new_instance(name);
        let mut garp = Garp::default();
        let mut vmac = VmacWords::default();
        let mut wrong_vrid = None;
        for statement in inside(statement) {
            if statement.keyword() == "virtual_router_id" {
                self.vrid(statement, &mut instance, &mut wrong_vrid);
            } else if !self.garp(statement.keyword(), statement, &mut garp)
                && !self.vmac_word(statement, &instance, &mut vmac)
                && !self.network_directive(statement, &mut instance)
            {
                self.directive(statement, &mut instance);
            }
        }
        self.refuse_vrid(wrong_vrid, &mut instance);
        self.forget_own_interface(&mut instance);
        self.finish_vmac(vmac, &mut instance);
        self.without_interface(&instance);
        instance.lower_priority_rounds_written = garp.lower_repeat.is_some();
        self.announcements(&garp, &mut instance);
        self.model.instances.push(instance);
    }

    /// keepalived drops the instance's own interface from `track_interface`, also with `dont_track_primary`.
    fn forget_own_interface(&mut self, instance: &mut Instance) {
        let Some(own) = instance.interface.as_ref().filter(|_| !instance.track_primary) else { return };
        let diagnostics = &mut *self.diagnostics;
        instance.trackers.interfaces.retain(|(interface, _)| {
            let is_own = interface.value == own.value;
            if is_own {
                let message = format!("{} is the instance's own interface", own.value);
                let finding = Diagnostic::warning("own-interface", &interface.at, message);
                diagnostics.push(finding.help(
                    "it is not tracked, because of `dont_track_primary`, as in keepalived; delete one of the two",
                ));
            }
            !is_own
        });
    }

    /// keepalived.conf(5) of 2.2.7 allows it with unicast, and 2.2.7 itself ends with `Unknown interface!`; 2.4.3
    /// does not.
    fn without_interface(&mut self, instance: &Instance) {
        let family = instance.source.as_ref().map(|source| family_of(source.value));
        let needs_none = family.is_some_and(|family| needs_no_interface(instance, family));
        if instance.interface.is_some() || !needs_none || instance.vmac.is_some() {
            return;
        }
        let message = format!("instance {} names no interface", instance.name.value);
        let finding = Diagnostic::notice("refused-by-keepalived", &instance.name.at, message);
        self.diagnostics.push(finding.help(
            "adverts leave as the routing table says, as in keepalived 2.4; keepalived 2.2.7 does not start with it",
        ));
    }

    fn new_instance(&self, name: Located<String>) -> Instance {
        let globals = &self.globals;
        Instance {
            down_timer_adverts: globals.down_timer_adverts.clone(),
            default_groups: globals.groups,
            checksum_message_only: globals.checksum_message_only,
            strict: globals.strict.clone(),
            answer_lower_priority: globals.lower_prio_no_advert.map(|no| !no),
            answer_higher_priority: globals.higher_prio_send_advert,
            extra_announcements: globals.extra_announcements,
            skip_address_check: globals.skip_address_check,
            owner_ignores_adverts: globals.owner_ignores_adverts,
            smtp_alert: globals.smtp_alert(),
            notify: Notify { priority_changes: globals.notify_priority_changes, ..Notify::default() },
            ..Instance::new(name, globals.version)
        }
    }

    fn directive(&mut self, statement: &Statement, instance: &mut Instance) {
        match statement.keyword() {
            "state" => self.state(statement, instance),
            "interface" => {
                let value = self.required(statement, "an interface").map(located);
                self.set(&mut instance.interface, statement, value);
            }
            "priority" => {
                let value = self.required(statement, "1 to 255");
                let number = value.and_then(|word| self.number(word, 1..=255, Rest::Refused, "100 is used"));
                let priority = u8::try_from(number.unwrap_or(100)).unwrap_or(100);
                let priority = value.map(|_| Located::new(priority, statement.whole()));
                self.set(&mut instance.priority, statement, priority);
            }
            "version" => {
                let version = self.version(statement);
                self.set(&mut instance.version, statement, version);
            }
            "advert_int" => {
                let value = self.required(statement, "seconds");
                let range = 0.01..=86_400.0;
                let time = value.and_then(|word| self.seconds(word, range, 6, "1 s is used"));
                let time = time.map(|time| Located::new(time, statement.whole()));
                self.set(&mut instance.advert_interval, statement, time);
            }
            "authentication" => self.authentication(statement, instance),
            "virtual_ipaddress" => {
                let addresses: Vec<_> =
                    inside(statement).iter().filter_map(|entry| self.virtual_address(entry)).collect();
                instance.addresses.extend(addresses);
            }
            "virtual_ipaddress_excluded" => {
                let addresses: Vec<_> =
                    inside(statement).iter().filter_map(|entry| self.virtual_address(entry)).collect();
                instance.excluded.extend(addresses);
            }
            "no_virtual_ipaddress" => instance.no_addresses = true,
            "preempt" => instance.preempt = Some(Located::new(true, statement.whole())),
            "nopreempt" => instance.preempt = Some(Located::new(false, statement.whole())),
            "preempt_delay" => {
                let value = self.required(statement, "seconds up to 1000");
                let time = value.and_then(|word| self.seconds(word, 0.0..=1000.0, 6, "no delay is used"));
                let time = time.map(|time| Located::new(time, statement.whole()));
                self.set(&mut instance.preempt_delay, statement, time);
            }
            "down_timer_adverts" => {
                if let Some(count) = self.down_timer_adverts(statement) {
                    instance.down_timer_adverts = Some(count);
                }
            }
            "accept" => instance.accept = Some(Located::new(true, statement.whole())),
            "no_accept" => instance.accept = Some(Located::new(false, statement.whole())),
            "strict_mode" => instance.strict = self.boolean(statement).or(instance.strict.take()),
            "mcast_src_ip" => self.source(statement, instance),
            "unicast_src_ip" => {
                unicast(statement, instance);
                self.source(statement, instance);
            }
            "mcast_dst_ip" => self.destination(statement, instance),
            "unicast_peer" => self.unicast_peers(statement, instance),
            "unicast_ttl" => {
                let value = self.required(statement, "0 to 255");
                let ttl = value.and_then(|word| self.number(word, 0..=255, Rest::Refused, "255 is used"));
                unicast(statement, instance).ttl = ttl.and_then(|ttl| u8::try_from(ttl).ok());
            }
            "unicast_fault_no_peer" => unicast(statement, instance).fault_without_peer = true,
            "check_unicast_src" => {
                if let Some(check) = self.boolean(statement) {
                    unicast(statement, instance).check_source = check.value;
                }
            }
            "v3_checksum_as_v2" => {
                if let Some(on) = self.boolean(statement) {
                    instance.checksum_message_only = on.value;
                }
            }
            "dont_track_primary" => instance.track_primary = false,
            "track_interface" => self.track_interfaces(statement, &mut instance.trackers),
            "track_script" => self.track_checks(statement, Kind::Script, &mut instance.trackers),
            "track_file" => self.track_checks(statement, Kind::File, &mut instance.trackers),
            "track_process" => self.track_checks(statement, Kind::Process, &mut instance.trackers),
            "track_bfd" => self.track_bfd(statement, &mut instance.trackers),
            "lower_prio_no_advert" => {
                if let Some(on) = self.boolean(statement) {
                    instance.answer_lower_priority = Some(!on.value);
                }
            }
            "higher_prio_send_advert" => {
                if let Some(on) = self.boolean(statement) {
                    instance.answer_higher_priority = Some(on.value);
                }
            }
            "notify_priority_changes" => {
                if let Some(on) = self.boolean(statement) {
                    instance.notify.priority_changes = on.value;
                    self.priority_changes.insert((false, instance.name.value.clone()), on.value);
                }
            }
            "skip_check_adv_addr" => {
                if let Some(on) = self.boolean(statement) {
                    instance.skip_address_check = on.value;
                }
            }
            "owner_ignore_adverts" => {
                if let Some(on) = self.boolean(statement) {
                    instance.owner_ignores_adverts = Some(on.value);
                }
            }
            "smtp_alert" => {
                if let Some(on) = self.boolean(statement) {
                    instance.smtp_alert = on.value;
                }
            }
            "auth_hmac" => self.auth_hmac(statement, instance),
            "track_src_ip" => instance.track_source = true,
            "vipd_lease" => instance.lease = self.lease(statement),
            "timer_expired_backup" | "thread_timer_expired" => self.timer_expired_backup(statement, instance),
            "old_unicast_checksum" => {
                unicast(statement, instance);
                instance.old_unicast_checksum = match statement.parameter() {
                    Some(word) if word.text == "never" => OldUnicastChecksum::Never,
                    Some(word) => {
                        self.invalid(word, "`never` or nothing", "the word is ignored");
                        OldUnicastChecksum::Always
                    }
                    None => OldUnicastChecksum::Always,
                };
            }
            "kernel_rx_buf_size" => {
                let bytes = self.whole(statement, 1..=i64::from(i32::MAX));
                instance.receive_buffer = bytes.and_then(|bytes| u32::try_from(bytes).ok());
            }
            keyword if keyword.starts_with("notify") => self.notify(statement, &mut instance.notify),
            other => debug_assert!(false, "no meaning for {other}"),
        }
    }

    fn state(&mut self, statement: &Statement, instance: &mut Instance) {
        let Some(word) = self.required(statement, "`MASTER` or `BACKUP`") else { return };
        let state = match word.text.as_str() {
            "MASTER" => FirstState::Active,
            "BACKUP" => FirstState::Backup,
            _ => {
                self.invalid(word, "`MASTER` or `BACKUP`", "BACKUP is used, as in keepalived");
                FirstState::Backup
            }
        };
        if let Some(before) = instance.first_state.as_ref().filter(|s| s.value == FirstState::Active) {
            let finding =
                Diagnostic::warning("ignored-repetition", &statement.whole(), "`state` is written twice");
            self.diagnostics.push(finding.help(format!("MASTER counts, at {}", before.at.place)));
            return;
        }
        self.set(&mut instance.first_state, statement, Some(Located::new(state, statement.whole())));
    }

    /// A wrong one is ignored when there is a right one, before or after it.
    fn vrid(
        &mut self,
        statement: &Statement,
        instance: &mut Instance,
        wrong: &mut Option<(Diagnostic, Location)>,
    ) {
        let Some(word) = self.required(statement, "1 to 255") else { return };
        if let Some(vrid) = word.text.parse::<u8>().ok().filter(|id| *id > 0) {
            return self.set(&mut instance.vrid, statement, Some(Located::new(vrid, statement.whole())));
        }
        let shown: String = word.text.chars().take(60).collect();
        let message = format!("`{shown}` is no virtual router id");
        let finding = Diagnostic::error("invalid-virtual-router-id", &word.at, message);
        let finding = finding.expected("a number from 1 to 255").help(
            "keepalived does not start with it either; write the same number on all routers of this VIP",
        );
        *wrong = Some((finding, statement.whole()));
    }

    fn refuse_vrid(&mut self, wrong: Option<(Diagnostic, Location)>, instance: &mut Instance) {
        let Some((finding, at)) = wrong else { return };
        if let Some(right) = &instance.vrid {
            let message = finding.message.clone();
            let ignored = Diagnostic::warning("invalid-virtual-router-id", &at, message);
            let help = format!("it is ignored: {} counts, at {}", right.value, right.at.place);
            self.diagnostics.push(ignored.expected("a number from 1 to 255").help(help));
            return;
        }
        self.diagnostics.push(finding);
        instance.vrid = Some(Located::new(0, at));
    }

    fn authentication(&mut self, block: &Statement, instance: &mut Instance) {
        let mut kind: Option<(&str, &Statement)> = None;
        let mut password: Option<Located<Password>> = None;
        for statement in inside(block) {
            match (statement.keyword(), self.required(statement, "a value")) {
                ("auth_type", Some(word)) => kind = Some((&word.text, statement)),
                ("auth_pass", Some(word)) => {
                    let mut bytes = word.text.as_bytes().to_vec();
                    if bytes.len() > 8 {
                        let message = format!("the password has {} bytes", bytes.len());
                        let finding = Diagnostic::warning("password-cut", &word.at, message)
                            .expected("at most 8 bytes");
                        self.diagnostics.push(
                            finding.help(
                                "the first 8 are used, as keepalived does; all peers must agree on these",
                            ),
                        );
                        bytes.truncate(8);
                    }
                    password = Some(Located::new(Password(bytes), word.at.clone()));
                }
                _ => {}
            }
        }
        match kind {
            Some((kind @ ("PASS" | "AH"), statement)) => match password {
                Some(password) => {
                    instance.password = Some(password);
                    instance.authentication_header = kind == "AH";
                }
                None => {
                    let finding = Diagnostic::warning(
                        "authentication-without-password",
                        statement.at(),
                        format!("`auth_type {kind}` without `auth_pass`"),
                    );
                    self.diagnostics.push(finding.help("no authentication is used, as in keepalived"));
                }
            },
            Some((_, statement)) => {
                self.invalid(
                    &statement.words[1],
                    "`PASS` or `AH`",
                    "no authentication is used, as in keepalived",
                );
            }
            None => {
                let finding = Diagnostic::warning(
                    "authentication-without-type",
                    block.at(),
                    "`authentication` without `auth_type`",
                );
                self.diagnostics.push(
                    finding.expected("`auth_type PASS`").help("no authentication is used, as in keepalived"),
                );
            }
        }
    }

    /// `auto`, `off`, or seconds: vipd's own, for those who stay with keepalived's format.
    pub(super) fn lease(&mut self, statement: &Statement) -> Option<Located<Lease>> {
        let word = self.required(statement, "`auto`, `off`, or seconds")?;
        let lease = match word.text.as_str() {
            "auto" => Lease::Auto,
            "off" => Lease::Off,
            _ => Lease::For(self.seconds(word, 0.05..=86_400.0, 6, "the line is ignored")?),
        };
        Some(Located::new(lease, statement.whole()))
    }

    fn timer_expired_backup(&mut self, statement: &Statement, instance: &mut Instance) {
        if statement.keyword() == "thread_timer_expired" {
            let finding =
                Diagnostic::warning("deprecated", statement.at(), "`thread_timer_expired` is an old name");
            self.diagnostics.push(finding.expected("`timer_expired_backup`"));
        }
        let priority = match statement.parameter() {
            Some(word) => self.number(word, 1..=254, Rest::Warned, "254 is used").unwrap_or(254),
            None => 254,
        };
        let priority = u8::try_from(priority).unwrap_or(254);
        instance.timer_expired_backup = Some(Located::new(priority, statement.whole()));
    }

    fn source(&mut self, statement: &Statement, instance: &mut Instance) {
        let Some(word) = self.required(statement, "an address") else { return };
        let address = self.address(word, "the first address of the interface is used");
        self.set(&mut instance.source, statement, address);
    }

    fn destination(&mut self, statement: &Statement, instance: &mut Instance) {
        let Some(word) = self.required(statement, "a multicast address") else { return };
        let Some(group) = self.address(word, "the default group is used") else { return };
        let link_local = match group.value {
            IpAddr::V4(_) => true,
            IpAddr::V6(six) => six.segments()[0] & 0xff0f == 0xff02,
        };
        if !group.value.is_multicast() || !link_local {
            self.invalid(word, "a multicast address (IPv6: link-local)", "the default group is used");
            return;
        }
        self.set(&mut instance.group, statement, Some(group));
    }

    fn unicast_peers(&mut self, block: &Statement, instance: &mut Instance) {
        let known = unicast(block, instance).peers.iter();
        let mut known: HashSet<_> = known.map(|peer| peer.value.address).collect();
        for entry in inside(block) {
            let word = &entry.words[0];
            let Some(address) = self.address(word, "the peer is skipped, as in keepalived") else { continue };
            let mut peer = UnicastPeer { address: address.value, min_ttl: None, max_ttl: None };
            let mut words = entry.words[1..].iter();
            while let Some(option) = words.next() {
                let slot = match option.text.as_str() {
                    "min_ttl" => &mut peer.min_ttl,
                    "max_ttl" => &mut peer.max_ttl,
                    _ => {
                        self.invalid(option, "`min_ttl N`, `max_ttl N` or nothing", "the word is ignored");
                        continue;
                    }
                };
                match words.next() {
                    Some(value) => {
                        let ttl = self.number(value, 0..=255, Rest::Refused, "no limit is used");
                        *slot = ttl.and_then(|ttl| u8::try_from(ttl).ok());
                    }
                    None => self.invalid(option, "a number behind it", "no limit is used"),
                }
            }
            let unicast = unicast(block, instance);
            // The words turn the check of the source on.
            unicast.check_source |= peer.min_ttl.is_some() || peer.max_ttl.is_some();
            if !known.insert(peer.address) {
                let message = format!("{} is a peer already", peer.address);
                self.diagnostics
                    .push(Diagnostic::warning("counted-once", &word.at, message).help("it is skipped"));
                continue;
            }
            unicast.peers.push(Located::new(peer, address.at));
        }
    }

    pub(super) fn notify(&mut self, statement: &Statement, notify: &mut Notify) {
        if statement.keyword() == "notify_deleted" {
            notify.tells_deleted = true;
            if statement.parameter().is_none() {
                return;
            }
        }
        let slot: &mut Option<Box<Command>> = match statement.keyword() {
            "notify" => &mut notify.any,
            "notify_master" => &mut notify.master,
            "notify_backup" => &mut notify.backup,
            "notify_fault" => &mut notify.fault,
            "notify_stop" => &mut notify.stop,
            "notify_deleted" => &mut notify.deleted,
            _ => &mut notify.master_rx_lower_priority,
        };
        if let Some(first) = slot {
            let message = format!("`{}` is written twice", statement.keyword());
            let finding = Diagnostic::warning("ignored-repetition", &statement.whole(), message);
            self.diagnostics.push(finding.help(format!("the first counts, at {}", first.place)));
            return;
        }
        *slot = self.notify_command(statement);
    }

    fn announcements(&mut self, own: &Garp, instance: &mut Instance) {
        let global = &self.globals.garp;
        let minimal = self.globals.min_garp;
        // What the instance says of its own bursts does not count after adverts of lower priority.
        let lower = Garp {
            lower_delay: own
                .lower_delay
                .or(global.lower_delay)
                .or(global.delay)
                .or(own.delay.map(|_| if minimal { 0 } else { 5 })),
            lower_repeat: own
                .lower_repeat
                .or(global.lower_repeat)
                .or(global.repeat)
                .or(own.repeat.map(|_| if minimal { 1 } else { 5 })),
            ..own.clone()
        };
        let garp = lower.or(global);
        instance.gratuitous_arp = keepalived_arp(&garp, minimal);
        instance.neighbor_advertisements = if garp.is_default() && !minimal {
            Announcements { packet_gap: garp.gna_interval.unwrap_or_default(), ..neighbor_announcements() }
        } else {
            Announcements {
                packet_gap: garp.gna_interval.unwrap_or_default(),
                ..keepalived_arp(&garp, minimal)
            }
        };
        if let Some(check) = instance.unicast.as_mut() {
            check.check_source |= self.globals.check_unicast_src;
        }
    }
}

fn unicast<'i>(statement: &Statement, instance: &'i mut Instance) -> &'i mut Unicast {
    instance.unicast.get_or_insert_with(|| Unicast {
        at: statement.whole(),
        peers: Vec::new(),
        ttl: None,
        check_source: false,
        fault_without_peer: false,
    })
}

/// keepalived's bursts: all rounds at once, and once more after a while.
fn keepalived_arp(garp: &Garp, minimal: bool) -> Announcements {
    let seconds = |seconds: u64| (seconds > 0).then(|| Duration::from_secs(seconds));
    let rounds = garp.repeat.unwrap_or(if minimal { 1 } else { 5 });
    let delay = garp.delay.unwrap_or(if minimal { 0 } else { 5 });
    Announcements {
        rounds,
        round_gap: Duration::ZERO,
        again_after: seconds(delay),
        refresh: seconds(garp.refresh.unwrap_or(0)),
        refresh_rounds: garp.refresh_repeat.unwrap_or(u32::from(!minimal)),
        lower_priority_rounds: garp.lower_repeat.unwrap_or(rounds),
        lower_priority_again_after: seconds(garp.lower_delay.unwrap_or(delay)),
        packet_gap: garp.interval.unwrap_or_default(),
    }
}
