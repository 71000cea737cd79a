//! Keywords of keepalived.conf one by one: what they do is read from the kernel, from the wire, and beside keepalived 2.2.7
//! where that has them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use netns_tests::craft::Craft;
use netns_tests::host::Host;
use netns_tests::inject::Injector;
use netns_tests::lab::Lab;
use netns_tests::peer::{Kind, Peer};
use netns_tests::{Outcome, enabled, ensure, wait_for, wait_until};
use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::socket::{getsockopt, sockopt};

/// On a machine that others keep busy.
const SOON: Duration = Duration::from_secs(20);
const BOTH: [Kind; 2] = [Kind::Vipd, Kind::Keepalived];

/// Version 3 on `eth0`, 100 ms, with the VIP 10.77.0.1VRID.
fn instance(name: &str, vrid: u8, priority: u8, more: &str) -> String {
    format!(
        "vrrp_instance {name} {{\n  interface eth0\n  version 3\n  virtual_router_id {vrid}\n  priority {priority}\n  \
         advert_int 0.1\n{more}\n  virtual_ipaddress {{\n    10.77.0.1{vrid}\n  }}\n}}\n"
    )
}

fn holds(host: &Host, vrid: u8) -> bool {
    host.addresses().contains(&format!("10.77.0.1{vrid}"))
}

/// The same story for each daemon, in labs of their own at the same time.
fn told_of(kinds: &[Kind], story: fn(Kind, &Lab) -> Outcome) {
    std::thread::scope(|scope| {
        for kind in kinds {
            scope.spawn(move || {
                let lab = Lab::new(&[]);
                story(*kind, &lab).unwrap_or_else(|failure| panic!("{kind:?}: {}", failure.text));
            });
        }
    });
}

/// Octets of the receive buffers of all its sockets.
fn receive_buffers(peer: &Peer) -> BTreeSet<usize> {
    let mut sizes = BTreeSet::new();
    for pid in peer.process.family() {
        let number = libc::pid_t::try_from(pid).expect("process numbers are small");
        // SAFETY: plain system calls; what they give is a descriptor of ours, or -1.
        let process = unsafe { libc::syscall(libc::SYS_pidfd_open, number, 0) };
        let Some(process) = owned(process) else { continue };
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse::<libc::c_int>().ok())
            else {
                continue;
            };
            // SAFETY: as above.
            let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) };
            let Some(copy) = owned(copy) else { continue };
            sizes.extend(getsockopt(&copy, sockopt::RcvBuf));
        }
    }
    sizes
}

