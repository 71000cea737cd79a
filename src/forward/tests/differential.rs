//! Random conversations, each held directly, through HAProxy and through the forwarder with the same backend.
//!
//! Both sides must hear the same bytes and the same kind of end directly and through the forwarder. HAProxy
//! (seen with 2.6.12) has ways of its own, which are allowed to it and to nobody else:
//!
//! - a reset by the backend reaches the client as an end of stream, so a truncated answer looks complete;
//! - so does a reset by the client, when the backend has ended its own stream before;
//! - a client that ends its stream before it has said anything may be cut off, with its backend.
//!
//! The script of a conversation comes from its number alone. VIPD_SESSIONS says how many are held.

use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore, oneshot};

use super::bench::*;

/// Held unless VIPD_SESSIONS says otherwise.
const SESSIONS: u64 = 1500;
const AT_A_TIME: usize = 32;

/// Longer than the most that 64 MiB take on a busy machine.
const LONGEST: Duration = Duration::from_secs(120);

/// How a side says goodbye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goodbye {
    /// An end of stream after its last byte; it goes on listening.
    End,
    /// A reset, after it has heard everything and was heard.
    Reset,
    /// It closes after so many bytes, with the rest unread, after it was heard: a reset by the kernel.
    Leave(usize),
}

/// What one side does.
#[derive(Clone, Debug)]
struct Part {
    /// Lengths of its writes.
    writes: Vec<usize>,
    /// Before it begins to write it hears everything the other side has to say.
    listens_first: bool,
    /// Takes small bites, with pauses.
    is_slow: bool,
    goodbye: Goodbye,
}

impl Part {
    fn total(&self) -> usize {
        self.writes.iter().sum()
    }
}

/// Client, backend.
type Script = [Part; 2];

fn script(number: u64) -> Script {
    let mut random = Random::new(number + 1);
    let mut below = |bound: usize| usize::try_from(random.below(bound as u64)).unwrap();
    let mut part = || {
        let mut writes: Vec<_> = (0..below(4))
            .map(|_| {
                let most = [10, 2000, 70_000, 300_000][below(4)];
                below(most)
            })
            .collect();
        // Few are large, very few are very large.
        match below(1000) {
            0 => writes.push(below(64 << 20) + 1),
            1..20 => writes.push(below(4 << 20)),
            _ => {}
        }
        Part { writes, listens_first: false, is_slow: false, goodbye: Goodbye::End }
    };
    let mut script = [part(), part()];
    for side in 0..2 {
        script[side].is_slow = below(8) == 0 && script[1 - side].total() < 400_000;
    }
    // At most one of them may wait for the other one's end, and at most one may go otherwise than it should.
    match below(3) {
        0 => script[0].listens_first = true,
        1 => script[1].listens_first = true,
        _ => {}
    }
    let side = below(2);
    let other = script[1 - side].total();
    match below(5) {
        0 | 1 => script[side].goodbye = Goodbye::Reset,
        2 if other > 1 => {
            script[side].goodbye = Goodbye::Leave(below(other - 1) + 1);
            script[0].listens_first = false;
            script[1].listens_first = false;
        }
        _ => {}
    }
    script
}

/// Bytes that are in the wrong place when one is missing or doubled: nothing else repeats at this length.
static TABLE: LazyLock<Vec<u8>> = LazyLock::new(|| pattern(65_521, 1));

/// What one side heard: how much, a hash of it, its end. Of a side that left: what it read before.
type Heard = (usize, u64, Ending);

/// What a side needs of the other one, so that what must be heard does not depend on who is faster.
struct Sync {
    heard_by_other: oneshot::Receiver<()>,
    i_heard: Option<oneshot::Sender<()>>,
}

