//! keepalived's data dump (SIGUSR1), read into facts that can be compared.
//!
//! Written from the dumps of a running keepalived 2.2.7. What changes while it runs (states, timers, file
//! descriptors) is left out here; everything else that it prints is a fact, so that a line nobody thought
//! of is a difference and not a gap.

use std::collections::BTreeMap;

/// What is known: by object (`instance VI_1`, `script chk`, `global`) and by what is said of it.
///
/// A thing that is one of several (an address, a peer) has all of them in its list, in their order.
pub type Facts = BTreeMap<(String, String), Vec<String>>;

/// Adds a fact.
pub fn add(facts: &mut Facts, object: &str, field: &str, value: impl Into<String>) {
    facts.entry((object.to_owned(), field.to_owned())).or_default().push(value.into());
}

/// Reads `keepalived.data` or `keepalived_bfd.data`.
pub fn parse(text: &str) -> Facts {
    let mut facts = Facts::new();
    let mut section = "";
    let mut object = String::new();
    let mut list = String::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("------< ") {
            section = title.split(" >").next().unwrap_or_default();
            // Group 0 is one interface with the global gaps, which each instance has.
            if section == "GARP delay group 0" {
                section = "Interfaces";
            } else if section.starts_with("GARP delay group") {
                section = "Gratuitous ARP delays";
                add(&mut facts, "order", "announcement group", "");
            }
            object = String::new();
            list = String::new();
            continue;
        }
        let depth = line.len() - line.trim_start().len();
        let line = line.trim();
        match (section, depth) {
            ("VRRP Sockpool" | "Interfaces" | "BFD Data", _) => {}
            ("Gratuitous ARP delays", _) => garp_group(&mut facts, line),
            ("Global definitions", 1) => list = global(&mut facts, line),
            ("Global definitions", _) => add(&mut facts, "global", &list, line),
            ("Static Addresses", _) => add(&mut facts, "static", "addresses", address(line, None)),
            ("Static Routes", _) => add(&mut facts, "static", "routes", route(line)),
            ("Static Rules", _) => add(&mut facts, "static", "rules", line),
            (_, 1) => {
                object = begin(&mut facts, line);
                list = String::new();
            }
            (_, 3) => list = field(&mut facts, &object, line),
            _ => item(&mut facts, &object, &list, line),
        }
    }
    tidy(&mut facts);
    facts
}

/// Lines of the global settings that are no facts here, by what they begin with.
///
/// Load balancing, SNMP and D-Bus are not this comparison's; defaults of instances and scripts are seen in
/// each instance and script; the sizes of keepalived's netlink buffers have nothing that they belong to.
const NOT_COMPARED: &[&str] = &[
    "BFD ",
    "Checker",
    "Config save dir",
    "DBus",
    "Default interface",
    "Default script uid:gid",
    "Default smtp_alert",
    "Gratuitous ARP delay",
    "Gratuitous ARP for each",
    "Gratuitous ARP lower",
    "Gratuitous ARP re",
    "LVS ",
    "Max auto priority",
    "Min auto priority",
    "Network namespace ipvs",
    "No reload scheduled",
    "No test config",
    "Num adverts before down",
    "Parent process name",
    "Reload scheduled",
    "SNMP",
    "Send advert after",
    "Smtp server connection timeout",
    "VMAC address prefix",
    "VMAC prefix",
    "VRRP IPv4 mcast group",
    "VRRP IPv6 mcast group",
    "VRRP check unicast_src",
    "VRRP default protocol version",
    "VRRP notify priority changes",
    "VRRP skip check advert addresses",
    "VRRP strict mode",
    "config save directory",
    "current realtime",
    "ipvs nftables",
    "libnftnl",
    "lvs_",
    "nftables don't force",
    "nftables without counters",
    "no_checker_emails",
    "process_monitor_rcv_bufs",
    "rs_init_notifies",
    "rx_bufs_",
    "vrrp_netlink_",
];

/// Whole lines that show a default.
const DEFAULTS: &[&str] = &["nftables base chain priority = -1", "nftables table name = keepalived"];

