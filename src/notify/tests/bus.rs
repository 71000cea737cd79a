//! From keepalived.conf and a bus of events to scripts and FIFOs.

use std::path::PathBuf;

use config::ready::User;

use super::*;

/// Waits for what must become true; a minute is for a busy host.
async fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_true() {
        assert!(start.elapsed() < Duration::from_secs(60), "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        // Adds its arguments to the log.
        host.write("say", &format!("echo \"$*\" >> {}\n", host.path("log").display()));
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// `SAY` becomes the command that writes to the log, `DIR` our directory.
    fn config(&self, global: &str, instances: &[(&str, &str)]) -> Config {
        let mut text = format!("global_defs {{\n router_id test\n script_user us\n {global}\n}}\n");
        for (number, (name, notify)) in (1..).zip(instances) {
            text += &format!(
                "vrrp_instance {name} {{\n interface eth0\n virtual_router_id {number}\n priority 100\n \
                 virtual_ipaddress {{\n 192.0.2.{number}\n }}\n {notify}\n}}\n"
            );
        }
        let directory = self.0.path().display().to_string();
        let text = text.replace("SAY", "/bin/sh DIR/say").replace("DIR", &directory);
        self.write("keepalived.conf", &text);
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let users = config::users::Users::Fixed(vec![User { name: "us".to_owned(), uid, gid }]);
        let options = config::LoadOptions { users, ..Default::default() };
        let loaded = config::load(&[&self.path("keepalived.conf")], &options);
        loaded.config.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render_human(false)))
    }

    fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        text.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// Reads this many lines from the FIFO, and nothing may follow.
    async fn lines(&self, count: usize) -> Vec<String> {
        let mut text = String::new();
        eventually("enough lines in the FIFO", || {
            if self.path("fifo").exists() {
                text += &read(&self.path("fifo"));
            }
            text.lines().count() >= count
        })
        .await;
        assert!(text.ends_with('\n'));
        text.lines().map(str::to_owned).collect()
    }
}

const FIFO: &str = "vrrp_notify_fifo DIR/fifo";

fn say(sender: &broadcast::Sender<Arc<Event>>, instance: &str, to: State, reason: Reason) {
    let instance = instance.to_owned();
    let kind = Kind::Transition { instance, from: State::Initialize, to, reason, priority: 100 };
    sender.send(Arc::new(Event { at: SystemTime::now(), kind })).unwrap();
}

fn backup(sender: &broadcast::Sender<Arc<Event>>, instance: &str) {
    say(sender, instance, State::Backup, Reason::Started);
}

fn active(sender: &broadcast::Sender<Arc<Event>>, instance: &str) {
    let reason = Reason::ActiveDown { peer: None, silence: Duration::from_secs(3) };
    say(sender, instance, State::Active, reason);
}

fn fault(sender: &broadcast::Sender<Arc<Event>>, instance: &str) {
    let down = Fault::InterfaceDown { interface: "eth0".to_owned() };
    say(sender, instance, State::Fault, Reason::Fault { faults: vec![down] });
}

