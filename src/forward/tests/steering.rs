//! Where sessions go: persistence, backups, orders of an operator, what sessions say of a backend, quorum.

use std::time::{Duration, Instant};

use config::ready::{Command, NoBackend, Observe, Persistence, Quorum};
use tokio::io::AsyncWriteExt;

use super::bench::*;
use super::trouble::{hanging, named, who};
use crate::check::Pulse;
use crate::forward::orders::Order;
use crate::observe::event::{Health, Kind};
use crate::observe::status::Admin;

async fn two() -> [config::ready::Backend; 2] {
    let ((a, first), (b, second)) = (serve().await, serve().await);
    named(b'a', a);
    named(b'b', b);
    [checked("a", first), checked("b", second)]
}

async fn next_change(bench: &mut Bench) -> (String, Health, String) {
    loop {
        if let Kind::Backend { backend, to, detail, .. } = bench.next_event().await {
            return (backend, to, detail);
        }
    }
}

fn order(bench: &Bench, name: &str, order: Order) -> String {
    bench.forward.order(name, order).unwrap()
}

fn writes(file: &std::path::Path, word: &str) -> Option<Box<Command>> {
    let text = format!("echo {word} >> {}", file.display());
    Some(Box::new(Command {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), text],
        user: None,
        place: place(1),
    }))
}

fn written(file: &std::path::Path) -> Vec<String> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_client_comes_again_to_the_backend_that_it_had_as_long_as_that_is_up() {
    let mut config = listener(two().await.to_vec());
    let minute = Duration::from_secs(60);
    config.policy.persistence = Some(Persistence { timeout: minute, ipv4_prefix: 32, ipv6_prefix: 128 });
    let mut bench = Bench::start(config.clone()).await;
    bench.call("a", Health::Up).await;
    bench.call("b", Health::Up).await;
    let first = who(&bench).await;
    assert_eq!([who(&bench).await, who(&bench).await], [first; 2]);
    let (its, other) = if first == b'a' { ("a", b'b') } else { ("b", b'a') };
    // Weight 0 stops new clients, not those that come again; so it does over a reload that changes the listener.
    order(&bench, its, Order::Weight(0));
    config.connect_timeout = Duration::from_secs(1);
    bench.reload(&[config]).await.unwrap();
    assert_eq!([who(&bench).await, who(&bench).await], [first; 2]);
    // Drain stops both.
    order(&bench, its, Order::Drain);
    assert_eq!([who(&bench).await, who(&bench).await], [other; 2]);
    order(&bench, its, Order::Ready);
    assert_eq!(who(&bench).await, other, "it has another one now");
    let now = if other == b'a' { "a" } else { "b" };
    order(&bench, its, Order::Weight(1));
    bench.call(now, Health::Down).await;
    assert_eq!(who(&bench).await, first);
}

#[tokio::test]
async fn source_sends_a_client_to_the_same_backend_every_time() {
    let mut config = listener(two().await.to_vec());
    config.balance = config::ready::Balance::Source;
    let bench = Bench::start(config).await;
    let first = who(&bench).await;
    for _ in 0..5 {
        assert_eq!(who(&bench).await, first);
    }
}

#[tokio::test]
async fn backups_serve_while_no_other_is_up_and_may_lose_their_sessions_then() {
    let mut config = listener(two().await.to_vec());
    config.backends[1].policy.backup = true;
    config.policy.close_backup_sessions = true;
    let bench = Bench::start(config).await;
    bench.call("b", Health::Up).await;
    assert_eq!(who(&bench).await, b'a', "one that has said nothing yet is better than a backup");
    bench.call("a", Health::Down).await;
    assert_eq!([who(&bench).await, who(&bench).await], *b"bb");
    until("those have ended", || bench.status().sessions == 0).await;
    let mut client = bench.connect().await;
    bench.established(1).await;
    bench.call("a", Health::Up).await;
    assert_eq!(read_out(&mut client).await.1, Ending::Reset);
    assert_eq!(who(&bench).await, b'a');
}

