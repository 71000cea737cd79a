//! `vipd demo`: two hosts, one address, and a client that never stops asking.
//!
//! Nothing of the host it runs on is touched: the machines are network namespaces, the daemons are this same
//! program, and all of it ends with this process.

mod backend;
mod certificates;
mod client;
mod host;
mod lan;
mod namespace;
mod play;
mod report;
mod story;
mod timeline;

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use vrrp::{AdverInterval, Version};

use self::namespace::{Forbidden, Namespace};
use self::story::Formula;
use self::timeline::Paint;

/// Watch two hosts share one address
///
/// Builds two load balancers, a client and three TLS backends in network namespaces, runs two real daemons, and
/// shows what happens when a load balancer loses power, comes back, is stopped properly, and when a backend breaks.
/// Needs no configuration and no root, touches nothing of this host, and ends within 30 seconds.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vipd demo
  vipd demo --interval 1000    with keepalived's usual interval: outages are ten times as long
  NO_COLOR=1 vipd demo | tee demo.txt

Exit codes: 0 every promise was kept, 1 one was not or the demo could not run, 2 wrong options, 130 interrupted")]
pub struct Arguments {
    /// Time between two adverts of the active host: 10 to 1000 milliseconds, in steps of 10
    #[arg(long, value_name = "MILLISECONDS", default_value = "100", value_parser = interval)]
    interval: AdverInterval,
}

fn interval(text: &str) -> Result<AdverInterval, String> {
    let wanted = text.parse().ok().filter(|ms| (10..=1000).contains(ms)).map(Duration::from_millis);
    let wanted = wanted.ok_or("expected a number of milliseconds from 10 to 1000")?;
    AdverInterval::from_duration(Version::V3, wanted).map_err(|error| error.to_string())
}

/// Where everybody is.
const NETWORK: [u8; 3] = [10, 77, 0];
/// The address that moves.
const VIP: Ipv4Addr = address(100);
/// Where the client connects, and where the backends listen.
const PORT: u16 = 6443;
const CLIENT: Ipv4Addr = address(9);
const HOSTS: [(&str, Ipv4Addr); 2] = [("lb1", address(11)), ("lb2", address(12))];
const BACKENDS: [(&str, Ipv4Addr); 3] = [("b1", address(21)), ("b2", address(22)), ("b3", address(23))];

const fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(NETWORK[0], NETWORK[1], NETWORK[2], last)
}

pub fn run(arguments: &Arguments) -> ExitCode {
    // First of all: it is refused to a process with threads.
    let allowed = namespace::become_root_of_our_own().and_then(|()| {
        Namespace::create().map_err(|error| Forbidden::new("create a network namespace", error))
    });
    if let Err(forbidden) = allowed {
        eprintln!("vipd demo: {forbidden}");
        return ExitCode::FAILURE;
    }
    let formula = Formula::new(arguments.interval);
    match play_it(&formula) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("vipd demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn play_it(formula: &Formula) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let directory = Directory::create()?;
    let servers = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    // One thread, and that the main one: the daemons die with the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        tokio::select! {
            played = play::play(formula, directory.path(), Paint::for_stdout(), servers.handle()) => {
                Ok(if played? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
            _ = interrupt.recv() => interrupted(),
            _ = terminate.recv() => interrupted(),
            _ = hang_up.recv() => interrupted(),
        }
    })
}

fn interrupted() -> Result<ExitCode, Box<dyn std::error::Error>> {
    eprintln!("vipd demo: interrupted; everything it made is removed");
    Ok(ExitCode::from(130))
}

/// For configurations, sockets and logs; removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn create() -> io::Result<Self> {
        let make = |parent: &Path| {
            let path = parent.join(format!("vipd-demo-{}", std::process::id()));
            fs::DirBuilder::new().mode(0o700).create(&path).map(|()| Self(path))
        };
        // The path of a Unix socket has at most 107 bytes.
        let preferred = std::env::temp_dir();
        let short = preferred.as_os_str().len() < 64;
        make(if short { &preferred } else { Path::new("/tmp") })
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("vipd demo: cannot remove {}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_is_refused_outside_of_its_range_and_between_its_steps() {
        assert_eq!(interval("100").map(AdverInterval::as_duration), Ok(Duration::from_millis(100)));
        for text in ["5", "1010", "15", "1s", "-10", ""] {
            assert!(interval(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_directory_is_removed_with_everything_in_it() {
        let directory = Directory::create().unwrap();
        let path = directory.path().to_owned();
        fs::write(path.join("lb1.toml"), "").unwrap();
        drop(directory);
        assert!(!path.exists());
    }
}
