//! Ten thousand random conversations, each held directly and through the forwarder: both sides must see the
//! same bytes and the same kind of end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore, oneshot};

use super::bench::*;

const SESSIONS: u64 = if cfg!(debug_assertions) { 1500 } else { 10_000 };
const AT_A_TIME: usize = 32;

/// What one side does, and in what order its end comes.
#[derive(Clone, Debug)]
struct Part {
    /// Lengths of its writes.
    writes: Vec<usize>,
    /// Before it begins to write it hears the other side out.
    listens_first: bool,
    /// At its end: a reset instead of an end of stream, after all that it is to hear was heard.
    resets: bool,
}

/// Client, backend.
type Script = [Part; 2];

fn script(seed: u64) -> Script {
    let mut random = Random::new(seed + 1);
    let mut part = || {
        let writes = (0..random.below(4))
            .map(|_| {
                let most = [10, 2000, 70_000, 300_000][usize::try_from(random.below(4)).unwrap()];
                usize::try_from(random.below(most)).unwrap()
            })
            .collect();
        Part { writes, listens_first: false, resets: false }
    };
    let mut script = [part(), part()];
    // At most one of them may wait for the other one's end, and at most one may reset.
    match random.below(3) {
        0 => script[0].listens_first = true,
        1 => script[1].listens_first = true,
        _ => {}
    }
    match random.below(4) {
        0 => script[0].resets = true,
        1 => script[1].resets = true,
        _ => {}
    }
    script
}

/// What one side saw.
type Seen = (Vec<u8>, Ending);

/// Plays one side. A side that resets waits until the other one has got everything (`heard`), so that what
/// must be seen does not depend on who is faster.
async fn play(
    stream: TcpStream,
    part: Part,
    seed: u64,
    heard_by_other: oneshot::Receiver<()>,
    i_heard: oneshot::Sender<()>,
    other_writes: usize,
) -> Seen {
    let (mut read, mut write) = stream.into_split();
    let resets = part.resets;
    let writing = part.writes.clone();
    let (done_reading, wait_reading) = oneshot::channel::<()>();
    let writer = tokio::spawn(async move {
        if part.listens_first {
            let _ = wait_reading.await;
        }
        for (index, length) in writing.iter().enumerate() {
            let bytes = pattern(*length, seed * 16 + index as u64);
            soon("writing", write.write_all(&bytes)).await.unwrap();
        }
        if !resets {
            write.shutdown().await.unwrap();
        }
        write
    });
    // Everything that the other one writes, then its end.
    let mut all = Vec::new();
    let mut buffer = vec![0; 65_536];
    let mut i_heard = Some(i_heard);
    let mut done_reading = Some(done_reading);
    let ending = soon("hearing the other side out", async {
        loop {
            if all.len() >= other_writes {
                if let Some(heard) = i_heard.take() {
                    let _ = heard.send(());
                }
                if let Some(done) = done_reading.take() {
                    let _ = done.send(());
                }
                // A side that resets has no end to wait for if the other one does not end before.
                if resets {
                    return Ending::Fin;
                }
            }
            match tokio::io::AsyncReadExt::read(&mut read, &mut buffer).await {
                Ok(0) => return Ending::Fin,
                Ok(n) => all.extend_from_slice(&buffer[..n]),
                Err(_) => return Ending::Reset,
            }
        }
    })
    .await;
    let write = writer.await.unwrap();
    let stream = read.reunite(write).unwrap();
    if resets {
        soon("the other side has heard all", heard_by_other).await.unwrap();
        reset(stream);
    }
    (all, ending)
}

/// Holds a conversation over `connect_to`, at the other end of which `socket` accepts.
async fn hold(seed: u64, connect_to: SocketAddr, socket: &Mutex<TcpListener>) -> [Seen; 2] {
    let script = script(seed);
    // Connect and accept under one lock: so the two belong together.
    let (client, backend) = {
        let socket = socket.lock().await;
        let client = soon("connect", TcpStream::connect(connect_to)).await.unwrap();
        (client, accept(&socket).await)
    };
    let (to_client, client_waits) = oneshot::channel();
    let (to_backend, backend_waits) = oneshot::channel();
    let total = |part: &Part| part.writes.iter().sum::<usize>();
    let [first, second] = script.clone();
    let client = tokio::spawn(play(client, first, seed * 2, client_waits, to_backend, total(&script[1])));
    let backend =
        tokio::spawn(play(backend, second, seed * 2 + 1, backend_waits, to_client, total(&script[0])));
    [client.await.unwrap(), backend.await.unwrap()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_sessions_are_the_same_directly_and_through_the_forwarder() {
    let (direct, direct_address) = serve().await;
    let (behind, behind_address) = serve().await;
    let bench = Bench::start(listener(vec![backend("a", behind_address)])).await;
    let through = bench.address();
    let (direct, behind) = (Arc::new(Mutex::new(direct)), Arc::new(Mutex::new(behind)));
    let places = Arc::new(Semaphore::new(AT_A_TIME));
    let mut running = Vec::new();
    for seed in 0..SESSIONS {
        let place = places.clone().acquire_owned().await.unwrap();
        let (direct, behind) = (direct.clone(), behind.clone());
        running.push(tokio::spawn(async move {
            let wanted = hold(seed, direct_address, &direct).await;
            let got = hold(seed, through, &behind).await;
            drop(place);
            if got != wanted {
                let short = |seen: &[Seen; 2]| seen.clone().map(|(bytes, end)| (bytes.len(), end));
                panic!(
                    "{seed}: {:?} directly, {:?} through, {:?}",
                    short(&wanted),
                    short(&got),
                    script(seed)
                );
            }
            wanted.map(|(_, ending)| ending)
        }));
    }
    let mut endings = Vec::new();
    for session in running {
        endings.extend(session.await.unwrap());
    }
    // The scripts are worth something: both kinds of end were there.
    let resets = endings.iter().filter(|e| **e == Ending::Reset).count() as u64;
    assert!(resets > SESSIONS / 5 && resets < SESSIONS, "{resets} resets of {}", endings.len());
    until("every session has ended", || bench.status().sessions == 0).await;
    assert_eq!(bench.status().sessions_total, SESSIONS);
    tokio::time::timeout(Duration::from_secs(5), bench.forward.stop()).await.unwrap();
}
