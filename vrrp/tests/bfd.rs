//! BFD: each rule of RFC 5880 §6.2 to §6.8, 5881 and 5883 that a session follows, in simulated time. Packets B01 to B06 are
//! of keepalived 2.2.7, one of the Holo project's tests.

mod support;

use std::time::{Duration, Instant};

use support::pcap::hex;
use vrrp::bfd::{
    BfdDiscard, ControlPacket, Diagnostic, Input, Output, Reason, Session, SessionConfig, State,
};
use vrrp::sim::EPOCH;

const OURS: u32 = 0x1111_1111;
const NEXT: u32 = 0x2222_2222;
const THEIRS: u32 = 0x9999_9999;
const SECOND: Duration = Duration::from_secs(1);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// 100 ms, multiplier 3, single hop.
fn config() -> SessionConfig {
    SessionConfig {
        min_tx: ms(100),
        min_rx: ms(100),
        idle_tx: SECOND,
        multiplier: 3,
        passive: false,
        lowest_ttl: Some(255),
    }
}

/// A session, its clock, and what it said.
struct Bench {
    session: Session,
    now: Instant,
}

impl Bench {
    fn new(config: SessionConfig) -> Self {
        Self { session: Session::new(config, OURS, NEXT, 7), now: *EPOCH }
    }

    fn started(config: SessionConfig) -> Self {
        let mut bench = Self::new(config);
        bench.give(Input::Start);
        bench
    }

    /// Up with a neighbour of the same parameters, its poll and ours ended, nothing left to say.
    fn up(config: SessionConfig) -> Self {
        let mut bench = Self::started(config);
        bench.hear(packet(State::Init));
        bench.hear(ControlPacket { finish: true, ..packet(State::Up) });
        assert_eq!(bench.session.state(), State::Up);
        bench
    }

    fn give(&mut self, input: Input<'_>) -> Vec<Output> {
        self.session.handle_input(self.now, input).unwrap();
        std::iter::from_fn(|| self.session.poll_output()).collect()
    }

    fn hear(&mut self, packet: ControlPacket) -> Vec<Output> {
        self.give(Input::Packet(&packet, 255))
    }

    fn refuse(&mut self, packet: ControlPacket, ttl: u8) -> BfdDiscard {
        let before = (self.session.state(), self.session.poll_timeout(), self.session.remote().copied());
        let refused = self.session.handle_input(self.now, Input::Packet(&packet, ttl)).unwrap_err();
        let after = (self.session.state(), self.session.poll_timeout(), self.session.remote().copied());
        assert_eq!(before, after, "a discarded packet changes nothing");
        assert_eq!(self.session.poll_output(), None);
        refused
    }

    /// To the next timer; how far that was, and what it said.
    fn fire(&mut self) -> (Duration, Vec<Output>) {
        let at = self.session.poll_timeout().expect("a timer runs");
        let passed = at.saturating_duration_since(self.now);
        self.now = self.now.max(at);
        (passed, self.give(Input::Timeout))
    }

    /// Packets that it sends by itself for so long.
    fn sends_for(&mut self, time: Duration) -> Vec<(Duration, ControlPacket)> {
        let (start, end) = (self.now, self.now + time);
        let mut sent = Vec::new();
        while self.session.poll_timeout().is_some_and(|at| at <= end) {
            let outputs = self.fire().1;
            sent.extend(outputs.into_iter().filter_map(|output| match output {
                Output::Send(packet) => Some((self.now - start, packet)),
                _ => None,
            }));
        }
        self.now = end;
        sent
    }
}

/// As the neighbour says it: it knows us unless it is Down.
fn packet(state: State) -> ControlPacket {
    ControlPacket {
        diagnostic: Diagnostic::NONE,
        state,
        poll: false,
        finish: false,
        demand: false,
        multiplier: 3,
        my_discriminator: THEIRS,
        your_discriminator: if matches!(state, State::Init | State::Up) { OURS } else { 0 },
        desired_min_tx: if state == State::Up { ms(100) } else { SECOND },
        required_min_rx: ms(100),
    }
}

