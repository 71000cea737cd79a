//! `[[check]]`.

use std::time::Duration;

use crate::complete;
use crate::ready::{
    Bytes, Check, Credentials, Dial, Dialogue, DnsKind, Expect, FileExpect, Hex, HttpExpect, HttpProbe,
    HttpRequest, HttpSubject, HttpVersion, Matching, Pace, ParameterMatch, Probe, ProcessProbe, ProxyVersion,
    Step, Talk, Target, Tls, UdpProbe,
};
use crate::time::shown;

use super::process::word;
use super::{duration, flag, inline, line, list, number, optional, quoted, user, words};

pub(super) fn check(check: &Check) -> String {
    let mut text = String::new();
    line(&mut text, "name", &quoted(&check.name));
    probe(&mut text, &check.probe);
    duration(&mut text, "interval", check.interval, Duration::from_secs(1));
    duration(&mut text, "timeout", check.timeout, check.interval);
    number(&mut text, "rise", &check.rise, &complete::RISE);
    number(&mut text, "fall", &check.fall, &complete::FALL);
    flag(&mut text, "first_result_decides", check.first_result_decides, true);
    pace(&mut text, &check.pace);
    dial(&mut text, &check.dial);
    text
}

fn pace(text: &mut String, pace: &Pace) {
    let times = [
        ("fast_interval", pace.fast_interval),
        ("down_interval", pace.down_interval),
        ("first_delay", pace.first_delay),
    ];
    for (key, time) in times {
        optional(text, key, time.map(|time| quoted(&shown(time))));
    }
    flag(text, "jitter", !pace.exact, true);
}

fn dial(text: &mut String, dial: &Dial) {
    optional(text, "source", dial.source.map(|address| quoted(&address.to_string())));
    optional(text, "source_port", dial.source_port);
    word(text, "source_interface", dial.interface.as_deref());
    optional(text, "mark", dial.mark);
    optional(text, "connect_timeout", dial.connect_timeout.map(|time| quoted(&shown(time))));
    let version = dial.send_proxy.map(|version| match version {
        ProxyVersion::V1 => "v1",
        ProxyVersion::V2 => "v2",
    });
    word(text, "send_proxy", version);
}

fn probe(text: &mut String, probe: &Probe) {
    match probe {
        Probe::Script(script) | Probe::WeighingScript(script) => {
            line(text, "script", &words(script));
            user(text, script.user.as_ref());
            flag(text, "exit_weight", matches!(probe, Probe::WeighingScript(_)), false);
        }
        Probe::Http(http) => {
            let key = if http.tls.is_some() { "https" } else { "http" };
            line(text, key, &inline(&http_probe(http)));
        }
        Probe::Apiserver(probe) => {
            let mut body = at(&probe.target);
            if probe.path != "/readyz" {
                line(&mut body, "path", &quoted(&probe.path));
            }
            tls(&mut body, &probe.tls);
            credentials(&mut body, &probe.credentials);
            line(text, "apiserver", &inline(&body));
        }
        Probe::Etcd(probe) => {
            let mut body = at(&probe.target);
            if probe.path != "/health" {
                line(&mut body, "path", &quoted(&probe.path));
            }
            flag(&mut body, "tls", probe.tls.is_some(), true);
            if let Some(verification) = &probe.tls {
                tls(&mut body, verification);
            }
            credentials(&mut body, &probe.credentials);
            line(text, "etcd", &inline(&body));
        }
        Probe::Tcp { target } => line(text, "tcp", &quoted(&target.to_string())),
        Probe::Dialogue(probe) => dialogue(text, probe),
        Probe::Dns(probe) => {
            let mut body = at(&probe.target);
            if probe.name != "." {
                line(&mut body, "name", &quoted(&probe.name));
            }
            if probe.kind != DnsKind::SOA {
                line(&mut body, "type", &quoted(&probe.kind.to_string()));
            }
            line(text, "dns", &inline(&body));
        }
        Probe::Udp(probe) => line(text, "udp", &inline(&udp(probe))),
        Probe::Ping { host } => line(text, "ping", &quoted(host)),
        Probe::Agent(probe) => {
            let mut body = at(&probe.target);
            bytes(&mut body, "send", "send_hex", &probe.send);
            line(text, "agent", &inline(&body));
        }
        Probe::Bfd { session } => line(text, "bfd", &quoted(session)),
        Probe::Listeners { names } => line(text, "listeners", &list(names.iter().map(|name| quoted(name)))),
        Probe::Process(process) => line(text, "process", &process_probe(process)),
        Probe::File { path, expect, initial } => {
            line(text, "file", &file_probe(&path.to_string_lossy(), expect, *initial));
        }
        Probe::Interface { name } => line(text, "interface", &quoted(name)),
    }
}

