//! Backends hear who the client is: by PROXY headers from and to HAProxy and nginx, and by its own address.

use std::path::Path;
use std::time::Duration;

use netns_tests::host::Host;
use netns_tests::lab::Lab;
use netns_tests::peer::Peer;
use netns_tests::process::Process;
use netns_tests::turn::Turn;
use netns_tests::{Outcome, enabled, ensure, wait_until};

/// The backends' own network, behind lb1.
const BEHIND: [&str; 2] = ["10.88.0.1", "10.88.0.2"];

/// Moves the backend from the bridge to a cable of its own to lb1, through which its answers go.
fn move_behind(lab: &Lab, backend: &Host) {
    backend.run(&["ip", "link", "set", "eth0", "down"]);
    let path = backend.net_path();
    lab.lb1.run(&["ip", "link", "add", "behind", "type", "veth", "peer", "name", "front", "netns", &path]);
    lab.lb1.run(&["ip", "address", "add", &format!("{}/24", BEHIND[0]), "dev", "behind"]);
    lab.lb1.run(&["ip", "link", "set", "behind", "up"]);
    backend.run(&["ip", "address", "add", &format!("{}/24", BEHIND[1]), "dev", "front"]);
    backend.run(&["ip", "link", "set", "front", "up"]);
    backend.run(&["ip", "link", "set", "lo", "up"]);
    backend.run(&["ip", "route", "add", "default", "via", BEHIND[0]]);
}

/// HAProxy says on 8001, and nginx on 8002, what PROXY headers say; on 8000 the former says whose the connection is.
fn start_backends(backend: &Host) -> Vec<Process> {
    let directory = &backend.directory;
    let haproxy = directory.join("haproxy.cfg");
    let says = "http-request return status 200 content-type text/plain lf-string \"%[src]:%[src_port] %[dst]:%[dst_port]\"";
    std::fs::write(
        &haproxy,
        format!(
            "defaults\n mode http\n timeout connect 1s\n timeout client 5s\n timeout server 5s\n\
             frontend plain\n bind :8000\n {says}\nfrontend proxied\n bind :8001 accept-proxy\n {says}\n"
        ),
    )
    .expect("ours");
    let nginx = directory.join("nginx.conf");
    let here = directory.display();
    std::fs::write(
        &nginx,
        format!(
            "daemon off;\nuser root;\npid {here}/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n access_log off;\n \
             client_body_temp_path {here}/body;\n proxy_temp_path {here}/proxy;\n fastcgi_temp_path {here}/fastcgi;\n \
             uwsgi_temp_path {here}/uwsgi;\n scgi_temp_path {here}/scgi;\n \
             server {{\n listen 8002 proxy_protocol;\n default_type text/plain;\n return 200 \
             \"$proxy_protocol_addr:$proxy_protocol_port $proxy_protocol_server_addr:$proxy_protocol_server_port\";\n }}\n}}\n"
        ),
    )
    .expect("ours");
    vec![start(backend, "haproxy", &["-db", "-f"], &haproxy), start(backend, "nginx", &["-c"], &nginx)]
}

/// In front of lb1: HAProxy sends version 2, nginx version 1.
fn start_balancers(lab: &Lab) -> Vec<Process> {
    let (host, to) = (&lab.stranger, lab.lb1.ipv4());
    let haproxy = host.directory.join("haproxy.cfg");
    std::fs::write(
        &haproxy,
        format!(
            "defaults\n mode tcp\n timeout connect 1s\n timeout client 5s\n timeout server 5s\n\
             listen l\n bind :9001\n server lb1 {to}:9000 send-proxy-v2 proxy-v2-options crc32c,unique-id\n\
             listen m\n bind :9003\n server lb1 {to}:9100 send-proxy\n"
        ),
    )
    .expect("ours");
    let nginx = host.directory.join("nginx.conf");
    std::fs::write(
        &nginx,
        format!(
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\nuser root;\npid {}/nginx.pid;\n\
             error_log stderr;\nevents {{}}\nstream {{\n server {{\n listen 9002;\n proxy_pass {to}:9000;\n \
             proxy_protocol on;\n }}\n}}\n",
            host.directory.display()
        ),
    )
    .expect("ours");
    vec![start(host, "haproxy", &["-db", "-f"], &haproxy), start(host, "nginx", &["-c"], &nginx)]
}

fn start(host: &Host, program: &str, options: &[&str], file: &Path) -> Process {
    let mut command = host.command(program);
    command.args(options).arg(file);
    Process::start(command, &host.directory.join(format!("{program}.log"))).expect("it is installed")
}

fn configuration(lab: &Lab) -> String {
    let (at, backend) = (lab.lb1.ipv4(), BEHIND[1]);
    let listener = |port: u16, more: &str, to: u16, of_backend: &str| {
        format!(
            "[[listener]]\nname = \"l{port}\"\nbind = [\"{at}:{port}\"]\n{more}\n\
             backends = [{{ address = \"{backend}:{to}\"{of_backend} }}]\n\n"
        )
    };
    let trusted = format!("accept_proxy = [\"{}/32\"]", lab.stranger.ipv4());
    [
        listener(7001, "", 8001, ", send_proxy = \"v1\""),
        listener(7002, "", 8001, ", send_proxy = \"v2\""),
        listener(7003, "", 8002, ", send_proxy = \"v1\""),
        listener(7004, "", 8002, ", send_proxy = \"v2\""),
        listener(7000, "transparent = true", 8000, ""),
        listener(9000, &trusted, 8001, ", send_proxy = \"v2\""),
        // Whom a header names is who connects to the backend.
        listener(9100, &format!("{trusted}\ntransparent = true"), 8000, ""),
    ]
    .concat()
}

