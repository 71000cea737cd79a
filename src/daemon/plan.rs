//! What a reload does, in words, before it does it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use config::ready::{Config, Instance, VirtualAddress};
use config::without_places;
use serde::Serialize;
use serde_json::Value;

use crate::elect::matching::predecessors;

/// The difference between the configuration that runs and another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One line each; those that belong to the one above are indented.
    lines: Vec<String>,
    /// Instances that notice nothing.
    untouched: usize,
    /// Settings that only a restart takes on.
    needs_restart: Vec<&'static str>,
}

impl Plan {
    /// From the configuration that runs to another.
    pub fn between(before: &Config, after: &Config) -> Self {
        let (before, after) = (without_places(before.clone()), without_places(after.clone()));
        let mut plan = Self { needs_restart: needs_restart(&before, &after), ..Self::default() };
        plan.instances(&before, &after);
        plan.named("sync group", &before.sync_groups, &after.sync_groups, |group| &group.name);
        plan.named("check", &before.checks, &after.checks, |check| &check.name);
        plan.named("BFD session", &before.bfd, &after.bfd, |bfd| &bfd.name);
        plan.named("track group", &before.track_groups, &after.track_groups, |group| &group.name);
        plan.named("listener", &before.listeners, &after.listeners, |listener| &listener.name);
        plan.section("health pages", &before.health_pages, &after.health_pages);
        plan.section("pipes", &before.fifos, &after.fifos);
        plan.section("static addresses", &before.static_addresses, &after.static_addresses);
        plan.section("static routes", &before.static_routes, &after.static_routes);
        plan.section("static rules", &before.static_rules, &after.static_rules);
        plan.section("announcement groups", &before.announcement_groups, &after.announcement_groups);
        plan.section("link delays", &before.link_delays, &after.link_delays);
        plan.section("firewall", &before.firewall, &after.firewall);
        plan.section("process", &before.process, &after.process);
        plan.section("engine", &before.engine, &after.engine);
        plan.section("control", &before.control, &after.control);
        plan.section("router id", &before.router_id, &after.router_id);
        plan
    }

    /// Settings that differ, and that a reload does not take on.
    pub fn needs_restart(&self) -> &[&'static str] {
        &self.needs_restart
    }

    /// The first line of [`Plan`]'s text.
    pub fn summary(&self) -> String {
        if self.lines.is_empty() {
            return "nothing changes".into();
        }
        let count = |sign: char| self.lines.iter().filter(|line| line.starts_with(sign)).count();
        let (new, changed, gone) = (count('+'), count('~'), count('-'));
        let counts = [(changed, "changed"), (new, "new"), (gone, "gone")];
        let said: Vec<String> =
            counts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
        let instances = if self.untouched == 1 { "instance notices" } else { "instances notice" };
        format!("{}; {} {instances} nothing", said.join(", "), self.untouched)
    }

    fn instances(&mut self, before: &Config, after: &Config) {
        let old: Vec<&Instance> = before.instances.iter().map(|instance| &**instance).collect();
        let new: Vec<&Instance> = after.instances.iter().map(|instance| &**instance).collect();
        let predecessors = predecessors(&old, &new);
        for (wanted, found) in new.iter().zip(&predecessors) {
            match found.map(|index| old[index]) {
                Some(runs) if runs == *wanted => self.untouched += 1,
                Some(runs) => {
                    self.lines.push(format!("~ instance {} changes in place, its state stays", runs.name));
                    self.differences(runs, wanted);
                }
                None => {
                    let Instance { name, interface, vrid, .. } = wanted;
                    self.lines.push(format!("+ instance {name} starts (VRID {vrid} on {interface:?})"));
                }
            }
        }
        for (index, gone) in old.iter().enumerate() {
            if !predecessors.contains(&Some(index)) {
                let addresses: Vec<String> = gone.held().map(shown).collect();
                self.lines.push(format!(
                    "- instance {} stops: if active it sends priority 0 and takes off {}",
                    gone.name,
                    if addresses.is_empty() { "nothing".into() } else { addresses.join(", ") },
                ));
            }
        }
    }

