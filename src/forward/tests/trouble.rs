//! Backends that refuse, hang and die; addresses that leave; listeners that cannot be.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use config::ready::Balance;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::bench::*;
use crate::observe::event::{Health, Kind, State};

/// Answers with its name, and keeps the connection until the client ends.
pub fn named(name: u8, socket: TcpListener) {
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            tokio::spawn(async move {
                let _ = stream.write_all(&[name]).await;
                let _ = stream.read(&mut [0; 1]).await;
            });
        }
    });
}

pub async fn who(bench: &Bench) -> u8 {
    let mut client = bench.connect().await;
    let mut name = [0];
    soon("the name of the backend", client.read_exact(&mut name)).await.unwrap();
    name[0]
}

/// A listening socket whose queue is full: a connect to it hangs. The streams keep it full.
pub async fn hanging() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let socket = socket.listen(1).unwrap();
    let address = socket.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
    {
        held.push(stream.unwrap());
        assert!(held.len() < 10, "a queue of one never fills");
    }
    (address, socket, held)
}

#[tokio::test]
async fn refused_connect_goes_to_the_next_backend() {
    let (socket, address) = serve().await;
    named(b'b', socket);
    let bench = Bench::start(listener(vec![backend("a", refusing().await), backend("b", address)])).await;
    for _ in 0..4 {
        assert_eq!(who(&bench).await, b'b');
    }
    let status = bench.status();
    assert_eq!(status.refused, 0);
    assert!(status.backends[0].connect_errors >= 2, "{status:?}");
    assert_eq!(status.backends[1].sessions_total, 4);
}

#[tokio::test]
async fn hanging_connect_goes_to_the_next_backend_and_comes_last_for_a_while() {
    let (hanging, _queue, _held) = hanging().await;
    let (socket, address) = serve().await;
    named(b'b', socket);
    let mut config = listener(vec![backend("a", hanging), backend("b", address)]);
    config.connect_timeout = Duration::from_secs(10);
    let bench = Bench::start(config).await;
    let started = Instant::now();
    assert_eq!(who(&bench).await, b'b');
    let elapsed = started.elapsed();
    assert!(elapsed >= Duration::from_millis(200), "a was to be tried first: {elapsed:?}");
    assert!(elapsed < Duration::from_secs(5), "b was to be tried besides: {elapsed:?}");
    for _ in 0..10 {
        assert_eq!(who(&bench).await, b'b');
    }
    // Only the first session waited for it.
    assert_eq!(bench.status().backends[0].connect_errors, 1);
}

#[tokio::test]
async fn each_backend_is_tried_once_and_then_the_client_is_reset() {
    let backends = vec![backend("a", refusing().await), backend("b", refusing().await)];
    let bench = Bench::start(listener(backends)).await;
    bench.turned_away().await;
    let status = bench.status();
    assert_eq!(status.backends.iter().map(|b| b.connect_errors).collect::<Vec<_>>(), [1, 1]);
    assert_eq!((status.refused, status.sessions_total), (1, 1));
}

#[tokio::test]
async fn without_a_healthy_backend_the_client_is_reset_within_50_ms() {
    let (socket, address) = serve().await;
    named(b'a', socket);
    let bench = Bench::start(listener(vec![checked("a", address)])).await;
    bench.call("a", Health::Down).await;
    // The fastest of a few, so that a busy machine is no failure.
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let started = Instant::now();
        bench.turned_away().await;
        fastest = fastest.min(started.elapsed());
    }
    assert!(fastest < Duration::from_millis(50), "{fastest:?}");
    assert_eq!(bench.status().refused, 5);
    bench.call("a", Health::Up).await;
    assert_eq!(who(&bench).await, b'a');
}

#[tokio::test]
async fn traffic_flows_before_the_checks_have_spoken() {
    let ((a, first), (b, second)) = (serve().await, serve().await);
    named(b'a', a);
    named(b'b', b);
    let bench = Bench::start(listener(vec![checked("a", first), checked("b", second)])).await;
    assert_eq!([who(&bench).await, who(&bench).await], *b"ab");
    // One that is known to be up comes before one of which nothing is known.
    bench.call("b", Health::Up).await;
    assert_eq!([who(&bench).await, who(&bench).await, who(&bench).await], *b"bbb");
}

