//! `[[sync_group]]`, `[[bfd]]`, `[[announcement_group]]` and `[[link_delay]]`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::complete::{BFD_IDLE, BFD_INTERVAL, BFD_MULTIPLIER, bfd_ttl};
use crate::diagnostic::Located;
use crate::model::{SyncGroup, Trackers};
use crate::ready::{AnnouncementGroup, Bfd, LinkDelay, Notify};

use super::Door;
use super::table::{ANY_TIME, Table};

/// Most of what fits in 32 bits of microseconds.
const MOST_BFD: Duration = Duration::from_millis(4_294_967);
const LEAST_BFD: Duration = Duration::from_millis(1);
const MOST_LINK_DELAY: Duration = Duration::from_secs(255);

impl Door<'_> {
    /// The name of a table, or a stand-in when it is missing and reported.
    fn name(&mut self, table: &mut Table<'_>) -> Located<String> {
        match self.text(table, "name") {
            Some(name) => name,
            None => {
                self.missing(table, "name", "what status and logs call it");
                Located::new("(no name)".to_owned(), table.at.clone())
            }
        }
    }

    pub(super) fn sync_group(&mut self, mut table: Table<'_>) {
        let name = self.name(&mut table);
        let mut members = Vec::new();
        for value in self.list(&mut table, "members") {
            members.extend(self.as_text(value, "the name of an instance"));
        }
        let mut trackers = Trackers::default();
        for value in self.list(&mut table, "track") {
            self.track(value, &mut trackers);
        }
        let notify = match self.table(&mut table, "notify") {
            Some(notify) => self.group_notify(notify),
            None => Notify::default(),
        };
        let tracking_weight = self.on(&mut table, "tracking_weight");
        let smtp_alert = self.on(&mut table, "mail");
        let group = SyncGroup { name, members, trackers, tracking_weight, notify, smtp_alert };
        self.model.sync_groups.push(group);
        self.finish(table);
    }

    fn group_notify(&mut self, mut table: Table<'_>) -> Notify {
        let made = Notify {
            any: self.command(&mut table, "any"),
            master: self.command(&mut table, "master"),
            backup: self.command(&mut table, "backup"),
            fault: self.command(&mut table, "fault"),
            stop: self.command(&mut table, "stop"),
            priority_changes: self.on(&mut table, "priority_changes"),
            ..Notify::default()
        };
        self.finish(table);
        made
    }

    pub(super) fn bfd(&mut self, mut table: Table<'_>) {
        let name = self.name(&mut table);
        if name.value.is_empty() || name.value.chars().count() > 31 {
            self.refuse(&name.at, "a name that is empty or too long", "1 to 31 characters");
        }
        let neighbor = self.address(&mut table, "neighbor");
        if neighbor.is_none() && !table.has("neighbor") {
            self.missing(&table, "neighbor", "the address of the other end");
        }
        let source = self.address(&mut table, "source");
        let multihop = self.on(&mut table, "multihop");
        let neighbor = neighbor.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |neighbor| neighbor.value);
        if let Some(source) = source.as_ref().filter(|source| source.value.is_ipv4() != neighbor.is_ipv4()) {
            self.refuse(&source.at, "another family than the neighbor", "two addresses of one family");
        }
        let mut time = |door: &mut Self, key, least, default| {
            door.duration(&mut table, key, least..=MOST_BFD).map_or(default, |time| time.value)
        };
        let min_rx = time(self, "min_rx", LEAST_BFD, BFD_INTERVAL);
        let min_tx = time(self, "min_tx", LEAST_BFD, BFD_INTERVAL);
        let idle_tx = time(self, "idle_tx", BFD_IDLE, BFD_IDLE);
        let ttl = self.integer(&mut table, "ttl", 1..=255).map_or(bfd_ttl(multihop), |ttl| ttl.value);
        let max_hops = match self.value(&mut table, "max_hops") {
            None => Some(0),
            Some(value) if value.get_ref().as_str() == Some("any") => None,
            Some(value) => self.as_integer(value, 0..=i64::from(ttl.min(254))).map(|hops| hops.value),
        };
        let effect = self.effect(&mut table, 253);
        let made = Bfd {
            neighbor,
            source: source.map(|source| source.value),
            min_rx,
            min_tx,
            idle_tx,
            multiplier: self.integer(&mut table, "multiplier", 1..=255).map_or(BFD_MULTIPLIER, |n| n.value),
            passive: self.on(&mut table, "passive"),
            ttl,
            max_hops,
            multihop,
            effect: effect.unwrap_or(crate::ready::Effect::Fault { reverse: false }),
            for_vrrp: self.boolean(&mut table, "for_instances").is_none_or(|on| on.value),
            for_checkers: self.boolean(&mut table, "for_backends").is_none_or(|on| on.value),
            name: name.value,
            place: name.at.place,
        };
        self.model.bfd.push(made);
        self.finish(table);
    }

    pub(super) fn announcement_group(&mut self, mut table: Table<'_>) {
        let mut interfaces: Vec<String> = Vec::new();
        for value in self.list(&mut table, "interfaces") {
            let Some(interface) = self.as_text(value, "the name of an interface") else { continue };
            let grouped = self.model.announcement_groups.iter().flat_map(|group| &group.interfaces);
            if grouped.chain(&interfaces).any(|name| *name == interface.value) {
                self.refuse(&interface.at, format!("{} is in a group already", interface.value), "each once");
            } else {
                interfaces.push(interface.value);
            }
        }
        if interfaces.is_empty() {
            self.missing(&table, "interfaces", "at least one");
        }
        let arp_gap = self.duration(&mut table, "arp_gap", ANY_TIME).map_or(Duration::ZERO, |t| t.value);
        let na_gap = self.duration(&mut table, "na_gap", ANY_TIME).map_or(Duration::ZERO, |t| t.value);
        let place = table.at.place.clone();
        self.model.announcement_groups.push(AnnouncementGroup { interfaces, arp_gap, na_gap, place });
        self.finish(table);
    }

    pub(super) fn link_delay(&mut self, mut table: Table<'_>) {
        let interface = self.text(&mut table, "interface");
        if interface.is_none() {
            self.missing(&table, "interface", "the name of an interface");
        }
        let range = Duration::ZERO..=MOST_LINK_DELAY;
        let down = self.duration(&mut table, "down", range.clone()).map_or(Duration::ZERO, |t| t.value);
        let up = self.duration(&mut table, "up", range).map_or(Duration::ZERO, |t| t.value);
        if let Some(interface) = interface {
            if self.model.link_delays.iter().any(|one| one.interface == interface.value) {
                self.refuse(
                    &interface.at,
                    format!("{} has its delays already", interface.value),
                    "each once",
                );
            }
            let place = interface.at.place;
            self.model.link_delays.push(LinkDelay { interface: interface.value, down, up, place });
        }
        self.finish(table);
    }
}
