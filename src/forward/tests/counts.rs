//! What was carried is counted as it was.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;

use super::bench::*;
use crate::observe::event::Health;

#[tokio::test]
async fn connects_are_timed_and_the_most_sessions_are_remembered() {
    let (socket, address) = serve().await;
    let bench = Bench::start(listener(vec![backend("a", address)])).await;
    let started = Instant::now();
    let mut held = Vec::new();
    for _ in 0..3 {
        let client = bench.connect().await;
        held.push((client, accept(&socket).await));
    }
    bench.established(3).await;
    let longest = started.elapsed();
    held.truncate(1);
    until("two have ended", || bench.status().sessions == 1).await;
    let status = bench.status();
    let backend = &status.backends[0];
    assert_eq!(backend.sessions_max, 3);
    let most = 3..3 + LOOPS as u64;
    assert!(most.contains(&status.sessions_max), "{status:?}");
    assert_eq!((status.sessions, backend.sessions), (1, 1));
    assert_eq!(status.sessions_limit, 1000);
    assert_eq!(backend.connect_time.count(), 3);
    let took = &backend.connect_time;
    assert!(took.max <= took.sum && took.sum <= longest, "{took:?} within {longest:?}");
}

#[tokio::test]
async fn a_slow_connect_is_timed_by_itself_and_not_by_its_session() {
    // The first backend does not answer for 300 ms, then the other one does at once.
    let (socket, address) = serve().await;
    let (hanging, _queue, _held) = super::trouble::hanging().await;
    let mut config = listener(vec![backend("a", hanging), backend("b", address)]);
    config.connect_timeout = Duration::from_millis(300);
    let bench = Bench::start(config).await;
    let mut client = bench.connect().await;
    let peer = accept(&socket).await;
    bench.established(1).await;
    let status = bench.status();
    assert_eq!(status.backends[0].connect_time.count(), 0, "it never stood");
    assert!(status.backends[0].suspected.is_some(), "{status:?}");
    let took = status.backends[1].connect_time.max;
    assert!(took < Duration::from_millis(150), "200 ms were not this one's: {took:?}");
    drop(peer);
    let _ = client.read(&mut [0; 1]).await;
}

#[tokio::test]
async fn ends_are_counted_by_their_reason() {
    let (socket, address) = serve().await;
    let bench = Bench::start(listener(vec![checked("a", address)])).await;
    bench.call("a", Health::Up).await;
    let client = bench.connect().await;
    let peer = accept(&socket).await;
    bench.established(1).await;
    drop((client, peer));
    until("the session is over", || bench.status().sessions == 0).await;
    let client = bench.connect().await;
    let _peer = accept(&socket).await;
    bench.established(1).await;
    bench.call("a", Health::Down).await;
    until("the session is over", || bench.status().sessions == 0).await;
    drop(client);
    bench.turned_away().await;
    let ended = bench.status().ended;
    let counts: Vec<_> = ended.iter().collect();
    assert_eq!(counts, [("backend_down", 1), ("complete", 1), ("no_backend", 1)]);
}
