//! Sync groups: members on two hosts, in simulated time, with lost adverts, faults and stops.

mod support;

use std::time::{Duration, Instant};

use proptest::prelude::*;
use support::*;
use vrrp::StateName::{Active, Backup, Initialize};
use vrrp::{Input, Output, Priority, Reason, RouterConfig, StateName, SyncGroup, VirtualRouter};

const DELAY: Duration = Duration::from_micros(100);

/// One host with its members; member `n` of every host is the same virtual router.
struct Host {
    routers: Vec<VirtualRouter>,
    group: SyncGroup,
    faulty: Vec<bool>,
    /// What the machines said, in order.
    said: Vec<(usize, Output)>,
    turns: usize,
}

impl Host {
    fn new(configs: Vec<RouterConfig>) -> Self {
        let routers: Vec<_> = configs.into_iter().map(VirtualRouter::new).collect();
        let (group, faulty) = (SyncGroup::new(&routers), vec![false; routers.len()]);
        Self { routers, group, faulty, said: Vec::new(), turns: 0 }
    }

    fn give(&mut self, now: Instant, member: usize, input: Input) {
        let orders = self.turn(now, member, input);
        for (other, input) in orders {
            self.turn(now, other, input);
        }
        self.group.settled();
        self.turns += 1;
        let states = self.states();
        assert!(!(states.contains(&Active) && states.contains(&Backup)), "{states:?}");
    }

    fn turn(&mut self, now: Instant, member: usize, input: Input) -> Vec<(usize, Input)> {
        let router = &mut self.routers[member];
        let input = self.group.admit(member, router, now, input);
        router.handle_input(now, input);
        let outputs: Vec<_> = std::iter::from_fn(|| router.poll_output()).collect();
        self.said.extend(outputs.iter().map(|output| (member, *output)));
        self.group.follow(member, router, &outputs)
    }

    fn all(&mut self, now: Instant, input: &Input) {
        self.group.settle();
        for member in 0..self.routers.len() {
            self.turn(now, member, input.clone());
        }
        self.group.settled();
    }

    fn start(&mut self, now: Instant) {
        self.all(now, &Input::Startup);
    }

    fn fault(&mut self, now: Instant, member: usize, faulty: bool) {
        self.faulty[member] = faulty;
        if faulty {
            self.give(now, member, Input::Fault);
        } else if !self.faulty.contains(&true) {
            self.start(now);
        }
    }

    fn states(&self) -> Vec<StateName> {
        self.routers.iter().map(|router| router.state().name()).collect()
    }

    fn are(&self, state: StateName) -> bool {
        self.states().iter().all(|one| *one == state)
    }

    fn take_said(&mut self) -> Vec<(usize, Output)> {
        std::mem::take(&mut self.said)
    }
}

/// Hosts on one segment for each member.
struct Lan {
    now: Instant,
    hosts: Vec<Host>,
    /// Arrival, from, to, member, priority.
    flying: Vec<(Instant, usize, usize, usize, Priority)>,
    /// Which segments are cut.
    cut: Vec<bool>,
}

impl Lan {
    fn new(priorities: &[&[u8]]) -> Self {
        let host = |(number, members): (usize, &&[u8])| {
            let own = address(&format!("192.0.2.{}", number + 1));
            Host::new(members.iter().map(|p| RouterConfig { primary_address: own, ..config(*p) }).collect())
        };
        let hosts: Vec<_> = priorities.iter().enumerate().map(host).collect();
        let cut = vec![false; priorities[0].len()];
        Self { now: at(0), hosts, flying: Vec::new(), cut }
    }