/// What the backend says that a connection from the client to this address is.
fn asked(client: &Host, host: &str, port: u16) -> Result<(String, u16), String> {
    let url = format!("http://{host}:{port}/");
    let said = client.try_run(&["curl", "-sS", "-m", "5", "-w", " %{local_port}", &url])?;
    let (said, own) = said.rsplit_once(' ').ok_or_else(|| said.clone())?;
    Ok((said.to_owned(), own.parse().map_err(|_| said.to_owned())?))
}

fn backends_hear_who_it_is(lab: &Lab) -> Outcome {
    let (client, backend) = (&lab.client, &lab.others[0]);
    move_behind(lab, backend);
    // docs/operations.md, "Transparent": answers to the clients come back to the sockets of vipd.
    lab.lb1.run(&["ip", "rule", "add", "iif", "behind", "ipproto", "tcp", "sport", "8000", "lookup", "100"]);
    lab.lb1.run(&["ip", "route", "add", "local", "default", "dev", "lo", "table", "100"]);
    let _backends = start_backends(backend);
    let _balancers = start_balancers(lab);
    let mut vipd = Peer::start_toml(&lab.lb1, &configuration(lab), "vipd");
    let (lb1, own) = (lab.lb1.ipv4(), client.ipv4());
    for port in [7001, 7003, 7000] {
        wait_until(&format!("port {port} answers"), Duration::from_secs(20), || {
            asked(client, &lb1, port).is_ok_and(|(said, _)| said.starts_with(&own))
        })?;
    }
    for port in [7001, 7002, 7003, 7004] {
        let (said, own_port) = asked(client, &lb1, port)?;
        let wanted = format!("{own}:{own_port} {lb1}:{port}");
        ensure(said == wanted, || format!("port {port}: {said:?}, expected {wanted:?}"))?;
    }
    // The port is another one; the destination is the backend itself.
    let (said, _) = asked(client, &lb1, 7000)?;
    ensure(said.starts_with(&format!("{own}:")) && said.ends_with(&format!(" {}:8000", BEHIND[1])), || {
        format!("transparent: {said:?}")
    })?;

    let stranger = lab.stranger.ipv4();
    for port in [9001, 9002, 9003] {
        wait_until(&format!("the balancer on {port}"), Duration::from_secs(20), || {
            asked(client, &stranger, port).is_ok()
        })?;
    }
    for port in [9001, 9002] {
        let (said, own_port) = asked(client, &stranger, port)?;
        let wanted = format!("{own}:{own_port} {stranger}:{port}");
        ensure(said == wanted, || format!("through {port}: {said:?}, expected {wanted:?}"))?;
    }
    let (said, _) = asked(client, &stranger, 9003)?;
    ensure(said.starts_with(&format!("{own}:")), || format!("transparent by header: {said:?}"))?;
    // From somebody else a header is data, which is no HTTP.
    let said = client.run(&["curl", "-sS", "-m", "5", "--haproxy-protocol", &format!("http://{lb1}:7000/")]);
    ensure(said.contains("400 Bad request"), || format!("untrusted header: {said:?}"))?;
    vipd.stop()
}

#[test]
fn backends_hear_who_the_client_is() {
    if !enabled(&["haproxy", "nginx", "curl"]) {
        return;
    }
    let _turn = Turn::alone();
    let lab = Lab::new(&["web"]);
    backends_hear_who_it_is(&lab).unwrap_or_else(|failure| panic!("{}\n{}", failure.text, lab.report()));
}

/// The refusal comes before anything is half done.
#[test]
fn a_transparent_listener_without_the_capability_is_refused() {
    if !enabled(&["setpriv"]) {
        return;
    }
    let _turn = Turn::alone();
    let lab = Lab::new(&[]);
    let file = lab.lb1.directory.join("transparent.toml");
    let listener = "[[listener]]\nname = \"l\"\nbind = [\"127.0.0.1:7000\"]\ntransparent = true\n\
                    backends = [{ address = \"127.0.0.1:1\" }]\n";
    std::fs::write(&file, listener).expect("ours");
    let vipd = netns_tests::peer::vipd();
    let said = lab
        .lb1
        .try_run(&[
            "timeout",
            "10",
            "setpriv",
            "--bounding-set=-net_admin",
            "--inh-caps=-net_admin",
            &vipd.to_string_lossy(),
            "run",
            "-c",
            &file.to_string_lossy(),
            "--socket",
            &lab.lb1.directory.join("s").to_string_lossy(),
        ])
        .expect_err("it is refused");
    assert!(said.contains("missing CAP_NET_ADMIN: a listener is transparent"), "{said}");
}
