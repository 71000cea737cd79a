//! How keepalived says it: MASTER, BACKUP, FAULT, STOP; argument order; FIFO lines. No other place does.

use crate::observe::event::{Fault, Reason, State};

/// A state as keepalived's scripts know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Master,
    Backup,
    Fault,
    Stop,
    Deleted,
}

impl Word {
    /// What scripts and FIFOs read.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Master => "MASTER",
            Self::Backup => "BACKUP",
            Self::Fault => "FAULT",
            Self::Stop => "STOP",
            Self::Deleted => "DELETED",
        }
    }
}

/// Of whom something is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Instance,
    Group,
}

impl Who {
    fn as_str(self) -> &'static str {
        match self {
            Self::Instance => "INSTANCE",
            Self::Group => "GROUP",
        }
    }
}

/// What is told about an instance that entered `to`; `None` when keepalived is silent: before the start,
/// and in FAULT while nothing but a check's first result is waited for.
pub(super) fn word(to: State, reason: &Reason) -> Option<Word> {
    match (to, reason) {
        (_, Reason::Group { because, .. }) => word(to, because),
        (State::Active, _) => Some(Word::Master),
        (State::Backup, _) => Some(Word::Backup),
        (State::Fault, Reason::Fault { faults }) if only_waits_for_checks(faults) => None,
        (State::Fault, _) => Some(Word::Fault),
        (State::Initialize, Reason::Stopped) => Some(Word::Stop),
        (State::Initialize, _) => None,
    }
}

fn only_waits_for_checks(faults: &[Fault]) -> bool {
    !faults.is_empty() && faults.iter().all(Fault::only_waits)
}

/// What `notify` gets after its own arguments. Names are not quoted here. A group has no priority: 0.
pub(super) fn arguments(who: Who, name: &str, word: Word, priority: u8) -> [String; 4] {
    [who.as_str().to_owned(), name.to_owned(), word.as_str().to_owned(), priority.to_string()]
}

/// A line for a change of state.
pub(super) fn state_line(who: Who, name: &str, word: Word, priority: u8) -> String {
    format!("{} \"{name}\" {} {priority}\n", who.as_str(), word.as_str())
}

/// Subject and text of a mail about a real server.
pub(super) fn server_mail(
    router_id: &str,
    server: &str,
    service: &str,
    up: bool,
    detail: &str,
) -> (String, String) {
    let (state, said) = if up { ("UP", "succeed") } else { ("DOWN", "failed") };
    (
        format!("[{router_id}] Realserver {server} of virtual server {service} - {state}"),
        format!("=> CHECK {said} on service : {detail} <="),
    )
}

/// Subject and text of a mail about a virtual server. `begins`: nothing was said of it before.
pub(super) fn service_mail(
    router_id: &str,
    service: &str,
    up: bool,
    begins: bool,
    sum: &str,
) -> (String, String) {
    let (state, said) = match (up, begins) {
        (true, true) => ("UP", "Starting with quorum up"),
        (true, false) => ("UP", "Gained quorum"),
        (false, true) => ("DOWN", "Starting with quorum down"),
        (false, false) => ("DOWN", "Lost quorum"),
    };
    (format!("[{router_id}] Virtualserver {service} - {state}"), format!("=> {said} {sum} <="))
}

/// `2+1=3 <= 4`: the quorum with its hysteresis, beside the weight that there is.
pub(super) fn quorum_sum(up: bool, least: u32, hysteresis: u32, weight: u64) -> String {
    let (least, hysteresis) = (u64::from(least), u64::from(hysteresis));
    match up {
        true => format!("{least}+{hysteresis}={} <= {weight}", least + hysteresis),
        false => format!("{least}-{hysteresis}={} > {weight}", least.saturating_sub(hysteresis)),
    }
}