fn global(facts: &mut Facts, line: &str) -> String {
    if DEFAULTS.contains(&line) || NOT_COMPARED.iter().any(|start| line.starts_with(start)) {
        return String::new();
    }
    if let Some(list) = line.strip_suffix(':') {
        return list.to_owned();
    }
    for flat in ["Script security ", "Test config before reload, log to "] {
        if let Some(value) = line.strip_prefix(flat) {
            add(facts, "global", flat.trim_end(), value);
            return String::new();
        }
    }
    let (key, value) = line.split_once(" = ").unwrap_or((line.trim_end_matches(" ="), ""));
    let key = match key {
        "Global notify fifo" | "VRRP notify fifo" => "fifo",
        "Global notify fifo script" | "VRRP notify fifo script" => "fifo script",
        key => key,
    };
    add(facts, "global", key, value);
    String::new()
}

/// A group of interfaces that share the gaps between announcements.
fn garp_group(facts: &mut Facts, line: &str) {
    match line.split_once(" = ") {
        Some(("GARP interval" | "GNA interval", _)) => {
            add(facts, "announcement groups", "gaps", line);
        }
        Some(_) => {}
        None if line.contains("next time") => {}
        None if line == "Interfaces" || line.is_empty() => {}
        None => add(facts, "announcement groups", "interfaces", line),
    }
}

/// The line that an object begins with.
fn begin(facts: &mut Facts, line: &str) -> String {
    const KINDS: &[(&str, &str)] = &[
        ("VRRP Instance = ", "instance"),
        ("VRRP Sync Group = ", "sync group"),
        ("VRRP Script = ", "script"),
        ("Track file = ", "file"),
        ("VRRP Track process = ", "process"),
        ("VRRP Track BFD = ", "tracked bfd"),
        ("BFD Instance = ", "bfd"),
        ("Static Track Group = ", "track group"),
    ];
    for &(prefix, kind) in KINDS {
        if let Some(name) = line.strip_prefix(prefix) {
            let name = if kind == "sync group" { name.rsplit_once(", ").map_or(name, |n| n.0) } else { name };
            add(facts, "order", kind, name);
            return format!("{kind} {name}");
        }
    }
    add(facts, "unknown", "object", line);
    "unknown".to_owned()
}

/// What changes while it runs, or follows from what is compared elsewhere.
const RUNTIME: &[&str] = &[
    // How much it logs.
    "Debug level",
    "State",
    "Master router",
    "Master priority",
    "Master advert int",
    "Master advert interval",
    "Number of config faults",
    "Number of interface and track script faults",
    "Number of track scripts init",
    "Last transition",
    "Read timeout",
    "Master down timer",
    "Effective priority",
    "Total priority",
    "Next gratuitous ARP for such secondary",
    "Result",
    "Init state",
    "Status",
    "Insecure",
    "Current processes",
    "Have quorum",
    "Weight",
    "Wantstate",
    "send error",
    "local state",
    "remote state",
    "local discriminator",
    "remote discriminator",
    "local diag",
    "remote diag",
    "remote min tx intv",
    "remote min rx intv",
    "local demand",
    "remote demand",
    "remote detect multiplier",
    "local tx intv",
    "remote tx intv",
    "local detection time",
    "remote detection time",
];

