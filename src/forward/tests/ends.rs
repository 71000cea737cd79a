//! Ends of streams, resets, and the bytes before them.

use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::bench::*;
use crate::forward::path::MOST_HELD;

/// A client and a backend with the forwarder between them.
async fn pair() -> (Bench, TcpStream, TcpStream) {
    let (socket, address) = serve().await;
    let bench = Bench::start(listener(vec![backend("a", address)])).await;
    let (client, backend) = join(&bench, &socket).await;
    (bench, client, backend)
}

async fn join(bench: &Bench, socket: &TcpListener) -> (TcpStream, TcpStream) {
    let client = bench.connect().await;
    let backend = accept(socket).await;
    // Before, a reset by the backend is a connect that failed.
    bench.established(1).await;
    (client, backend)
}

#[tokio::test]
async fn client_half_close_leaves_the_answer_its_way() {
    let (bench, mut client, mut backend) = pair().await;
    let (request, answer) = (pattern(65_536, 1), pattern(262_144, 2));
    client.write_all(&request).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_out(&mut backend).await, (Bytes(request), Ending::Fin));
    let wanted = answer.clone();
    let writer = tokio::spawn(async move {
        backend.write_all(&answer).await.unwrap();
        backend.shutdown().await.unwrap();
    });
    assert_eq!(read_out(&mut client).await, (Bytes(wanted), Ending::Fin));
    writer.await.unwrap();
    until("the session is counted out", || bench.status().sessions == 0).await;
    let status = bench.status().backends.remove(0);
    assert_eq!((status.bytes_in, status.bytes_out), (65_536, 262_144));
    assert_eq!((status.sessions, status.sessions_total), (0, 1));
}

#[tokio::test]
async fn client_half_close_without_a_byte_is_passed_on() {
    let (_bench, mut client, mut backend) = pair().await;
    client.shutdown().await.unwrap();
    assert_eq!(read_out(&mut backend).await, (Bytes(vec![]), Ending::Fin));
    backend.write_all(b"late").await.unwrap();
    drop(backend);
    assert_eq!(read_out(&mut client).await, (Bytes(b"late".to_vec()), Ending::Fin));
}

#[tokio::test]
async fn backend_half_close_leaves_the_request_its_way() {
    let (_bench, mut client, mut backend) = pair().await;
    backend.write_all(b"done first").await.unwrap();
    backend.shutdown().await.unwrap();
    assert_eq!(read_out(&mut client).await, (Bytes(b"done first".to_vec()), Ending::Fin));
    let upload = pattern(1 << 20, 3);
    let sent = upload.clone();
    let writer = tokio::spawn(async move {
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
        client
    });
    assert_eq!(read_out(&mut backend).await, (Bytes(upload), Ending::Fin));
    writer.await.unwrap();
}

#[tokio::test]
async fn client_reset_reaches_the_backend_as_a_reset() {
    let (_bench, client, mut backend) = pair().await;
    reset(client);
    assert_eq!(read_out(&mut backend).await, (Bytes(vec![]), Ending::Reset));
}

#[tokio::test]
async fn backend_reset_reaches_the_client_as_a_reset() {
    let (_bench, mut client, backend) = pair().await;
    reset(backend);
    assert_eq!(read_out(&mut client).await, (Bytes(vec![]), Ending::Reset));
}

#[tokio::test]
async fn bytes_before_a_reset_arrive_before_it() {
    for seed in 0..20 {
        let (_bench, mut client, mut backend) = pair().await;
        let answer = pattern(100_000, seed);
        backend.write_all(&answer).await.unwrap();
        // On loopback what was written is in the forwarder's receive queue when the reset comes.
        reset(backend);
        assert_eq!(read_out(&mut client).await, (Bytes(answer), Ending::Reset));
    }
}

#[tokio::test]
async fn bytes_that_wait_for_a_slow_reader_arrive_before_the_reset() {
    let (bench, mut client, mut backend) = pair().await;
    fill(&mut backend).await;
    let passed_on = usize::try_from(bench.status().backends[0].bytes_out).unwrap();
    reset(backend);
    let (bytes, ending) = read_out(&mut client).await;
    assert_eq!(ending, Ending::Reset);
    assert!(bytes.0.len() >= passed_on, "{} of {passed_on}", bytes.0.len());
}

