//! Sync groups: their members change together. What a member's machine is given comes from [`vrrp::SyncGroup`].

use super::*;
use crate::elect::sync::{self, Group, Membership};
use crate::observe::status::GroupStatus;

impl Loop {
    /// The groups of another configuration; `order` are its instances. Gives the instances that are to look at
    /// everything around them again. A group that did not change notices nothing.
    pub(super) fn form_groups(&mut self, config: &Config, order: &[usize]) -> Vec<usize> {
        let names = config.instances.iter().map(|instance| instance.name.as_str());
        let by_name: HashMap<&str, usize> = names.zip(order.iter().copied()).collect();
        let mut left: HashMap<String, Group> =
            self.groups.drain(..).map(|group| (group.config.name.clone(), group)).collect();
        let mut taken = HashSet::new();
        let mut touched = BTreeSet::new();
        for wanted in &config.sync_groups {
            let members = wanted.members.iter().filter_map(|name| by_name.get(name.as_str()).copied());
            // A member of two groups stays in the first.
            let ids: Vec<usize> = members.filter(|id| taken.insert(*id)).collect();
            let number = self.groups.len();
            let before = left.remove(&wanted.name);
            let group = match before {
                Some(before) if before.ids == ids && before.config.is_same(wanted) => before,
                before => {
                    let before_ids = before.iter().flat_map(|before| before.ids.iter().copied());
                    touched.extend(before_ids.chain(ids.iter().copied()));
                    self.form_group(wanted, ids, before)
                }
            };
            for (position, id) in group.ids.iter().enumerate() {
                let membership = Membership { group: number, position, config: group.config.clone() };
                if let Some(instance) = self.instances[*id].as_mut() {
                    instance.membership = Some(membership);
                }
            }
            self.groups.push(group);
        }
        touched.extend(left.into_values().flat_map(|gone| gone.ids));
        for id in touched.iter().copied().filter(|id| !taken.contains(id)) {
            if let Some(instance) = self.instances[id].as_mut() {
                instance.membership = None;
                instance.listens_first = false;
            }
        }
        touched.into_iter().filter(|id| self.instances[*id].is_some()).collect()
    }

    fn form_group(
        &mut self,
        wanted: &config::ready::SyncGroup,
        ids: Vec<usize>,
        before: Option<Group>,
    ) -> Group {
        let members = || ids.iter().filter_map(|id| self.instances[*id].as_ref());
        let mut machine = vrrp::SyncGroup::new(members().map(|instance| &instance.router));
        // One owner is not active from the start when the others of its group are not.
        let listens_first = !members().all(|instance| instance.config.start_active);
        if let Some(before) = &before {
            for (position, id) in ids.iter().enumerate() {
                if let Some(was) = before.ids.iter().position(|one| one == id) {
                    machine.inherit(position, &before.machine, was);
                }
            }
        }
        for id in &ids {
            if let Some(instance) = self.instances[*id].as_mut() {
                instance.listens_first = listens_first;
            }
        }
        let group = Group::new(Arc::new(wanted.clone()), ids, machine);
        match before {
            Some(Group { state, since, last_reason, waits, .. }) => {
                Group { state, since, last_reason, waits, ..group }
            }
            None => group,
        }
    }

    pub(super) fn group_of(&self, id: usize) -> Option<usize> {
        Some(self.instances[id].as_ref()?.membership.as_ref()?.group)
    }

    /// What a member's machine is given in place of `input`.
    pub(super) fn admit(&mut self, now: Instant, id: usize, input: Input) -> Input {
        let Some(instance) = self.instances[id].as_ref() else { return input };
        let Some(Membership { group, position, .. }) = instance.membership else { return input };
        match self.groups.get_mut(group) {
            Some(group) => group.machine.admit(position, &instance.router, now, input),
            None => input,
        }
    }

    /// The others do what follows from what a member did.
    pub(super) fn follow(&mut self, now: Instant, id: usize, outputs: &[Output]) {
        let Some(instance) = self.instances[id].as_ref() else { return };
        let Some(Membership { group: number, position, .. }) = instance.membership else { return };
        let Some(group) = self.groups.get_mut(number) else { return };
        let orders = group.machine.follow(position, &instance.router, outputs);
        let changed = outputs.iter().any(|output| matches!(output, Output::Transition { .. }));
        if orders.is_empty() && !changed {
            return;
        }
        let alone = group.lead.is_none();
        let lateness = instance.lateness;
        if alone {
            group.lead = Some(id);
        }
        let ids = if orders.is_empty() { Vec::new() } else { group.ids.clone() };
        for (other, input) in orders {
            if let (Input::Resurrected, Some(other)) = (&input, self.instances[ids[other]].as_mut()) {
                other.lateness = lateness;
            }
            self.feed_at(now, ids[other], input);
        }
        if alone {
            self.settled(number);
        }
    }

    /// From now until [`Loop::settled`] the members do what is asked of all of them; this one leads.
    pub(super) fn settle(&mut self, group: usize, lead: Option<usize>) {
        if let Some(group) = self.groups.get_mut(group) {
            group.machine.settle();
            group.lead = lead;
        }
    }

