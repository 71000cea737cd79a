//! Routes and rules as the kernel has them, read back with `ip -d`.
//!
//! The expected lines are what keepalived 2.2.7 puts there for the text of each entry.

mod namespace;

use std::time::{Duration, Instant};

use config::ready::{
    Encapsulation, Family, MAIN_TABLE, NextHop, PROTOCOL, Place, Prefix, Route, RouteOrder, RouteType, Rule,
    RuleAction,
};
use namespace::{add_link, in_namespace, ip};
use vipd::hold::{self, Entry, Fact, Outcome};

fn place() -> Place {
    Place { file: "test".into(), line: 7, column: 3 }
}

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix { address: address.parse().unwrap(), length: length.parse().unwrap() }
}

/// `via` and `dev`; `-` for none.
fn hop(gateway: &str, interface: &str) -> NextHop {
    NextHop {
        gateway: (gateway != "-").then(|| gateway.parse().unwrap()),
        interface: (interface != "-").then(|| interface.to_owned()),
        weight: 1,
        ..NextHop::default()
    }
}

fn route(text: &str, destination: &str, next_hops: Vec<NextHop>) -> Route {
    let destination = (destination != "default").then(|| prefix(destination));
    Route {
        family: if text.contains("2001:") { Family::Ipv6 } else { Family::Ipv4 },
        kind: RouteType::Unicast,
        destination,
        from: None,
        source: None,
        table: MAIN_TABLE,
        scope: None,
        protocol: PROTOCOL,
        metric: None,
        tos: None,
        realms: None,
        next_hops,
        expires: None,
        preference: None,
        ttl_propagate: None,
        metrics: Vec::new(),
        locked: 0,
        congestion_control: None,
        order: RouteOrder::Prepend,
        track: true,
        track_group: None,
        text: text.to_owned(),
        place: place(),
    }
}

fn rule(preference: u32, from: &str, action: RuleAction) -> Rule {
    Rule {
        family: Family::Ipv4,
        invert: false,
        from: (from != "all").then(|| prefix(from)),
        to: None,
        preference,
        tos: None,
        mark: None,
        realms: None,
        suppress_prefix_length: None,
        suppress_interface_group: None,
        input_interface: None,
        output_interface: None,
        tunnel_id: None,
        users: None,
        ip_protocol: None,
        source_ports: None,
        destination_ports: None,
        protocol: PROTOCOL,
        action,
        track: true,
        track_group: None,
        text: format!("from {from} preference {preference}"),
        place: place(),
    }
}

/// Two links with addresses of both families.
fn two_links() {
    for (name, net) in [("d0", 9), ("d1", 8)] {
        add_link(name);
        ip(&format!("addr add 10.{net}.0.1/24 dev {name}"));
        ip(&format!("addr add 2001:db8:{net}::1/64 dev {name} nodad"));
    }
}

