//! The words within a line: options of addresses, keys of routes and rules.

use super::Status::{Differs, Instead, Meaning, Refused};
use super::{Keyword, Status};

/// One heading of the page of keywords, and the words under it.
pub(crate) type Section = (&'static str, &'static [Keyword]);

/// In the order of the page.
pub(crate) const SECTIONS: &[Section] = &[
    ("A line of `virtual_ipaddress`, `virtual_ipaddress_excluded` and `static_ipaddress`", ADDRESS),
    ("A line of `virtual_routes` and `static_routes`", ROUTE),
    ("Behind `nexthop` of a route", NEXT_HOP),
    ("Behind `encap` of a route", ENCAPSULATION),
    ("A line of `virtual_rules` and `static_rules`", RULE),
    ("Behind `use_vmac`", VMAC),
];

const fn word(name: &'static str, status: Status) -> Keyword {
    Keyword { name, status, block: None }
}

const FAMILY: Status = Differs("the word behind it is read; keepalived 2.2.7 and 2.4.3 skip that word");

pub(crate) const ADDRESS: &[Keyword] = &[
    word("dev", Meaning),
    word("scope", Meaning),
    word("brd", Meaning),
    word("broadcast", Meaning),
    word("label", Meaning),
    word("peer", Meaning),
    word("home", Meaning),
    word("-nodad", Meaning),
    word("mngtmpaddr", Meaning),
    word("noprefixroute", Meaning),
    word("autojoin", Meaning),
    word("preferred_lft", Meaning),
    word("no_track", Meaning),
    word("use_vmac", Meaning),
    word("track_group", Meaning),
];

pub(crate) const ROUTE: &[Keyword] = &[
    word("inet", FAMILY),
    word("inet6", FAMILY),
    word("to", Meaning),
    word("default", Differs("it may stand behind an address too; keepalived drops such a route")),
    word("default6", Meaning),
    word("unicast", Meaning),
    word("local", Meaning),
    word("broadcast", Meaning),
    word("brd", Meaning),
    word("anycast", Meaning),
    word("multicast", Meaning),
    word("blackhole", Meaning),
    word("unreachable", Meaning),
    word("prohibit", Meaning),
    word("throw", Meaning),
    word("nat", Meaning),
    word("xresolve", Meaning),
    word("src", Meaning),
    word("via", Meaning),
    word("gw", Meaning),
    word("dev", Meaning),
    word("oif", Meaning),
    word("from", Meaning),
    word("tos", Meaning),
    word("dsfield", Meaning),
    word("table", Meaning),
    word("protocol", Meaning),
    word("scope", Meaning),
    word("metric", Meaning),
    word("priority", Meaning),
    word("preference", Meaning),
    word("onlink", Meaning),
    word("encap", Meaning),
    word("expires", Meaning),
    word("mtu", Meaning),
    word("hoplimit", Meaning),
    word("advmss", Meaning),
    word("rtt", Meaning),
    word("rttvar", Meaning),
    word("reordering", Meaning),
    word("window", Meaning),
    word("cwnd", Meaning),
    word("ssthresh", Meaning),
    word("realms", Meaning),
    word("rto_min", Meaning),
    word("initcwnd", Meaning),
    word("initrwnd", Meaning),
    word("features", Meaning),
    word("quickack", Meaning),
    word("congctl", Meaning),
    word("pref", Meaning),
    word("ttl-propagate", Meaning),
    word("fastopen_no_cookie", Meaning),
    word("add", Meaning),
    word("prepend", Meaning),
    word("append", Meaning),
    word(
        "nexthop",
        Differs("only the next hops count; keepalived hands a `via` or `dev` before them to the kernel too"),
    ),
    word("or", Meaning),
    word("as", Instead("it is for MPLS routes alone, and without effect in keepalived too")),
    word("no_track", Meaning),
    word("track_group", Meaning),
    word("vrf", Refused("its table depends on the host: write `table N` with the number of `ip vrf show`")),
];

pub(crate) const NEXT_HOP: &[Keyword] = &[
    word("via", Meaning),
    word("dev", Meaning),
    word("weight", Differs("a wrong weight drops the route; keepalived keeps it without next hops")),
    word("onlink", Meaning),
    word("encap", Meaning),
    word("realms", Meaning),
    word("as", Meaning),
];

pub(crate) const ENCAPSULATION: &[Keyword] = &[
    word("ip", Meaning),
    word("ip6", Meaning),
    word("mpls", Meaning),
    word("ila", Meaning),
    word("id", Meaning),
    word("dst", Meaning),
    word("src", Meaning),
    word("tos", Meaning),
    word("tc", Meaning),
    word("ttl", Meaning),
    word("hoplimit", Meaning),
    word("flags", Meaning),
];

pub(crate) const RULE: &[Keyword] = &[
    word("inet", FAMILY),
    word("inet6", FAMILY),
    word("from", Meaning),
    word("to", Meaning),
    word("table", Meaning),
    word("lookup", Meaning),
    word("not", Meaning),
    word("preference", Meaning),
    word("order", Meaning),
    word("priority", Meaning),
    word("tos", Meaning),
    word("dsfield", Meaning),
    word("fwmark", Meaning),
    word("realms", Meaning),
    word("suppress_prefixlength", Meaning),
    word("sup_pl", Meaning),
    word("suppress_ifgroup", Meaning),
    word("sup_group", Meaning),
    word("dev", Meaning),
    word("iif", Meaning),
    word("oif", Meaning),
    word("tunnel-id", Meaning),
    word("uidrange", Meaning),
    word("l3mdev", Meaning),
    word("protocol", Meaning),
    word("ipproto", Meaning),
    word("sport", Meaning),
    word("dport", Meaning),
    word("goto", Meaning),
    word("nop", Meaning),
    word("type", Meaning),
    word("blackhole", Meaning),
    word("unreachable", Meaning),
    word("prohibit", Meaning),
    word("no_track", Meaning),
    word("track_group", Meaning),
];

pub(crate) const VMAC: &[Keyword] = &[
    word("name", Meaning),
    word("group", Meaning),
    word("netlink_notify_msg", Instead("making an interface tells the kernel's listeners in any case")),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said about a line of a block of an instance.
    fn said(block: &str, line: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.conf");
        let text = format!("vrrp_instance V {{\n{block} {{\n{line}\n}}\n}}\n");
        std::fs::write(&path, text).unwrap();
        let loaded = crate::load(&[&path], &crate::LoadOptions::default());
        loaded.diagnostics.iter().map(|finding| format!("{finding}\n")).collect()
    }

    #[test]
    fn every_word_of_the_tables_is_known_to_whoever_reads_the_line() {
        for (block, words, unknown) in [
            ("virtual_ipaddress", ADDRESS, "expected `dev`, `scope`"),
            ("virtual_routes", ROUTE, "expected a keyword of a route"),
            ("virtual_rules", RULE, "expected a keyword of a rule"),
        ] {
            assert!(said(block, "10.0.0.1 surely-not-a-word").contains(unknown) || block == "virtual_rules");
            for word in words.iter().filter(|word| word.name != "track_group") {
                let said = said(
                    block,
                    &format!("10.0.0.1 {} 5", word.name).replace(
                        "10.0.0.1",
                        match block {
                            "virtual_rules" => "from 10.0.0.1",
                            _ => "10.0.0.1",
                        },
                    ),
                );
                let about = format!("`{}` is not valid here; {unknown}", word.name);
                assert!(!said.contains(&about), "{said}");
            }
        }
    }
}