    /// The change of a group is complete: people are told if it is one.
    pub(super) fn settled(&mut self, number: usize) {
        let Some(group) = self.groups.get_mut(number) else { return };
        group.machine.settled();
        let lead = group.lead.take().or(group.ids.first().copied());
        let members = || group.ids.iter().filter_map(|id| self.instances[*id].as_ref());
        let state = sync::state_of(members().map(|instance| instance.state));
        let waits = state == State::Fault && members().all(|instance| waits_only(&instance.faults));
        // It only waited for first results until now; this is the failure that people are told of.
        let failed = state == State::Fault && group.waits && !waits;
        group.waits = waits;
        if state == group.state && !failed {
            return;
        }
        let reason = lead.and_then(|id| self.instances[id].as_ref()?.last_reason.clone());
        let reason = match reason {
            Some(Reason::Group { because, .. }) => *because,
            Some(reason) => reason,
            None => Reason::Started,
        };
        self.tell_group(number, state, reason);
    }

    fn tell_group(&mut self, number: usize, to: State, reason: Reason) {
        let Some(group) = self.groups.get_mut(number) else { return };
        let from = std::mem::replace(&mut group.state, to);
        group.since = SystemTime::now();
        group.last_reason = Some(reason.clone());
        self.events.send(Kind::Group { group: group.config.name.clone(), from, to, reason });
    }

    /// Why a member did what its group did.
    pub(super) fn reason_of_group(&self, id: usize) -> Reason {
        let group = self.group_of(id).and_then(|group| self.groups.get(group));
        let lead = group.and_then(|group| self.instances[group.lead?].as_ref());
        match (group, lead) {
            (Some(group), Some(lead)) => Reason::Group {
                group: group.config.name.clone(),
                member: lead.config.name.clone(),
                because: Box::new(lead.last_reason.clone().unwrap_or(Reason::Started)),
            },
            _ => Reason::Started,
        }
    }

    /// A member that has heard an advert of lower priority answers; so do the others, since whoever sent it may be
    /// active in their place too.
    pub(super) fn advertise_with(&mut self, id: usize) {
        let Some(group) = self.group_of(id) else { return };
        for other in self.groups[group].ids.clone().into_iter().filter(|other| *other != id) {
            let active = self.instances[other].as_ref().filter(|other| other.is_active());
            if let Some(priority) = active.map(|instance| instance.router.priority()) {
                self.send_advert(other, priority);
            }
        }
    }

    /// As [`Loop::refresh`], for those of `concerned` that are members of this group; what they find is everybody's.
    pub(super) fn refresh_group(&mut self, number: usize, concerned: &[usize]) {
        let Some(group) = self.groups.get(number) else { return };
        let (ids, name) = (group.ids.clone(), group.config.name.clone());
        let before: Vec<(Vec<Fault>, bool)> = ids
            .iter()
            .map(|id| self.instances[*id].as_ref())
            .map(|one| {
                one.map_or_else(Default::default, |one| (one.faults.clone(), !one.own_faults.is_empty()))
            })
            .collect();
        for id in ids.iter().filter(|id| concerned.contains(*id)) {
            self.survey(*id);
        }
        let own: Vec<(&str, &[Fault])> = ids
            .iter()
            .map(|id| self.instances[*id].as_ref())
            .map(|one| one.map_or(("", &[][..]), |one| (one.config.name.as_str(), one.own_faults.as_slice())))
            .collect();
        let have: Vec<bool> = own.iter().map(|(_, faults)| !faults.is_empty()).collect();
        let had: Vec<bool> = before.iter().map(|(_, had)| *had).collect();
        let faults = sync::with_those_of_others(&name, &own);
        for (id, faults) in ids.iter().zip(faults) {
            if let Some(instance) = self.instances[*id].as_mut() {
                instance.faults = faults;
            }
        }
        let order = sync::order(&had, &have);
        self.settle(number, order.first().map(|first| ids[*first]));
        if self.groups[number].state == State::Initialize && self.takes_part() && !have.contains(&true) {
            // As in keepalived, only at the start the group comes first.
            self.tell_group(number, State::Backup, Reason::Started);
        }
        for position in order {
            self.take_part(ids[position], &before[position].0);
        }
        self.settled(number);
    }

    pub(super) fn group_status(&self) -> Vec<GroupStatus> {
        self.groups.iter().map(|group| self.status_of(group)).collect()
    }

    fn status_of(&self, group: &Group) -> GroupStatus {
        let members = || group.ids.iter().filter_map(|id| self.instances[*id].as_ref());
        let name = |instance: &Instance| instance.config.name.clone();
        let ready = |(position, instance)| group.machine.is_ready(position).then(|| name(instance));
        GroupStatus {
            name: group.config.name.clone(),
            state: group.state,
            since: group.since,
            why: String::new(),
            members: members().map(name).collect(),
            ready: members().enumerate().filter_map(ready).collect(),
            held_by: members().filter_map(|one| Some((name(one), one.own_faults.first()?.clone()))).collect(),
            last_reason: group.last_reason.clone(),
        }
    }

    /// Whom a Backup waits for whose timer has ended.
    pub(super) fn waits_for(&self, id: usize) -> Vec<String> {
        let instance = self.instances[id].as_ref();
        let Some((group, position)) = instance
            .and_then(|instance| instance.membership.as_ref())
            .and_then(|place| Some((self.groups.get(place.group)?, place.position)))
        else {
            return Vec::new();
        };
        if !group.machine.is_ready(position) {
            return Vec::new();
        }
        let others = group.ids.iter().enumerate().filter(|(other, _)| !group.machine.is_ready(*other));
        others.filter_map(|(_, id)| Some(self.instances[*id].as_ref()?.config.name.clone())).collect()
    }
}