/// Lines of `ip`, without trailing blanks, those that the kernel made left out.
fn shown(words: &str) -> Vec<String> {
    let text = ip(words).replace("\n\t", " ");
    text.lines()
        .filter(|line| line.contains("keepalived"))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

fn cases() -> Vec<(Route, &'static str)> {
    let d0 = || vec![hop("10.9.0.9", "d0")];
    let kind = |kind, route: Route| Route { kind, ..route };
    vec![
        (
            route("10.50.0.0/16 via 10.9.0.9", "10.50.0.0/16", vec![hop("10.9.0.9", "-")]),
            "unicast 10.50.0.0/16 via 10.9.0.9 dev d0 table main proto keepalived scope global",
        ),
        (
            route("10.51.0.0/16 dev d0", "10.51.0.0/16", vec![hop("-", "d0")]),
            "unicast 10.51.0.0/16 dev d0 table main proto keepalived scope global",
        ),
        (
            Route {
                scope: Some(253),
                ..route("10.52.0.0/16 dev d0 scope link", "10.52.0.0/16", vec![hop("-", "d0")])
            },
            "unicast 10.52.0.0/16 dev d0 table main proto keepalived scope link",
        ),
        (
            Route {
                source: Some("10.9.0.1".parse().unwrap()),
                ..route("src 10.9.0.1 10.53.0.0/16 …", "10.53.0.0/16", d0())
            },
            "unicast 10.53.0.0/16 via 10.9.0.9 dev d0 table main proto keepalived scope global src 10.9.0.1",
        ),
        (
            kind(RouteType::Blackhole, route("blackhole 10.54.0.0/16", "10.54.0.0/16", vec![])),
            "blackhole 10.54.0.0/16 table main proto keepalived scope global",
        ),
        (
            Route {
                metric: Some(77),
                ..kind(RouteType::Unreachable, route("unreachable 10.55.0.0/16", "10.55.0.0/16", vec![]))
            },
            "unreachable 10.55.0.0/16 table main proto keepalived scope global metric 77",
        ),
        (
            kind(RouteType::Prohibit, route("prohibit 10.56.0.0/16", "10.56.0.0/16", vec![])),
            "prohibit 10.56.0.0/16 table main proto keepalived scope global",
        ),
        (
            Route {
                table: 300,
                ..kind(RouteType::Throw, route("throw 10.57.0.0/16 table 300", "10.57.0.0/16", vec![]))
            },
            "throw 10.57.0.0/16 table 300 proto keepalived scope global",
        ),
        (
            Route {
                table: 100,
                metric: Some(5),
                // mtu, window, rtt in 1/8 ms, rttvar in 1/4 ms, ssthresh, cwnd, advmss, reordering, hoplimit, initcwnd,
                // features, rto_min in ms, initrwnd, quickack.
                metrics: vec![
                    (2, 1400),
                    (3, 1000),
                    (4, 2400),
                    (5, 80),
                    (6, 44),
                    (7, 33),
                    (8, 1200),
                    (9, 5),
                    (10, 12),
                    (11, 9),
                    (12, 1),
                    (13, 40),
                    (14, 8),
                    (15, 1),
                ],
                locked: 1 << 7 | 1 << 8,
                congestion_control: Some("cubic".into()),
                ..route("10.58.0.0/16 via 10.9.0.9 dev d0 mtu 1400 …", "10.58.0.0/16", d0())
            },
            "unicast 10.58.0.0/16 via 10.9.0.9 dev d0 table 100 proto keepalived scope global metric 5 mtu 1400 \
             window 1000 rtt 300ms rttvar 20ms ssthresh 44 cwnd lock 33 advmss lock 1200 reordering 5 hoplimit 12 \
             initcwnd 9 features ecn rto_min 40ms initrwnd 8 quickack 1 congctl cubic",
        ),
        (
            route(
                "10.59.0.0/16 nexthop … nexthop …",
                "10.59.0.0/16",
                vec![
                    NextHop { weight: 3, ..hop("10.9.0.9", "d0") },
                    NextHop {
                        weight: 200,
                        on_link: true,
                        realms: Some(5 << 16 | 6),
                        ..hop("10.8.0.9", "d1")
                    },
                ],
            ),
            "unicast 10.59.0.0/16 table main proto keepalived scope global nexthop via 10.9.0.9 dev d0 weight 3 \
             nexthop via 10.8.0.9 realms 5/6 dev d1 weight 200 onlink",
        ),
        (
            Route {
                tos: Some(0x10),
                realms: Some(7 << 16 | 8),
                ..route("10.60.0.0/16 … realms 7/8 tos 0x10", "10.60.0.0/16", d0())
            },
            "unicast 10.60.0.0/16 tos 0x10 via 10.9.0.9 dev d0 table main proto keepalived scope global realms 7/8",
        ),
        (
            route(
                "10.61.0.0/16 via 172.16.0.9 dev d0 onlink",
                "10.61.0.0/16",
                vec![NextHop { on_link: true, ..hop("172.16.0.9", "d0") }],
            ),
            "unicast 10.61.0.0/16 via 172.16.0.9 dev d0 table main proto keepalived scope global onlink",
        ),
        // keepalived 2.2.7 refuses the mixture; the kernel and ip-route(8) know it.
        (
            route("10.62.0.0/16 via inet6 fe80::9 dev d0", "10.62.0.0/16", vec![hop("fe80::9", "d0")]),
            "unicast 10.62.0.0/16 via inet6 fe80::9 dev d0 table main proto keepalived scope global",
        ),
        // keepalived 2.2.7 asks for scope global, and the kernel refuses it.
        (
            kind(RouteType::Local, route("local 10.64.0.1/32 dev d0", "10.64.0.1/32", vec![hop("-", "d0")])),
            "local 10.64.0.1 dev d0 table main proto keepalived scope host",
        ),
        (
            kind(
                RouteType::Multicast,
                route("multicast 239.1.1.0/24 dev d0", "239.1.1.0/24", vec![hop("-", "d0")]),
            ),
            "multicast 239.1.1.0/24 dev d0 table main proto keepalived scope global",
        ),
        (
            Route {
                table: 4000,
                metric: Some(300),
                ..route("default via 10.9.0.9 dev d0 metric 300 table 4000", "default", d0())
            },
            "unicast default via 10.9.0.9 dev d0 table 4000 proto keepalived scope global metric 300",
        ),
        (
            Route {
                metrics: vec![(2, 1300)],
                locked: 1 << 2,
                ..route("10.66.0.0/16 via 10.9.0.9 dev d0 mtu lock 1300", "10.66.0.0/16", d0())
            },
            "unicast 10.66.0.0/16 via 10.9.0.9 dev d0 table main proto keepalived scope global mtu lock 1300",
        ),
        (
            route(
                "10.67.0.0/16 encap ip id 7 …",
                "10.67.0.0/16",
                vec![NextHop {
                    encapsulation: Some(Encapsulation::Ip {
                        id: Some(7),
                        destination: Some("1.2.3.4".parse().unwrap()),
                        source: Some("5.6.7.8".parse().unwrap()),
                        tos: Some(4),
                        ttl: Some(9),
                        flags: None,
                        family: Family::Ipv4,
                    }),
                    ..hop("10.9.0.9", "d0")
                }],
            ),
            "unicast 10.67.0.0/16 encap ip id 7 src 5.6.7.8 dst 1.2.3.4 ttl 9 tos 4 via 10.9.0.9 dev d0 table main \
             proto keepalived scope global",
        ),
        (
            route("2001:db8:50::/48 …", "2001:db8:50::/48", vec![hop("2001:db8:9::9", "d0")]),
            "unicast 2001:db8:50::/48 via 2001:db8:9::9 dev d0 table main proto keepalived scope global metric 1024 \
             pref medium",
        ),
        (
            Route {
                metric: Some(55),
                preference: Some(1),
                ..route("2001:db8:51::/48 …", "2001:db8:51::/48", vec![hop("-", "d0")])
            },
            "unicast 2001:db8:51::/48 dev d0 table main proto keepalived scope global metric 55 pref high",
        ),
        (
            kind(RouteType::Blackhole, route("blackhole 2001:db8:53::/48", "2001:db8:53::/48", vec![])),
            "blackhole 2001:db8:53::/48 dev lo table main proto keepalived scope global metric 1024 pref medium",
        ),
        (
            route(
                "2001:db8:54::/48 nexthop …",
                "2001:db8:54::/48",
                vec![
                    NextHop { weight: 2, ..hop("2001:db8:9::9", "d0") },
                    NextHop { weight: 1, ..hop("2001:db8:8::9", "d1") },
                ],
            ),
            "unicast 2001:db8:54::/48 table main proto keepalived scope global metric 1024 pref medium nexthop via \
             2001:db8:9::9 dev d0 weight 2 nexthop via 2001:db8:8::9 dev d1 weight 1",
        ),
        (
            Route {
                from: Some(prefix("2001:db8:9::/64")),
                ..route("2001:db8:55::/48 from …", "2001:db8:55::/48", vec![hop("2001:db8:9::9", "d0")])
            },
            "unicast 2001:db8:55::/48 from 2001:db8:9::/64 via 2001:db8:9::9 dev d0 table main proto keepalived scope \
             global metric 1024 pref medium",
        ),
    ]
}

fn rules() -> Vec<(Rule, &'static str)> {
    let table = RuleAction::Table(100);
    vec![
        (rule(50, "10.1.1.1/32", table), "50: from 10.1.1.1 lookup 100 proto keepalived"),
        (
            Rule { to: Some(prefix("10.1.1.0/24")), ..rule(51, "all", RuleAction::Table(5000)) },
            "51: from all to 10.1.1.0/24 lookup 5000 proto keepalived",
        ),
        (
            Rule {
                to: Some(prefix("10.2.0.0/16")),
                mark: Some((0x10, Some(0xff))),
                input_interface: Some("d0".into()),
                output_interface: Some("d1".into()),
                ..rule(52, "10.1.1.1/32", table)
            },
            "52: from 10.1.1.1 to 10.2.0.0/16 fwmark 0x10/0xff iif d0 oif d1 lookup 100 proto keepalived",
        ),
        (
            Rule { invert: true, ..rule(53, "10.1.1.1/32", RuleAction::Blackhole) },
            "53: not from 10.1.1.1 blackhole proto keepalived",
        ),
        (rule(54, "10.1.1.2/32", RuleAction::Unreachable), "54: from 10.1.1.2 unreachable proto keepalived"),
        (rule(55, "10.1.1.2/32", RuleAction::Prohibit), "55: from 10.1.1.2 prohibit proto keepalived"),
        (rule(100, "all", RuleAction::Nop), "100: from all nop proto keepalived"),
        (rule(56, "all", RuleAction::Goto(100)), "56: from all goto 100 proto keepalived"),
        (
            Rule {
                tos: Some(0x10),
                users: Some((5, 99)),
                suppress_prefix_length: Some(8),
                ..rule(57, "10.1.1.3/32", table)
            },
            "57: from 10.1.1.3 tos 0x10 uidrange 5-99 lookup 100 suppress_prefixlength 8 proto keepalived",
        ),
        (
            Rule {
                suppress_interface_group: Some(9),
                realms: Some(3 << 16 | 4),
                ..rule(58, "10.1.1.3/32", table)
            },
            "58: from 10.1.1.3 lookup 100 suppress_ifgroup 9 realms 3/4 proto keepalived",
        ),
        (
            Rule {
                ip_protocol: Some(6),
                source_ports: Some((5, 99)),
                destination_ports: Some((80, 81)),
                ..rule(59, "10.1.1.3/32", table)
            },
            "59: from 10.1.1.3 ipproto tcp sport 5-99 dport 80-81 lookup 100 proto keepalived",
        ),
        (
            Rule { tunnel_id: Some(99), ..rule(60, "10.1.1.4/32", table) },
            "60: from 10.1.1.4 tun_id 99 lookup 100 proto keepalived",
        ),
    ]
}

fn all_changed(outcomes: &[Outcome]) {
    for (i, outcome) in outcomes.iter().enumerate() {
        assert!(matches!(outcome, Outcome::Changed), "entry {i}: {outcome:?}");
    }
}

#[test]
fn every_route_is_in_the_kernel_as_keepalived_puts_it_there() {
    in_namespace("every_route_is_in_the_kernel_as_keepalived_puts_it_there", async || {
        two_links();
        let (hold, _monitor) = hold::open().await.unwrap();
        for (route, expected) in cases() {
            let entries = [Entry::Route(route)];
            all_changed(&hold.put(&entries).await);
            let family = if expected.contains("2001:") { "-6 " } else { "" };
            assert_eq!(shown(&format!("-d {family}route show table all")), [expected], "{}", entries[0]);
            // Once more is no error and no second route.
            assert!(matches!(hold.put(&entries).await[..], [Outcome::AsItWas]), "{}", entries[0]);
            all_changed(&hold.take(&entries).await);
            assert!(shown("-d route show table all").is_empty(), "{} is left behind", entries[0]);
            assert!(matches!(hold.take(&entries).await[..], [Outcome::AsItWas]), "{}", entries[0]);
        }
    });
}

#[test]
fn every_rule_is_in_the_kernel_as_keepalived_puts_it_there() {
    in_namespace("every_rule_is_in_the_kernel_as_keepalived_puts_it_there", async || {
        two_links();
        let (hold, _monitor) = hold::open().await.unwrap();
        let (entries, mut expected): (Vec<_>, Vec<_>) =
            rules().into_iter().map(|(rule, expected)| (Entry::Rule(rule), expected)).unzip();
        all_changed(&hold.put(&entries).await);
        expected.sort_by_key(|line| line.split(':').next().unwrap().parse::<u32>().unwrap());
        assert_eq!(shown("-d rule"), expected);
        assert!(hold.put(&entries).await.iter().all(|outcome| matches!(outcome, Outcome::AsItWas)));
        assert_eq!(shown("-d rule"), expected);
        all_changed(&hold.take(&entries).await);
        assert!(shown("-d rule").is_empty());
    });
}

#[test]
fn what_the_kernel_refuses_names_the_route_its_place_and_the_cause() {
    in_namespace("what_the_kernel_refuses_names_the_route_its_place_and_the_cause", async || {
        two_links();
        let (hold, _monitor) = hold::open().await.unwrap();
        let far = route("10.70.0.0/16 via 172.16.0.9", "10.70.0.0/16", vec![hop("172.16.0.9", "-")]);
        let gone = route("10.71.0.0/16 dev d9", "10.71.0.0/16", vec![hop("-", "d9")]);
        let outcomes = hold.put(&[Entry::Route(far), Entry::Route(gone)]).await;
        let said: Vec<String> = outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Outcome::Failed(error) => error.to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            said,
            [
                "cannot add route 10.70.0.0/16 via 172.16.0.9: Network is unreachable; its gateway is in no network of \
                 an interface that is up (or write `onlink`) (test:7:3)",
                "cannot add route 10.71.0.0/16 dev d9: No such device; there is no such interface (test:7:3)",
            ]
        );
    });
}

