//! kubeadm's own keepalived.conf, with vipd on one host and keepalived on the other, then swapped.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use netns_tests::host::Host;
use netns_tests::peer::Kind::{self, Keepalived, Vipd};
use netns_tests::peer::Peer;
use netns_tests::process::Process;
use netns_tests::story::Bed;
use netns_tests::turn::Turn;
use netns_tests::{Outcome, Stamp, criteria, enabled, ensure, now, wait_for, wait_until};

const VIP: &str = "10.77.0.100";
const PORT: &str = "6443";

/// Puts the two files of kubeadm's page into the host's own /etc/keepalived.
fn configure(host: &Host, state: &str, priority: &str) -> PathBuf {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/kubeadm");
    let directory = host.directory.join("etc-keepalived");
    std::fs::create_dir(&directory).expect("the lab's directory is ours");
    let fill = |name: &str| {
        let text = std::fs::read_to_string(data.join(name)).expect("test data");
        [
            ("${STATE}", state),
            ("${INTERFACE}", "eth0"),
            ("${ROUTER_ID}", "51"),
            ("${PRIORITY}", priority),
            ("${AUTH_PASS}", "42"),
            ("${APISERVER_VIP}", VIP),
            ("${APISERVER_DEST_PORT}", PORT),
        ]
        .into_iter()
        .fold(text, |text, (placeholder, value)| text.replace(placeholder, value))
    };
    for (name, mode) in [("keepalived.conf", 0o644), ("check_apiserver.sh", 0o755)] {
        let path = directory.join(name);
        std::fs::write(&path, fill(name)).expect("the lab's directory is ours");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("our own file");
    }
    host.bind(&directory, Path::new("/etc/keepalived"));
    PathBuf::from("/etc/keepalived/keepalived.conf")
}

/// Something that answers GET over TLS where the apiserver would.
fn start_backend(host: &Host) -> Process {
    let (key, certificate) = (host.directory.join("key.pem"), host.directory.join("cert.pem"));
    if !key.exists() {
        host.run(&[
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=kube-apiserver",
            "-keyout",
            &key.to_string_lossy(),
            "-out",
            &certificate.to_string_lossy(),
        ]);
    }
    let mut command = host.command("openssl");
    command
        .args(["s_server", "-quiet", "-www", "-accept", PORT, "-key"])
        .arg(&key)
        .arg("-cert")
        .arg(&certificate);
    let backend = Process::start(command, &host.directory.join("backend.log")).expect("openssl starts");
    let script = "/etc/keepalived/check_apiserver.sh";
    wait_until("the backend answers kubeadm's script", Duration::from_secs(10), || {
        host.try_run(&[script]).is_ok()
    })
    .unwrap_or_else(|error| panic!("{}", error.text));
    backend
}

fn start(kind: Kind, host: &Host, file: &Path) -> Peer {
    Peer::start_file(kind, host, file, &format!("{kind:?}").to_lowercase())
}

