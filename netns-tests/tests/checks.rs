//! vipd's checks against servers that people run: etcd, nginx, openssl, HAProxy, Redis, dnsmasq, vipd's own BFD.

use std::path::Path;
use std::time::Duration;

use netns_tests::certificates::Certificates;
use netns_tests::host::Host;
use netns_tests::lab::Lab;
use netns_tests::peer::Peer;
use netns_tests::process::{Process, read_lossy};
use netns_tests::{Outcome, enabled, ensure, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

const VIP: &str = "10.77.0.100";
const LIMIT: Duration = Duration::from_secs(20);

/// etcd on 2379 with client certificates; nginx on 443, 444 (expired) and 80; openssl on 4433; HAProxy on 4443; Redis on
/// 6379, with TLS on 6380, with a password on 6381; dnsmasq on 53, which knows one name.
fn start_servers(server: &Host, tls: &Certificates) -> Vec<Process> {
    let address = server.ipv4();
    let path = |name: &str| tls.path(name);
    let log = |name: &str| server.directory.join(name);
    let mut etcd = server.command("etcd");
    etcd.args(["--name", "m", "--data-dir"]).arg(server.directory.join("data"));
    for (option, value) in [
        ("listen-client-urls", format!("https://{address}:2379")),
        ("advertise-client-urls", format!("https://{address}:2379")),
        ("client-cert-auth", "true".to_owned()),
        ("trusted-ca-file", path("ca.pem")),
        ("cert-file", path("cert.pem")),
        ("key-file", path("key.pem")),
    ] {
        etcd.arg(format!("--{option}={value}"));
    }
    let directory = server.directory.to_string_lossy().into_owned();
    let nginx_conf = format!(
        "daemon off; pid {directory}/nginx.pid; error_log {directory}/nginx-error.log info;\n\
         events {{ }}\nhttp {{\n  access_log {directory}/nginx-access.log;\n  \
         client_body_temp_path {directory}/t1; proxy_temp_path {directory}/t2; fastcgi_temp_path {directory}/t3;\n  \
         uwsgi_temp_path {directory}/t4; scgi_temp_path {directory}/t5;\n  ssl_certificate_key tls/key.pem;\n  \
         server {{ listen {address}:80; listen {address}:443 ssl; ssl_certificate tls/cert.pem;\n    \
         location / {{ add_header X-Node one; return 200 'state: ready'; }} }}\n  \
         server {{ listen {address}:444 ssl; ssl_certificate tls/old.pem; return 200; }}\n}}\n"
    );
    std::fs::write(log("nginx.conf"), nginx_conf).expect("the lab's directory is ours");
    let mut nginx = server.command("nginx");
    nginx.args(["-p", &directory, "-c", "nginx.conf"]);
    let mut openssl = server.command("openssl");
    openssl.args([
        "s_server",
        "-quiet",
        "-www",
        "-tls1_2",
        "-accept",
        "4433",
        "-cert",
        &path("cert.pem"),
        "-key",
    ]);
    openssl.arg(path("key.pem"));
    let pem = read_lossy(Path::new(&path("cert.pem"))) + &read_lossy(Path::new(&path("key.pem")));
    std::fs::write(log("both.pem"), pem).expect("the lab's directory is ours");
    let haproxy_cfg = format!(
        "global\n  log stdout format raw local0\ndefaults\n  mode tcp\n  log global\n  timeout client 5s\n  timeout server 5s\n  \
         timeout connect 5s\nfrontend f\n  bind {address}:4443 ssl crt {} accept-proxy\n  tcp-request content reject\n",
        log("both.pem").display()
    );
    std::fs::write(log("haproxy.cfg"), haproxy_cfg).expect("the lab's directory is ours");
    let mut haproxy = server.command("haproxy");
    haproxy.arg("-f").arg(log("haproxy.cfg"));
    let redis = |words: &[&str]| {
        let mut redis = server.command("redis-server");
        redis
            .args(["--bind", &address, "--protected-mode", "no", "--save", "", "--dir", &directory])
            .args(words);
        redis
    };
    let (ca, cert, key) = (path("ca.pem"), path("cert.pem"), path("key.pem"));
    let files = ["--tls-ca-cert-file", &ca, "--tls-cert-file", &cert, "--tls-key-file", &key];
    let open = ["--port", "6379", "--tls-port", "6380", "--tls-auth-clients", "no"];
    let mut dnsmasq = server.command("dnsmasq");
    dnsmasq.args([
        "--keep-in-foreground",
        "--bind-interfaces",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--pid-file=",
    ]);
    dnsmasq.arg(format!("--listen-address={address}")).arg("--address=/a.lab/192.0.2.1");
    [
        (etcd, "etcd.log"),
        (nginx, "nginx.log"),
        (openssl, "openssl.log"),
        (haproxy, "haproxy.log"),
        (redis(&[&open[..], &files].concat()), "redis.log"),
        (redis(&["--port", "6381", "--requirepass", "secret"]), "redis-locked.log"),
        (dnsmasq, "dnsmasq.log"),
    ]
    .map(|(command, name)| Process::start(command, &log(name)).expect("the server starts"))
    .into()
}

fn configuration(lab: &Lab, server: &Host, tls: &Certificates) -> String {
    let address = server.ipv4();
    let path = |name: &str| tls.path(name);
    let ca = format!("ca_file = \"{}\"", path("ca.pem"));
    let client = format!(
        "client_certificate_file = \"{}\", client_key_file = \"{}\"",
        path("cert.pem"),
        path("key.pem")
    );
    let checks = [
        ("etcd", format!("etcd = {{ address = \"{address}:2379\", {ca}, {client} }}")),
        ("etcd-tls", format!("tls = {{ address = \"{address}:2379\", {ca}, {client} }}")),
        (
            "nginx",
            format!(
                "https = {{ address = \"{address}:443\", {ca}, expiry_warning = \"1d\", expect = [{{ header = \"X-Node\", equals = \"one\" }}, \
                 {{ regex = \"^state: (ready|idle)$\" }}], then = [{{ path = \"/again\" }}] }}"
            ),
        ),
        ("nginx-other", format!("http = {{ address = \"{address}:80\", body_contains = \"draining\" }}")),
        ("expired", format!("https = {{ address = \"{address}:444\", {ca} }}")),
        ("expired-insecure", format!("https = {{ address = \"{address}:444\", insecure = true }}")),
        ("openssl", format!("tls = {{ address = \"{address}:4433\", {ca} }}")),
        ("nginx-is-not-tls", format!("tls = {{ address = \"{address}:80\", {ca} }}")),
        ("haproxy", format!("tls = {{ address = \"{address}:4443\", {ca} }}\nsend_proxy = \"v2\"")),
        ("redis", format!("redis = \"{address}:6379\"")),
        ("redis-tls", format!("redis = {{ address = \"{address}:6380\", tls = true, {ca} }}")),
        ("redis-locked", format!("redis = \"{address}:6381\"")),
        ("dns", format!("dns = {{ address = \"{address}:53\", name = \"a.lab\", type = \"A\" }}")),
        ("dns-root", format!("dns = \"{address}:53\"")),
        (
            "etcd-is-not-redis",
            format!("redis = {{ address = \"{address}:2379\", tls = true, {ca}, {client} }}"),
        ),
        ("ping", format!("ping = \"{address}\"\nsource = \"{}\"", lab.lb1.ipv4())),
        ("ping6", format!("ping = \"{}\"", server.ipv6())),
        ("ping-nobody", "ping = \"10.77.0.99\"".to_owned()),
        ("udp-nobody", format!("udp = {{ address = \"{address}:9\" }}")),
        ("no-such-name", "tcp = \"does-not-exist.invalid:80\"".to_owned()),
        ("bfd", "bfd = \"lb2\"".to_owned()),
    ];
    let checks: String = checks
        .iter()
        .map(|(name, probe)| {
            format!("[[check]]\nname = \"{name}\"\n{probe}\ninterval = \"100ms\"\ntimeout = \"2s\"\nfall = 2\nrise = 1\n")
        })
        .collect();
    format!(
        "{}{checks}[[instance]]\nname = \"v\"\ninterface = \"eth0\"\nvrid = 52\naddresses = [\"{VIP}/24\"]\n\
         track = [{{ check = \"etcd\", weight = -1 }}]\n",
        session("lb2", &lab.lb1, &lab.lb2)
    )
}

fn session(name: &str, own: &Host, other: &Host) -> String {
    format!(
        "[[bfd]]\nname = \"{name}\"\nneighbor = \"{}\"\nsource = \"{}\"\nmin_rx = \"100ms\"\nmin_tx = \"100ms\"\n",
        other.ipv4(),
        own.ipv4()
    )
}

fn check(status: &Value, name: &str) -> Value {
    let found = status["checks"].as_array().and_then(|all| all.iter().find(|one| one["name"] == name));
    found.cloned().unwrap_or(Value::Null)
}

/// Waits until the check says this.
fn says(vipd: &Peer, lab: &Lab, name: &str, health: &str, detail: &str) -> Outcome {
    let is_said = || {
        vipd.status(&lab.lb1).is_ok_and(|status| {
            let check = check(&status, name);
            check["health"] == health && check["detail"].as_str().is_some_and(|said| said.contains(detail))
        })
    };
    let waited = wait_until(&format!("{name} is {health}: {detail}"), LIMIT, is_said);
    waited.map_err(|mut failure| {
        let status = vipd.status(&lab.lb1).unwrap_or_default();
        failure.text += &format!("; it says {}", check(&status, name));
        failure
    })
}

fn findings(vipd: &Peer, lab: &Lab, name: &str) -> Outcome<String> {
    Ok(check(&vipd.status(&lab.lb1)?, name)["findings"].to_string())
}

/// What etcd writes when a handshake does not come to its end.
fn complaints(server: &Host) -> usize {
    read_lossy(&server.directory.join("etcd.log")).matches("rejected connection").count()
}

fn speaks_with_them(lab: &Lab) -> Outcome {
    let server = lab.others.first().ok_or_else(|| "no server".to_owned())?;
    let tls = Certificates::make(server, &[]);
    let mut servers = start_servers(server, &tls);
    servers[0].wait_for_output("serving client", LIMIT)?;
    let mut other = Peer::start_toml(&lab.lb2, &session("lb1", &lab.lb2, &lab.lb1), "other");
    let mut vipd = Peer::start_toml(&lab.lb1, &configuration(lab, server, &tls), "vipd");
    for (name, health, detail) in [
        ("etcd", "up", "healthy"),
        ("etcd-tls", "up", "TLS handshake completed"),
        ("nginx", "up", "status 200, status 200"),
        ("nginx-other", "down", "the body does not contain \"draining\""),
        ("expired", "down", "certificate not trusted: it has expired"),
        ("expired-insecure", "up", "status 200"),
        ("openssl", "up", "TLS handshake completed"),
        ("nginx-is-not-tls", "down", "the answer is not TLS"),
        ("haproxy", "up", "TLS handshake completed"),
        ("redis", "up", "PONG"),
        ("redis-tls", "up", "PONG"),
        ("redis-locked", "down", "the server says NOAUTH"),
        ("dns", "up", "NOERROR, 1 record"),
        ("dns-root", "down", "the name server says REFUSED"),
        ("etcd-is-not-redis", "down", ""),
        ("ping", "up", "answered in"),
        ("ping6", "up", "answered in"),
        ("ping-nobody", "down", ""),
        ("udp-nobody", "down", "port unreachable"),
        ("no-such-name", "down", "does-not-exist.invalid not resolved"),
        ("bfd", "up", "session lb2 is up"),
    ] {
        says(&vipd, lab, name, health, detail)?;
    }
    let said = findings(&vipd, lab, "etcd")?;
    // In its first second it has five whole days.
    let is_wanted = ["4", "5"].iter().any(|days| {
        said == format!("[\"certificate expires in {days} days\",\"certificate is not for {VIP}\"]")
    });
    ensure(is_wanted, || format!("findings of etcd: {said}"))?;
    let said = findings(&vipd, lab, "expired-insecure")?;
    ensure(said.contains("certificate has expired 1 day ago"), || format!("findings of expired: {said}"))?;
    ensure(findings(&vipd, lab, "nginx")? == "[]", || "findings of nginx".to_owned())?;

    // Ten handshakes a second, and etcd has nothing to say.
    let runs = |name: &str| -> Outcome<u64> {
        Ok(check(&vipd.status(&lab.lb1)?, name)["succeeded"].as_u64().unwrap_or_default())
    };
    wait_until("30 handshakes with etcd", LIMIT, || runs("etcd-tls").is_ok_and(|runs| runs >= 30))?;
    ensure(complaints(server) == 0, || format!("etcd complains:\n{}", servers[0].output()))?;
    let heads = read_lossy(&server.directory.join("nginx-access.log"));
    ensure(heads.contains("GET /again HTTP/1.1"), || format!("nginx was asked:\n{heads}"))?;

    // A member that hangs is noticed by its silence, and comes back.
    servers[0].signal(Signal::SIGSTOP);
    says(&vipd, lab, "etcd", "down", "after 2 s")?;
    servers[0].signal(Signal::SIGCONT);
    says(&vipd, lab, "etcd", "up", "healthy")?;
    // Killed: one that is stopped says so, and then nothing is wrong with the path (RFC 5882 section 4.2).
    other.process.kill_family();
    says(&vipd, lab, "bfd", "down", "session lb2 is down")?;

    // The counter-test: a bare connect is a handshake that never begins, and etcd does say so.
    vipd.stop()?;
    let before = complaints(server);
    let bare = format!("[[check]]\nname = \"bare\"\ntcp = \"{}:2379\"\n", server.ipv4());
    let mut vipd = Peer::start_toml(&lab.lb1, &bare, "bare");
    wait_until("etcd complains of a bare connect", LIMIT, || complaints(server) > before)?;
    vipd.stop()
}

#[test]
fn checks_speak_with_the_servers_that_people_run() {
    if !enabled(&["etcd", "openssl", "nginx", "haproxy", "redis-server", "dnsmasq"]) {
        return;
    }
    let lab = Lab::new(&["server"]);
    speaks_with_them(&lab).unwrap_or_else(|failure| panic!("{}\n{}", failure.text, lab.report()));
}