/// A line of an object; gives the list that follows it.
fn field(facts: &mut Facts, object: &str, line: &str) -> String {
    const WORDS: &[&str] = &[
        "fd_in ",
        "fd_out ",
        "No sockets",
        "Flags: none",
        "Num member fault",
        "thread_",
        "sands_",
        "!poll",
        "poll,",
        "last",
        "Fork delay timer",
        "Terminate delay timer",
        "Duplicate VRID",
        "Bfd is",
    ];
    if WORDS.iter().any(|word| line.starts_with(word)) {
        return String::new();
    }
    if let Some(list) = line.strip_suffix(':') {
        let list = list.split('(').next().unwrap_or_default().trim();
        let derived = matches!(list, "Tracking instances" | "VRRP instances" | "Tracking VRRP instances");
        if list == "Tracking instances" {
            add(facts, object, "tracked", "");
        }
        return if derived { "-".to_owned() } else { list.to_owned() };
    }
    if let Some(value) = line.strip_prefix("Check unicast src : ") {
        add(facts, object, "Check unicast src", value);
        return String::new();
    }
    if let Some(value) = line.strip_prefix("Multicast address ") {
        add(facts, object, "Multicast address", value.split(',').next().unwrap_or_default());
        return String::new();
    }
    if let Some(vmac) = line.strip_prefix("Use VMAC, ") {
        let (name, base) = vmac.split_once(", is_up").unwrap_or((vmac, ""));
        add(facts, object, "VMAC", name.trim_start_matches("i/f name "));
        add(facts, object, "VMAC on base", if base.ends_with("xmit_base = true") { "true" } else { "false" });
        return "VMAC".to_owned();
    }
    let (key, value) = line.split_once(" = ").unwrap_or((line, ""));
    // A sync group says it of its members, which have it in themselves.
    let of_members = key == "Notify priority changes" && object.starts_with("sync group");
    if RUNTIME.contains(&key) || of_members {
        return String::new();
    }
    let value = match key {
        // Where it is on, not what it is called: `vrrp.5, vmac on eth0, xmit base i/f`.
        "Interface" => {
            let base = value.split_once(" on ").map_or(value, |(_, base)| base);
            base.split(',').next().unwrap_or_default().to_owned()
        }
        "Using src_ip" => match value.strip_suffix(" (from configuration)") {
            Some(source) => source.to_owned(),
            None => return String::new(),
        },
        "Advert interval" => match value.split_once(' ') {
            Some((seconds, "sec")) => format!("{seconds}000 ms"),
            Some((milliseconds, _)) => format!("{milliseconds} ms"),
            None => value.to_owned(),
        },
        _ => value.to_owned(),
    };
    add(facts, object, key, value);
    String::new()
}

fn item(facts: &mut Facts, object: &str, list: &str, line: &str) {
    let value = match list {
        "-" => return,
        "Flags" if line.starts_with("If unicast") => line.to_owned(),
        // Said by the peers and the group.
        "Flags" => return,
        "VMAC" => {
            let mac = line.trim_start_matches("MAC = ").split(' ').next().unwrap_or_default();
            return add(facts, object, "MAC", mac);
        }
        "Virtual IP" | "Virtual IP Excluded" => {
            let vmac = facts.get(&(object.to_owned(), "VMAC".to_owned()));
            address(line, vmac.and_then(|names| names.first()).map(String::as_str))
        }
        "Virtual Routes" => route(line),
        "Tracked scripts" | "Tracked interfaces" | "Tracked files" | "Tracked processes"
        | "Tracked process" | "Tracked BFDs" => {
            line.replace(", weight", " weight").replace(": weight", " weight")
        }
        _ => line.to_owned(),
    };
    add(facts, object, list, value);
}

/// Without what is so only while the address is there; the instance's VMAC, or that of the address, by the
/// interface that it is on. The scope of an IPv6 address is the kernel's affair, whatever is written.
fn address(line: &str, vmac: Option<&str>) -> String {
    let own = line.contains(" use_vmac");
    let six = line.split(' ').next().is_some_and(|address| address.contains(':'));
    let mut words: Vec<&str> = Vec::new();
    for word in line.split(' ').filter(|w| !matches!(*w, "set" | "iptable_set" | "nftable_set")) {
        match words.last() {
            Some(&"dev") => words.push(match word.split_once('@') {
                Some((name, base)) if own || vmac == Some(name) => base,
                Some((name, _)) => name,
                None => word,
            }),
            Some(&"scope") if six => drop(words.pop()),
            _ => words.push(word),
        }
    }
    words.join(" ")
}

