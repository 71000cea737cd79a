//! Virtual MAC addresses, silent addresses, routes and rules: against keepalived, on the wire and in the kernel.
//!
//! What is expected of the kernel is what keepalived 2.2.7 makes of the same file on a host beside ours.

use std::time::Duration;

use netns_tests::host::Host;
use netns_tests::inject::Injector;
use netns_tests::lab::Lab;
use netns_tests::observer::Monitor;
use netns_tests::peer::Kind::{self, Keepalived, Vipd};
use netns_tests::peer::Peer;
use netns_tests::story::{Row, Story, elections, split, tell};
use netns_tests::turn::Turn;
use netns_tests::wire::Capture;
use netns_tests::{Outcome, enabled, ensure, now, wait_for, wait_until};

const BOTH_WAYS: [(Kind, Kind); 2] = [(Vipd, Keepalived), (Keepalived, Vipd)];
const STORIES: [(&str, Story); 2] = [("S1-S4", elections), ("S5", split)];
const VIP: &str = "10.77.0.100";
const VIP6: &str = "fd77::100";
const MAC: &str = "00:00:5e:00:01:33";
const MAC6: &str = "00:00:5e:00:02:33";
const SOON: Duration = Duration::from_secs(8);

fn checked(outcome: Outcome, lab: &Lab) {
    outcome.unwrap_or_else(|failure| panic!("{}\n{}", failure.text, lab.report()));
}

/// Both families with the same VRID.
fn both_families(priority: u8, words: &str) -> String {
    let instance = |name: &str, addresses: &str| {
        format!(
            "vrrp_instance {name} {{\n  state BACKUP\n  interface eth0\n  version 3\n  virtual_router_id 51\n  priority \
             {priority}\n  advert_int 0.1\n  {words}\n  virtual_ipaddress {{\n    {addresses}\n  }}\n}}\n"
        )
    };
    instance("V4", &format!("{VIP}/24")) + &instance("V6", &format!("fe80::100\n    {VIP6}/64"))
}

