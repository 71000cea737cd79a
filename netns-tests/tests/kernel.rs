//! Listeners that the kernel carries: what `nft`, connection tracking, backends and clients see of them.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use netns_tests::host::Host;
use netns_tests::lab::Lab;
use netns_tests::peer::{Peer, vipd};
use netns_tests::turn::Turn;
use netns_tests::{Outcome, enabled, ensure, wait_for, wait_until};
use nix::sys::signal::Signal;

const VIP: &str = "10.77.0.100";
const VIP6: &str = "fd77::100";
const SOON: Duration = Duration::from_secs(10);
/// Of a check: twice 200 ms and as much to answer.
const CHECKED: Duration = Duration::from_millis(800);

/// Greets with its name and the client's address, then says everything again, on TCP and UDP.
struct Backend {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Backend {
    fn start(host: &Host) -> Self {
        let (stop, name) = (Arc::new(AtomicBool::new(false)), host.name);
        let threads = host.inside(|| {
            let listener = TcpListener::bind("[::]:8080").expect("a free port");
            let socket = UdpSocket::bind("[::]:8080").expect("a free port");
            listener.set_nonblocking(true).expect("a socket");
            socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
            let (told, also) = (stop.clone(), stop.clone());
            vec![
                thread::spawn(move || serve(&listener, name, &told)),
                thread::spawn(move || answer(&socket, name, &also)),
            ]
        });
        Self { stop, threads }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn shown(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

fn serve(listener: &TcpListener, name: &str, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((mut stream, client)) => {
                let greeting = format!("{name} {}\n", shown(client));
                drop(thread::spawn(move || {
                    let _ = stream.set_nonblocking(false);
                    let mut buffer = [0; 4096];
                    let _ = stream.write_all(greeting.as_bytes());
                    while let Ok(count @ 1..) = stream.read(&mut buffer) {
                        if stream.write_all(&buffer[..count]).is_err() {
                            return;
                        }
                    }
                }));
            }
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn answer(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((_, client)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(format!("{name} {}\n", shown(client)).as_bytes(), client);
        }
    }
}

/// Who greets, and with which address of ours.
fn greeted(stream: &mut TcpStream) -> std::io::Result<(String, String)> {
    let mut line = Vec::new();
    let mut octet = [0];
    while stream.read(&mut octet)? == 1 && octet != *b"\n" {
        line.push(octet[0]);
    }
    let line = String::from_utf8_lossy(&line).into_owned();
    let (name, address) = line.split_once(' ').ok_or(ErrorKind::UnexpectedEof)?;
    Ok((name.to_owned(), address.to_owned()))
}

fn connect(address: &str, port: u16) -> std::io::Result<(TcpStream, String, String)> {
    let address = SocketAddr::new(address.parse().expect("an address"), port);
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (name, seen) = greeted(&mut stream)?;
    Ok((stream, name, seen))
}

/// How many of so many sessions each backend got, and which addresses of the client they saw.
fn spread(host: &Host, address: &str, port: u16, sessions: usize) -> Outcome<BTreeMap<String, usize>> {
    let mut spread = BTreeMap::new();
    for _ in 0..sessions {
        let (_, name, seen) =
            host.inside(|| connect(address, port)).map_err(|error| format!("from {}: {error}", host.name))?;
        *spread.entry(format!("{name} {seen}")).or_default() += 1;
    }
    Ok(spread)
}

/// The same over UDP, each question from a socket of its own.
fn asked(host: &Host, port: u16, questions: usize) -> Outcome<BTreeMap<String, usize>> {
    let mut spread = BTreeMap::new();
    for _ in 0..questions {
        let answer = host.inside(|| ask(port)).map_err(|error| format!("UDP from {}: {error}", host.name))?;
        *spread.entry(answer).or_default() += 1;
    }
    Ok(spread)
}

fn ask(port: u16) -> std::io::Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.connect((VIP, port))?;
    socket.send(b"?")?;
    let mut buffer = [0; 200];
    let count = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..count]).trim().to_owned())
}