    fn named<T: Serialize + PartialEq>(
        &mut self,
        what: &str,
        before: &[T],
        after: &[T],
        name: fn(&T) -> &String,
    ) {
        let mut old: BTreeMap<&String, &T> = before.iter().map(|one| (name(one), one)).collect();
        for wanted in after {
            match old.remove(name(wanted)) {
                Some(runs) if runs == wanted => {}
                Some(runs) => {
                    self.lines.push(format!("~ {what} {} changes", name(wanted)));
                    self.differences(runs, wanted);
                }
                None => self.lines.push(format!("+ {what} {} starts", name(wanted))),
            }
        }
        self.lines.extend(old.keys().map(|gone| format!("- {what} {gone} stops")));
    }

    fn section<T: Serialize + PartialEq>(&mut self, what: &str, before: &T, after: &T) {
        if before != after {
            self.lines.push(format!("~ {what}"));
            self.differences(before, after);
        }
    }

    fn differences<T: Serialize + PartialEq>(&mut self, before: &T, after: &T) {
        let told = self.lines.len();
        compare("", &json(before), &json(after), &mut self.lines);
        if self.lines.len() == told {
            // Everything but secrets is printed.
            self.lines.push("    a secret: another one (not shown)".into());
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.summary())?;
        for line in &self.lines {
            write!(f, "\n{line}")?;
        }
        if !self.needs_restart.is_empty() {
            write!(f, "\n! only a restart takes on {}", self.needs_restart.join(", "))?;
        }
        Ok(())
    }
}

/// Settings that differ and that a reload does not take on.
fn needs_restart(before: &Config, after: &Config) -> Vec<&'static str> {
    let (old, new) = (&before.engine, &after.engine);
    let (was, is) = (&before.process, &after.process);
    let settings = [
        ("control.socket", before.control.socket == after.control.socket),
        ("control.metrics", before.control.metrics == after.control.metrics),
        ("control.web", before.control.web == after.control.web),
        ("engine.realtime_priority", old.realtime_priority == new.realtime_priority),
        ("engine.lock_memory", old.lock_memory == new.lock_memory),
        ("engine.nice", old.nice == new.nice),
        ("engine.cpus", old.cpus == new.cpus),
        ("engine.rlimit_rttime", old.rlimit_rttime == new.rlimit_rttime),
        ("net_namespace", was.net_namespace == is.net_namespace),
        ("instance", was.instance == is.instance),
        ("umask", was.umask == is.umask),
        ("process name", was.name == is.name),
    ];
    settings.iter().filter(|(_, same)| !same).map(|(name, _)| *name).collect()
}

fn json<T: Serialize>(value: &T) -> Value {
    // Plain data: every map has strings as keys.
    serde_json::to_value(value).unwrap_or_default()
}

fn shown(address: &VirtualAddress) -> String {
    format!("{}/{} on {}", address.address, address.prefix_length, address.interface)
}

/// What differs, a line each: `path: old → new`, and `+` and `-` for what lists gain and lose.
fn compare(path: &str, before: &Value, after: &Value, lines: &mut Vec<String>) {
    if before == after {
        return;
    }
    match (before, after) {
        (Value::Object(old), Value::Object(new)) if duration(before).is_none() => {
            let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let inner = match (path, key.as_str()) {
                    ("", key) => key.replace('_', " "),
                    (path, key) => format!("{path}, {}", key.replace('_', " ")),
                };
                let (old, new) = (old.get(key), new.get(key));
                compare(&inner, old.unwrap_or(&Value::Null), new.unwrap_or(&Value::Null), lines);
            }
        }
        (Value::Array(old), Value::Array(new)) => compare_lists(path, old, new, lines),
        (Value::Null, Value::Array(new)) => compare_lists(path, &[], new, lines),
        (Value::Array(old), Value::Null) => compare_lists(path, old, &[], lines),
        (before, after) => lines.push(format!("    {path}: {} → {}", text(before), text(after))),
    }
}

fn compare_lists(path: &str, before: &[Value], after: &[Value], lines: &mut Vec<String>) {
    let told = lines.len();
    for gone in before.iter().filter(|old| !after.iter().any(|new| identity(new) == identity(old))) {
        lines.push(format!("    {path}: - {}", identity(gone)));
    }
    for new in after {
        match before.iter().find(|old| identity(old) == identity(new)) {
            Some(old) => compare(&format!("{path} {}", identity(new)), old, new, lines),
            None => lines.push(format!("    {path}: + {}", identity(new))),
        }
    }
    if lines.len() == told {
        lines.push(format!("    {path}: in another order"));
    }
}

