//! How long it takes to put addresses on and announce each of them once.
//!
//! `unshare -Urn target/release/examples/takeover_speed`, after `cargo build --release --example takeover_speed`.
//! With the argument `busy` somebody else makes and removes links all the time, so that the kernel's lock
//! around the network configuration is contended.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use config::ready::{Announcements, Place, VirtualAddress};
use vipd::announce::{Announcer, Target};
use vipd::hold::{self, Hold};

fn main() {
    let links = "ip link add d0 type veth peer name d1 && ip link set d0 up && ip link set d1 up";
    assert!(shell(links).status().is_ok_and(|status| status.success()), "run it under `unshare -Urn`");
    let mut busy = std::env::args().any(|argument| argument == "busy").then(|| {
        let churn = "while :; do ip link add x0 type veth peer name x1; ip link del x0; done";
        shell(churn).spawn().expect("sh runs")
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, measure());
    if let Some(busy) = &mut busy {
        busy.kill().and_then(|()| busy.wait()).expect("it is ours");
    }
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

async fn measure() {
    let (hold, _monitor) = hold::open().await.expect("netlink");
    // A new one each time, so that the rate limit does not count the runs before; none is closed on the way.
    let mut announcers = Vec::new();
    for count in [1, 20, 200] {
        let addresses: Vec<_> = (0..count).map(address).collect();
        let mut runs = Vec::new();
        let mut longest_block = Duration::ZERO;
        for run in 0..100 {
            let watch = tokio::task::spawn_local(watch());
            let start = Instant::now();
            let failures = hold.add(&addresses).await;
            let added = start.elapsed();
            let mut announcer = Announcer::new();
            announce(&hold, &mut announcer, run, &addresses);
            runs.push((start.elapsed(), added));
            assert!(failures.is_empty(), "{failures:?}");
            assert_eq!(announcer.sent(run), u64::from(count));
            announcers.push(announcer);
            hold.remove(&addresses).await;
            watch.abort();
            if let Ok(longest) = LONGEST.try_with(std::cell::Cell::take) {
                longest_block = longest_block.max(longest);
            }
        }
        runs.sort();
        let (median, p99) = (runs[50], runs[98]);
        println!(
            "{count:3} addresses: added and announced in {:.0?} (added in {:.0?}), p99 {:.0?}; the engine's \
             longest wait {longest_block:.0?}",
            median.0, median.1, p99.0
        );
    }
}

thread_local! {
    static LONGEST: std::cell::Cell<Duration> = const { std::cell::Cell::new(Duration::ZERO) };
}

/// What another task of the engine notices: the longest time between two turns.
async fn watch() {
    let mut last = Instant::now();
    loop {
        tokio::task::yield_now().await;
        LONGEST.with(|longest| longest.set(longest.get().max(last.elapsed())));
        last = Instant::now();
    }
}

fn announce(hold: &Hold, announcer: &mut Announcer, run: usize, addresses: &[VirtualAddress]) {
    let links = hold.links();
    let link = links.by_name("d0").expect("made above");
    let mac = link.mac.expect("a veth has one");
    let target = |address: &VirtualAddress| Target {
        ifindex: link.index,
        interface: link.name.clone(),
        mac,
        address: address.address,
    };
    let once = Announcements {
        rounds: 1,
        round_gap: Duration::ZERO,
        again_after: None,
        refresh: None,
        refresh_rounds: 0,
        lower_priority_rounds: 0,
        lower_priority_again_after: None,
        packet_gap: Duration::ZERO,
    };
    announcer.begin(Instant::now(), run, addresses.iter().map(target).collect(), &once, &once);
}

fn address(number: u8) -> VirtualAddress {
    VirtualAddress {
        address: IpAddr::V4(Ipv4Addr::new(10, 99, 0, number)),
        prefix_length: 32,
        interface: "d0".to_owned(),
        label: None,
        scope: 0,
        broadcast: None,
        peer: None,
        preferred_lifetime: None,
        no_dad: false,
        home: false,
        no_prefix_route: false,
        autojoin: false,
        manage_temporary: false,
        own_vmac: None,
        repeated: false,
        track: true,
        place: Place { file: "example".into(), line: 1, column: 1 },
    }
}
