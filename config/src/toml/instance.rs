//! `[[instance]]`.

use toml::Spanned;
use toml::de::DeValue;

use crate::diagnostic::{Diagnostic, Located};
use crate::model::{FirstState, Instance, Password, TrackCheck, Trackers, Unicast};
use crate::ready::{Announcements, Effect, Notify, OldUnicastChecksum, UnicastPeer, Version};

use super::Door;
use super::table::{ANY_TIME, SOME_TIME, Table};

const NAME: &str = "what status and logs call it";

impl Door<'_> {
    pub(super) fn instance(&mut self, mut table: Table<'_>) {
        let name = self.text(&mut table, "name");
        if name.is_none() {
            self.missing(&table, "name", NAME);
        }
        let name = name.unwrap_or_else(|| Located::new("(no name)".to_owned(), table.at.clone()));
        let mut instance = Instance::new(name, Version::V3);
        instance.interface = self.text(&mut table, "interface");
        instance.vrid = self.vrid(&mut table);
        let version = self.integer::<u8>(&mut table, "version", 2..=3);
        instance.version =
            version.map(|v| Located::new(if v.value == 3 { Version::V3 } else { Version::V2 }, v.at));
        instance.priority = self.integer(&mut table, "priority", 1..=255);
        let start = self.boolean(&mut table, "start_active");
        if let Some(start) = start.as_ref().filter(|s| s.value)
            && instance.priority.as_ref().is_none_or(|p| p.value != 255)
        {
            self.refuse(&start.at, "only the address owner starts active", "`priority = 255` beside it");
        }
        let first = |s: Located<bool>| {
            Located::new(if s.value { FirstState::Active } else { FirstState::Backup }, s.at)
        };
        instance.first_state = start.map(first);
        if let Some(wants) = self.boolean(&mut table, "wants_active").filter(|wants| wants.value)
            && instance.priority.as_ref().is_none_or(|priority| priority.value != 255)
        {
            // A first state that is active, without a priority, is keepalived's way to say owner.
            instance.priority.get_or_insert(Located::new(100, wants.at.clone()));
            instance.first_state = Some(Located::new(FirstState::Active, wants.at));
        }
        instance.advert_interval = self.duration(&mut table, "advert_interval", SOME_TIME);
        instance.preempt = self.boolean(&mut table, "preempt");
        instance.preempt_delay = self.duration(&mut table, "preempt_delay", ANY_TIME);
        instance.down_timer_adverts = self.integer(&mut table, "down_timer_adverts", 1..=100);
        instance.source = self.address(&mut table, "source");
        instance.group = self.address(&mut table, "multicast_group");
        if let Some(group) = instance.group.as_ref().filter(|g| !g.value.is_multicast()) {
            self.refuse(
                &group.at.clone(),
                format!("{} is not a multicast address", group.value),
                "224.0.0.0/4 or ff00::/8",
            );
        }
        self.unicast(&mut table, &mut instance);
        if let Some(mut authentication) = self.table(&mut table, "authentication") {
            instance.authentication_header = self.authentication_header(&mut authentication);
            instance.password = self.password(authentication);
        }
        if let Some(hmac) = self.table(&mut table, "hmac") {
            instance.hmac = self.hmac(hmac);
        }
        self.habits(&mut table, &mut instance);
        instance.checksum_message_only =
            self.boolean(&mut table, "checksum_message_only").is_some_and(|on| on.value);
        instance.strict = self.boolean(&mut table, "strict");
        instance.addresses = self.virtual_addresses(&mut table, "addresses");
        instance.excluded = self.virtual_addresses(&mut table, "excluded");
        instance.no_addresses = self.boolean(&mut table, "no_addresses").is_some_and(|on| on.value);
        if instance.interface.is_none() && instance.unicast.is_some() {
            self.interfaces_of_addresses(&mut instance);
        }
        if let Some(word) = self.text(&mut table, "eligible_when") {
            if word.value == "any backend healthy" {
                instance.eligible_when = Some(word.at);
            } else {
                let message = format!("\"{}\" is no condition", word.value);
                self.refuse(&word.at, message, "\"any backend healthy\"");
            }
        }
        instance.track_primary = self.boolean(&mut table, "track_own_interface").is_none_or(|on| on.value);
        for value in self.list(&mut table, "track") {
            self.track(value, &mut instance.trackers);
        }
        if let Some(arp) = self.table(&mut table, "gratuitous_arp") {
            instance.lower_priority_rounds_written |= self.announcements(arp, &mut instance.gratuitous_arp);
        }
        if let Some(na) = self.table(&mut table, "neighbor_advertisements") {
            instance.lower_priority_rounds_written |=
                self.announcements(na, &mut instance.neighbor_advertisements);
        }
        instance.answer_lower_priority = self.boolean(&mut table, "answer_lower_priority").map(|on| on.value);
        instance.answer_higher_priority =
            self.boolean(&mut table, "answer_higher_priority").map(|on| on.value);
        if let Some(notify) = self.table(&mut table, "notify") {
            instance.notify = self.notify(notify);
        }
        self.network(&mut table, &mut instance);
        self.finish(table);
        self.model.instances.push(instance);
    }

    /// Where there is none to fall back on.
    fn interfaces_of_addresses(&mut self, instance: &mut Instance) {
        for addresses in [&mut instance.addresses, &mut instance.excluded] {
            addresses.retain(|address| {
                let has = address.value.interface.is_some();
                if !has {
                    let ip = address.value.address.address;
                    let message = format!("{ip} has no interface, nor has its instance");
                    self.refuse(&address.at, message, "`{ address, interface }`");
                }
                has
            });
        }
    }

    /// What few need to say.
    fn habits(&mut self, table: &mut Table<'_>, instance: &mut Instance) {
        instance.accept = self.boolean(table, "accept");
        instance.smtp_alert = self.on(table, "mail");
        instance.track_source = self.on(table, "track_source");
        instance.timer_expired_backup = self.integer(table, "timer_expired_backup", 1..=254);
        instance.lease = self.lease(table);
        instance.skip_address_check = self.on(table, "skip_address_check");
        instance.owner_ignores_adverts = self.boolean(table, "owner_ignores_adverts").map(|on| on.value);
        instance.receive_buffer =
            self.integer(table, "receive_buffer", 1..=i64::from(i32::MAX)).map(|bytes| bytes.value);
        let Some(word) = self.text(table, "old_unicast_checksum") else { return };
        instance.old_unicast_checksum = match word.value.as_str() {
            "detect" => OldUnicastChecksum::Detect,
            "always" => OldUnicastChecksum::Always,
            "never" => OldUnicastChecksum::Never,
            _ => {
                self.refuse(&word.at, "an unknown choice", "\"detect\", \"always\" or \"never\"");
                return;
            }
        };
    }

    /// `type`: a password within the advert, or the key of an IPsec authentication header.
    fn authentication_header(&mut self, table: &mut Table<'_>) -> bool {
        let Some(kind) = self.text(table, "type") else { return false };
        match kind.value.as_str() {
            "header" => return true,
            "password" => {}
            _ => self.refuse(&kind.at, "an unknown type", "\"password\" or \"header\""),
        }
        false
    }

    /// 0 stands for an id that was refused and reported.
    fn vrid(&mut self, table: &mut Table<'_>) -> Option<Located<u8>> {
        if !table.has("vrid") {
            return None;
        }
        let refused = Located::new(0, table.at.clone());
        Some(self.integer(table, "vrid", 1..=255).unwrap_or(refused))
    }

    fn unicast(&mut self, table: &mut Table<'_>, instance: &mut Instance) {
        let Some(mut unicast) = self.table(table, "unicast") else { return };
        if let Some(source) = self.address(&mut unicast, "source") {
            if let Some(first) = &instance.source {
                let finding = Diagnostic::error("conflict", &source.at, "the source is set twice");
                self.diagnostics.push(finding.help(format!("the other is at {}; keep one", first.at.place)));
            }
            instance.source = Some(source);
        }
        let mut peers: Vec<Located<UnicastPeer>> = Vec::new();
        for value in self.list(&mut unicast, "peers") {
            let Some(peer) = self.peer(value) else { continue };
            if peers.iter().any(|p| p.value.address == peer.value.address) {
                self.refuse(&peer.at, format!("{} is a peer already", peer.value.address), "each peer once");
            } else {
                peers.push(peer);
            }
        }
        let none_wanted = unicast.has("peers");
        if peers.is_empty() && !none_wanted {
            self.missing(&unicast, "peers", "at least one address");
        }
        instance.unicast = Some(Unicast {
            at: unicast.at.clone(),
            peers,
            ttl: self.integer(&mut unicast, "ttl", 0..=255).map(|ttl| ttl.value),
            check_source: self.boolean(&mut unicast, "check_source").is_some_and(|on| on.value),
            fault_without_peer: true,
        });
        self.finish(unicast);
    }

    fn peer(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Located<UnicastPeer>> {
        if !matches!(value.get_ref(), DeValue::Table(_)) {
            let address = self.as_address(value)?;
            return Some(Located::new(
                UnicastPeer { address: address.value, min_ttl: None, max_ttl: None },
                address.at,
            ));
        }
        let mut table = self.as_table(value)?;
        let address = self.address(&mut table, "address");
        if address.is_none() {
            self.missing(&table, "address", "the address of the peer");
        }
        let min_ttl = self.integer(&mut table, "min_ttl", 0..=255).map(|ttl| ttl.value);
        let max_ttl = self.integer(&mut table, "max_ttl", 0..=255).map(|ttl| ttl.value);
        self.finish(table);
        address
            .map(|address| Located::new(UnicastPeer { address: address.value, min_ttl, max_ttl }, address.at))
    }

    /// At most eight bytes, as text or in hexadecimal.
    fn password(&mut self, mut table: Table<'_>) -> Option<Located<Password>> {
        let text = self.text(&mut table, "password");
        let hexadecimal = self.text(&mut table, "password_hex");
        let expected = "`password` of 1 to 8 bytes, or `password_hex` of 2 to 16 digits";
        let password = match (text, hexadecimal) {
            (Some(text), None) => Some(Located::new(text.value.into_bytes(), text.at)),
            (None, Some(digits)) => match from_hexadecimal(&digits.value) {
                Some(bytes) => Some(Located::new(bytes, digits.at)),
                None => {
                    self.refuse(&digits.at, "not hexadecimal", expected);
                    None
                }
            },
            (Some(_), Some(second)) => {
                self.refuse(&second.at, "`password_hex` beside `password`", "one of them");
                None
            }
            (None, None) => {
                self.missing(&table, "password", "the password that all peers share");
                None
            }
        };
        self.finish(table);
        let password = password?;
        if password.value.is_empty() || password.value.len() > 8 {
            self.refuse(&password.at, format!("a password of {} bytes", password.value.len()), expected);
            return None;
        }
        Some(Located::new(Password(password.value), password.at))
    }

    /// `{ check = NAME, weight = N, reverse = BOOL }` or the same with `interface` or `bfd`; a name alone is
    /// a check.
    pub(super) fn track(&mut self, value: &Spanned<DeValue<'_>>, into: &mut Trackers) {
        if !matches!(value.get_ref(), DeValue::Table(_)) {
            let Some(check) =
                self.as_text(value, "the name of a check, or a table with `check`, `interface` or `bfd`")
            else {
                return;
            };
            into.checks.push(TrackCheck { check, effect: Effect::Fault { reverse: false } });
            return;
        }
        let Some(mut table) = self.as_table(value) else { return };
        let check = self.text(&mut table, "check");
        let interface = self.text(&mut table, "interface");
        let bfd = self.text(&mut table, "bfd");
        let written = self.effect(&mut table, if check.is_some() { 254 } else { 253 });
        let effect = written.unwrap_or(Effect::Fault { reverse: false });
        match (check, interface, bfd) {
            (Some(check), None, None) => into.checks.push(TrackCheck { check, effect }),
            (None, Some(interface), None) => into.interfaces.push((interface, effect)),
            (None, None, Some(bfd)) => into.bfd.push((bfd, written)),
            (None, None, None) => {
                self.missing(&table, "check", "the name of a check (or `interface`, or `bfd`)")
            }
            _ => self.refuse(&table.at.clone(), "more than one object", "one of `check`, `interface`, `bfd`"),
        }
        self.finish(table);
    }

    /// `weight` and `reverse`; `None` when neither is written.
    pub(super) fn effect(&mut self, table: &mut Table<'_>, limit: i64) -> Option<Effect> {
        let weight = self.integer::<i16>(table, "weight", -limit..=limit).map(|weight| weight.value);
        let reverse = self.boolean(table, "reverse").map(|on| on.value);
        if weight.is_none() && reverse.is_none() {
            return None;
        }
        let reverse = reverse.unwrap_or(false);
        Some(match weight.unwrap_or(0) {
            0 => Effect::Fault { reverse },
            weight => Effect::Weight { weight, reverse },
        })
    }

    /// `true` if the rounds for adverts of lower priority were written: then they count in strict mode too.
    fn announcements(&mut self, mut table: Table<'_>, made: &mut Announcements) -> bool {
        let count = i64::from(u32::MAX);
        made.rounds = self.integer(&mut table, "rounds", 1..=count).map_or(made.rounds, |n| n.value);
        made.round_gap = self.duration(&mut table, "round_gap", ANY_TIME).map_or(made.round_gap, |t| t.value);
        made.again_after = self.duration_or_never(&mut table, "again_after").unwrap_or(made.again_after);
        made.refresh = self.duration_or_never(&mut table, "refresh").unwrap_or(made.refresh);
        made.refresh_rounds =
            self.integer(&mut table, "refresh_rounds", 0..=count).map_or(made.refresh_rounds, |n| n.value);
        let lower = self.integer(&mut table, "lower_priority_rounds", 0..=count);
        let written = lower.is_some();
        made.lower_priority_rounds = lower.map_or(made.lower_priority_rounds, |n| n.value);
        let again = self.duration_or_never(&mut table, "lower_priority_again_after");
        made.lower_priority_again_after = again.unwrap_or(made.lower_priority_again_after);
        made.packet_gap =
            self.duration(&mut table, "packet_gap", ANY_TIME).map_or(made.packet_gap, |t| t.value);
        self.finish(table);
        written
    }

    fn notify(&mut self, mut table: Table<'_>) -> Notify {
        let mut made = Notify {
            any: self.command(&mut table, "any"),
            master: self.command(&mut table, "master"),
            backup: self.command(&mut table, "backup"),
            fault: self.command(&mut table, "fault"),
            stop: self.command(&mut table, "stop"),
            deleted: self.command(&mut table, "deleted"),
            tells_deleted: self.boolean(&mut table, "tells_deleted").is_some_and(|on| on.value),
            master_rx_lower_priority: self.command(&mut table, "master_rx_lower_priority"),
            priority_changes: self.boolean(&mut table, "priority_changes").is_some_and(|on| on.value),
        };
        self.finish(table);
        made.tells_deleted |= made.deleted.is_some();
        made
    }
}

fn from_hexadecimal(digits: &str) -> Option<Vec<u8>> {
    if digits.is_empty() || !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).ok()).collect()
}