fn sent(outputs: &[Output]) -> Vec<ControlPacket> {
    outputs
        .iter()
        .filter_map(|output| if let Output::Send(packet) = output { Some(*packet) } else { None })
        .collect()
}

fn transition(outputs: &[Output]) -> Option<(State, State, Reason)> {
    outputs.iter().find_map(|output| match *output {
        Output::Transition { from, to, reason } => Some((from, to, reason)),
        _ => None,
    })
}

// ---- Packets ----

#[test]
fn keepalived_s_packets_say_what_their_descriptions_say() {
    let second_and_tenth = (SECOND, ms(100));
    let tenths = (ms(100), ms(100));
    for (text, state, poll, finish, my, your, (tx, rx)) in [
        (
            "204003183cdc181b00000000000f4240000186a000000000",
            State::Down,
            false,
            false,
            0x3cdc_181b,
            0,
            second_and_tenth,
        ),
        (
            "208003183cdc181b98d579a2000f4240000186a000000000",
            State::Init,
            false,
            false,
            0x3cdc_181b,
            0x98d5_79a2,
            second_and_tenth,
        ),
        (
            "20e0031898d579a23cdc181b000186a0000186a000000000",
            State::Up,
            true,
            false,
            0x98d5_79a2,
            0x3cdc_181b,
            tenths,
        ),
        (
            "20d003183cdc181b98d579a2000186a0000186a000000000",
            State::Up,
            false,
            true,
            0x3cdc_181b,
            0x98d5_79a2,
            tenths,
        ),
        (
            "20c003183cdc181b98d579a2000186a0000186a000000000",
            State::Up,
            false,
            false,
            0x3cdc_181b,
            0x98d5_79a2,
            tenths,
        ),
    ] {
        let expected = ControlPacket {
            diagnostic: Diagnostic::NONE,
            state,
            poll,
            finish,
            demand: false,
            multiplier: 3,
            my_discriminator: my,
            your_discriminator: your,
            desired_min_tx: tx,
            required_min_rx: rx,
        };
        assert_eq!(ControlPacket::parse(&hex(text)), Ok(expected), "{text}");
        assert_eq!(expected.octets().to_vec(), hex(text));
    }
}

#[test]
fn a_packet_that_offers_echo_is_read_all_the_same() {
    // Holo: Up, 300 ms, echo 50 ms.
    let parsed = ControlPacket::parse(&hex("20c003189fb205d64a2357dc000493e0000493e00000c350")).unwrap();
    assert_eq!((parsed.state, parsed.desired_min_tx, parsed.required_min_rx), (State::Up, ms(300), ms(300)));
}

#[test]
fn section_6_8_6_packets_that_no_session_need_see() {
    let good = packet(State::Up).octets();
    let with = |at: usize, to: u8| {
        let mut octets = good;
        octets[at] = to;
        ControlPacket::parse(&octets)
    };
    assert_eq!(ControlPacket::parse(&good[..23]), Err(BfdDiscard::Length { got: 23, said: 24 }));
    assert_eq!(with(0, 0x40), Err(BfdDiscard::Version(2)));
    assert_eq!(with(3, 23), Err(BfdDiscard::Length { got: 24, said: 23 }));
    assert_eq!(with(3, 25), Err(BfdDiscard::Length { got: 24, said: 25 }));
    assert_eq!(with(2, 0), Err(BfdDiscard::Multiplier));
    assert_eq!(with(1, 0xc1), Err(BfdDiscard::Multipoint));
    assert_eq!(with(1, 0xc4), Err(BfdDiscard::Authentication));
    assert_eq!(with(1, 0xf0), Err(BfdDiscard::PollAndFinal));
    let stranger = ControlPacket { my_discriminator: 0, ..packet(State::Up) };
    assert_eq!(ControlPacket::parse(&stranger.octets()), Err(BfdDiscard::MyDiscriminator));
    for (state, read) in
        [(State::AdminDown, true), (State::Down, true), (State::Init, false), (State::Up, false)]
    {
        let unknown = ControlPacket { your_discriminator: 0, ..packet(state) };
        let expected = if read { Ok(unknown) } else { Err(BfdDiscard::YourDiscriminator(state)) };
        assert_eq!(ControlPacket::parse(&unknown.octets()), expected);
    }
    // Octets behind the packet are not looked at.
    assert!(ControlPacket::parse(&[&good[..], &[0; 9]].concat()).is_ok());
}

