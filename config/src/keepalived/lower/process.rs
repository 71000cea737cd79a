//! `global_defs` on the daemon itself: its engine thread, its process, its mails.

use std::time::Duration;

use crate::diagnostic::{Diagnostic, Located};
use crate::ready::DynamicInterfaces;
use crate::validate::is_host;
use crate::written::{Statement, Word};

use super::values::Rest;
use super::{Lower, inside, located};

const IGNORED: &str = "the line is ignored";
/// What keepalived calls its VRRP process with `process_names`.
const VRRP_PROCESS: &str = "keepalived_vrrp";
/// Bytes that the kernel keeps of a process's name.
const MOST_PROCESS_NAME: usize = 15;
/// `reload_file` without a name.
const RELOAD_FILE: &str = "keepalived.reload";

/// What is said in several words, or can be said only when `global_defs` is read to its end.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    /// `startup_script`, `shutdown_script`.
    scripts: [Option<Statement>; 2],
    /// `vrrp_process_name` before `process_name` before `process_names`.
    names: [Option<String>; 3],
    reload_file: bool,
}

impl Lower<'_> {
    /// `false`: none of its words.
    pub(super) fn process_word(&mut self, statement: &Statement) -> bool {
        self.engine_word(statement) || self.daemon_word(statement) || self.mail_word(statement)
    }

    fn engine_word(&mut self, statement: &Statement) -> bool {
        match statement.keyword() {
            "vrrp_delay_after_boot" => {
                let word = self.required(statement, "seconds");
                let delay = word.and_then(|word| self.seconds(word, 0.0..=86_400.0, 6, IGNORED));
                self.model.engine.delay_after_boot = delay.unwrap_or_default();
            }
            "dynamic_interfaces" => {
                self.model.engine.dynamic_interfaces = match statement.parameter() {
                    Some(word) if word.text == "allow_if_changes" => DynamicInterfaces::AllowChanges,
                    Some(word) => {
                        self.invalid(word, "`allow_if_changes` or nothing", "the word is ignored");
                        DynamicInterfaces::Yes
                    }
                    None => DynamicInterfaces::Yes,
                }
            }
            "disable_local_igmp" => self.model.engine.disable_local_igmp = true,
            "vrrp_rx_bufs_policy" => self.receive_buffers(statement),
            "vrrp_priority" => {
                let nice = self.whole(statement, -20..=19);
                self.model.engine.nice = nice.and_then(|nice| i8::try_from(nice).ok());
            }
            "vrrp_cpu_affinity" => {
                if self.required(statement, "numbers of processors").is_some() {
                    for word in statement.parameters() {
                        let cpu = self.number(word, 0..=1023, Rest::Warned, "the word is ignored");
                        self.model.engine.cpus.extend(cpu.and_then(|cpu| usize::try_from(cpu).ok()));
                    }
                }
            }
            "vrrp_rlimit_rttime" | "vrrp_rlimit_rtime" => {
                let limit = self.whole(statement, 1..=i64::from(u32::MAX));
                let limit = limit.and_then(|limit| u64::try_from(limit).ok());
                self.model.engine.rlimit_rttime = limit.map(Duration::from_micros);
            }
            _ => return false,
        }
        true
    }

    fn daemon_word(&mut self, statement: &Statement) -> bool {
        let pending = &mut self.globals.pending;
        match statement.keyword() {
            "net_namespace" => self.model.process.net_namespace = self.text(statement, "a network namespace"),
            "instance" => self.model.process.instance = self.text(statement, "a name"),
            "use_pid_dir" => self.model.process.use_pid_dir = true,
            "umask" => self.umask(statement),
            "process_names" => pending.names[2] = Some(VRRP_PROCESS.to_owned()),
            "process_name" => self.process_name(statement, 1),
            "vrrp_process_name" => self.process_name(statement, 0),
            "startup_script" => pending.scripts[0] = Some(statement.clone()),
            "shutdown_script" => pending.scripts[1] = Some(statement.clone()),
            "startup_script_timeout" => {
                self.model.process.startup_timeout = self.script_timeout(statement);
            }
            "shutdown_script_timeout" => {
                self.model.process.shutdown_timeout = self.script_timeout(statement);
            }
            "set_supplementary_groups" => self.model.process.supplementary_groups = true,
            "use_symlink_paths" => {
                self.model.process.symlink_paths = self.boolean(statement).is_some_and(|on| on.value);
            }
            "json_version" => {
                let version = self.whole(statement, 1..=2).and_then(|version| u8::try_from(version).ok());
                self.model.process.json_version = version.unwrap_or_default();
            }
            "data_use_instance" => {
                self.model.process.data_use_instance = self.boolean(statement).is_some_and(|on| on.value);
            }
            "state_dump_file" => {
                self.model.process.state_dump_file = self.text(statement, "a path").map(Into::into);
            }
            "reload_check_config" => {
                let log = statement.parameter().map_or("/dev/null", |word| &word.text);
                self.model.process.reload_check = Some(log.into());
            }
            "reload_time_file" => {
                self.model.process.reload_time_file = self.text(statement, "a path").map(Into::into);
            }
            "process_monitor_rcv_bufs" => {
                let bytes = self.whole(statement, 1..=i64::from(i32::MAX));
                let bytes = bytes.and_then(|bytes| u32::try_from(bytes).ok());
                self.model.process.process_monitor_buffer = bytes;
            }
            "reload_repeat" => {
                self.model.process.reload_repeat = self.boolean(statement).is_some_and(|on| on.value);
            }
            "reload_file" => {
                pending.reload_file = true;
                self.model.process.reload_file = statement.parameter().map(|word| (&word.text).into());
            }
            "fifo_write_vrrp_states_on_reload" => self.model.process.fifo_states_on_reload = true,
            // The reader has used it for `${_RANDOM}`.
            "random_seed" => {
                self.whole(statement, 0..=i64::from(u32::MAX));
            }
            _ => return false,
        }
        true
    }

    fn mail_word(&mut self, statement: &Statement) -> bool {
        match statement.keyword() {
            "notification_email" => {
                let words = inside(statement).iter().flat_map(|entry| &entry.words);
                self.model.mail.to.extend(words.map(|word| word.text.clone()));
            }
            "notification_email_from" => self.model.mail.from = self.text(statement, "an address of mail"),
            "smtp_server" => self.smtp_server(statement),
            "smtp_helo_name" => self.model.mail.helo = self.text(statement, "a host name"),
            "smtp_connect_timeout" => {
                let Some(word) = self.required(statement, "seconds") else { return true };
                let seconds = self.number(word, 0..=4294, Rest::Warned, "30 s is used");
                if seconds == Some(0) {
                    self.invalid(word, "at least 1", "1 s is used, as in keepalived");
                }
                let seconds = seconds.and_then(|seconds| u64::try_from(seconds.max(1)).ok());
                self.model.mail.connect_timeout = seconds.map(Duration::from_secs);
            }
            "smtp_alert" => self.globals.smtp_alert = self.boolean(statement).map(|on| on.value),
            "smtp_alert_vrrp" => self.globals.smtp_alert_vrrp = self.boolean(statement).map(|on| on.value),
            "smtp_alert_checker" => {
                self.globals.smtp_alert_checker = self.boolean(statement).map(|on| on.value);
            }
            "no_email_faults" => self.model.mail.no_faults = true,
            _ => return false,
        }
        true
    }

    fn smtp_server(&mut self, statement: &Statement) {
        let Some(host) = self.required(statement, "a host name or address") else { return };
        if !is_host(&host.text) {
            return self.invalid(host, "a host name or address", "no mail is sent, as with keepalived");
        }
        let port = match statement.parameters().get(1) {
            Some(word) => self.number(word, 1..=65535, Rest::Warned, "port 25 is used"),
            None => None,
        };
        let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(25);
        self.model.mail.server = Some((host.text.clone(), port));
    }

    fn receive_buffers(&mut self, statement: &Statement) {
        let Some(word) = self.required(statement, "`MTU`, `ADVERT` or a number of bytes") else { return };
        if let "MTU" | "ADVERT" = word.text.as_str() {
            let message = format!("buffers are never as small as `{}` makes them", word.text);
            let finding = Diagnostic::notice("not-needed", &statement.whole(), message);
            self.diagnostics.push(finding.help("the buffer holds the adverts of a thousand instances"));
            return;
        }
        let bytes = self.number(word, 1..=i64::from(i32::MAX), Rest::Warned, IGNORED);
        self.model.engine.receive_buffer = bytes.and_then(|bytes| u32::try_from(bytes).ok());
    }

    /// A number in any base, or names of bits such as `IRGRP` joined with `|`.
    fn umask(&mut self, statement: &Statement) {
        let Some(first) = self.required(statement, "a number or bits such as IWGRP|IWOTH") else { return };
        let text: String = statement.parameters().iter().map(|word| word.text.as_str()).collect();
        match umask(&text) {
            Some(bits) => self.model.process.umask = Some(bits),
            None => self.invalid(first, "a number up to 0777, or bits such as IWGRP|IWOTH", IGNORED),
        }
    }

    fn process_name(&mut self, statement: &Statement, index: usize) {
        let Some(word) = self.required(statement, "a name") else { return };
        let mut name = word.text.clone();
        if name.len() > MOST_PROCESS_NAME {
            let end = (0..=MOST_PROCESS_NAME).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
            name.truncate(end);
            let help = format!("`{name}` is used");
            self.invalid(word, "at most 15 bytes", &help);
        }
        self.globals.pending.names[index] = Some(name);
    }

    fn script_timeout(&mut self, statement: &Statement) -> Option<Duration> {
        let seconds = self.whole(statement, 1..=1000)?;
        u64::try_from(seconds).ok().map(Duration::from_secs)
    }

    /// The word behind the keyword.
    pub(super) fn text(&mut self, statement: &Statement, expected: &str) -> Option<String> {
        self.required(statement, expected).map(|word| word.text.clone())
    }

    /// The whole number behind the keyword; without a valid one the line is ignored.
    pub(super) fn whole(
        &mut self,
        statement: &Statement,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        let word = self.required(statement, &expected)?;
        self.number(word, range, Rest::Warned, IGNORED)
    }

    /// What depends on all of `global_defs`, and on top-level words.
    pub(super) fn finish_process(&mut self) {
        let pending = std::mem::take(&mut self.globals.pending);
        let [startup, shutdown] = pending.scripts;
        self.model.process.startup = startup.and_then(|statement| self.notify_command(&statement));
        self.model.process.shutdown = shutdown.and_then(|statement| self.notify_command(&statement));
        self.model.process.name = pending.names.into_iter().flatten().next();
        self.model.process.script_security = self.globals.script_security;
        if pending.reload_file && self.model.process.reload_file.is_none() {
            let folder = if self.model.process.use_pid_dir { "/run/keepalived/" } else { "/run/" };
            self.model.process.reload_file = Some(format!("{folder}{RELOAD_FILE}").into());
        }
    }

    /// `interface_up_down_delays { INTERFACE DOWN [UP] }`.
    pub(super) fn link_delays(&mut self, block: &Statement) {
        for entry in inside(block) {
            let interface = located(&entry.words[0]);
            let Some(down) = entry.words.get(1) else {
                let message = format!("no delay for {}", interface.value);
                let finding = Diagnostic::warning("missing-parameter", &interface.at, message);
                self.diagnostics.push(finding.expected("`INTERFACE DOWN_DELAY [UP_DELAY]`").help(IGNORED));
                continue;
            };
            let Some(down) = self.link_delay(down) else { continue };
            let up = entry.words.get(2).and_then(|word| self.link_delay(word)).unwrap_or_default();
            if self.model.link_delays.iter().any(|one| one.interface == interface.value) {
                self.twice(&interface, "has its delays already");
                continue;
            }
            let place = interface.at.place.clone();
            let delay = crate::ready::LinkDelay { interface: interface.value, down, up, place };
            self.model.link_delays.push(delay);
        }
    }

    fn link_delay(&mut self, word: &Word) -> Option<Duration> {
        self.seconds(word, 0.0..=255.0, 6, "no delay is used")
    }

    fn twice(&mut self, name: &Located<String>, what: &str) {
        let finding = Diagnostic::warning("duplicate", &name.at, format!("{} {what}", name.value));
        self.diagnostics.push(finding.help("the first counts"));
    }

    /// `garp_group { garp_interval S gna_interval S interface I interfaces { I … } }`.
    pub(super) fn garp_group(&mut self, block: &Statement) {
        let (mut arp_gap, mut na_gap, mut interfaces) = (Duration::ZERO, Duration::ZERO, Vec::new());
        for statement in inside(block) {
            match statement.keyword() {
                keyword @ ("garp_interval" | "gna_interval") => {
                    let word = self.required(statement, "seconds");
                    let gap = word.and_then(|word| self.seconds(word, 0.0..=86_400.0, 6, IGNORED));
                    *(if keyword == "garp_interval" { &mut arp_gap } else { &mut na_gap }) =
                        gap.unwrap_or_default();
                }
                "interface" => interfaces.extend(self.required(statement, "an interface").map(located)),
                _ => interfaces.extend(inside(statement).iter().flat_map(|entry| &entry.words).map(located)),
            }
        }
        let mut names: Vec<String> = Vec::new();
        for interface in interfaces {
            let grouped = self.model.announcement_groups.iter().flat_map(|group| &group.interfaces);
            if grouped.chain(&names).any(|name| *name == interface.value) {
                self.twice(&interface, "is in a group already");
            } else {
                names.push(interface.value);
            }
        }
        if names.is_empty() {
            let finding = Diagnostic::warning("no-members", block.at(), "`garp_group` without an interface");
            self.diagnostics.push(finding.help("it is removed, as in keepalived"));
            return;
        }
        let place = block.at().place.clone();
        let group = crate::ready::AnnouncementGroup { interfaces: names, arp_gap, na_gap, place };
        self.model.announcement_groups.push(group);
    }
}

