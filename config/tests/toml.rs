//! The native format: the documentation's examples load, all mistakes come at once, and what is written
//! is read back the same.

use std::path::{Path, PathBuf};
use std::time::Duration;

use config::diagnostic::Severity;
use config::ready::{Effect, FileExpect, Probe, Target, Transport, User, Version};
use config::users::Users;
use config::{LoadOptions, Loaded, load, to_toml, without_places};

fn options() -> LoadOptions {
    let user = |name: &str, id| User { name: name.into(), uid: id, gid: id };
    let users = vec![user("root", 0), user("nobody", 65534)];
    LoadOptions { users: Users::Fixed(users), host_name: Some("host".into()), ..LoadOptions::default() }
}

fn load_text(text: &str) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.toml");
    std::fs::write(&path, text).unwrap();
    load(&[&path], &options())
}

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "toml"));
    files.sort();
    assert!(!files.is_empty());
    files
}

#[test]
fn examples_load_without_findings() {
    for file in examples() {
        let loaded = load(&[&file], &options());
        let findings: Vec<_> = loaded.diagnostics.iter().map(ToString::to_string).collect();
        assert_eq!(findings, [""; 0], "{}", file.display());
    }
}

#[test]
fn examples_are_read_back_as_they_are_written() {
    for file in examples() {
        let loaded = load(&[&file], &options());
        let config = loaded.config.expect("examples have no errors");
        let written = to_toml(&config, &loaded.diagnostics);
        let again = load_text(&written);
        let findings: Vec<_> = again.diagnostics.iter().map(ToString::to_string).collect();
        assert_eq!(findings, [""; 0], "{}\n{written}", file.display());
        assert_eq!(without_places(again.config.unwrap()), without_places(config), "{written}");
    }
}

/// The fenced TOML blocks of the documentation.
fn documented() -> Vec<String> {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md"))
            .unwrap();
    text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn documented_snippets_load_without_findings() {
    assert!(documented().len() > 3);
    for snippet in documented() {
        let loaded = load_text(&snippet);
        let findings: Vec<_> =
            loaded.diagnostics.iter().filter(|d| d.code != "unused-check").map(ToString::to_string).collect();
        assert_eq!(findings, [""; 0], "{snippet}");
    }
}

#[test]
fn every_key_of_the_examples_is_documented() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md"))
            .unwrap();
    let everything = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/everything.toml"),
    )
    .unwrap();
    let words = everything.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).collect::<Vec<_>>();
    let keys = everything
        .split(" =")
        .map(|before| before.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap());
    for key in keys.filter(|key| !key.is_empty() && words.contains(key)) {
        assert!(text.contains(&format!("`{key}`")), "{key} is not documented");
    }
}

const TEMPLATE: &str = r#"
[[listener]]
name = "apiserver"
bind = "10.0.0.100:6443"
check = { apiserver = { insecure = true }, interval = "500ms", fall = 2, rise = 1 }
backends = [{ name = "cp1", address = "10.0.0.11:6443" }, { name = "cp2", address = "[2001:db8::1]:6443", check = false }]
[[instance]]
name = "vip"
interface = "eth0"
vrid = 1
addresses = ["10.0.0.100"]
"#;

#[test]
fn template_makes_one_check_for_each_backend() {
    let config = load_text(TEMPLATE).config.unwrap();
    let [check] = config.checks.as_slice() else { panic!("{:?}", config.checks) };
    assert_eq!(check.name, "apiserver/cp1");
    assert_eq!((check.interval, check.fall, check.rise), (Duration::from_millis(500), 2, 1));
    let Probe::Apiserver(probe) = &check.probe else { panic!("{:?}", check.probe) };
    assert_eq!(probe.target, Target { host: "10.0.0.11".into(), port: 6443 });
    let checks: Vec<_> =
        config.listeners[0].backends.iter().map(|b| b.checks.first().map(String::as_str)).collect();
    assert_eq!(checks, [Some("apiserver/cp1"), None]);
    assert_eq!(config.listeners[0].instances, ["vip"], "it binds the address that the instance holds");
}