// ---- §6.2, the states ----

#[test]
fn section_6_2_every_state_and_every_state_heard() {
    use State::{AdminDown, Down, Init, Up};
    for (ours, heard, expected) in [
        (Down, Down, Init),
        (Down, Init, Up),
        (Down, Up, Down),
        (Down, AdminDown, Down),
        (Init, Down, Init),
        (Init, Init, Up),
        (Init, Up, Up),
        (Init, AdminDown, Down),
        (Up, Down, Down),
        (Up, Init, Up),
        (Up, Up, Up),
        (Up, AdminDown, Down),
    ] {
        let mut bench = Bench::started(config());
        match ours {
            Init => drop(bench.hear(packet(Down))),
            Up => drop(bench.hear(packet(Init))),
            _ => {}
        }
        assert_eq!(bench.session.state(), ours);
        bench.hear(packet(heard));
        assert_eq!(bench.session.state(), expected, "{ours} hears {heard}");
    }
}

#[test]
fn a_change_of_state_is_told_at_once_with_its_reason() {
    let mut bench = Bench::up(config());
    let diagnostic = Diagnostic::DETECTION_TIME_EXPIRED;
    let outputs = bench.hear(ControlPacket { diagnostic, ..packet(State::Down) });
    let reason = Reason::NeighborSignaledDown(diagnostic);
    assert_eq!(transition(&outputs), Some((State::Up, State::Down, reason)));
    let packets = sent(&outputs);
    assert_eq!(packets.len(), 1);
    assert_eq!((packets[0].state, packets[0].diagnostic), (State::Down, Diagnostic::NEIGHBOR_SIGNALED_DOWN));
}

#[test]
fn an_admin_down_neighbour_is_another_reason_than_a_failure() {
    let mut bench = Bench::up(config());
    let outputs = bench.hear(packet(State::AdminDown));
    assert_eq!(transition(&outputs), Some((State::Up, State::Down, Reason::NeighborAdminDown)));
}

#[test]
fn the_diagnostic_is_gone_when_the_session_comes_back() {
    let mut bench = Bench::up(config());
    bench.hear(packet(State::Down));
    let outputs = bench.hear(packet(State::Down));
    assert_eq!(sent(&outputs)[0].diagnostic, Diagnostic::NONE);
}

// ---- §6.8.1, discriminators ----

#[test]
fn a_session_that_was_up_goes_on_under_another_discriminator() {
    let mut bench = Bench::up(config());
    let outputs = bench.hear(packet(State::Down));
    assert!(outputs.contains(&Output::DiscriminatorChanged { from: OURS, to: NEXT }));
    assert_eq!((bench.session.discriminator(), sent(&outputs)[0].my_discriminator), (NEXT, NEXT));
    // What was meant for the session before is discarded.
    assert_eq!(bench.refuse(packet(State::Up), 255), BfdDiscard::Session);
}

#[test]
fn a_session_that_was_not_up_keeps_its_discriminator() {
    let mut bench = Bench::started(config());
    bench.hear(packet(State::Down));
    bench.hear(packet(State::AdminDown));
    assert_eq!((bench.session.state(), bench.session.discriminator()), (State::Down, OURS));
}