fn stopped(sender: &broadcast::Sender<Arc<Event>>, instance: &str) {
    say(sender, instance, State::Initialize, Reason::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_with_arguments_and_the_fifo_hear_of_every_change() {
    let host = Host::new();
    let notify = "notify \"SAY any 'a  b'\"\n notify_master \"SAY master x\"\n notify_backup \"SAY backup y\"\n \
                  notify_fault \"SAY fault z\"\n notify_stop \"SAY stop\"";
    let config = host.config(FIFO, &[("V1", notify), ("V2", "")]);
    let (sender, events) = broadcast::channel(64);
    let notifier = Notifier::start(&config, events);
    backup(&sender, "V1");
    backup(&sender, "V2");
    active(&sender, "V1");
    fault(&sender, "V1");
    stopped(&sender, "V1");
    stopped(&sender, "V2");
    assert_eq!(
        host.lines(6).await,
        [
            "INSTANCE \"V1\" BACKUP 100",
            "INSTANCE \"V2\" BACKUP 100",
            "INSTANCE \"V1\" MASTER 100",
            "INSTANCE \"V1\" FAULT 100",
            "INSTANCE \"V1\" STOP 100",
            "INSTANCE \"V2\" STOP 100",
        ]
    );
    // Scripts overlap, so their order is open.
    eventually("eight scripts", || host.log().len() >= 8).await;
    let mut log = host.log();
    log.sort_unstable();
    assert_eq!(
        log,
        [
            "any a  b INSTANCE V1 BACKUP 100",
            "any a  b INSTANCE V1 FAULT 100",
            "any a  b INSTANCE V1 MASTER 100",
            "any a  b INSTANCE V1 STOP 100",
            "backup y",
            "fault z",
            "master x",
            "stop",
        ]
    );
    assert_eq!(notifier.lost(), 0);
    notifier.stop().await;
    assert!(!host.path("fifo").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_before_the_stop_is_told() {
    let host = Host::new();
    let config = host.config(FIFO, &[("V1", "notify_stop \"SAY stop\"")]);
    nix::unistd::mkfifo(&host.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Keeps the lines beyond the end of the notifier.
    let _reader = std::fs::File::options().read(true).write(true).open(host.path("fifo")).unwrap();
    let (sender, events) = broadcast::channel(16);
    let notifier = Notifier::start(&config, events);
    backup(&sender, "V1");
    stopped(&sender, "V1");
    notifier.stop().await;
    assert_eq!(read(&host.path("fifo")), "INSTANCE \"V1\" BACKUP 100\nINSTANCE \"V1\" STOP 100\n");
    eventually("the script has run", || host.log() == ["stop"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_instance_is_told_once_more_and_told_anew_when_it_comes_back() {
    let host = Host::new();
    let all =
        [("V1", ""), ("V2", "notify_fault \"SAY V2 fault\""), ("V3", "notify_deleted \"SAY V3 deleted\"")];
    let config = host.config(FIFO, &all);
    let less = host.config(FIFO, &all[..1]);
    let (sender, events) = broadcast::channel(16);
    let notifier = Notifier::start(&config, events);
    let instances = ["V1", "V2", "V3"];
    for instance in instances {
        backup(&sender, instance);
    }
    assert_eq!(host.lines(3).await, instances.map(|instance| format!("INSTANCE \"{instance}\" BACKUP 100")));
    notifier.reload(&less);
    stopped(&sender, "V2");
    stopped(&sender, "V3");
    assert_eq!(host.lines(2).await, ["INSTANCE \"V2\" FAULT 100", "INSTANCE \"V3\" DELETED 100"]);
    notifier.reload(&config);
    // V1 was there all the time and is what it was.
    backup(&sender, "V1");
    // V2 was told as FAULT when it was removed; this is the FAULT of another one.
    fault(&sender, "V2");
    backup(&sender, "V3");
    assert_eq!(host.lines(2).await, ["INSTANCE \"V2\" FAULT 100", "INSTANCE \"V3\" BACKUP 100"]);
    // In FAULT already: nothing new.
    notifier.reload(&less);
    stopped(&sender, "V2");
    stopped(&sender, "V3");
    assert_eq!(host.lines(1).await, ["INSTANCE \"V3\" DELETED 100"]);
    eventually("three scripts", || host.log().len() >= 3).await;
    let mut log = host.log();
    log.sort_unstable();
    // keepalived runs `notify_fault` for a fault, and not for an instance that goes.
    assert_eq!(log, ["V2 fault", "V3 deleted", "V3 deleted"]);
    notifier.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_comes_back_before_its_end_was_told_is_told_anew() {
    let host = Host::new();
    let with = host.config(FIFO, &[("V1", "")]);
    let without = host.config(FIFO, &[("V2", "")]);
    let mut teller = Teller::new(Arc::default());
    teller.take_on(&with).await;
    teller.tell(&became_active());
    teller.take_on(&without).await;
    teller.take_on(&with).await;
    teller.tell(&became_active());
    assert_eq!(read(&host.path("fifo")), "INSTANCE \"V1\" MASTER 100\n".repeat(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_takes_on_other_scripts_and_another_fifo() {
    let host = Host::new();
    let before = host.config("vrrp_notify_fifo DIR/before", &[("V1", "notify_backup \"SAY before\"")]);
    let after = host.config(FIFO, &[("V1", "notify_backup \"SAY after\"\n notify_master \"SAY master\"")]);
    let (sender, events) = broadcast::channel(16);
    let notifier = Notifier::start(&before, events);
    backup(&sender, "V1");
    eventually("the first script", || host.log() == ["before"]).await;
    // The FIFO's line comes behind the script's start.
    eventually("the line", || read(&host.path("before")) == "INSTANCE \"V1\" BACKUP 100\n").await;
    notifier.reload(&after);
    // Told before the reload: not again.
    backup(&sender, "V1");
    active(&sender, "V1");
    assert_eq!(host.lines(1).await, ["INSTANCE \"V1\" MASTER 100"]);
    eventually("the FIFO is gone", || !host.path("before").exists()).await;
    eventually("the second script", || host.log().len() >= 2).await;
    assert_eq!(host.log(), ["before", "master"]);
    notifier.stop().await;
}

/// On one thread nobody reads the bus before the first wait.
#[tokio::test]
async fn events_that_came_too_fast_are_counted_and_the_next_ones_are_told() {
    let host = Host::new();
    let config = host.config(FIFO, &[("V1", "")]);
    let (sender, events) = broadcast::channel(4);
    let notifier = Notifier::start(&config, events);
    for _ in 0..25 {
        backup(&sender, "V1");
        active(&sender, "V1");
    }
    let (is_backup, is_active) = ("INSTANCE \"V1\" BACKUP 100", "INSTANCE \"V1\" MASTER 100");
    assert_eq!(host.lines(4).await, [is_backup, is_active, is_backup, is_active]);
    assert_eq!(notifier.lost(), 46);
    fault(&sender, "V1");
    assert_eq!(host.lines(1).await, ["INSTANCE \"V1\" FAULT 100"]);
    notifier.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_of_a_fifo_gets_its_path_last_and_reads_every_line_in_order() {
    let host = Host::new();
    let log = host.path("log");
    let reader = format!("while read -r line; do echo \"$1 $line\"; done < \"$2\" >> {}", log.display());
    host.write("reader", &reader);
    let global = format!("{FIFO}\n vrrp_notify_fifo_script \"/bin/sh DIR/reader read:\"");
    let config = host.config(&global, &[("V1", "")]);
    let (sender, events) = broadcast::channel(16);
    let notifier = Notifier::start(&config, events);
    backup(&sender, "V1");
    active(&sender, "V1");
    eventually("two lines", || host.log().len() >= 2).await;
    assert_eq!(host.log(), ["read: INSTANCE \"V1\" BACKUP 100", "read: INSTANCE \"V1\" MASTER 100"]);
    notifier.stop().await;
    assert!(!host.path("fifo").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_takes_about_one_second_however_many_scripts_hang() {
    let host = Host::new();
    // Never reads and ignores SIGTERM.
    host.write("hang", "trap '' TERM; echo $$ > \"$1.pid\"; while :; do sleep 0.05; done");
    let global = "vrrp_notify_fifo DIR/one\n vrrp_notify_fifo_script \"/bin/sh DIR/hang\"\n \
                  notify_fifo DIR/two\n notify_fifo_script \"/bin/sh DIR/hang\"";
    let config = host.config(global, &[("V1", "notify_stop \"/bin/sleep 20\"")]);
    let (sender, events) = broadcast::channel(16);
    let notifier = Notifier::start(&config, events);
    let pid = |name: &str| std::fs::read_to_string(host.path(name)).unwrap_or_default().trim().parse::<u32>();
    eventually("both scripts run", || pid("one.pid").is_ok() && pid("two.pid").is_ok()).await;
    stopped(&sender, "V1");
    let start = Instant::now();
    notifier.stop().await;
    let took = start.elapsed();
    assert!(took >= STOP_TIME, "{took:?}");
    // One after the other they would take two or three seconds.
    assert!(took < Duration::from_secs(2), "{took:?}");
    for name in ["one", "two"] {
        assert!(!host.path(name).exists());
        let process = format!("/proc/{}", pid(&format!("{name}.pid")).unwrap());
        assert!(!Path::new(&process).exists(), "the script of {name} still runs");
    }
}
