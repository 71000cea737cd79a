//! Against a server of our own, whose every word is written here.

use std::collections::HashMap;
use std::sync::Mutex;

use config::ready::Control;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::*;

/// Listens on a port and keeps what clients say. `refusals`: answers to commands that begin so.
async fn server(refusals: HashMap<&'static str, &'static str>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::<Mutex<Vec<String>>>::default();
    let writes = Arc::clone(&heard);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (reader, mut writer) = stream.into_split();
            let mut lines = BufReader::new(reader).split(b'\n');
            writer.write_all(b"220 lab\r\n").await.unwrap();
            let mut is_data = false;
            while let Ok(Some(line)) = lines.next_segment().await {
                let line = String::from_utf8(line).unwrap();
                writes.lock().unwrap().push(line.replace('\r', "\\r"));
                let refusal = refusals.iter().find(|(command, _)| line.starts_with(**command));
                let answer = match (line.trim_end(), refusal) {
                    (".", _) => "250 queued",
                    _ if is_data => continue,
                    (_, Some((_, refusal))) => refusal,
                    ("DATA", _) => "354 go on",
                    ("QUIT", _) => "221 bye",
                    _ => "250 fine",
                };
                is_data = answer.starts_with("354");
                writer.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
            }
        }
    });
    (port, heard)
}

fn settings(port: u16) -> Mail {
    Mail {
        to: vec!["root@lab.example".to_owned(), "ops".to_owned()],
        from: "vrrp@lab.example".to_owned(),
        server: "127.0.0.1".to_owned(),
        port,
        helo: "vm".to_owned(),
        connect_timeout: Duration::from_secs(20),
        no_faults: false,
        start_tls: false,
        login: None,
    }
}

const TEXT: &str = "=> VRRP Instance is now owning VRRP VIPs <=";

fn letter(settings: &Mail) -> String {
    message(
        settings,
        "[LAB] VRRP Instance V1 - Entering MASTER state",
        TEXT,
        "Sat, 21 Nov 2026 13:49:21 +0000",
    )
}

