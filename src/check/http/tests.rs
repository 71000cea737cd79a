//! Probes against real servers on loopback.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use config::ready::{
    ApiserverProbe, Credentials, Expect, HttpExpect, HttpRequest, HttpVersion, Matching, Target, Tls,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::check::apiserver::ApiserverCheck;

const LONG: Duration = Duration::from_secs(20);

/// An authority, and a directory with what it signed.
pub(in crate::check) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Authority {
    pub(in crate::check) fn new() -> Self {
        Self::named("kubernetes")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.crt"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    pub(in crate::check) fn sign(&self, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        self.sign_until(names, (4000, 1, 1))
    }

    fn sign_until(&self, names: &[&str], end: (i32, u8, u8)) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(end.0, end.1, end.2);
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    pub(in crate::check) fn server(&self, names: &[&str], demand_client: bool) -> TlsAcceptor {
        self.server_until(names, demand_client, (4000, 1, 1))
    }

    fn server_until(&self, names: &[&str], demand_client: bool, end: (i32, u8, u8)) -> TlsAcceptor {
        let (certificate, key) = self.sign_until(names, end);
        self.server_with(&certificate, &key, demand_client)
    }

    fn server_with(
        &self,
        certificate: &rcgen::Certificate,
        key: &KeyPair,
        demand_client: bool,
    ) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if demand_client {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    pub(in crate::check) fn tls(&self, server_name: Option<&str>) -> Tls {
        Tls { ca_file: Some(self.ca_file()), server_name: server_name.map(str::to_owned), ..Tls::default() }
    }
}

/// A server that answers every request head with what `answer` makes of it.
struct Server {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a test's server does with a request.
#[derive(Clone)]
enum Reply {
    /// These octets.
    Octets(Vec<u8>),
    /// These octets, then the end of the connection.
    OctetsAndClose(Vec<u8>),
    /// Nothing, for ever.
    Hang,
    /// A head, then one octet a second.
    Drip,
}

fn reply(status: u16, body: &str) -> Reply {
    let length = body.len();
    Reply::Octets(format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes())
}

async fn server(tls: Option<TlsAcceptor>, answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    let answer = Arc::new(answer);
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let (tls, answer) = (tls.clone(), Arc::clone(&answer));
            tokio::spawn(async move {
                match tls {
                    None => serve(stream, &*answer).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, &*answer).await;
                        }
                    }
                }
            });
        }
    });
    Server { address, accepted, task }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &(dyn Fn(&str) -> Reply + Sync)) {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        head.extend_from_slice(&buffer[..length]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let reply = answer(&String::from_utf8(std::mem::take(&mut head)).unwrap());
        match reply {
            Reply::Octets(octets) => {
                if stream.write_all(&octets).await.is_err() {
                    return;
                }
            }
            Reply::OctetsAndClose(octets) => {
                let _ = stream.write_all(&octets).await;
                let _ = stream.shutdown().await;
                return;
            }
            Reply::Hang => std::future::pending().await,
            Reply::Drip => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await;
                while stream.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
        let _ = stream.flush().await;
    }
}

fn target(address: SocketAddr) -> Target {
    Target { host: address.ip().to_string(), port: address.port() }
}

fn http(address: SocketAddr, tls: Option<Tls>) -> HttpProbe {
    HttpProbe {
        target: target(address),
        tls,
        credentials: Credentials::default(),
        requests: vec![HttpRequest::get("/health?full=1")],
    }
}

fn apiserver(address: SocketAddr, tls: Tls, credentials: Credentials) -> ApiserverCheck {
    let probe = ApiserverProbe { target: target(address), path: "/readyz".to_owned(), tls, credentials };
    ApiserverCheck::new(&probe, &Dial::default(), &[])
}

fn contains(text: &str) -> HttpExpect {
    let is = Expect { matching: Matching::Contains(text.into()), negate: false };
    HttpExpect { of: HttpSubject::Body, is: Some(is), absent: false }
}

fn check(probe: &HttpProbe) -> HttpCheck {
    HttpCheck::new(probe, &Dial::default(), &[]).unwrap()
}

/// Without what was found about a certificate.
async fn ask(probe: &HttpProbe) -> Outcome {
    Outcome { findings: None, ..check(probe).probe(LONG).await }
}

async fn said(check: &mut ApiserverCheck) -> String {
    check.probe(LONG).await.detail
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[tokio::test]
async fn an_expected_status_is_success() {
    let server = server(None, |_| reply(204, "")).await;
    assert_eq!(ask(&http(server.address, None)).await, Outcome::success("status 204"));
}

#[tokio::test]
async fn an_unexpected_status_is_failure_and_redirects_are_not_followed() {
    let octets = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n".to_vec();
    let server = server(None, move |_| Reply::Octets(octets.clone())).await;
    let mut probe = http(server.address, None);
    probe.requests[0].status = vec![(200, 299), (401, 401)];
    assert_eq!(ask(&probe).await, Outcome::failure("status 302, expected 200-299, 401"));
}

#[tokio::test]
async fn the_request_is_what_was_configured() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let server = server(None, move |head| {
        record.lock().unwrap().push(head.to_ascii_lowercase());
        reply(200, "")
    })
    .await;
    let mut probe = http(server.address, None);
    ask(&probe).await;
    probe.requests[0].method = "OPTIONS".to_owned();
    probe.requests[0].host_header = Some("www.example.org".to_owned());
    ask(&probe).await;
    let heads = seen.lock().unwrap().clone();
    assert!(heads[0].starts_with("get /health?full=1 http/1.1\r\n"), "{}", heads[0]);
    assert!(heads[0].contains(&format!("\r\nhost: {}\r\n", server.address)), "{}", heads[0]);
    assert!(heads[1].starts_with("options /health?full=1 http/1.1\r\n"), "{}", heads[1]);
    assert!(heads[1].contains("\r\nhost: www.example.org\r\n"), "{}", heads[1]);
}

#[tokio::test]
async fn a_body_without_the_text_is_failure() {
    let server = server(None, |_| reply(200, "state: draining")).await;
    let mut probe = http(server.address, None);
    probe.requests[0].expect = vec![contains("draining")];
    assert!(ask(&probe).await.success);
    probe.requests[0].expect = vec![contains("ready")];
    assert_eq!(ask(&probe).await, Outcome::failure("status 200, but the body does not contain \"ready\""));
}

#[tokio::test]
async fn one_connection_serves_five_probes() {
    let authority = Authority::new();
    let server = server(Some(authority.server(&["127.0.0.1"], false)), |_| reply(200, "ok")).await;
    let mut check = check(&http(server.address, Some(authority.tls(None))));
    for _ in 0..5 {
        assert!(check.probe(LONG).await.success);
    }
    assert_eq!(server.accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_closes_after_each_answer_is_connected_to_anew() {
    let octets = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
    let server = server(None, move |_| Reply::OctetsAndClose(octets.clone())).await;
    let mut check = check(&http(server.address, None));
    for _ in 0..5 {
        assert_eq!(check.probe(LONG).await, Outcome::success("status 200"));
    }
    assert_eq!(server.accepted.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn a_closed_port_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(ask(&http(address, None)).await, Outcome::failure("connect refused"));
    let authority = Authority::new();
    assert_eq!(ask(&http(address, Some(authority.tls(None)))).await, Outcome::failure("connect refused"));
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_not_trusted() {
    let ours = Authority::named("kubernetes");
    for (name, why) in
        [("etcd-ca", "unknown issuer"), ("kubernetes", "its issuer has the name of ours but another key")]
    {
        let theirs = Authority::named(name);
        let server = server(Some(theirs.server(&["127.0.0.1"], false)), |_| reply(200, "ok")).await;
        assert_eq!(
            ask(&http(server.address, Some(ours.tls(None)))).await,
            Outcome::failure(format!("certificate not trusted: {why}"))
        );
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_trusted() {
    let authority = Authority::new();
    let server =
        server(Some(authority.server(&["kubernetes", "10.0.0.10"], false)), |_| reply(200, "")).await;
    assert_eq!(
        ask(&http(server.address, Some(authority.tls(None)))).await,
        Outcome::failure("certificate not trusted: it is not for 127.0.0.1 but for kubernetes, 10.0.0.10")
    );
}

/// `openssl req -x509` makes such a one. curl, OpenSSL and Go take it where it is among the authorities.
#[tokio::test]
async fn a_certificate_that_signed_itself_is_trusted_where_it_is_in_the_file() {
    let itself = |name: &str, year: i32| {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap(), key)
    };
    let authority = Authority::new();
    for (name, year, is_known, why) in [
        ("127.0.0.1", 4000, true, None),
        ("127.0.0.1", 2020, true, Some("it has expired")),
        ("10.0.0.10", 4000, true, Some("it is not for 127.0.0.1 but for 10.0.0.10")),
        (
            "127.0.0.1",
            4000,
            false,
            Some("it is that of an authority, and not in ca_file itself: give the server one of its own"),
        ),
    ] {
        let (certificate, key) = itself(name, year);
        let server =
            server(Some(authority.server_with(&certificate, &key, false)), |_| reply(200, "ok")).await;
        let mut tls = authority.tls(None);
        let file = authority.directory.path().join("self.crt");
        if is_known {
            std::fs::write(&file, certificate.pem()).unwrap();
            tls.ca_file = Some(file);
        }
        let outcome = ask(&http(server.address, Some(tls.clone()))).await;
        match why {
            None => assert!(outcome.success, "{outcome:?}"),
            Some(why) => assert_eq!(outcome, Outcome::failure(format!("certificate not trusted: {why}"))),
        }
        let any_name = Tls { any_name: true, ..tls };
        let will_do = name != "127.0.0.1" || why.is_none();
        assert_eq!(ask(&http(server.address, Some(any_name))).await.success, will_do, "{name} {year}");
    }
}

#[tokio::test]
async fn server_name_is_what_is_verified_whatever_the_target_is_called() {
    let authority = Authority::new();
    let server =
        server(Some(authority.server(&["kubernetes", "10.0.0.10"], false)), |_| reply(200, "")).await;
    let mut probe = http(server.address, None);
    for host in ["127.0.0.1", "localhost"] {
        probe.target.host = host.to_owned();
        for name in ["kubernetes", "10.0.0.10"] {
            probe.tls = Some(authority.tls(Some(name)));
            assert_eq!(ask(&probe).await, Outcome::success("status 200"), "{host} as {name}");
        }
        probe.tls = Some(authority.tls(Some("10.0.0.11")));
        assert!(!ask(&probe).await.success);
    }
}

#[tokio::test]
async fn insecure_accepts_any_certificate() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = server(Some(theirs.server(&["other"], false)), |_| reply(200, "ok")).await;
    let tls = Tls { insecure: true, ..ours.tls(None) };
    assert_eq!(ask(&http(server.address, Some(tls))).await, Outcome::success("status 200"));
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named() {
    let authority = Authority::new();
    let address: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let file = authority.directory.path().join("empty.crt");
    let tls = Tls { ca_file: Some(file.clone()), ..authority.tls(None) };
    let missing = ask(&http(address, Some(tls.clone()))).await;
    assert_eq!(missing, Outcome::failure(format!("{}: No such file or directory", file.display())));
    write(&file, "");
    let empty = ask(&http(address, Some(tls))).await;
    assert_eq!(empty, Outcome::failure(format!("{} holds no certificate in PEM format", file.display())));
}

#[tokio::test]
async fn a_bearer_token_is_sent_and_read_again_when_it_changes() {
    let authority = Authority::new();
    let server = server(Some(authority.server(&["127.0.0.1"], false)), |head| {
        if head.to_ascii_lowercase().contains("\r\nauthorization: bearer token-2\r\n") {
            reply(200, "ok")
        } else {
            reply(401, "{\"kind\":\"Status\"}")
        }
    })
    .await;
    let token = authority.directory.path().join("token");
    let credentials = Credentials { bearer_token_file: Some(token.clone()), ..Credentials::default() };
    let mut check = apiserver(server.address, authority.tls(None), credentials);
    write(&token, "token-1\n");
    assert_eq!(said(&mut check).await, "readyz 401: the credentials were not accepted");
    write(&token, "token-2\n");
    assert_eq!(said(&mut check).await, "readyz 200");
}

#[tokio::test]
async fn a_client_certificate_is_shown_when_the_server_demands_one() {
    let authority = Authority::new();
    let server = server(Some(authority.server(&["127.0.0.1"], true)), |_| reply(200, "ok")).await;
    let mut without = apiserver(server.address, authority.tls(None), Credentials::default());
    assert_eq!(said(&mut without).await, "the server demands a client certificate");
    let directory = authority.directory.path();
    let (certificate, key) = (directory.join("client.crt"), directory.join("client.key"));
    let credentials = Credentials {
        bearer_token_file: None,
        client_certificate_file: Some(certificate.clone()),
        client_key_file: Some(key.clone()),
    };
    let mut with = apiserver(server.address, authority.tls(None), credentials);
    // A stranger's certificate first, then ours in the same files.
    let (stranger, stranger_key) = Authority::new().sign(&["stranger"]);
    write(&certificate, &stranger.pem());
    write(&key, &stranger_key.serialize_pem());
    assert_eq!(said(&mut with).await, "the server does not accept our client certificate");
    let (ours, our_key) = authority.sign(&["kube-apiserver-healthcheck-client"]);
    write(&certificate, &ours.pem());
    write(&key, &our_key.serialize_pem());
    assert_eq!(said(&mut with).await, "readyz 200");
}

#[tokio::test]
async fn failing_sub_checks_of_the_apiserver_are_named() {
    let authority = Authority::new();
    let server = server(Some(authority.server(&["127.0.0.1"], false)), |head| {
        assert!(head.starts_with("GET /readyz?verbose HTTP/1.1\r\n"), "{head}");
        reply(500, "[+]ping ok\n[-]etcd failed: reason withheld\n[-]poststarthook/x failed: not finished\nreadyz check failed\n")
    })
    .await;
    let mut check = apiserver(server.address, authority.tls(None), Credentials::default());
    assert_eq!(said(&mut check).await, "readyz 500: etcd, poststarthook/x failed");
}

#[tokio::test]
async fn a_server_that_never_answers_times_out() {
    let server = server(None, |_| Reply::Hang).await;
    let outcome = check(&http(server.address, None)).probe(Duration::from_millis(200)).await;
    assert_eq!(outcome, Outcome::failure("no answer after 200 ms"));
}

#[tokio::test]
async fn a_server_that_never_speaks_tls_times_out() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let probe = http(listener.local_addr().unwrap(), Some(authority.tls(None)));
    let outcome = check(&probe).probe(Duration::from_millis(400)).await;
    assert_eq!(outcome, Outcome::failure("no TLS handshake after 400 ms"));
}

#[tokio::test]
async fn one_octet_a_second_times_out() {
    let server = server(None, |_| Reply::Drip).await;
    let outcome = check(&http(server.address, None)).probe(Duration::from_millis(1500)).await;
    assert_eq!(outcome, Outcome::failure("the answer was not complete after 1.5 s"));
}

#[tokio::test]
async fn no_more_than_64_kib_of_a_body_are_read() {
    let body = "x".repeat(10_000_000);
    let server = server(None, move |_| reply(200, &body)).await;
    let mut check = check(&http(server.address, None));
    assert_eq!(check.probe(LONG).await, Outcome::success("status 200"));
    let question = check.requests[0].question.clone();
    let answer = check.client.ask(&question, Limit::new(LONG)).await.unwrap();
    assert_eq!((answer.body.len(), answer.is_cut), (BODY_LIMIT, true));
}

#[tokio::test]
async fn garbage_is_not_an_answer() {
    let server = server(None, |_| Reply::OctetsAndClose(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n".to_vec())).await;
    let detail = ask(&http(server.address, None)).await.detail;
    assert!(detail.starts_with("the answer is not HTTP: "), "{detail}");
}

#[tokio::test]
async fn a_connection_that_ends_without_an_answer_is_failure() {
    let server = server(None, |_| Reply::OctetsAndClose(Vec::new())).await;
    assert_eq!(
        ask(&http(server.address, None)).await,
        Outcome::failure("the server closed the connection before its answer was complete")
    );
}

#[tokio::test]
async fn plain_http_is_not_tls() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    });
    assert_eq!(
        ask(&http(address, Some(authority.tls(None)))).await,
        Outcome::failure("the answer is not TLS")
    );
    task.abort();
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_named() {
    let mut probe = http("127.0.0.1:1".parse().unwrap(), None);
    probe.target.host = "does-not-exist.invalid".to_owned();
    let detail = ask(&probe).await.detail;
    assert!(detail.starts_with("does-not-exist.invalid not resolved"), "{detail}");
}

fn expects(of: HttpSubject, matching: Matching, negate: bool) -> Vec<HttpExpect> {
    vec![HttpExpect { of, is: Some(Expect { matching, negate }), absent: false }]
}

#[tokio::test]
async fn headers_bodies_and_digests_are_judged() {
    let octets =
        b"HTTP/1.1 200 OK\r\nServer: nginx\r\nVia: a\r\nVia: b\r\nContent-Length: 5\r\n\r\nhello".to_vec();
    let server = server(None, move |_| Reply::Octets(octets.clone())).await;
    let header = |name: &str| HttpSubject::Header(name.into());
    let digest = |first| {
        let mut digest = *b"\x5d\x41\x40\x2a\xbc\x4b\x2a\x76\xb9\x71\x9d\x91\x10\x17\xc5\x92";
        digest[0] = first;
        Matching::Md5(digest)
    };
    let there = |name: &str, absent| vec![HttpExpect { of: header(name), is: None, absent }];
    for (expect, wanted) in [
        (expects(HttpSubject::Body, Matching::Regex("^h.l+o$".into()), false), None),
        (
            expects(HttpSubject::Body, Matching::Regex("^h.l+o$".into()), true),
            Some("the body matches \"^h.l+o$\""),
        ),
        (expects(header("server"), Matching::Equals("nginx".into()), false), None),
        (
            expects(header("server"), Matching::Starts("Apache".into()), false),
            Some("its header server does not start with \"Apache\""),
        ),
        (expects(header("Via"), Matching::Equals("b".into()), false), None),
        (expects(header("Via"), Matching::Equals("b".into()), true), Some("its header Via is \"b\"")),
        (there("Via", false), None),
        (there("Via", true), Some("there is a header Via")),
        (there("X-Other", true), None),
        (there("X-Other", false), Some("there is no header X-Other")),
        (expects(HttpSubject::Body, digest(0x5d), false), None),
        (
            expects(HttpSubject::Body, digest(0), false),
            Some("the body has the MD5 digest 5d41402abc4b2a76b9719d911017c592"),
        ),
    ] {
        let mut probe = http(server.address, None);
        probe.requests[0].expect = expect.clone();
        let outcome = match wanted {
            None => Outcome::success("status 200"),
            Some(wanted) => Outcome::failure(format!("status 200, but {wanted}")),
        };
        assert_eq!(ask(&probe).await, outcome, "{expect:?}");
    }
}

#[tokio::test]
async fn one_request_after_another_goes_over_one_connection_and_all_must_be_good() {
    let server =
        server(None, |head| if head.contains(" /b ") { reply(503, "") } else { reply(200, "") }).await;
    let mut probe = http(server.address, None);
    probe.requests = ["/a", "/c"].map(HttpRequest::get).to_vec();
    assert_eq!(ask(&probe).await, Outcome::success("status 200, status 200"));
    assert_eq!(server.accepted.load(Ordering::SeqCst), 1);
    probe.requests.push(HttpRequest::get("/b"));
    assert_eq!(ask(&probe).await, Outcome::failure("/b: status 503, expected 200-299"));
}

#[tokio::test]
async fn a_body_headers_and_the_old_version_are_sent_as_they_were_written() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        let mut buffer = [0; 1024];
        while !heard.ends_with(b"a=1") {
            let length = stream.read(&mut buffer).await.unwrap();
            heard.extend_from_slice(&buffer[..length]);
        }
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nbye").await.unwrap();
        String::from_utf8(heard).unwrap()
    });
    let mut probe = http(address, None);
    let request = &mut probe.requests[0];
    request.method = "POST".into();
    request.version = HttpVersion::V10;
    request.headers = [("X-One", "1"), ("X-One", "2"), ("User-Agent", "me")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    request.body = Some("a=1".into());
    assert_eq!(ask(&probe).await, Outcome::success("status 200"));
    let heard = heard.await.unwrap().to_ascii_lowercase();
    assert!(heard.starts_with("post /health?full=1 http/1.0\r\n"), "{heard}");
    assert!(!heard.contains("\r\nhost:"), "{heard}");
    for header in ["x-one: 1", "x-one: 2", "user-agent: me", "content-length: 3"] {
        assert!(heard.contains(&format!("\r\n{header}\r\n")), "{header}: {heard}");
    }
}

#[tokio::test]
async fn a_megabyte_of_headers_is_not_read() {
    let mut octets = b"HTTP/1.1 200 OK\r\n".to_vec();
    for _ in 0..1000 {
        octets.extend(format!("X: {}\r\n", "x".repeat(1000)).bytes());
    }
    octets.extend(b"Content-Length: 0\r\n\r\n");
    let server = server(None, move |_| Reply::OctetsAndClose(octets.clone())).await;
    let outcome = ask(&http(server.address, None)).await;
    assert_eq!(outcome, Outcome::failure("the head of the answer is larger than 64 KiB"));
}

#[tokio::test]
async fn an_expired_certificate_is_named_and_is_a_finding_where_nothing_is_verified() {
    let authority = Authority::new();
    let acceptor = authority.server_until(&["127.0.0.1"], false, (2020, 1, 1));
    let server = server(Some(acceptor), |_| reply(200, "ok")).await;
    assert_eq!(
        ask(&http(server.address, Some(authority.tls(None)))).await,
        Outcome::failure("certificate not trusted: it has expired")
    );
    let tls = Tls { ca_file: None, insecure: true, ..Tls::default() };
    let outcome = check(&http(server.address, Some(tls))).probe(LONG).await;
    assert!(outcome.success);
    let findings = outcome.findings.unwrap();
    assert!(findings.len() == 1 && findings[0].starts_with("certificate has expired "), "{findings:?}");
}

#[tokio::test]
async fn a_vip_that_the_certificate_is_not_for_is_a_finding_at_each_handshake() {
    let authority = Authority::new();
    let server =
        server(Some(authority.server(&["127.0.0.1", "10.0.0.100"], false)), |_| reply(200, "ok")).await;
    let probe = http(server.address, Some(authority.tls(None)));
    let vips = ["10.0.0.100", "10.0.0.101"].map(|vip| vip.parse().unwrap());
    let mut check = HttpCheck::new(&probe, &Dial::default(), &vips).unwrap();
    let findings = Some(vec!["certificate is not for 10.0.0.101".to_owned()]);
    assert_eq!(check.probe(LONG).await, Outcome { findings, ..Outcome::success("status 200") });
    // Nothing new on a kept connection.
    assert_eq!(check.probe(LONG).await, Outcome::success("status 200"));
}

#[tokio::test]
async fn any_name_will_do_where_only_the_authority_counts() {
    let (ours, theirs) = (Authority::new(), Authority::named("other"));
    let server = server(Some(ours.server(&["somebody"], false)), |_| reply(200, "ok")).await;
    let any_name = |authority: &Authority| Some(Tls { any_name: true, ..authority.tls(None) });
    assert!(ask(&http(server.address, any_name(&ours))).await.success);
    assert_eq!(
        ask(&http(server.address, any_name(&theirs))).await,
        Outcome::failure("certificate not trusted: unknown issuer")
    );
}

#[tokio::test]
async fn a_proxy_header_a_source_and_its_port_go_first() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let free = TcpListener::bind("127.0.0.2:0").await.unwrap().local_addr().unwrap().port();
    let heard = tokio::spawn(async move {
        let mut all = Vec::new();
        for _ in 0..2 {
            let (mut stream, from) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let mut heard = Vec::new();
            while !heard.ends_with(b"\r\n\r\n") || heard.len() < 17 {
                let length = stream.read(&mut buffer).await.unwrap();
                heard.extend_from_slice(&buffer[..length]);
            }
            stream.write_all(b"HTTP/1.1 204 X\r\nConnection: close\r\n\r\n").await.unwrap();
            all.push((from, heard));
        }
        all
    });
    let dial = |send_proxy| Dial {
        source: Some([127, 0, 0, 2].into()),
        source_port: Some(free),
        send_proxy: Some(send_proxy),
        ..Dial::default()
    };
    use config::ready::ProxyVersion::{V1, V2};
    for version in [V1, V2] {
        let mut check = HttpCheck::new(&http(address, None), &dial(version), &[]).unwrap();
        assert_eq!(check.probe(LONG).await, Outcome::success("status 204"));
    }
    let heard = heard.await.unwrap();
    assert!(heard.iter().all(|(from, _)| *from == SocketAddr::from(([127, 0, 0, 2], free))), "{heard:?}");
    let first = format!("PROXY TCP4 127.0.0.2 127.0.0.1 {free} {}\r\nGET ", address.port());
    assert!(heard[0].1.starts_with(first.as_bytes()), "{}", heard[0].1.escape_ascii());
    assert!(
        heard[1].1.starts_with(b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00GET "),
        "{}",
        heard[1].1.escape_ascii()
    );
}

#[tokio::test]
async fn a_source_that_is_not_ours_is_named() {
    let dial = Dial { source: Some("192.0.2.1".parse().unwrap()), ..Dial::default() };
    let mut check = HttpCheck::new(&http("127.0.0.1:1".parse().unwrap(), None), &dial, &[]).unwrap();
    assert_eq!(check.probe(LONG).await, Outcome::failure("source 192.0.2.1 is no address of this host"));
}