#[test]
fn native_defaults_are_those_of_version_3() {
    let config = load_text(TEMPLATE).config.unwrap();
    let instance = &config.instances[0];
    assert_eq!((instance.version, instance.priority), (Version::V3, 100));
    assert_eq!(instance.advert_interval, Duration::from_secs(1));
    assert_eq!(instance.transport, Transport::Multicast { group: [224, 0, 0, 18].into() });
    assert!(!instance.start_active && instance.preempt && instance.answer_lower_priority);
    assert_eq!(config.router_id, "host");
}

#[test]
fn weight_of_a_file_with_a_value_multiplies_it() {
    let text = r#"
        [[instance]]
        name = "vip"
        interface = "eth0"
        vrid = 1
        addresses = ["10.0.0.100"]
        track = [{ check = "load", weight = -2, reverse = true }]
        [[check]]
        name = "load"
        file = { path = "/run/load", expect = "value" }
    "#;
    let config = load_text(text).config.unwrap();
    assert!(matches!(&config.checks[0].probe, Probe::File { expect: FileExpect::Value, .. }));
    assert_eq!(config.instances[0].track_checks[0].effect, Effect::Value { weight: -2, reverse: true });
}

#[test]
fn all_mistakes_are_reported_in_one_run_with_their_places() {
    let text = r#"router_idd = "x"
[[instance]]
name = "vip"
interface = "eth0"
vrid = 300
prioritty = 100
advert_interval = 1
addresses = ["10.0.0.1000", { address = "10.0.0.1", lable = "x" }]
track = [{ check = "apisever" }]
[[check]]
name = "apiserver"
tcp = "localhost"
"#;
    let loaded = load_text(text);
    assert!(loaded.config.is_none());
    let found: Vec<_> = loaded
        .diagnostics
        .iter()
        .map(|d| {
            (
                d.location.place.line,
                d.location.place.column,
                d.code,
                d.expected.as_deref().unwrap_or("").to_owned(),
            )
        })
        .collect();
    let lines: Vec<_> = found.iter().map(|(line, column, code, _)| (*line, *column, *code)).collect();
    let wanted = [
        (1, 1, "unknown-key"),
        (5, 8, "invalid-value"),
        (6, 1, "unknown-key"),
        (7, 19, "invalid-value"),
        (8, 14, "invalid-value"),
        (8, 53, "unknown-key"),
        (9, 20, "unknown-name"),
        (12, 7, "invalid-value"),
    ];
    assert_eq!(lines, wanted, "{found:#?}");
    assert_eq!(found[0].3, "`router_id`?");
    assert_eq!(found[6].3, "`apiserver`?");
}

#[test]
fn syntax_error_has_its_line() {
    let loaded = load_text("[[instance]]\nname = \nvrid = 1\n");
    let first = loaded.diagnostics.iter().next().unwrap();
    assert_eq!((first.code, first.location.place.line), ("toml-syntax", 2));
}

#[test]
fn passwords_are_never_shown() {
    let wrong = load_text("[[instance]]\nauthentication = { password = \"hunter2hunter2\", x = 1 }\n");
    assert!(!wrong.diagnostics.render_human(true).contains("hunter2"));
    assert!(!wrong.diagnostics.to_json().to_string().contains("hunter2"));
    assert!(wrong.diagnostics.iter().any(|d| d.message == "a password of 14 bytes"));
    let broken = load_text("authentication = { password = \"hunter2 \n");
    assert!(!broken.diagnostics.render_human(false).contains("hunter2"));
}

