//! The state machine of one virtual router on one host (RFC 9568 §6.4, RFC 3768 §6.4).

mod config;
mod input;
mod output;
mod state;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

pub use config::RouterConfig;
pub use input::Input;
pub use output::{Output, Reason};
pub use state::{Answers, State, StateName};

use crate::{AdverInterval, Priority, Version, active_down_interval, skew_time};

/// One virtual router on this host. Give it an input, drain its outputs, come back at its timeout.
///
/// Departures from the RFCs, all in the table of the crate's documentation: a priority of 0 never lengthens the
/// Active_Down_Timer (H-3), immediate adverts are rate-limited (H-5), and an address owner takes part in the election
/// (erratum 8298).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VirtualRouter {
    config: RouterConfig,
    /// Effective: configured, then as tracked.
    priority: Priority,
    state: State,
    outputs: VecDeque<Output>,
}

impl VirtualRouter {
    /// In state Initialize. A priority of 0 is taken as 1, the owner's preempt mode as on, and a
    /// `down_timer_adverts` of 0 as 1.
    pub fn new(config: RouterConfig) -> Self {
        let config = config.normalized();
        Self { priority: config.priority, config, state: State::Initialize, outputs: VecDeque::new() }
    }

    /// Something happened at `now`, which never goes backwards. Drain [`VirtualRouter::poll_output`] afterwards.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        match self.state {
            State::Initialize => match input {
                Input::Startup => self.start(now),
                Input::PriorityChanged(priority) => self.priority = self.within_range(priority),
                Input::PrimaryAddressChanged(address) => self.config.primary_address = address,
                Input::Reconfigured(config) => self.configure(config),
                // §6.4.1 acts on Startup only. Packets that were queued when the link went down still come.
                Input::Advertisement { .. }
                | Input::Timeout
                | Input::Fault
                | Input::Shutdown
                | Input::WaitForGroup
                | Input::GroupActive
                | Input::GroupBackup
                | Input::Resurrected => {}
            },

            State::Backup { active_adver_interval, active_down_timer, preempt_from, released_by } => {
                match input {
                    Input::Timeout if now >= active_down_timer => {
                        let reason = match released_by {
                            Some(source) => Reason::ActiveReleased { source },
                            None => Reason::ActiveDown,
                        };
                        self.become_active(now, reason);
                    }
                    Input::Advertisement { source, priority: Priority::RELEASE, .. } => {
                        // H-3: by the RFC's words a stream of these would hold the timer up for ever.
                        let skewed = now + self.skew_time(active_adver_interval);
                        self.state = State::Backup {
                            active_adver_interval,
                            active_down_timer: active_down_timer.min(skewed),
                            preempt_from,
                            released_by: Some(source),
                        };
                    }
                    Input::Advertisement { priority, max_advertise_interval, .. } => {
                        self.heard_in_backup(now, priority, max_advertise_interval, preempt_from);
                    }
                    Input::PriorityChanged(priority) => {
                        let before = self.active_down_interval();
                        self.priority = self.within_range(priority);
                        self.move_active_down_timer(now, before);
                    }
                    Input::PrimaryAddressChanged(address) => self.config.primary_address = address,
                    Input::Reconfigured(config) => {
                        let before = self.active_down_interval();
                        self.configure(config);
                        self.move_active_down_timer(now, before);
                    }
                    Input::Fault => self.enter(State::Initialize, Reason::Fault),
                    Input::Shutdown => self.enter(State::Initialize, Reason::Shutdown),
                    // Adverts may have been missed. What was learned of the active router still holds.
                    Input::Resurrected => self.listen(now, active_adver_interval, None),
                    Input::WaitForGroup => {
                        let active_down_timer = now + self.active_down_interval();
                        self.state = State::Backup {
                            active_adver_interval,
                            active_down_timer,
                            preempt_from,
                            released_by,
                        };
                    }
                    Input::GroupActive => self.become_active(now, Reason::Group),
                    // Too early, it takes part already, or it is where its group goes.
                    Input::Timeout | Input::Startup | Input::GroupBackup => {}
                }
            }

