//! The daemons: one description of a virtual router, started as vipd, keepalived or FRR.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::host::{Host, find_program};
use crate::process::Process;
use crate::{Outcome, Stamp, ensure, now};

/// Which daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours, started under the name keepalived with keepalived's options.
    Vipd,
    /// Debian's.
    Keepalived,
    /// zebra and vrrpd of FRR.
    Frr,
}

/// A virtual router on `eth0`, as one host is configured for it.
#[derive(Clone, Debug)]
pub struct Router {
    /// 2 or 3.
    pub version: u8,
    /// 1–255.
    pub vrid: u8,
    /// 1–255.
    pub priority: u8,
    /// Between adverts.
    pub interval: Duration,
    /// With prefix lengths.
    pub addresses: Vec<String>,
    /// PASS.
    pub password: Option<String>,
    /// Own address and the peer's.
    pub unicast: Option<(String, String)>,
    /// `state MASTER`: with priority 255 it does not listen first.
    pub start_active: bool,
    /// Let a lower priority stay active.
    pub nopreempt: bool,
    /// `vrrp_strict`.
    pub strict: bool,
    /// More lines of the instance, in keepalived's language.
    pub extra: String,
}

impl Router {
    /// The instance in keepalived's language.
    pub fn keepalived_conf(&self) -> String {
        let strict = if self.strict { "  vrrp_strict\n" } else { "" };
        let state = if self.start_active { "MASTER" } else { "BACKUP" };
        let mut text = format!(
            "global_defs {{\n  router_id LAB\n{strict}}}\nvrrp_instance VI_1 {{\n  state {state}\n  interface eth0\n",
        );
        text += &format!(
            "  version {}\n  virtual_router_id {}\n  priority {}\n",
            self.version, self.vrid, self.priority
        );
        text += &format!("  advert_int {}\n", self.interval.as_secs_f64());
        if self.nopreempt {
            text += "  nopreempt\n";
        }
        if let Some(password) = &self.password {
            text += &format!("  authentication {{\n    auth_type PASS\n    auth_pass {password}\n  }}\n");
        }
        if let Some((own, peer)) = &self.unicast {
            text += &format!("  unicast_src_ip {own}\n  unicast_peer {{\n    {peer}\n  }}\n");
        }
        text += &self.extra;
        text += "\n  virtual_ipaddress {\n";
        for address in &self.addresses {
            text += &format!("    {address}\n");
        }
        text + "  }\n}\n"
    }

    /// The same in FRR's. It has no passwords, no unicast, and one instance for both families.
    fn frr_conf(&self) -> String {
        let id = self.vrid;
        let mut text = format!(
            "hostname lab\ndebug vrrp protocol\ninterface eth0\n vrrp {id} version {}\n",
            self.version
        );
        text += &format!(" vrrp {id} priority {}\n", self.priority);
        text += &format!(" vrrp {id} advertisement-interval {}\n", self.interval.as_millis());
        if self.nopreempt {
            text += &format!(" no vrrp {id} preempt\n");
        }
        for address in &self.addresses {
            let address = bare(address);
            let family = if address.contains(':') { "ipv6" } else { "ip" };
            text += &format!(" vrrp {id} {family} {address}\n");
        }
        text + "exit\n"
    }

    /// Skew_Time of this router when the active one advertises every `active` (vrrp-protocol: v2 a
    /// part of one second, v3 of the interval).
    pub fn skew(&self, active: Duration) -> Duration {
        let whole = if self.version == 2 { Duration::from_secs(1) } else { active };
        whole * (256 - u32::from(self.priority)) / 256
    }

    /// Active_Down_Interval of this router.
    pub fn down(&self, active: Duration) -> Duration {
        3 * active + self.skew(active)
    }
}

/// Without the prefix length.
pub fn bare(address: &str) -> &str {
    address.split('/').next().unwrap_or(address)
}

/// A running daemon.
#[derive(Debug)]
pub struct Peer {
    /// Which.
    pub kind: Kind,
    /// When it was started.
    pub started: Stamp,
    /// The process that signals go to. FRR: vrrpd.
    pub process: Process,
    /// FRR: zebra, without which vrrpd cannot work.
    _zebra: Option<Process>,
}

