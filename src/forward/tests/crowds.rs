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

/// KiB of memory that belongs to this process and to no file, also when it is swapped out. Pages of the program's file
/// come and go with other processes of the same program, and with the disk.
fn own_memory() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let kib = |name: &str| -> u64 {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    kib("Anonymous:") + kib("Swap:")
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

    let stand = || bench.forward.status()[1].backends.iter().map(|b| b.sessions).sum::<u64>();
    let mut clients = Vec::with_capacity(crowd);
    // What is needed once, however many come, is there when the first of them stand.
    let first = crowd / 10;
    for _ in 0..first {
        clients.push(std::net::TcpStream::connect(at).unwrap());
    }
    until("the first of them stand", || stand() == first as u64).await;
    let before = own_memory();
    for _ in first..crowd {
        clients.push(std::net::TcpStream::connect(at).unwrap());
    }
    until("all of them stand", || stand() == crowd as u64).await;
    let bytes = own_memory().saturating_sub(before) * 1024 / (crowd - first) as u64;
    assert!(bytes <= 307, "{bytes} bytes for each session");
    let started = Instant::now();
    for _ in 0..20 {
        is_served(&bench).await;
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(stand(), crowd as u64);
}

/// A client of its own for each address of 127.0.0.0/8.
async fn from(last: u32, to: std::net::SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((std::net::Ipv4Addr::from_bits(0x7f01_0000 + last), 0).into()).unwrap();
    soon("connect", socket.connect(to)).await.unwrap()
}

#[tokio::test]
async fn a_flood_of_clients_fills_the_table_of_persistence_and_no_more() {
    let room = u32::try_from(crate::forward::persistence::ENTRIES).unwrap();
    let ((a, first), (b, second)) = (serve().await, serve().await);
    echo(a);
    echo(b);
    let mut config = listener(vec![backend("a", first), backend("b", second)]);
    let minute = Duration::from_secs(60);
    config.policy.persistence = Some(Persistence { timeout: minute, ipv4_prefix: 32, ipv6_prefix: 128 });
    config.max_sessions = 4 * room;
    let bench = Bench::start(config).await;
    let remembered = || bench.forward.running[0].service.kept.places().clients.remembered();

    // They come and go.
    for last in 0..3 * room {
        let mut client = from(last, bench.address()).await;
        client.write_all(b"x").await.unwrap();
        soon("an answer", client.read_exact(&mut [0])).await.unwrap();
        drop(client);
        assert!(remembered() <= room as usize);
    }
    until("they have left", || bench.status().sessions == 0).await;
    assert_eq!(remembered(), room as usize);

    // They stay, more than there is room for: those that nobody remembers are served all the same.
    let mut staying = Vec::new();
    for last in 0..2 * room {
        let mut client = from(0x1_0000 + last, bench.address()).await;
        client.write_all(b"x").await.unwrap();
        soon("an answer", client.read_exact(&mut [0])).await.unwrap();
        staying.push(client);
    }
    assert_eq!((bench.status().sessions, remembered()), (u64::from(2 * room), room as usize));
    drop(staying);
    until("all have left", || bench.status().sessions == 0).await;
    assert_eq!(remembered(), room as usize);
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
