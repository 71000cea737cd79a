//! Bidirectional Forwarding Detection (RFC 5880, 5881, 5883): one session, asynchronous mode, no authentication, no echo.
//!
//! Without sockets, clock or randomness of its own: time and discriminators are arguments, the jitter follows from a seed.
//! Give one input, then take every output, then come back at [`Session::poll_timeout`].

mod packet;

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

pub use packet::{BfdDiscard, ControlPacket, Diagnostic, MULTIHOP_PORT, PORT, SOURCE_PORTS};

/// Desired_Min_TX while not Up is never below (RFC 5880 §6.8.3).
const SLOWEST: Duration = Duration::from_secs(1);

/// State of a session; the numbers are those on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Stopped by an operator.
    AdminDown = 0,
    /// Nothing is heard, or the neighbour does not hear us.
    Down = 1,
    /// The neighbour is heard; whether it hears us is not known yet.
    Init = 2,
    /// Both hear each other.
    Up = 3,
}

impl State {
    const fn from_wire(bits: u8) -> Self {
        match bits {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AdminDown => "AdminDown",
            Self::Down => "Down",
            Self::Init => "Init",
            Self::Up => "Up",
        })
    }
}

/// What a session is told before it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Desired_Min_TX while Up.
    pub min_tx: Duration,
    /// Required_Min_RX.
    pub min_rx: Duration,
    /// Desired_Min_TX while not Up; at least 1 s is used.
    pub idle_tx: Duration,
    /// Detect_Mult, at least 1.
    pub multiplier: u8,
    /// Send nothing before something is heard (RFC 5880 §6.1).
    pub passive: bool,
    /// Packets with a lower TTL or hop limit are discarded; `None`: not looked at. 255 for a single hop (RFC 5881 §5).
    pub lowest_ttl: Option<u8>,
}

/// Something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// Take part from now on.
    Start,
    /// A packet for this session, with its TTL or hop limit.
    Packet(&'a ControlPacket, u8),
    /// The moment of [`Session::poll_timeout`] has come. Too early, it does nothing.
    Timeout,
    /// Other parameters; the session goes on.
    Reconfigured(SessionConfig),
    /// Stop, and tell the neighbour so.
    Stop,
}

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this.
    Send(ControlPacket),
    /// The state changed.
    Transition {
        /// Before.
        from: State,
        /// Now.
        to: State,
        /// Why.
        reason: Reason,
    },
    /// Our discriminator changed to the one last given: give another that nobody uses by
    /// [`Session::set_next_discriminator`].
    DiscriminatorChanged {
        /// No longer ours.
        from: u32,
        /// Ours.
        to: u32,
    },
    /// The neighbour was told for long enough that we stop; the session may be forgotten.
    Stopped,
}

/// Why the state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It takes part.
    Started,
    /// A packet of the neighbour in this state.
    Heard(State),
    /// Nothing was heard for the detection time.
    DetectionTimeExpired(Duration),
    /// The neighbour says Down, for this reason.
    NeighborSignaledDown(Diagnostic),
    /// The neighbour was stopped by its operator: no fault of the path (RFC 5882 §4.2).
    NeighborAdminDown,
    /// Ours was stopped.
    Stopped,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("started"),
            Self::Heard(state) => write!(f, "the neighbour is {state}"),
            Self::DetectionTimeExpired(time) => {
                write!(f, "detection time expired: nothing was heard for {:.3} ms", time.as_secs_f64() * 1e3)
            }
            Self::NeighborSignaledDown(Diagnostic::NONE) => f.write_str("the neighbour signalled down"),
            Self::NeighborSignaledDown(diagnostic) => write!(f, "the neighbour signalled down: {diagnostic}"),
            Self::NeighborAdminDown => f.write_str("the neighbour was stopped (AdminDown)"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// What the neighbour last said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its discriminator.
    pub discriminator: u32,
    /// Its state.
    pub state: State,
    /// Its Detect_Mult.
    pub multiplier: u8,
    /// Its Desired_Min_TX.
    pub min_tx: Duration,
    /// Its Required_Min_RX.
    pub min_rx: Duration,
    /// It wants no periodic packets while both are Up.
    pub demand: bool,
}

/// One session with one neighbour.
#[derive(Clone, Debug)]
pub struct Session {
    config: SessionConfig,
    state: State,
    diagnostic: Diagnostic,
    discriminator: u32,
    next_discriminator: u32,
    /// Heard within a detection time.
    remote: Option<Remote>,
    /// A poll sequence is under way (RFC 5880 §6.5).
    poll: bool,
    /// Desired_Min_TX and Required_Min_RX that count: what makes the neighbour wait longer, or hear from us more seldom,
    /// counts only when it has confirmed (§6.8.3).
    min_tx_in_use: Duration,
    min_rx_in_use: Duration,
    sent_at: Option<Instant>,
    send_at: Option<Instant>,
    detect_at: Option<Instant>,
    random: u64,
    outputs: VecDeque<Output>,
}

