//! Every interleaving of two and three routers, with any number of lost adverts, deaths, restarts and stops.
//!
//! Time goes in steps of a quarter of the advertisement interval, and priorities are chosen so that every timer ends on
//! a step; with three routers in steps of half an interval, so that some timers are told late. Within a step adverts arrive in any order, before or after timers, or are lost; all is delivered or lost
//! before the next step. The machines are the real ones; the state of the model is theirs, with time counted from now,
//! so that there are finitely many.

mod support;

use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use stateright::{Checker, Model, Property};
use support::*;
use vrrp::{Input, Output, Priority, RouterConfig, StateName, VirtualRouter};

/// Which routers there are.
#[derive(Clone, Debug)]
struct Routers {
    configs: Vec<RouterConfig>,
    /// How long one step is.
    step: Duration,
    /// Whether routers are also stopped in good order, not only killed.
    stops: bool,
}

/// An advert on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Flying {
    from: usize,
    to: usize,
    priority: Priority,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Lan {
    machines: Vec<VirtualRouter>,
    /// What the addresses' holders would be, from the machines' outputs alone.
    holds: Vec<bool>,
    /// Sorted: two adverts of one kind are alike.
    flying: Vec<Flying>,
    /// Steps since the last fault, up to [`Routers::settled`].
    whole_for: u32,
    /// A machine gave outputs that contradict each other.
    contradiction: bool,
}

impl Hash for Lan {
    /// What differs between two states of one model: configurations and priorities do not, and outputs are drained.
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Self { machines, holds, flying, whole_for, contradiction } = self;
        machines.iter().for_each(|machine| machine.state().hash(hasher));
        (holds, flying, whole_for, contradiction).hash(hasher);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Deliver(Flying),
    Lose(Flying),
    Fire(usize),
    Step,
    Start(usize),
    Stop(usize),
    Die(usize),
}

impl Routers {
    fn of(priorities: &[u8], step: u64, change: impl Fn(RouterConfig) -> RouterConfig) -> Self {
        let router = |(host, priority): (usize, &u8)| {
            change(RouterConfig {
                primary_address: address(&format!("192.0.2.{}", host + 1)),
                ..config(*priority)
            })
        };
        Self {
            configs: priorities.iter().enumerate().map(router).collect(),
            step: Duration::from_millis(step),
            stops: true,
        }
    }

    fn now() -> Instant {
        at(1_000_000)
    }

    /// Steps after which a whole LAN has one active: the longest Active_Down_Interval, and one in which the advert of
    /// who took over then arrives.
    fn settled(&self) -> u32 {
        let longest =
            self.configs.iter().map(|config| VirtualRouter::new(config.clone()).active_down_interval());
        let longest = longest.max().unwrap();
        u32::try_from(longest.as_nanos().div_ceil(self.step.as_nanos())).unwrap() + 1
    }

    fn is_due(machine: &VirtualRouter) -> bool {
        machine.poll_timeout().is_some_and(|timeout| timeout <= Self::now())
    }

    fn give(&self, lan: &mut Lan, router: usize, input: Input) {
        lan.machines[router].handle_input(Self::now(), input);
        while let Some(output) = lan.machines[router].poll_output() {
            match output {
                Output::SendAdvertisement(priority) => {
                    let others = (0..self.configs.len()).filter(|to| *to != router);
                    lan.flying.extend(others.map(|to| Flying { from: router, to, priority }));
                }
                Output::AddAddresses => {
                    lan.contradiction |= lan.holds[router];
                    lan.holds[router] = true;
                }
                Output::RemoveAddresses => {
                    lan.contradiction |= !lan.holds[router];
                    lan.holds[router] = false;
                }
                _ => {}
            }
        }
        let is_active = lan.machines[router].state().name() == StateName::Active;
        lan.contradiction |= lan.holds[router] != is_active;
        lan.flying.sort_unstable();
    }

    fn off(&self, router: usize) -> VirtualRouter {
        VirtualRouter::new(self.configs[router].clone())
    }

    fn running(lan: &Lan) -> impl Iterator<Item = usize> + '_ {
        (0..lan.machines.len()).filter(|router| lan.machines[*router].state().name() != StateName::Initialize)
    }

    /// Whether none of those that run has a higher priority.
    fn is_best(&self, lan: &Lan, router: usize) -> bool {
        Self::running(lan).all(|other| self.configs[other].priority <= self.configs[router].priority)
    }

    /// The invariant: once whole for one Active_Down_Interval, one router holds the addresses; with preemption on
    /// everywhere it is the best one.
    fn invariant(&self, lan: &Lan) -> bool {
        if lan.whole_for < self.settled() || Self::running(lan).next().is_none() {
            return true;
        }
        let holders: Vec<_> = (0..lan.holds.len()).filter(|router| lan.holds[*router]).collect();
        let preempting = self.configs.iter().all(|config| config.preempt_mode);
        holders.len() == 1 && (!preempting || self.is_best(lan, holders[0]))
    }
}

