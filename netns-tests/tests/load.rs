//! The two speeds: a saturated forwarder and a busy check script must not delay an advert.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use netns_tests::host::real_time_is_permitted;
use netns_tests::peer::Peer;
use netns_tests::story::{Bed, none_late};
use netns_tests::turn::Turn;
use netns_tests::{Outcome, enabled, ensure, now, wait_for, wait_until};

const VIP: &str = "10.77.0.100";
const PORT: u16 = 8080;

/// 10 ms where the daemon may put its engine before everything else; a host that does not permit that
/// (`unshare -Urn`) is no place for such an interval.
fn interval() -> Duration {
    Duration::from_millis(if real_time_is_permitted() { 10 } else { 200 })
}

fn configuration(bed: &Bed, script: &str) -> String {
    let interval = interval().as_millis();
    let backend = bed.lab.stranger.ipv4();
    format!(
        "[[check]]\nname = \"burn\"\nscript = \"{script}\"\ninterval = \"1s\"\ntimeout = \"900ms\"\nfall = 1000000\n\
         first_result_decides = false\n\n\
         [[instance]]\nname = \"fast\"\ninterface = \"eth0\"\nvrid = 52\npriority = 200\nadvert_interval = \"{interval}ms\"\n\
         addresses = [\"{VIP}/24\"]\ntrack = [{{ check = \"burn\", weight = 1 }}]\n\n\
         [[listener]]\nname = \"web\"\nbind = [\"{VIP}:{PORT}\"]\n\
         backends = [{{ name = \"one\", address = \"{backend}:{PORT}\" }}]\n"
    )
}

/// Sends whatever it gets to nobody, and tells how much that was.
fn sink(listener: TcpListener, received: &Arc<AtomicU64>) {
    for stream in listener.incoming().flatten() {
        let received = received.clone();
        thread::spawn(move || {
            let (mut stream, mut buffer) = (stream, vec![0; 1 << 16]);
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                received.fetch_add(count as u64, Ordering::Relaxed);
            }
        });
    }
}

fn adverts_in_time(bed: &Bed, stop: &Arc<AtomicBool>) -> Outcome {
    let script = bed.lab.lb1.directory.join("burn.sh");
    std::fs::write(&script, "#!/bin/sh\nwhile :; do :; done\n").expect("the lab's directory is ours");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("our own file");
    let mut peer = Peer::start_toml(&bed.lab.lb1, &configuration(bed, &script.to_string_lossy()), "vipd");
    wait_until("it is active", Duration::from_secs(10), || bed.on_lb1.holds(VIP))?;

    // As many streams through the forwarder as keep both processors busy.
    let received: Arc<AtomicU64> = Arc::default();
    let listener = bed.lab.stranger.inside(|| TcpListener::bind(("0.0.0.0", PORT))).expect("a free port");
    let counter = received.clone();
    thread::spawn(move || sink(listener, &counter));
    for _ in 0..8 {
        let stream = wait_for("a session through the forwarder", Duration::from_secs(5), || {
            bed.lab.client.inside(|| TcpStream::connect((VIP, PORT))).ok()
        })?;
        let stop = stop.clone();
        thread::spawn(move || {
            let (mut stream, block) = (stream, vec![7; 1 << 16]);
            while !stop.load(Ordering::Relaxed) && stream.write_all(&block).is_ok() {}
        });
    }
    wait_until("bytes flow", Duration::from_secs(5), || received.load(Ordering::Relaxed) > 10_000_000)?;
    let (from, before) = (now(), received.load(Ordering::Relaxed));
    let lasting = (100 * interval()).max(Duration::from_secs(8)) + 2 * interval();
    let source = bed.lab.lb1.ipv4().parse().expect("an address");
    wait_for("adverts under load", 2 * lasting, || {
        bed.capture.adverts_of(source, from + lasting).into_iter().next()
    })?;
    let megabytes = (received.load(Ordering::Relaxed) - before) / 1_000_000;
    println!("measured: {megabytes} MB through the forwarder in {lasting:?}");
    ensure(megabytes > 100, || format!("only {megabytes} MB went through the forwarder"))?;
    none_late(bed, source, from, interval())?;
    stop.store(true, Ordering::Relaxed);
    peer.stop()
}

#[test]
fn adverts_at_10_ms_are_in_time_while_the_forwarder_is_saturated() {
    if !enabled(&[]) {
        return;
    }
    let _turn = Turn::alone();
    let stop: Arc<AtomicBool> = Arc::default();
    let bed = Bed::new(VIP, Duration::from_millis(50));
    let outcome = adverts_in_time(&bed, &stop);
    stop.store(true, Ordering::Relaxed);
    outcome.unwrap_or_else(|failure| panic!("{}\n{}", failure.text, bed.lab.report()));
}
