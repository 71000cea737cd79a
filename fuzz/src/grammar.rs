//! keepalived.conf from a grammar: mostly right, so that most of it loads.

use std::fmt::Write as _;

use crate::Random;

mod servers;

/// A whole file.
pub fn configuration(random: &mut Random) -> String {
    let mut text = String::new();
    globals(&mut text, random);
    if random.one_in(2) {
        text.push_str("track_group TG {\n group {\n V0 V1\n }\n}\n");
    }
    checks(&mut text, random);
    text.push_str("track_file F {\n file /run/f\n}\nbfd_instance B {\n neighbor_ip 10.0.0.2\n}\n");
    if random.one_in(2) {
        servers::servers(&mut text, random);
    }
    for index in 0..random.range(1, 4) {
        instance(&mut text, random, index);
    }
    block(&mut text, random, "static_ipaddress", |random| address(random, false, true));
    block(&mut text, random, "static_routes", |random| {
        let six = random.one_in(3);
        route(random, six, true)
    });
    block(&mut text, random, "static_rules", |random| rule(random, true));
    text
}

fn globals(text: &mut String, random: &mut Random) {
    text.push_str("global_defs {\n");
    maybe(text, random, |r| format!("router_id {}", word(r)));
    maybe(text, random, |r| format!("vrrp_version {}", r.range(2, 3)));
    maybe(text, random, |_| "vrrp_strict".to_owned());
    maybe(text, random, |r| format!("vrrp_garp_master_delay {}", r.range(0, 9)));
    maybe(text, random, |r| format!("vrrp_garp_interval 0.{}", r.range(0, 999_999)));
    maybe(text, random, |_| "vrrp_min_garp".to_owned());
    maybe(text, random, |r| format!("vrrp_garp_extra_if {}{}", r.pick(&["", "all "]), r.range(1, 86_400)));
    maybe(text, random, |r| format!("nftables {}", word(r)));
    maybe(text, random, |r| format!("nftables_priority {}", r.range(0, 400)));
    maybe(text, random, |_| "nftables_counters".to_owned());
    maybe(text, random, |_| "nftables_ifindex".to_owned());
    maybe(text, random, |r| format!("vmac_prefix {}", word(r)));
    maybe(text, random, |r| format!("vmac_addr_prefix {}", word(r)));
    maybe(text, random, |r| format!("default_interface eth{}", r.below(3)));
    maybe(text, random, |r| format!("vrrp_startup_delay {}.{}", r.range(0, 99), r.range(1, 999)));
    maybe(text, random, |r| format!("vrrp_rt_priority {}", r.range(1, 99)));
    maybe(text, random, |_| "vrrp_no_swap".to_owned());
    maybe(text, random, |r| format!("lvs_timeouts tcp {} udp 5", r.below(9000)));
    text.push_str("}\n");
}

fn checks(text: &mut String, random: &mut Random) {
    for index in 0..random.below(3) {
        let _ = write!(text, "vrrp_script C{index} {{\n script \"/bin/test -f '/x {index}'\"\n");
        maybe(text, random, |r| format!("interval {}", r.range(1, 99)));
        maybe(text, random, |r| format!("timeout {}", r.range(1, 99)));
        maybe(text, random, |r| format!("weight -{}", r.range(0, 253)));
        maybe(text, random, |r| format!("rise {}", r.range(1, 9)));
        maybe(text, random, |r| format!("fall {}", r.range(1, 9)));
        text.push_str("}\n");
    }
}

fn instance(text: &mut String, random: &mut Random, index: u64) {
    let six = random.one_in(4);
    let _ = write!(text, "vrrp_instance V{index} {{\n interface eth0\n virtual_router_id {}\n", index + 1);
    maybe(text, random, |r| format!("state {}", r.pick(&["MASTER", "BACKUP"])));
    maybe(text, random, |r| format!("priority {}", r.range(1, 255)));
    maybe(text, random, |r| format!("version {}", r.range(2, 3)));
    maybe(text, random, |r| format!("advert_int {}", r.pick(&["1", "0.1", "2", "40.95", "255"])));
    maybe(text, random, |_| "nopreempt".to_owned());
    maybe(text, random, |r| format!("preempt_delay {}", r.range(0, 1000)));
    maybe(text, random, |r| format!("down_timer_adverts {}", r.range(1, 100)));
    maybe(text, random, |_| "dont_track_primary".to_owned());
    maybe(text, random, |_| "promote_secondaries".to_owned());
    maybe(text, random, vmac);
    maybe(text, random, |_| "use_vmac_addr".to_owned());
    maybe(text, random, |_| "vmac_xmit_base".to_owned());
    maybe(text, random, |r| format!("garp_extra_if {}{}", r.pick(&["", "all "]), r.range(0, 86_400)));
    maybe(text, random, |r| format!("garp_master_refresh {}", r.range(0, 86_400)));
    maybe(text, random, |r| format!("garp_lower_prio_repeat {}", r.range(0, 9)));
    maybe(text, random, |_| "authentication {\n auth_type PASS\n auth_pass \"a b#!\"\n }".to_owned());
    maybe(text, random, |r| format!("notify_master \"/bin/x {} 'a b' \\\"q\\\"\"", word(r)));
    maybe(text, random, |r| format!("notify \"/bin/{}\" root", word(r)));
    if random.one_in(4) {
        let peer = if six { "fe80::2" } else { "10.0.0.2" };
        let _ = write!(text, " unicast_peer {{\n {peer} min_ttl {}\n }}\n", random.range(0, 255));
    }
    block(text, random, "track_script", |r| format!("C{} weight {}", r.below(3), r.range(0, 253)));
    block(text, random, "track_interface", |r| format!("eth{} weight -{}", r.below(3), r.range(0, 253)));
    text.push_str(" virtual_ipaddress {\n");
    text.push_str(if six { " fe80::100\n" } else { " 10.0.0.100/24\n" });
    for _ in 0..random.below(4) {
        let _ = writeln!(text, " {}", address(random, six, false));
    }
    text.push_str(" }\n");
    block(text, random, "virtual_ipaddress_excluded", |random| {
        let six = random.one_in(2);
        address(random, six, false)
    });
    block(text, random, "virtual_routes", |random| route(random, six, false));
    block(text, random, "virtual_rules", |random| rule(random, false));
    text.push_str("}\n");
}

