//! Many clients at a time, and such as mean no good.

use std::time::{Duration, Instant};

use config::ready::{Backend, Balance, Persistence};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::bench::*;
use crate::forward::orders::Order;
use crate::observe::status::Admin;

/// Answers every byte with the same one.
fn echo(socket: TcpListener) {
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
}

async fn is_served(bench: &Bench) {
    let mut client = bench.connect().await;
    client.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    soon("an answer", client.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"ping");
}

/// KiB that this process alone has written to. Its proportional set size would also move when another process
/// of the same program ends.
fn own_memory() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Private_Dirty:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn five_thousand_silent_clients_cost_little_and_disturb_nobody() {
    in_a_process_of_its_own(
        "crowds::five_thousand_silent_clients_cost_little_and_disturb_nobody",
        five_thousand_silent_clients(),
    );
}

async fn five_thousand_silent_clients() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    // Three descriptors for each are in this process: the client's, and two of the forwarder.
    let crowd = usize::try_from((hard - 1000) / 3).unwrap().min(5000);
    // The kernel completes their connections; nobody accepts them.
    let queue = || {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&socket).listen(4096).unwrap();
        socket
    };
    let queues = [queue(), queue()];
    let mut config = listener(
        queues.iter().enumerate().map(|(n, q)| backend(&n.to_string(), q.local_addr().unwrap())).collect(),
    );
    config.max_sessions = 100_000;
    let (socket, address) = serve().await;
    echo(socket);
    let mut other = listener(vec![backend("echo", address)]);
    other.name = "other".into();
    let bench = Bench::try_start(&[other, config], &[]).await.unwrap();
    let at = bench.forward.status()[1].bind[0];
    is_served(&bench).await;

    let mut clients = Vec::with_capacity(crowd);
    let before = own_memory();
    for _ in 0..crowd {
        clients.push(std::net::TcpStream::connect(at).unwrap());
    }
    let stand = || bench.forward.status()[1].backends.iter().map(|b| b.sessions).sum::<u64>();
    until("all of them stand", || stand() == crowd as u64).await;
    let bytes = own_memory().saturating_sub(before) * 1024 / crowd as u64;
    assert!(bytes <= 307, "{bytes} bytes for each session");
    let started = Instant::now();
    for _ in 0..20 {
        is_served(&bench).await;
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(stand(), crowd as u64);
}

#[test]
fn clients_that_never_read_hold_no_more_than_their_share_and_disturb_nobody() {
    in_a_process_of_its_own(
        "crowds::clients_that_never_read_hold_no_more_than_their_share_and_disturb_nobody",
        clients_that_never_read(),
    );
}

async fn clients_that_never_read() {
    const CROWD: usize = 16;
    let ((endless, first), (socket, second)) = (serve().await, serve().await);
    echo(socket);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = endless.accept().await {
            tokio::spawn(async move { while stream.write_all(&[7; 65_536]).await.is_ok() {} });
        }
    });
    let mut other = listener(vec![backend("echo", second)]);
    other.name = "other".into();
    let bench = Bench::try_start(&[other, listener(vec![backend("endless", first)])], &[]).await.unwrap();
    let at = bench.forward.status()[1].bind[0];
    is_served(&bench).await;
    let before = own_memory();
    let mut clients = Vec::new();
    for _ in 0..CROWD {
        let client = TcpSocket::new_v4().unwrap();
        client.set_recv_buffer_size(16_384).unwrap();
        clients.push(client.connect(at).await.unwrap());
    }
    let carried = || bench.forward.status()[1].backends[0].bytes_out;
    let mut seen = 0;
    soon("nothing moves any more", async {
        while seen == 0 || seen != carried() {
            seen = carried();
            is_served(&bench).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    })
    .await;
    // Spliced bytes are the kernel's; copied ones are at most one buffer for each.
    let kib = own_memory().saturating_sub(before);
    assert!(kib < 65 * CROWD as u64 + 4096, "{kib} KiB for {CROWD} clients that read nothing");
    drop(clients);
    until("they are gone", || bench.forward.status()[1].sessions == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_fail_no_connection() {
    let ((a, first), (b, second)) = (serve().await, serve().await);
    echo(a);
    echo(b);
    let mut config = listener(vec![backend("a", first)]);
    let mut bench = Bench::start(config.clone()).await;
    let at = bench.address();
    let mut held = bench.connect().await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let load = (0..4).map(|_| {
        let stopped = stopped.clone();
        tokio::spawn(async move {
            let mut served = 0_u64;
            while !*stopped.borrow() {
                let mut client = TcpStream::connect(at).await.unwrap();
                client.write_all(b"ping").await.unwrap();
                client.shutdown().await.unwrap();
                assert_eq!(read_out(&mut client).await, (Bytes(b"ping".to_vec()), Ending::Fin));
                served += 1;
            }
            served
        })
    });
    let load: Vec<_> = load.collect();
    let balances =
        [Balance::RoundRobin, Balance::LeastConn, Balance::Source, Balance::Random, Balance::First];
    let minute = Duration::from_secs(60);
    let remember = Persistence { timeout: minute, ipv4_prefix: 32, ipv6_prefix: 128 };
    for round in 0..30_u16 {
        let weighted = |name, address| Backend { weight: 1 + round, ..backend(name, address) };
        config.backends = match round % 3 {
            0 => vec![weighted("a", first), weighted("b", second)],
            1 => vec![weighted("b", second)],
            _ => vec![weighted("a", first)],
        };
        config.balance = balances[usize::from(round) % balances.len()];
        config.policy.persistence = (round % 2 == 0).then_some(remember);
        // Of the four clients, and the one that is held, some wait.
        config.policy.queue_timeout = Some(minute);
        config.backends.iter_mut().for_each(|backend| backend.policy.max_sessions = Some(3));
        bench.reload(&[config.clone()]).await.unwrap();
        if round % 3 == 0 {
            bench.forward.order("a", Order::Drain).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        if round % 3 == 0 {
            assert_eq!(bench.status().backends[0].admin, Admin::Drain);
            bench.forward.order("a", Order::Ready).unwrap();
            bench.forward.order("a", Order::Weight(7)).unwrap();
        }
    }
    stop.send_replace(true);
    let mut served = 1;
    for client in load {
        let its: u64 = soon("the load ends", client).await.unwrap();
        assert!(its > 0);
        served += its;
    }
    let status = bench.status();
    assert_eq!((status.sessions_total, status.refused, status.queue.timed_out), (served, 0, 0));
    held.write_all(b"still here").await.unwrap();
    soon("the session from before", held.read_exact(&mut [0; 10])).await.unwrap();
}