fn umask(text: &str) -> Option<u32> {
    let number = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => u32::from_str_radix(&text[2..], 16).ok(),
        [b'0', _, ..] => u32::from_str_radix(text, 8).ok(),
        [b'0'..=b'9', ..] => text.parse().ok(),
        _ => text.split('|').map(umask_bit).try_fold(0, |bits, bit| Some(bits | bit?)),
    };
    number.filter(|bits| *bits <= 0o777)
}

/// `I`, one of `R W X`, one of `USR GRP OTH`; also `IRWX` with a letter for whom.
fn umask_bit(name: &str) -> Option<u32> {
    let name = name.trim();
    let name = name.strip_prefix("S_").unwrap_or(name).strip_prefix('I')?;
    let (bits, whom) = match name.as_bytes().first()? {
        _ if name.starts_with("RWX") => (7, &name[3..]),
        b'R' => (4, &name[1..]),
        b'W' => (2, &name[1..]),
        b'X' => (1, &name[1..]),
        _ => return None,
    };
    let shift = match whom {
        "USR" | "U" => 6,
        "GRP" | "G" => 3,
        "OTH" | "O" => 0,
        _ => return None,
    };
    Some(bits << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn umask_is_a_number_or_bits() {
        assert_eq!(umask("027"), Some(0o27));
        assert_eq!(umask("0x12"), Some(0o22));
        assert_eq!(umask("18"), Some(0o22));
        assert_eq!(umask("IWGRP|IWOTH"), Some(0o22));
        assert_eq!(umask("IRWXO|IXUSR"), Some(0o107));
        assert_eq!(umask("IWGRP|nonsense"), None);
        assert_eq!(umask("07777"), None);
        assert_eq!(umask(""), None);
    }
}
