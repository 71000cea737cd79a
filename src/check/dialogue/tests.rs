//! Conversations with small servers on loopback.

use config::ready::{Credentials, Expect, Matching, Target};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use super::*;
use crate::check::http::tests::Authority;

const LONG: Duration = Duration::from_secs(20);

/// Plays a part: says (`<`) and hears (`>`) in turn; a word that is not heard ends it.
async fn server(part: &[(char, &[u8])]) -> Target {
    let part: Vec<(char, Vec<u8>)> = part.iter().map(|(who, word)| (*who, word.to_vec())).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap().into();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let part = part.clone();
            tokio::spawn(async move { play(&mut stream, &part).await });
        }
    });
    target
}

async fn play(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), part: &[(char, Vec<u8>)]) -> Option<()> {
    for (who, word) in part {
        if *who == '<' {
            stream.write_all(word).await.ok()?;
        } else {
            let mut heard = vec![0; word.len()];
            stream.read_exact(&mut heard).await.ok()?;
            if heard != *word {
                stream.write_all(format!("heard {}", heard.escape_ascii()).as_bytes()).await.ok()?;
                return None;
            }
        }
    }
    Some(())
}

async fn talk(target: &Target, talk: Talk) -> Outcome {
    talk_for(target, talk, LONG).await
}

async fn talk_for(target: &Target, talk: Talk, time: Duration) -> Outcome {
    let probe = Dialogue { target: target.clone(), tls: None, credentials: Credentials::default(), talk };
    DialogueCheck::new(&probe, &Dial::default(), &[]).unwrap().probe(time).await
}

fn send(text: &str) -> Step {
    Step::Send(text.into())
}

fn expect(matching: Matching) -> Step {
    Step::Expect { is: Expect { matching, negate: false }, least: None }
}

fn contains(text: &str) -> Step {
    expect(Matching::Contains(text.into()))
}

#[tokio::test]
async fn steps_are_taken_in_turn_and_the_one_that_fails_is_named() {
    let target = server(&[('<', b"hello\n"), ('>', b"PING\n"), ('<', b"PO"), ('<', b"NG\n")]).await;
    let steps = |last: Step| Talk::Steps(vec![contains("hello"), send("PING\n"), last]);
    let met = Outcome::success("answered \"PONG\\n\"");
    assert_eq!(talk(&target, steps(expect(Matching::Regex("^P.NG\n$".into())))).await, met);
    assert_eq!(
        talk(&target, steps(contains("LOADING"))).await,
        Outcome::failure("step 3: the answer does not contain \"LOADING\": \"PONG\\n\"")
    );
}

#[tokio::test]
async fn what_must_not_come_is_looked_for_in_what_came() {
    let target = server(&[('<', b"role:master\n"), ('>', b"quit")]).await;
    let never = |text: &str, least| {
        let is = Expect { matching: Matching::Contains(text.into()), negate: true };
        Talk::Steps(vec![Step::Expect { is, least: Some(least) }])
    };
    assert!(talk(&target, never("role:slave", 12)).await.success);
    assert_eq!(
        talk(&target, never("master", 12)).await,
        Outcome::failure("the answer contains \"master\": \"role:master\\n\"")
    );
}

#[tokio::test]
async fn a_server_that_says_nothing_or_too_little_is_told_apart() {
    let time = Duration::from_millis(200);
    let silent = server(&[('>', b"never")]).await;
    let steps = || Talk::Steps(vec![contains("ready")]);
    assert_eq!(talk_for(&silent, steps(), time).await, Outcome::failure("no answer after 200 ms"));
    let slow = server(&[('<', b"rea"), ('>', b"never")]).await;
    assert_eq!(talk_for(&slow, steps(), time).await, Outcome::failure("only \"rea\" after 200 ms"));
    let gone = server(&[]).await;
    let closed = "the server closed the connection without an answer";
    assert_eq!(talk(&gone, steps()).await, Outcome::failure(closed));
}