fn expected<const N: usize>(counts: [(&str, usize); N], seen: &str) -> BTreeMap<String, usize> {
    counts.iter().map(|(name, count)| (format!("{name} {seen}"), *count)).collect()
}

fn configuration(lab: &Lab, weight_of_b1: u32) -> String {
    let check = "check = { tcp = {}, interval = \"200ms\", timeout = \"200ms\", fall = 2, rise = 1 }";
    let backends = |ipv6: bool| {
        let one = |(host, weight): (&Host, u32)| {
            let address = if ipv6 { format!("[{}]", host.ipv6()) } else { host.ipv4() };
            format!("{{ name = \"{}\", address = \"{address}:8080\", weight = {weight} }}", host.name)
        };
        lab.others.iter().zip([weight_of_b1, 1, 1]).map(one).collect::<Vec<_>>().join(", ")
    };
    let listener = |name: &str, bind: &str, rest: &str| {
        let backends = backends(bind.starts_with('['));
        format!(
            "[[listener]]\nname = \"{name}\"\nbind = [\"{bind}\"]\nmode = \"kernel\"\n{rest}\nbackends = [{backends}]\n\n"
        )
    };
    format!(
        "[[instance]]\nname = \"one\"\ninterface = \"eth0\"\nvrid = 52\npriority = 200\nadvert_interval = \"100ms\"\n\
         addresses = [\"{VIP}/24\"]\n\n{}{}{}{}{}",
        listener("web", &format!("{VIP}:80"), check),
        listener("seen", &format!("{VIP}:81"), "source_nat = false"),
        listener("dns", &format!("{VIP}:53"), &format!("protocol = \"udp\"\n{check}")),
        listener("kept", &format!("{VIP}:82"), "persistence = { timeout = \"1h\", ipv4_prefix = 24 }"),
        listener("six", &format!("[{VIP6}]:80"), "balance = \"source\""),
    )
}

struct Bed {
    lab: Lab,
    peer: Peer,
    backends: Vec<Backend>,
}

impl Bed {
    fn new() -> Outcome<Self> {
        let lab = Lab::new(&["b1", "b2", "b3"]);
        let client = format!("{}/32", lab.client.ipv4());
        for backend in &lab.others {
            // Answers for the client go back through the balancer.
            backend.run(&["ip", "route", "add", &client, "via", &lab.lb1.ipv4()]);
            backend.sysctl("net/ipv4/conf/eth0/accept_redirects", "0");
            backend.sysctl("net/ipv4/conf/all/accept_redirects", "0");
        }
        lab.lb1.run(&["ip", "address", "add", &format!("{VIP6}/128"), "dev", "eth0", "nodad"]);
        let backends = lab.others.iter().map(Backend::start).collect();
        let peer = Peer::start_toml(&lab.lb1, &configuration(&lab, 2), "vipd");
        let bed = Self { lab, peer, backends };
        bed.wait_until_served()?;
        Ok(bed)
    }

    fn wait_until_served(&self) -> Outcome {
        wait_until("the VIP is there", SOON, || {
            self.lab.lb1.addresses().iter().any(|address| address == VIP)
        })?;
        wait_until("every backend is up", SOON, || {
            let Ok(status) = self.peer.status(&self.lab.lb1) else { return false };
            let backends = status["listeners"][0]["backends"].as_array().cloned().unwrap_or_default();
            backends.len() == 3 && backends.iter().all(|backend| backend["health"] == "up")
        })?;
        // The rules follow the verdicts: of the four listeners that draw by number.
        self.wait_until_shared("b1 2, b2 1, b3 1", 4)
    }

    /// So many listeners share their sessions so.
    fn wait_until_shared(&self, shares: &str, listeners: usize) -> Outcome {
        let comment = format!("comment \"{shares}\"");
        wait_until(&format!("{listeners} listeners with {comment}"), SOON, || {
            self.table().matches(&comment).count() == listeners
        })
    }