#[tokio::test]
async fn sessions_of_a_backend_that_goes_down_are_reset_and_told() {
    let ((a, first), (b, second)) = (serve().await, serve().await);
    let mut bench = Bench::start(listener(vec![checked("a", first), checked("b", second)])).await;
    for name in ["a", "b"] {
        bench.call(name, Health::Up).await;
        let Kind::Backend { from, to, sessions_closed, .. } = bench.next_event().await else { panic!() };
        assert_eq!((from, to, sessions_closed), (Health::Unknown, Health::Up, 0));
    }
    // Round robin: a b a b.
    let mut clients = Vec::new();
    let mut backends = Vec::new();
    for index in 0..4 {
        clients.push(bench.connect().await);
        backends.push(accept(if index % 2 == 0 { &a } else { &b }).await);
    }
    until("the sessions stand", || bench.status().backends.iter().all(|b| b.sessions == 2)).await;
    bench.say("a", Health::Down, "connect refused");
    assert_eq!(
        bench.next_event().await,
        Kind::Backend {
            listener: "api".into(),
            backend: "a".into(),
            from: Health::Up,
            to: Health::Down,
            detail: "connect refused".into(),
            sessions_closed: 2,
        }
    );
    for index in [0, 2] {
        assert_eq!(read_out(&mut clients[index]).await, (Bytes(vec![]), Ending::Reset));
        assert_eq!(read_out(&mut backends[index]).await, (Bytes(vec![]), Ending::Reset));
    }
    for index in [1, 3] {
        clients[index].write_all(b"still here").await.unwrap();
        let mut buffer = [0; 10];
        soon("b's session goes on", backends[index].read_exact(&mut buffer)).await.unwrap();
    }
    assert_eq!(bench.status().backends[0].sessions, 0);
}

#[tokio::test]
async fn sessions_stay_when_that_is_configured() {
    let (a, address) = serve().await;
    let mut config = listener(vec![checked("a", address)]);
    config.close_sessions_on_backend_down = false;
    let mut bench = Bench::start(config).await;
    let mut client = bench.connect().await;
    let mut backend = accept(&a).await;
    until("the session stands", || bench.status().backends[0].sessions == 1).await;
    bench.call("a", Health::Down).await;
    let Kind::Backend { to: Health::Down, sessions_closed: 0, .. } = bench.next_event().await else {
        panic!("none was closed")
    };
    client.write_all(b"x").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_out(&mut backend).await, (Bytes(b"x".to_vec()), Ending::Fin));
}

#[tokio::test]
async fn a_session_that_connects_to_a_dying_backend_goes_to_the_next() {
    let (hanging, _queue, _held) = hanging().await;
    let (socket, address) = serve().await;
    named(b'b', socket);
    let mut config = listener(vec![checked("a", hanging), backend("b", address)]);
    // Neither we nor the kernel give the connect up by ourselves.
    config.connect_timeout = PATIENCE * 2;
    config.user_timeout = None;
    let bench = Bench::start(config).await;
    bench.call("a", Health::Up).await;
    let mut client = bench.connect().await;
    until("the session connects to a", || {
        bench.forward.running[0].service.backends[0]
            .counts()
            .assigned
            .load(std::sync::atomic::Ordering::Relaxed)
            == 1
    })
    .await;
    bench.call("a", Health::Down).await;
    let mut name = [0];
    soon("b answers", client.read_exact(&mut name)).await.unwrap();
    assert_eq!(name, *b"b");
}

#[tokio::test]
async fn least_conn_fills_the_emptiest_backend() {
    let ((a, first), (b, second)) = (serve().await, serve().await);
    named(b'a', a);
    named(b'b', b);
    let mut config = listener(vec![backend("a", first), backend("b", second)]);
    config.balance = Balance::LeastConn;
    config.backends[0].weight = 3;
    let bench = Bench::start(config).await;
    let mut open = Vec::new();
    for _ in 0..8 {
        let mut client = bench.connect().await;
        soon("an answer", client.read_exact(&mut [0])).await.unwrap();
        open.push(client);
    }
    assert_eq!(bench.status().backends.iter().map(|b| b.sessions).collect::<Vec<_>>(), [6, 2]);
}

#[tokio::test]
async fn the_address_that_leaves_takes_its_sessions_along_and_no_others() {
    let (a, address) = serve().await;
    let mut config = listener(vec![backend("a", address)]);
    config.bind = vec!["127.0.0.2:0".parse().unwrap(), "127.0.0.3:0".parse().unwrap()];
    config.idle_timeout = None;
    let bench = Bench::with_vips(config, &[("one", "127.0.0.2"), ("two", "127.0.0.3")]).await;
    let bound = bench.status().bind;
    let mut pairs = Vec::new();
    for index in 0..6 {
        let client = soon("connect", TcpStream::connect(bound[index % 2])).await.unwrap();
        pairs.push((client, accept(&a).await));
    }
    // One of those that leave is blocked: its client sends, its backend takes nothing.
    let chunk = vec![0; 65_536];
    while tokio::time::timeout(Duration::from_millis(300), pairs[0].0.write(&chunk)).await.is_ok() {}
    bench.transition("one", State::Active, State::Backup);
    until("the sessions of one are cut", || bench.status().sessions == 3).await;
    for (index, (client, backend)) in pairs.iter_mut().enumerate() {
        if index % 2 == 0 {
            assert_eq!(read_out(client).await.1, Ending::Reset);
            assert_eq!(read_out(backend).await.1, Ending::Reset);
        } else {
            client.write_all(b"on").await.unwrap();
            soon("two goes on", backend.read_exact(&mut [0; 2])).await.unwrap();
        }
    }
    // It comes back: new sessions are served.
    bench.transition("one", State::Backup, State::Active);
    let _client = soon("connect", TcpStream::connect(bound[0])).await.unwrap();
    accept(&a).await;
}

