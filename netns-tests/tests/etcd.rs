//! Three real etcd members with TLS behind vipd's forwarder; `etcdctl` goes on through a failover.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use netns_tests::host::Host;
use netns_tests::lab::Lab;
use netns_tests::observer::Monitor;
use netns_tests::peer::Peer;
use netns_tests::process::Process;
use netns_tests::turn::Turn;
use netns_tests::wire::Capture;
use netns_tests::{Outcome, Stamp, enabled, ensure, now, wait_until};

const VIP: &str = "10.77.0.100";

/// A directory with an authority and one certificate for everybody, made by openssl.
struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    fn make(lab: &Lab) -> Self {
        let directory = lab.client.directory.join("tls");
        std::fs::create_dir(&directory).expect("the lab's directory is ours");
        let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
        let mut names = vec![format!("IP:{VIP}"), "IP:127.0.0.1".to_owned()];
        names.extend(lab.others.iter().map(|host| format!("IP:{}", host.ipv4())));
        std::fs::write(directory.join("names"), format!("subjectAltName={}\n", names.join(",")))
            .expect("ours");
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let openssl = |words: &[&str]| lab.client.run(&[&["openssl"], words].concat());
        openssl(
            &[
                &["req", "-x509", "-days", "2", "-subj", "/CN=lab CA"],
                &key[..],
                &["-keyout", &path("ca.key"), "-out", &path("ca.pem")],
            ]
            .concat(),
        );
        openssl(
            &[
                &["req", "-subj", "/CN=etcd"],
                &key[..],
                &["-keyout", &path("key.pem"), "-out", &path("csr.pem")],
            ]
            .concat(),
        );
        openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            &path("csr.pem"),
            "-CA",
            &path("ca.pem"),
            "-CAkey",
            &path("ca.key"),
            "-CAcreateserial",
            "-extfile",
            &path("names"),
            "-out",
            &path("cert.pem"),
        ]);
        Self { directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).to_string_lossy().into_owned()
    }
}

/// One member of the cluster.
fn start_member(lab: &Lab, host: &Host, tls: &Certificates) -> Process {
    let cluster: Vec<String> =
        lab.others.iter().map(|member| format!("{}=https://{}:2380", member.name, member.ipv4())).collect();
    let mut command = host.command("etcd");
    command.args(["--name", host.name, "--data-dir"]).arg(host.directory.join("data"));
    for (option, value) in [
        ("--listen-client-urls", format!("https://{}:2379", host.ipv4())),
        ("--advertise-client-urls", format!("https://{}:2379", host.ipv4())),
        ("--listen-peer-urls", format!("https://{}:2380", host.ipv4())),
        ("--initial-advertise-peer-urls", format!("https://{}:2380", host.ipv4())),
        ("--initial-cluster", cluster.join(",")),
        ("--initial-cluster-state", "new".to_owned()),
        ("--client-cert-auth", "true".to_owned()),
        ("--trusted-ca-file", tls.path("ca.pem")),
        ("--cert-file", tls.path("cert.pem")),
        ("--key-file", tls.path("key.pem")),
        ("--peer-client-cert-auth", "true".to_owned()),
        ("--peer-trusted-ca-file", tls.path("ca.pem")),
        ("--peer-cert-file", tls.path("cert.pem")),
        ("--peer-key-file", tls.path("key.pem")),
    ] {
        command.arg(format!("{option}={value}"));
    }
    Process::start(command, &host.directory.join("etcd.log")).expect("etcd starts")
}

/// Both load balancers have the same configuration apart from the priority.
fn configuration(lab: &Lab, priority: u8) -> String {
    let backends: Vec<String> = lab
        .others
        .iter()
        .map(|member| format!("{{ name = \"{}\", address = \"{}:2379\" }}", member.name, member.ipv4()))
        .collect();
    format!(
        "[[instance]]\nname = \"etcd\"\ninterface = \"eth0\"\nvrid = 52\npriority = {priority}\n\
         advert_interval = \"100ms\"\naddresses = [\"{VIP}/24\"]\n\n\
         [[listener]]\nname = \"etcd\"\nbind = [\"{VIP}:2379\"]\n\
         check = {{ tcp = {{}}, interval = \"500ms\" }}\nbackends = [{}]\n",
        backends.join(", ")
    )
}

/// One `etcdctl` through the VIP.
#[derive(Debug)]
struct Operation {
    from: Stamp,
    to: Stamp,
    result: Result<String, String>,
}

fn etcdctl(client: &Host, tls: &Certificates, words: &[&str]) -> Operation {
    etcdctl_at(client, VIP, tls, words)
}

fn etcdctl_at(client: &Host, at: &str, tls: &Certificates, words: &[&str]) -> Operation {
    let from = now();
    let (ca, cert, key) = (tls.path("ca.pem"), tls.path("cert.pem"), tls.path("key.pem"));
    let endpoint = format!("https://{at}:2379");
    let common = [
        "etcdctl",
        "--endpoints",
        &endpoint,
        "--cacert",
        &ca,
        "--cert",
        &cert,
        "--key",
        &key,
        "--command-timeout",
        "1s",
        "--dial-timeout",
        "1s",
    ];
    let result = client.try_run(&[&common[..], words].concat());
    Operation { from, to: now(), result }
}

