//! Files that are made to hurt: each ends with findings, in seconds even without optimisation.

use std::path::Path;
use std::time::{Duration, Instant};

use config::users::Users;
use config::{LoadOptions, Loaded, load};

/// Far above what is needed, for machines that do other things too.
const MOST_TIME: Duration = Duration::from_secs(30);

/// For what is refused. A build without optimisation takes about ten times as long as one with it, or more.
const REFUSED: Duration = Duration::from_millis(if cfg!(debug_assertions) { 2000 } else { 100 });

fn load_file(path: &Path) -> Loaded {
    let options = LoadOptions {
        users: Users::Fixed(Vec::new()),
        config_id: Some("a".into()),
        ..LoadOptions::default()
    };
    let start = Instant::now();
    let loaded = load(&[path], &options);
    assert!(start.elapsed() < MOST_TIME, "{:?}", start.elapsed());
    loaded
}

fn codes(name: &str, text: &str) -> Vec<&'static str> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    let mut codes: Vec<_> = load_file(&path).diagnostics.iter().map(|d| d.code).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

#[test]
fn line_of_ten_megabytes() {
    assert_eq!(codes("a.conf", &"x".repeat(10 << 20)), ["line-too-long"]);
    assert_eq!(codes("a.conf", &"x ${y} {".repeat(10 << 17)), ["line-too-long"]);
}

#[test]
fn file_of_twenty_megabytes() {
    assert_eq!(codes("a.conf", &"priority 1\n".repeat(2 << 20)), ["unreadable"]);
}

#[test]
fn a_million_braces() {
    assert_eq!(codes("a.conf", &"a {\n".repeat(200_000)), ["missing-brace", "too-deep", "too-many-findings"]);
    assert_eq!(codes("a.conf", &"}\n".repeat(1_000_000)), ["extra-brace", "too-large"]);
}

#[test]
fn a_hundred_thousand_unknown_words() {
    let text: String = (0..100_000).map(|i| format!("vrrp_instanc{i} x\n")).collect();
    assert_eq!(codes("a.conf", &text), ["too-many-findings", "unknown-keyword"]);
}

#[test]
fn definitions_that_double() {
    let doubling: String = (0..60).map(|i| format!("$a{i}=${{a{}}}${{a{}}}\n", i + 1, i + 1)).collect();
    assert_eq!(
        codes("a.conf", &format!("{doubling}$a60=x\nglobal_defs {{\nrouter_id ${{a0}}\n}}\n")),
        ["missing-brace", "too-large"]
    );
    let empty = format!("{doubling}$a60=\n~SEQ(i,${{a0}},2) router_id x\n");
    assert!(codes("a.conf", &empty).contains(&"loop"));
}