/// Gives the stream back, and whether it was told of a reset.
async fn say(
    mut write: OwnedWriteHalf,
    part: Part,
    seed: usize,
    begin: oneshot::Receiver<()>,
) -> (OwnedWriteHalf, bool) {
    if part.listens_first {
        let _ = begin.await;
    }
    let mut at = seed * 7919;
    for length in &part.writes {
        let mut rest = *length;
        while rest > 0 {
            let from = at % TABLE.len();
            let piece = rest.min(TABLE.len() - from);
            // The other side may have left.
            if let Err(error) = write.write_all(&TABLE[from..from + piece]).await {
                return (write, error.kind() == io::ErrorKind::ConnectionReset);
            }
            (at, rest) = (at + piece, rest - piece);
        }
    }
    if part.goodbye == Goodbye::End {
        let _ = write.shutdown().await;
    }
    (write, false)
}

async fn hear(
    read: &mut OwnedReadHalf,
    part: &Part,
    other: usize,
    sync: &mut Sync,
    begin: oneshot::Sender<()>,
) -> Heard {
    let (mut length, mut hash) = (0, DefaultHasher::new());
    let mut buffer = vec![0; if part.is_slow { 3000 } else { 65_536 }];
    let mut begin = Some(begin);
    let until = if let Goodbye::Leave(after) = part.goodbye { after } else { usize::MAX };
    loop {
        if length >= other {
            drop((sync.i_heard.take(), begin.take()));
            // A side that resets has no end to wait for if the other one does not end before.
            if part.goodbye == Goodbye::Reset {
                return (length, hash.finish(), Ending::Fin);
            }
        }
        if length == until {
            // With something unread the kernel resets when it closes.
            let _ = read.peek(&mut [0]).await;
            return (length, hash.finish(), Ending::Fin);
        }
        let most = buffer.len().min(until - length);
        match read.read(&mut buffer[..most]).await {
            Ok(0) => return (length, hash.finish(), Ending::Fin),
            Ok(n) => {
                hash.write(&buffer[..n]);
                length += n;
            }
            Err(_) => return (length, hash.finish(), Ending::Reset),
        }
        if part.is_slow && length < 60_000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn play(stream: TcpStream, part: Part, seed: usize, other: usize, mut sync: Sync) -> Heard {
    let (mut read, write) = stream.into_split();
    let (begin, begun) = oneshot::channel();
    let writer = tokio::spawn(say(write, part.clone(), seed, begun));
    let mut heard = hear(&mut read, &part, other, &mut sync, begin).await;
    let (write, was_reset) = writer.await.unwrap();
    // The kernel tells a socket once: its writer or its reader, who sees an end of stream then.
    if was_reset {
        heard.2 = Ending::Reset;
    }
    let stream = read.reunite(write).unwrap();
    if part.goodbye != Goodbye::End {
        // Nobody is left to hear it when the sender was dropped: all the same.
        let _ = sync.heard_by_other.await;
    }
    if part.goodbye == Goodbye::Reset {
        reset(stream);
    }
    heard
}

/// Holds a conversation over `connect_to`, at the other end of which `socket` accepts.
async fn hold(number: u64, connect_to: SocketAddr, socket: &Mutex<TcpListener>) -> [Heard; 2] {
    let [first, second] = script(number);
    // Connect and accept under one lock: so the two belong together.
    let (client, backend) = {
        let socket = socket.lock().await;
        let client = soon("connect", TcpStream::connect(connect_to)).await.unwrap();
        (client, accept(&socket).await)
    };
    let (to_client, client_waits) = oneshot::channel();
    let (to_backend, backend_waits) = oneshot::channel();
    let seed = usize::try_from(number).unwrap();
    let totals = (first.total(), second.total());
    let client_sync = Sync { heard_by_other: client_waits, i_heard: Some(to_backend) };
    let backend_sync = Sync { heard_by_other: backend_waits, i_heard: Some(to_client) };
    let client = tokio::spawn(play(client, first, 2 * seed, totals.1, client_sync));
    let backend = tokio::spawn(play(backend, second, 2 * seed + 1, totals.0, backend_sync));
    let both = async { [client.await.unwrap(), backend.await.unwrap()] };
    tokio::time::timeout(LONGEST, both)
        .await
        .unwrap_or_else(|_| panic!("{number} over {connect_to} does not end: {:?}", script(number)))
}

/// Whether HAProxy may make this of what is heard directly.
fn haproxy_may(number: u64, directly: &[Heard; 2], got: &[Heard; 2]) -> bool {
    let script = script(number);
    if script[0].total() == 0 && script[0].goodbye == Goodbye::End {
        return true;
    }
    [0, 1].into_iter().all(|side| {
        let (wanted, got) = (directly[side], got[side]);
        let same_bytes = (wanted.0, wanted.1) == (got.0, got.1);
        same_bytes && (wanted.2 == got.2 || script[1 - side].goodbye != Goodbye::End)
    })
}

/// A running HAProxy.
struct Haproxy {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Haproxy {
    /// `None`: this host need not have one.
    async fn start(backend: SocketAddr) -> Option<Self> {
        let address = refusing().await;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("haproxy.cfg");
        let configuration = format!(
            "global\n maxconn 2000\n nbthread 1\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n \
             timeout server 1h\nlisten l\n bind {address}\n server s {backend}\n"
        );
        std::fs::write(&file, configuration).unwrap();
        let child = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(&file)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(_) if std::env::var("NETNS_TESTS").is_ok_and(|value| value == "skip") => return None,
            Err(error) => panic!("haproxy cannot be run ({error}); NETNS_TESTS=skip does without"),
        };
        Some(Self { child, address, _directory: directory })
    }

    /// Waits until it listens; the backend sees one connection of that.
    async fn listens(&self, backend: &Mutex<TcpListener>) {
        soon("haproxy listens", async {
            while TcpStream::connect(self.address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        accept(&*backend.lock().await).await;
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_sessions_are_the_same_directly_through_haproxy_and_through_the_forwarder() {
    let sessions =
        std::env::var("VIPD_SESSIONS").map_or(SESSIONS, |n| n.parse().expect("a number of sessions"));
    let (socket, address) = serve().await;
    let socket = Arc::new(Mutex::new(socket));
    let bench = Bench::start(listener(vec![backend("a", address)])).await;
    let haproxy = Haproxy::start(address).await;
    if let Some(haproxy) = &haproxy {
        haproxy.listens(&socket).await;
    }
    let (through, haproxy_at) = (bench.address(), haproxy.as_ref().map(|haproxy| haproxy.address));
    let places = Arc::new(Semaphore::new(AT_A_TIME));
    let departures = Arc::new(AtomicU64::new(0));
    let mut running = Vec::new();
    for number in 0..sessions {
        let place = places.clone().acquire_owned().await.unwrap();
        let (socket, departures) = (socket.clone(), departures.clone());
        running.push(tokio::spawn(async move {
            let directly = hold(number, address, &socket).await;
            let got = hold(number, through, &socket).await;
            assert_eq!(got, directly, "{number} through the forwarder: {:?}", script(number));
            if let Some(at) = haproxy_at {
                let got = hold(number, at, &socket).await;
                assert!(
                    haproxy_may(number, &directly, &got),
                    "{number}: {directly:?} directly, {got:?} through haproxy, {:?}",
                    script(number)
                );
                departures.fetch_add(u64::from(got != directly), Ordering::Relaxed);
            }
            drop(place);
            (directly.map(|heard| heard.0), directly.map(|heard| heard.2))
        }));
    }
    let (mut bytes, mut resets) = (0, 0);
    for session in running {
        let (lengths, endings) = session.await.unwrap();
        bytes += lengths.iter().sum::<usize>();
        resets += endings.iter().filter(|ending| **ending == Ending::Reset).count() as u64;
    }
    // The scripts are worth something: there was much to carry, and both kinds of end were there.
    assert!(bytes as u64 > sessions * 50_000, "{bytes} bytes");
    assert!(resets > sessions / 5 && resets < sessions, "{resets} resets");
    let departures = departures.load(Ordering::Relaxed);
    println!(
        "{sessions} sessions, {bytes} bytes on each road, {resets} resets; haproxy went its own way in {departures}"
    );
    until("every session has ended", || bench.status().sessions == 0).await;
    assert_eq!(bench.status().sessions_total, sessions);
    tokio::time::timeout(Duration::from_secs(5), bench.forward.stop()).await.unwrap();
}