impl Peer {
    /// Starts a daemon for one router. Its logs get the name `tag`.
    ///
    /// # Panics
    ///
    /// When the program is missing.
    pub fn start(kind: Kind, host: &Host, router: &Router, tag: &str) -> Self {
        match kind {
            Kind::Frr => Self::start_frr(host, router, tag),
            Kind::Vipd | Kind::Keepalived => {
                Self::start_configured(kind, host, &router.keepalived_conf(), tag)
            }
        }
    }

    /// Starts vipd (under the name keepalived) or keepalived with a keepalived.conf.
    pub fn start_configured(kind: Kind, host: &Host, configuration: &str, tag: &str) -> Self {
        let file = host.directory.join(format!("{tag}.conf"));
        std::fs::write(&file, configuration).expect("the lab's directory is ours");
        Self::start_file(kind, host, &file, tag)
    }

    /// The same with a file that is already there.
    pub fn start_file(kind: Kind, host: &Host, file: &Path, tag: &str) -> Self {
        let program = match kind {
            Kind::Vipd => vipd_as_keepalived(&host.directory),
            Kind::Keepalived => program("keepalived"),
            Kind::Frr => panic!("FRR does not read keepalived.conf"),
        };
        let mut command = host.daemon(program);
        command.args(["-n", "-l", "-D", "-f"]).arg(file);
        for (option, suffix) in [("-p", "pid"), ("-r", "vrrp.pid"), ("-c", "checkers.pid"), ("-b", "bfd.pid")]
        {
            command.arg(option).arg(host.directory.join(format!("{tag}.{}.{suffix}", now().as_nanos())));
        }
        if kind == Kind::Keepalived {
            // Without this it logs to syslog too, and where nothing listens there, to the console, which
            // costs it milliseconds a line.
            command.arg("-G");
        }
        let started = now();
        let process =
            Process::start(command, &host.directory.join(format!("{tag}.log"))).expect("the daemon starts");
        Self { kind, started, process, _zebra: None }
    }

    /// Starts `vipd run` with a TOML configuration.
    pub fn start_toml(host: &Host, configuration: &str, tag: &str) -> Self {
        let file = host.directory.join(format!("{tag}.toml"));
        std::fs::write(&file, configuration).expect("the lab's directory is ours");
        let mut command = host.daemon(vipd());
        command.args(["run", "-c"]).arg(&file);
        let started = now();
        let process =
            Process::start(command, &host.directory.join(format!("{tag}.log"))).expect("vipd starts");
        Self { kind: Kind::Vipd, started, process, _zebra: None }
    }

    /// Starts FRR's bfdd with a configuration of its own.
    ///
    /// # Panics
    ///
    /// When the program is missing.
    pub fn start_bfdd(host: &Host, configuration: &str, tag: &str) -> Self {
        let zebra = start_zebra(host, tag);
        let file = host.directory.join(format!("{tag}.frr"));
        std::fs::write(&file, configuration).expect("the lab's directory is ours");
        let mut bfdd = host.daemon(program("/usr/lib/frr/bfdd"));
        bfdd.args(FRR_OPTIONS)
            .args(["-i", "/run/frr/bfdd.pid", "--bfdctl", "/run/frr/bfdd.sock", "-f"])
            .arg(&file);
        let started = now();
        let process = Process::start(bfdd, &host.directory.join(format!("{tag}.log"))).expect("bfdd starts");
        Self { kind: Kind::Frr, started, process, _zebra: Some(zebra) }
    }