    fn table(&self) -> String {
        self.lab.lb1.try_run(&["nft", "list", "ruleset"]).unwrap_or_default()
    }

    fn reload(&self, weight_of_b1: u32) -> Outcome {
        std::fs::write(self.lab.lb1.directory.join("vipd.toml"), configuration(&self.lab, weight_of_b1))
            .expect("the lab's directory is ours");
        self.lab.lb1.run(&[&vipd().to_string_lossy(), "reload"]);
        Ok(())
    }
}

fn carries(bed: &mut Bed) -> Outcome {
    let Lab { lb1, client, others, .. } = &bed.lab;
    let sees_balancer = lb1.ipv4();
    // In turn, by weight: exactly.
    let shares = [("b1", 20), ("b2", 10), ("b3", 10)];
    let got = spread(client, VIP, 80, 40)?;
    ensure(got == expected(shares, &sees_balancer), || format!("TCP: {got:?}"))?;
    let got = spread(lb1, VIP, 80, 40)?;
    let local: BTreeMap<String, usize> = got.iter().fold(BTreeMap::new(), |mut all, (key, count)| {
        *all.entry(key.split(' ').next().unwrap_or_default().to_owned()).or_default() += count;
        all
    });
    let plain = shares.map(|(name, count)| (name.to_owned(), count)).into_iter().collect();
    ensure(local == plain, || format!("TCP from the balancer itself: {got:?}"))?;
    let got = asked(client, 53, 40)?;
    ensure(got == expected(shares, &sees_balancer), || format!("UDP: {got:?}"))?;
    let got = spread(client, VIP, 81, 40)?;
    ensure(got == expected(shares, &client.ipv4()), || format!("without source NAT: {got:?}"))?;
    for (address, port, why) in [(VIP, 82, "persistence"), (VIP6, 80, "a hash of the source")] {
        let got = spread(client, address, port, 8)?;
        ensure(got.len() == 1, || format!("one client has several backends in spite of {why}: {got:?}"))?;
    }
    // What nft, status and the sysctls say.
    let table = bed.table();
    for line in [
        "table inet vipd-forward {",
        "10.77.0.100 . tcp . 80 : goto listener-web",
        "numgen inc mod 4 vmap { 0 : goto backend-web/b1, 1 : goto backend-web/b2, 2 : goto backend-web/b3, 3 : goto backend-web/b1 }",
        "meta l4proto tcp counter name \"sessions-web/b1\" dnat ip to 10.77.0.11:8080 comment \"b1\"",
        "jhash ip6 saddr mod 1024",
        "ip saddr & 255.255.255.0 == @clients-kept/b1 goto backend-kept/b1",
    ] {
        ensure(table.contains(line), || format!("nft does not list {line:?}:\n{table}"))?;
    }
    let (held, name, _) = client.inside(|| connect(VIP, 80)).map_err(|error| error.to_string())?;
    let status = bed.peer.status(lb1)?;
    let web = &status["listeners"][0];
    ensure(web["carrier"] == "kernel" && web["sessions_total"] == 81, || format!("status: {web}"))?;
    let backends = web["backends"].as_array().cloned().unwrap_or_default();
    let of = backends.iter().find(|backend| backend["name"] == *name).cloned().unwrap_or_default();
    ensure(
        of["sessions"] == 1 && of["bytes_in"].as_u64() > Some(1000) && of["bytes_out"].as_u64() > Some(1000),
        || format!("status of {name}: {of}"),
    )?;
    drop(held);
    ensure(lb1.read_sysctl("net/ipv4/ip_forward") == "1", || "ip_forward is not on".to_owned())?;
    // Nobody else's packets are forwarded, though forwarding is on.
    let stranger = &bed.lab.stranger;
    stranger.run(&["ip", "route", "add", "198.51.100.1/32", "via", &lb1.ipv4()]);
    others[0].run(&["ip", "address", "add", "198.51.100.1/32", "dev", "eth0"]);
    lb1.run(&["ip", "route", "add", "198.51.100.1/32", "via", &others[0].ipv4()]);
    ensure(stranger.inside(|| connect("198.51.100.1", 8080)).is_err(), || {
        "packets of strangers are forwarded".to_owned()
    })
}