fn owned(descriptor: libc::c_long) -> Option<OwnedFd> {
    let descriptor = libc::c_int::try_from(descriptor).ok().filter(|descriptor| *descriptor >= 0)?;
    // SAFETY: the kernel has just made it, and nobody else has it.
    Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// `disable_local_igmp`, `vrrp_rx_bufs_policy`, `vrrp_rlimit_rttime`, as the kernel has them.
#[test]
fn settings_of_the_process_reach_the_kernel() {
    const IGMP: &str = "net/ipv4/igmp_link_local_mcast_reports";
    fn story(kind: Kind, lab: &Lab) -> Outcome {
        let host = &lab.lb1;
        ensure(host.read_sysctl(IGMP) == "1", || "membership reports are off from the start".to_owned())?;
        let text = "global_defs {\n  disable_local_igmp\n  vrrp_rx_bufs_policy 3000000\n  \
                    vrrp_rt_priority 5\n  vrrp_rlimit_rttime 123456\n}\n"
            .to_owned()
            + &instance("V", 71, 100, "");
        let mut peer = Peer::start_configured(kind, host, &text, "settings");
        wait_until("it is active", SOON, || holds(host, 71))?;
        ensure(host.read_sysctl(IGMP) == "0", || "membership reports are on".to_owned())?;
        // The kernel counts twice what it is asked for.
        let sizes = receive_buffers(&peer);
        ensure(sizes.contains(&6_000_000), || format!("receive buffers: {sizes:?}"))?;
        let limits: BTreeSet<String> = peer
            .process
            .family()
            .into_iter()
            .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/limits")).ok())
            .filter_map(|limits| {
                let line = limits.lines().find(|line| line.starts_with("Max realtime timeout"))?.to_owned();
                // The hard one; keepalived's soft one is half of it.
                line.split_whitespace().nth(4).map(str::to_owned)
            })
            .collect();
        ensure(limits.contains("123456"), || format!("limits of real time: {limits:?}"))?;
        peer.stop()?;
        ensure(host.read_sysctl(IGMP) == "1", || "membership reports are left off".to_owned())
    }
    if enabled(&["keepalived"]) {
        told_of(&BOTH, story);
    }
}

/// `track_src_ip`: in FAULT while the source address is gone. keepalived 2.2.7 knows the word and stays where it is, be the
/// address the only one of its interface or not (observed).
#[test]
fn track_src_ip_follows_the_source_address() {
    fn story(_: Kind, lab: &Lab) -> Outcome {
        let host = &lab.lb1;
        let source = |verb: &str| host.run(&["ip", "address", verb, "10.77.0.50/32", "dev", "eth0"]);
        source("add");
        let text = instance("V", 72, 100, "  mcast_src_ip 10.77.0.50\n  track_src_ip")
            + &instance("W", 73, 100, "  mcast_src_ip 10.77.0.50");
        let mut peer = Peer::start_configured(Kind::Vipd, host, &text, "source");
        wait_until("both are active", SOON, || holds(host, 72) && holds(host, 73))?;
        source("del");
        wait_until("the one that tracks it lets go", SOON, || !holds(host, 72))?;
        ensure(holds(host, 73), || "the other lets go too".to_owned())?;
        peer.process.wait_for_output("(V): entering FAULT state (src address not configured)", SOON)?;
        source("add");
        wait_until("it comes back", SOON, || holds(host, 72))?;
        peer.stop()
    }
    if enabled(&[]) {
        told_of(&[Kind::Vipd], story);
    }
}

/// An interface that does not exist is waited for; keepalived 2.2.7 does so with `dynamic_interfaces`.
#[test]
fn an_interface_that_does_not_exist_is_waited_for() {
    fn story(kind: Kind, lab: &Lab) -> Outcome {
        let host = &lab.lb1;
        let dynamic = if kind == Kind::Keepalived { "global_defs {\n  dynamic_interfaces\n}\n" } else { "" };
        let text = dynamic.to_owned()
            + &instance("V", 74, 100, "").replace("eth0", "eth7")
            + &instance("W", 75, 100, "");
        let mut peer = Peer::start_configured(kind, host, &text, "missing");
        wait_until("the other instance is active", SOON, || holds(host, 75))?;
        ensure(!holds(host, 74), || "a VIP without its interface".to_owned())?;
        if kind == Kind::Vipd {
            let status = peer.status(host)?;
            let why = status["instances"][0]["why"].as_str().unwrap_or_default().to_owned();
            ensure(why.contains("interface eth7"), || why)?;
        }
        host.run(&["ip", "link", "add", "eth7", "type", "veth", "peer", "name", "far"]);
        host.run(&["ip", "address", "add", "10.79.0.1/24", "dev", "eth7"]);
        host.run(&["ip", "link", "set", "far", "up"]);
        host.run(&["ip", "link", "set", "eth7", "up"]);
        wait_until("it takes part", SOON, || holds(host, 74))?;
        host.run(&["ip", "link", "del", "eth7"]);
        peer.process.wait_for_output("(V) Entering FAULT STATE", SOON)?;
        peer.stop()
    }
    if enabled(&["keepalived"]) {
        told_of(&BOTH, story);
    }
}

/// BFD with FRR over several hops, and as the side that does not begin: sessions come up, add their weights, and a reload
/// touches the one that changed. keepalived 2.2.7 has no `multihop`.
#[test]
fn bfd_multihop_passive_weights_and_reload() {
    fn configuration(lab: &Lab, multiplier: u8, priority: u8) -> String {
        let (host, other) = (&lab.lb1, &lab.lb2);
        let session = |name: &str, own: &str, far: &str, more: &str| {
            format!(
                "bfd_instance {name} {{\n  neighbor_ip {far}\n  source_ip {own}\n  min_rx 100\n  min_tx 100\n{more}}}\n"
            )
        };
        session("FAR", &host.ipv4(), &other.ipv4(), "  multihop\n  max_hops 5\n  multiplier 5\n")
            + &session(
                "NEAR",
                &host.ipv6(),
                &other.ipv6(),
                &format!("  passive\n  multiplier {multiplier}\n"),
            )
            + &instance("V", 83, priority, "  track_bfd {\n    FAR weight -30\n    NEAR weight 20\n  }")
    }
    fn story(_: Kind, lab: &Lab) -> Outcome {
        let (host, other) = (&lab.lb1, &lab.lb2);
        let mut peer = Peer::start_configured(Kind::Vipd, host, &configuration(lab, 5, 100), "bfd");
        let priority = |peer: &Peer| peer.status(host).ok()?["instances"][0]["priority"].as_u64();
        let at =
            |peer: &Peer, wanted: u64, what: &str| wait_until(what, SOON, || priority(peer) == Some(wanted));
        at(&peer, 70, "both are down: 100 - 30")?;
        let bfdd = format!(
            "hostname lab\nbfd\n peer {} multihop local-address {}\n  minimum-ttl 50\n  receive-interval 100\n  transmit-interval 100\n exit\n \
             peer {} local-address {} interface eth0\n  receive-interval 100\n  transmit-interval 100\n exit\nexit\n",
            host.ipv4(),
            other.ipv4(),
            host.ipv6(),
            other.ipv6()
        );
        let mut theirs = Peer::start_bfdd(other, &bfdd, "bfdd");
        at(&peer, 120, "both are up: 100 + 20")?;

        let session = |peer: &Peer, name: &str| -> Option<(u64, u64, u64)> {
            let status = peer.status(host).ok()?;
            let one = status["bfd"].as_array()?.iter().find(|one| one["name"] == name)?.clone();
            let detection = &one["detection_time"];
            let ms = detection["secs"].as_u64()? * 1000 + detection["nanos"].as_u64()? / 1_000_000;
            Some((one["came_up"].as_u64()?, one["went_down"].as_u64()?, ms))
        };
        std::fs::write(host.directory.join("bfd.conf"), configuration(lab, 7, 110))
            .expect("the lab's directory is ours");
        peer.process.signal(Signal::SIGHUP);
        at(&peer, 130, "the reload is done: 110 + 20")?;
        // Detection is the neighbour's multiplier and interval: FRR's 3 and 100 ms.
        for name in ["FAR", "NEAR"] {
            let seen = session(&peer, name);
            ensure(seen == Some((1, 0, 300)), || format!("{name} after a reload: {seen:?}"))?;
        }

        theirs.process.signal(Signal::SIGKILL);
        at(&peer, 80, "both are down again: 110 - 30")?;
        drop(theirs);
        // Two passive sides would wait for each other: ours sends nothing before it hears something.
        let sent = |peer: &Peer| {
            let status = peer.status(host).ok()?;
            let one = status["bfd"].as_array()?.iter().find(|one| one["name"] == "NEAR")?.clone();
            one["packets_sent"].as_u64()
        };
        wait_for("the passive one falls silent", SOON, || {
            let before = sent(&peer)?;
            std::thread::sleep(Duration::from_millis(1500));
            (sent(&peer)? == before).then_some(())
        })?;
        peer.stop()
    }
    if enabled(&["/usr/lib/frr/bfdd"]) {
        told_of(&[Kind::Vipd], story);
    }
}

/// Newer than 2.2.7. `owner_ignore_adverts`: an owner does not hear another one. `skip_check_adv_addr`: of a sender that was
/// heard before the address list is not compared.
#[test]
fn owner_ignore_adverts_and_skip_check_adv_addr() {
    fn story(_: Kind, lab: &Lab) -> Outcome {
        let (host, stranger) = (&lab.lb1, &lab.stranger);
        let text = "global_defs {\n  vrrp_lower_prio_no_advert\n}\n".to_owned()
            + &instance("DEAF", 76, 255, "  state MASTER\n  owner_ignore_adverts")
            + &instance("OWNER", 77, 255, "  state MASTER")
            + &instance("SKIPS", 78, 100, "  skip_check_adv_addr")
            + &instance("CHECKS", 79, 100, "");
        let mut peer = Peer::start_configured(Kind::Vipd, host, &text, "adverts");
        wait_until("the owners are active", SOON, || holds(host, 76) && holds(host, 77))?;
        let source: IpAddr = stranger.ipv4().parse().expect("an address");
        let frame = |vrid: u8, priority: u8, vip: String| {
            let vip: IpAddr = vip.parse().expect("an address");
            let mut craft = Craft::advert(source, vrid, &[vip]);
            (craft.priority, craft.interval) = (priority, 10);
            craft.frame([2, 0, 0, 0, 0, stranger.number])
        };
        let own = |vrid: u8| format!("10.77.0.1{vrid}");
        let other = "10.77.0.199".to_owned();
        let frames = vec![
            frame(76, 255, own(76)),
            frame(77, 255, own(77)),
            frame(78, 200, other.clone()),
            frame(79, 200, other),
        ];
        let injector = Injector::every(stranger, frames, Duration::from_millis(50));
        wait_until("the owner that hears them yields", SOON, || !holds(host, 77))?;
        let number = |name: &str, kind: &str, reason: &str| -> Option<u64> {
            let status = peer.status(host).ok()?;
            let instance = status["instances"].as_array()?.iter().find(|one| one["name"] == name)?.clone();
            Some(instance["counters"][kind][reason].as_u64().unwrap_or(0))
        };
        wait_for("the lists are compared", SOON, || {
            number("CHECKS", "oddities", "address_list").filter(|count| *count >= 20)
        })?;
        let skipped = number("SKIPS", "oddities", "address_list");
        ensure(skipped == Some(1), || format!("compared {skipped:?} times in spite of skip_check_adv_addr"))?;
        let deaf = number("DEAF", "discarded", "owner");
        ensure(holds(host, 76) && deaf >= Some(20), || format!("the deaf owner discarded {deaf:?} adverts"))?;
        injector.finish();
        peer.stop()
    }
    if enabled(&[]) {
        told_of(&[Kind::Vipd], story);
    }
}

/// Newer than 2.2.7. `timer_expired_backup N`: an active one that was held up for longer than a backup of priority N waits
/// becomes backup, though its own Active_Down_Interval is not over.
#[test]
fn timer_expired_backup_asks_when_the_others_have_taken_over() {
    fn story(_: Kind, lab: &Lab) -> Outcome {
        let host = &lab.lb1;
        // Ends after 3.004 s without adverts for priority 254, after 3.996 s for our own.
        let second = |text: String| text.replace("advert_int 0.1", "advert_int 1");
        // With a lease both would ask.
        let text = "global_defs {\n  vipd_lease off\n}\n".to_owned()
            + &second(instance("ASKS", 81, 1, "  nopreempt\n  timer_expired_backup 254"))
            + &second(instance("NOT", 82, 1, "  nopreempt"));
        let mut peer = Peer::start_configured(Kind::Vipd, host, &text, "held-up");
        wait_until("both are active", SOON, || holds(host, 81) && holds(host, 82))?;
        let times = |peer: &Peer, text: &str| peer.process.output().matches(text).count();
        // Timers are late by 2.2 to 3.2 s: more than 2.004 s, and less than 3.996 s.
        peer.process.signal_family(Signal::SIGSTOP);
        std::thread::sleep(Duration::from_millis(3200));
        peer.process.signal_family(Signal::SIGCONT);
        wait_for("the one that asks is backup", SOON, || {
            (times(&peer, "(ASKS) Entering BACKUP STATE") == 2).then_some(())
        })?;
        ensure(times(&peer, "(NOT) Entering BACKUP STATE") == 1, || peer.process.output())?;
        wait_until("nobody has taken over", SOON, || holds(host, 81))?;
        peer.stop()
    }
    if enabled(&[]) {
        told_of(&[Kind::Vipd], story);
    }
}
