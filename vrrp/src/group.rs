//! Virtual routers that are Active together or not at all (keepalived's `vrrp_sync_group`).

use std::time::Instant;

use crate::{Input, Output, Priority, Reason, StateName, VirtualRouter};

/// The members of one sync group on this host, by their position. It holds no machine: it says which input a member's
/// machine gets, and what the others do then.
///
/// Give every input of a member through [`SyncGroup::admit`], drain the machine, then do what [`SyncGroup::follow`] says
/// and call [`SyncGroup::settled`]. Between two such turns no member is Active while another one is Backup, unless one
/// joined a group that was Active: that one comes after when its own timer ends, or makes the others give way when it
/// hears somebody better.
///
/// Who has a fault keeps all others from taking part; give [`Input::Startup`] only when no member has one.
///
/// keepalived 2.2.7 does the same, but lets only the member that is beaten or at fault send priority 0; here every member
/// that was Active does, and peers need not miss its adverts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SyncGroup {
    members: Vec<Member>,
    settling: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Member {
    state: StateName,
    /// Its Active_Down_Timer ran out, and nobody better was heard since.
    ready: bool,
    /// The end of its timer, while an advert is judged that may start it anew.
    timer: Option<Instant>,
}

impl SyncGroup {
    /// With these members, in this order.
    pub fn new<'a>(routers: impl IntoIterator<Item = &'a VirtualRouter>) -> Self {
        let member =
            |router: &VirtualRouter| Member { state: router.state().name(), ready: false, timer: None };
        Self { members: routers.into_iter().map(member).collect(), settling: false }
    }

    /// What the machine of this member gets instead of `input`.
    pub fn admit(&mut self, member: usize, router: &VirtualRouter, now: Instant, input: Input) -> Input {
        let is_backup = router.state().name() == StateName::Backup;
        let due = router.poll_timeout().is_some_and(|due| due <= now);
        let somebody_is_active = self.members.iter().any(|one| one.state == StateName::Active);
        let others_are_ready = self.others(member).all(|one| one.ready);
        let Some(one) = self.members.get_mut(member) else { return input };
        one.timer = None;
        match input {
            Input::Timeout if is_backup && due => {
                one.ready = true;
                if somebody_is_active || others_are_ready { Input::Timeout } else { Input::WaitForGroup }
            }
            Input::Advertisement { priority, .. } if is_backup && priority != Priority::RELEASE => {
                one.timer = router.poll_timeout();
                input
            }
            Input::Resurrected => {
                one.ready = false;
                input
            }
            input => input,
        }
    }

    /// What the other members get, in this order, after this one's machine had an input and gave these outputs.
    pub fn follow(
        &mut self,
        member: usize,
        router: &VirtualRouter,
        outputs: &[Output],
    ) -> Vec<(usize, Input)> {
        let Some(one) = self.members.get_mut(member) else { return Vec::new() };
        let heard = one.timer.take().is_some_and(|before| router.poll_timeout() != Some(before));
        let change = outputs.iter().rev().find_map(|output| match output {
            Output::Transition { from, to, reason } => Some((*from, *to, *reason)),
            _ => None,
        });
        if heard || change.is_some() {
            one.ready = false;
        }
        one.state = router.state().name();
        if self.settling {
            return Vec::new();
        }
        let orders = match change {
            Some((_, StateName::Active, _)) => self.order(member, StateName::Backup, Input::GroupActive),
            Some((StateName::Active, StateName::Backup, Reason::Resurrected)) => {
                self.order(member, StateName::Active, Input::Resurrected)
            }
            Some((StateName::Active, StateName::Backup, _)) => {
                self.order(member, StateName::Active, Input::GroupBackup)
            }
            Some((_, StateName::Initialize, Reason::Fault)) => {
                let mut orders = self.order(member, StateName::Active, Input::Fault);
                orders.extend(self.order(member, StateName::Backup, Input::Fault));
                orders.sort_by_key(|(other, _)| *other);
                orders
            }
            Some(_) => Vec::new(),
            // Somebody better is active where this one listens, so none of the group may be.
            None if heard => self.order(member, StateName::Active, Input::GroupBackup),
            None => Vec::new(),
        };
        self.settling = !orders.is_empty();
        orders
    }

    /// The members do what is asked of all of them, one after the other; none follows another until
    /// [`SyncGroup::settled`].
    pub fn settle(&mut self) {
        self.settling = true;
    }

    /// The others have done what they were told.
    pub fn settled(&mut self) {
        self.settling = false;
    }

    /// Is it only waiting for others?
    pub fn is_ready(&self, member: usize) -> bool {
        self.members.get(member).is_some_and(|one| one.ready)
    }

    /// Keeps what is known of a member that was in the group before.
    pub fn inherit(&mut self, member: usize, before: &Self, position: usize) {
        if let (Some(one), Some(was)) = (self.members.get_mut(member), before.members.get(position)) {
            one.ready = was.ready;
        }
    }

    fn others(&self, member: usize) -> impl Iterator<Item = &Member> {
        self.members.iter().enumerate().filter(move |(other, _)| *other != member).map(|(_, one)| one)
    }

    fn order(&self, member: usize, whoever_is: StateName, input: Input) -> Vec<(usize, Input)> {
        let concerned = |(other, one): (usize, &Member)| {
            (other != member && one.state == whoever_is).then(|| (other, input.clone()))
        };
        self.members.iter().enumerate().filter_map(concerned).collect()
    }
}