/// What a server heard from keepalived 2.2.7, but for HELO: `ops` has no domain, and goes as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_mail_is_what_keepalived_sends() {
    let (port, heard) = server(HashMap::new()).await;
    let settings = settings(port);
    deliver(&settings, &letter(&settings)).await.unwrap();
    assert_eq!(
        *heard.lock().unwrap(),
        [
            "EHLO vm\\r",
            "MAIL FROM:<vrrp@lab.example>\\r",
            "RCPT TO:<root@lab.example>\\r",
            "RCPT TO:<ops>\\r",
            "DATA\\r",
            "Date: Sat, 21 Nov 2026 13:49:21 +0000\\r",
            "From: vrrp@lab.example\\r",
            "Subject: [LAB] VRRP Instance V1 - Entering MASTER state\\r",
            "X-Mailer: Keepalived\\r",
            "To: root@lab.example, ops\\r",
            "\\r",
            "=> VRRP Instance is now owning VRRP VIPs <=\\r",
            "\\r",
            ".\\r",
            "QUIT\\r",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_recipient_that_is_accepted_is_enough_and_none_is_not() {
    let (port, heard) = server(HashMap::from([("RCPT TO:<ops>", "550 who is that")])).await;
    let settings = settings(port);
    deliver(&settings, &letter(&settings)).await.unwrap();
    assert!(heard.lock().unwrap().contains(&"QUIT\\r".to_owned()));

    let (port, heard) = server(HashMap::from([("RCPT", "550 who is that")])).await;
    let settings = self::settings(port);
    let error = deliver(&settings, &letter(&settings)).await.unwrap_err();
    assert!(error.to_string().starts_with("no recipient was accepted"), "{error}");
    assert!(causes(&error).contains("who is that"), "{}", causes(&error));
    assert!(!heard.lock().unwrap().contains(&"DATA\\r".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_starttls_gets_neither_mail_nor_password() {
    let (port, heard) = server(HashMap::new()).await;
    let secret = tempfile::NamedTempFile::new().unwrap();
    let login = Some(("vrrp".to_owned(), secret.path().to_owned()));
    let with_tls = Mail { start_tls: true, login: login.clone(), ..settings(port) };
    let error = deliver(&with_tls, &letter(&with_tls)).await.unwrap_err();
    assert!(matches!(error, MailError::NoTls), "{error}");
    let without_tls = Mail { login, ..settings(port) };
    let error = deliver(&without_tls, &letter(&without_tls)).await.unwrap_err();
    assert!(matches!(error, MailError::LoginWithoutTls), "{error}");
    assert!(heard.lock().unwrap().iter().all(|line| line.starts_with("EHLO")));
}

/// The server accepts connections and never says a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_holds_nobody_and_each_mail_has_its_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mail = Mail {
        connect_timeout: Duration::from_millis(300),
        ..settings(listener.local_addr().unwrap().port())
    };
    let control = Control { socket: "/nonexistent".into(), metrics: None, web: None };
    let mut config = Config::empty("LAB".to_owned(), control);
    config.process.mail = Some(mail);
    let mut mailer = Mailer::new();
    mailer.take_on(&config);
    let start = Instant::now();
    for _ in 0..3 * AT_A_TIME {
        mailer.send("subject".to_owned(), TEXT);
    }
    assert!(start.elapsed() < Duration::from_millis(300), "sending has waited");
    mailer.stop(start + Duration::from_secs(30)).await;
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn a_name_cannot_bring_headers_along() {
    let settings = settings(25);
    let text = message(&settings, "[LAB] VRRP Instance V1\r\nBcc: all@lab.example - …", TEXT, "now");
    assert!(text.contains("Subject: [LAB] VRRP Instance V1  Bcc: all@lab.example"), "{text}");
}

#[test]
fn a_date_is_as_rfc_5322_wants_it() {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_268_961);
    let said = date(at);
    let expected = std::process::Command::new("date").args(["-R", "-d", "@1795268961"]).output().unwrap();
    assert_eq!(said, String::from_utf8_lossy(&expected.stdout).trim_end());
}

/// A server that speaks only after STARTTLS, with a certificate for `localhost`. Gives the certificate.
async fn secret_server() -> (u16, Arc<Mutex<Vec<String>>>, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let pem = made.cert.pem();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::<Mutex<Vec<String>>>::default();
    let writes = Arc::clone(&heard);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut open = BufReader::new(stream);
            open.write_all(b"220 lab\r\n").await.unwrap();
            let mut line = String::new();
            for answer in ["250-lab\r\n250 STARTTLS\r\n", "220 go on\r\n"] {
                line.clear();
                open.read_line(&mut line).await.unwrap();
                writes.lock().unwrap().push(line.trim_end().to_owned());
                open.write_all(answer.as_bytes()).await.unwrap();
            }
            // A client that does not trust us goes away here.
            let Ok(secret) = acceptor.accept(open.into_inner()).await else { continue };
            let mut secret = BufReader::new(secret);
            loop {
                line.clear();
                if secret.read_line(&mut line).await.unwrap_or(0) == 0 {
                    break;
                }
                writes.lock().unwrap().push(format!("secret {}", line.trim_end()));
                let answer = match line.trim_end() {
                    line if line.starts_with("EHLO") => "250-lab\r\n250 AUTH PLAIN\r\n",
                    line if line.starts_with("AUTH") => "235 welcome\r\n",
                    "DATA" => "354 go on\r\n",
                    line if line.contains(": ") || line.is_empty() || line.starts_with("=>") => continue,
                    _ => "250 fine\r\n",
                };
                secret.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    (port, heard, pem)
}

/// Authorities are the host's; `SSL_CERT_FILE` says which those are.
#[tokio::test(flavor = "multi_thread")]
async fn with_starttls_the_login_and_the_mail_are_sent_in_secret_to_a_server_that_is_known() {
    let (port, heard, pem) = secret_server().await;
    let directory = tempfile::tempdir().unwrap();
    let (authorities, password) = (directory.path().join("ca.pem"), directory.path().join("password"));
    std::fs::write(&password, "s3cr3t\n").unwrap();
    let mail = Mail {
        server: "localhost".to_owned(),
        start_tls: true,
        login: Some(("vrrp".to_owned(), password)),
        ..settings(port)
    };
    let error = deliver(&mail, &letter(&mail)).await.unwrap_err();
    assert!(causes(&error).contains("certificate"), "{}", causes(&error));
    assert!(heard.lock().unwrap().iter().all(|line| !line.starts_with("secret")));
    heard.lock().unwrap().clear();

    std::fs::write(&authorities, pem).unwrap();
    // SAFETY: no other test reads or writes this name; std guards its own access by a lock.
    unsafe { std::env::set_var("SSL_CERT_FILE", &authorities) };
    deliver(&mail, &letter(&mail)).await.unwrap();
    let heard = heard.lock().unwrap();
    // Two NULs around the name: "\0vrrp\0s3cr3t" (RFC 4616).
    let begin = ["EHLO vm", "STARTTLS", "secret EHLO vm", "secret AUTH PLAIN AHZycnAAczNjcjN0"];
    assert_eq!(heard[..begin.len()], begin);
    assert!(heard.contains(&format!("secret {TEXT}")), "{heard:?}");
}

/// What keepalived 2.2.7 sent for this file, but for `FOUND`, where it names the kind of the checker alone.
#[tokio::test(flavor = "multi_thread")]
async fn mails_about_servers_are_told_as_keepalived_tells_them() {
    use crate::notify::teller::Teller;
    use crate::observe::event::{Health, Kind};

    let (port, heard) = server(HashMap::new()).await;
    let file = tempfile::Builder::new().suffix(".conf").tempfile().unwrap();
    let text = include_str!("mail_tests.conf").replace("2525", &port.to_string());
    std::fs::write(file.path(), text).unwrap();
    let loaded = config::load(&[file.path()], &config::LoadOptions::default());
    let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    let mut teller = Teller::new(Arc::default());
    teller.take_on(&config).await;
    let turn = |backend: &str, from, to| Kind::Backend {
        listener: "192.0.2.11:25".to_owned(),
        backend: format!("127.0.0.{backend}:26"),
        from,
        to,
        detail: "FOUND".to_owned(),
        sessions_closed: 0,
    };
    let quorum =
        |reached, weight| Kind::Quorum { listener: "192.0.2.11:25".to_owned(), reached, weight, least: 2 };
    let (unknown, up, down) = (Health::Unknown, Health::Up, Health::Down);
    for kind in [
        quorum(true, 4),
        // 1 is assumed to be up, 2 (`alpha`) to be down; 3 has `smtp_alert off`.
        turn("1", unknown, up),
        turn("2", unknown, down),
        turn("3", up, down),
        turn("1", up, down),
        turn("2", down, up),
        quorum(false, 0),
        turn("4", unknown, down),
        turn("5", unknown, up),
    ] {
        teller.tell(&kind);
    }
    teller.stop().await;
    let heard = heard.lock().unwrap().clone();
    let mut told: Vec<_> = heard
        .iter()
        .enumerate()
        .filter_map(|(at, line)| Some((line.strip_prefix("Subject: [LAB] ")?, heard.get(at + 4)?.as_str())))
        .collect();
    told.sort_unstable();
    let of = |server| format!("Realserver [127.0.0.{server}]:tcp:26 of virtual server [192.0.2.11]:tcp:25");
    let expected = [
        (format!("{} - DOWN\\r", of(1)), "=> CHECK failed on service : FOUND <=\\r"),
        (format!("{} - UP\\r", of(2)), "=> CHECK succeed on service : FOUND <=\\r"),
        (format!("{} - DOWN\\r", of(4)), "=> CHECK failed on service : FOUND <=\\r"),
        (format!("{} - UP\\r", of(5)), "=> CHECK succeed on service : FOUND <=\\r"),
        ("Virtualserver [192.0.2.11]:tcp:25 - DOWN\\r".to_owned(), "=> Lost quorum 2-1=1 > 0 <=\\r"),
        (
            "Virtualserver [192.0.2.11]:tcp:25 - UP\\r".to_owned(),
            "=> Starting with quorum up 2+1=3 <= 4 <=\\r",
        ),
    ];
    assert_eq!(told, expected.each_ref().map(|(subject, text)| (subject.as_str(), *text)));
}
