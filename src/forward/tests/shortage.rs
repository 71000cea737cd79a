//! Out of file descriptors: nobody spins, nothing breaks, and it goes on by itself.

use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::bench::*;
use crate::observe::event::Kind;

#[test]
fn out_of_descriptors_the_forwarder_neither_spins_nor_stops() {
    in_a_process_of_its_own(
        "shortage::out_of_descriptors_the_forwarder_neither_spins_nor_stops",
        few_descriptors(),
    );
}

async fn few_descriptors() {
    let (socket, address) = serve().await;
    let mut config = listener(vec![backend("a", address)]);
    config.max_sessions = 10_000;
    let mut bench = Bench::start(config).await;
    let Kind::Notice { text } = bench.next_event().await else { panic!("too few for 10 000 sessions") };
    assert!(text.contains("max_sessions need 20128 descriptors"), "{text}");

    let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // Room for one session and its two peers in this process, and for little more.
    setrlimit(Resource::RLIMIT_NOFILE, used + 6, hard).unwrap();
    let mut clients = Vec::new();
    while let Ok(client) = TcpStream::connect(bench.address()).await {
        clients.push(client);
    }
    until("accepting fails", || bench.status().accept_errors > 0).await;

    let (errors, cpu, started) = (bench.status().accept_errors, cpu(), Instant::now());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (errors, cpu) = (bench.status().accept_errors - errors, self::cpu() - cpu);
    assert!(errors <= 20, "{errors} attempts in {:?}", started.elapsed());
    assert!(cpu < Duration::from_millis(300), "{cpu:?} of processor time in {:?}", started.elapsed());
    let Kind::Notice { text } = bench.next_event().await else { panic!("it is said") };
    assert!(text.contains("Too many open files") && text.contains("raise LimitNOFILE="), "{text}");

    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    drop(clients);
    let mut client = bench.connect().await;
    client.write_all(b"!").await.unwrap();
    client.shutdown().await.unwrap();
    soon("accepting goes on", async {
        loop {
            // Those that waited in the queue come first, and have gone already.
            let (mut stream, _) = socket.accept().await.unwrap();
            if read_out(&mut stream).await.0 == b"!" {
                return;
            }
        }
    })
    .await;
    assert_eq!(read_out(&mut client).await.1, Ending::Fin);
}

fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let time = |t: nix::sys::time::TimeVal| {
        Duration::from_micros(u64::try_from(t.tv_sec() * 1_000_000 + t.tv_usec()).unwrap())
    };
    time(usage.user_time()) + time(usage.system_time())
}