    fn start_frr(host: &Host, router: &Router, tag: &str) -> Self {
        // The base link must neither answer for the addresses of the links on top of it nor ask
        // in their name.
        host.sysctl("net/ipv4/conf/eth0/arp_ignore", "1");
        host.sysctl("net/ipv4/conf/eth0/arp_announce", "2");
        for (family, colon) in [(4, false), (6, true)] {
            let link = format!("vrrp{family}-2-{}", router.vrid);
            let addresses: Vec<&String> =
                router.addresses.iter().filter(|a| a.contains(':') == colon).collect();
            if addresses.is_empty() || host.links().contains(&link) {
                continue;
            }
            let mac = format!("00:00:5e:00:0{}:{:02x}", if colon { 2 } else { 1 }, router.vrid);
            host.run(&["ip", "link", "add", &link, "link", "eth0", "type", "macvlan", "mode", "bridge"]);
            host.run(&["ip", "link", "set", &link, "address", &mac, "addrgenmode", "none"]);
            for address in addresses {
                let mut words = vec!["ip", "address", "add", address, "dev", &link];
                words.extend(colon.then_some("nodad"));
                host.run(&words);
            }
            // The link-local address that was added last becomes the source of its adverts; a virtual one would make
            // tie-breaks compare equal addresses.
            if colon {
                let own = format!("fe80::200:5eff:fe00:{:x}/64", 0x200 + u16::from(router.vrid));
                host.run(&["ip", "address", "add", &own, "dev", &link, "nodad"]);
            }
            host.run(&["ip", "link", "set", &link, "up"]);
        }
        let zebra = start_zebra(host, tag);
        let file = host.directory.join(format!("{tag}.frr"));
        std::fs::write(&file, router.frr_conf()).expect("the lab's directory is ours");
        let mut vrrpd = host.daemon(program("/usr/lib/frr/vrrpd"));
        vrrpd.args(FRR_OPTIONS).args(["-i", "/run/frr/vrrpd.pid", "-f"]).arg(&file);
        let started = now();
        let process =
            Process::start(vrrpd, &host.directory.join(format!("{tag}.log"))).expect("vrrpd starts");
        Self { kind: Kind::Frr, started, process, _zebra: Some(zebra) }
    }

    /// Stops it the friendly way.
    pub fn stop(&mut self) -> Outcome {
        let status = self.process.terminate(Duration::from_secs(10))?;
        ensure(status.success() || self.kind == Kind::Frr, || {
            format!("{:?} ended with {status} after SIGTERM:\n{}", self.kind, self.process.output())
        })
    }

    /// `vipd status --json` on its host.
    pub fn status(&self, host: &Host) -> Outcome<Value> {
        let text = host.try_run(&[&vipd().to_string_lossy(), "status", "--json"])?;
        serde_json::from_str(&text).map_err(|error| format!("vipd status --json: {error}\n{text}").into())
    }
}

/// What every daemon of FRR is told.
const FRR_OPTIONS: [&str; 10] =
    ["-u", "root", "-g", "root", "-z", "/run/frr/zserv.api", "--vty_socket", "/run/frr", "--log", "stdout"];

/// FRR's zebra, without which its others cannot work.
fn start_zebra(host: &Host, tag: &str) -> Process {
    // FRR wants its user in the group of its terminals, also when that user is root.
    let groups = std::fs::read_to_string("/etc/group").expect("/etc/group");
    let groups: String = groups
        .lines()
        .map(|line| if line.starts_with("frrvty:") { format!("{line},root\n") } else { format!("{line}\n") })
        .collect();
    let group_file = host.directory.join("group");
    std::fs::write(&group_file, groups).expect("the lab's directory is ours");
    host.bind(&group_file, Path::new("/etc/group"));
    host.run(&["mkdir", "-p", "/run/frr"]);
    let mut zebra = host.daemon(program("/usr/lib/frr/zebra"));
    zebra.args(FRR_OPTIONS).args(["-f", "/dev/null", "-i", "/run/frr/zebra.pid"]);
    let mut zebra =
        Process::start(zebra, &host.directory.join(format!("{tag}-zebra.log"))).expect("zebra starts");
    zebra
        .wait_for_output("starting", Duration::from_secs(20))
        .unwrap_or_else(|error| panic!("{}", error.text));
    zebra
}

fn program(name: &str) -> PathBuf {
    find_program(name).unwrap_or_else(|| panic!("the program {name} is missing"))
}

/// The program under test: `VIPD_BIN`, or the build's output beside this test.
///
/// # Panics
///
/// When it is not there.
pub fn vipd() -> PathBuf {
    if let Some(path) = std::env::var_os("VIPD_BIN") {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "VIPD_BIN={} is not a file", path.display());
        return path;
    }
    let test = std::env::current_exe().expect("a test knows its program");
    // Tests are one directory below it, other programs beside it.
    let places = test.ancestors().skip(1).take(2).map(|directory| directory.join("vipd"));
    places.into_iter().find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("no vipd beside {}: run `cargo build` first, or set VIPD_BIN", test.display())
    })
}

/// vipd under the name that makes it take keepalived's options.
fn vipd_as_keepalived(directory: &Path) -> PathBuf {
    let link = directory.join("keepalived");
    if !link.exists() {
        std::os::unix::fs::symlink(vipd(), &link).expect("the lab's directory is ours");
    }
    link
}
