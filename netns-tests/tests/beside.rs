//! A listener on the VIP beside a server of the same host that listens on every address of the port: etcd, written in
//! Go as kube-apiserver is, which asks for the port as that does.

use std::time::Duration;

use netns_tests::host::Host;
use netns_tests::lab::Lab;
use netns_tests::peer::Peer;
use netns_tests::process::Process;
use netns_tests::turn::Turn;
use netns_tests::{Outcome, enabled, ensure, wait_until};
use nix::sys::signal::Signal;

const VIP: &str = "10.77.0.100";
const PORT: u16 = 2379;
const SOON: Duration = Duration::from_secs(15);

/// etcd on every address of the host.
fn start_server(host: &Host, life: u32) -> Process {
    let mut command = host.command("etcd");
    command.arg("--data-dir").arg(host.directory.join(format!("data{life}")));
    command.args(["--listen-client-urls", &format!("http://0.0.0.0:{PORT}")]);
    command.args(["--advertise-client-urls", &format!("http://{}:{PORT}", host.ipv4())]);
    command.arg("--unsafe-no-fsync");
    Process::start(command, &host.directory.join(format!("etcd{life}.log"))).expect("etcd starts")
}

/// `{"etcdserver":…}` from this address, or why not.
fn asked(from: &Host, address: &str) -> Result<String, String> {
    from.try_run(&["curl", "-sSf", "--max-time", "2", &format!("http://{address}:{PORT}/version")])
}

fn start_vipd(lab: &Lab, beside: &str) -> Peer {
    let configuration = format!(
        "[[listener]]\nname = \"etcd\"\nbind = [\"{VIP}:{PORT}\"]\nbeside = \"{beside}\"\n\
         backends = [{{ name = \"here\", address = \"{}:{PORT}\" }}]\n",
        lab.lb1.ipv4()
    );
    Peer::start_toml(&lab.lb1, &configuration, "vipd")
}

/// What status says: the carrier, and the sessions so far.
fn status(lab: &Lab, peer: &Peer) -> Option<(String, u64)> {
    let status = peer.status(&lab.lb1).ok()?;
    let listener = &status["listeners"][0];
    Some((listener["carrier"].as_str()?.to_owned(), listener["sessions_total"].as_u64()?))
}

/// Clients elsewhere and on the host reach the VIP through the forwarder, and the host's own address without.
fn both_are_reached(lab: &Lab, peer: &Peer, when: &str) -> Outcome {
    let own = lab.lb1.ipv4();
    for host in [&lab.client, &lab.lb1] {
        let before = status(lab, peer).map(|(_, sessions)| sessions);
        wait_until(&format!("{when}, from {}: the VIP answers", host.name), SOON, || {
            asked(host, VIP).is_ok()
        })?;
        let between = status(lab, peer).map(|(_, sessions)| sessions);
        ensure(between > before, || format!("{when}, from {}: not through the forwarder", host.name))?;
        asked(host, &own).map_err(|error| format!("{when}, from {}: {own}: {error}", host.name))?;
        let after = status(lab, peer).map(|(_, sessions)| sessions);
        ensure(after == between, || format!("{when}, from {}: {own} goes through the forwarder", host.name))?;
    }
    Ok(())
}

fn only_the_server(lab: &Lab, when: &str) -> Outcome {
    for host in [&lab.client, &lab.lb1] {
        asked(host, VIP).map_err(|error| format!("{when}, from {}: the VIP: {error}", host.name))?;
    }
    Ok(())
}

fn lives_beside(lab: &Lab, beside: &str, carrier: &str) -> Outcome {
    let mut lives = (1..).map(|life| start_server(&lab.lb1, life));
    let mut start_server = || lives.next().expect("there are many numbers");
    let wait_until_it_listens = |peer: &Peer| {
        wait_until(&format!("status says {carrier}"), SOON, || {
            status(lab, peer).is_some_and(|(said, _)| said == carrier)
        })
    };
    // We come first, as after a boot.
    let mut peer = start_vipd(lab, beside);
    wait_until_it_listens(&peer)?;
    let mut server = start_server();
    both_are_reached(lab, &peer, "the server came second")?;
    // It is started again.
    server.terminate(SOON)?;
    let mut server = start_server();
    both_are_reached(lab, &peer, "the server came again")?;
    // We die.
    peer.process.signal_family(Signal::SIGKILL);
    peer.process.kill_family();
    only_the_server(lab, "vipd was killed")?;
    // We come second.
    let mut peer = start_vipd(lab, beside);
    wait_until_it_listens(&peer)?;
    both_are_reached(lab, &peer, "vipd came second")?;
    peer.stop()?;
    only_the_server(lab, "vipd was stopped")?;
    let left = lab.lb1.try_run(&["nft", "list", "ruleset"]).unwrap_or_default();
    ensure(left.trim().is_empty(), || format!("left behind:\n{left}"))?;
    server.terminate(SOON).map(drop)
}

fn is_refused(lab: &Lab) -> Outcome {
    let mut server = start_server(&lab.lb1, 100);
    wait_until("etcd answers", SOON, || asked(&lab.lb1, VIP).is_ok())?;
    let mut peer = start_vipd(lab, "refuse");
    wait_until("vipd ends", SOON, || peer.process.ended().is_some())?;
    let said = peer.process.output();
    ensure(said.contains("etcd (pid") && said.contains("Address already in use"), || {
        format!("vipd said {said}")
    })?;
    server.terminate(SOON).map(drop)
}

#[test]
fn a_listener_lives_beside_a_server_on_every_address() {
    if !enabled(&["etcd", "curl"]) {
        return;
    }
    let _turn = Turn::alone();
    let lab = Lab::new(&[]);
    lab.lb1.run(&["ip", "address", "add", &format!("{VIP}/24"), "dev", "eth0"]);
    let outcome = lives_beside(&lab, "auto", "sk_lookup")
        .and_then(|()| lives_beside(&lab, "nftables", "redirect"))
        .and_then(|()| is_refused(&lab));
    outcome.unwrap_or_else(|failure| panic!("{}\n{}", failure.text, lab.report()));
}
