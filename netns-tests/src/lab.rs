//! Two load balancers, a client and a stranger on one bridge.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::host::Host;
use crate::process::marked;

/// A set of hosts on one bridge. All of it ends with this value, and with the test's process.
#[derive(Debug)]
pub struct Lab {
    /// Address 1.
    pub lb1: Host,
    /// Address 2: the higher of the two.
    pub lb2: Host,
    /// Address 3.
    pub client: Host,
    /// Address 4: a host that is neither peer nor client.
    pub stranger: Host,
    /// More hosts, from address 11.
    pub others: Vec<Host>,
    /// Where the bridge is. Its ports are named for the hosts.
    pub bridge: Host,
    name: String,
    directory: Option<tempfile::TempDir>,
}

impl Lab {
    /// Builds it; `others` are more hosts, numbered from 11.
    ///
    /// # Panics
    ///
    /// When the host cannot do it.
    pub fn new(others: &[&'static str]) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("{}.{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        // In memory if there is such a place: a daemon that waits for a disk to log is late for its peers.
        let places = [PathBuf::from("/dev/shm"), std::env::temp_dir()];
        let place = places.iter().find(|place| place.is_dir()).expect("a temporary directory");
        let directory = tempfile::Builder::new().prefix("netns-lab-").tempdir_in(place);
        let directory = directory.expect("a temporary directory");
        let host = |host_name, number| {
            Host::new(host_name, number, &name, directory.path())
                .unwrap_or_else(|error| panic!("{host_name}: {error}"))
        };
        let lab = Self {
            lb1: host("lb1", 1),
            lb2: host("lb2", 2),
            client: host("client", 3),
            stranger: host("stranger", 4),
            others: others.iter().zip(11..).map(|(other, number)| host(other, number)).collect(),
            bridge: host("bridge", 250),
            name: name.clone(),
            directory: Some(directory),
        };
        let bridge =
            "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set br0 up\n";
        batch(&lab.bridge, "sysctl-free", bridge);
        for host in lab.hosts() {
            lab.plug(host);
        }
        lab
    }

    /// What its processes have as `NETNS_LAB` in their environment.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every host except the bridge's.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        [&self.lb1, &self.lb2, &self.client, &self.stranger].into_iter().chain(&self.others)
    }

    /// Gives a host its `eth0` with fixed addresses, plugged into the bridge.
    pub fn plug(&self, host: &Host) {
        // Addresses must be usable at once, and nobody may hand out others.
        for (name, value) in
            [("accept_dad", "0"), ("dad_transmits", "0"), ("accept_ra", "0"), ("autoconf", "0")]
        {
            host.sysctl(&format!("net/ipv6/conf/default/{name}"), value);
        }
        let port = host.name;
        batch(
            &self.bridge,
            "plug",
            &format!(
                "link add {port} type veth peer name eth0 address {} netns {}\n\
                 link set {port} master br0 up\n",
                host.mac(),
                host.net_path()
            ),
        );
        batch(
            host,
            "addresses",
            &format!(
                "link set eth0 addrgenmode none\nlink set eth0 up\n\
                 address add {}/24 brd + dev eth0\naddress add {}/64 dev eth0 nodad\naddress add {}/64 dev eth0 nodad\n",
                host.ipv4(),
                host.link_local(),
                host.ipv6()
            ),
        );
    }

    /// The host's port carries nothing any more, in either direction; its own link stays up.
    pub fn silence(&self, host: &Host) {
        self.bridge.run(&["bridge", "link", "set", "dev", host.name, "state", "0"]);
    }

    /// The port carries everything again.
    pub fn unsilence(&self, host: &Host) {
        self.bridge.run(&["bridge", "link", "set", "dev", host.name, "state", "3"]);
    }

    /// The cable is pulled: the host sees its carrier go.
    pub fn pull(&self, host: &Host) {
        self.bridge.run(&["ip", "link", "set", host.name, "down"]);
    }

    /// The cable is back.
    pub fn push(&self, host: &Host) {
        self.bridge.run(&["ip", "link", "set", host.name, "up"]);
    }

    /// What the host sends is lost on its way; what is sent to it arrives.
    pub fn mute(&self, host: &Host) {
        self.bridge.run(&["nft", "add table bridge one_way"]);
        self.bridge
            .run(&["nft", "add chain bridge one_way forward { type filter hook prerouting priority 0; }"]);
        self.bridge.run(&["nft", &format!("add rule bridge one_way forward iifname {} drop", host.name)]);
    }

    /// Ends [`Lab::mute`].
    pub fn unmute(&self) {
        self.bridge.run(&["nft", "delete table bridge one_way"]);
    }

    /// Waits until changes of addresses are quick: the kernel may still be busy with what is left of labs
    /// that ended.
    pub fn wait_for_calm(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut quick = 0;
        while quick < 10 && Instant::now() < deadline {
            let before = Instant::now();
            self.bridge.run(&["ip", "address", "add", "127.9.9.9/32", "dev", "lo"]);
            self.bridge.run(&["ip", "address", "del", "127.9.9.9/32", "dev", "lo"]);
            quick = if before.elapsed() < Duration::from_millis(15) { quick + 1 } else { 0 };
        }
    }

    /// Processes of this lab that live.
    pub fn processes(&self) -> Vec<u32> {
        marked(&format!("NETNS_LAB={}", self.name))
    }

    /// What a reader of a failed test wants to see: the logs, and the sysctls that decide about strays.
    pub fn report(&self) -> String {
        let mut text = String::new();
        for host in self.hosts() {
            let mut logs: Vec<_> =
                std::fs::read_dir(&host.directory).into_iter().flatten().flatten().collect();
            logs.sort_by_key(std::fs::DirEntry::file_name);
            for log in logs.iter().filter(|log| log.path().extension().is_some_and(|kind| kind == "log")) {
                let content = crate::process::read_lossy(&log.path());
                let lines: Vec<&str> = content.lines().collect();
                text += &format!("--- {} {}\n", host.name, log.file_name().to_string_lossy());
                for line in &lines[lines.len().saturating_sub(25)..] {
                    text += &format!("    {line}\n");
                }
            }
        }
        text += &format!("--- rp_filter on lb1: {}\n", self.lb1.read_sysctl("net/ipv4/conf/eth0/rp_filter"));
        text
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for pid in self.processes() {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid.cast_signed()),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
        if std::thread::panicking() {
            eprintln!("{}", self.report());
            if let Some(directory) = self.directory.take() {
                eprintln!("logs and captures are kept in {}", directory.keep().display());
            }
        }
    }
}

/// Runs many `ip` commands at once.
fn batch(host: &Host, what: &str, lines: &str) {
    let file = host.directory.join(format!("{what}.batch"));
    std::fs::write(&file, lines).expect("the lab's directory is ours");
    host.run(&["ip", "-batch", &file.to_string_lossy()]);
}