/// Found by the fuzz target: at each of the 16 000 references of a line its first word, which was all of it, was
/// read again. 0.6 s with optimisation, far more than the bound here without.
#[test]
fn definitions_that_make_one_long_word() {
    let doubling: String =
        ('a'..'t').zip('b'..='t').map(|(a, b)| format!("${a}=${{{b}}}${{{b}}}${{{b}}}${{{b}}}\n")).collect();
    for (found, instead) in [("$c=${d}", "$c=${d\u{fffd}}"), ("$n=${o}${o}${o}", "$n=${o}}${p}")] {
        let text = doubling.replace(found, instead);
        assert_ne!(text, doubling);
        let text = format!("{text}$t=x\nglobal_defs {{\n    router_id ${{a}}\n}}\n");
        let start = Instant::now();
        assert!(!codes("a.conf", &text).is_empty());
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}

/// Found by the fuzz target: the characters were few, the lines many. 0.2 s with optimisation.
#[test]
fn definitions_of_many_short_lines() {
    let mut text = String::new();
    for (outer, inner) in ('a'..'f').zip('b'..='f') {
        text += &format!("${outer}= \\\n{}x\n", format!("${{{inner}}} \\\n").repeat(20));
    }
    text += "$f=x\nglobal_defs {\n    ${a}\n}\n";
    let (codes, took) = timed(&text);
    assert!(codes.contains(&"too-large"), "{codes:?}");
    assert!(took < REFUSED / 2, "{took:?}");
}

/// One line each, and more than any processor has time for.
#[test]
fn endless_loops_are_refused_in_time() {
    let texts = [
        "~SEQ(i,1,90000) ~SEQ(j,1,90000)",
        "global_defs {\n~SEQ(i,1,90000) ~SEQ(j,1,90000) ~SEQ(k,1,90000) a\n}",
        "global_defs {\n~SEQ(i,1,90000) ~SEQ(j,1,90000) ~SEQ(k,0,0) ~SEQ(l,0,0) ~SEQ(m,0,0) router_id ${i}${j}\n}",
        "~SEQ(i,1,90000) vrrp_instance v$i {",
        "~SEQ(i,1,90000) vrrp_instance v${i} { virtual_router_id 1 }",
        "~SEQ(i,1,90000) $NAME${i} ${nix${i}}",
        "~SEQ(i,1,90000) $A${i}=x ${i}",
        "~SEQ(i,1,90000) virtual_server 10.0.0.1 ${i} { real_server 10.0.0.${i} 80 { TCP_CHECK { } } }",
        "~SEQ(i,1,90000) track_file f${i} { file /x${i} }",
    ];
    let long = "~SEQ(i, 1, 200) 10.0.0.${i}/3        ".repeat(400);
    let long = format!("vrrp_instance V1 {{\nvirtual_ipaddress {{\n{long}\n}}\n}}\n");
    for text in texts.into_iter().chain([long.as_str()]) {
        let (codes, took) = timed(text);
        assert!(codes.contains(&"too-large"), "{text}: {codes:?}");
        assert!(took < REFUSED, "{text}: {took:?}");
    }
}

/// Each of twelve files includes all of them, over and over.
#[test]
fn files_that_include_one_another_are_refused_in_time() {
    let folder = tempfile::tempdir().unwrap();
    for name in 'a'..='l' {
        std::fs::write(folder.path().join(format!("{name}.conf")), "include *\n".repeat(66)).unwrap();
    }
    let start = Instant::now();
    let loaded = load_file(&folder.path().join("a.conf"));
    assert!(start.elapsed() < REFUSED, "{:?}", start.elapsed());
    assert!(loaded.config.is_none());
    assert!(loaded.diagnostics.iter().any(|finding| finding.code == "include-loop"));
}

/// What a loop may write is read, in a time that grows with it and not with its square.
#[test]
fn long_lists_out_of_loops() {
    let inside = |block: &str, entry: &str| {
        format!("vrrp_instance V {{\ninterface eth0\nvirtual_router_id 5\n{block} {{\n{entry}\n}}\n}}")
    };
    let texts = [
        inside("track_interface", "~SEQ(i,1,30000) eth${i}"),
        inside("unicast_peer", "~SEQ(i,1,120) ~SEQ(j,1,250) 10.0.${i}.${j}"),
        "~SEQ(i,1,20000) vrrp_sync_group G${i} { }".to_owned(),
    ];
    for text in texts {
        let (codes, took) = timed(&text);
        assert!(!codes.contains(&"too-large"), "{text}: {codes:?}");
        assert!(took < 2 * REFUSED, "{text}: {took:?}");
    }
}

/// What was found, and how long this thread ran for it: a busy machine does not count.
fn timed(text: &str) -> (Vec<&'static str>, Duration) {
    timed_as("a.conf", text)
}

fn timed_as(name: &str, text: &str) -> (Vec<&'static str>, Duration) {
    let running = || {
        let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Duration::from_nanos(statistics.split(' ').next().unwrap().parse().unwrap())
    };
    let start = running();
    let codes = codes(name, text);
    (codes, running() - start)
}

#[test]
fn loops_in_loops() {
    let nested: String = (0..8).map(|i| format!("~SEQ(v{i},1,90000) ")).collect();
    assert!(codes("a.conf", &format!("{nested} router_id x\n")).contains(&"too-large"));
}

#[test]
fn includes_that_double() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..16 {
        let text = format!("include {0}.conf\n", i + 1).repeat(10);
        std::fs::write(folder.path().join(format!("{i}.conf")), text).unwrap();
    }
    std::fs::write(folder.path().join("16.conf"), "router_id x\n").unwrap();
    let loaded = load_file(&folder.path().join("0.conf"));
    assert!(loaded.diagnostics.iter().any(|d| d.code == "too-large"));
}