/// A session with this backend.
fn session_with(client: &Host, wanted: &str) -> Outcome<TcpStream> {
    wait_for(&format!("a session with {wanted}"), SOON, || {
        let (stream, name, _) = client.inside(|| connect(VIP, 80)).ok()?;
        (name == wanted).then_some(stream)
    })
}

fn loses_a_backend(bed: &Bed) -> Outcome {
    let Lab { client, others, .. } = &bed.lab;
    let mut waiting = session_with(client, "b2")?;
    let mut other = session_with(client, "b1")?;
    waiting.set_read_timeout(Some(SOON)).expect("a socket");
    bed.lab.silence(&others[1]);
    let died = Instant::now();
    // It only waits, and is told.
    let end = waiting.read(&mut [0]);
    let took = died.elapsed();
    ensure(end.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset), || {
        format!("a session of the dead backend ended with {end:?}")
    })?;
    ensure(took < CHECKED + Duration::from_millis(700), || format!("it was told after {took:?}"))?;
    println!("measured: a waiting client of a dead backend is reset {took:?} after its death");
    // The other listener has a check of its own.
    bed.wait_until_shared("b1 2, b2 0, b3 1", 2)?;
    let got = spread(client, VIP, 80, 12)?;
    ensure(!got.keys().any(|key| key.starts_with("b2")), || {
        format!("the dead backend still gets some: {got:?}")
    })?;
    let got = asked(client, 53, 12)?;
    ensure(!got.keys().any(|key| key.starts_with("b2")), || {
        format!("the dead backend gets questions: {got:?}")
    })?;
    other
        .write_all(b"x")
        .and_then(|()| other.read_exact(&mut [0]))
        .map_err(|error| format!("the other: {error}"))?;
    bed.lab.unsilence(&others[1]);
    bed.wait_until_served()
}

fn refuses_at_once(bed: &mut Bed) -> Outcome {
    bed.backends.clear();
    let client = &bed.lab.client;
    wait_until("no backend is left", SOON, || bed.table().contains("goto refuse-web"))?;
    wait_until("no backend is left for UDP", SOON, || bed.table().contains("goto refuse-dns"))?;
    let before = Instant::now();
    let tcp = client.inside(|| connect(VIP, 80));
    ensure(tcp.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused), || {
        format!("TCP: {tcp:?}")
    })?;
    let took = before.elapsed();
    ensure(took < Duration::from_millis(500), || format!("TCP is refused after {took:?}"))?;
    // The kernel limits how often it says so over ICMP.
    wait_until("UDP is refused", SOON, || {
        client.inside(|| ask(53)).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    })?;
    bed.backends = bed.lab.others.iter().map(Backend::start).collect();
    bed.wait_until_served()
}

/// Connects and asks for an echo without a pause, until told to stop: how often, and what failed.
fn load(stop: &AtomicBool, done: &AtomicU64) -> Vec<String> {
    let mut failed = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let once = || -> std::io::Result<()> {
            let (mut stream, ..) = connect(VIP, 80)?;
            stream.write_all(b"hello")?;
            stream.read_exact(&mut [0; 5])
        };
        match once() {
            Ok(()) => {
                done.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => failed.push(error.to_string()),
        }
    }
    failed
}

