//! `Gratuitous ARP delays` of the data dump: gaps between announcements, by groups of interfaces.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use config::ready::{Config, Family};

use super::{Page, Picture, words};
use crate::observe::event::State;

/// Groups that were written, counted from 1; then each other interface with a virtual router, as group 0 with the
/// global gaps.
fn groups(config: &Config) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (index, group) in config.announcement_groups.iter().enumerate() {
        let interfaces = group.interfaces.iter().map(String::as_str).collect();
        groups.push(Group { number: index + 1, arp: group.arp_gap, na: group.na_gap, interfaces });
    }
    let (arp, na) = (config.shown.garp_interval, config.shown.gna_interval);
    if !arp.is_zero() || !na.is_zero() {
        for instance in &config.instances {
            let name = instance.interface.as_str();
            if !groups.iter().any(|group| group.interfaces.contains(&name)) {
                groups.push(Group { number: 0, arp, na, interfaces: vec![name] });
            }
        }
    }
    groups
}

pub(super) fn section(page: &mut Page, picture: &Picture<'_>) {
    let groups = groups(picture.config);
    if !groups.is_empty() {
        page.section("Gratuitous ARP delays");
    }
    groups.iter().for_each(|group| group.write(page, picture));
}

/// The lines of an interface.
pub(super) fn of_interface(page: &mut Page, config: &Config, name: &str) {
    let groups = groups(config);
    let Some(group) = groups.iter().find(|group| group.interfaces.contains(&name)) else { return };
    for (kind, gap) in [("ARP", group.arp), ("NA", group.na)] {
        if !gap.is_zero() {
            page.line(format!("   Gratuitous {kind} interval {}ms", gap.as_millis()));
        }
    }
    if group.number > 0 {
        page.line(format!("   Gratuitous ARP aggregation group {}", group.number));
    }
}

struct Group<'a> {
    number: usize,
    arp: Duration,
    na: Duration,
    interfaces: Vec<&'a str>,
}

impl Group<'_> {
    fn write(&self, page: &mut Page, picture: &Picture<'_>) {
        page.section(&format!("GARP delay group {}", self.number));
        for (name, family, gap) in [("GARP", Family::Ipv4, self.arp), ("GNA", Family::Ipv6, self.na)] {
            if !gap.is_zero() {
                page.line(format!(" {name} interval = {}", words::seconds(gap)));
                page.line(format!(" {name} next time {}", stamp(self.next(picture, family, gap))));
            }
        }
        page.line(" Interfaces");
        self.interfaces.iter().for_each(|name| page.line(format!("  {name}")));
    }

    /// A gap after the newest virtual router there became active; 1970 when none has.
    fn next(&self, picture: &Picture<'_>, family: Family, gap: Duration) -> SystemTime {
        let there = picture.instances().filter(|(config, status)| {
            let is_there = self.interfaces.contains(&config.interface.as_str());
            is_there && config.family == family && status.state == State::Active
        });
        there.map(|(_, status)| status.since + gap).max().unwrap_or(UNIX_EPOCH)
    }
}

/// `1795274129.914361 (Sat Nov 21 15:15:29.914361)`
fn stamp(time: SystemTime) -> String {
    let stamp = words::stamp(time);
    let micros = stamp.split_once('.').map_or("000000", |(_, micros)| micros);
    format!("{stamp} ({}.{micros})", words::date(time).0)
}
