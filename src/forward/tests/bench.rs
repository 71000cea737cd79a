//! A forwarder with its verdicts and transitions in the test's hands, and peers whose ends can be told apart.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use config::ready::{Backend, BackendPolicy, Balance, Keepalive, Listener, Place, Policy};
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc, watch};

use crate::check::{Advice, Pulse, Subject, Verdict};
use crate::forward::{Forward, ForwardError};
use crate::observe::event::{Event, EventSender, Health, Kind, Reason, State};
use crate::observe::status::ListenerStatus;

/// Anything on loopback that takes longer does not come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Threads of the data path: so that sessions of one listener are on different ones.
pub const LOOPS: usize = 2;

/// Fails instead of hanging.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// Asks again until it is so.
pub async fn until(what: &str, is: impl Fn() -> bool) {
    soon(what, async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

pub fn place(line: u32) -> Place {
    Place { file: "vipd.toml".into(), line, column: 1 }
}

pub fn backend(name: &str, address: SocketAddr) -> Backend {
    Backend {
        name: name.into(),
        address,
        weight: 1,
        checks: Vec::new(),
        place: place(20),
        policy: BackendPolicy::default(),
    }
}

/// The same with a check that has the name of the backend.
pub fn checked(name: &str, address: SocketAddr) -> Backend {
    Backend { checks: vec![name.into()], ..backend(name, address) }
}

/// As the defaults are, with one port of loopback.
pub fn listener(backends: Vec<Backend>) -> Listener {
    Listener {
        name: "api".into(),
        place: place(10),
        bind: vec!["127.0.0.1:0".parse().unwrap()],
        balance: Balance::RoundRobin,
        backends,
        connect_timeout: Duration::from_secs(2),
        idle_timeout: None,
        keepalive: Some(Keepalive {
            idle: Duration::from_secs(30),
            interval: Duration::from_secs(10),
            count: 3,
        }),
        user_timeout: Some(Duration::from_secs(20)),
        max_sessions: 1000,
        close_sessions_on_backend_down: true,
        instances: Vec::new(),
        discovered: Vec::new(),
        policy: Policy::default(),
    }
}

/// A forwarder and what the other rooms would tell it.
pub struct Bench {
    pub forward: Forward,
    pub verdicts: HashMap<String, watch::Sender<Verdict>>,
    pub pulses: HashMap<String, watch::Sender<Pulse>>,
    pub transitions: broadcast::Sender<Arc<Event>>,
    pub events: mpsc::Receiver<Event>,
}

impl Bench {
    pub async fn start(listener: Listener) -> Self {
        Self::with_vips(listener, &[]).await
    }

    pub async fn with_vips(listener: Listener, vips: &[(&str, &str)]) -> Self {
        Self::try_start(&[listener], vips).await.unwrap()
    }

    pub async fn try_start(listeners: &[Listener], vips: &[(&str, &str)]) -> Result<Self, ForwardError> {
        let verdicts: HashMap<_, _> = listeners
            .iter()
            .flat_map(|listener| &listener.backends)
            .flat_map(|backend| backend.checks.clone())
            .map(|check| (check, watch::Sender::new(verdict(Health::Unknown, "no result yet"))))
            .collect();
        let (transitions, receiver) = broadcast::channel(16);
        let (sender, events) = EventSender::channel(1000);
        let vips = vips
            .iter()
            .map(|(name, address)| (String::from(*name), vec![address.parse::<IpAddr>().unwrap()]))
            .collect();
        let pulses: HashMap<_, _> =
            verdicts.keys().map(|check| (check.clone(), watch::Sender::new(Pulse::default()))).collect();
        let subscribe = |name: &str| Some(subject(verdicts.get(name)?, pulses.get(name)?));
        let forward = Forward::start(LOOPS, false, listeners, subscribe, vips, receiver, sender).await?;
        Ok(Self { forward, verdicts, pulses, transitions, events })
    }

    /// Another configuration with the checks that are there.
    pub async fn reload(&mut self, listeners: &[Listener]) -> Result<(), ForwardError> {
        let subscribe = |name: &str| Some(subject(self.verdicts.get(name)?, self.pulses.get(name)?));
        self.forward.reload(listeners, subscribe, HashMap::new()).await
    }

    pub fn status(&self) -> ListenerStatus {
        self.forward.status().remove(0)
    }

    pub fn address(&self) -> SocketAddr {
        self.status().bind[0]
    }

    pub async fn connect(&self) -> TcpStream {
        soon("connect to the forwarder", TcpStream::connect(self.address())).await.unwrap()
    }

    /// A client that is turned away: it sees a reset, at once or when it looks.
    pub async fn turned_away(&self) {
        match soon("connect to the forwarder", TcpStream::connect(self.address())).await {
            Ok(mut client) => assert_eq!(read_out(&mut client).await, (Bytes(vec![]), Ending::Reset)),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }

    pub fn say(&self, check: &str, health: Health, detail: &str) {
        self.verdicts[check].send_replace(verdict(health, detail));
    }

    /// Says it, and waits until it has arrived.
    pub async fn call(&self, check: &str, health: Health) {
        self.say(check, health, "said so");
        until("the verdict arrives", || {
            self.status().backends.iter().any(|b| b.name == check && b.health == health)
        })
        .await;
    }

    /// So many sessions have their backend.
    pub async fn established(&self, sessions: u64) {
        let now = || self.status().backends.iter().map(|b| b.sessions).sum::<u64>();
        until("the sessions stand", || now() == sessions).await;
    }

    pub fn transition(&self, instance: &str, from: State, to: State) {
        let kind =
            Kind::Transition { instance: instance.into(), from, to, reason: Reason::Stopped, priority: 100 };
        self.transitions.send(Arc::new(Event { at: SystemTime::now(), kind })).unwrap();
    }

    pub async fn next_event(&mut self) -> Kind {
        soon("an event", self.events.recv()).await.expect("the forwarder holds the sender").kind
    }
}

fn subject(verdict: &watch::Sender<Verdict>, pulse: &watch::Sender<Pulse>) -> Subject {
    Subject::told(verdict.subscribe(), pulse.subscribe())
}

pub fn verdict(health: Health, detail: &str) -> Verdict {
    Verdict {
        health,
        value: None,
        advice: Advice::default(),
        detail: detail.into(),
        streak: (0, 1),
        since: SystemTime::now(),
    }
}

/// A listening socket for a backend of the test.
pub async fn serve() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

pub async fn accept(socket: &TcpListener) -> TcpStream {
    soon("the backend is connected", socket.accept()).await.unwrap().0
}

/// A port of loopback on which nobody listens.
pub async fn refusing() -> SocketAddr {
    serve().await.1
}

/// Closes with a reset.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// How a stream ended, as its reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Fin,
    Reset,
}

/// Bytes that are too many to be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl<T: AsRef<[u8]>> PartialEq<T> for Bytes {
    fn eq(&self, other: &T) -> bool {
        self.0 == other.as_ref()
    }
}

/// All bytes, and how they ended.
pub async fn read_out(stream: &mut TcpStream) -> (Bytes, Ending) {
    let mut all = Vec::new();
    let mut buffer = vec![0; 65_536];
    soon("the end of the stream", async {
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => return (Bytes(std::mem::take(&mut all)), Ending::Fin),
                Ok(n) => all.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return (Bytes(std::mem::take(&mut all)), Ending::Reset);
                }
                Err(error) => panic!("neither end nor reset: {error}"),
            }
        }
    })
    .await
}

/// Bytes that are in the wrong place when one is missing or doubled.
pub fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    std::iter::repeat_with(|| random.next().to_le_bytes()).flatten().take(length).collect()
}

/// Xorshift: the same every time.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }
}

/// For what the whole process shares: its limits, its memory. `name` is the test's, below `forward::tests`.
pub fn in_a_process_of_its_own(name: &str, test: impl Future<Output = ()>) {
    const CHILD: &str = "VIPD_TEST_ALONE";
    if std::env::var_os(CHILD).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(test);
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .arg(format!("forward::tests::{name}"))
        .env(CHILD, "1")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{output}{}", String::from_utf8_lossy(&child.stderr));
    assert!(output.contains("1 passed"), "the child ran no test: {output}");
}