impl Session {
    /// In state AdminDown until it is started. Discriminators are not 0 and unique on this host (§6.8.1); the jitter follows
    /// from `seed`.
    pub fn new(config: SessionConfig, discriminator: u32, next_discriminator: u32, seed: u64) -> Self {
        Self {
            state: State::AdminDown,
            diagnostic: Diagnostic::NONE,
            discriminator,
            next_discriminator,
            remote: None,
            poll: false,
            min_tx_in_use: config.idle_tx.max(SLOWEST),
            min_rx_in_use: config.min_rx,
            sent_at: None,
            send_at: None,
            detect_at: None,
            random: seed,
            outputs: VecDeque::new(),
            config,
        }
    }

    /// Something happened at `now`, which never goes backwards.
    ///
    /// # Errors
    ///
    /// Why a packet was discarded; then nothing has changed.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) -> Result<(), BfdDiscard> {
        match input {
            Input::Start => self.start(now),
            Input::Packet(packet, ttl) => return self.receive(now, packet, ttl),
            Input::Timeout => self.handle_timeout(now),
            Input::Reconfigured(config) => self.reconfigure(now, config),
            Input::Stop => self.stop(now),
        }
        Ok(())
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to give [`Input::Timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.send_at, self.detect_at].into_iter().flatten().min()
    }

    /// Now.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Ours.
    pub const fn discriminator(&self) -> u32 {
        self.discriminator
    }

    /// Whether it is ours, or will be.
    pub const fn uses(&self, discriminator: u32) -> bool {
        self.discriminator == discriminator || self.next_discriminator == discriminator
    }

    /// The one to use when this session goes down next; not 0, and nobody's.
    pub fn set_next_discriminator(&mut self, discriminator: u32) {
        self.next_discriminator = discriminator;
    }

    /// As the neighbour last said, if it was heard within a detection time.
    pub const fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }

    /// Silence after which the session goes down (§6.8.4); `None` while nobody is heard.
    pub fn detection_time(&self) -> Option<Duration> {
        self.remote.map(|remote| u32::from(remote.multiplier) * self.min_rx_in_use.max(remote.min_tx))
    }

    /// Between our packets, before jitter (§6.8.7).
    pub fn transmit_interval(&self) -> Duration {
        self.remote.map_or(self.min_tx_in_use, |remote| self.min_tx_in_use.max(remote.min_rx))
    }

    fn start(&mut self, now: Instant) {
        if self.state == State::AdminDown {
            self.diagnostic = Diagnostic::NONE;
            self.remote = None;
            self.detect_at = None;
            self.enter(now, State::Down, Reason::Started);
        }
    }

    /// §6.8.6, from the checks that need a session on.
    fn receive(&mut self, now: Instant, packet: &ControlPacket, ttl: u8) -> Result<(), BfdDiscard> {
        if packet.your_discriminator != 0 && packet.your_discriminator != self.discriminator {
            return Err(BfdDiscard::Session);
        }
        if let Some(lowest) = self.config.lowest_ttl
            && ttl < lowest
        {
            return Err(BfdDiscard::Ttl { got: ttl, lowest });
        }
        if self.state == State::AdminDown {
            return Err(BfdDiscard::Stopped);
        }
        let before = self.transmit_interval();
        let was_heard = self.remote.is_some();
        self.remote = Some(Remote {
            discriminator: packet.my_discriminator,
            state: packet.state,
            multiplier: packet.multiplier,
            min_tx: packet.desired_min_tx,
            min_rx: packet.required_min_rx,
            demand: packet.demand,
        });
        if packet.finish && self.poll {
            self.poll = false;
            self.min_tx_in_use = self.desired_min_tx();
            self.min_rx_in_use = self.config.min_rx;
        }
        self.follow(now, packet);
        if packet.poll {
            self.send(now, true);
        }
        self.detect_at = self.detection_time().map(|time| now + time);
        if !was_heard || self.transmit_interval() != before || self.send_at.is_none() {
            self.schedule(now);
        } else if !self.may_send() {
            self.send_at = None;
        }
        Ok(())
    }

    /// The state machine of §6.2 and §6.8.6.
    fn follow(&mut self, now: Instant, packet: &ControlPacket) {
        match (self.state, packet.state) {
            (State::AdminDown | State::Down, State::AdminDown) => {}
            (State::Init | State::Up, State::AdminDown) => {
                self.go_down(now, Diagnostic::NEIGHBOR_SIGNALED_DOWN, Reason::NeighborAdminDown);
            }
            (State::Down, State::Down) => {
                self.diagnostic = Diagnostic::NONE;
                self.enter(now, State::Init, Reason::Heard(packet.state));
            }
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => {
                self.diagnostic = Diagnostic::NONE;
                self.enter(now, State::Up, Reason::Heard(packet.state));
            }
            (State::Up, State::Down) => {
                let reason = Reason::NeighborSignaledDown(packet.diagnostic);
                self.go_down(now, Diagnostic::NEIGHBOR_SIGNALED_DOWN, reason);
            }
            // As the table of §6.8.6 has it, these change nothing.
            (State::Down, State::Up)
            | (State::Init, State::Down)
            | (State::Up, State::Init | State::Up)
            | (State::AdminDown, _) => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let Some(at) = self.detect_at
            && at <= now
        {
            self.detect_at = None;
            let time = self.detection_time().unwrap_or_default();
            self.remote = None;
            match self.state {
                State::Init | State::Up => {
                    let reason = Reason::DetectionTimeExpired(time);
                    self.go_down(now, Diagnostic::DETECTION_TIME_EXPIRED, reason);
                }
                // What it said is too old to be used.
                State::Down => self.schedule(now),
                State::AdminDown => {
                    self.send_at = None;
                    self.output(Output::Stopped);
                }
            }
        }
        if self.send_at.is_some_and(|at| at <= now) {
            self.send(now, false);
        }
    }

    fn reconfigure(&mut self, now: Instant, config: SessionConfig) {
        let before = (self.desired_min_tx(), self.config.min_rx);
        self.config = config;
        if self.state != State::AdminDown && (self.desired_min_tx(), self.config.min_rx) != before {
            self.change_intervals(now);
        }
    }

    fn stop(&mut self, now: Instant) {
        if self.state == State::AdminDown {
            return self.output(Output::Stopped);
        }
        // Until the neighbour would have noticed by itself.
        let told_by = self.remote.map(|_| now + u32::from(self.config.multiplier) * self.transmit_interval());
        self.diagnostic = Diagnostic::ADMINISTRATIVELY_DOWN;
        self.enter(now, State::AdminDown, Reason::Stopped);
        self.detect_at = told_by;
        if told_by.is_none() {
            self.send_at = None;
            self.output(Output::Stopped);
        }
    }

    fn go_down(&mut self, now: Instant, diagnostic: Diagnostic, reason: Reason) {
        self.diagnostic = diagnostic;
        // A packet for the session that was Up does not fit the next one.
        if self.state == State::Up {
            let from = std::mem::replace(&mut self.discriminator, self.next_discriminator);
            self.output(Output::DiscriminatorChanged { from, to: self.discriminator });
        }
        self.enter(now, State::Down, reason);
    }

    /// Another state is told at once (§6.8.7).
    fn enter(&mut self, now: Instant, to: State, reason: Reason) {
        let from = std::mem::replace(&mut self.state, to);
        self.output(Output::Transition { from, to, reason });
        self.poll = false;
        if self.desired_min_tx() != self.min_tx_in_use {
            self.change_intervals(now);
        }
        if self.may_send() {
            self.send(now, false);
        } else {
            self.send_at = None;
        }
    }

    /// §6.8.3.
    fn change_intervals(&mut self, now: Instant) {
        let (min_tx, min_rx) = (self.desired_min_tx(), self.config.min_rx);
        let up = self.state == State::Up;
        if !(up && min_tx > self.min_tx_in_use) {
            self.min_tx_in_use = min_tx;
        }
        if !(up && min_rx < self.min_rx_in_use) {
            self.min_rx_in_use = min_rx;
        }
        // While not Up, P would be answered by nobody who knows us.
        self.poll = up;
        self.schedule(now);
    }

    fn desired_min_tx(&self) -> Duration {
        if self.state == State::Up { self.config.min_tx } else { self.config.idle_tx.max(SLOWEST) }
    }

    /// Periodic packets (§6.8.7).
    fn may_send(&self) -> bool {
        match &self.remote {
            None => !self.config.passive,
            Some(remote) => {
                let both_up = self.state == State::Up && remote.state == State::Up;
                !(remote.min_rx.is_zero() || remote.demand && both_up && !self.poll)
            }
        }
    }

    fn send(&mut self, now: Instant, finish: bool) {
        self.output(Output::Send(ControlPacket {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: self.poll && !finish,
            finish,
            demand: false,
            multiplier: self.config.multiplier.max(1),
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.map_or(0, |remote| remote.discriminator),
            desired_min_tx: self.desired_min_tx(),
            required_min_rx: self.config.min_rx,
        }));
        // An answer is outside the schedule.
        if !finish {
            self.sent_at = Some(now);
            self.schedule(now);
        }
    }

    /// The next periodic packet: an interval after the last, less 0 to 25 %; with multiplier 1, 10 to 25 % (§6.8.7).
    fn schedule(&mut self, now: Instant) {
        if !self.may_send() || self.state == State::AdminDown && self.sent_at.is_none() {
            self.send_at = None;
            return;
        }
        let least = if self.config.multiplier <= 1 { 100 } else { 0 };
        let less = least + self.draw() % (251 - least);
        let thousandths = 1000 - u32::try_from(less).unwrap_or(0);
        let after = self.transmit_interval() * thousandths / 1000;
        self.send_at = Some(self.sent_at.map_or(now, |sent| (sent + after).max(now)));
    }

    /// SplitMix64.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }
}