            State::Active { adver_timer, answers } => match input {
                Input::Timeout if now >= adver_timer => {
                    self.output(Output::SendAdvertisement(self.priority));
                    self.state = State::Active { adver_timer: self.next_due(now, adver_timer), answers };
                }
                Input::Advertisement { priority: Priority::RELEASE, .. } => self.release_heard(now, answers),
                Input::Advertisement { source, priority, max_advertise_interval } => {
                    self.heard_in_active(now, source, priority, max_advertise_interval);
                }
                // The next advert carries it.
                Input::PriorityChanged(priority) => self.priority = self.within_range(priority),
                Input::PrimaryAddressChanged(address) => self.config.primary_address = address,
                Input::Reconfigured(config) => {
                    self.configure(config);
                    let adver_timer = adver_timer.min(now + self.adver_interval());
                    self.state = State::Active { adver_timer, answers };
                }
                Input::Fault => self.let_go(Reason::Fault),
                Input::Shutdown => self.let_go(Reason::Shutdown),
                Input::GroupBackup => {
                    self.output(Output::SendAdvertisement(Priority::RELEASE));
                    self.output(Output::RemoveAddresses);
                    self.listen(now, self.config.adver_interval, Some(Reason::Group));
                }
                Input::Resurrected => {
                    // Not with priority 0: if another router took over meanwhile, that would make its backups take
                    // over from it; if none did, they are about to.
                    self.output(Output::RemoveAddresses);
                    self.listen(now, self.config.adver_interval, Some(Reason::Resurrected));
                }
                // Too early, it takes part already, or it is where its group goes.
                Input::Timeout | Input::Startup | Input::WaitForGroup | Input::GroupActive => {}
            },
        }
    }

    /// The next thing to do, in order; `None` when the next input may be given.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to give [`Input::Timeout`]: the one running timer. In the past if it was moved there.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Initialize => None,
            State::Backup { active_down_timer, .. } => Some(active_down_timer),
            State::Active { adver_timer, .. } => Some(adver_timer),
        }
    }

    /// State, with its timers.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Effective priority.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// As given at last, with what cannot be otherwise set right.
    pub fn config(&self) -> &RouterConfig {
        &self.config
    }

    /// Interval of the active router: learned in Backup (version 3), else ours.
    pub fn active_adver_interval(&self) -> AdverInterval {
        match self.state {
            State::Backup { active_adver_interval, .. } => active_adver_interval,
            State::Initialize | State::Active { .. } => self.config.adver_interval,
        }
    }

    /// Active_Down_Interval with the effective priority and [`VirtualRouter::active_adver_interval`].
    pub fn active_down_interval(&self) -> Duration {
        self.active_down_interval_at(self.active_adver_interval())
    }

    /// This router as if everything had happened `by` earlier, seen at `now`. What is over and has no effect any more is
    /// forgotten, so that routers that will behave alike are equal: for exploring all their states.
    #[cfg(any(test, feature = "sim"))]
    #[must_use]
    pub fn earlier(&self, now: Instant, by: Duration) -> Self {
        let mut router = self.clone();
        let adver_interval = router.adver_interval();
        match &mut router.state {
            State::Initialize => {}
            State::Backup { active_down_timer, preempt_from, .. } => {
                *active_down_timer -= by;
                *preempt_from = preempt_from.map(|preempt_from| (preempt_from - by).max(now));
            }
            State::Active { adver_timer, answers } => {
                *adver_timer -= by;
                *answers = answers.earlier(now, by, adver_interval);
            }
        }
        router
    }

    fn start(&mut self, now: Instant) {
        if self.priority.is_owner() && self.config.start_active {
            self.become_active(now, Reason::Owner);
        } else {
            self.listen(now, self.config.adver_interval, Some(Reason::Startup));
        }
    }

    /// §6.4.2, an advert that is not a release.
    fn heard_in_backup(
        &mut self,
        now: Instant,
        priority: Priority,
        max_advertise_interval: AdverInterval,
        preempt_from: Option<Instant>,
    ) {
        let worse = priority < self.priority;
        let preempt_from = match preempt_from {
            _ if !worse || self.config.preempt_delay.is_zero() => None,
            Some(preempt_from) => Some(preempt_from),
            None => Some(now + self.config.preempt_delay),
        };
        let let_be = preempt_from.is_some_and(|preempt_from| now < preempt_from);
        if worse && self.config.preempt_mode && !let_be {
            // Discarded: the running timer is not touched.
            return;
        }
        let active_adver_interval = self.learned(max_advertise_interval);
        self.state = State::Backup {
            active_adver_interval,
            active_down_timer: now + self.active_down_interval_at(active_adver_interval),
            preempt_from,
            released_by: None,
        };
    }

    /// §6.4.3, an advert that is not a release.
    fn heard_in_active(
        &mut self,
        now: Instant,
        source: IpAddr,
        priority: Priority,
        max_advertise_interval: AdverInterval,
    ) {
        let own_address = self.config.primary_address;
        let reason = if priority > self.priority {
            Reason::HigherPriority { source, priority }
        } else if priority == self.priority && source > own_address {
            Reason::HigherAddress { source }
        } else if priority == self.priority && source == own_address {
            return self.output(Output::DuplicateAddress { source });
        } else {
            return self.lower_heard(now, source, priority);
        };
        if self.config.answer_higher_priority {
            self.output(Output::SendAdvertisement(self.priority));
        }
        self.output(Output::RemoveAddresses);
        self.listen(now, self.learned(max_advertise_interval), Some(reason));
    }

    /// Somebody gives up while we are Active: tell everybody at once that we are (V3-6.4.3-9).
    fn release_heard(&mut self, now: Instant, mut answers: Answers) {
        if answers.permit(now, self.adver_interval()) {
            self.output(Output::SendAdvertisement(self.priority));
            self.state = State::Active { adver_timer: now + self.adver_interval(), answers };
        }
    }

    /// Somebody worse is Active too: tell it at once (V3-6.4.3-13). The Adver_Timer stays (H-2, H-5).
    fn lower_heard(&mut self, now: Instant, source: IpAddr, priority: Priority) {
        let adver_interval = self.adver_interval();
        let State::Active { answers, .. } = &mut self.state else { return };
        if answers.permit(now, adver_interval) {
            if self.config.answer_lower_priority {
                self.output(Output::SendAdvertisement(self.priority));
            }
            self.output(Output::AnnounceAgain);
        }
        self.output(Output::LowerPriorityHeard { source, priority });
    }

    /// The advert first: the sooner the others hear it, the fewer take over too. Then keepalived's order.
    fn become_active(&mut self, now: Instant, reason: Reason) {
        self.output(Output::SendAdvertisement(self.priority));
        self.output(Output::AddAddresses);
        self.output(Output::AnnounceAddresses);
        let adver_timer = now + self.adver_interval();
        self.enter(State::Active { adver_timer, answers: Answers::default() }, reason);
    }

    /// From Active to Initialize: peers take over after Skew_Time.
    fn let_go(&mut self, reason: Reason) {
        self.output(Output::SendAdvertisement(Priority::RELEASE));
        self.output(Output::RemoveAddresses);
        self.enter(State::Initialize, reason);
    }

    /// To Backup, for a full Active_Down_Interval; `None` if it was there already.
    fn listen(&mut self, now: Instant, active_adver_interval: AdverInterval, reason: Option<Reason>) {
        let state = State::Backup {
            active_adver_interval,
            active_down_timer: now + self.active_down_interval_at(active_adver_interval),
            preempt_from: None,
            released_by: None,
        };
        match reason {
            Some(reason) => self.enter(state, reason),
            None => self.state = state,
        }
    }

    fn enter(&mut self, state: State, reason: Reason) {
        let from = self.state.name();
        self.state = state;
        self.output(Output::Transition { from, to: state.name(), reason });
    }

    fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn configure(&mut self, config: RouterConfig) {
        self.config = config.normalized();
        self.priority = self.config.priority;
        // Version 3 keeps what it learned until it hears something else: the active router still has its interval.
        if let (Version::V2, State::Backup { active_adver_interval, .. }) =
            (self.config.version, &mut self.state)
        {
            *active_adver_interval = self.config.adver_interval;
        }
    }

    /// Moves the end by the change of Active_Down_Interval, as keepalived does; it does not start anew.
    fn move_active_down_timer(&mut self, now: Instant, before: Duration) {
        let after = self.active_down_interval();
        if let State::Backup { active_down_timer, .. } = &mut self.state {
            *active_down_timer = if after >= before {
                *active_down_timer + (after - before)
            } else {
                active_down_timer.checked_sub(before - after).unwrap_or(now)
            };
        }
    }

    /// Tracking does not change an owner, and makes nobody an owner or a release.
    fn within_range(&self, priority: Priority) -> Priority {
        if self.config.priority.is_owner() {
            Priority::OWNER
        } else {
            priority.clamp(Priority::LOWEST, Priority::HIGHEST_BACKUP)
        }
    }

    /// The interval to count with after an accepted advert.
    fn learned(&self, max_advertise_interval: AdverInterval) -> AdverInterval {
        match self.config.version {
            Version::V2 => self.config.adver_interval,
            Version::V3 => max_advertise_interval,
        }
    }

    /// From the previous due time, so that lateness does not add up; adverts that should have gone out meanwhile are
    /// not made up for.
    fn next_due(&self, now: Instant, due: Instant) -> Instant {
        let interval = self.adver_interval();
        let late = now.saturating_duration_since(due);
        // An interval is at most 255 s.
        let since_last_due = Duration::from_nanos((late.as_nanos() % interval.as_nanos()) as u64);
        now - since_last_due + interval
    }

    fn adver_interval(&self) -> Duration {
        self.config.adver_interval.as_duration()
    }

    fn skew_time(&self, active_adver_interval: AdverInterval) -> Duration {
        skew_time(self.config.version, self.priority, active_adver_interval)
    }

    fn active_down_interval_at(&self, active_adver_interval: AdverInterval) -> Duration {
        active_down_interval(
            self.config.version,
            self.priority,
            active_adver_interval,
            self.config.down_timer_adverts,
        )
    }
}