#[test]
fn your_discriminator_is_what_the_neighbour_last_said_and_0_when_it_is_silent() {
    let mut bench = Bench::started(config());
    assert_eq!(sent(&bench.hear(packet(State::Down)))[0].your_discriminator, THEIRS);
    let told = bench.sends_for(4 * SECOND);
    assert_eq!(told.last().unwrap().1.your_discriminator, 0);
}

// ---- RFC 5881 §5, 5883: hops ----

#[test]
fn a_single_hop_packet_has_255_and_a_multihop_one_what_was_configured() {
    let mut bench = Bench::started(config());
    for got in [254, 64, 0] {
        assert_eq!(bench.refuse(packet(State::Down), got), BfdDiscard::Ttl { got, lowest: 255 });
    }
    let mut far = Bench::started(SessionConfig { lowest_ttl: Some(61), ..config() });
    assert_eq!(far.refuse(packet(State::Down), 60), BfdDiscard::Ttl { got: 60, lowest: 61 });
    far.session.handle_input(far.now, Input::Packet(&packet(State::Down), 61)).unwrap();
    let mut any = Bench::started(SessionConfig { lowest_ttl: None, ..config() });
    any.session.handle_input(any.now, Input::Packet(&packet(State::Down), 1)).unwrap();
}

// ---- §6.8.3 and §6.8.7, sending ----

#[test]
fn while_not_up_packets_go_out_every_second_less_up_to_a_quarter() {
    let mut bench = Bench::started(config());
    let mut before = Duration::ZERO;
    let told = bench.sends_for(20 * SECOND);
    for (at, packet) in &told {
        let gap = *at - before;
        assert!((ms(750)..=SECOND).contains(&gap), "{gap:?}");
        assert_eq!((packet.state, packet.desired_min_tx), (State::Down, SECOND));
        before = *at;
    }
    assert!((20..=27).contains(&told.len()), "{}", told.len());
}

#[test]
fn idle_tx_below_a_second_is_a_second_and_above_counts() {
    let slow = SessionConfig { idle_tx: 3 * SECOND, ..config() };
    let fast = SessionConfig { idle_tx: ms(50), ..config() };
    for (config, expected) in [(slow, 3 * SECOND), (fast, SECOND)] {
        let mut bench = Bench::started(config);
        assert_eq!(bench.sends_for(10 * SECOND)[0].1.desired_min_tx, expected);
    }
}

/// The neighbour answers each packet, so the session stays Up.
fn gaps_while_up(bench: &mut Bench, answer: ControlPacket) -> Vec<Duration> {
    let mut gaps = Vec::new();
    let mut last = bench.now;
    while gaps.len() < 200 {
        let (_, outputs) = bench.fire();
        if !sent(&outputs).is_empty() {
            gaps.push(bench.now - last);
            last = bench.now;
        }
        bench.hear(answer);
    }
    gaps
}

#[test]
fn while_up_the_interval_is_the_larger_of_ours_and_what_the_neighbour_can_take() {
    for (required, longest) in [(ms(50), ms(100)), (ms(400), ms(400))] {
        let mut bench = Bench::up(config());
        // Slow to give up: it answers our packets, which are slower than its own would be.
        let answer = ControlPacket { required_min_rx: required, multiplier: 9, ..packet(State::Up) };
        bench.hear(answer);
        let gaps = gaps_while_up(&mut bench, answer);
        for gap in &gaps[1..] {
            assert!((longest * 3 / 4..=longest).contains(gap), "{gap:?}");
        }
        let spread = *gaps[1..].iter().max().unwrap() - *gaps[1..].iter().min().unwrap();
        assert!(spread > longest / 5, "no jitter: {spread:?}");
    }
}

#[test]
fn with_multiplier_1_packets_come_at_least_a_tenth_early() {
    let mut bench = Bench::up(SessionConfig { multiplier: 1, ..config() });
    for gap in &gaps_while_up(&mut bench, packet(State::Up))[1..] {
        assert!((ms(75)..=ms(90)).contains(gap), "{gap:?}");
    }
}