#[tokio::test]
async fn idle_sessions_are_reset_only_if_that_is_configured() {
    let (a, address) = serve().await;
    let mut config = listener(vec![backend("a", address)]);
    config.idle_timeout = Some(Duration::from_secs(1));
    let bench = Bench::start(config).await;
    let mut client = bench.connect().await;
    let mut backend = accept(&a).await;
    let started = Instant::now();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        client.write_all(b"x").await.unwrap();
        backend.read_exact(&mut [0]).await.unwrap();
    }
    let last = Instant::now();
    assert!(last - started > Duration::from_millis(1200), "it moved for longer than the timeout");
    assert_eq!(read_out(&mut client).await, (Bytes(vec![]), Ending::Reset));
    assert!(last.elapsed() > Duration::from_millis(800), "{:?}", last.elapsed());
}

#[tokio::test]
async fn sessions_beyond_the_limit_wait_until_one_ends() {
    let (a, address) = serve().await;
    let mut config = listener(vec![backend("a", address)]);
    config.max_sessions = 2;
    let bench = Bench::start(config).await;
    let first = bench.connect().await;
    let _second = bench.connect().await;
    let (_a1, _a2) = (accept(&a).await, accept(&a).await);
    let mut third = bench.connect().await;
    third.write_all(b"waiting").await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), a.accept()).await;
    assert!(early.is_err(), "the third was let in");
    reset(first);
    let mut late = accept(&a).await;
    let mut buffer = [0; 7];
    late.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"waiting");
}

#[tokio::test]
async fn an_address_of_another_host_can_be_listened_on() {
    let mut config = listener(vec![backend("a", refusing().await)]);
    config.bind = vec!["192.0.2.10:0".parse().unwrap(), "[2001:db8::10]:0".parse().unwrap()];
    let bench = Bench::start(config).await;
    assert_eq!(bench.status().bind.len(), 2);
    assert_ne!(bench.status().bind[0].port(), 0);
}

#[tokio::test]
async fn a_port_in_use_is_refused_with_place_and_holder() {
    let (_socket, taken) = serve().await;
    let mut config = listener(vec![backend("a", taken)]);
    config.bind = vec![taken];
    let error = Bench::try_start(&[config], &[]).await.err().expect("it is taken").to_string();
    let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
    let wanted = format!(
        "vipd.toml:10:1: listener api cannot listen on {taken}: Address already in use (os error 98); {} (pid {}) listens there: stop it, or choose another port",
        comm.trim(),
        std::process::id()
    );
    assert_eq!(error, wanted);
}

#[tokio::test]
async fn nothing_is_left_when_one_of_two_listeners_cannot_start() {
    let ((_socket, taken), free) = (serve().await, refusing().await);
    let (mut one, mut two) = (listener(vec![backend("a", taken)]), listener(vec![backend("a", taken)]));
    one.bind = vec![free];
    two.bind = vec![taken];
    assert!(Bench::try_start(&[one, two], &[]).await.is_err());
    TcpListener::bind(free).await.expect("the first one's port is free again");
}

#[tokio::test]
async fn a_check_that_does_not_exist_is_refused_with_its_place() {
    let (transitions, receiver) = tokio::sync::broadcast::channel(1);
    let (sender, _events) = crate::observe::event::EventSender::channel(1);
    let listeners = [listener(vec![checked("a", refusing().await)])];
    let error =
        crate::forward::Forward::start(1, false, &listeners, |_| None, Default::default(), receiver, sender)
            .await;
    let wanted = "vipd.toml:20:1: backend a of listener api names check a, which does not exist";
    assert_eq!(error.expect_err("no such check").to_string(), wanted);
    drop(transitions);
}

#[tokio::test]
async fn stop_resets_the_sessions_and_frees_the_port() {
    let (a, address) = serve().await;
    let bench = Bench::start(listener(vec![backend("a", address)])).await;
    let mut client = bench.connect().await;
    let mut backend = accept(&a).await;
    let at = bench.address();
    bench.forward.stop().await;
    assert_eq!(read_out(&mut client).await, (Bytes(vec![]), Ending::Reset));
    assert_eq!(read_out(&mut backend).await, (Bytes(vec![]), Ending::Reset));
    TcpListener::bind(at).await.expect("the port is free");
}