#[tokio::test]
async fn a_server_that_never_stops_talking_is_heard_for_16_kib() {
    let target = server(&[('<', &vec![b'x'; 1 << 20])]).await;
    let outcome = talk(&target, Talk::Steps(vec![contains("y")])).await;
    assert!(outcome.detail.starts_with("the answer does not contain \"y\": \"xxx"), "{outcome:?}");
    assert!(outcome.detail.len() < 200, "{outcome:?}");
}

#[tokio::test]
async fn a_step_may_go_to_another_port() {
    let first = server(&[('<', b"one")]).await;
    let second = server(&[('<', b"two")]).await;
    let connect = |port| Step::Connect { port, tls: None };
    let steps = vec![contains("one"), connect(second.port), contains("two")];
    assert!(talk(&first, Talk::Steps(steps)).await.success);
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let steps = vec![contains("one"), connect(gone), contains("two")];
    assert_eq!(
        talk(&first, Talk::Steps(steps)).await,
        Outcome::failure(format!("step 2: port {gone}: connect refused"))
    );
}

#[tokio::test]
async fn mail_servers_greet_and_say_good_bye() {
    let hello = || Talk::Smtp { hello: "HELO lb1".into() };
    let good: &[(char, &[u8])] = &[
        ('<', b"220-mail.example ESMTP\r\n220 ready\r\n"),
        ('>', b"HELO lb1\r\n"),
        ('<', b"250 mail.example\r\n"),
        ('>', b"QUIT\r\n"),
        ('<', b"221 bye\r\n"),
    ];
    assert_eq!(talk(&server(good).await, hello()).await, Outcome::success("220 ready"));
    let full = server(&[('<', b"421 4.3.2 too many connections\r\n")]).await;
    let said = "the server says 421 4.3.2 too many connections";
    assert_eq!(talk(&full, hello()).await, Outcome::failure(said));
    let choosy = server(&[('<', b"220 x\r\n"), ('>', b"HELO lb1\r\n"), ('<', b"501 who?\r\n")]).await;
    assert_eq!(talk(&choosy, hello()).await, Outcome::failure("HELO lb1: the server says 501 who?"));
    let other = server(&[('<', b"SSH-2.0-OpenSSH_9.2p1\r\n")]).await;
    let said = "the answer is not SMTP: \"SSH-2.0-OpenSSH_9.2p1\"";
    assert_eq!(talk(&other, hello()).await, Outcome::failure(said));
}

#[tokio::test]
async fn redis_pongs() {
    let ping: (char, &[u8]) = ('>', b"*1\r\n$4\r\nPING\r\n");
    let good = server(&[ping, ('<', b"+PONG\r\n")]).await;
    assert_eq!(talk(&good, Talk::Redis).await, Outcome::success("PONG"));
    let locked = server(&[ping, ('<', b"-NOAUTH Authentication required.\r\n")]).await;
    let said = "the server says NOAUTH Authentication required.";
    assert_eq!(talk(&locked, Talk::Redis).await, Outcome::failure(said));
}