/// The kernel judges before it looks: `Nexthop has invalid gateway`, `No route to host`, though the route is there.
#[test]
fn a_route_that_stays_without_the_network_of_its_gateway_is_as_it_was() {
    in_namespace("a_route_that_stays_without_the_network_of_its_gateway_is_as_it_was", async || {
        two_links();
        let (hold, _monitor) = hold::open().await.unwrap();
        let in_group = |group: Option<&str>, six: bool| {
            let (text, to, gateway) = match six {
                false => ("10.50.0.0/16 via 10.9.0.9", "10.50.0.0/16", "10.9.0.9"),
                true => ("2001:db8:50::/48 via 2001:db8:9::9", "2001:db8:50::/48", "2001:db8:9::9"),
            };
            let route = route(text, to, vec![hop(gateway, "d0")]);
            Entry::Route(Route { track_group: group.map(str::to_owned), ..route })
        };
        let tracked = [in_group(Some("T"), false), in_group(Some("T"), true)];
        all_changed(&hold.put(&tracked).await);
        // With its last address a link loses its routes.
        ip("addr add 10.7.0.1/24 dev d0");
        ip("addr del 10.9.0.1/24 dev d0");
        ip("addr del 2001:db8:9::1/64 dev d0");
        assert_eq!(shown("-d route show").len() + shown("-d -6 route show").len(), 2, "both stay");
        for outcome in hold.put(&tracked).await {
            assert!(matches!(outcome, Outcome::AsItWas), "{outcome:?}");
        }
        // Nothing depends on these, so that nobody looks.
        for outcome in hold.put(&[in_group(None, false), in_group(None, true)]).await {
            assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
        }
        let Entry::Route(other) = in_group(Some("T"), false) else { unreachable!() };
        let others = [
            Route { metric: Some(7), ..other.clone() },
            Route { table: 50, ..other.clone() },
            Route { destination: Some(prefix("10.50.0.0/17")), ..other.clone() },
            Route { source: Some("10.8.0.1".parse().unwrap()), ..other.clone() },
            Route { protocol: 99, ..other },
        ];
        for outcome in hold.put(&others.map(Entry::Route)).await {
            assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
        }
        ip("route del 10.50.0.0/16");
        assert!(matches!(hold.put(&tracked).await[..], [Outcome::Failed(_), Outcome::AsItWas]));
    });
}

