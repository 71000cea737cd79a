//! Limits of backends, and sessions that wait for a place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use config::ready::Listener;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::bench::*;
use super::trouble::{named, who};
use crate::observe::event::Health;
use crate::observe::status::QueueStatus;

fn limited(name: &str, address: std::net::SocketAddr, most: u32) -> config::ready::Backend {
    let mut backend = backend(name, address);
    backend.policy.max_sessions = Some(most);
    backend
}

/// With a queue in which nobody waits too long.
fn patient(backends: Vec<config::ready::Backend>) -> Listener {
    let mut config = listener(backends);
    config.policy.queue_timeout = Some(PATIENCE * 2);
    config
}

fn queue(bench: &Bench) -> QueueStatus {
    bench.status().queue
}

async fn waiting(bench: &Bench, sessions: u64) {
    until("so many wait", || queue(bench).waiting == sessions).await;
}

#[tokio::test]
async fn a_session_beyond_the_limit_waits_without_a_backend_socket_and_gets_the_next_place() {
    let (socket, address) = serve().await;
    let bench = Bench::start(patient(vec![limited("a", address, 1)])).await;
    let first = bench.connect().await;
    let place = accept(&socket).await;
    let mut second = bench.connect().await;
    let mut third = bench.connect().await;
    waiting(&bench, 2).await;
    second.write_all(b"early").await.unwrap();
    third.write_all(b"early").await.unwrap();
    let status = bench.status();
    assert_eq!((status.sessions, status.backends[0].sessions), (3, 1));
    // Nobody has connected to the backend meanwhile.
    drop((first, place));
    let mut place = accept(&socket).await;
    let mut bytes = [0; 5];
    soon("what was sent while it waited", place.read_exact(&mut bytes)).await.unwrap();
    waiting(&bench, 1).await;
    drop((second, place));
    accept(&socket).await;
    waiting(&bench, 0).await;
    let queue = queue(&bench);
    assert_eq!((queue.max, queue.total, queue.timed_out, queue.waited.count()), (2, 2, 0, 2));
}

#[tokio::test]
async fn who_waits_longer_than_the_queue_timeout_is_reset() {
    let (socket, address) = serve().await;
    let mut config = listener(vec![limited("a", address, 1)]);
    config.policy.queue_timeout = Some(Duration::from_millis(100));
    let bench = Bench::start(config).await;
    let _first = bench.connect().await;
    let _place = accept(&socket).await;
    let started = Instant::now();
    bench.turned_away().await;
    assert!(started.elapsed() >= Duration::from_millis(100), "{:?}", started.elapsed());
    until("it is counted", || bench.status().sessions == 1).await;
    let status = bench.status();
    assert_eq!((status.queue.waiting, status.queue.timed_out, status.refused), (0, 1, 1));
    assert_eq!(status.ended.get("queue_timeout"), 1);
}

#[tokio::test]
async fn whoever_goes_away_leaves_the_queue() {
    let (socket, address) = serve().await;
    let bench = Bench::start(patient(vec![limited("a", address, 1)])).await;
    let first = bench.connect().await;
    let place = accept(&socket).await;
    let gone = bench.connect().await;
    let reset_by_it = bench.connect().await;
    let mut stays = bench.connect().await;
    waiting(&bench, 3).await;
    drop(gone);
    reset(reset_by_it);
    waiting(&bench, 1).await;
    // Who has sent something before the end of its stream may be waiting for the answer.
    stays.write_all(b"?").await.unwrap();
    stays.shutdown().await.unwrap();
    drop((first, place));
    let mut place = accept(&socket).await;
    assert_eq!(read_out(&mut place).await, (Bytes(b"?".to_vec()), Ending::Fin));
    assert_eq!(queue(&bench).timed_out, 0);
}

/// Answers one byte, and remembers how many were there at a time.
fn counting(socket: TcpListener, now: Arc<AtomicUsize>, most: Arc<AtomicUsize>) {
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            let (now, most) = (now.clone(), most.clone());
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut byte = [0];
                let got = stream.read_exact(&mut byte).await;
                // Before the client can see the end, and with it the forwarder.
                now.fetch_sub(1, Ordering::SeqCst);
                if got.is_ok() {
                    let _ = stream.write_all(&byte).await;
                }
            });
        }
    });
}