#[test]
fn to_a_neighbour_that_can_take_none_nothing_periodic_is_sent() {
    let mut bench = Bench::up(config());
    let deaf = ControlPacket { required_min_rx: Duration::ZERO, ..packet(State::Up) };
    bench.hear(deaf);
    assert_eq!(bench.sends_for(ms(299)), []);
    // A poll is answered all the same.
    let outputs = bench.hear(ControlPacket { poll: true, ..deaf });
    assert!(sent(&outputs)[0].finish);
}

#[test]
fn to_a_neighbour_in_demand_mode_nothing_periodic_is_sent_while_both_are_up() {
    let mut bench = Bench::up(config());
    bench.hear(ControlPacket { demand: true, ..packet(State::Up) });
    assert_eq!(bench.sends_for(ms(299)), []);
    bench.hear(packet(State::Up));
    assert!(!bench.sends_for(ms(299)).is_empty());
}

#[test]
fn a_passive_session_speaks_when_it_is_spoken_to() {
    let mut bench = Bench::started(SessionConfig { passive: true, ..config() });
    assert_eq!(bench.session.poll_timeout(), None);
    let outputs = bench.hear(packet(State::Down));
    assert_eq!(sent(&outputs)[0].state, State::Init);
    assert!(!bench.sends_for(2 * SECOND).is_empty());
    // And is silent again when nobody is there.
    bench.sends_for(4 * SECOND);
    assert_eq!(bench.sends_for(10 * SECOND), []);
}

// ---- §6.5, polls ----

#[test]
fn a_poll_is_answered_at_once_and_the_answer_asks_nothing() {
    let mut bench = Bench::up(config());
    let due = bench.session.poll_timeout();
    let outputs = bench.hear(ControlPacket { poll: true, ..packet(State::Up) });
    let packets = sent(&outputs);
    assert_eq!(packets.len(), 1);
    assert!(packets[0].finish && !packets[0].poll);
    // Outside the schedule.
    assert!(bench.session.poll_timeout() <= due);
}

#[test]
fn coming_up_polls_until_the_neighbour_has_answered() {
    let mut bench = Bench::started(config());
    let outputs = bench.hear(packet(State::Init));
    assert!(sent(&outputs)[0].poll, "{outputs:?}");
    assert_eq!(sent(&outputs)[0].desired_min_tx, ms(100));
    bench.hear(packet(State::Up));
    let told = bench.sends_for(ms(250));
    assert!(told.len() >= 2 && told.iter().all(|(_, packet)| packet.poll), "{told:?}");
    bench.hear(ControlPacket { finish: true, ..packet(State::Up) });
    let told = bench.sends_for(ms(250));
    assert!(told.len() >= 2 && told.iter().all(|(_, packet)| !packet.poll), "{told:?}");
}

#[test]
fn a_slower_transmission_waits_for_the_neighbour_s_answer() {
    let mut bench = Bench::up(config());
    bench.give(Input::Reconfigured(SessionConfig { min_tx: ms(400), ..config() }));
    assert_eq!(bench.session.transmit_interval(), ms(100));
    let told = bench.fire().1;
    assert_eq!((sent(&told)[0].poll, sent(&told)[0].desired_min_tx), (true, ms(400)));
    bench.hear(ControlPacket { finish: true, ..packet(State::Up) });
    assert_eq!(bench.session.transmit_interval(), ms(400));
    // Faster: at once.
    bench.give(Input::Reconfigured(SessionConfig { min_tx: ms(50), min_rx: ms(50), ..config() }));
    bench.hear(ControlPacket { required_min_rx: ms(10), ..packet(State::Up) });
    assert_eq!(bench.session.transmit_interval(), ms(50));
}