fn survives_a_failover(lab: &Lab) -> Outcome {
    let tls = Certificates::make(lab);
    let capture = Capture::start(lab);
    let (on_lb1, on_lb2) = (Monitor::start(&lab.lb1), Monitor::start(&lab.lb2));
    let _members: Vec<Process> = lab.others.iter().map(|host| start_member(lab, host, &tls)).collect();
    let mut active = Peer::start_toml(&lab.lb1, &configuration(lab, 200), "vipd");
    let mut backup = Peer::start_toml(&lab.lb2, &configuration(lab, 100), "vipd");
    wait_until("lb1 is active", Duration::from_secs(10), || on_lb1.holds(VIP) && !on_lb2.holds(VIP))?;
    wait_until("etcd answers through the VIP", Duration::from_secs(40), || {
        etcdctl(&lab.client, &tls, &["endpoint", "health"]).result.is_ok()
    })?;

    // Writes a counter and reads it back, again and again, while the active host dies.
    let mut operations: Vec<Operation> = Vec::new();
    let mut died: Option<Stamp> = None;
    let end = Instant::now() + Duration::from_secs(10);
    let killed_at = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        if died.is_none() && Instant::now() >= killed_at {
            // The host dies while an operation is under way.
            died = Some(thread::scope(|scope| {
                let running = scope.spawn(|| etcdctl(&lab.client, &tls, &["put", "counter", "in flight"]));
                let at = now();
                lab.silence(&lab.lb1);
                active.process.kill_family();
                operations.push(running.join().expect("no panic"));
                at
            }));
        }
        let value = operations.len().to_string();
        operations.push(etcdctl(&lab.client, &tls, &["put", "counter", &value]));
        let read = etcdctl(&lab.client, &tls, &["get", "counter", "--print-value-only"]);
        let wrote = operations.last().is_some_and(|operation| operation.result.is_ok());
        if let (true, Ok(text)) = (wrote, &read.result) {
            ensure(text.trim() == value, || format!("wrote {value}, read {text:?}"))?;
        }
        operations.push(read);
    }
    let died = died.expect("it died");
    ensure(on_lb2.holds(VIP), || "lb2 did not take over".to_owned())?;

    let failed: Vec<&Operation> = operations.iter().filter(|operation| operation.result.is_err()).collect();
    for operation in &failed {
        // Only what was under way when the host died, or began before the other one held the VIP.
        let moved = on_lb2.held(VIP).last().map_or(Stamp::MAX, |(from, _)| *from);
        ensure(operation.to >= died && operation.from <= moved + Duration::from_millis(50), || {
            format!("failed though nobody was dead (died {died:?}, moved {moved:?}): {operation:?}")
        })?;
    }
    let good_after = operations.iter().find(|operation| operation.from > died && operation.result.is_ok());
    let good_after = good_after.ok_or_else(|| "no operation succeeded after the failover".to_owned())?;
    // One that hangs ends by its own timeout of a second; the takeover itself takes 0.36 s.
    let outage = good_after.to - died;
    ensure(outage < Duration::from_millis(361 + 1_000 + 800), || {
        format!("no operation succeeded for {outage:?}")
    })?;
    let before =
        operations.iter().filter(|operation| operation.to < died && operation.result.is_ok()).count();
    let after =
        operations.iter().filter(|operation| operation.from > died && operation.result.is_ok()).count();
    ensure(before > 10 && after > 10, || format!("{before} operations before and {after} after"))?;
    println!(
        "{before} operations before, {after} after, {} failed, first success after {outage:?}",
        failed.len()
    );
    capture.check(false)?;
    backup.stop()
}

#[test]
fn etcdctl_goes_on_through_a_failover() {
    if !enabled(&["etcd", "etcdctl", "openssl"]) {
        return;
    }
    let _turn = Turn::alone();
    let lab = Lab::new(&["etcd1", "etcd2", "etcd3"]);
    survives_a_failover(&lab).unwrap_or_else(|failure| panic!("{}\n{}", failure.text, lab.report()));
}

/// Answers SRV of `_etcd-client-ssl._tcp.lab` with three members, and their addresses, by RFC 1035 and RFC 2782.
const NAME_SERVER: &str = r#"
import socket, struct, sys
members = dict(pair.split("=") for pair in sys.argv[1:])
def packed(name):
    return b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\0"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 53))