    fn collect(&mut self) {
        for from in 0..self.hosts.len() {
            for (member, output) in self.hosts[from].take_said() {
                if let (Output::SendAdvertisement(priority), false) = (output, self.cut[member]) {
                    let others = (0..self.hosts.len()).filter(|to| *to != from);
                    let at = self.now + DELAY;
                    self.flying.extend(others.map(|to| (at, from, to, member, priority)));
                }
            }
        }
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.collect();
            let flying = self.flying.iter().map(|one| one.0).min();
            let timers = self
                .hosts
                .iter()
                .flat_map(|host| host.routers.iter().filter_map(VirtualRouter::poll_timeout));
            let Some(next) = timers.chain(flying).min().filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if let Some(position) = self.flying.iter().position(|one| one.0 <= self.now) {
                let (_, from, to, member, priority) = self.flying.remove(position);
                if !self.cut[member] {
                    let advert = advert_from(&format!("192.0.2.{}", from + 1), priority.get());
                    self.hosts[to].give(self.now, member, advert);
                }
                continue;
            }
            let now = self.now;
            for host in &mut self.hosts {
                for member in 0..host.routers.len() {
                    if host.routers[member].poll_timeout().is_some_and(|at| at <= now) {
                        host.give(now, member, Input::Timeout);
                    }
                }
            }
        }
        self.now = end;
    }

    fn started(priorities: &[&[u8]]) -> Self {
        let mut lan = Self::new(priorities);
        for host in &mut lan.hosts {
            host.start(lan.now);
        }
        lan.run(Duration::from_secs(10));
        lan
    }
}

#[test]
fn a_member_whose_timer_ends_waits_for_the_others_and_the_last_goes_first() {
    let mut lan = Lan::new(&[&[100, 200]]);
    lan.hosts[0].start(lan.now);
    // 3 s + 56/256 s, and 3 s + 156/256 s.
    lan.run(micros(3_218_750));
    assert!(lan.hosts[0].group.is_ready(1) && lan.hosts[0].are(Backup));
    lan.hosts[0].take_said();
    let host = &mut lan.hosts[0];
    host.give(at(0) + micros(3_609_375), 0, Input::Timeout);
    let changes: Vec<_> = host
        .take_said()
        .into_iter()
        .filter_map(|(member, output)| match output {
            Output::Transition { to, reason, .. } => Some((member, to, reason)),
            _ => None,
        })
        .collect();
    assert_eq!(changes, [(0, Active, Reason::ActiveDown), (1, Active, Reason::Group)]);
}

#[test]
fn who_hears_somebody_better_while_it_waits_is_not_ready_any_more() {
    let mut lan = Lan::new(&[&[100, 100]]);
    let host = &mut lan.hosts[0];
    host.start(at(0));
    host.give(at(3610), 0, Input::Timeout);
    assert!(host.group.is_ready(0));
    host.give(at(3620), 0, advert(90));
    assert!(host.group.is_ready(0), "a lower priority changes nothing");
    host.give(at(3630), 0, advert(200));
    assert!(!host.group.is_ready(0));
    host.give(at(3640), 1, Input::Timeout);
    assert!(host.are(Backup));
}

#[test]
fn who_is_beaten_takes_the_others_along_and_they_release() {
    let mut lan = Lan::started(&[&[100, 100, 100]]);
    let host = &mut lan.hosts[0];
    assert!(host.are(Active));
    host.take_said();
    host.give(lan.now, 1, advert(200));
    assert!(host.are(Backup));
    let released: Vec<_> = host
        .take_said()
        .into_iter()
        .filter(|(_, output)| *output == send(0))
        .map(|(member, _)| member)
        .collect();
    assert_eq!(released, [0, 2], "the one that was beaten knows that somebody is there");
}

#[test]
fn a_fault_of_one_backup_stops_the_other_backups() {
    let mut lan = Lan::started(&[&[150, 150], &[100, 100]]);
    let now = lan.now;
    let host = &mut lan.hosts[1];
    assert!(host.are(Backup));
    host.fault(now, 1, true);
    assert!(host.are(Initialize), "{:?}", host.states());
    // Nobody had anything to release.
    let said: Vec<_> = host.take_said();
    let faults = [1, 0]
        .map(|member| (member, Output::Transition { from: Backup, to: Initialize, reason: Reason::Fault }));
    assert_eq!(said, faults);
}

#[test]
fn a_fault_of_one_stops_all_and_all_release() {
    let mut lan = Lan::started(&[&[150, 150], &[100, 100]]);
    assert!(lan.hosts[0].are(Active) && lan.hosts[1].are(Backup));
    lan.hosts[0].fault(lan.now, 1, true);
    assert!(lan.hosts[0].are(Initialize));
    // Skew_Time of priority 100 and the way.
    lan.run(micros(609_375) + 2 * DELAY);
    assert!(lan.hosts[1].are(Active));
    lan.hosts[0].fault(lan.now, 1, false);
    lan.run(Duration::from_secs(5));
    assert!(lan.hosts[0].are(Active) && lan.hosts[1].are(Backup));
}