#[test]
fn deep_toml() {
    assert_eq!(codes("a.toml", &format!("a = {}", "[".repeat(100_000)))[0], "toml-syntax");
    assert_eq!(codes("a.toml", &"[[check]]\n".repeat(20_000)), ["missing-key", "too-many-findings"]);
}

/// Each with what is refused in it, within the time of what is refused.
#[test]
fn haproxy_cfg_made_to_hurt() {
    let head = "defaults\n timeout connect 1s\n timeout client 1s\n timeout server 1s\n";
    let listen = format!("{head}listen l\n bind :1\n");
    let many_lines = |lines: usize, line: &str| format!("{listen}{}", line.repeat(lines));
    let inherited = format!("{head}{}", " http-check expect status 200\n".repeat(20_000));
    let heirs: String = (0..20_000).map(|i| format!("backend b{i}\n")).collect();
    let servers: String = (0..20_000).map(|i| format!(" server s{i} 10.0.0.1:1 check\n")).collect();
    let doubling = format!(
        "global\n{}",
        (0..40)
            .map(|i| format!(" setenv A{} \"$A{i}$A{i}$A{i}$A{i}\"\n", i + 1))
            .collect::<String>()
            .replace("$A0", "xxxxxxxx")
    );
    for (name, text, code) in [
        ("long line", format!("{listen} server {}\n", "x".repeat(1 << 20)), "line-too-long"),
        ("deep conditions", ".if 1\n".repeat(40_000), "too-deep"),
        ("deep parentheses", format!(".if {}\n", "(".repeat(60_000)), "invalid-value"),
        ("large range", format!("{head}listen l\n bind :1-65535\n server s 10.0.0.1\n"), "invalid-value"),
        ("large template", format!("{listen} server-template t 1-1000000 10.0.0.1:1\n"), "invalid-value"),
        ("many lines", many_lines(1_000_000, " option tcplog\n"), "too-large"),
        ("many wrong lines", many_lines(40_000, "\"\n"), "unterminated-quote"),
        ("many unknown words", many_lines(40_000, " nosuchword x\n"), "unknown-keyword"),
        ("many heirs", format!("{inherited}{heirs}"), "too-large"),
        ("variables that double", doubling, "too-large"),
        (
            "many servers in many ports",
            format!("{head}listen l\n bind :1-200\n{}", servers.replace(":1 check", "")),
            "too-large",
        ),
        ("zero bytes", "\0".repeat(1 << 20), "zero-byte"),
    ] {
        let (codes, took) = timed_as("a.cfg", &text);
        assert!(codes.contains(&code), "{name}: {codes:?}");
        assert!(took < REFUSED, "{name}: {took:?}");
    }
}

#[test]
fn nginx_conf_made_to_hurt() {
    let stream = |inside: &str| format!("stream {{\n{inside}\n}}\n");
    let servers: String = (0..30_000).map(|i| format!("server 10.0.0.1:{};\n", i + 1)).collect();
    for (name, text, code) in [
        ("long word", stream(&"x".repeat(1 << 20)), "line-too-long"),
        ("long variable", stream(&format!("${{{}", "x".repeat(1 << 20))), "line-too-long"),
        ("deep blocks", format!("stream {{\n{}", "a {\n".repeat(100_000)), "too-deep"),
        ("many directives", stream(&"a;\n".repeat(1_000_000)), "too-large"),
        ("many unknown words", stream(&"a;\n".repeat(90_000)), "unknown-keyword"),
        (
            "many servers",
            stream(&format!("upstream u {{\n{servers}}}\nserver {{ listen 1; proxy_pass u; }}")),
            "too-large",
        ),
        ("itself", "stream {\ninclude nginx.conf;\n}\n".to_owned(), "include-depth"),
        ("closing braces", format!("stream {{}}\n{}", "}".repeat(1 << 20)), "extra-brace"),
    ] {
        let (codes, took) = timed_as("nginx.conf", &text);
        assert!(codes.contains(&code), "{name}: {codes:?}");
        assert!(took < REFUSED, "{name}: {took:?}");
    }
}
