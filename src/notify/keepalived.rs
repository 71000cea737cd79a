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

/// What is told about an instance that entered `to`; `None` when keepalived is silent: before the start,
/// and in FAULT while nothing but a check's first result is waited for.
pub(super) fn word(to: State, reason: &Reason) -> Option<Word> {
    match (to, reason) {
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

/// What `notify` gets after its own arguments. Names are not quoted here.
pub(super) fn arguments(instance: &str, word: Word, priority: u8) -> [String; 4] {
    ["INSTANCE".to_owned(), instance.to_owned(), word.as_str().to_owned(), priority.to_string()]
}

/// A line for a change of state.
pub(super) fn state_line(instance: &str, word: Word, priority: u8) -> String {
    format!("INSTANCE \"{instance}\" {} {priority}\n", word.as_str())
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
        assert_eq!(state_line("V1", Word::Master, 100), "INSTANCE \"V1\" MASTER 100\n");
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
}