#[tokio::test]
async fn end_of_stream_before_a_reset_arrives_before_it() {
    let (_bench, mut client, mut backend) = pair().await;
    client.write_all(b"request").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_out(&mut backend).await, (Bytes(b"request".to_vec()), Ending::Fin));
    reset(client);
    // A reset after the end of stream can be seen by writing only, as without a forwarder.
    let error = soon("the reset", async {
        loop {
            if let Err(error) = backend.write_all(&[0; 1000]).await {
                return error;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let kinds = [std::io::ErrorKind::BrokenPipe, std::io::ErrorKind::ConnectionReset];
    assert!(kinds.contains(&error.kind()), "{error}");
}

#[tokio::test]
async fn client_reset_is_seen_while_the_backend_takes_nothing() {
    let (_bench, mut client, mut backend) = pair().await;
    fill(&mut client).await;
    reset(client);
    let (bytes, ending) = read_out(&mut backend).await;
    assert_eq!(ending, Ending::Reset);
    assert!(!bytes.0.is_empty());
}

#[tokio::test]
async fn backend_reset_is_seen_while_the_client_takes_nothing() {
    let (bench, client, mut backend) = pair().await;
    fill(&mut backend).await;
    reset(backend);
    until("the session is cut", || bench.status().sessions == 0).await;
    drop(client);
}

/// Writes until nothing is taken any more.
async fn fill(stream: &mut TcpStream) -> usize {
    let chunk = vec![7; 65_536];
    let mut written = 0;
    while let Ok(n) = tokio::time::timeout(Duration::from_millis(300), stream.write(&chunk)).await {
        written += n.unwrap();
    }
    written
}

#[tokio::test]
async fn slow_reader_slows_the_sender_and_nothing_piles_up_between() {
    let (socket, address) = serve().await;
    let bench = Bench::start(listener(vec![backend("a", address)])).await;
    let (mut client, mut backend) = join(&bench, &socket).await;
    let sent = fill(&mut client).await;
    let taken = usize::try_from(bench.status().backends[0].bytes_in).unwrap();
    // What was sent, but not passed on, is in the forwarder's receive queue or is held.
    let queue: usize = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_rmem")
        .unwrap()
        .split_whitespace()
        .nth(2)
        .unwrap()
        .parse()
        .unwrap();
    let send_queue = SockRef::from(&client).send_buffer_size().unwrap();
    assert!(
        sent - taken <= queue + send_queue + MOST_HELD,
        "{sent} sent, {taken} passed on, the receive queue holds {queue}"
    );
    client.shutdown().await.unwrap();
    let (bytes, ending) = read_out(&mut backend).await;
    assert_eq!((bytes.0.len(), ending), (sent, Ending::Fin));
    assert!(bytes.0.iter().all(|b| *b == 7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn echo_of_odd_pieces_comes_back_intact_through_a_slow_reader() {
    let (_bench, client, mut backend) = pair().await;
    tokio::spawn(async move {
        let (mut read, mut write) = backend.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
        write.shutdown().await.unwrap();
        read_out(&mut backend).await
    });
    let all = pattern(8 << 20, 9);
    let sent = all.clone();
    let (mut read, mut write) = client.into_split();
    let writer = tokio::spawn(async move {
        let mut random = Random::new(5);
        let mut rest = &sent[..];
        while !rest.is_empty() {
            let piece = usize::try_from(1 + random.below(70_000)).unwrap().min(rest.len());
            write.write_all(&rest[..piece]).await.unwrap();
            rest = &rest[piece..];
        }
        write.shutdown().await.unwrap();
        write
    });
    let mut got = Vec::new();
    let mut random = Random::new(6);
    let mut buffer = vec![0; 70_000];
    loop {
        let most = usize::try_from(1 + random.below(70_000)).unwrap();
        let n = soon("the echo", read.read(&mut buffer[..most])).await.unwrap();
        if n == 0 {
            break;
        }
        got.extend_from_slice(&buffer[..n]);
        if random.below(20) == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(got == all, "{} of {} bytes, or other ones", got.len(), all.len());
    writer.await.unwrap();
}

#[tokio::test]
async fn both_legs_carry_the_socket_options() {
    let (socket, address) = serve().await;
    let bench = Bench::start(listener(vec![backend("a", address)])).await;
    let (mut client, mut backend) = join(&bench, &socket).await;
    let ours = [client.local_addr().unwrap(), backend.local_addr().unwrap()];
    // Sessions of less than a second or of one request are done before the backend's leg needs any of them.
    for _ in 0..2 {
        client.write_all(b"x").await.unwrap();
        backend.read_exact(&mut [0]).await.unwrap();
    }
    until("both legs carry the options", || legs(ours).iter().all(|leg| *leg == WANTED)).await;
    assert_eq!(legs(ours).len(), 2, "one socket for each leg");
}

/// TCP_NODELAY, SO_KEEPALIVE, its time, interval and count, TCP_USER_TIMEOUT.
type Options = (bool, bool, u64, u64, u32, Option<u64>);

const WANTED: Options = (true, true, 30, 10, 3, Some(20));

/// The forwarder's ends are sockets of this process: found by what they are connected to.
fn legs(connected_to: [std::net::SocketAddr; 2]) -> Vec<Options> {
    let mut legs = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let Ok(fd) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        // SAFETY: the descriptor may close meanwhile, which makes the calls below fail and nothing else.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
        let socket = SockRef::from(&fd);
        let peer = socket.peer_addr().ok().and_then(|a| a.as_socket());
        if !peer.is_some_and(|peer| connected_to.contains(&peer)) {
            continue;
        }
        legs.push((
            socket.tcp_nodelay().unwrap(),
            socket.keepalive().unwrap(),
            socket.tcp_keepalive_time().unwrap().as_secs(),
            socket.tcp_keepalive_interval().unwrap().as_secs(),
            socket.tcp_keepalive_retries().unwrap(),
            socket.tcp_user_timeout().unwrap().map(|timeout| timeout.as_secs()),
        ));
    }
    legs
}

#[tokio::test]
async fn a_reader_that_pauses_for_longer_than_the_user_timeout_is_not_cut() {
    let (socket, address) = serve().await;
    let mut config = listener(vec![backend("a", address)]);
    config.user_timeout = Some(Duration::from_secs(1));
    let bench = Bench::start(config).await;
    let (mut client, mut backend) = join(&bench, &socket).await;
    let sent = fill(&mut backend).await;
    // The kernel would end the connection of the client within this time.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(bench.status().sessions, 1);
    backend.shutdown().await.unwrap();
    let (bytes, ending) = read_out(&mut client).await;
    assert_eq!((bytes.0.len(), ending), (sent, Ending::Fin));
}
