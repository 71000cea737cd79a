//! A name server in the test's hands, which packs its answers by RFC 1035 §4 on its own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use config::ready::{Check, Control, Discovery, Lookup, Probe, Target};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::*;
use crate::forward::tests::bench;
use crate::observe::event::Event;

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

/// What is answered to a question.
#[derive(Clone)]
enum Says {
    Records(u32, Vec<Vec<u8>>),
    Code(u8),
    Nothing,
}

type Zone = Arc<Mutex<HashMap<(String, u16), Says>>>;

fn packed(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| {
        let length = u8::try_from(label.len()).unwrap();
        std::iter::once(length).chain(label.bytes())
    });
    labels.chain([0]).collect()
}

fn v4(address: &str) -> Vec<u8> {
    address.parse::<std::net::Ipv4Addr>().unwrap().octets().to_vec()
}

fn v6(address: &str) -> Vec<u8> {
    address.parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec()
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Vec<u8> {
    let numbers = [priority, weight, port].into_iter().flat_map(u16::to_be_bytes);
    numbers.chain(packed(target)).collect()
}

fn answer(query: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    // One question behind 12 bytes.
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8(query[at + 1..end].to_vec()).unwrap());
        at = end;
    }
    let end = at + 5;
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let says = zone.lock().unwrap().get(&(labels.join(".").to_lowercase(), kind)).cloned();
    let (code, ttl, records) = match says {
        Some(Says::Records(ttl, records)) => (0, ttl, records),
        Some(Says::Code(code)) => (code, 0, Vec::new()),
        Some(Says::Nothing) => return None,
        None => (3, 0, Vec::new()),
    };
    let count = u8::try_from(records.len()).unwrap();
    let mut bytes = [&query[..2], &[0x85, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0], &query[12..end]].concat();
    for record in records {
        bytes.extend([0xc0, 12]);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1]);
        bytes.extend(ttl.to_be_bytes());
        bytes.extend(u16::try_from(record.len()).unwrap().to_be_bytes());
        bytes.extend(record);
    }
    Some(bytes)
}

struct Server {
    zone: Zone,
    address: SocketAddr,
}

impl Server {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, zone) = (socket.local_addr().unwrap(), Zone::default());
        let served = zone.clone();
        tokio::spawn(async move {
            let mut query = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                if let Some(bytes) = answer(&query[..length], &served) {
                    socket.send_to(&bytes, from).await.unwrap();
                }
            }
        });
        Self { zone, address }
    }

    fn say(&self, name: &str, kind: u16, says: Says) {
        self.zone.lock().unwrap().insert((name.to_owned(), kind), says);
    }

    fn records(&self, name: &str, kind: u16, ttl: u32, records: &[Vec<u8>]) {
        self.say(name, kind, Says::Records(ttl, records.to_vec()));
    }

    async fn find(&self, lookup: &Lookup) -> Result<(Vec<String>, u64), String> {
        let found = Source::Server(self.address).look_up(lookup).await?;
        let mut addresses: Vec<_> = found.servers.iter().map(|server| server.address.to_string()).collect();
        addresses.sort();
        Ok((addresses, found.ttl.as_secs()))
    }
}

fn host(name: &str) -> Lookup {
    Lookup::Host(Target { host: name.into(), port: 2379 })
}

#[tokio::test]
async fn all_addresses_of_a_name_are_found_with_the_shortest_ttl() {
    let server = Server::start().await;
    server.records("etcd.test", A, 60, &[v4("192.0.2.1"), v4("192.0.2.2")]);
    server.records("etcd.test", AAAA, 30, &[v6("2001:db8::1")]);
    let (addresses, ttl) = server.find(&host("etcd.test.")).await.unwrap();
    assert_eq!(addresses, ["192.0.2.1:2379", "192.0.2.2:2379", "[2001:db8::1]:2379"]);
    assert_eq!(ttl, 30);
    server.say("etcd.test", AAAA, Says::Records(0, Vec::new()));
    assert_eq!(server.find(&host("etcd.test.")).await.unwrap().0.len(), 2);
}