#[tokio::test]
async fn a_backend_with_several_checks_is_down_while_one_is() {
    let mut config = listener(two().await.to_vec());
    config.backends[0].checks = vec!["first".into(), "second".into()];
    config.backends[1].checks = Vec::new();
    let bench = Bench::start(config).await;
    let health = || bench.status().backends[0].health;
    bench.say("first", Health::Up, "fine");
    bench.say("second", Health::Down, "not so fine");
    until("one is down", || health() == Health::Down).await;
    assert_eq!(bench.status().backends[0].detail, "not so fine");
    assert_eq!([who(&bench).await, who(&bench).await], *b"bb");
    bench.say("first", Health::Down, "neither");
    bench.say("second", Health::Up, "better");
    until("the other is down", || bench.status().backends[0].detail == "neither").await;
    assert_eq!(health(), Health::Down);
    bench.say("first", Health::Up, "fine");
    until("none is down", || health() == Health::Up).await;
}

#[tokio::test]
async fn down_at_start_is_down_until_the_check_has_spoken() {
    let mut config = listener(two().await.to_vec());
    config.backends[0].policy.down_at_start = true;
    config.backends.truncate(1);
    let bench = Bench::start(config).await;
    assert!(bench.status().refuses);
    bench.turned_away().await;
    bench.call("a", Health::Up).await;
    assert_eq!(who(&bench).await, b'a');
}

#[tokio::test]
async fn inhibited_on_failure_a_backend_keeps_its_sessions_and_gets_none() {
    let mut config = listener(two().await.to_vec());
    config.backends[0].policy.inhibit_on_failure = true;
    let bench = Bench::start(config).await;
    bench.call("b", Health::Down).await;
    let mut client = bench.connect().await;
    bench.established(1).await;
    bench.call("a", Health::Down).await;
    bench.turned_away().await;
    bench.call("b", Health::Up).await;
    assert_eq!([who(&bench).await, who(&bench).await], *b"bb");
    client.write_all(b"!").await.unwrap();
    assert_eq!(read_out(&mut client).await, (Bytes(b"a".to_vec()), Ending::Fin));
}

#[tokio::test]
async fn with_no_backend_try_all_what_the_checks_say_is_not_believed() {
    let mut config = listener(two().await.to_vec());
    config.policy.no_backend = NoBackend::TryAll;
    let bench = Bench::start(config).await;
    bench.call("a", Health::Down).await;
    assert_eq!([who(&bench).await, who(&bench).await], *b"bb");
    bench.call("b", Health::Down).await;
    let mut got = [who(&bench).await, who(&bench).await];
    got.sort_unstable();
    assert_eq!(got, *b"ab");
    order(&bench, "a", Order::Maint);
    assert_eq!([who(&bench).await, who(&bench).await], *b"bb", "maintenance is meant");
}

#[tokio::test]
async fn a_drained_backend_keeps_its_sessions_and_says_how_many_are_left_also_after_a_reload() {
    let mut config = listener(two().await.to_vec());
    let mut bench = Bench::start(config.clone()).await;
    let (first, second) = (bench.connect().await, bench.connect().await);
    bench.established(2).await;
    assert_eq!(order(&bench, "a", Order::Drain), "backend api/a drains: no new sessions; 1 session is left");
    let Kind::Ordered { order: told, .. } = bench.next_event().await else { panic!("the order is told") };
    assert_eq!(told, "drains: no new sessions; 1 session is left");
    assert_eq!([who(&bench).await, who(&bench).await], *b"bb");
    config.backends[0].weight = 7;
    config.backends.reverse();
    bench.reload(&[config.clone()]).await.unwrap();
    let status = bench.status();
    let a = status.backends.iter().find(|b| b.name == "a").unwrap();
    assert_eq!((a.admin, a.sessions, a.weight, a.effective_weight), (Admin::Drain, 1, 7, 0));
    assert!(a.admin_since.is_some());
    assert_eq!([who(&bench).await, who(&bench).await], *b"bb");
    let mut before = Vec::new();
    for mut session in [first, second] {
        session.write_all(b"!").await.unwrap();
        before.push(read_out(&mut session).await);
    }
    // Two loops may take them in either order.
    before.sort_by_key(|(Bytes(bytes), _)| bytes.clone());
    assert_eq!(before, [(Bytes(b"a".to_vec()), Ending::Fin), (Bytes(b"b".to_vec()), Ending::Fin)]);
    // Forgotten with the name.
    config.backends.truncate(1);
    bench.reload(&[config.clone()]).await.unwrap();
    config.backends.push(two().await[0].clone());
    bench.reload(&[config]).await.unwrap();
    assert_eq!(bench.status().backends[1].admin, Admin::Ready);
}