#[tokio::test]
async fn a_flood_beyond_every_limit_is_served_in_full_and_no_backend_ever_has_more_than_it_may() {
    let mut config = patient(Vec::new());
    config.max_sessions = 100;
    let mut most = Vec::new();
    for (name, limit) in [("a", 3), ("b", 5)] {
        let (socket, address) = serve().await;
        let (now, max) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        counting(socket, now, max.clone());
        most.push((max, limit as usize));
        config.backends.push(limited(name, address, limit));
    }
    let bench = Bench::start(config).await;
    let at = bench.address();
    let clients: Vec<_> = (0..400_u32)
        .map(|number| {
            tokio::spawn(async move {
                let mut client = tokio::net::TcpStream::connect(at).await.unwrap();
                let byte = [number as u8];
                client.write_all(&byte).await.unwrap();
                assert_eq!(read_out(&mut client).await, (Bytes(byte.to_vec()), Ending::Fin));
            })
        })
        .collect();
    for client in clients {
        soon("every client is served", client).await.unwrap();
    }
    for (max, limit) in most {
        assert!(max.load(Ordering::SeqCst) <= limit, "{max:?} of {limit}");
    }
    until("all places are given back", || bench.status().sessions == 0).await;
    let status = bench.status();
    assert_eq!((status.refused, status.queue.waiting, status.queue.timed_out), (0, 0, 0));
    assert!(status.queue.max <= 100, "bounded by the listener");
    assert_eq!(status.sessions_total, 400);
    assert!(status.backends.iter().all(|b| b.sessions == 0 && b.sessions_max <= b.sessions_limit));
}

#[tokio::test]
async fn who_waits_goes_to_a_backend_that_comes_up_and_to_one_that_a_reload_brings() {
    let ((a, first), (b, second), (c, third)) = (serve().await, serve().await, serve().await);
    let checked = config::ready::Backend { checks: vec!["b".into()], ..backend("b", second) };
    let mut config = patient(vec![limited("a", first, 1), checked]);
    let mut bench = Bench::start(config.clone()).await;
    bench.call("b", Health::Down).await;
    let _first = bench.connect().await;
    let _place = accept(&a).await;
    let _second = bench.connect().await;
    waiting(&bench, 1).await;
    bench.call("b", Health::Up).await;
    accept(&b).await;
    bench.call("b", Health::Down).await;
    let mut waits = bench.connect().await;
    waiting(&bench, 1).await;
    config.backends.insert(0, backend("c", third));
    bench.reload(&[config]).await.unwrap();
    let mut new = accept(&c).await;
    waiting(&bench, 0).await;
    new.write_all(b"c").await.unwrap();
    drop(new);
    assert_eq!(read_out(&mut waits).await, (Bytes(b"c".to_vec()), Ending::Fin));
    drop(waits);
    until("all but the first have ended", || bench.status().sessions == 1).await;
    let status = bench.status();
    let sessions: Vec<_> = status.backends.iter().map(|b| (b.name.as_str(), b.sessions)).collect();
    assert_eq!(sessions, [("c", 0), ("a", 1), ("b", 0)]);
}

#[tokio::test]
async fn a_session_whose_backend_refuses_waits_for_another_one_that_is_full() {
    let (socket, address) = serve().await;
    let bench = Bench::start(patient(vec![backend("a", refusing().await), limited("b", address, 1)])).await;
    let first = bench.connect().await;
    let place = accept(&socket).await;
    let _second = bench.connect().await;
    waiting(&bench, 1).await;
    drop((first, place));
    accept(&socket).await;
    waiting(&bench, 0).await;
}

#[tokio::test]
async fn retries_go_round_once_more_after_a_pause_and_end() {
    let address = refusing().await;
    let mut config = listener(vec![backend("a", address)]);
    config.policy.retries = Some(2);
    config.connect_timeout = Duration::from_millis(50);
    let bench = Bench::start(config.clone()).await;
    bench.turned_away().await;
    until("it is counted", || bench.status().refused == 1).await;
    assert_eq!((bench.status().retries, bench.status().backends[0].connect_errors), (2, 3));
    drop(bench);
    // A backend that is started again is met at the second attempt.
    config.connect_timeout = Duration::from_secs(2);
    let bench = Bench::start(config).await;
    let mut client = bench.connect().await;
    until("it is refused", || bench.status().backends[0].connect_errors == 1).await;
    named(b'a', TcpListener::bind(address).await.unwrap());
    let mut name = [0];
    soon("the backend answers", client.read_exact(&mut name)).await.unwrap();
    assert_eq!(name, *b"a");
    assert_eq!(bench.status().refused, 0);
}

#[tokio::test]
async fn without_retries_the_first_refusal_is_the_last() {
    let (socket, address) = serve().await;
    named(b'b', socket);
    let mut config = listener(vec![backend("a", refusing().await), backend("b", address)]);
    config.policy.retries = Some(0);
    let bench = Bench::start(config).await;
    bench.turned_away().await;
    assert_eq!(who(&bench).await, b'b');
    assert_eq!(bench.status().retries, 0);
}