/// What makes an entry of a list the same entry with other settings.
fn identity(value: &Value) -> String {
    let field = |name: &str| value.get(name).map(text);
    match (field("address"), field("prefix_length"), field("interface")) {
        (Some(address), Some(length), Some(interface)) => {
            return format!("{address}/{length} on {interface}");
        }
        (Some(address), ..) if value["address"].is_string() => return address,
        _ => {}
    }
    let names = ["text", "name", "check", "bfd", "interface", "path"];
    names.iter().find_map(|name| field(name)).unwrap_or_else(|| text(value))
}

fn text(value: &Value) -> String {
    match (value, duration(value)) {
        (_, Some(duration)) => format!("{duration:?}"),
        (Value::Null, _) => "none".into(),
        (Value::Bool(yes), _) => if *yes { "yes" } else { "no" }.into(),
        (Value::String(text), _) => text.clone(),
        (other, _) => other.to_string(),
    }
}

fn duration(value: &Value) -> Option<Duration> {
    let (secs, nanos) = (value.get("secs")?.as_u64()?, value.get("nanos")?.as_u64()?);
    Some(Duration::new(secs, u32::try_from(nanos).ok()?))
}

#[cfg(test)]
mod tests {
    use config::LoadOptions;

    use super::*;

    fn load(text: &str) -> Config {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let loaded = config::load(&[file.path()], &LoadOptions::default());
        loaded.config.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render_human(false)))
    }

    fn instance(name: &str, vrid: u8, rest: &str) -> String {
        format!("vrrp_instance {name} {{\n interface lo0\n virtual_router_id {vrid}\n {rest}\n}}\n")
    }

    fn vip(last: u8) -> String {
        format!("virtual_ipaddress {{\n 192.0.2.{last}/24\n }}")
    }

    #[test]
    fn the_same_file_with_other_lines_is_no_change() {
        let file = instance("A", 1, &vip(1)) + &instance("B", 2, &vip(2));
        let moved = format!("# a comment\n\n{file}");
        assert_eq!(Plan::between(&load(&file), &load(&moved)).to_string(), "nothing changes");
    }

    #[test]
    fn each_instance_is_told_what_happens_to_it() {
        let before = instance("A", 1, &vip(1)) + &instance("B", 2, &vip(2)) + &instance("C", 3, &vip(3));
        let after = instance("A", 1, &vip(1))
            + &instance("B", 2, &format!("priority 150\n advert_int 2\n {}", vip(7)))
            + &instance("D", 4, &vip(4));
        let plan = Plan::between(&load(&before), &load(&after)).to_string();
        let expected = "\
1 changed, 1 new, 1 gone; 1 instance notices nothing
~ instance B changes in place, its state stays
    addresses: - 192.0.2.2/24 on lo0
    addresses: + 192.0.2.7/24 on lo0
    advert interval: 1s → 2s
    priority: 100 → 150
+ instance D starts (VRID 4 on \"lo0\")
- instance C stops: if active it sends priority 0 and takes off 192.0.2.3/24 on lo0";
        assert_eq!(plan, expected);
    }

    #[test]
    fn a_renamed_instance_goes_on_and_a_secret_is_not_shown() {
        let password =
            |word: &str| format!("authentication {{\n auth_type PASS\n auth_pass {word}\n }}\n {}", vip(1));
        let plan = |before: &str, after: &str| Plan::between(&load(before), &load(after)).to_string();
        assert_eq!(
            plan(&instance("A", 1, &vip(1)), &instance("B", 1, &vip(1))),
            "1 changed; 0 instances notice nothing\n~ instance A changes in place, its state stays\n    name: A → B"
        );
        let changed = plan(&instance("A", 1, &password("hunter2")), &instance("A", 1, &password("hunter3")));
        assert!(changed.contains("a secret: another one (not shown)"), "{changed}");
        assert!(!changed.contains("hunter"), "{changed}");
    }
}