/// Subject and text of a mail about a change of state; there is none about a stop.
pub(super) fn mail(router_id: &str, who: Who, name: &str, word: Word) -> Option<(String, String)> {
    let state = word.as_str();
    let (kind, text) = match (who, word) {
        (_, Word::Stop) => return None,
        (Who::Instance, Word::Master) => {
            ("Instance", "=> VRRP Instance is now owning VRRP VIPs <=".to_owned())
        }
        (Who::Instance, Word::Backup | Word::Fault) => {
            ("Instance", "=> VRRP Instance is no longer owning VRRP VIPs <=".to_owned())
        }
        (Who::Instance, Word::Deleted) => ("Instance", "=> VRRP Deleted at reload <=".to_owned()),
        (Who::Group, _) => ("Group", format!("=> All VRRP group instances are now in {state} state <=")),
    };
    let change = match word {
        Word::Deleted => "Deleted".to_owned(),
        _ => format!("Entering {state} state"),
    };
    Some((format!("[{router_id}] VRRP {kind} {name} - {change}"), text))
}

/// A line for a change of priority; there is none outside of Active and Backup.
pub(super) fn priority_line(instance: &str, state: State, priority: u8) -> Option<String> {
    let word = match state {
        State::Active => "MASTER_PRIORITY",
        State::Backup => "BACKUP_PRIORITY",
        State::Initialize | State::Fault => return None,
    };
    Some(format!("INSTANCE \"{instance}\" {word} {priority}\n"))
}

/// A line for an advert of lower priority heard while Active; the priority is our own.
pub(super) fn lower_priority_line(instance: &str, priority: u8) -> String {
    format!("INSTANCE \"{instance}\" MASTER_RX_LOWER_PRI {priority}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_that_keepalived_writes() {
        let line = state_line(Who::Instance, "V1", Word::Master, 100);
        assert_eq!(line, "INSTANCE \"V1\" MASTER 100\n");
        assert_eq!(state_line(Who::Group, "G1", Word::Backup, 0), "GROUP \"G1\" BACKUP 0\n");
        assert_eq!(priority_line("V3", State::Active, 120).unwrap(), "INSTANCE \"V3\" MASTER_PRIORITY 120\n");
        assert_eq!(priority_line("V3", State::Backup, 90).unwrap(), "INSTANCE \"V3\" BACKUP_PRIORITY 90\n");
        assert_eq!(priority_line("V3", State::Fault, 90), None);
        assert_eq!(lower_priority_line("V1", 100), "INSTANCE \"V1\" MASTER_RX_LOWER_PRI 100\n");
    }

    #[test]
    fn waiting_for_first_results_alone_is_not_told() {
        let unknown = Fault::CheckUnknown { check: "c1".into() };
        let down = Fault::InterfaceDown { interface: "eth0".into() };
        let fault = |faults: &[Fault]| word(State::Fault, &Reason::Fault { faults: faults.to_vec() });
        assert_eq!(fault(std::slice::from_ref(&unknown)), None);
        assert_eq!(fault(&[unknown, down]), Some(Word::Fault));
    }

    /// As keepalived 2.2.7 sent them to a server of the lab.
    #[test]
    fn mails_are_those_that_keepalived_sends() {
        let mails = [
            (Who::Instance, "V1", Word::Master),
            (Who::Instance, "V1", Word::Backup),
            (Who::Instance, "V1", Word::Fault),
            (Who::Instance, "V1", Word::Deleted),
            (Who::Group, "G1", Word::Master),
            (Who::Group, "G1", Word::Fault),
        ]
        .map(|(who, name, word)| {
            let (subject, text) = mail("LAB", who, name, word).unwrap();
            format!("{subject}|{text}")
        });
        assert_eq!(
            mails,
            [
                "[LAB] VRRP Instance V1 - Entering MASTER state|=> VRRP Instance is now owning VRRP VIPs <=",
                "[LAB] VRRP Instance V1 - Entering BACKUP state|=> VRRP Instance is no longer owning VRRP VIPs <=",
                "[LAB] VRRP Instance V1 - Entering FAULT state|=> VRRP Instance is no longer owning VRRP VIPs <=",
                "[LAB] VRRP Instance V1 - Deleted|=> VRRP Deleted at reload <=",
                "[LAB] VRRP Group G1 - Entering MASTER state|=> All VRRP group instances are now in MASTER state <=",
                "[LAB] VRRP Group G1 - Entering FAULT state|=> All VRRP group instances are now in FAULT state <=",
            ]
        );
        assert_eq!(mail("LAB", Who::Instance, "V1", Word::Stop), None);
    }
}
