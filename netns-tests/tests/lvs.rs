//! A keepalived.conf with virtual servers, as people write them: what clients, servers and scripts see of it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use netns_tests::host::Host;
use netns_tests::lab::Lab;
use netns_tests::peer::{Kind, Peer};
use netns_tests::{Outcome, enabled, ensure, wait_until};

const VIP: &str = "10.77.0.100";
const SOON: Duration = Duration::from_secs(10);
/// MD5 of "here is b1", as `printf 'here is b1' | md5sum` prints it.
const DIGEST: &str = "e6c20a2b9b9f30009dcb9489731385f0";

/// A web server that says its name, and a UDP server that does.
struct Server {
    stop: Arc<AtomicBool>,
    /// The page says something else.
    broken: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    fn start(host: &Host) -> Self {
        let (stop, broken, name) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default(), host.name);
        let (for_tcp, for_udp, page) = (stop.clone(), stop.clone(), broken.clone());
        let threads = host.inside(|| {
            let listener = TcpListener::bind("0.0.0.0:8080").expect("a free port");
            listener.set_nonblocking(true).expect("a socket");
            let socket = UdpSocket::bind("0.0.0.0:8080").expect("a free port");
            socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
            vec![
                thread::spawn(move || serve(&listener, name, &for_tcp, &page)),
                thread::spawn(move || answer(&socket, name, &for_udp)),
            ]
        });
        Self { stop, broken, threads }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, name: &'static str, stop: &AtomicBool, broken: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            thread::sleep(Duration::from_millis(2));
            continue;
        };
        let what = if broken.load(Ordering::Relaxed) { "gone is" } else { "here is" };
        let answer = format!("HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\n{what} {name}");
        drop(thread::spawn(move || {
            let _ = stream.set_nonblocking(false);
            let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
            // A TCP_CHECK says nothing.
            if stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
                let _ = stream.write_all(answer.as_bytes());
            }
        }));
    }
}

fn answer(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        if let Ok((_, client)) = socket.recv_from(&mut [0; 2048]) {
            let _ = socket.send_to(name.as_bytes(), client);
        }
    }
}

/// Who answers.
fn get(port: u16) -> std::io::Result<String> {
    let address: SocketAddr = format!("{VIP}:{port}").parse().expect("an address");
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.rsplit(' ').next().unwrap_or_default().to_owned())
}

fn ask(port: u16) -> std::io::Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.connect((VIP, port))?;
    socket.send(b"?")?;
    let mut buffer = [0; 200];
    let count = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
}

/// How many of twenty questions each server answered.
fn spread(
    client: &Host,
    question: &(dyn Fn() -> std::io::Result<String> + Send + Sync),
) -> BTreeMap<String, u32> {
    let mut spread = BTreeMap::new();
    for _ in 0..20 {
        let who = client.inside(question).unwrap_or_else(|error| error.kind().to_string());
        *spread.entry(who).or_default() += 1;
    }
    spread
}

fn configuration(lab: &Lab, folder: &Path) -> String {
    let [b1, b2, b3] = [0, 1, 2].map(|index| lab.others[index].ipv4());
    let folder = folder.display();
    let told = |what: &str| format!("\"/bin/sh {folder}/told.sh {what}\"");
    let (up, down, up1, down1) = (told("quorum up"), told("quorum down"), told("b1 up"), told("b1 down"));
    format!(
        "global_defs {{
    router_id LVS_DEVEL
    enable_script_security
    script_user root
}}
vrrp_instance VI_1 {{
    state MASTER
    interface eth0
    virtual_router_id 51
    priority 255
    virtual_ipaddress {{
        {VIP}/24
    }}
}}
virtual_server {VIP} 80 {{
    delay_loop 1
    lb_algo rr
    lb_kind NAT
    protocol TCP
    quorum_up {up}
    quorum_down {down}
    sorry_server {b3} 8080
    real_server {b1} 8080 {{
        weight 1
        notify_up {up1}
        notify_down {down1}
        HTTP_GET {{
            url {{
                path /
                digest {DIGEST}
                status_code 200
            }}
            connect_timeout 1
            retry 0
        }}
    }}
    real_server {b2} 8080 {{
        weight 1
        TCP_CHECK {{
            connect_timeout 1
            retry 0
        }}
    }}
}}
virtual_server {VIP} 81 {{
    delay_loop 1
    lb_algo wrr
    lb_kind NAT
    protocol TCP
    real_server {b1} 8080 {{
        MISC_CHECK {{
            misc_path \"/bin/sh {folder}/weight.sh\"
            misc_dynamic
        }}
    }}
    real_server {b3} 8080 {{
    }}
}}
virtual_server fwmark 7 {{
    delay_loop 1
    lb_algo rr
    lb_kind NAT
    real_server {b1} 8080 {{
        TCP_CHECK {{
            connect_timeout 1
            retry 0
        }}
    }}
    real_server {b3} 8080 {{
    }}
}}
virtual_server fwmark 8 {{
    lb_algo rr
    lb_kind NAT
    persistence_timeout 60
    real_server {b1} 8080 {{
    }}
    real_server {b3} 8080 {{
    }}
}}
virtual_server {VIP} 8080 {{
    delay_loop 1
    lb_algo rr
    lb_kind DR
    protocol UDP
    real_server {b1} 8080 {{
        UDP_CHECK {{
            require_reply
            connect_timeout 1
            retry 0
        }}
    }}
    real_server {b3} 8080 {{
    }}
}}
"
    )
}