#[test]
fn the_same_setting_in_two_files_is_a_conflict() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.toml"), folder.path().join("b.toml"));
    std::fs::write(&a, "router_id = \"a\"\n[[check]]\nname = \"c\"\ntcp = \"h:1\"\n").unwrap();
    std::fs::write(&b, "router_id = \"b\"\n[[check]]\nname = \"c\"\ntcp = \"h:2\"\n").unwrap();
    let loaded = load(&[&a, &b], &options());
    let codes: Vec<_> =
        loaded.diagnostics.iter().filter(|d| d.severity == Severity::Error).map(|d| d.code).collect();
    assert_eq!(codes, ["conflict", "duplicate"]);
}

#[test]
fn one_virtual_router_cannot_be_two_instances() {
    let instance =
        "[[instance]]\nname = \"NAME\"\ninterface = \"eth0\"\nvrid = 1\naddresses = [\"10.0.0.1\"]\n";
    let text = instance.replace("NAME", "a") + &instance.replace("NAME", "b");
    let codes: Vec<_> = load_text(&text).diagnostics.iter().map(|d| d.code).collect();
    assert_eq!(codes, ["duplicate-virtual-router"]);
}

#[test]
fn missing_host_things_are_told_only_when_asked() {
    let text = "[[check]]\nname = \"c\"\nscript = \"/nonexistent/check\"\n[[instance]]\nname = \"v\"\ninterface = \"nope0\"\nvrid = 1\naddresses = [\"10.0.0.1\"]\ntrack = [\"c\"]\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.toml");
    std::fs::write(&path, text).unwrap();
    assert!(load(&[&path], &options()).diagnostics.is_empty());
    let loaded = load(&[&path], &LoadOptions { check_host: true, ..options() });
    let codes: Vec<_> = loaded.diagnostics.iter().map(|d| d.code).collect();
    assert_eq!(codes, ["script-missing", "interface-missing"]);
    assert!(loaded.config.is_some(), "warnings do not keep it from running");
}

#[test]
fn tracked_script_that_is_missing_is_left_out_of_keepalived_conf_and_kept_in_toml() {
    let conf = "vrrp_script c {\n script \"/nonexistent/check\"\n}\nvrrp_instance V1 {\n interface eth0\n virtual_router_id 1\n track_script {\n c\n }\n virtual_ipaddress {\n 10.0.0.1\n }\n}\n";
    let toml = "[[check]]\nname = \"c\"\nscript = \"/nonexistent/check\"\n[[instance]]\nname = \"V1\"\ninterface = \"eth0\"\nvrid = 1\naddresses = [\"10.0.0.1\"]\ntrack = [\"c\"]\n";
    let folder = tempfile::tempdir().unwrap();
    for (name, text, tracked) in [("a.conf", conf, 0), ("a.toml", toml, 1)] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let loaded = load(&[&path], &LoadOptions { judge_scripts: true, ..options() });
        let config = loaded.config.unwrap();
        assert_eq!(
            (config.checks.len(), config.instances[0].track_checks.len()),
            (tracked, tracked),
            "{name}"
        );
        let unjudged = load(&[&path], &options()).config.unwrap();
        assert_eq!(unjudged.instances[0].track_checks.len(), 1, "{name}");
    }
}

