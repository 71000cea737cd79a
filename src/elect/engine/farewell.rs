//! What the guard is to say in our place: a ready-made advert of priority 0 for each destination of an active instance.

use super::*;
use crate::elect::instance::LeftBehind;
use crate::guard::Name;

impl Loop {
    /// Leaves the farewell with the guard. Once for each activity, unless what it says has changed since; where adverts are
    /// numbered with each of them.
    pub(super) fn leave_farewell(&mut self, id: usize) {
        if !self.guard.is_there() {
            return;
        }
        self.guard.flush();
        let Some(instance) = self.instances[id].as_mut() else { return };
        let ifindex = if instance.sends_below() { instance.base_index } else { instance.ifindex };
        let (Some(source), Some(ifindex)) = (instance.source, ifindex) else { return };
        let left = LeftBehind::of(instance, source, ifindex);
        if instance.left_behind.as_ref() == Some(&left) && !instance.protection.counts() {
            return;
        }
        let Some(socket) = self.sockets.get(&(ifindex, instance.carrier())) else { return };
        let identification = instance.next_identification();
        let sequence = instance.upcoming_sequence(wall_clock());
        let destinations = instance.destinations();
        for (destination, ttl) in &destinations {
            instance.compose(Priority::RELEASE, *destination, sequence);
            let seal = instance.seal(sequence);
            let envelope = Envelope { source, destination: *destination, ttl: *ttl, identification, seal };
            socket.leave(name(id, *destination), &envelope, instance.message(), &mut self.scratch);
        }
        let before = instance.left_behind.replace(left);
        for gone in before.into_iter().flat_map(|before| before.destinations) {
            if !destinations.iter().any(|(destination, _)| *destination == gone) {
                self.guard.forget(name(id, gone));
            }
        }
    }

    /// There is nothing to say goodbye for any more.
    pub(super) fn forget_farewell(&mut self, id: usize) {
        let Some(instance) = self.instances[id].as_mut() else { return };
        for destination in instance.left_behind.take().into_iter().flat_map(|left| left.destinations) {
            self.guard.forget(name(id, destination));
        }
    }
}

fn name(id: usize, destination: IpAddr) -> Name {
    Name::of(("farewell", id, destination))
}