#[tokio::test]
async fn a_backend_in_maintenance_loses_its_sessions_and_gets_none_whatever_its_check_says() {
    let mut config = listener(two().await.to_vec());
    config.backends[1].policy.maint = true;
    let bench = Bench::start(config).await;
    assert_eq!(bench.status().backends[1].admin, Admin::Maint);
    let mut client = bench.connect().await;
    bench.established(1).await;
    assert_eq!(
        order(&bench, "api/a", Order::Maint),
        "backend api/a is in maintenance: no sessions; 1 session closed"
    );
    assert_eq!(read_out(&mut client).await.1, Ending::Reset);
    bench.call("a", Health::Up).await;
    bench.turned_away().await;
    assert_eq!(order(&bench, "b", Order::Ready), "backend api/b is ready; its health is unknown");
    assert_eq!(who(&bench).await, b'b');
    let unknown = bench.forward.order("c", Order::Ready).unwrap_err();
    assert_eq!(unknown.to_string(), "there is no backend c; there are api/a, api/b");
}

#[tokio::test]
async fn a_weight_is_changed_at_run_time() {
    let bench = Bench::start(listener(two().await.to_vec())).await;
    assert_eq!(order(&bench, "a", Order::Weight(3)), "backend api/a has weight 3 (configured: 1)");
    let mut got = Vec::new();
    for _ in 0..8 {
        got.push(who(&bench).await);
    }
    assert_eq!(got.iter().filter(|name| **name == b'a').count(), 6, "{got:?}");
    assert_eq!(order(&bench, "a", Order::Weight(1)), "backend api/a has weight 1, as configured");
}

#[tokio::test]
async fn the_share_of_a_backend_that_is_back_grows() {
    let mut config = listener(two().await.to_vec());
    config.backends.iter_mut().for_each(|backend| backend.weight = 100);
    config.policy.slow_start = Duration::from_secs(3600);
    let bench = Bench::start(config).await;
    let weight = || bench.status().backends[0].effective_weight;
    bench.call("a", Health::Up).await;
    bench.call("b", Health::Up).await;
    assert_eq!(weight(), 100, "not at the start");
    bench.call("a", Health::Down).await;
    bench.call("a", Health::Up).await;
    assert_eq!(weight(), 1);
    assert!(bench.status().backends[0].slow_start.unwrap() > Duration::from_secs(3500));
    for _ in 0..10 {
        assert_eq!(who(&bench).await, b'b');
    }
}

#[tokio::test]
async fn connects_that_fail_in_a_row_bring_a_backend_down_until_its_time_is_over() {
    let mut config = listener(two().await.to_vec());
    config.backends[0] = backend("a", refusing().await);
    config.backends[1].checks.clear();
    config.policy.observe = Some(Observe { error_limit: 3, down_for: Duration::from_millis(300) });
    let mut bench = Bench::start(config).await;
    for _ in 0..6 {
        assert_eq!(who(&bench).await, b'b');
    }
    let (name, to, detail) = next_change(&mut bench).await;
    assert_eq!((name.as_str(), to), ("a", Health::Down));
    assert!(detail.ends_with("connects in a row failed"), "{detail}");
    let errors = bench.status().backends[0].connect_errors;
    assert!(bench.status().backends[0].observed.is_some());
    assert_eq!(who(&bench).await, b'b');
    assert_eq!(bench.status().backends[0].connect_errors, errors, "it is left alone");
    let (name, to, _) = next_change(&mut bench).await;
    assert_eq!((name.as_str(), to), ("a", Health::Up));
}

#[tokio::test]
async fn resets_before_the_first_byte_bring_a_backend_down_and_its_check_brings_it_back() {
    let (socket, address) = serve().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            reset(stream);
        }
    });
    let mut config = listener(vec![checked("a", address)]);
    config.policy.observe = Some(Observe { error_limit: 3, down_for: Duration::from_secs(1) });
    let mut bench = Bench::start(config).await;
    let pulse = |runs, good| bench.pulses["a"].send_replace(Pulse { runs, good, rise: 2 });
    pulse(10, 10);
    bench.call("a", Health::Up).await;
    for _ in 0..3 {
        bench.turned_away().await;
    }
    until("it is down", || bench.status().backends[0].health == Health::Down).await;
    // What was good before says nothing, and one good result is not enough.
    pulse(11, 11);
    until("nobody believes it", || bench.status().backends[0].observed.is_some()).await;
    pulse(12, 12);
    until("it is back", || bench.status().backends[0].health == Health::Up).await;
    let changes =
        [next_change(&mut bench).await, next_change(&mut bench).await, next_change(&mut bench).await];
    assert_eq!(changes.clone().map(|change| change.1), [Health::Up, Health::Down, Health::Up]);
    assert_eq!(changes[1].2, "3 sessions in a row were reset before its first byte");
}

