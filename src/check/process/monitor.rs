//! One thread that knows which of the wanted processes live.
//!
//! It scans /proc once for each wish and follows the kernel's events from then on; when events are lost it
//! scans again. Where there are no events it scans every 500 ms. Without wishes it ends.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use config::ready::ProcessProbe;
use nix::libc;
use tokio::sync::watch;
use tracing::{debug, warn};

use super::connector::{Connector, Event, Pid, READ_TIMEOUT};
use super::matching::{self, Seen};
use crate::observe::event::{EventSender, Kind};

/// Shared by all checks of processes.
#[derive(Debug)]
pub(in crate::check) struct Monitor {
    table: Mutex<Table>,
    events: EventSender,
    proc: PathBuf,
}

#[derive(Debug, Default)]
struct Table {
    wishes: Vec<Wish>,
    thread: Thread,
    /// Bytes of the socket's receive buffer (`process_monitor_rcv_bufs`).
    buffer: Option<u32>,
    /// It was said that there are no events.
    said: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Thread {
    #[default]
    None,
    Starting,
    Running,
}

#[derive(Debug)]
struct Wish {
    wanted: ProcessProbe,
    alive: HashSet<Pid>,
    count: watch::Sender<u32>,
}

impl Monitor {
    /// One that watches nothing yet.
    pub(in crate::check) fn new(events: EventSender) -> Arc<Self> {
        Arc::new(Self { table: Mutex::default(), events, proc: "/proc".into() })
    }

    /// Counts at the next start of the thread.
    pub(in crate::check) fn set_buffer(&self, buffer: Option<u32>) {
        self.lock().buffer = buffer;
    }

    /// How many of these live, now and whenever it changes, until the receiver is dropped. Takes a scan
    /// of /proc, so it does not belong on a worker.
    ///
    /// # Errors
    /// /proc cannot be read, or there is no thread to be had.
    pub(super) fn watch(self: Arc<Self>, wanted: ProcessProbe) -> io::Result<watch::Receiver<u32>> {
        let (count, counted) = watch::channel(0);
        let mut table = self.lock();
        table.wishes.push(Wish { wanted, alive: HashSet::new(), count });
        if table.thread == Thread::None {
            table.thread = Thread::Starting;
            let this = Arc::clone(&self);
            let started = std::thread::Builder::new().name("vipd-processes".into()).spawn(move || this.run());
            if let Err(error) = started {
                table.thread = Thread::None;
                table.wishes.pop();
                return Err(error);
            }
        }
        // Events that come meanwhile wait for the table, and say what is true after this. The thread scans
        // itself when it has begun to listen.
        let new = table.wishes.len() - 1;
        scan(&mut table.wishes[new..], &self.proc)?;
        Ok(counted)
    }

    fn run(&self) {
        let buffer = self.lock().buffer;
        let connector = match Connector::open(buffer) {
            Ok(connector) => Some(connector),
            Err(error) => {
                if !std::mem::replace(&mut self.lock().said, true) {
                    let text = format!(
                        "no process events from the kernel ({error}): looking through /proc every {} ms instead",
                        READ_TIMEOUT.as_millis()
                    );
                    self.events.send(Kind::Notice { text });
                }
                None
            }
        };
        self.follow(connector.map(|connector| move |events: &mut Vec<Event>| connector.read(events)));
    }

