//! The file of the JSON signal. Keys, order, types and the escape of `/` as keepalived writes them.

use std::time::Duration;

use config::ready::{self, Authentication, Check, Command, Instance, Probe, VirtualAddress};

use super::stats::Statistics;
use super::{Picture, words};
use crate::observe::event::{Health, State};
use crate::observe::status::InstanceStatus;

/// One line. `json_version 2` (not in 2.2.7) wraps the instances in an object and adds the tracked processes.
pub fn json(picture: &Picture<'_>) -> String {
    let mut writer = Writer::default();
    let is_second = picture.config.process.json_version == 2;
    if is_second {
        writer.open(None, '{');
        writer.open(Some("vrrp"), '[');
    } else {
        writer.open(None, '[');
    }
    for (instance, status) in picture.instances() {
        writer.open(None, '{');
        data(&mut writer, picture, instance, status);
        statistics(&mut writer, &Statistics::of(&status.counters, picture.zero.get(&instance.name)));
        writer.close('}');
    }
    writer.close(']');
    if is_second {
        processes(&mut writer, picture);
        writer.close('}');
    }
    writer.text.push('\n');
    writer.text
}

fn data(w: &mut Writer, picture: &Picture<'_>, instance: &Instance, status: &InstanceStatus) {
    let garp = &instance.gratuitous_arp;
    let seconds = |duration: Option<Duration>| duration.map_or(0, |duration| duration.as_secs());
    let is_active = status.state == State::Active;
    w.open(Some("data"), '{');
    w.string("iname", &instance.name);
    w.number("dont_track_primary", u8::from(!super::instance::tracks_primary(instance)));
    w.number("skip_check_adv_addr", u8::from(instance.skip_address_check));
    w.number("strict_mode", u8::from(instance.strict));
    w.string("vmac_ifname", &super::instance::vmac_name(instance).unwrap_or_default());
    w.string("ifp_ifname", super::instance::vmac_name(instance).as_deref().unwrap_or(&instance.interface));
    w.number("master_priority", status.active.as_ref().map_or(0, |peer| peer.priority));
    w.raw("last_transition", &words::stamp(status.since));
    w.raw("garp_delay", &words::seconds(garp.again_after.unwrap_or_default()));
    w.number("garp_refresh", seconds(garp.refresh));
    w.number("garp_rep", garp.rounds);
    w.number("garp_refresh_rep", garp.refresh_rounds);
    w.number("garp_lower_prio_delay", seconds(garp.lower_priority_again_after));
    w.number("garp_lower_prio_rep", garp.lower_priority_rounds);
    w.number("lower_prio_no_advert", u8::from(!instance.answer_lower_priority));
    w.number("higher_prio_send_advert", u8::from(instance.answer_higher_priority));
    w.number("vrid", instance.vrid);
    w.number("base_priority", instance.priority);
    w.number("effective_priority", status.priority);
    w.boolean("vipset", is_active);
    w.boolean("promote_secondaries", instance.promote_secondaries);
    w.raw("adver_int", &words::seconds(instance.advert_interval));
    let heard = status.active.as_ref().filter(|_| instance.version == ready::Version::V3);
    let master = heard.map_or(instance.advert_interval, |peer| peer.advert_interval);
    w.raw("master_adver_int", &words::seconds(master));
    w.number("accept", u8::from(instance.accept));
    w.boolean("nopreempt", !instance.preempt);
    w.number("preempt_delay", instance.preempt_delay.as_secs());
    w.number("state", words::state_number(status.state));
    w.number("wantstate", words::state_number(super::instance::wanted(instance, status)));
    w.number("version", status.version);
    w.boolean("smtp_alert", instance.smtp_alert);
    w.boolean("notify_deleted", instance.notify.tells_deleted);
    scripts(w, instance);
    let address = |address: &VirtualAddress| words::address(address, is_active);
    w.strings("vips", instance.addresses.iter().map(address));
    w.strings("evips", instance.excluded.iter().map(address));
    w.strings("vroutes", instance.routes.iter().map(|route| route.text.clone()));
    w.strings("vrules", instance.rules.iter().map(|rule| rule.text.clone()));
    w.strings(
        "track_ifp",
        super::instance::tracked_interfaces(instance).map(|track| track.interface.clone()),
    );
    let tracked = |wanted: fn(&Probe) -> bool| {
        let checks = instance.track_checks.iter().filter_map(|track| picture.check(&track.check));
        checks.map(|(check, _)| check).filter(move |check| wanted(&check.probe))
    };
    w.strings(
        "track_script",
        tracked(|probe| matches!(probe, Probe::Script(_))).filter_map(|check| match &check.probe {
            Probe::Script(command) => Some(words::command(command)),
            _ => None,
        }),
    );
    if picture.config.process.json_version == 2 {
        let processes = tracked(|probe| matches!(probe, Probe::Process(_)));
        w.strings("track_process", processes.map(|check| check.name.clone()));
    }
    let (kind, password) = match &instance.authentication {
        Authentication::None => (0, None),
        Authentication::Pass(password) => (1, Some(password)),
        Authentication::Ah(password) => (2, Some(password)),
    };
    w.number("auth_type", kind);
    if let Some(password) = password {
        w.string("auth_data", super::instance::password(password).as_str());
    }
    w.close('}');
}