while True:
    q, peer = s.recvfrom(1500)
    at, labels = 12, []
    while q[at]:
        labels.append(q[at + 1:at + 1 + q[at]].decode()); at += 1 + q[at]
    name, kind = ".".join(labels).lower(), struct.unpack(">H", q[at + 1:at + 3])[0]
    records = []
    if name == "_etcd-client-ssl._tcp.lab" and kind == 33:
        records = [struct.pack(">HHH", 0, 1, 2379) + packed(m + ".lab") for m in members]
    elif name.endswith(".lab") and kind == 1 and name[:-4] in members:
        records = [socket.inet_aton(members[name[:-4]])]
    known = name.endswith(".lab")
    head = q[:2] + bytes([0x85, 0x80 if known else 0x83]) + struct.pack(">HHHH", 1, len(records), 0, 0)
    answers = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 1, len(r)) + r for r in records)
    s.sendto(head + q[12:at + 5] + answers, peer)
"#;

fn gateway() -> &'static str {
    "[[listener]]\nname = \"etcd\"\nbind = [\"127.0.0.1:2379\"]\n\
     check = { tcp = {}, interval = \"200ms\", fall = 1, rise = 1 }\n\
     backends = [{ name = \"members\", srv = \"_etcd-client-ssl._tcp.lab\" }]\n\n\
     [[health_page]]\nbind = \"127.0.0.1:8081\"\nlisteners = [\"etcd\"]\nleast = 3\n"
}

fn gateway_goes_on_without_a_member(lab: &Lab) -> Outcome {
    let tls = Certificates::make(lab);
    let client = &lab.client;
    client.run(&["ip", "link", "set", "lo", "up"]);
    let resolv = client.directory.join("resolv.conf");
    std::fs::write(&resolv, "nameserver 127.0.0.1\noptions timeout:1\n").expect("ours");
    client.bind(&resolv, Path::new("/etc/resolv.conf"));
    let mut command = client.command("python3");
    command.args(["-c", NAME_SERVER]);
    command.args(lab.others.iter().map(|member| format!("{}={}", member.name, member.ipv4())));
    let _names = Process::start(command, &client.directory.join("names.log")).expect("python3 starts");
    let mut members: Vec<Process> = lab.others.iter().map(|host| start_member(lab, host, &tls)).collect();
    let mut vipd = Peer::start_toml(client, gateway(), "vipd");
    let etcdctl = |words: &[&str]| etcdctl_at(client, "127.0.0.1", &tls, words);
    wait_until("all members are found and up", Duration::from_secs(40), || {
        client.try_run(&["curl", "-sf", "http://127.0.0.1:8081/healthz"]).is_ok()
    })?;
    wait_until("etcd answers", Duration::from_secs(40), || etcdctl(&["put", "counter", "0"]).result.is_ok())?;

    // A follower dies: an election of etcd's own would be another test.
    let leads = |host: &Host| {
        let status =
            etcdctl_at(client, &host.ipv4(), &tls, &["endpoint", "status"]).result.unwrap_or_default();
        status.split(", ").nth(4) == Some("true")
    };
    let victim = lab.others.iter().position(|host| !leads(host)).expect("two of three follow");
    let common =
        ["--cacert", &tls.path("ca.pem"), "--cert", &tls.path("cert.pem"), "--key", &tls.path("key.pem")];
    let mut command = client.command("etcdctl");
    command.args(["--endpoints", "https://127.0.0.1:2379"]).args(common).args(["watch", "counter"]);
    let mut watch = Process::start(command, &client.directory.join("watch.log")).expect("etcdctl starts");
    let mut operations = Vec::new();
    let mut died = None;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(6) {
        if died.is_none() && started.elapsed() > Duration::from_secs(2) {
            died = Some(now());
            members[victim].kill_family();
        }
        let value = operations.len().to_string();
        operations.push(etcdctl(&["put", "counter", &value]));
        operations.push(etcdctl(&["get", "counter", "--print-value-only"]));
    }
    let died = died.expect("it died");
    let failed: Vec<&Operation> = operations.iter().filter(|operation| operation.result.is_err()).collect();
    for operation in &failed {
        ensure(operation.from <= died && operation.to >= died, || {
            format!("failed though it was not in flight when the member died ({died:?}): {operation:?}")
        })?;
    }
    println!("{} operations, {} failed", operations.len(), failed.len());
    ensure(operations.len() > 40, || format!("{} operations", operations.len()))?;
    ensure(etcdctl(&["put", "counter", "last"]).result.is_ok(), || "no last word".to_owned())?;
    watch.wait_for_output("last", Duration::from_secs(10))?;
    let status = vipd.status(client)?;
    let names = &status["listeners"][0]["names"][0];
    ensure(names["addresses"].as_array().is_some_and(|found| found.len() == 3), || names.to_string())?;
    vipd.stop()
}

#[test]
fn etcdctl_goes_on_through_a_gateway_without_a_member() {
    if !enabled(&["etcd", "etcdctl", "openssl", "python3", "curl"]) {
        return;
    }
    let _turn = Turn::alone();
    let lab = Lab::new(&["etcd1", "etcd2", "etcd3"]);
    gateway_goes_on_without_a_member(&lab)
        .unwrap_or_else(|failure| panic!("{}\n{}", failure.text, lab.report()));
}