fn at(target: &Target) -> String {
    let mut body = String::new();
    line(&mut body, "address", &quoted(&target.to_string()));
    body
}

fn bytes(text: &mut String, key: &str, hexadecimal: &str, octets: &Bytes) {
    match std::str::from_utf8(&octets.0) {
        Ok("") => {}
        Ok(said) => line(text, key, &quoted(said)),
        Err(_) => line(text, hexadecimal, &quoted(&Hex(&octets.0).to_string())),
    }
}

fn http_probe(http: &HttpProbe) -> String {
    let mut body = at(&http.target);
    if let Some(verification) = &http.tls {
        tls(&mut body, verification);
    }
    credentials(&mut body, &http.credentials);
    if let Some((first, more)) = http.requests.split_first() {
        http_request(&mut body, first);
        if !more.is_empty() {
            let more = more.iter().map(|request| {
                let mut body = String::new();
                http_request(&mut body, request);
                inline(&body)
            });
            line(&mut body, "then", &list(more));
        }
    }
    body
}

fn http_request(text: &mut String, request: &HttpRequest) {
    if request.path != "/" {
        line(text, "path", &quoted(&request.path));
    }
    if request.method != "GET" {
        line(text, "method", &quoted(&request.method));
    }
    if request.version == HttpVersion::V10 {
        word(text, "version", Some("1.0"));
    }
    word(text, "host", request.host_header.as_deref());
    if !request.headers.is_empty() {
        let pairs = request.headers.iter().map(|(name, value)| list([quoted(name), quoted(value)]));
        line(text, "headers", &list(pairs));
    }
    match &request.body {
        Some(body) if body.0.is_empty() => line(text, "body", "\"\""),
        Some(body) => bytes(text, "body", "body_hex", body),
        None => {}
    }
    if request.status.is_empty() {
        word(text, "status", Some("any"));
    } else if request.status != [(200, 299)] {
        let range = |(low, high): &(u16, u16)| {
            if low == high { low.to_string() } else { format!("\"{low}-{high}\"") }
        };
        line(text, "status", &list(request.status.iter().map(range)));
    }
    if !request.expect.is_empty() {
        line(text, "expect", &list(request.expect.iter().map(http_expect)));
    }
}

fn http_expect(expect: &HttpExpect) -> String {
    let mut body = String::new();
    if let HttpSubject::Header(name) = &expect.of {
        line(&mut body, "header", &quoted(name));
    }
    flag(&mut body, "absent", expect.absent, false);
    if let Some(is) = &expect.is {
        matching(&mut body, is);
    }
    inline(&body)
}

fn matching(text: &mut String, expect: &Expect) {
    let whole = |octets: &Bytes| std::str::from_utf8(&octets.0).is_ok();
    // What is no text at the beginning or end is an expression: `\xff` is this octet.
    let escaped = |octets: &Bytes| octets.0.iter().map(|octet| format!("\\x{octet:02x}")).collect::<String>();
    match &expect.matching {
        Matching::Contains(octets) => bytes(text, "contains", "hex", octets),
        Matching::Equals(octets) if octets.0.is_empty() => line(text, "equals", "\"\""),
        Matching::Equals(octets) => bytes(text, "equals", "equals_hex", octets),
        Matching::Starts(octets) if whole(octets) => bytes(text, "starts", "hex", octets),
        Matching::Ends(octets) if whole(octets) => bytes(text, "ends", "hex", octets),
        Matching::Starts(octets) => line(text, "regex", &quoted(&format!("^{}", escaped(octets)))),
        Matching::Ends(octets) => line(text, "regex", &quoted(&format!("{}$", escaped(octets)))),
        Matching::Regex(pattern) => line(text, "regex", &quoted(pattern)),
        Matching::Md5(digest) => line(text, "md5", &quoted(&Hex(digest).to_string())),
        Matching::Sha256(digest) => line(text, "sha256", &quoted(&Hex(digest).to_string())),
    }
    flag(text, "negate", expect.negate, false);
}

fn dialogue(text: &mut String, probe: &Dialogue) {
    let mut body = at(&probe.target);
    let is_steps = matches!(probe.talk, Talk::Steps(_));
    if let Some(verification) = &probe.tls {
        flag(&mut body, "tls", !is_steps, false);
        tls(&mut body, verification);
        credentials(&mut body, &probe.credentials);
    }
    let key = match &probe.talk {
        Talk::Steps(steps) => {
            if !steps.is_empty() {
                line(&mut body, "steps", &list(steps.iter().map(step)));
            }
            if probe.tls.is_some() { "tls" } else { "tcp" }
        }
        Talk::Smtp { hello } => {
            line(&mut body, "hello", &quoted(hello));
            "smtp"
        }
        Talk::Redis => "redis",
        Talk::Ldap => "ldap",
        Talk::Mysql { user } => {
            word(&mut body, "user", user.as_deref());
            "mysql"
        }
        Talk::Postgres { user } => {
            line(&mut body, "user", &quoted(user));
            "postgres"
        }
    };
    line(text, key, &inline(&body));
}