#[tokio::test]
async fn what_cannot_be_found_says_why() {
    let server = Server::start().await;
    let error = |text: &str| Err(text.to_owned());
    assert_eq!(server.find(&host("no.test.")).await, error("there is no such name (NXDOMAIN)"));
    server.say("empty.test", A, Says::Records(0, Vec::new()));
    server.say("empty.test", AAAA, Says::Records(0, Vec::new()));
    assert_eq!(server.find(&host("empty.test.")).await, error("the name has no such records"));
    server.say("broken.test", A, Says::Code(2));
    server.say("broken.test", AAAA, Says::Code(2));
    let said = server.find(&host("broken.test.")).await.unwrap_err();
    assert!(said.starts_with("the name servers answer "), "{said}");
    server.records("odd.test", A, 60, &[v4("0.0.0.0"), v4("224.0.0.1"), v4("255.255.255.255")]);
    let said = server.find(&host("odd.test.")).await.unwrap_err();
    assert!(!said.is_empty());
}

#[tokio::test]
async fn a_service_gives_ports_weights_and_priorities() {
    let server = Server::start().await;
    let service = Lookup::Service("_etcd-client._tcp.test.".into());
    server.records(
        "_etcd-client._tcp.test",
        SRV,
        60,
        &[srv(10, 5, 2379, "a.test"), srv(10, 1, 2380, "b.test"), srv(20, 0, 2379, "c.test")],
    );
    for (name, address) in [("a.test", "192.0.2.1"), ("b.test", "192.0.2.2"), ("c.test", "192.0.2.3")] {
        server.records(name, A, 20, &[v4(address)]);
    }
    let found = Source::Server(server.address).look_up(&service).await.unwrap();
    assert_eq!(found.ttl, Duration::from_secs(20));
    let of = |server: &super::Server| {
        (server.address.to_string(), server.host.clone(), server.priority, server.weight.unwrap())
    };
    let mut servers: Vec<_> = found.servers.iter().map(of).collect();
    servers.sort();
    let wanted = [
        ("192.0.2.1:2379", "a.test", 10, 5),
        ("192.0.2.2:2380", "b.test", 10, 1),
        ("192.0.2.3:2379", "c.test", 20, 0),
    ];
    assert_eq!(servers, wanted.map(|(address, host, p, w)| (address.to_owned(), host.to_owned(), p, w)));
    // One that is not found does not keep the others away; without any it says which.
    server.say("b.test", A, Says::Code(3));
    assert_eq!(server.find(&service).await.unwrap().0.len(), 2);
    server.records("_etcd-client._tcp.test", SRV, 60, &[srv(10, 5, 2379, "d.test")]);
    let said = server.find(&service).await.unwrap_err();
    assert_eq!(said, "d.test: there is no such name (NXDOMAIN)");
    server.records("_etcd-client._tcp.test", SRV, 60, &[[&[0; 6][..], &[0]].concat()]);
    assert_eq!(server.find(&service).await.unwrap_err(), "the answer names no server");
}

fn config(from: Lookup) -> Config {
    let check = Check {
        name: "x".into(),
        place: bench::place(1),
        probe: Probe::Tcp { target: Target::placeholder() },
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        rise: 1,
        fall: 1,
        first_result_decides: false,
        pace: config::ready::Pace::default(),
        dial: config::ready::Dial::default(),
        vips: Vec::new(),
    };
    let template = bench::backend("etcd", ([0, 0, 0, 0], 1).into());
    let mut listener = bench::listener(vec![]);
    listener.discovered = vec![Discovery { template, from, check: Some(check) }];
    Config { listeners: vec![listener], ..empty() }
}

fn empty() -> Config {
    let control = Control { socket: "/run/test.sock".into(), metrics: None, web: None };
    Config::empty("test".to_owned(), control)
}

fn names(server: &Server) -> (Names, mpsc::Receiver<Event>) {
    let (sender, events) = EventSender::channel(100);
    (Names::new(Source::Server(server.address), sender), events)
}

fn backends(names: &Names, config: &Config) -> Vec<String> {
    names.effective(config).listeners[0].backends.iter().map(|backend| backend.name.clone()).collect()
}