/// Every key that a listener and its backends can be asked for, through TOML and back.
#[test]
fn policies_come_back_from_toml() {
    let text = r#"
[control]
web = "127.0.0.1:8080"
[forwarder]
loops = 3
[[health_page]]
bind = "127.0.0.1:8081"
path = "/ok"
listeners = ["api"]
least = 2
[[check]]
name = "host"
file = "/etc/hostname"
[[listener]]
name = "api"
bind = "10.0.0.100:6443"
balance = "source"
protocol = "udp"
mode = "kernel"
source_nat = false
persistence = { timeout = "50s", ipv4_prefix = 24, ipv6_prefix = 64 }
retries = 4
slow_start = "30s"
queue_timeout = "7s"
observe = { error_limit = 3, down_for = "4s" }
rebalance = 10
no_backend = "try_all"
close_backup_sessions = true
accept_proxy = ["10.0.0.0/8", "2001:db8::/32"]
transparent = true
access_log = "tcplog"
quorum = { least = 3, hysteresis = 1, up = ["/bin/up", "a"], down = "/bin/down", at_end = true }
beside = "nftables"
check = [{ tcp = {} }, "host"]
backends = [
    { address = "10.0.0.11:6443", weight = 0, backup = true, max_sessions = 100, send_proxy = "v2" },
    { name = "b", address = "api.example:6443", inhibit_on_failure = true, down_at_start = true, maint = true },
    { srv = "_etcd-client._tcp.example", weight = 65535, notify_up = "/bin/up", notify_down = ["/bin/down", "x"] },
]
"#;
    let (config, _) = in_part(text);
    let written = config::to_toml(&config, &config::diagnostic::Diagnostics::default());
    let (again, _) = in_part(&written);
    assert_eq!(config::without_places(again.clone()), config::without_places(config), "{written}");
    let [listener] = again.listeners.as_slice() else { panic!("{written}") };
    assert_eq!(listener.backends[0].checks, ["api/10.0.0.11:6443", "host"]);
    assert_eq!(listener.discovered[0].template.checks, ["host"]);
    assert_eq!(
        listener.discovered[1].from,
        config::ready::Lookup::Service("_etcd-client._tcp.example".into())
    );
}

fn in_part(text: &str) -> (config::ready::Config, config::diagnostic::Diagnostics) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.toml");
    std::fs::write(&path, text).unwrap();
    config::load_in_part(&[&path], &options())
}

/// What is said of a listener that cannot be carried as it is written.
fn said_of_listener(text: &str) -> Vec<String> {
    let loaded = load_text(&format!("[[listener]]\nname = \"web\"\n{text}"));
    let said = loaded.diagnostics.iter().filter(|finding| finding.code == "kernel-mode");
    said.map(|finding| finding.message.clone()).collect()
}

#[test]
fn what_the_kernel_cannot_do_for_a_listener_is_refused_with_the_reason() {
    let backends = "backends = [{ name = \"a\", address = \"10.0.0.11:80\" }]";
    let kernel =
        |bind: &str, rest: &str| said_of_listener(&format!("bind = [{bind}]\nmode = \"kernel\"\n{rest}"));
    let vip = "\"10.0.0.100:80\"";
    assert_eq!(
        said_of_listener(&format!("bind = [{vip}]\nprotocol = \"udp\"\n{backends}")),
        ["the proxy carries TCP alone"]
    );
    assert_eq!(
        kernel("\"0.0.0.0:80\", \"127.0.0.1:80\"", backends),
        [
            "listener web on 0.0.0.0:80: the kernel carries what comes to an address, not to all",
            "listener web on 127.0.0.1:80: the kernel does not carry what goes to the loopback interface",
        ]
    );
    assert_eq!(
        kernel(vip, "backends = [{ address = \"127.0.0.1:80\" }, { address = \"[2001:db8::1]:80\" }]"),
        [
            "backend 127.0.0.1:80 (127.0.0.1:80) is on the loopback interface, where the kernel brings nobody else's sessions",
            "backend [2001:db8::1]:80 ([2001:db8::1]:80) is of another family than the listener, and the kernel translates none",
        ]
    );
    for (key, value) in
        [("idle_timeout", "\"1h\""), ("retries", "2"), ("transparent", "true"), ("beside", "\"refuse\"")]
    {
        let said = kernel(vip, &format!("{key} = {value}\n{backends}"));
        assert!(said[0].contains(&format!("`{key}` has no meaning in the kernel")), "{said:?}");
    }
    assert_eq!(
        kernel(vip, &format!("balance = \"leastconn\"\n{backends}")),
        ["listener web: the kernel does not count the sessions of a backend"]
    );
    assert_eq!(kernel(vip, backends), [""; 0]);
}