/// A BindResponse by RFC 4511 §4.2.2 to the request of HAProxy's `ldap-check`.
#[tokio::test]
async fn ldap_binds_anonymously() {
    const BIND: &[u8] = b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00";
    let good =
        server(&[('>', BIND), ('<', b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00")]).await;
    assert_eq!(talk(&good, Talk::Ldap).await, Outcome::success("anonymous bind accepted"));
    // Active Directory writes its lengths in four octets.
    let long = b"\x30\x84\x00\x00\x00\x10\x02\x01\x01\x61\x84\x00\x00\x00\x07\x0a\x01\x00\x04\x00\x04\x00";
    let good = server(&[('>', BIND), ('<', long)]).await;
    assert!(talk(&good, Talk::Ldap).await.success);
    let bad =
        server(&[('>', BIND), ('<', b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x30\x04\x00\x04\x00")]).await;
    let said = "the server refuses an anonymous bind: result code 48";
    assert_eq!(talk(&bad, Talk::Ldap).await, Outcome::failure(said));
    let other = server(&[('<', b"HTTP/1.1 400 Bad Request\r\n")]).await;
    assert_eq!(talk(&other, Talk::Ldap).await, Outcome::failure("the answer is not LDAP: \"HT\""));
}

const GREETING: &[u8] = b"\x15\0\0\0\x0a8.0.36\0\x01\x00\x00\x00abcdefgh\0";
/// Length, number, capabilities, largest packet, character set, 23 zeros, `vipd`, no password.
const LOGIN: &[u8] =
    b"\x26\0\0\x01\x00\x82\0\0\0\0\0\x01\x21\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0vipd\0\0";

#[tokio::test]
async fn mysql_greets_and_lets_a_user_in() {
    let as_vipd = || Talk::Mysql { user: Some("vipd".into()) };
    let greeting = server(&[('<', GREETING)]).await;
    assert_eq!(talk(&greeting, Talk::Mysql { user: None }).await, Outcome::success("version 8.0.36"));
    let blocked = server(&[('<', b"\x20\0\0\0\xff\x69\x04Host '10.0.0.1' is blocked...")]).await;
    let said = "the server says Host '10.0.0.1' is blocked...";
    assert_eq!(talk(&blocked, Talk::Mysql { user: None }).await, Outcome::failure(said));
    let good = server(&[('<', GREETING), ('>', LOGIN), ('<', b"\x07\0\0\x02\0\0\0\x02\0\0\0")]).await;
    assert_eq!(talk(&good, as_vipd()).await, Outcome::success("version 8.0.36"));
    let denied = b"\x12\0\0\x02\xff\x15\x04#28000denied!!!";
    let bad = server(&[('<', GREETING), ('>', LOGIN), ('<', denied)]).await;
    assert_eq!(talk(&bad, as_vipd()).await, Outcome::failure("the server says denied!!!"));
    // Another method is asked for, and an empty proof is enough.
    let switch = b"\x0a\0\0\x02\xfenative_pw";
    let good = server(&[
        ('<', GREETING),
        ('>', LOGIN),
        ('<', switch),
        ('>', b"\0\0\0\x03"),
        ('<', b"\x07\0\0\x04\0\0\0\x02\0\0\0"),
    ])
    .await;
    assert!(talk(&good, as_vipd()).await.success);
}

#[tokio::test]
async fn postgres_asks_for_a_password_or_says_why_not() {
    const STARTUP: &[u8] = b"\0\0\0\x21\0\x03\0\0user\0vipd\0database\0vipd\0\0";
    let ask = || Talk::Postgres { user: "vipd".into() };
    let good = server(&[('>', STARTUP), ('<', b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0")]).await;
    assert_eq!(talk(&good, ask()).await, Outcome::success("the server is ready for a login"));
    let text = b"E\0\0\0\x29SFATAL\0C57P03\0Mthe database is down\0\0";
    let bad = server(&[('>', STARTUP), ('<', text)]).await;
    assert_eq!(talk(&bad, ask()).await, Outcome::failure("the server says the database is down"));
}

/// Plays a part, completes a handshake, plays another part; what is said to that.
async fn over_tls(before: &[(char, &[u8])], after: &[(char, &[u8])], talk: Talk) -> Outcome {
    let authority = Authority::new();
    let acceptor = authority.server(&["127.0.0.1"], false);
    let owned = |part: &[(char, &[u8])]| -> Vec<(char, Vec<u8>)> {
        part.iter().map(|(who, word)| (*who, word.to_vec())).collect()
    };
    let (before, after) = (owned(before), owned(after));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap().into();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        play(&mut stream, &before).await?;
        let mut stream = acceptor.accept(stream).await.ok()?;
        play(&mut stream, &after).await?;
        stream.shutdown().await.ok()
    });
    let tls = Some(authority.tls(None));
    let probe = Dialogue { target, tls, credentials: Credentials::default(), talk };
    let outcome = DialogueCheck::new(&probe, &Dial::default(), &[]).unwrap().probe(LONG).await;
    Outcome { findings: None, ..outcome }
}

/// PostgreSQL's SSLRequest and its answer are of "Message Formats" in its documentation.
#[tokio::test]
async fn postgres_is_asked_for_tls_first() {
    const REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
    const STARTUP: &[u8] = b"\0\0\0\x21\0\x03\0\0user\0vipd\0database\0vipd\0\0";
    let ask = || Talk::Postgres { user: "vipd".into() };
    let login: &[(char, &[u8])] = &[('>', STARTUP), ('<', b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0")];
    let good = over_tls(&[('>', REQUEST), ('<', b"S")], login, ask()).await;
    assert_eq!(good, Outcome::success("the server is ready for a login"));
    let without = over_tls(&[('>', REQUEST), ('<', b"N")], &[], ask()).await;
    assert_eq!(without, Outcome::failure("the server does not offer TLS"));
    // Whoever is between the two could slip that in before the handshake.
    let slipped = over_tls(&[('>', REQUEST), ('<', b"SR\0\0\0\x08\0\0\0\0")], &[], ask()).await;
    assert!(!slipped.success && slipped.detail.starts_with("the server went on without TLS"), "{slipped:?}");
}

/// "SSLRequest" of the documentation of MySQL's protocol: a login that is cut off behind its 32 octets.
#[tokio::test]
async fn mysql_turns_to_tls_behind_its_greeting() {
    let greeting = |capabilities: &[u8]| -> Vec<u8> {
        [b"\x17\0\0\0\x0a8.0.36\0\x01\0\0\0abcdefgh\0", capabilities].concat()
    };
    const REQUEST: &[u8] =
        b"\x20\0\0\x01\x00\x8a\0\0\0\0\0\x01\x21\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let login = [b"\x26\0\0\x02", &REQUEST[4..], b"vipd\0\0"].concat();
    let (with, without) = (greeting(b"\xff\xff"), greeting(b"\xff\xf7"));
    let as_vipd = || Talk::Mysql { user: Some("vipd".into()) };
    let welcome: &[u8] = b"\x07\0\0\x03\0\0\0\x02\0\0\0";
    let before: &[(char, &[u8])] = &[('<', &with), ('>', REQUEST)];
    let good = over_tls(before, &[('>', &login), ('<', welcome)], as_vipd()).await;
    assert_eq!(good, Outcome::success("version 8.0.36"));
    assert_eq!(over_tls(before, &[], Talk::Mysql { user: None }).await, Outcome::success("version 8.0.36"));
    assert_eq!(
        over_tls(&[('<', &without)], &[], as_vipd()).await,
        Outcome::failure("the server does not offer TLS")
    );
}

#[tokio::test]
async fn a_handshake_is_completed_and_ended_in_order() {
    let authority = Authority::new();
    let acceptor = authority.server(&["127.0.0.1"], false);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target: Target = listener.local_addr().unwrap().into();
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await?;
        let mut rest = Vec::new();
        // An end without close_notify would be an error.
        stream.read_to_end(&mut rest).await?;
        stream.shutdown().await?;
        Ok::<_, std::io::Error>(rest.len())
    });
    let probe = Dialogue {
        target,
        tls: Some(authority.tls(None)),
        credentials: Credentials::default(),
        talk: Talk::Steps(Vec::new()),
    };
    let outcome = DialogueCheck::new(&probe, &Dial::default(), &[]).unwrap().probe(LONG).await;
    let wanted = Outcome { findings: Some(Vec::new()), ..Outcome::success("TLS handshake completed") };
    assert_eq!(outcome, wanted);
    assert_eq!(served.await.unwrap().unwrap(), 0);
}