    /// Reads events until nobody wants anything any more.
    fn follow(&self, mut source: Option<impl FnMut(&mut Vec<Event>) -> io::Result<()>>) {
        let mut events = Vec::new();
        // What happened before we listened.
        let mut look_again = true;
        loop {
            {
                let mut table = self.lock();
                table.thread = Thread::Running;
                table.wishes.retain(|wish| !wish.count.is_closed());
                if table.wishes.is_empty() {
                    table.thread = Thread::None;
                    return;
                }
                for event in events.drain(..) {
                    table.follow(event, &self.proc);
                }
                if std::mem::take(&mut look_again)
                    && let Err(error) = scan(&mut table.wishes, &self.proc)
                {
                    warn!(%error, "/proc not read");
                }
            }
            match &mut source {
                Some(read) => match read(&mut events) {
                    Ok(()) => {}
                    Err(error) => {
                        look_again = true;
                        if error.raw_os_error() != Some(libc::ENOBUFS) {
                            warn!(%error, "process events not read");
                            std::thread::sleep(READ_TIMEOUT);
                        } else {
                            debug!("process events were lost, looking through /proc");
                        }
                    }
                },
                None => {
                    std::thread::sleep(READ_TIMEOUT);
                    look_again = true;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn follow(&mut self, event: Event, proc: &Path) {
        match event {
            Event::Answer(_) => {}
            Event::Fork { parent, child } => {
                // A child is what its parent is, so only children of the wanted are looked at.
                if self.wishes.iter().any(|wish| wish.alive.contains(&parent)) {
                    self.look(child, proc);
                }
            }
            Event::Exec(pid) | Event::Renamed(pid) => self.look(pid, proc),
            Event::Exit(pid) => self.update(pid, None),
        }
    }

    fn look(&mut self, pid: Pid, proc: &Path) {
        let with_arguments = self.wishes.iter().any(|wish| matching::needs_arguments(&wish.wanted));
        // One that has ended meanwhile cannot be read.
        let seen = matching::look(&proc.join(pid.to_string()), with_arguments).unwrap_or(None);
        self.update(pid, seen.as_ref());
    }

    fn update(&mut self, pid: Pid, seen: Option<&Seen>) {
        for wish in &mut self.wishes {
            let is_one = seen.is_some_and(|seen| matching::matches(&wish.wanted, seen));
            let changed = if is_one { wish.alive.insert(pid) } else { wish.alive.remove(&pid) };
            if changed {
                wish.publish();
            }
        }
    }
}

impl Wish {
    fn publish(&self) {
        let count = u32::try_from(self.alive.len()).unwrap_or(u32::MAX);
        self.count.send_if_modified(|published| std::mem::replace(published, count) != count);
    }
}

/// Looks at every process for all these wishes.
fn scan(wishes: &mut [Wish], proc: &Path) -> io::Result<()> {
    let with_arguments = wishes.iter().any(|wish| matching::needs_arguments(&wish.wanted));
    for wish in &mut *wishes {
        wish.alive.clear();
    }
    for entry in std::fs::read_dir(proc)? {
        let path = entry?.path();
        let number =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<Pid>().ok());
        // A process that ends while we look is not there.
        let Some(pid) = number else { continue };
        let Ok(Some(seen)) = matching::look(&path, with_arguments) else { continue };
        for wish in wishes.iter_mut().filter(|wish| matching::matches(&wish.wanted, &seen)) {
            wish.alive.insert(pid);
        }
    }
    for wish in wishes {
        wish.publish();
    }
    Ok(())
}

/// How many of these live in a /proc.
#[cfg(test)]
pub(super) fn count(proc: &Path, wanted: &ProcessProbe) -> u32 {
    let (count, counted) = watch::channel(0);
    let mut wishes = [Wish { wanted: wanted.clone(), alive: HashSet::new(), count }];
    scan(&mut wishes, proc).unwrap();
    *counted.borrow()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(proc: &Path, pid: Pid, name: &str) {
        let directory = proc.join(pid.to_string());
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("stat"), format!("{pid} ({name}) S 1 {pid} {pid} 0 -1\n")).unwrap();
        std::fs::write(directory.join("cmdline"), format!("{name}\0")).unwrap();
    }

    /// The kernel says ENOBUFS instead of what happened: one has begun, one has ended.
    #[test]
    fn after_lost_events_proc_is_looked_through_again() {
        let proc = tempfile::tempdir().unwrap();
        let path = proc.path().to_owned();
        show(&path, 10, "haproxy");
        show(&path, 11, "haproxy");
        let (count, counted) = watch::channel(0);
        let wanted = ProcessProbe { name: "haproxy".to_owned(), quorum: 1, ..ProcessProbe::default() };
        let wish = Wish { wanted, alive: HashSet::new(), count };
        let table = Table { wishes: vec![wish], ..Table::default() };
        let monitor =
            Monitor { table: Mutex::new(table), events: EventSender::channel(1).0, proc: path.clone() };
        let mut seen = Vec::new();
        let mut counted = Some(counted);
        monitor.follow(Some(|_: &mut Vec<Event>| {
            seen.push(counted.as_ref().map(|counted| *counted.borrow()));
            match seen.len() {
                1 => {
                    show(&path, 12, "haproxy");
                    show(&path, 13, "haproxy");
                    std::fs::remove_dir_all(path.join("10")).unwrap();
                    Ok(())
                }
                2 => Err(io::Error::from_raw_os_error(libc::ENOBUFS)),
                _ => {
                    counted = None;
                    Ok(())
                }
            }
        }));
        assert_eq!(seen, [Some(2), Some(2), Some(3)]);
    }
}
