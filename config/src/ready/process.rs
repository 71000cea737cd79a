//! The daemon as a process: where it runs, what it writes, whom it mails.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::{Command, is_default};

/// keepalived's settings of its processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Network namespace to move to at start (`net_namespace`).
    #[serde(skip_serializing_if = "is_default")]
    pub net_namespace: Option<String>,
    /// `instance`: several daemons on a host; part of the names of pid files and dumps.
    #[serde(skip_serializing_if = "is_default")]
    pub instance: Option<String>,
    /// Pid files under /run/keepalived (`use_pid_dir`).
    #[serde(skip_serializing_if = "is_default")]
    pub use_pid_dir: bool,
    /// Of the daemon. `None`: x for the user and all of group and others are taken away.
    #[serde(skip_serializing_if = "is_default")]
    pub umask: Option<u32>,
    /// Name shown by ps, at most 15 characters (`process_name`, `vrrp_process_name`).
    #[serde(skip_serializing_if = "is_default")]
    pub name: Option<String>,
    /// `startup_script`: the daemon waits for it.
    #[serde(skip_serializing_if = "is_default")]
    pub startup: Option<Box<Command>>,
    /// Default 10 s.
    #[serde(skip_serializing_if = "is_default")]
    pub startup_timeout: Option<Duration>,
    /// `shutdown_script`.
    #[serde(skip_serializing_if = "is_default")]
    pub shutdown: Option<Box<Command>>,
    /// Default 10 s.
    #[serde(skip_serializing_if = "is_default")]
    pub shutdown_timeout: Option<Duration>,
    /// Scripts get the supplementary groups of their user (`set_supplementary_groups`).
    #[serde(skip_serializing_if = "is_default")]
    pub supplementary_groups: bool,
    /// Scripts that others than root can change are not run (`enable_script_security`).
    #[serde(skip_serializing_if = "is_default")]
    pub script_security: bool,
    /// Paths of scripts are checked as written, with their symbolic links (`use_symlink_paths`).
    #[serde(skip_serializing_if = "is_default")]
    pub symlink_paths: bool,
    /// 1 or 2 (`json_version`); 0 means that nothing was written: 1.
    #[serde(skip_serializing_if = "is_default")]
    pub json_version: u8,
    /// Names of dumps carry the instance and the namespace (`data_use_instance`).
    #[serde(skip_serializing_if = "is_default")]
    pub data_use_instance: bool,
    /// `state_dump_file`.
    #[serde(skip_serializing_if = "is_default")]
    pub state_dump_file: Option<PathBuf>,
    /// A reload is tried on its own first, and its complaints go here (`reload_check_config`).
    #[serde(skip_serializing_if = "is_default")]
    pub reload_check: Option<PathBuf>,
    /// `reload_time_file`.
    #[serde(skip_serializing_if = "is_default")]
    pub reload_time_file: Option<PathBuf>,
    /// `reload_repeat`.
    #[serde(skip_serializing_if = "is_default")]
    pub reload_repeat: bool,
    /// A file that exists while a reload goes on (`reload_file`).
    #[serde(skip_serializing_if = "is_default")]
    pub reload_file: Option<PathBuf>,
    /// Receive buffer of the socket for process events in bytes; `None`: the kernel's default
    /// (`process_monitor_rcv_bufs`).
    #[serde(skip_serializing_if = "is_default")]
    pub process_monitor_buffer: Option<u32>,
    /// FIFOs get the state of every instance after a reload (`fifo_write_vrrp_states_on_reload`).
    #[serde(skip_serializing_if = "is_default")]
    pub fifo_states_on_reload: bool,
    /// Old states are said again before a reload acts: never by default.
    #[serde(skip_serializing_if = "is_default")]
    pub mail: Option<Mail>,
}

/// Mail on changes (`notification_email` and what belongs to it).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mail {
    /// At least one.
    pub to: Vec<String>,
    /// Default USER@HOST.
    pub from: String,
    /// Host name or address.
    pub server: String,
    /// Default 25.
    pub port: u16,
    /// Name in HELO. Default: the host's.
    pub helo: String,
    /// Default 30 s.
    pub connect_timeout: Duration,
    /// No mail on FAULT (`no_email_faults`).
    pub no_faults: bool,
    /// STARTTLS is asked for; not in keepalived.
    #[serde(skip_serializing_if = "is_default")]
    pub start_tls: bool,
    /// User and a file that holds the password; not in keepalived.
    #[serde(skip_serializing_if = "is_default")]
    pub login: Option<(String, PathBuf)>,
}