#[test]
fn a_smaller_required_min_rx_waits_for_the_neighbour_s_answer() {
    let mut bench = Bench::up(SessionConfig { min_rx: ms(500), ..config() });
    bench.hear(packet(State::Up));
    assert_eq!(bench.session.detection_time(), Some(ms(1500)));
    bench.give(Input::Reconfigured(SessionConfig { min_rx: ms(100), ..config() }));
    assert_eq!(bench.session.detection_time(), Some(ms(1500)));
    bench.hear(ControlPacket { finish: true, ..packet(State::Up) });
    assert_eq!(bench.session.detection_time(), Some(ms(300)));
}

#[test]
fn a_session_that_does_not_change_notices_no_reload() {
    let mut bench = Bench::up(config());
    let due = bench.session.poll_timeout();
    assert_eq!(bench.give(Input::Reconfigured(config())), []);
    assert_eq!(bench.session.poll_timeout(), due);
}

// ---- §6.8.4, detection ----

#[test]
fn the_detection_time_is_the_neighbour_s_multiplier_times_the_slower_of_the_two() {
    for (multiplier, theirs, ours, expected) in
        [(3, ms(100), ms(100), ms(300)), (5, ms(50), ms(100), ms(500)), (2, ms(700), ms(100), ms(1400))]
    {
        let mut bench = Bench::up(SessionConfig { min_rx: ours, ..config() });
        bench.hear(ControlPacket { multiplier, desired_min_tx: theirs, ..packet(State::Up) });
        let heard = bench.now;
        let down = loop {
            let (_, outputs) = bench.fire();
            if let Some(transition) = transition(&outputs) {
                let told = sent(&outputs)[0];
                assert_eq!((told.state, told.diagnostic), (State::Down, Diagnostic::DETECTION_TIME_EXPIRED));
                break transition;
            }
        };
        assert_eq!(bench.now - heard, expected);
        assert_eq!(down, (State::Up, State::Down, Reason::DetectionTimeExpired(expected)));
    }
}

#[test]
fn the_timer_does_not_fire_a_nanosecond_early() {
    let mut bench = Bench::up(config());
    bench.hear(packet(State::Up));
    bench.now += ms(300) - Duration::from_nanos(1);
    bench.give(Input::Timeout);
    assert_eq!(bench.session.state(), State::Up);
    bench.now += Duration::from_nanos(1);
    bench.give(Input::Timeout);
    assert_eq!(bench.session.state(), State::Down);
}

#[test]
fn a_session_in_init_falls_back_when_the_neighbour_is_silent() {
    let mut bench = Bench::started(config());
    bench.hear(packet(State::Down));
    assert_eq!(bench.session.state(), State::Init);
    bench.sends_for(3 * SECOND);
    assert_eq!((bench.session.state(), bench.session.remote()), (State::Down, None));
}

// ---- AdminDown ----

#[test]
fn a_stop_is_told_at_once_and_for_a_detection_time() {
    let mut bench = Bench::up(config());
    let outputs = bench.give(Input::Stop);
    assert_eq!(transition(&outputs), Some((State::Up, State::AdminDown, Reason::Stopped)));
    let told = sent(&outputs)[0];
    assert_eq!((told.state, told.diagnostic), (State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN));
    assert_eq!(bench.refuse(packet(State::Up), 255), BfdDiscard::Stopped);
    let (after, outputs) = bench.fire();
    assert_eq!((after, outputs), (ms(300), vec![Output::Stopped]));
}

#[test]
fn whom_nobody_heard_may_stop_at_once() {
    let mut bench = Bench::started(config());
    assert_eq!(bench.give(Input::Stop).last(), Some(&Output::Stopped));
    assert_eq!(bench.session.poll_timeout(), None);
    let mut never = Bench::new(config());
    assert_eq!(never.give(Input::Stop), [Output::Stopped]);
}

// ---- Two sessions ----

/// Both ends over a wire of 1 ms that may be cut in one direction.
struct Wire {
    ends: [Session; 2],
    flying: Vec<(Instant, usize, ControlPacket)>,
    cut: [bool; 2],
    now: Instant,
    log: Vec<(Duration, usize, State, State)>,
}

