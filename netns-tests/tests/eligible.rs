//! The VIP follows the ability to forward: `eligible_when = "any backend healthy"`.

use std::time::{Duration, Instant};

use netns_tests::host::Host;
use netns_tests::lab::Lab;
use netns_tests::peer::Peer;
use netns_tests::{Outcome, enabled, ensure, wait_until};

const VIP: &str = "10.77.0.100";
const LIMIT: Duration = Duration::from_secs(10);
/// Much longer than a check (0.1 s) and a takeover (0.4 s) take together.
const CALM: Duration = Duration::from_secs(3);

fn configuration(priority: u8, backend: &Host) -> String {
    format!(
        "[[instance]]\nname = \"vip\"\ninterface = \"eth0\"\nvrid = 52\npriority = {priority}\nversion = 3\n\
         advert_interval = \"100ms\"\naddresses = [\"{VIP}/24\"]\neligible_when = \"any backend healthy\"\n\
         [[listener]]\nname = \"api\"\nbind = \"{VIP}:7000\"\nbackends = [{{ address = \"{}:7000\" }}]\n\
         check = {{ tcp = {{}}, interval = \"100ms\", timeout = \"100ms\", fall = 1, rise = 1 }}\n",
        backend.ipv4()
    )
}

fn holds(host: &Host) -> bool {
    host.addresses().iter().any(|address| address == VIP)
}

/// The host cannot reach the backend any more, or again.
fn cut(host: &Host, backend: &Host, is_cut: bool) {
    let what = if is_cut { "add" } else { "delete" };
    host.run(&["ip", "route", what, "blackhole", &format!("{}/32", backend.ipv4())]);
}

fn priority(vipd: &Peer, host: &Host) -> Outcome<u64> {
    Ok(vipd.status(host)?["instances"][0]["priority"].as_u64().unwrap_or_default())
}

fn follows(lab: &Lab) -> Outcome {
    let backend = lab.others.first().ok_or_else(|| "no backend".to_owned())?;
    let _server =
        backend.inside(|| std::net::TcpListener::bind((backend.ipv4(), 7000)).expect("our own host"));
    let better = Peer::start_toml(&lab.lb1, &configuration(200, backend), "better");
    let other = Peer::start_toml(&lab.lb2, &configuration(100, backend), "other");
    wait_until("the better host holds the VIP", LIMIT, || holds(&lab.lb1) && !holds(&lab.lb2))?;

    cut(&lab.lb1, backend, true);
    wait_until("the VIP goes to the host that can forward", LIMIT, || holds(&lab.lb2) && !holds(&lab.lb1))?;
    let said = better.status(&lab.lb1)?.to_string();
    ensure(said.contains("api: 0 of 1 backends are healthy"), || format!("it does not say why: {said}"))?;

    // Nobody can forward: the one that has the VIP keeps it.
    cut(&lab.lb2, backend, true);
    wait_until("the other is as bad", LIMIT, || priority(&other, &lab.lb2).is_ok_and(|now| now == 1))?;
    let until = Instant::now() + CALM;
    while Instant::now() < until {
        ensure(holds(&lab.lb2) && !holds(&lab.lb1), || {
            "the VIP moved although nobody can forward".to_owned()
        })?;
        std::thread::sleep(Duration::from_millis(20));
    }

    cut(&lab.lb1, backend, false);
    wait_until("the VIP comes back to the better host", LIMIT, || holds(&lab.lb1) && !holds(&lab.lb2))?;
    cut(&lab.lb2, backend, false);
    wait_until("the other has its priority again", LIMIT, || {
        priority(&other, &lab.lb2).is_ok_and(|now| now == 100)
    })
}

#[test]
fn the_vip_follows_the_ability_to_forward_and_stays_where_all_are_bad() {
    if !enabled(&[]) {
        return;
    }
    let lab = Lab::new(&["backend"]);
    follows(&lab).unwrap_or_else(|failure| panic!("{}\n{}", failure.text, lab.report()));
}