/// What people write for IPVS, in nft's words: several ports of one address.
const MARKS: &str = "table inet mangle {
    chain prerouting {
        type filter hook prerouting priority mangle
        ip daddr 10.77.0.100 meta l4proto { tcp, udp } th dport 9000-9009 meta mark set 7
        ip daddr 10.77.0.100 meta l4proto tcp th dport 9010-9019 meta mark set 8
    }
}
";

/// With NAT the answers of real servers go through the director, as with IPVS.
fn route_back(lab: &Lab) {
    let client = format!("{}/32", lab.client.ipv4());
    for server in &lab.others {
        server.run(&["ip", "route", "add", &client, "via", &lab.lb1.ipv4()]);
        server.sysctl("net/ipv4/conf/eth0/accept_redirects", "0");
        server.sysctl("net/ipv4/conf/all/accept_redirects", "0");
    }
}

fn story(lab: &Lab, folder: &Path) -> Outcome {
    let Lab { lb1, client, others, .. } = lab;
    route_back(lab);
    let mut servers: Vec<Server> = others.iter().map(Server::start).collect();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("the folder is ours");
    let told = |words: &str| std::fs::read_to_string(folder.join("told")).unwrap_or_default().contains(words);
    write("told.sh", &format!("echo \"$@\" >> {}/told\n", folder.display()));
    write("weight.sh", &format!("exit $(cat {}/code)\n", folder.display()));
    write("code", "3");
    write("marks.nft", MARKS);
    lb1.run(&["nft", "-f", &folder.join("marks.nft").to_string_lossy()]);
    let _peer = Peer::start_configured(Kind::Vipd, lb1, &configuration(lab, folder), "lvs");
    // Each loop of the forwarder takes turns for itself, so shares are equal but for a few.
    let goes_to = |what: &str,
                   question: &(dyn Fn() -> std::io::Result<String> + Send + Sync),
                   expected: &[(&str, u32)]| {
        wait_until(&format!("{what} goes to {expected:?}"), SOON, || {
            let got = spread(client, question);
            let near = |(name, count): &(&str, u32)| got.get(*name).is_some_and(|n| n.abs_diff(*count) <= 2);
            got.len() == expected.len() && expected.iter().all(near)
        })
    };
    let tcp =
        |port: u16, expected: &[(&str, u32)]| goes_to(&format!("port {port}"), &move || get(port), expected);
    let udp = |expected: &[(&str, u32)]| goes_to("UDP", &|| ask(8080), expected);
    tcp(80, &[("b1", 10), ("b2", 10)])?;
    tcp(81, &[("b1", 10), ("b3", 10)])?;
    udp(&[("b1", 10), ("b3", 10)])?;
    // A mark takes several ports, over TCP and UDP.
    tcp(9001, &[("b1", 10), ("b3", 10)])?;
    goes_to("marked UDP", &|| ask(9002), &[("b1", 10), ("b3", 10)])?;
    let kept = client.inside(|| get(9010)).map_err(|error| format!("fwmark 8: {error}"))?;
    tcp(9011, &[(&kept, 20)])?;
    ensure(client.inside(|| get(9020)).is_err(), || "what has no mark is served".to_owned())?;
    // The digest of the page is another one.
    servers[0].broken.store(true, Ordering::Relaxed);
    tcp(80, &[("b2", 20)])?;
    wait_until("notify_down of b1", SOON, || told("b1 down"))?;
    ensure(!told("quorum down"), || "the quorum was said to be lost".to_owned())?;
    // Nobody listens.
    drop(servers.remove(1));
    tcp(80, &[("b3", 20)])?;
    wait_until("quorum_down", SOON, || told("quorum down"))?;
    servers.push(Server::start(&others[1]));
    tcp(80, &[("b2", 20)])?;
    wait_until("quorum_up", SOON, || told("quorum up"))?;
    servers[0].broken.store(false, Ordering::Relaxed);
    tcp(80, &[("b1", 10), ("b2", 10)])?;
    wait_until("notify_up of b1", SOON, || told("b1 up"))?;
    // Code 5 is weight 3, code 1 is a failure.
    write("code", "5");
    tcp(81, &[("b1", 15), ("b3", 5)])?;
    write("code", "1");
    tcp(81, &[("b3", 20)])?;
    // Over UDP too.
    drop(servers.remove(0));
    udp(&[("b3", 20)])?;
    tcp(9001, &[("b3", 20)])
}

#[test]
fn virtual_servers_of_keepalived_conf_are_served() {
    if !enabled(&["nft"]) {
        return;
    }
    let lab = Lab::new(&["b1", "b2", "b3"]);
    let folder = lab.lb1.directory.clone();
    let outcome = story(&lab, &folder);
    assert!(outcome.is_ok(), "{outcome:?}\n{}", lab.report());
}