impl Wire {
    fn new(config: [SessionConfig; 2]) -> Self {
        let end =
            |index: usize| Session::new(config[index], 10 + index as u32, 20 + index as u32, index as u64);
        let mut wire = Self {
            ends: [end(0), end(1)],
            flying: Vec::new(),
            cut: [false; 2],
            now: *EPOCH,
            log: Vec::new(),
        };
        for index in 0..2 {
            wire.give(index, Input::Start);
        }
        wire
    }

    fn give(&mut self, index: usize, input: Input<'_>) {
        let _ = self.ends[index].handle_input(self.now, input);
        while let Some(output) = self.ends[index].poll_output() {
            match output {
                Output::Send(packet) if !self.cut[index] => {
                    let read = ControlPacket::parse(&packet.octets()).unwrap();
                    self.flying.push((self.now + ms(1), 1 - index, read));
                }
                Output::Transition { from, to, .. } => self.log.push((self.now - *EPOCH, index, from, to)),
                Output::DiscriminatorChanged { from, .. } => {
                    self.ends[index].set_next_discriminator(from + 100)
                }
                Output::Send(_) | Output::Stopped => {}
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let arrival = self.flying.iter().map(|(at, ..)| *at).min();
            let timers = self.ends.each_ref().map(Session::poll_timeout);
            let Some(next) =
                arrival.into_iter().chain(timers.into_iter().flatten()).min().filter(|at| *at <= end)
            else {
                break;
            };
            self.now = self.now.max(next);
            if let Some(index) = self.flying.iter().position(|(at, ..)| *at <= self.now) {
                let (_, to, packet) = self.flying.remove(index);
                self.give(to, Input::Packet(&packet, 255));
            } else {
                for index in 0..2 {
                    self.give(index, Input::Timeout);
                }
            }
        }
        self.now = end;
    }

    fn states(&self) -> [State; 2] {
        self.ends.each_ref().map(Session::state)
    }
}

#[test]
fn two_sessions_come_up_and_stay_up() {
    for passive in [false, true] {
        let mut wire = Wire::new([config(), SessionConfig { passive, ..config() }]);
        wire.run(2 * SECOND);
        assert_eq!(wire.states(), [State::Up; 2]);
        let changes = wire.log.len();
        wire.run(Duration::from_secs(600));
        assert_eq!((wire.states(), wire.log.len()), ([State::Up; 2], changes));
    }
}

#[test]
fn a_cut_in_either_direction_takes_both_down_and_they_come_back() {
    for direction in 0..2 {
        let mut wire = Wire::new([config(); 2]);
        wire.run(3 * SECOND);
        wire.log.clear();
        let cut_at = wire.now - *EPOCH;
        wire.cut[direction] = true;
        wire.run(3 * SECOND);
        // Who hears nothing notices within the detection time, the other a packet later.
        let (at, who, from, to) = wire.log[0];
        assert_eq!((who, from, to), (1 - direction, State::Up, State::Down));
        assert!((ms(200)..=ms(301)).contains(&(at - cut_at)), "{:?}", at - cut_at);
        assert_eq!(wire.log[1], (at + ms(1), direction, State::Up, State::Down));
        assert_ne!(wire.states(), [State::Up; 2]);
        wire.cut[direction] = false;
        wire.run(3 * SECOND);
        assert_eq!(wire.states(), [State::Up; 2]);
    }
}

#[test]
fn a_stopped_neighbour_is_known_within_a_packet() {
    let mut wire = Wire::new([config(); 2]);
    wire.run(3 * SECOND);
    wire.log.clear();
    let stopped_at = wire.now - *EPOCH;
    wire.give(0, Input::Stop);
    wire.run(SECOND);
    assert_eq!(wire.log[1], (stopped_at + ms(1), 1, State::Up, State::Down));
}