/// `master` runs on lb1 with priority 101, `backup` on lb2 with 100.
fn follows_the_apiserver(bed: &mut Bed, master: Kind, backup: Kind) -> Outcome {
    let lab = &bed.lab;
    let (master_file, backup_file) =
        (configure(&lab.lb1, "MASTER", "101"), configure(&lab.lb2, "BACKUP", "100"));
    let mut apiserver = start_backend(&lab.lb1);
    let _other_apiserver = start_backend(&lab.lb2);
    let mut master = start(master, &lab.lb1, &master_file);
    let mut backup = start(backup, &lab.lb2, &backup_file);

    wait_until("the MASTER has the VIP", Duration::from_secs(10), || bed.on_lb1.holds(VIP))?;
    let address = lab.lb1.ip_json(&["address", "show", "dev", "eth0"]);
    let infos = address[0]["addr_info"].as_array().cloned().unwrap_or_default();
    let prefix = infos.iter().find(|info| info["local"] == VIP).map(|info| info["prefixlen"].clone());
    ensure(prefix == Some(32.into()), || format!("the VIP was written without a prefix: {infos:?}"))?;
    // Let the first results of the script arrive; then the apiserver of the MASTER dies.
    let since = now();
    wait_until("the client is answered", Duration::from_secs(5), || bed.prober.answered_since(since))?;
    wait_for("six adverts", Duration::from_secs(10), || {
        (bed.capture.adverts_of(lab.lb1.ipv4().parse().expect("an address"), since).len() >= 6).then_some(())
    })?;
    let died = now();
    apiserver.kill_family();

    // Ten failures, three seconds apart, then 99 < 100: the BACKUP no longer follows and takes over when
    // its Active_Down_Interval since the last good advert is over. The first of the ten comes within
    // three seconds, the advert with 99 within one.
    wait_until("the VIP moves", Duration::from_secs(50), || bed.on_lb2.holds(VIP) && !bed.on_lb1.holds(VIP))?;
    let moved = last_change(bed, false).ok_or_else(|| "no change seen".to_owned())?;
    let took = moved - died;
    let (earliest, latest) =
        (Duration::from_millis(27_000 + 2_600), Duration::from_millis(30_000 + 3_610 + 2_000));
    ensure(took >= earliest && took <= latest, || {
        format!("the VIP moved {took:?} after the apiserver died, expected {earliest:?} to {latest:?}")
    })?;
    let degraded = bed.capture.adverts_of(lab.lb1.ipv4().parse().expect("an address"), died);
    ensure(degraded.iter().any(|advert| advert.priority == 99), || "no advert with priority 99".to_owned())?;
    criteria::little_lost(bed, "the VIP moved", died, now(), Duration::from_millis(20))?;

    // It comes back after two good results: 101 again, taken over after the Active_Down_Interval.
    let revived = now();
    let _apiserver = start_backend(&lab.lb1);
    wait_until("the VIP comes back", Duration::from_secs(30), || {
        bed.on_lb1.holds(VIP) && !bed.on_lb2.holds(VIP)
    })?;
    let back = last_change(bed, true).ok_or_else(|| "no change seen".to_owned())?;
    let (took, latest) = (back - revived, Duration::from_millis(6_000 + 3_610 + 2_500));
    ensure(took >= Duration::from_secs(3) && took <= latest, || format!("the VIP came back after {took:?}"))?;
    criteria::little_lost(bed, "the VIP came back", revived, now(), Duration::from_millis(20))?;

    criteria::one_holder(bed, Duration::from_secs(1))?;
    bed.capture.check(false)?;
    criteria::nothing_discarded(&master, &lab.lb1)?;
    criteria::nothing_discarded(&backup, &lab.lb2)?;
    for (peer, host) in [(&mut master, &lab.lb1), (&mut backup, &lab.lb2)] {
        peer.stop()?;
        criteria::nothing_left(host, peer.kind, &[VIP.to_owned()])?;
    }
    Ok(())
}

/// When the VIP last came to lb1 (`true`) or to lb2.
fn last_change(bed: &Bed, to_lb1: bool) -> Option<Stamp> {
    let table = if to_lb1 { &bed.on_lb1 } else { &bed.on_lb2 };
    table.held(VIP).last().map(|(from, _)| *from)
}

#[test]
fn the_vip_follows_the_apiserver_with_kubeadms_configuration() {
    if !enabled(&["keepalived", "curl", "openssl"]) {
        return;
    }
    let setgroups = std::fs::read_to_string("/proc/self/setgroups").unwrap_or_default();
    assert_ne!(
        setgroups.trim(),
        "deny",
        "keepalived runs no script in a user namespace that denies setgroups, as `unshare -Urn` makes it: be root"
    );
    let _turn = Turn::alone();
    let pairs = [(Vipd, Keepalived), (Keepalived, Vipd)];
    let beds: Vec<Bed> = pairs.iter().map(|_| Bed::new(VIP, Duration::from_millis(5))).collect();
    let failures: Vec<String> = thread::scope(|scope| {
        let runs: Vec<_> = pairs
            .iter()
            .zip(beds)
            .map(|((master, backup), mut bed)| {
                scope.spawn(move || {
                    follows_the_apiserver(&mut bed, *master, *backup).map_err(|failure| {
                        let timeline = bed.timeline(now() - Duration::from_secs(20), now());
                        let report = bed.lab.report();
                        format!("MASTER {master:?}, BACKUP {backup:?}: {}\n{timeline}{report}", failure.text)
                    })
                })
            })
            .collect();
        runs.into_iter().filter_map(|run| run.join().expect("no panic").err()).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