/// Without the link that it was found to lead by; `default` however it is written.
pub(crate) fn route(line: &str) -> String {
    let line = line.split(" [").next().unwrap_or_default().trim_end();
    let line = line.replacen(" 0.0.0.0/0", " default", 1).replacen(" ::/0", " default", 1);
    // Nothing else than the weight of a hop that says none.
    let parts: Vec<_> = line.split(' ').collect();
    let mut words = Vec::new();
    let mut hop = false;
    let mut i = 0;
    while let Some(word) = parts.get(i) {
        hop |= *word == "nexthop";
        if hop && *word == "weight" && parts.get(i + 1) == Some(&"1") {
            i += 2;
            continue;
        }
        words.push(*word);
        i += 1;
    }
    words.join(" ")
}

/// What is printed although nothing follows from it.
fn tidy(facts: &mut Facts) {
    untracked(facts);
    // Nobody set it.
    facts.retain(|_, values| values.iter().all(|value| value != "4294967295"));
    let global = |field: &str| ("global".to_owned(), field.to_owned());
    if !(facts.contains_key(&global("Smtp server")) && facts.contains_key(&global("Email notification to"))) {
        facts.retain(|(_, field), _| {
            !field.starts_with("Smtp ") && !field.starts_with("Email ") && !field.starts_with("Send emails")
        });
    }
    let scripts: Vec<_> = facts.keys().filter(|(_, field)| field == "Timeout").cloned().collect();
    for (object, field) in scripts {
        let interval = facts.get(&(object.clone(), "Interval".to_owned())).cloned();
        let timeout = facts.get_mut(&(object, field)).expect("it is one of the keys");
        if let (["0 sec"], Some(interval)) = ([timeout[0].as_str()], interval) {
            // None of its own: as long as the interval.
            *timeout = interval;
        }
    }
}

/// Scripts, files and processes that nobody tracks; vipd leaves them out.
fn untracked(facts: &mut Facts) {
    for kind in ["script", "file", "process"] {
        let Some(names) = facts.remove(&("order".to_owned(), kind.to_owned())) else { continue };
        for name in names {
            let object = format!("{kind} {name}");
            if facts.remove(&(object.clone(), "tracked".to_owned())).is_some() {
                add(facts, "order", kind, name);
            } else {
                facts.retain(|(of, _), _| *of != object);
            }
        }
    }
    facts.retain(|(_, field), _| field != "tracked");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// keepalived 2.2.7, shortened.
    const DUMP: &str = "\
------< Global definitions >------
 Router ID = LVS
 Smtp server = 10.0.0.25
 Email notification to:
   a@b.c
 SNMP vrrp disabled
------< VRRP Topology >------
 VRRP Instance = A
   VRRP Version = 3
   State = BACKUP
   Flags:
     Using unicast
   Use VMAC, i/f name vrrp.5, is_up = true, xmit_base = false
   Interface = vrrp.5, vmac on eth0
   Using src_ip = 10.0.0.1
   Advert interval = 500 milli-sec
   Virtual IP (2):
     10.0.0.100/24 dev vrrp.5@eth0 scope global set
     10.0.0.101 dev eth0 scope global
------< VRRP Sockpool >------
 fd_in 15 fd_out = 16
";

    #[test]
    fn dump_is_facts_of_objects() {
        let facts = parse(DUMP);
        let get = |object: &str, field: &str| {
            facts.get(&(object.to_owned(), field.to_owned())).map(|values| values.join(" | "))
        };
        assert_eq!(get("global", "Email notification to").as_deref(), Some("a@b.c"));
        assert_eq!(get("order", "instance").as_deref(), Some("A"));
        assert_eq!(get("instance A", "VMAC").as_deref(), Some("vrrp.5"));
        assert_eq!(get("instance A", "Interface").as_deref(), Some("eth0"));
        assert_eq!(get("instance A", "Advert interval").as_deref(), Some("500 ms"));
        assert_eq!(
            get("instance A", "Virtual IP").as_deref(),
            Some("10.0.0.100/24 dev eth0 scope global | 10.0.0.101 dev eth0 scope global")
        );
        assert_eq!(get("instance A", "State"), None);
        assert_eq!(get("instance A", "Using src_ip"), None);
    }
}
