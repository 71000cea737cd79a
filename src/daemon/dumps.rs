//! What the signals USR1, USR2, STATS_CLEAR and JSON ask for: files as keepalived writes them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use config::ready::Config;
use tracing::{info, warn};

use crate::observe::keepalived::files::{self, Dump};
use crate::observe::keepalived::{self, Picture, interfaces};
use crate::observe::log::keepalived::TARGET;
use crate::observe::status::{Counters, Status};

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// SIGUSR1: the data dump.
    Data,
    /// SIGUSR2: statistics.
    Stats,
    /// SIGRTMAX-1: statistics, and from zero again.
    StatsClear,
    /// SIGRTMIN+2.
    Json,
}

impl Asked {
    fn words(self) -> &'static str {
        match self {
            Self::Data => "VRRP data",
            Self::Stats | Self::StatsClear => "VRRP stats",
            Self::Json => "VRRP as json",
        }
    }
}

/// Writes dumps.
#[derive(Clone, Debug)]
pub struct Dumps {
    umask: u32,
    /// Counters when they were cleared. Metrics count on: they may never go back.
    zero: Arc<Mutex<HashMap<String, Counters>>>,
}

impl Dumps {
    /// `umask`: of the daemon, to be shown.
    pub fn new(umask: u32) -> Self {
        Self { umask, zero: Arc::default() }
    }

    /// Writes what was asked for, on a thread that may wait for the file system.
    pub async fn write(&self, asked: Asked, config: Arc<Config>, status: Status) {
        info!(target: TARGET, "Printing {} for process({}) on signal", asked.words(), status.pid);
        let this = self.clone();
        // It panics only if we do, and that was said.
        let _ = tokio::task::spawn_blocking(move || this.write_now(asked, &config, &status)).await;
    }

    /// The data dump without the host's interfaces, to the log.
    pub fn log(&self, config: &Config, status: &Status) {
        let zero = HashMap::new();
        let now = SystemTime::now();
        let picture = Picture { config, status, interfaces: &[], zero: &zero, umask: self.umask, now };
        for line in keepalived::data(&picture).lines() {
            info!(target: TARGET, "{line}");
        }
    }

    fn write_now(&self, asked: Asked, config: &Config, status: &Status) {
        let interfaces = match asked {
            Asked::Data => interfaces::read().unwrap_or_else(|error| {
                warn!(%error, "the dump lacks the interfaces");
                Vec::new()
            }),
            _ => Vec::new(),
        };
        let mut zero = self.zero.lock().unwrap_or_else(PoisonError::into_inner);
        let picture = Picture {
            config,
            status,
            interfaces: &interfaces,
            zero: &zero,
            umask: self.umask,
            now: SystemTime::now(),
        };
        match asked {
            Asked::Data => {
                write(Dump::Parent, config, &keepalived::parent(&picture));
                write(Dump::Data, config, &keepalived::data(&picture));
            }
            Asked::Stats | Asked::StatsClear => write(Dump::Stats, config, &keepalived::stats(&picture)),
            Asked::Json if config.instances.is_empty() => {}
            Asked::Json => write(Dump::Json, config, &keepalived::json(&picture)),
        }
        if asked == Asked::StatsClear {
            let counters =
                |one: &crate::observe::status::InstanceStatus| (one.name.clone(), one.counters.clone());
            *zero = status.instances.iter().map(counters).collect();
        }
    }
}

fn write(dump: Dump, config: &Config, text: &str) {
    let path = files::path(dump, &config.process);
    if let Err(error) = files::write(&path, text) {
        warn!(%error, "Can't open {}", path.display());
    }
}