fn vmac(random: &mut Random) -> String {
    let mut text = "use_vmac".to_owned();
    option(&mut text, random, word);
    option(&mut text, random, |r| format!("02:0:{:x}:0:0{}", r.below(256), r.pick(&["", ":", ":ff"])));
    option(&mut text, random, |_| "netlink_notify_msg".to_owned());
    option(&mut text, random, |r| format!("group {}", r.range(0, 2_147_483_647)));
    text
}

fn address(random: &mut Random, six: bool, fixed: bool) -> String {
    let mut text = match six {
        true => format!("2001:db8::{:x}", random.below(0xffff)),
        false => format!("10.{}.{}.{}", random.below(256), random.below(256), random.below(256)),
    };
    option(&mut text, random, |r| format!("peer {}", host(r, six)));
    if !text.contains("peer") && random.one_in(2) {
        let _ = write!(text, "/{}", random.range(0, if six { 128 } else { 32 }));
    }
    option(&mut text, random, |r| format!("dev eth{}", r.below(3)));
    option(&mut text, random, |r| format!("scope {}", r.pick(&["global", "link", "site", "host", "7"])));
    option(&mut text, random, |r| format!("label {}", word(r)));
    if !six {
        option(&mut text, random, |r| format!("brd {}", r.pick(&["+", "-", "10.0.0.255"])));
    }
    option(&mut text, random, |r| {
        format!("preferred_lft {}", r.pick(&["0", "300", "forever", "4294967295"]))
    });
    for flag in ["home", "-nodad", "mngtmpaddr", "noprefixroute", "autojoin", "no_track"] {
        option(&mut text, random, |_| flag.to_owned());
    }
    option(&mut text, random, |_| (if fixed { "track_group TG" } else { "use_vmac" }).to_owned());
    text
}

fn host(random: &mut Random, six: bool) -> String {
    match six {
        true => format!("2001:db8::{:x}", random.below(0xffff)),
        false => format!("10.0.{}.{}", random.below(256), random.below(256)),
    }
}

fn prefix(random: &mut Random, six: bool) -> String {
    format!("{}/{}", host(random, six), random.range(0, if six { 128 } else { 32 }))
}

fn route(random: &mut Random, six: bool, fixed: bool) -> String {
    let mut text = String::new();
    option(&mut text, random, |r| {
        (*r.pick(&["unicast", "blackhole", "unreachable", "prohibit", "throw", "local", "brd", "xresolve"]))
            .to_owned()
    });
    text.push(' ');
    text.push_str(&if random.one_in(3) { "default".to_owned() } else { prefix(random, six) });
    if random.one_in(3) {
        for _ in 0..random.range(1, 3) {
            text.push_str(" nexthop");
            next_hop(&mut text, random, six);
            option(&mut text, random, |r| format!("weight {}", r.range(1, 256)));
            if !six {
                option(&mut text, random, realms);
            }
        }
        return text;
    }
    next_hop(&mut text, random, six);
    option(&mut text, random, |r| format!("src {}", host(r, six)));
    for name in [
        "table",
        "metric",
        "mtu lock",
        "window",
        "cwnd",
        "advmss lock",
        "reordering",
        "initcwnd",
        "initrwnd",
        "ssthresh",
    ] {
        option(&mut text, random, |r| format!("{name} {}", r.range(0, u64::from(u32::MAX))));
    }
    for name in ["tos", "scope", "hoplimit"] {
        option(&mut text, random, |r| format!("{name} {}", r.below(256)));
    }
    for name in ["rtt", "rttvar lock", "rto_min"] {
        option(&mut text, random, |r| format!("{name} {}{}", r.range(200, 120_000), r.pick(&["ms", ""])));
    }
    option(&mut text, random, |r| format!("rtt 1.{}s", r.range(0, 999)));
    for name in ["quickack", "fastopen_no_cookie"] {
        option(&mut text, random, |r| format!("{name} {}", r.below(2)));
    }
    option(&mut text, random, |r| format!("congctl {}", word(r)));
    option(&mut text, random, |_| "features ecn".to_owned());
    option(&mut text, random, |r| format!("ttl-propagate {}abled", r.pick(&["en", "dis"])));
    option(&mut text, random, |r| format!("protocol {}", r.below(256)));
    option(&mut text, random, |r| (*r.pick(&["add", "append", "prepend", "no_track"])).to_owned());
    if six {
        option(&mut text, random, |r| format!("expires {}", r.range(0, u64::from(u32::MAX))));
        option(&mut text, random, |r| format!("pref {}", r.pick(&["low", "medium", "high"])));
        option(&mut text, random, |r| format!("from {}", prefix(r, true)));
    } else {
        option(&mut text, random, realms);
    }
    if fixed {
        option(&mut text, random, |_| "track_group TG".to_owned());
    }
    text
}