#[tokio::test]
async fn a_backend_that_answers_no_connect_is_down_within_6_s_though_its_check_still_waits() {
    let (address, _queue, _held) = hanging().await;
    let mut config = listener(two().await.to_vec());
    config.backends[0].address = address;
    let mut bench = Bench::start(config).await;
    for name in ["a", "b"] {
        bench.call(name, Health::Up).await;
        next_change(&mut bench).await;
    }
    let silent = Instant::now();
    assert_eq!([who(&bench).await, who(&bench).await], *b"bb");
    let (name, to, detail) = next_change(&mut bench).await;
    assert_eq!((name.as_str(), to), ("a", Health::Down));
    assert!(detail.starts_with("no answer to a connect for 4."), "{detail}");
    assert!(silent.elapsed() < Duration::from_secs(6), "{:?}", silent.elapsed());
}

#[tokio::test]
async fn a_check_that_passes_keeps_a_slow_backend_up() {
    let (address, _queue, _held) = hanging().await;
    let mut config = listener(two().await.to_vec());
    config.backends[0].address = address;
    let bench = Bench::start(config).await;
    bench.call("a", Health::Up).await;
    let mut runs = 0;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) {
        assert_eq!(who(&bench).await, b'b');
        runs += 1;
        bench.pulses["a"].send_replace(Pulse { runs, good: 1, rise: 1 });
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(bench.status().backends[0].health, Health::Up);
}

#[tokio::test]
async fn after_a_return_the_idlest_sessions_of_the_overfull_are_closed_and_no_more() {
    let mut config = listener(two().await.to_vec());
    config.balance = config::ready::Balance::LeastConn;
    config.policy.rebalance = Some(100);
    let bench = Bench::start(config).await;
    bench.call("a", Health::Up).await;
    bench.call("b", Health::Down).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(bench.connect().await);
    }
    bench.established(6).await;
    bench.call("b", Health::Up).await;
    until("three are closed", || bench.status().sessions == 3).await;
    let closed = futures_util::future::join_all(clients.iter_mut().map(|client| async {
        tokio::time::timeout(Duration::from_millis(1500), read_out(client)).await.is_ok()
    }));
    assert_eq!(closed.await.into_iter().filter(|closed| *closed).count(), 3);
    assert_eq!(bench.status().ended.get("closed"), 3);
}

#[tokio::test]
async fn a_quorum_is_told_and_acted_on_and_so_are_backends() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("log");
    let mut config = listener(two().await.to_vec());
    config.backends[0].policy.notify_down = writes(&file, "a-down");
    config.backends[0].policy.notify_up = writes(&file, "a-up");
    config.policy.quorum = Some(Quorum {
        least: 2,
        hysteresis: 0,
        up: writes(&file, "up"),
        down: writes(&file, "down"),
        at_end: true,
    });
    let (backup, address) = serve().await;
    named(b'c', backup);
    config.backends.push(backend("c", address));
    config.backends[2].policy.backup = true;
    let mut bench = Bench::start(config).await;
    bench.call("a", Health::Up).await;
    bench.call("b", Health::Up).await;
    bench.call("a", Health::Down).await;
    // b alone is not enough: the backup serves, as keepalived's sorry server does.
    assert_eq!([who(&bench).await, who(&bench).await], *b"cc");
    bench.call("a", Health::Up).await;
    assert_ne!(who(&bench).await, b'c');
    let mut told = Vec::new();
    while told.len() < 3 {
        if let Kind::Quorum { reached, weight, least: 2, .. } = bench.next_event().await {
            told.push((reached, weight));
        }
    }
    assert_eq!(told, [(true, 2), (false, 1), (true, 2)]);
    bench.forward.stop().await;
    let wanted = ["up", "a-down", "down", "a-up", "up", "a-down", "down"];
    let mut got = written(&file);
    let mut sorted = wanted.map(str::to_owned).to_vec();
    // They are started in this order, and never waited for.
    got.sort();
    sorted.sort();
    assert_eq!(got, sorted);
}