fn loses_nothing(bed: &mut Bed) -> Outcome {
    let mut long = session_with(&bed.lab.client, "b3")?;
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let failed = thread::scope(|scope| {
        let loading = scope.spawn(|| bed.lab.client.inside(|| load(&stop, &done)));
        let mut reloaded = Ok(());
        for weight in [3, 1, 4, 2] {
            let before = done.load(Ordering::Relaxed);
            reloaded = reloaded.and_then(|()| bed.reload(weight)).and_then(|()| {
                wait_until("sessions after a reload", SOON, || done.load(Ordering::Relaxed) > before + 50)
            });
        }
        stop.store(true, Ordering::Relaxed);
        reloaded.map(|()| loading.join().expect("no panic"))
    })?;
    let sessions = done.load(Ordering::Relaxed);
    ensure(failed.is_empty(), || {
        format!("{} of {sessions} failed during reloads: {failed:?}", failed.len())
    })?;
    println!("measured: {sessions} sessions during 4 reloads, none failed");
    let mut echo = |when: &str| {
        let answered = long.write_all(b"x").and_then(|()| long.read_exact(&mut [0]));
        answered.map_err(|error| format!("the long session {when}: {error}"))
    };
    echo("after the reloads")?;

    // It dies: the rules stay, so does what is open; the next life takes over.
    let forwarding = bed.lab.lb1.read_sysctl("net/ipv4/ip_forward");
    bed.peer.process.signal_family(Signal::SIGKILL);
    bed.peer.process.kill_family();
    ensure(bed.table().contains("table inet vipd-forward"), || "the table went with SIGKILL".to_owned())?;
    echo("after SIGKILL")?;
    bed.peer = Peer::start_toml(&bed.lab.lb1, &configuration(&bed.lab, 2), "vipd");
    bed.wait_until_served()?;
    echo("after another start")?;
    ensure(bed.table().matches("table inet vipd-forward").count() == 1, || {
        format!("several tables:\n{}", bed.table())
    })?;
    ensure(forwarding == "1", || "ip_forward was off".to_owned())
}

/// Somebody removes the table, a part of it, or what it needs.
fn is_put_back(bed: &Bed) -> Outcome {
    let lb1 = &bed.lab.lb1;
    let mut held = session_with(&bed.lab.client, "b1")?;
    let before = bed.peer.status(lb1)?["listeners"][0]["sessions_total"].as_u64();
    for change in [
        &["nft", "flush", "ruleset"][..],
        &["nft", "delete", "table", "inet", "vipd-forward"],
        &["nft", "flush", "chain", "inet", "vipd-forward", "prerouting"],
        &["nft", "flush", "map", "inet", "vipd-forward", "services4"],
        &["sysctl", "-qw", "net.ipv4.ip_forward=0"],
    ] {
        lb1.run(change);
        let changed = Instant::now();
        wait_until(&format!("it is served again after {change:?}"), SOON, || {
            bed.lab.client.inside(|| connect(VIP, 80)).is_ok()
        })?;
        let took = changed.elapsed();
        ensure(took < Duration::from_millis(1500), || format!("{change:?} was put right after {took:?}"))?;
        held.write_all(b"x")
            .and_then(|()| held.read_exact(&mut [0]))
            .map_err(|error| format!("the open session after {change:?}: {error}"))?;
    }
    let said = bed.peer.process.output().matches("somebody has removed or changed the table").count();
    ensure((1..=2).contains(&said), || format!("it is said {said} times in a few seconds"))?;
    let after = bed.peer.status(lb1)?["listeners"][0]["sessions_total"].as_u64();
    ensure(after > before, || format!("{before:?} sessions before, {after:?} after"))
}

/// What status says of the octets of one listener, from clients and to them.
fn octets(bed: &Bed, listener: &str) -> Outcome<[u64; 2]> {
    let status = bed.peer.status(&bed.lab.lb1)?;
    let listeners = status["listeners"].as_array().cloned().unwrap_or_default();
    let one = listeners.iter().find(|one| one["name"] == listener).cloned().unwrap_or_default();
    let backends = one["backends"].as_array().cloned().unwrap_or_default();
    let sum = |key: &str| backends.iter().filter_map(|backend| backend[key].as_u64()).sum();
    Ok([sum("bytes_in"), sum("bytes_out")])
}

