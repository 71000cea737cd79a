//! Sync groups: what this host knows of each of them beside its members' machines. Pure.

use std::sync::Arc;
use std::time::SystemTime;

use config::ready;

use crate::observe::event::{Fault, Reason, State};

/// Members with a fault that are named to the others; more would only make a sentence long.
const NAMED: usize = 3;

/// One sync group.
#[derive(Debug)]
pub struct Group {
    pub config: Arc<ready::SyncGroup>,
    /// The members' instances, in the order of the configuration.
    pub ids: Vec<usize>,
    pub machine: vrrp::SyncGroup,
    /// As people were told last.
    pub state: State,
    pub since: SystemTime,
    pub last_reason: Option<Reason>,
    /// It is in FAULT, but only until checks have given their first result.
    pub waits: bool,
    /// The instance that goes first in the change that is going on.
    pub lead: Option<usize>,
}

/// An instance's place in its group.
#[derive(Clone, Debug)]
pub struct Membership {
    /// Which group, in the order of the configuration.
    pub group: usize,
    /// Which member.
    pub position: usize,
    /// Its trackers are the instance's too.
    pub config: Arc<ready::SyncGroup>,
}

impl Group {
    pub fn new(config: Arc<ready::SyncGroup>, ids: Vec<usize>, machine: vrrp::SyncGroup) -> Self {
        Self {
            config,
            ids,
            machine,
            state: State::Initialize,
            since: SystemTime::now(),
            last_reason: None,
            waits: false,
            lead: None,
        }
    }
}

/// The state of a group from the states of its members.
pub fn state_of(members: impl IntoIterator<Item = State>) -> State {
    let mut group = State::Initialize;
    for state in members {
        group = match (group, state) {
            (State::Fault, _) | (_, State::Fault) => State::Fault,
            (State::Active, _) | (_, State::Active) => State::Active,
            (State::Backup, _) | (_, State::Backup) => State::Backup,
            (State::Initialize, State::Initialize) => State::Initialize,
        };
    }
    group
}

/// What keeps each member from taking part, when these are the faults of their own: whoever has none is held by those
/// that have one.
pub fn with_those_of_others(group: &str, own: &[(&str, &[Fault])]) -> Vec<Vec<Fault>> {
    let faulty: Vec<_> = own
        .iter()
        .enumerate()
        .filter_map(|(position, (name, faults))| {
            // The worst one: not one that may be gone with the first result of a check.
            let worst = faults.iter().find(|fault| !fault.only_waits()).or(faults.first())?;
            Some((position, *name, worst))
        })
        .collect();
    let all = |(position, (_, faults)): (usize, &(&str, &[Fault]))| {
        let mut all = faults.to_vec();
        if faults.iter().all(Fault::only_waits) {
            let others = faulty.iter().filter(|(other, ..)| *other != position).take(NAMED);
            all.extend(others.map(|(_, member, fault)| Fault::Member {
                group: group.to_owned(),
                member: (*member).to_owned(),
                because: Box::new((*fault).clone()),
            }));
        }
        all
    };
    own.iter().enumerate().map(all).collect()
}

/// In which order members change together: into FAULT the first that has a fault of its own leads, out of it the last
/// that had one, as in keepalived 2.2.7; the others follow in their order.
pub fn order(had: &[bool], have: &[bool]) -> Vec<usize> {
    let lead = have
        .iter()
        .position(|faulty| *faulty)
        .or_else(|| had.iter().rposition(|faulty| *faulty))
        .unwrap_or(0);
    let others = (0..have.len()).filter(|position| *position != lead);
    std::iter::once(lead).filter(|lead| *lead < have.len()).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(interface: &str) -> Fault {
        Fault::InterfaceDown { interface: interface.into() }
    }

    fn unknown() -> Fault {
        Fault::CheckUnknown { check: "c".into() }
    }

    fn member(member: &str, because: Fault) -> Fault {
        Fault::Member { group: "G1".into(), member: member.into(), because: Box::new(because) }
    }

    #[test]
    fn one_fault_holds_all_and_no_fault_holds_none() {
        let eth1 = [down("eth1")];
        let own: [(&str, &[Fault]); 3] = [("V1", &[]), ("V2", &eth1), ("V3", &[])];
        assert_eq!(
            with_those_of_others("G1", &own),
            [vec![member("V2", down("eth1"))], vec![down("eth1")], vec![member("V2", down("eth1"))]]
        );
        assert_eq!(with_those_of_others("G1", &[("V1", &[]), ("V2", &[])]), [vec![], vec![]]);
    }

    #[test]
    fn a_member_that_only_waits_lets_the_others_wait() {
        let (waits, eth1) = ([unknown()], [unknown(), down("eth1")]);
        let faults = with_those_of_others("G1", &[("V1", &[]), ("V2", &waits)]);
        assert!(faults.iter().flatten().all(Fault::only_waits), "{faults:?}");
        let faults = with_those_of_others("G1", &[("V1", &waits), ("V2", &eth1)]);
        assert_eq!(faults[0], [unknown(), member("V2", down("eth1"))]);
    }

    /// Seen in the FIFO of keepalived 2.2.7: the interface of V2 goes: V2, V1; a check of the group fails: V1, V2, and
    /// succeeds: V2, V1.
    #[test]
    fn who_has_the_fault_goes_first_and_who_loses_it_last_comes_first() {
        assert_eq!(order(&[false, false], &[false, true]), [1, 0]);
        assert_eq!(order(&[false, true], &[false, false]), [1, 0]);
        assert_eq!(order(&[false, false], &[true, true]), [0, 1]);
        assert_eq!(order(&[true, true], &[false, false]), [1, 0]);
        assert_eq!(order(&[false, false], &[false, false]), [0, 1]);
        assert_eq!(order(&[], &[]), [0; 0]);
    }

    #[test]
    fn a_group_is_what_its_members_are() {
        use State::*;
        assert_eq!(state_of([Active, Active]), Active);
        assert_eq!(state_of([Backup, Fault]), Fault);
        assert_eq!(state_of([Backup, Backup]), Backup);
        // Who joins an active group comes after; who has been stopped before the others is no change yet.
        assert_eq!(state_of([Active, Backup]), Active);
        assert_eq!(state_of([Initialize, Active]), Active);
        assert_eq!(state_of([Initialize, Initialize]), Initialize);
    }
}
