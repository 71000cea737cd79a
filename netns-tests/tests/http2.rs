//! curl over HTTP/2 through the forwarder to three nginx: long downloads, a reload in their middle, a server that dies.

use std::time::{Duration, Instant};

use netns_tests::certificates::Certificates;
use netns_tests::host::Host;
use netns_tests::lab::Lab;
use netns_tests::peer::Peer;
use netns_tests::process::{Process, read_lossy};
use netns_tests::turn::Turn;
use netns_tests::{Outcome, Stamp, enabled, ensure, now, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);
/// Connections at a time, three for each server; each has [`STREAMS`] downloads.
const CONNECTIONS: usize = 9;
const STREAMS: usize = 3;
/// Octets of a download, and how many come in a second: five seconds long.
const SIZE: usize = 500_000;
const RATE: usize = 100_000;

fn start_nginx(host: &Host, tls: &Certificates) -> Outcome<Process> {
    let directory = host.directory.to_string_lossy().into_owned();
    let content: Vec<u8> = (0..SIZE).map(|n| (n / 251 % 256) as u8).collect();
    std::fs::write(host.directory.join("large"), content).map_err(|error| error.to_string())?;
    // One process, of the user who may read the files.
    let text = format!(
        "daemon off; master_process off; user root; pid {directory}/nginx.pid; error_log {directory}/nginx-error.log;\nevents {{ }}\n\
         http {{\n  access_log off; root {directory};\n  client_body_temp_path {directory}/t1; proxy_temp_path {directory}/t2;\n  \
         fastcgi_temp_path {directory}/t3; uwsgi_temp_path {directory}/t4; scgi_temp_path {directory}/t5;\n  \
         server {{ listen {}:443 ssl http2; ssl_certificate {}; ssl_certificate_key {};\n    location /name {{ return 200 '{}'; }}\n    \
         location /large {{ limit_rate {RATE}; }} }}\n}}\n",
        host.ipv4(),
        tls.path("cert.pem"),
        tls.path("key.pem"),
        host.name
    );
    std::fs::write(host.directory.join("nginx.conf"), text).map_err(|error| error.to_string())?;
    let mut nginx = host.command("nginx");
    nginx.args(["-p", &directory, "-c", "nginx.conf"]);
    Process::start(nginx, &host.directory.join("nginx.log")).map_err(|error| error.to_string().into())
}

fn configuration(lab: &Lab, tls: &Certificates, weight: u16) -> String {
    let backends: Vec<String> = lab
        .others
        .iter()
        .map(|host| format!("{{ address = \"{}:443\", weight = {weight} }}", host.ipv4()))
        .collect();
    format!(
        "[[listener]]\nname = \"https\"\nbind = [\"{}:443\"]\nbalance = \"roundrobin\"\nbackends = [{}]\n\
         check = {{ https = {{ path = \"/name\", ca_file = \"{}\" }}, interval = \"200ms\", timeout = \"2s\", fall = 2, rise = 1 }}\n",
        lab.lb1.ipv4(),
        backends.join(", "),
        tls.path("ca.pem")
    )
}

/// Several downloads as streams of one connection; curl writes what became of each.
fn download(lab: &Lab, tls: &Certificates, number: usize) -> Outcome<Process> {
    let address = lab.lb1.ipv4();
    let mut curl = lab.client.command("curl");
    curl.args(["-sS", "--http2", "--cacert", &tls.path("ca.pem"), "--limit-rate", &RATE.to_string()]);
    curl.args(["--parallel", "-w", "%{http_version} %{http_code} %{size_download} %{exitcode}\n"]);
    for stream in 0..STREAMS {
        curl.arg("-o").arg(lab.client.directory.join(format!("{number}.{stream}")));
        curl.arg(format!("https://{address}/large"));
    }
    Process::start(curl, &lab.client.directory.join(format!("curl.{number}")))
        .map_err(|error| error.to_string().into())
}

fn backends(vipd: &Peer, lab: &Lab) -> Vec<Value> {
    let status = vipd.status(&lab.lb1).unwrap_or_default();
    status["listeners"][0]["backends"].as_array().cloned().unwrap_or_default()
}

fn sessions(vipd: &Peer, lab: &Lab) -> Vec<u64> {
    backends(vipd, lab).iter().map(|backend| backend["sessions"].as_u64().unwrap_or_default()).collect()
}

fn healthy(vipd: &Peer, lab: &Lab) -> usize {
    backends(vipd, lab).iter().filter(|backend| backend["health"] == "up").count()
}