fn scripts(w: &mut Writer, instance: &Instance) {
    let notify = &instance.notify;
    let scripts: [(&str, &Option<Box<Command>>); 7] = [
        ("script_backup", &notify.backup),
        ("script_master", &notify.master),
        ("script_fault", &notify.fault),
        ("script_stop", &notify.stop),
        ("script_deleted", &notify.deleted),
        ("script", &notify.any),
        ("script_master_rx_lower_pri", &notify.master_rx_lower_priority),
    ];
    for (key, command) in scripts {
        if let Some(command) = command {
            w.string(key, &words::command(command));
        }
    }
}

fn statistics(w: &mut Writer, s: &Statistics) {
    w.open(Some("stats"), '{');
    w.number("advert_rcvd", s.advert_rcvd);
    w.number("advert_sent", s.advert_sent);
    w.number("become_master", s.become_master);
    w.number("release_master", s.release_master);
    w.number("packet_len_err", s.packet_len_err);
    w.number("advert_interval_err", s.advert_interval_err);
    w.number("ip_ttl_err", s.ip_ttl_err);
    w.number("invalid_type_rcvd", s.invalid_type_rcvd);
    w.number("addr_list_err", s.addr_list_err);
    w.number("invalid_authtype", s.invalid_authtype);
    w.number("authtype_mismatch", s.authtype_mismatch);
    w.number("auth_failure", s.auth_failure);
    w.number("pri_zero_rcvd", s.pri_zero_rcvd);
    w.number("pri_zero_sent", s.pri_zero_sent);
    w.close('}');
}

fn processes(w: &mut Writer, picture: &Picture<'_>) {
    let is_process = |check: &&Check| matches!(check.probe, Probe::Process(_));
    if !picture.config.checks.iter().any(|check| is_process(&check)) {
        return;
    }
    w.open(Some("track_process"), '[');
    for check in picture.config.checks.iter().filter(is_process) {
        let Probe::Process(probe) = &check.probe else { continue };
        let status = picture.check(&check.name).map(|(_, status)| status);
        let (weight, reverse) = super::tracked::written_weight(picture, &check.name);
        w.open(None, '{');
        w.string("process", &check.name);
        if let Some((_, parameters)) = &probe.parameters {
            w.string("parameters", &parameters.join(" "));
        }
        w.string("param_match", super::tracked::parameter_match(probe));
        w.number("min_processes", probe.quorum);
        if let Some(most) = probe.quorum_max {
            w.number("max_processes", most);
        }
        w.number("current_processes", super::tracked::count(status));
        w.boolean("have_quorum", status.is_some_and(|status| status.health == Health::Up));
        w.number("weight", if reverse { -weight } else { weight });
        w.raw("terminate_delay", &words::seconds(probe.terminate_delay));
        w.raw("fork_delay", &words::seconds(probe.fork_delay));
        w.boolean("fork_delay_timer_running", false);
        w.boolean("terminate_delay_timer_running", false);
        w.boolean("full_command", probe.full_command);
        w.close('}');
    }
    w.close(']');
}

/// Writes values in the order they come.
#[derive(Debug, Default)]
struct Writer {
    text: String,
    /// Something stands before the next value.
    behind: bool,
}

impl Writer {
    fn key(&mut self, key: Option<&str>) {
        if self.behind {
            self.text.push(',');
        }
        self.behind = true;
        if let Some(key) = key {
            self.quoted(key);
            self.text.push(':');
        }
    }

    fn open(&mut self, key: Option<&str>, bracket: char) {
        self.key(key);
        self.text.push(bracket);
        self.behind = false;
    }

    fn close(&mut self, bracket: char) {
        self.text.push(bracket);
        self.behind = true;
    }

    fn raw(&mut self, key: &str, value: &str) {
        self.key(Some(key));
        self.text.push_str(value);
    }

    fn number(&mut self, key: &str, value: impl ToString) {
        self.raw(key, &value.to_string());
    }

    fn boolean(&mut self, key: &str, value: bool) {
        self.raw(key, if value { "true" } else { "false" });
    }

    fn string(&mut self, key: &str, value: &str) {
        self.key(Some(key));
        self.quoted(value);
    }

    /// Nothing at all when there are none.
    fn strings(&mut self, key: &str, values: impl Iterator<Item = String>) {
        let mut values = values.peekable();
        if values.peek().is_none() {
            return;
        }
        self.open(Some(key), '[');
        for value in values {
            self.key(None);
            self.quoted(&value);
        }
        self.close(']');
    }

    /// Unlike keepalived, which writes a backslash as a line break and control characters as they are, this is
    /// JSON whatever the text.
    fn quoted(&mut self, text: &str) {
        self.text.push('"');
        for character in text.chars() {
            match character {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '/' => self.text.push_str("\\/"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                other if other.is_control() => {
                    self.text.push_str(&format!("\\u{:04x}", u32::from(other)));
                }
                other => self.text.push(other),
            }
        }
        self.text.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_json() {
        let mut writer = Writer::default();
        writer.open(None, '{');
        writer.string("a", "/x \"y\" \\ \n \u{1}");
        writer.strings("none", std::iter::empty());
        writer.strings("b", ["/".to_owned(), "2".to_owned()].into_iter());
        writer.close('}');
        assert!(writer.text.starts_with("{\"a\":\"\\/x "));
        let value: serde_json::Value = serde_json::from_str(&writer.text).unwrap();
        assert_eq!(value, serde_json::json!({"a": "/x \"y\" \\ \n \u{1}", "b": ["/", "2"]}));
    }
}