#[test]
fn only_the_removal_of_routes_and_rules_like_ours_is_a_fact() {
    in_namespace("only_the_removal_of_routes_and_rules_like_ours_is_a_fact", async || {
        two_links();
        let (hold, mut monitor) = hold::open().await.unwrap();
        let ours = Entry::Route(route("10.50.0.0/16 dev d0", "10.50.0.0/16", vec![hop("-", "d0")]));
        let rule = Entry::Rule(rule(50, "10.1.1.1/32", RuleAction::Table(100)));
        hold.watch_for([&ours, &rule].into_iter()).unwrap();
        all_changed(&hold.put(&[ours.clone(), rule.clone()]).await);
        ip("route add 10.80.0.0/16 dev d1");
        ip("route del 10.80.0.0/16 dev d1");
        ip("route del 10.50.0.0/16");
        ip("rule del preference 50");
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut facts = Vec::new();
        while facts.len() < 2 && Instant::now() < deadline {
            let fact = tokio::time::timeout(Duration::from_secs(5), monitor.next()).await.unwrap();
            if !matches!(fact, Fact::LinkChanged { .. } | Fact::AddressAdded { .. }) {
                facts.push(fact);
            }
        }
        assert!(ours.concerns(&facts[0]) && !rule.concerns(&facts[0]), "{facts:?}");
        assert!(rule.concerns(&facts[1]) && !ours.concerns(&facts[1]), "{facts:?}");
    });
}
