//! Virtual servers, their real servers and checkers.

use std::fmt::Write as _;

use crate::Random;

use super::{host, maybe, word};

const SCHEDULERS: &[&str] =
    &["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "fo", "ovf", "sed", "nq", "twos", "x"];
const METHODS: &[&str] = &["NAT", "DR", "TUN", "TUN type gue port 5", "TUN type gre csum", "NOWHERE"];

pub(super) fn servers(text: &mut String, random: &mut Random) {
    for index in 0..random.below(3) {
        group(text, random, index);
    }
    maybe(text, random, |_| "SSL {\n certificate /c.pem\n key /k.pem\n ca /a.pem\n}".to_owned());
    for _ in 0..random.below(4) {
        server(text, random);
    }
}

fn group(text: &mut String, random: &mut Random, index: usize) {
    let _ = writeln!(text, "virtual_server_group G{index} {{");
    for _ in 0..random.below(4) {
        let six = random.one_in(4);
        let entry = match random.below(5) {
            0 => format!("fwmark {} {}", random.bits(), random.pick(&["", "inet", "inet6", "x"])),
            1 => format!("{}-{:x} {}", host(random, six), random.below(300), random.below(70_000)),
            2 => format!("{}/{} 80", host(random, six), random.below(140)),
            3 => format!("{}-{} 80", host(random, six), host(random, six)),
            _ => format!("{} {}", host(random, six), random.below(1000)),
        };
        let _ = writeln!(text, " {entry}");
    }
    text.push_str("}\n");
}

fn server(text: &mut String, random: &mut Random) {
    let six = random.one_in(5);
    let to = match random.below(8) {
        0 => format!("fwmark {}", random.below(9)),
        1 => format!("group G{}", random.below(3)),
        _ => format!("{} {}", host(random, six), random.pick(&["80", "443", "53", "0", "", "99999"])),
    };
    let _ = writeln!(text, "virtual_server {to} {{");
    if random.below(8) > 0 {
        let _ = writeln!(text, " protocol {}", random.pick(&["TCP", "tcp", "TCP", "UDP", "SCTP"]));
    }
    let _ = writeln!(text, " lb_algo {}", random.pick(SCHEDULERS));
    let _ = writeln!(text, " lb_kind {}", random.pick(METHODS));
    timing(text, random);
    maybe(text, random, |r| format!("ip_family {}", r.pick(&["inet", "inet6"])));
    maybe(text, random, |r| (*r.pick(&["ops", "hashed", "sh-port", "mh-fallback", "flag-1"])).to_owned());
    maybe(text, random, |r| format!("weight {}", r.below(70_000)));
    maybe(text, random, |r| (*r.pick(&["alpha", "omega", "inhibit_on_failure"])).to_owned());
    maybe(text, random, |r| format!("quorum {}", r.below(20)));
    maybe(text, random, |r| format!("hysteresis {}", r.below(20)));
    maybe(text, random, |r| format!("quorum_up \"/bin/{} 'a b' \\\"q\\\"\"", word(r)));
    maybe(text, random, |r| format!("quorum_down \"/bin/{}\" root", word(r)));
    maybe(text, random, |r| format!("sorry_server {} {}", host(r, six), r.below(1000)));
    maybe(text, random, |_| "sorry_server_inhibit".to_owned());
    maybe(text, random, |r| format!("persistence_timeout {}", r.pick(&["", "1", "50", "2678400"])));
    maybe(text, random, |r| {
        format!("persistence_granularity {}", r.pick(&["255.255.255.0", "64", "255.0.255.0", "0.0.0.0"]))
    });
    maybe(text, random, |r| format!("virtualhost {}", word(r)));
    for _ in 0..random.below(4) {
        real(text, random, six);
    }
    text.push_str("}\n");
}

fn real(text: &mut String, random: &mut Random, six: bool) {
    let _ = writeln!(text, " real_server {} {} {{", host(random, six), random.pick(&["80", "8080", "", "0"]));
    timing(text, random);
    maybe(text, random, |r| format!("weight {}", r.below(70_000)));
    maybe(text, random, |r| format!("lvs_method {}", r.pick(METHODS)));
    maybe(text, random, |r| format!("uthreshold {}", r.below(1000)));
    maybe(text, random, |r| format!("lthreshold {}", r.below(1000)));
    maybe(text, random, |r| format!("inhibit_on_failure {}", r.pick(&["", "on", "no"])));
    maybe(text, random, |r| format!("alpha {}", r.pick(&["", "on", "no"])));
    maybe(text, random, |r| format!("notify_up \"/bin/{}\"", word(r)));
    maybe(text, random, |r| format!("notify_down \"/bin/{} x\" root", word(r)));
    maybe(text, random, |r| format!("virtualhost {}", word(r)));
    for _ in 0..random.below(3) {
        checker(text, random, six);
    }
    text.push_str(" }\n");
}

fn timing(text: &mut String, random: &mut Random) {
    maybe(text, random, |r| format!("retry {}", r.below(9)));
    maybe(text, random, |r| format!("delay_before_retry {}.{}", r.below(9), r.below(1_000_000)));
    maybe(text, random, |r| format!("warmup {}", r.below(99)));
    maybe(text, random, |r| format!("delay_loop {}", r.pick(&["1", "0.5", "60", "0.000001", "0", "6s"])));
    maybe(text, random, |r| format!("connect_timeout {}", r.pick(&["1", "0.25", "4294", "x"])));
}

fn connection(text: &mut String, random: &mut Random, six: bool) {
    maybe(text, random, |r| format!("connect_ip {}", host(r, six)));
    maybe(text, random, |r| format!("connect_port {}", r.below(70_000)));
    maybe(text, random, |r| format!("bindto {}", host(r, six)));
    maybe(text, random, |r| format!("bind_port {}", r.below(70_000)));
    maybe(text, random, |r| format!("bind_if eth{}", r.below(3)));
    maybe(text, random, |r| format!("fwmark {}", r.bits()));
}

fn checker(text: &mut String, random: &mut Random, six: bool) {
    let kind = *random.pick(&[
        "TCP_CHECK",
        "HTTP_GET",
        "SSL_GET",
        "SMTP_CHECK",
        "DNS_CHECK",
        "MISC_CHECK",
        "UDP_CHECK",
        "PING_CHECK",
        "FILE_CHECK",
        "BFD_CHECK",
    ]);
    let _ = writeln!(text, "  {kind} {{");
    timing(text, random);
    if !matches!(kind, "MISC_CHECK" | "FILE_CHECK" | "BFD_CHECK") {
        connection(text, random, six);
    }
    match kind {
        "HTTP_GET" | "SSL_GET" => web(text, random),
        "SMTP_CHECK" => {
            maybe(text, random, |r| format!("helo_name {}", word(r)));
            for _ in 0..random.below(3) {
                text.push_str("host {\n");
                connection(text, random, six);
                text.push_str("}\n");
            }
        }
        "DNS_CHECK" => {
            maybe(text, random, |r| format!("type {}", r.pick(&["A", "SOA", "AAAA", "DNSKEY", "ANY"])));
            maybe(text, random, |r| format!("name {}", word(r)));
        }
        "MISC_CHECK" => {
            let _ = writeln!(text, "misc_path \"/bin/{} 'x y' z\"", word(random));
            maybe(text, random, |r| format!("misc_timeout {}", r.below(99)));
            maybe(text, random, |_| "misc_dynamic".to_owned());
        }
        "UDP_CHECK" => {
            maybe(text, random, |r| format!("payload {:x} {:x}", r.bits(), r.below(256)));
            maybe(text, random, |r| {
                format!("require_reply {}", r.pick(&["", "41", "4X xx 00", "zz", "5c22"]))
            });
            maybe(text, random, |r| format!("min_reply_length {}", r.below(300)));
            maybe(text, random, |r| format!("max_reply_length {}", r.below(70_000)));
        }
        "FILE_CHECK" => {
            text.push_str("track_file F\n");
            let most = u64::from(u32::MAX);
            maybe(text, random, |r| format!("weight -{} {}", r.range(0, most), r.pick(&["", "reverse"])));
        }
        "BFD_CHECK" => text.push_str("name B\n"),
        _ => {}
    }
    text.push_str("  }\n");
}

fn web(text: &mut String, random: &mut Random) {
    for _ in 0..random.range(1, 2) {
        let _ = writeln!(text, "url {{\n path {}{}", random.pick(&["/", "", "/a?b="]), word(random));
        maybe(text, random, |_| "digest 0123456789abcdef0123456789ABCDEF".to_owned());
        maybe(text, random, |r| format!("status_code {} 300-399", r.range(90, 610)));
        maybe(text, random, |r| format!("virtualhost {}", word(r)));
        maybe(text, random, |r| format!("regex \"{}\"", r.pick(&["ok|(fine)+", "a\\\\x00b", "(?=x)", "["])));
        maybe(text, random, |_| "regex_options caseless ungreedy extended".to_owned());
        maybe(text, random, |_| "regex_no_match".to_owned());
        text.push_str("}\n");
    }
    maybe(text, random, |r| format!("http_protocol {}", r.pick(&["1.0", "1.0C", "1.1", "2"])));
    maybe(text, random, |_| "enable_sni".to_owned());
    maybe(text, random, |r| format!("sni_name {}", word(r)));
    maybe(text, random, |r| format!("virtualhost {}", word(r)));
    maybe(text, random, |r| format!("nb_get_retry {}", r.below(9)));
}