#[test]
fn both_are_active_on_one_host_while_one_segment_is_cut_without_a_fault() {
    let mut lan = Lan::started(&[&[150, 150], &[100, 100]]);
    lan.cut[1] = true;
    lan.run(Duration::from_secs(20));
    // The other host hears the first segment's advert, and so never takes the second alone.
    assert!(lan.hosts[0].are(Active) && lan.hosts[1].are(Backup));
    assert!(lan.hosts[1].group.is_ready(1));
}

#[test]
fn a_sleep_takes_all_along_without_a_release() {
    let mut lan = Lan::started(&[&[100, 100]]);
    let host = &mut lan.hosts[0];
    host.take_said();
    host.give(lan.now, 0, Input::Resurrected);
    assert!(host.are(Backup));
    assert!(host.take_said().iter().all(|(_, output)| *output != send(0)));
}

#[test]
fn who_joins_an_active_group_comes_after_or_makes_it_give_way() {
    let joined = || {
        let mut lan = Lan::started(&[&[100, 100]]);
        let host = &mut lan.hosts[0];
        host.routers.push(VirtualRouter::new(config(100)));
        let before = std::mem::replace(&mut host.group, SyncGroup::new(&host.routers));
        host.group.inherit(0, &before, 0);
        host.faulty.push(false);
        host.group.settle();
        host.turn(lan.now, 2, Input::Startup);
        host.group.settled();
        assert_eq!(host.states(), [Active, Active, Backup]);
        lan
    };
    let mut lan = joined();
    let now = lan.now + micros(3_609_375);
    lan.hosts[0].give(now, 2, Input::Timeout);
    assert!(lan.hosts[0].are(Active));
    let mut lan = joined();
    lan.hosts[0].give(lan.now + DELAY, 2, advert(200));
    assert!(lan.hosts[0].are(Backup));
}

#[derive(Clone, Debug)]
enum Trouble {
    Run(u64),
    Cut(usize, bool),
    Fault(usize, usize, bool),
    Sleep(usize, usize),
    Foreign(usize, usize, u8),
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        3 => (1_u64..5000).prop_map(Trouble::Run),
        2 => (0_usize..3, any::<bool>()).prop_map(|(m, cut)| Trouble::Cut(m, cut)),
        2 => (0_usize..2, 0_usize..3, any::<bool>()).prop_map(|(h, m, f)| Trouble::Fault(h, m, f)),
        1 => (0_usize..2, 0_usize..3).prop_map(|(h, m)| Trouble::Sleep(h, m)),
        2 => (0_usize..2, 0_usize..3, 0_u8..=255).prop_map(|(h, m, p)| Trouble::Foreign(h, m, p)),
    ]
}

proptest! {
    /// `Host::give` asserts after every input that no member is Active while another is Backup.
    #[test]
    fn members_are_never_apart_and_one_host_has_all_when_it_is_over(
        story in prop::collection::vec(trouble(), 1..40),
    ) {
        let mut lan = Lan::started(&[&[150, 150, 150], &[100, 100, 100]]);
        for step in story {
            let now = lan.now;
            match step {
                Trouble::Run(ms) => lan.run(Duration::from_millis(ms)),
                Trouble::Cut(member, cut) => lan.cut[member] = cut,
                Trouble::Fault(host, member, faulty) => lan.hosts[host].fault(now, member, faulty),
                Trouble::Sleep(host, member) => lan.hosts[host].give(now, member, Input::Resurrected),
                Trouble::Foreign(host, member, priority) => {
                    lan.hosts[host].give(now, member, advert_from("192.0.2.9", priority));
                }
            }
        }
        lan.cut.fill(false);
        for host in 0..2 {
            for member in 0..3 {
                if lan.hosts[host].faulty[member] {
                    lan.hosts[host].fault(lan.now, member, false);
                }
            }
        }
        lan.run(Duration::from_secs(30));
        prop_assert!(lan.hosts[0].are(Active) && lan.hosts[1].are(Backup),
            "{:?} {:?}", lan.hosts[0].states(), lan.hosts[1].states());
    }
}