fn goes_on(lab: &Lab) -> Outcome {
    let mut names: Vec<String> = lab.others.iter().map(|host| format!("IP:{}", host.ipv4())).collect();
    names.push(format!("IP:{}", lab.lb1.ipv4()));
    let tls = Certificates::make(&lab.lb1, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut servers = Vec::new();
    for host in &lab.others {
        servers.push(start_nginx(host, &tls)?);
    }
    let mut vipd = Peer::start_toml(&lab.lb1, &configuration(lab, &tls, 1), "vipd");
    wait_until("all servers are up", LIMIT, || healthy(&vipd, lab) == 3)?;

    let mut downloads = Vec::new();
    for number in 0..CONNECTIONS {
        downloads.push(download(lab, &tls, number)?);
    }
    wait_until("three connections for each server", LIMIT, || sessions(&vipd, lab) == [3, 3, 3])?;
    std::fs::write(lab.lb1.directory.join("vipd.toml"), configuration(lab, &tls, 5))
        .map_err(|error| error.to_string())?;
    vipd.process.signal(Signal::SIGHUP);
    wait_until("the new weights are in use", LIMIT, || {
        vipd.status(&lab.lb1).is_ok_and(|status| status["listeners"][0]["backends"][0]["weight"] == 5)
    })?;
    ensure(sessions(&vipd, lab) == [3, 3, 3], || format!("sessions after it: {:?}", sessions(&vipd, lab)))?;

    // Short requests all the time, each over a new connection; a server dies among them.
    let short = ["curl", "-sSf", "--http2", "--max-time", "5", "--cacert", &tls.path("ca.pem")];
    let url = format!("https://{}/name", lab.lb1.ipv4());
    let mut asked: Vec<(Stamp, Stamp, Result<String, String>)> = Vec::new();
    let (mut died, started) = (None, Instant::now());
    while started.elapsed() < Duration::from_secs(3) {
        if died.is_none() && started.elapsed() > Duration::from_secs(1) {
            let from = now();
            servers[0].kill_family();
            died = Some((from, now()));
        }
        let from = now();
        let answer = lab.client.try_run(&[&short[..], &[&url]].concat());
        asked.push((from, now(), answer));
    }
    let (died, dead) = died.ok_or_else(|| "nobody died".to_owned())?;
    for (from, to, result) in &asked {
        ensure(result.is_ok() || *from <= dead && *to >= died, || {
            format!(
                "failed though it was not in flight when the server died ({died:?} to {dead:?}): {from:?} {to:?} {result:?}"
            )
        })?;
    }
    let after = asked.iter().filter(|(from, ..)| *from > dead).count();
    ensure(after >= 5, || format!("{after} requests after the death"))?;
    wait_until("the check notices", LIMIT, || healthy(&vipd, lab) == 2)?;

    wait_until("the downloads end", LIMIT, || downloads.iter_mut().all(|curl| curl.ended().is_some()))?;
    let good = format!("2 200 {SIZE} 0");
    let whole = std::fs::read(lab.others[1].directory.join("large")).map_err(|error| error.to_string())?;
    let mut complete = 0;
    for number in 0..CONNECTIONS {
        let said = read_lossy(&lab.client.directory.join(format!("curl.{number}")));
        let streams = said.lines().filter(|line| *line == good).count();
        ensure(streams == STREAMS || streams == 0, || {
            format!("some streams of a connection ended:\n{said}")
        })?;
        if streams == STREAMS {
            complete += 1;
            for stream in 0..STREAMS {
                let read = std::fs::read(lab.client.directory.join(format!("{number}.{stream}")));
                ensure(read.is_ok_and(|read| read == whole), || {
                    format!("download {number}.{stream} is not whole")
                })?;
            }
        }
    }
    let failed = asked.iter().filter(|(.., answer)| answer.is_err()).count();
    println!(
        "{} short requests, {failed} failed; {complete} of {CONNECTIONS} long connections complete",
        asked.len()
    );
    // Those of the dead server, and no other.
    ensure(complete == CONNECTIONS - CONNECTIONS / 3, || format!("{complete} connections are complete"))?;
    vipd.stop()
}

#[test]
fn long_streams_outlive_a_reload_and_the_death_of_another_server() {
    if !enabled(&["curl", "nginx", "openssl"]) {
        return;
    }
    let _turn = Turn::alone();
    let lab = Lab::new(&["web1", "web2", "web3"]);
    goes_on(&lab).unwrap_or_else(|failure| panic!("{}\n{}", failure.text, lab.report()));
}
