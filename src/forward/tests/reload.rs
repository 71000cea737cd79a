//! Another configuration under traffic.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::bench::*;
use crate::observe::event::{Health, Kind};

async fn goes_on(client: &mut TcpStream, backend: &mut TcpStream) {
    client.write_all(b"on").await.unwrap();
    soon("the session goes on", backend.read_exact(&mut [0; 2])).await.unwrap();
}

#[tokio::test]
async fn a_listener_that_only_moved_in_the_file_keeps_everything() {
    let (a, address) = serve().await;
    let mut config = listener(vec![checked("a", address)]);
    let mut bench = Bench::start(config.clone()).await;
    let at = bench.address();
    let mut client = bench.connect().await;
    let mut backend = accept(&a).await;
    bench.established(1).await;
    config.place = place(99);
    config.backends[0].place = place(100);
    bench.reload(&[config]).await.unwrap();
    goes_on(&mut client, &mut backend).await;
    assert_eq!(bench.address(), at);
    assert_eq!((bench.status().sessions, bench.status().sessions_total), (1, 1));
    // The verdicts are still followed.
    bench.say("a", Health::Down, "gone");
    let Kind::Backend { to: Health::Down, sessions_closed: 1, .. } = bench.next_event().await else {
        panic!("one session is closed with it")
    };
}

#[tokio::test]
async fn a_listener_that_changed_serves_the_new_backends_and_cuts_no_session() {
    let ((a, first), (b, second)) = (serve().await, serve().await);
    let mut config = listener(vec![backend("a", first)]);
    let mut bench = Bench::start(config.clone()).await;
    let at = bench.address();
    let mut client = bench.connect().await;
    let mut old = accept(&a).await;
    bench.established(1).await;
    config.backends = vec![backend("b", second)];
    bench.reload(&[config]).await.unwrap();
    assert_eq!(bench.address(), at, "the socket is the same");
    let mut other = bench.connect().await;
    let mut new = accept(&b).await;
    goes_on(&mut other, &mut new).await;
    goes_on(&mut client, &mut old).await;
    // What is left of the former configuration ends with the forwarder.
    bench.forward.stop().await;
    assert_eq!(read_out(&mut client).await.1, Ending::Reset);
    assert_eq!(read_out(&mut other).await.1, Ending::Reset);
}

#[tokio::test]
async fn a_listener_that_is_gone_frees_its_port_and_cuts_no_session() {
    let (a, address) = serve().await;
    let mut bench = Bench::start(listener(vec![backend("a", address)])).await;
    let at = bench.address();
    let mut client = bench.connect().await;
    let mut old = accept(&a).await;
    bench.established(1).await;
    bench.reload(&[]).await.unwrap();
    assert!(bench.forward.status().is_empty());
    goes_on(&mut client, &mut old).await;
    let refused = TcpStream::connect(at).await.expect_err("nobody listens any more");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_reload_that_fails_changes_nothing() {
    let (a, address) = serve().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = listener(vec![backend("a", address)]);
    let mut bench = Bench::start(config.clone()).await;
    let mut other = listener(vec![backend("b", address)]);
    other.bind = vec![taken.local_addr().unwrap()];
    let mut changed = config;
    changed.backends[0].name = "renamed".into();
    assert!(bench.reload(&[changed, other]).await.is_err());
    assert_eq!(bench.status().backends[0].name, "a");
    let _client = bench.connect().await;
    accept(&a).await;
}