fn step(step: &Step) -> String {
    let mut body = String::new();
    match step {
        Step::Send(octets) if octets.0.is_empty() => line(&mut body, "send", "\"\""),
        Step::Send(octets) => bytes(&mut body, "send", "send_hex", octets),
        Step::Expect { is, least } => {
            matching(&mut body, is);
            optional(&mut body, "least", *least);
        }
        Step::Connect { port, tls: verification } => {
            line(&mut body, "connect", &port.to_string());
            flag(&mut body, "tls", verification.is_some(), false);
            if let Some(verification) = verification {
                tls(&mut body, verification);
            }
        }
    }
    inline(&body)
}

fn udp(probe: &UdpProbe) -> String {
    let mut body = at(&probe.target);
    bytes(&mut body, "payload", "payload_hex", &probe.payload);
    flag(&mut body, "require_reply", probe.require_reply, false);
    optional(&mut body, "min_reply", probe.min_reply);
    optional(&mut body, "max_reply", probe.max_reply);
    if let Some(expect) = &probe.expect {
        matching(&mut body, expect);
    }
    body
}

fn process_probe(process: &ProcessProbe) -> String {
    let name = quoted(&process.name);
    if *process == (ProcessProbe { name: process.name.clone(), quorum: 1, ..ProcessProbe::default() }) {
        return name;
    }
    let mut body = String::new();
    line(&mut body, "name", &name);
    if let Some((matching, words)) = &process.parameters {
        line(&mut body, "parameters", &list(words.iter().map(|word| quoted(word))));
        match matching {
            ParameterMatch::Exact => {}
            ParameterMatch::Partial => line(&mut body, "match", "\"partial\""),
            ParameterMatch::Initial => line(&mut body, "match", "\"initial\""),
        }
    }
    flag(&mut body, "full_command", process.full_command, false);
    duration(&mut body, "start_delay", process.fork_delay, Duration::ZERO);
    duration(&mut body, "end_delay", process.terminate_delay, Duration::ZERO);
    number(&mut body, "quorum", &process.quorum, &1);
    optional(&mut body, "quorum_max", process.quorum_max);
    inline(&body)
}

fn file_probe(path: &str, expect: &FileExpect, initial: Option<(i64, bool)>) -> String {
    if *expect == FileExpect::Exists && initial.is_none() {
        return quoted(path);
    }
    let mut body = String::new();
    line(&mut body, "path", &quoted(path));
    match expect {
        FileExpect::Exists => {}
        FileExpect::Missing => line(&mut body, "expect", "\"missing\""),
        FileExpect::Value => line(&mut body, "expect", "\"value\""),
        FileExpect::Contains(part) => {
            line(&mut body, "expect", &format!("{{ contains = {} }}", quoted(part)));
        }
        FileExpect::Weight(factor) => line(&mut body, "expect", &format!("{{ weight = {factor} }}")),
    }
    if let Some((value, overwrite)) = initial {
        line(&mut body, "initial", &value.to_string());
        flag(&mut body, "overwrite", overwrite, false);
    }
    inline(&body)
}

fn tls(text: &mut String, tls: &Tls) {
    let default = Tls::default();
    if let Some(file) = &tls.ca_file {
        line(text, "ca_file", &quoted(&file.to_string_lossy()));
    }
    word(text, "server_name", tls.server_name.as_deref());
    flag(text, "insecure", tls.insecure, default.insecure);
    flag(text, "any_name", tls.any_name, default.any_name);
    for (key, words) in [("alpn", &tls.alpn), ("also_for", &tls.also_for)] {
        if !words.is_empty() {
            line(text, key, &list(words.iter().map(|word| quoted(word))));
        }
    }
    duration(text, "expiry_warning", tls.warn_before, default.warn_before);
}

fn credentials(text: &mut String, credentials: &Credentials) {
    let files = [
        ("bearer_token_file", &credentials.bearer_token_file),
        ("client_certificate_file", &credentials.client_certificate_file),
        ("client_key_file", &credentials.client_key_file),
    ];
    for (key, file) in files {
        if let Some(file) = file {
            line(text, key, &quoted(&file.to_string_lossy()));
        }
    }
}