impl Model for Routers {
    type State = Lan;
    type Action = Action;

    fn init_states(&self) -> Vec<Lan> {
        let machines: Vec<_> = (0..self.configs.len()).map(|router| self.off(router)).collect();
        let holds = vec![false; machines.len()];
        vec![Lan { machines, holds, flying: Vec::new(), whole_for: 0, contradiction: false }]
    }

    fn actions(&self, lan: &Lan, actions: &mut Vec<Action>) {
        let mut flying = lan.flying.clone();
        flying.dedup();
        actions.extend(flying.iter().flat_map(|one| [Action::Deliver(*one), Action::Lose(*one)]));
        let due = (0..lan.machines.len()).filter(|router| Self::is_due(&lan.machines[*router]));
        actions.extend(due.map(Action::Fire));
        if actions.is_empty() {
            actions.push(Action::Step);
        }
        for (router, machine) in lan.machines.iter().enumerate() {
            match machine.state().name() {
                // A process starts more slowly than an advert arrives.
                StateName::Initialize if lan.flying.iter().any(|one| one.from == router) => {}
                StateName::Initialize => actions.push(Action::Start(router)),
                _ => {
                    actions.push(Action::Die(router));
                    actions.extend(self.stops.then_some(Action::Stop(router)));
                }
            }
        }
    }

    fn next_state(&self, lan: &Lan, action: Action) -> Option<Lan> {
        let mut lan = lan.clone();
        let take = |lan: &mut Lan, one| {
            let place = lan.flying.iter().position(|flying| *flying == one).unwrap();
            lan.flying.remove(place);
        };
        match action {
            Action::Deliver(one) => {
                take(&mut lan, one);
                let source = self.configs[one.from].primary_address;
                let max_advertise_interval = self.configs[one.from].adver_interval;
                let priority = one.priority;
                let input = Input::Advertisement { source, priority, max_advertise_interval };
                self.give(&mut lan, one.to, input);
            }
            Action::Lose(one) => {
                take(&mut lan, one);
                lan.whole_for = 0;
            }
            Action::Fire(router) => self.give(&mut lan, router, Input::Timeout),
            Action::Step => {
                for machine in &mut lan.machines {
                    *machine = machine.earlier(Self::now(), self.step);
                }
                lan.whole_for = (lan.whole_for + 1).min(self.settled());
            }
            Action::Start(router) => {
                self.give(&mut lan, router, Input::Startup);
                lan.whole_for = 0;
            }
            Action::Stop(router) => {
                self.give(&mut lan, router, Input::Shutdown);
                lan.whole_for = 0;
            }
            Action::Die(router) => {
                lan.machines[router] = self.off(router);
                lan.holds[router] = false;
                lan.whole_for = 0;
            }
        }
        Some(lan)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one holder once whole", |routers: &Self, lan: &Lan| routers.invariant(lan)),
            Property::always("added and removed in turn", |_, lan: &Lan| !lan.contradiction),
            // Not vacuous: faults do make two holders and none.
            Property::sometimes("all hold", |_, lan: &Lan| lan.holds.iter().all(|holds| *holds)),
            Property::sometimes("settled", |routers: &Self, lan: &Lan| {
                lan.whole_for == routers.settled() && Self::running(lan).count() == routers.configs.len()
            }),
        ]
    }
}

/// Explores everything; how many states there are.
fn states(routers: Routers) -> usize {
    let checker = routers.checker().threads(1).spawn_bfs().join();
    checker.assert_properties();
    println!("{} states", checker.unique_state_count());
    checker.unique_state_count()
}

/// Compares with what the crate's documentation says.
fn assert_states(name: &str, routers: Routers) {
    let states = states(routers);
    let documentation = include_str!("../src/lib.rs");
    let row = format!("| {name} | {states} |");
    assert!(documentation.contains(&row), "not in the documentation: {row}");
}

#[test]
fn two_routers_of_different_priority() {
    assert_states("192 and 128", Routers::of(&[192, 128], 250, |config| config));
}

#[test]
fn two_routers_of_equal_priority() {
    assert_states("128 and 128", Routers::of(&[128, 128], 250, |config| config));
}

#[test]
fn two_routers_without_preemption() {
    let nopreempt = |config| RouterConfig { preempt_mode: false, ..config };
    assert_states("192 and 128, no preemption", Routers::of(&[192, 128], 250, nopreempt));
}

#[test]
fn an_owner_and_a_backup() {
    assert_states("255 and 128", Routers::of(&[255, 128], 250, |config| config));
}

#[test]
fn three_routers() {
    let one_lost = |config| RouterConfig { down_timer_adverts: 1, ..config };
    let routers = Routers { stops: false, ..Routers::of(&[192, 128, 64], 500, one_lost) };
    assert_states("192, 128 and 64", routers);
}