#[tokio::test]
async fn backends_come_and_go_with_the_answers_and_stay_when_there_is_none() {
    let server = Server::start().await;
    let (names, mut events) = names(&server);
    let config = config(host("etcd.test."));
    assert!(backends(&names, &config).is_empty());
    names.follow(&config);
    // Nothing yet: the listener has no backend, and says why.
    let Kind::Notice { text } = bench::soon("a notice", events.recv()).await.unwrap().kind else { panic!() };
    assert_eq!(
        text,
        "etcd.test.:2379 cannot be looked up: there is no such name (NXDOMAIN); \
         it has no backends until it is found"
    );
    let status = || names.status(&config.listeners[0]).remove(0);
    assert_eq!(status().error.as_deref(), Some("there is no such name (NXDOMAIN)"));
    assert!(backends(&names, &config).is_empty());

    server.records("etcd.test", A, 0, &[v4("192.0.2.2"), v4("192.0.2.1")]);
    bench::soon("the first answer", names.changed()).await;
    assert_eq!(backends(&names, &config), ["etcd/192.0.2.1:2379", "etcd/192.0.2.2:2379"]);
    assert_eq!((status().error, status().addresses.len()), (None, 2));
    let effective = names.effective(&config);
    assert_eq!(effective.listeners[0].backends[0].checks, ["api/etcd/192.0.2.1:2379"]);
    assert_eq!(effective.checks[1].name, "api/etcd/192.0.2.2:2379");
    assert_eq!(effective.checks[1].probe.target().unwrap().to_string(), "192.0.2.2:2379");

    server.records("etcd.test", A, 0, &[v4("192.0.2.3"), v4("192.0.2.2")]);
    bench::soon("another answer", names.changed()).await;
    assert_eq!(backends(&names, &config), ["etcd/192.0.2.2:2379", "etcd/192.0.2.3:2379"]);

    // Empty, then broken: what is known stays.
    server.records("etcd.test", A, 0, &[]);
    bench::until("the failure is known", || status().error.is_some()).await;
    assert_eq!(backends(&names, &config).len(), 2);
    assert_eq!(status().addresses.len(), 2);

    // A reload with the same name keeps it; one without forgets it.
    names.follow(&config);
    assert_eq!(backends(&names, &config).len(), 2);
    names.follow(&empty());
    assert!(backends(&names, &config).is_empty());
}

#[tokio::test]
async fn one_family_that_fails_keeps_what_it_had() {
    let server = Server::start().await;
    let (names, _events) = names(&server);
    let config = config(host("etcd.test."));
    server.records("etcd.test", A, 0, &[v4("192.0.2.1")]);
    server.records("etcd.test", AAAA, 0, &[v6("2001:db8::1")]);
    names.follow(&config);
    bench::soon("the first answer", names.changed()).await;
    server.say("etcd.test", AAAA, Says::Code(2));
    server.records("etcd.test", A, 0, &[v4("192.0.2.2")]);
    bench::soon("another answer", names.changed()).await;
    assert_eq!(backends(&names, &config), ["etcd/192.0.2.2:2379", "etcd/[2001:db8::1]:2379"]);
}

#[tokio::test]
async fn the_same_answer_in_another_order_changes_nothing() {
    let server = Server::start().await;
    let (names, _events) = names(&server);
    let config = config(host("etcd.test."));
    server.records("etcd.test", A, 0, &[v4("192.0.2.1"), v4("192.0.2.2")]);
    names.follow(&config);
    bench::soon("the first answer", names.changed()).await;
    let answered = || names.status(&config.listeners[0])[0].answered;
    let first = answered();
    server.records("etcd.test", A, 0, &[v4("192.0.2.2"), v4("192.0.2.1")]);
    bench::until("it was looked up again", || answered() != first).await;
    bench::until("and again", || answered().is_some()).await;
    let changed = tokio::time::timeout(Duration::from_millis(10), names.changed()).await;
    assert!(changed.is_err(), "no reload for an order");
}

#[test]
fn servers_of_a_higher_priority_number_are_backups_and_weights_are_those_of_the_service() {
    let config = config(Lookup::Service("_etcd._tcp.test".into()));
    let server = |last: u8, priority, weight| super::Server {
        address: ([192, 0, 2, last], 2379).into(),
        host: "a.test".into(),
        priority,
        weight: Some(weight),
    };
    let of = |servers: Vec<super::Server>| {
        let effective = effective::of(&config, |_| servers.clone());
        let backends = &effective.listeners[0].backends;
        backends.iter().map(|backend| (backend.weight, backend.policy.backup)).collect::<Vec<_>>()
    };
    let servers = vec![server(1, 10, 5), server(2, 10, 0), server(3, 20, 7)];
    assert_eq!(of(servers), [(5, false), (1, false), (7, true)]);
    assert_eq!(of(vec![server(1, 0, 0), server(2, 0, 0)]), [(1, false), (1, false)]);
}

#[tokio::test]
async fn a_name_server_that_is_silent_is_an_error_too() {
    let server = Server::start().await;
    server.say("slow.test", A, Says::Nothing);
    server.say("slow.test", AAAA, Says::Nothing);
    let said = bench::soon("the end of the wait", server.find(&host("slow.test."))).await.unwrap_err();
    assert!(said.contains("name server"), "{said}");
}