/// A TCP port where nobody listens refuses; a silent address says nothing.
fn answers(lab: &Lab, address: &str) -> bool {
    let target = std::net::SocketAddr::new(address.parse().expect("an address"), 9);
    let connect = || std::net::TcpStream::connect_timeout(&target, Duration::from_secs(1));
    matches!(lab.client.inside(connect), Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// The client's neighbour entry of an address.
fn neighbour(lab: &Lab, address: &str) -> String {
    let text = lab.client.run(&["ip", "neighbour", "show", address]);
    text.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).unwrap_or_default().to_owned()
}

/// Ours gets no such help.
fn forbid_strange_arp(host: &Host, kind: Kind) {
    if kind == Keepalived {
        host.forbid_strange_arp();
    }
}

/// One takes over from the other, and gives back; the client has one MAC for each family all the time.
fn moves(
    lab: &Lab,
    better: Kind,
    worse: Kind,
    words: &str,
    advert_mac: &dyn Fn(&Host, bool) -> String,
) -> Outcome {
    let capture = Capture::start(lab);
    let (first, second) = (&lab.lb2, &lab.lb1);
    forbid_strange_arp(first, better);
    forbid_strange_arp(second, worse);
    let mut backup = Peer::start_configured(worse, second, &both_families(100, words), "worse");
    let (on_first, on_second) = (Monitor::start(first), Monitor::start(second));
    wait_until("the first is active", SOON, || on_second.holds(VIP) && on_second.holds(VIP6))?;
    let started = now();
    let mut active = Peer::start_configured(better, first, &both_families(200, words), "better");
    wait_until("the better one takes over", SOON, || {
        on_first.holds(VIP) && on_first.holds(VIP6) && !on_second.holds(VIP) && !on_second.holds(VIP6)
    })?;
    let cached = Monitor::start(&lab.client);
    let one_mac = |when: &str| -> Outcome {
        for (address, mac) in [(VIP, MAC), (VIP6, MAC6)] {
            wait_until(&format!("{address} answers {when}"), SOON, || answers(lab, address))?;
            let has = neighbour(lab, address);
            ensure(has == mac, || format!("{when} the client has {has} for {address}"))?;
        }
        Ok(())
    };
    one_mac("before the failover")?;
    active.process.kill_family();
    // What was killed leaves its interfaces behind, and with them an answer from the dead: the plug is pulled as well.
    lab.pull(first);
    wait_until("the other takes over", SOON, || on_second.holds(VIP) && on_second.holds(VIP6))?;
    one_mac("after the failover")?;
    for (address, mac) in [(VIP, MAC), (VIP6, MAC6)] {
        let seen = cached.neighbour(address);
        ensure(seen.iter().all(|(_, one)| one == mac), || {
            format!("the client had others for {address}: {seen:?}")
        })?;
    }
    for advert in capture.adverts().iter().filter(|advert| advert.at > started) {
        let host = if [first.ipv4(), first.link_local()].contains(&advert.source.to_string()) {
            first
        } else {
            second
        };
        let expected = advert_mac(host, advert.source.is_ipv6());
        ensure(advert.mac == expected, || format!("{} sent from {}: {advert:?}", advert.source, advert.mac))?;
        ensure(
            [first.ipv4(), first.link_local(), second.ipv4(), second.link_local()]
                .contains(&advert.source.to_string()),
            || format!("an advert came from {}", advert.source),
        )?;
    }
    backup.process.terminate(SOON)?;
    let left: Vec<String> = second.links().into_iter().filter(|link| link.starts_with("vrrp")).collect();
    ensure(left.is_empty(), || format!("left behind: {left:?}"))?;
    let tables = second.run(&["nft", "list", "tables"]);
    ensure(tables.trim().is_empty(), || format!("left behind: {tables}"))?;
    lab.push(first);
    Ok(())
}

#[test]
fn i_6_both_families_share_a_vrid_and_keep_their_macs_over_a_failover() {
    if !enabled(&["keepalived"]) {
        return;
    }
    let _turn = Turn::alone();
    for (better, worse) in [(Vipd, Keepalived), (Keepalived, Vipd), (Vipd, Vipd)] {
        let lab = Lab::new(&[]);
        let mac = |_: &Host, is_ipv6: bool| (if is_ipv6 { MAC6 } else { MAC }).to_owned();
        checked(moves(&lab, better, worse, "use_vmac", &mac), &lab);
    }
}

#[test]
fn i_7_adverts_come_from_the_base_and_the_addresses_have_the_virtual_mac() {
    if !enabled(&["keepalived"]) {
        return;
    }
    let _turn = Turn::alone();
    for (better, worse) in [(Vipd, Keepalived), (Keepalived, Vipd)] {
        let lab = Lab::new(&[]);
        checked(moves(&lab, better, worse, "use_vmac\n  vmac_xmit_base", &|host, _| host.mac()), &lab);
    }
}

/// Lines of `nft list ruleset` without what differs from run to run, and without the lease, which runs down.
fn ruleset(host: &Host) -> Vec<String> {
    let text = host.run(&["nft", "list", "ruleset"]).replace(",\n", ",");
    let mut tables: Vec<String> = text
        .split("\ntable ")
        .map(|table| table.trim_start_matches("table ").split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|table| !table.contains(" vipd-lease "))
        .collect();
    tables.sort();
    tables
}

#[test]
fn a_silent_address_does_not_answer_and_the_rules_are_keepalived_s() {
    if !enabled(&["keepalived"]) {
        return;
    }
    let _turn = Turn::alone();
    let words = "use_vmac\n  no_accept";
    let mut seen = Vec::new();
    for kind in [Keepalived, Vipd] {
        let lab = Lab::new(&[]);
        forbid_strange_arp(&lab.lb1, kind);
        let on_lb1 = Monitor::start(&lab.lb1);
        let mut peer = Peer::start_configured(kind, &lab.lb1, &both_families(100, words), "silent");
        let outcome = (|| -> Outcome {
            wait_until("it is active", SOON, || on_lb1.holds(VIP) && on_lb1.holds(VIP6))?;
            wait_until("its own address answers", SOON, || answers(&lab, &lab.lb1.ipv4()))?;
            ensure(!answers(&lab, VIP), || format!("{VIP} answers"))?;
            ensure(!answers(&lab, VIP6), || format!("{VIP6} answers"))?;
            // ARP and neighbour discovery do answer: others route by way of it.
            let has = (neighbour(&lab, VIP), neighbour(&lab, VIP6));
            ensure(has == (MAC.to_owned(), MAC6.to_owned()), || format!("neighbours: {has:?}"))?;
            lab.lb1.sysctl("net/ipv4/ip_forward", "1");
            lab.lb1.run(&["ip", "address", "add", "10.200.0.1/32", "dev", "lo"]);
            lab.client.run(&["ip", "route", "add", "10.200.0.0/24", "via", VIP]);
            ensure(answers(&lab, "10.200.0.1"), || "what is routed by way of it is dropped".to_owned())?;
            seen.push(
                ruleset(&lab.lb1).into_iter().filter(|table| !table.starts_with("arp")).collect::<Vec<_>>(),
            );
            peer.process.terminate(SOON)?;
            let left = lab.lb1.run(&["nft", "list", "ruleset"]);
            ensure(left.trim().is_empty(), || format!("left behind: {left}"))
        })();
        checked(outcome, &lab);
    }
    assert_eq!(seen[0], seen[1], "keepalived's, then ours");
}

/// A gratuitous ARP request (RFC 5227 §2.3) as a router with the virtual MAC sends it that has just taken over.
fn announcement_from_another() -> Vec<u8> {
    let mac = MAC.split(':').map(|octet| u8::from_str_radix(octet, 16).expect("a MAC"));
    let (mac, vip): (Vec<u8>, std::net::Ipv4Addr) = (mac.collect(), VIP.parse().expect("an address"));
    let ethernet_ipv4_request = [0, 1, 8, 0, 6, 4, 0, 1];
    [&[0xff; 6], &mac[..], &[8, 6], &ethernet_ipv4_request, &mac, &vip.octets(), &[0; 6], &vip.octets()]
        .concat()
}

/// The two have one MAC. Were the one that is about to let go to answer, the switch would send it the traffic again,
/// until the other one's next advert; with `vmac_xmit_base` for longer.
#[test]
fn the_loser_does_not_answer_the_announcements_of_the_winner() {
    if !enabled(&[]) {
        return;
    }
    let _turn = Turn::alone();
    let lab = Lab::new(&[]);
    let conf = both_families(100, "use_vmac").replace("advert_int 0.1", "advert_int 3");
    let outcome = (|| -> Outcome {
        let on_lb1 = Monitor::start(&lab.lb1);
        let capture = Capture::start(&lab);
        let mut peer = Peer::start_configured(Vipd, &lab.lb1, &conf, "loser");
        wait_until("it is active", 2 * SOON, || on_lb1.holds(VIP))?;
        wait_until("all is announced", SOON, || {
            capture.announcements().iter().filter(|one| one.mac == MAC).count() >= 5
        })?;
        ensure(answers(&lab, VIP), || "the client is not answered".to_owned())?;
        // Its next advert would teach the switch as well.
        let adverts = capture.adverts().len();
        wait_until("it has just sent an advert", SOON, || capture.adverts().len() >= adverts + 2)?;
        let injector =
            Injector::every(&lab.stranger, vec![announcement_from_another()], Duration::from_millis(20));
        wait_until("some were sent", SOON, || injector.sent() >= 20)?;
        injector.finish();
        let table = lab.bridge.run(&["bridge", "fdb", "show", "br", "br0"]);
        let learned = table.lines().find(|line| line.starts_with(MAC)).unwrap_or_default();
        ensure(learned.contains("dev stranger "), || format!("the switch sends it to {learned}"))?;
        peer.process.terminate(SOON).map(drop)
    })();
    checked(outcome, &lab);
}

const ENTRIES: &str = "
    10.50.0.0/16 via 10.77.0.9
    10.51.0.0/16 dev eth0
    10.52.0.0/16 dev eth0 scope link
    src 10.77.0.100 to 10.53.0.0/16 via 10.77.0.9 dev eth0
    blackhole 10.54.0.0/16
    unreachable 10.55.0.0/16 metric 77
    throw 10.57.0.0/16 table 300
    10.58.0.0/16 via 10.77.0.9 dev eth0 table 100 metric 5 mtu 1400 advmss lock 1200 hoplimit 12 initcwnd 9 initrwnd 8 window 1000 cwnd lock 33 ssthresh 44 reordering 5 quickack 1 features ecn
    10.59.0.0/16 nexthop via 10.77.0.9 dev eth0 weight 3 nexthop via 10.77.0.8 dev eth0 weight 200 onlink realms 5/6
    10.60.0.0/16 via 10.77.0.9 dev eth0 realms 7/8 tos 0x10
    10.61.0.0/16 via 172.16.0.9 dev eth0 onlink
    multicast 239.1.1.0/24 dev eth0
    default via 10.77.0.9 dev eth0 metric 300 table 4000
    10.67.0.0/16 encap ip id 7 dst 1.2.3.4 src 5.6.7.8 tos 4 ttl 9 via 10.77.0.9 dev eth0
    fd50::/48 via fd77::9 dev eth0
    fd51::/48 dev eth0 metric 55 pref high
    blackhole fd53::/48
    fd55::/48 from fd77::/64 via fd77::9 dev eth0
";

const RULES: &str = "
    from 10.1.1.1 table 100 priority 50
    to 10.1.1.0/24 table 5000 preference 51
    from 10.1.1.1 to 10.2.0.0/16 fwmark 0x10/0xff iif eth0 oif lo table 100 preference 52
    not from 10.1.1.1 table 100 preference 53
    from 10.1.1.2 blackhole preference 56
    from 10.1.1.2 unreachable preference 54
    from 10.1.1.2 prohibit preference 55
    from 10.1.1.3 tos 0x10 table 100 preference 57 uidrange 5-99 suppress_prefixlength 8
    from 10.1.1.3 table 100 preference 58 suppress_ifgroup 9 realms 3/4
    from 10.1.1.3 table 100 preference 59 ipproto 6 sport 5-99 dport 80-81
    from 10.1.1.4 table 100 preference 60 tunnel-id 99
    from 10.1.1.4 table 100
    from 10.1.1.5 table 100
";

fn with_entries() -> String {
    format!(
        "static_routes {{\n 10.40.0.0/16 via 10.77.0.9 dev eth0\n}}\nvrrp_instance V4 {{\n  state BACKUP\n  interface \
         eth0\n  version 3\n  virtual_router_id 51\n  priority 100\n  advert_int 0.1\n  virtual_ipaddress {{\n    \
         {VIP}/24\n  }}\n  virtual_routes {{{ENTRIES}  }}\n  virtual_rules {{{RULES}  }}\n}}\n"
    )
}

/// Routes and rules that a daemon has put there.
fn entries(host: &Host) -> Vec<String> {
    let mut lines = Vec::new();
    for words in [
        &["ip", "-d", "route", "show", "table", "all", "proto", "18"][..],
        &["ip", "-d", "-6", "route", "show", "table", "all", "proto", "18"],
        &["ip", "-d", "rule"],
        &["ip", "-d", "-6", "rule"],
    ] {
        let text = host.run(words).replace("\n\t", " ");
        let mut found: Vec<String> = Vec::new();
        found.extend(text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")));
        found.sort();
        lines.append(&mut found);
    }
    lines
}

#[test]
fn routes_and_rules_are_in_the_kernel_as_keepalived_puts_them_there() {
    if !enabled(&["keepalived"]) {
        return;
    }
    let _turn = Turn::alone();
    let mut seen = Vec::new();
    for kind in [Keepalived, Vipd] {
        let lab = Lab::new(&[]);
        let before = entries(&lab.lb1);
        let mut peer = Peer::start_configured(kind, &lab.lb1, &with_entries(), "entries");
        let outcome = (|| -> Outcome {
            wait_until("the last rule is there", SOON, || {
                entries(&lab.lb1).iter().any(|line| line.starts_with("16383:"))
            })?;
            seen.push(entries(&lab.lb1));
            if kind == Vipd {
                // Somebody removes one of each kind.
                lab.lb1.run(&["ip", "route", "del", "10.51.0.0/16"]);
                lab.lb1.run(&["ip", "route", "del", "10.40.0.0/16"]);
                lab.lb1.run(&["ip", "rule", "del", "preference", "50"]);
                wait_for("they are back", SOON, || (entries(&lab.lb1) == seen[1]).then_some(()))?;
                let status = peer.status(&lab.lb1)?;
                let all = status["instances"][0]["entries"].as_array().map(Vec::len);
                ensure(all == Some(31), || format!("status: {status:#}"))?;
                ensure(status["instances"][0]["counters"]["became_active"] == 1, || "it let go".to_owned())?;
            }
            peer.process.terminate(SOON)?;
            let left = entries(&lab.lb1);
            ensure(left == before, || format!("left behind: {left:#?}"))
        })();
        checked(outcome, &lab);
    }
    assert_eq!(seen[0], seen[1], "keepalived's, then ours");
}

/// What a daemon has put on a host with [`with_leavings`].
fn leavings(host: &Host) -> Vec<String> {
    let mut all = entries(host);
    all.extend(host.links().into_iter().filter(|link| link != "lo" && link != "eth0"));
    all.extend(host.addresses().into_iter().filter(|address| [VIP, "10.99.0.1"].contains(&address.as_str())));
    all.extend(ruleset(host).into_iter().filter(|table| !table.is_empty()));
    all
}

fn with_leavings(priority: u8) -> String {
    format!(
        "static_ipaddress {{\n  10.99.0.1/24 dev eth0\n}}\nstatic_routes {{\n  10.40.0.0/16 via 10.77.0.9 dev eth0\n}}\n\
         vrrp_instance V4 {{\n  state BACKUP\n  interface eth0\n  version 3\n  virtual_router_id 51\n  priority \
         {priority}\n  advert_int 0.1\n  use_vmac\n  no_accept\n  virtual_ipaddress {{\n    {VIP}/24\n  }}\n  \
         virtual_routes {{\n    10.50.0.0/16 via 10.77.0.9 dev eth0\n  }}\n  virtual_rules {{\n    from 10.1.1.1 \
         table 100 priority 50\n  }}\n}}\n"
    )
}

#[test]
fn what_a_killed_daemon_left_is_used_again_or_removed() {
    if !enabled(&[]) {
        return;
    }
    let _turn = Turn::alone();
    let lab = Lab::new(&[]);
    let outcome = (|| -> Outcome {
        let before = leavings(&lab.lb1);
        let on_lb1 = Monitor::start(&lab.lb1);
        let is_active = || {
            let now = leavings(&lab.lb1);
            on_lb1.holds(VIP)
                && ["10.40.", "10.50.", "50:"].iter().all(|start| now.iter().any(|one| one.contains(start)))
        };
        let mut first = Peer::start_configured(Vipd, &lab.lb1, &with_leavings(100), "first");
        wait_until("it is active", SOON, is_active)?;
        let active = leavings(&lab.lb1);
        first.process.kill_family();
        ensure(leavings(&lab.lb1) == active, || format!("after the kill: {:#?}", leavings(&lab.lb1)))?;

        let mut second = Peer::start_configured(Vipd, &lab.lb1, &with_leavings(100), "second");
        wait_until("it is active again", SOON, || {
            is_active()
                && second.status(&lab.lb1).is_ok_and(|status| status["instances"][0]["state"] == "active")
        })?;
        wait_until("all is as in its first life", SOON, || leavings(&lab.lb1) == active)?;
        second.process.kill_family();

        let _better = Peer::start_configured(Vipd, &lab.lb2, &with_leavings(200), "better");
        let on_lb2 = Monitor::start(&lab.lb2);
        wait_until("the better one is active", SOON, || on_lb2.holds(VIP))?;
        let mut third = Peer::start_configured(Vipd, &lab.lb1, &with_leavings(100), "third");
        wait_until("a backup has what is static, and its VMAC", SOON, || {
            let now = leavings(&lab.lb1);
            let has = |start: &str| now.iter().any(|one| one.contains(start));
            !has(VIP) && !has("10.50.") && !has("50:") && has("10.40.") && has("10.99.0.1") && has("vrrp.51")
        })?;
        third.process.terminate(SOON)?;
        let left = leavings(&lab.lb1);
        ensure(left == before, || format!("left behind: {left:#?}"))
    })();
    checked(outcome, &lab);
}

#[test]
fn an_instance_lets_go_while_a_static_address_of_its_track_group_is_missing() {
    if !enabled(&["keepalived"]) {
        return;
    }
    let _turn = Turn::alone();
    for kind in [Vipd, Keepalived] {
        let lab = Lab::new(&[]);
        let add_eth1 = || {
            lab.lb1.run(&["ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth1-end"]);
            lab.lb1.run(&["ip", "link", "set", "eth1-end", "up"]);
            lab.lb1.run(&["ip", "link", "set", "eth1", "up"]);
        };
        add_eth1();
        let conf = format!(
            "global_defs {{\n  dynamic_interfaces allow_if_changes\n}}\ntrack_group G {{\n  group {{\n    V4\n  }}\n}}\nstatic_ipaddress {{\n  10.99.0.1/24 dev eth1 \
             track_group G\n}}\nvrrp_instance V4 {{\n  state BACKUP\n  interface eth0\n  version 3\n  \
             virtual_router_id 51\n  priority 100\n  advert_int 0.1\n  virtual_ipaddress {{\n    {VIP}/24\n  }}\n}}\n"
        );
        let outcome = (|| -> Outcome {
            let on_lb1 = Monitor::start(&lab.lb1);
            let mut peer = Peer::start_configured(kind, &lab.lb1, &conf, "tracking");
            wait_until("it is active", SOON, || on_lb1.holds(VIP) && on_lb1.holds("10.99.0.1"))?;
            lab.lb1.run(&["ip", "link", "del", "eth1"]);
            wait_until("it lets go", SOON, || !on_lb1.holds(VIP))?;
            add_eth1();
            wait_until("it is active again", SOON, || on_lb1.holds(VIP) && on_lb1.holds("10.99.0.1"))?;
            peer.process.terminate(SOON).map(drop)
        })();
        checked(outcome, &lab);
    }
}

fn ipv6() -> Vec<String> {
    vec!["fe80::100/64".to_owned(), format!("{VIP6}/64")]
}

#[test]
fn i_6_stories() {
    if enabled(&["keepalived"]) {
        let row = Row { extra: |_| "  use_vmac\n", ..Row::new("I-6 IPv4") };
        let six = Row { name: "I-6 IPv6", addresses: ipv6(), ..row.clone() };
        tell(&[row, six], &BOTH_WAYS, &STORIES, false);
    }
}

#[test]
fn i_7_stories() {
    if enabled(&["keepalived"]) {
        let row = Row { extra: |_| "  use_vmac\n  vmac_xmit_base\n", ..Row::new("I-7 IPv4") };
        let six = Row { name: "I-7 IPv6", addresses: ipv6(), ..row.clone() };
        tell(&[row, six], &BOTH_WAYS, &STORIES, false);
    }
}