fn next_hop(text: &mut String, random: &mut Random, six: bool) {
    option(text, random, |r| format!("via {}", host(r, six)));
    option(text, random, |r| format!("dev eth{}", r.below(3)));
    option(text, random, |_| "onlink".to_owned());
    option(text, random, |random| match random.below(4) {
        0 => {
            let ttl = random.below(256);
            format!("encap ip id {} dst {} ttl {ttl}", random.bits(), host(random, false))
        }
        1 => {
            let flags = random.below(65_536);
            format!("encap ip6 dst {} tc 4 hoplimit 3 flags {flags}", host(random, true))
        }
        2 => format!("encap mpls {}/{}", random.below(1 << 20), random.below(1 << 20)),
        _ => format!("encap ila {:x}:{:x}:0:1", random.below(65_536), random.below(65_536)),
    });
}

fn realms(random: &mut Random) -> String {
    format!("realms {}{}", random.below(256), random.pick(&["", "/7", "/0"]))
}

fn rule(random: &mut Random, fixed: bool) -> String {
    let mut text = String::new();
    let six = random.one_in(3);
    option(&mut text, random, |r| format!("from {}", prefix(r, six)));
    option(&mut text, random, |r| format!("to {}", prefix(r, six)));
    option(&mut text, random, |_| "not".to_owned());
    option(&mut text, random, |r| format!("fwmark {}{}", r.range(0, 99), r.pick(&["", "/0xff", "/"])));
    option(&mut text, random, |r| format!("tos {}", r.below(256)));
    option(&mut text, random, |r| format!("iif eth{}", r.below(3)));
    option(&mut text, random, |r| format!("oif eth{}", r.below(3)));
    option(&mut text, random, |r| format!("tunnel-id {}", r.bits()));
    option(&mut text, random, |r| format!("uidrange {}-{}", r.range(0, 9), r.range(9, u64::from(u32::MAX))));
    option(&mut text, random, |r| format!("ipproto {}", r.pick(&["tcp", "udp", "200"])));
    option(&mut text, random, |r| format!("sport {}-{}", r.below(65_536), r.below(65_536)));
    option(&mut text, random, |r| format!("dport {}-{}", r.below(65_536), r.below(65_536)));
    option(&mut text, random, |r| format!("protocol {}", r.below(256)));
    option(&mut text, random, |_| "no_track".to_owned());
    if fixed {
        option(&mut text, random, |_| "track_group TG".to_owned());
    }
    if random.one_in(2) {
        option(&mut text, random, |r| format!("sup_pl {}", r.range(0, 128)));
        option(&mut text, random, |r| format!("sup_group {}", r.range(0, 99)));
        option(&mut text, random, |r| format!("table {}", r.range(1, u64::from(u32::MAX))));
        option(&mut text, random, |_| "l3mdev".to_owned());
    } else {
        text.push_str(random.pick::<&str>(&[
            " nop",
            " blackhole",
            " prohibit",
            " unreachable",
            " goto 4000000000",
        ]));
    }
    option(&mut text, random, |r| format!("preference {}", r.range(0, 40_000)));
    text
}

fn word(random: &mut Random) -> String {
    let length = random.range(1, 12);
    (0..length).map(|_| char::from(*random.pick(b"abcxyz019._-"))).collect()
}

fn option(text: &mut String, random: &mut Random, make: impl FnOnce(&mut Random) -> String) {
    if random.one_in(3) {
        text.push(' ');
        text.push_str(&make(random));
    }
}

fn maybe(text: &mut String, random: &mut Random, make: impl FnOnce(&mut Random) -> String) {
    if random.one_in(4) {
        let _ = writeln!(text, " {}", make(random));
    }
}

fn block(text: &mut String, random: &mut Random, name: &str, mut entry: impl FnMut(&mut Random) -> String) {
    if random.one_in(2) {
        let _ = writeln!(text, " {name} {{");
        for _ in 0..random.range(1, 4) {
            let _ = writeln!(text, "  {}", entry(random));
        }
        text.push_str(" }\n");
    }
}
