//! How keepalived shows itself: data dump, statistics and JSON, in the layout of Debian's 2.2.7.
//!
//! Pure: a [`Picture`] in, text out. Exporters, Zabbix templates and scripts read these files, so labels, order and
//! number formats are an interface. Seen in the dumps of a running keepalived 2.2.7; what came later follows 2.4.3.
//! A socket serves both directions here, and one process does everything: `fd_in` equals `fd_out`.

mod data;
mod delays;
pub mod files;
mod globals;
mod instance;
pub mod interfaces;
mod json;
pub mod lines;
mod stats;
mod tracked;
mod words;

use std::collections::HashMap;
use std::time::SystemTime;

use config::ready::{Check, Config, Instance};

use self::interfaces::Interface;
use super::event::State;
use super::status::{CheckStatus, Counters, InstanceStatus, Status};

pub use self::json::json;
pub use self::stats::stats;
pub(crate) use self::words::date;

/// The release whose texts and layouts these are.
pub const RELEASE: &str = "Keepalived v2.2.7 (01/16,2022)";

/// Everything at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// What runs.
    pub config: &'a Config,
    /// What is.
    pub status: &'a Status,
    /// Links of the host, for the data dump.
    pub interfaces: &'a [Interface],
    /// Counters as they were when somebody set them to zero, by instance.
    pub zero: &'a HashMap<String, Counters>,
    /// Of the daemon.
    pub umask: u32,
    /// When.
    pub now: SystemTime,
}

impl<'a> Picture<'a> {
    /// Each instance as it is configured and as it is. One that was removed a moment ago is left out.
    fn instances(&self) -> impl Iterator<Item = (&'a Instance, &'a InstanceStatus)> {
        let status = self.status;
        self.config.instances.iter().filter_map(move |instance| {
            Some((&**instance, status.instances.iter().find(|one| one.name == instance.name)?))
        })
    }

    fn check(&self, name: &str) -> Option<(&'a Check, &'a CheckStatus)> {
        let check = self.config.checks.iter().find(|check| check.name == name)?;
        Some((check, self.status.checks.iter().find(|status| status.name == name)?))
    }

    fn state(&self, instance: &str) -> State {
        let found = self.status.instances.iter().find(|status| status.name == instance);
        found.map_or(State::Initialize, |status| status.state)
    }
}

/// The file of SIGUSR1.
pub fn data(picture: &Picture<'_>) -> String {
    data::data(picture)
}

/// The global settings alone: the file of keepalived's parent process.
pub fn parent(picture: &Picture<'_>) -> String {
    let mut page = Page::default();
    globals::globals(&mut page, picture, globals::Of::Parent);
    page.0
}

/// Lines of a dump.
#[derive(Debug, Default)]
struct Page(String);

impl Page {
    fn line(&mut self, line: impl AsRef<str>) {
        self.0.push_str(line.as_ref());
        self.0.push('\n');
    }

    fn section(&mut self, name: &str) {
        self.line(format!("------< {name} >------"));
    }
}