/// Octets are those that the client sent, and headers; also when the session has ended, and is forgotten.
fn counts_octets(bed: &Bed) -> Outcome {
    const SENT: usize = 1_000_000;
    let (client, lb1) = (&bed.lab.client, &bed.lab.lb1);
    let before = octets(bed, "seen")?;
    let (mut stream, ..) = client.inside(|| connect(VIP, 81)).map_err(|error| error.to_string())?;
    let (sent, mut got) = (vec![7; SENT], vec![0; SENT]);
    thread::scope(|scope| {
        let mut writing = stream.try_clone().expect("a socket");
        scope.spawn(move || writing.write_all(&sent));
        stream.read_exact(&mut got)
    })
    .map_err(|error| format!("a megabyte there and back: {error}"))?;
    let tracked =
        lb1.run(&["conntrack", "-L", "-p", "tcp", "--orig-port-dst", "81", "--state", "ESTABLISHED"]);
    let expected: Vec<u64> =
        tracked.split("bytes=").skip(1).filter_map(|rest| rest.split(' ').next()?.parse().ok()).collect();
    let is_counted = |when: &str| -> Outcome {
        let now = octets(bed, "seen")?;
        let more = [now[0] - before[0], now[1] - before[1]];
        ensure(more.iter().all(|more| (SENT as u64..SENT as u64 * 11 / 10).contains(more)), || {
            format!("{when}: {more:?} octets for {SENT} each way; conntrack -L: {expected:?}")
        })
    };
    is_counted("open")?;
    drop(stream);
    wait_until("the session is over", SOON, || {
        lb1.run(&["conntrack", "-L", "-p", "tcp", "--orig-port-dst", "81", "--state", "ESTABLISHED"])
            .trim()
            .is_empty()
    })?;
    lb1.run(&["conntrack", "-F"]);
    is_counted("forgotten")
}

fn leaves_nothing(bed: &mut Bed) -> Outcome {
    // Also what a life that was killed had changed.
    bed.peer.stop()?;
    let left = bed.table();
    ensure(left.trim().is_empty(), || format!("left behind:\n{left}"))?;
    for sysctl in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/netfilter/nf_conntrack_acct"] {
        let value = bed.lab.lb1.read_sysctl(sysctl);
        ensure(value == "0", || format!("{sysctl} is {value}, it was 0"))?;
    }
    // Killed, and the next life has no listener in the kernel.
    bed.peer = Peer::start_toml(&bed.lab.lb1, &configuration(&bed.lab, 2), "vipd");
    bed.wait_until_served()?;
    bed.peer.process.kill_family();
    let nothing = "[[listener]]\nname = \"other\"\nbind = [\"127.0.0.1:8081\"]\nbackends = [{ address = \"127.0.0.1:1\" }]\n";
    bed.peer = Peer::start_toml(&bed.lab.lb1, nothing, "vipd");
    // The lease keeps what is left of the VIP silent until its address is gone.
    wait_until("what a former life has left goes", SOON, || !bed.table().contains("vipd-forward"))?;
    let forwarding = bed.lab.lb1.read_sysctl("net/ipv4/ip_forward");
    ensure(forwarding == "0", || "ip_forward stays on after a former life".to_owned())?;
    bed.peer.stop()
}

fn story() -> (Option<Bed>, Outcome) {
    let mut bed = match Bed::new() {
        Ok(bed) => bed,
        Err(failure) => return (None, Err(failure)),
    };
    let outcome = carries(&mut bed)
        .and_then(|()| loses_a_backend(&bed))
        .and_then(|()| refuses_at_once(&mut bed))
        .and_then(|()| counts_octets(&bed))
        .and_then(|()| is_put_back(&bed))
        .and_then(|()| loses_nothing(&mut bed))
        .and_then(|()| leaves_nothing(&mut bed));
    (Some(bed), outcome)
}

#[test]
fn the_kernel_carries_listeners_as_the_proxy_does() {
    if !enabled(&[]) {
        return;
    }
    let _turn = Turn::alone();
    let (bed, outcome) = story();
    if let Err(failure) = outcome {
        let report = bed.map(|bed| format!("{}\n{}", bed.table(), bed.lab.report())).unwrap_or_default();
        panic!("{}\n{report}", failure.text);
    }
}