/// Every kind of check and every key of it.
const CHECKS: &str = r#"
[[bfd]]
name = "upstream"
neighbor = "10.0.0.254"
[[check]]
name = "agent"
agent = { address = "10.0.0.11:8081", send = "state\n" }
fast_interval = "500ms"
down_interval = "10s"
first_delay = "3s"
jitter = false
source = "10.0.0.1"
source_port = 4000
source_interface = "eth0"
mark = 7
send_proxy = "v1"
[[check]]
name = "agent-hex"
agent = { address = "10.0.0.11:8081", send_hex = "ff00" }
[[check]]
name = "weighing"
script = ["/bin/load", "-1"]
exit_weight = true
[[check]]
name = "etcd"
etcd = { ca_file = "/etc/etcd/ca.crt", client_certificate_file = "/etc/c.crt", client_key_file = "/etc/c.key" }
[[check]]
name = "etcd-plain"
etcd = { address = "10.0.0.11:2381", path = "/health?serializable=true", tls = false }
[[check]]
name = "handshake"
tls = "10.0.0.11:636"
[[check]]
name = "talk"
tls = { address = "a.example:636", ca_file = "/etc/ca.crt", server_name = "b.example", any_name = true, alpn = ["h2", "x"], also_for = ["c.example", "10.0.0.100"], expiry_warning = "30d", client_certificate_file = "/etc/c.crt", client_key_file = "/etc/c.key", steps = [
    { send = "PING\r\n\u0000" },
    { contains = "PONG", least = 4 },
    { send_hex = "00ff" },
    { hex = "fffe", negate = true },
    { equals_hex = "ff" },
    { equals = "a" },
    { starts = "b" },
    { ends = "c" },
    { regex = "^\\+OK [0-9]+\\xff$" },
    { connect = 26379, tls = true, insecure = true },
    { send = "" },
] }
[[check]]
name = "smtp"
smtp = { address = "10.0.0.11:25", hello = "EHLO lb1" }
[[check]]
name = "redis"
redis = { address = "10.0.0.11:6379", tls = true, insecure = true }
[[check]]
name = "ldap"
ldap = "10.0.0.11:389"
[[check]]
name = "mysql"
mysql = "10.0.0.11:3306"
[[check]]
name = "mysql-user"
mysql = { address = "10.0.0.11:3306", user = "vipd" }
[[check]]
name = "postgres"
postgres = { address = "10.0.0.11:5432", user = "vipd" }
[[check]]
name = "dns"
dns = "10.0.0.11:53"
[[check]]
name = "dns-name"
dns = { address = "10.0.0.11:53", name = "example.org", type = "type257" }
[[check]]
name = "udp"
udp = { address = "10.0.0.11:123", payload_hex = "e3ff", require_reply = true, min_reply = 48, max_reply = 68, starts = "\u0004" }
[[check]]
name = "ping"
ping = "10.0.0.11"
[[check]]
name = "bfd"
bfd = "upstream"
[[check]]
name = "load"
file = { path = "/run/load", expect = { weight = -2 } }
[[check]]
name = "web"
https = { address = "10.0.0.11:443", insecure = true, path = "/a", method = "PUT", version = "1.0", host = "w", headers = { X-A = "1" }, body = "b", status = [200, "300-399"], body_contains = "ok", expect = [
    { header = "Server", starts = "nginx", negate = true },
    { header = "X-There" },
    { header = "X-Not-There", absent = true },
    { md5 = "5d41402abc4b2a76b9719d911017c592" },
    { sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", negate = true },
], then = [{ path = "/b", status = "any", headers = [["X", "1"], ["X", "2"]], body_hex = "ff" }, {}] }
[[listener]]
name = "db"
bind = "10.0.0.100:5432"
check = [{ postgres = { user = "x" } }, { agent = { port = 8081 } }, { ping = {} }, { tcp = { port = 8008 } }]
backends = [{ name = "a", address = "10.0.0.11:5432" }]
"#;

#[test]
fn every_kind_of_check_comes_back_from_toml() {
    let errors = |found: &config::diagnostic::Diagnostics| -> Vec<String> {
        let errors = found.iter().filter(|finding| finding.severity == Severity::Error);
        errors.map(ToString::to_string).collect()
    };
    let (config, found) = in_part(CHECKS);
    assert_eq!(errors(&found), [""; 0]);
    let written = to_toml(&config, &found);
    let (again, found) = in_part(&written);
    assert_eq!(errors(&found), [""; 0], "{written}");
    assert_eq!(without_places(again), without_places(config), "{written}");
}

#[test]
fn checks_of_a_backend_go_to_its_address_and_maybe_another_port() {
    let (config, _) = in_part(CHECKS);
    let targets: Vec<String> = config.checks[config.checks.len() - 4..]
        .iter()
        .map(|check| match &check.probe {
            Probe::Ping { host } => host.clone(),
            probe => probe.target().unwrap().to_string(),
        })
        .collect();
    assert_eq!(targets, ["10.0.0.11:5432", "10.0.0.11:8081", "10.0.0.11", "10.0.0.11:8008"]);
}

#[test]
fn what_a_check_cannot_mean_is_refused_at_its_place() {
    for (line, wanted) in [
        ("tcp = { address = \"a:1\", steps = [{ regex = \"(\" }] }", "no regular expression"),
        ("tcp = { address = \"a:1\", steps = [{ md5 = \"00\" }] }", "unknown key `md5`"),
        ("tcp = { address = \"a:1\", steps = [{}] }", "this step does nothing"),
        ("http = { address = \"a:1\", expect = [{ contains = \"a\", regex = \"b\" }] }", "together"),
        ("http = { address = \"a:1\", headers = { \"a b\" = \"c\" } }", "cannot be sent as a header"),
        ("http = { address = \"a:1\", host = \"a\\r\\nb\" }", "cannot be sent in a header"),
        ("dns = { address = \"a:1\", name = \"a..b\" }", "no domain name"),
        ("dns = { address = \"a:1\", type = \"X\" }", "no type of a record"),
        ("smtp = { address = \"a:1\", hello = \"QUIT now\" }", "no greeting"),
        ("postgres = \"a:1\"", "`user` is missing"),
        ("agent = { address = \"a:1\", port = 2 }", "`port` beside `address`"),
        ("bfd = \"nobody\"", "there is no bfd nobody"),
    ] {
        let loaded = load_text(&format!("[[check]]\nname = \"x\"\n{line}\n"));
        let found: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
        assert!(found.iter().any(|finding| finding.contains(wanted)), "{line}: {found:?}");
        assert!(loaded.config.is_none(), "{line}");
    }
}

#[test]
fn a_vip_that_follows_its_backends_tracks_a_check_of_its_listeners() {
    use config::ready::{Effect, Probe};
    let text = TEMPLATE.replace("vrid = 1\n", "vrid = 1\neligible_when = \"any backend healthy\"\n");
    let config = load_text(&text).config.unwrap();
    let check = config.checks.iter().find(|check| check.name == "vip/forwarder").unwrap();
    assert_eq!(check.probe, Probe::Listeners { names: vec!["apiserver".into()] });
    let tracked: Vec<_> =
        config.instances[0].track_checks.iter().map(|track| (track.check.as_str(), track.effect)).collect();
    // From any priority down to 1, the least that a router may have (RFC 9568 section 5.2.4).
    assert_eq!(tracked, [("vip/forwarder", Effect::Weight { weight: -253, reverse: false })]);
    let written = config::to_toml(&config, &config::diagnostic::Diagnostics::default());
    assert_eq!(without_places(load_text(&written).config.unwrap()), without_places(config), "{written}");
    for (from, to, told) in [
        ("vrid = 1\n", "vrid = 1\npriority = 255\n", "`eligible_when` with priority 255"),
        ("10.0.0.100:6443", "10.0.0.99:6443", "no listener is on an address of this instance"),
        ("any backend healthy", "always", "\"always\" is no condition"),
    ] {
        let found = load_text(&text.replace(from, to)).diagnostics;
        assert!(found.iter().any(|finding| finding.to_string().contains(told)), "{told}");
    }
}
