//! What an operator sees of the open sessions, and closes.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::bench::*;
use crate::observe::status::SessionFilter;

#[tokio::test]
async fn sessions_are_listed_with_what_they_carry_and_closed_by_condition() {
    let (a, at_a) = serve().await;
    let (b, at_b) = serve().await;
    let bench = Bench::start(listener(vec![backend("a", at_a), backend("b", at_b)])).await;
    let mut clients = Vec::new();
    let mut peers = Vec::new();
    for socket in [&a, &b, &a] {
        clients.push(bench.connect().await);
        peers.push(accept(socket).await);
    }
    bench.established(3).await;
    let named = |name: &str| SessionFilter { backend: Some(name.into()), ..SessionFilter::default() };
    let sessions = bench.forward.sessions();
    let all = sessions.list(&SessionFilter::default()).await.unwrap();
    assert_eq!(all.len(), 3);
    assert_eq!(sessions.list(&named("a")).await.unwrap().len(), 2);

    clients[1].write_all(b"hello").await.unwrap();
    let mut got = [0; 5];
    soon("the bytes", peers[1].read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"hello");
    let one = &sessions.list(&named("b")).await.unwrap()[0];
    assert_eq!((one.listener.as_str(), one.backend.as_deref()), ("api", Some("b")));
    assert_eq!((one.bytes_in, one.bytes_out), (5, 0));
    assert_eq!(one.client, Some(clients[1].local_addr().unwrap()));
    assert_eq!(one.local, Some(bench.address()));

    let client = Some(clients[0].local_addr().unwrap().to_string());
    let closed = sessions.close(&SessionFilter { client, ..SessionFilter::default() }).await.unwrap();
    assert_eq!(closed, 1);
    assert_eq!(read_out(&mut clients[0]).await.1, Ending::Reset);
    bench.established(2).await;
    assert_eq!(bench.status().ended.get("closed"), 1);
    let listener = SessionFilter { listener: Some("other".into()), ..SessionFilter::default() };
    assert_eq!(sessions.close(&listener).await.unwrap(), 0);
    let host = SessionFilter { client: Some("::ffff:127.0.0.1".into()), ..SessionFilter::default() };
    assert_eq!(sessions.close(&host).await.unwrap(), 2);
    let odd = SessionFilter { client: Some("cp1".into()), ..SessionFilter::default() };
    assert!(sessions.list(&odd).await.unwrap_err().contains("`cp1` is neither"));
}
