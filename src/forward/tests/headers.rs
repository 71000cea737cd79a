//! PROXY headers from clients and to backends.

use std::net::SocketAddr;
use std::time::Duration;

use config::ready::{Listener, Prefix, ProxyVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::bench::*;
use crate::observe::event::Kind;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Loopback is trusted.
fn trusting(address: SocketAddr, send: Option<ProxyVersion>) -> Listener {
    let mut config = sending(address, send);
    config.policy.accept_proxy = vec![Prefix { address: "127.0.0.0".parse().unwrap(), length: 8 }];
    config
}

fn sending(address: SocketAddr, send: Option<ProxyVersion>) -> Listener {
    let mut config = listener(vec![backend("a", address)]);
    config.backends[0].policy.send_proxy = send;
    config
}

async fn line(backend: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\n") {
        bytes.push(soon("the header", backend.read_u8()).await.unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

async fn hears(backend: &mut TcpStream, wanted: &[u8]) {
    let mut bytes = vec![0; wanted.len()];
    soon("the bytes", backend.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(bytes, wanted);
}

fn ended(bench: &Bench, word: &str) -> u64 {
    bench.status().ended.get(word)
}

#[tokio::test]
async fn a_backend_hears_who_the_client_is_before_anything_else() {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let (socket, address) = serve().await;
        let bench = Bench::start(sending(address, Some(version))).await;
        let mut client = bench.connect().await;
        // Also when the backend is the one who speaks first.
        let mut peer = accept(&socket).await;
        let (from, to) = (client.local_addr().unwrap(), bench.address());
        match version {
            ProxyVersion::V1 => {
                let wanted = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", from.port(), to.port());
                assert_eq!(line(&mut peer).await, wanted);
            }
            ProxyVersion::V2 => {
                let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
                let wanted = [SIGNATURE, &[0x21, 0x11, 0, 12, 127, 0, 0, 1, 127, 0, 0, 1], &ports].concat();
                hears(&mut peer, &wanted).await;
            }
        }
        peer.write_all(b"220 hello").await.unwrap();
        hears(&mut client, b"220 hello").await;
        client.write_all(b"first").await.unwrap();
        hears(&mut peer, b"first").await;
        client.shutdown().await.unwrap();
        peer.shutdown().await.unwrap();
        assert_eq!(read_out(&mut client).await.1, Ending::Fin);
        until("the session ends", || ended(&bench, "complete") == 1).await;
        // The header is not among the bytes of the session.
        assert_eq!((bench.status().backends[0].bytes_in, bench.status().backends[0].bytes_out), (5, 9));
    }
}

#[tokio::test]
async fn a_trusted_header_is_taken_off_and_passed_on() {
    let (socket, address) = serve().await;
    let bench = Bench::start(trusting(address, Some(ProxyVersion::V1))).await;
    let told = "PROXY TCP6 2001:db8::1 2001:db8::b 56324 443\r\n";
    let binary = |command: u8| {
        let body = [192, 168, 0, 1, 192, 168, 0, 11, 0xdc, 0x04, 0x01, 0xbb, 0x04, 0, 1, 7];
        [SIGNATURE, &[command, 0x11, 0, 16], &body].concat()
    };
    for (header, wanted) in [
        (told.as_bytes().to_vec(), Some(told)),
        (binary(0x21), Some("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n")),
        (binary(0x20), None),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
    ] {
        let mut client = bench.connect().await;
        let own = format!(
            "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n",
            client.local_addr().unwrap().port(),
            bench.address().port()
        );
        let wanted = wanted.unwrap_or(&own);
        // Whatever the pieces are.
        let (start, end) = header.split_at(header.len() / 2);
        client.set_nodelay(true).unwrap();
        client.write_all(start).await.unwrap();
        tokio::task::yield_now().await;
        client.write_all(&[end, b"and data"].concat()).await.unwrap();
        let mut peer = accept(&socket).await;
        assert_eq!(line(&mut peer).await, wanted);
        hears(&mut peer, b"and data").await;
        // The backend may speak first too: nothing is waited for after the header.
        peer.write_all(b"hello").await.unwrap();
        hears(&mut client, b"hello").await;
    }
    assert_eq!(bench.status().refused, 0);
}

#[tokio::test]
async fn a_header_in_single_bytes_is_the_same() {
    let (socket, address) = serve().await;
    let bench = Bench::start(trusting(address, None)).await;
    let mut client = bench.connect().await;
    client.set_nodelay(true).unwrap();
    for byte in b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nX" {
        client.write_all(&[*byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut peer = accept(&socket).await;
    hears(&mut peer, b"X").await;
}

#[tokio::test]
async fn the_longest_header_takes_no_memory_and_nothing_of_the_stream() {
    let (socket, address) = serve().await;
    let bench = Bench::start(trusting(address, None)).await;
    let mut client = bench.connect().await;
    // One TLV of a type that nobody knows.
    let length = 65535 - 12;
    let mut header = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff], &[1; 12], &[0xe0]].concat();
    header.extend(u16::try_from(length - 3).unwrap().to_be_bytes());
    header.extend(vec![b'\n'; length - 3]);
    client.write_all(&[&header[..], b"X"].concat()).await.unwrap();
    let mut peer = accept(&socket).await;
    hears(&mut peer, b"X").await;
}

#[tokio::test]
async fn garbage_is_reset_counted_and_told_once() {
    let (_socket, address) = serve().await;
    let mut bench = Bench::start(trusting(address, None)).await;
    let bad: [&[u8]; 4] =
        [b"GET / HTTP/1.1\r\n", b"PROXY TCP4 1.2.3.4\r\n", b"\r\n\r\nX", &[SIGNATURE, &[0x31]].concat()];
    for bytes in bad {
        let mut client = bench.connect().await;
        client.write_all(bytes).await.unwrap();
        assert_eq!(read_out(&mut client).await, (Bytes(vec![]), Ending::Reset));
    }
    assert_eq!((ended(&bench, "bad_header"), bench.status().refused), (4, 4));
    let Kind::Notice { text } = bench.next_event().await else { panic!("a notice") };
    assert!(text.contains("listener api has reset 127.0.0.1") && text.contains("no PROXY header"), "{text}");
    assert!(bench.events.try_recv().is_err(), "the others are counted");
    assert_eq!(bench.status().backends[0].sessions_total, 0);
}

#[tokio::test]
async fn an_end_before_the_header_is_whole_is_no_session() {
    let (_socket, address) = serve().await;
    let bench = Bench::start(trusting(address, None)).await;
    // As a balancer's check does it: no fault of anybody.
    drop(bench.connect().await);
    until("it has ended", || ended(&bench, "no_header") == 1).await;
    assert_eq!(bench.status().refused, 0);
    let mut client = bench.connect().await;
    client.write_all(b"PROXY TCP4").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_out(&mut client).await.1, Ending::Reset);
    assert_eq!((ended(&bench, "bad_header"), bench.status().refused), (1, 1));
}

#[tokio::test]
async fn who_is_silent_is_reset_after_five_seconds_and_keeps_nobody_waiting() {
    let (socket, address) = serve().await;
    let bench = Bench::start(trusting(address, None)).await;
    let started = std::time::Instant::now();
    let mut silent = bench.connect().await;
    let mut half = bench.connect().await;
    half.write_all(b"PROXY TCP4 ").await.unwrap();
    let mut client = bench.connect().await;
    client.write_all(b"PROXY UNKNOWN\r\nX").await.unwrap();
    hears(&mut accept(&socket).await, b"X").await;
    assert!(started.elapsed() < Duration::from_secs(4), "it waits for nobody");
    for stream in [&mut silent, &mut half] {
        assert_eq!(read_out(stream).await, (Bytes(vec![]), Ending::Reset));
    }
    assert!(started.elapsed() >= Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(ended(&bench, "bad_header"), 2);
}

#[tokio::test]
async fn a_header_of_somebody_who_is_not_trusted_is_data() {
    let (socket, address) = serve().await;
    let mut config = trusting(address, None);
    config.policy.accept_proxy[0].address = "10.0.0.0".parse().unwrap();
    let bench = Bench::start(config).await;
    let mut client = bench.connect().await;
    client.write_all(b"PROXY UNKNOWN\r\nX").await.unwrap();
    hears(&mut accept(&socket).await, b"PROXY UNKNOWN\r\nX").await;
}

#[tokio::test]
async fn a_backend_that_is_tried_after_the_header_has_its_whole_time() {
    // The first refuses; the second would be given up if its time had begun with the connection.
    let (socket, address) = serve().await;
    let mut config = trusting(refusing().await, Some(ProxyVersion::V1));
    config.backends.push(backend("b", address));
    config.connect_timeout = Duration::from_millis(200);
    let bench = Bench::start(config).await;
    for _ in 0..2 {
        let mut client = bench.connect().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        client.write_all(b"PROXY UNKNOWN\r\nX").await.unwrap();
        hears(&mut accept(&socket).await, b"X").await;
    }
    assert_eq!(bench.status().backends[0].connect_errors, 1);
}

#[tokio::test]
async fn sessions_are_listed_under_the_address_of_the_header() {
    let (socket, address) = serve().await;
    let bench = Bench::start(trusting(address, None)).await;
    let mut client = bench.connect().await;
    client.write_all(b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nX").await.unwrap();
    hears(&mut accept(&socket).await, b"X").await;
    let listed = bench.forward.path.sessions().await;
    assert_eq!(listed[0].client, Some("192.168.0.1:56324".parse().unwrap()));
    // Where it connected to is what the kernel says: by that it ends when the address leaves.
    assert_eq!(listed[0].local, Some(bench.address()));
}
