//! Are enough processes of a name alive? Looks through /proc.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::Spoken;
use super::blocking::Blocking;
use super::schedule::{BoxFuture, Outcome, Probing};

/// Octets that the kernel keeps of a command's name.
const COMM_LENGTH: usize = 15;

/// Counts the processes of one name.
#[derive(Debug)]
pub(super) struct ProcessCheck {
    name: String,
    quorum: u32,
    quorum_max: Option<u32>,
    scan: Blocking<io::Result<u32>>,
}

impl ProcessCheck {
    pub(super) fn new(name: &str, quorum: u32, quorum_max: Option<u32>) -> Self {
        Self { name: name.to_owned(), quorum, quorum_max, scan: Blocking::default() }
    }

    async fn run(&mut self, timeout: Duration) -> Outcome {
        let name = self.name.clone();
        let scan = self.scan.ask(move || count(Path::new("/proc"), &name));
        match tokio::time::timeout(timeout, scan).await {
            Ok(Ok(Ok(found))) => judge(&self.name, found, self.quorum, self.quorum_max),
            Ok(Ok(Err(error)) | Err(error)) => {
                Outcome::failure(format!("/proc not read: {}", Spoken(&error)))
            }
            Err(_) => Outcome::failure(format!("/proc not read after {}", Spoken(timeout))),
        }
    }
}

impl Probing for ProcessCheck {
    fn probe(&mut self, timeout: Duration) -> BoxFuture<'_, Outcome> {
        Box::pin(self.run(timeout))
    }
}

fn judge(name: &str, found: u32, quorum: u32, quorum_max: Option<u32>) -> Outcome {
    let processes = if found == 1 { "process" } else { "processes" };
    let said = format!("{found} {processes} {name}");
    match quorum_max {
        Some(most) if found > most => Outcome::failure(format!("{said}, at most {most} expected")),
        _ if found < quorum => Outcome::failure(format!("{said}, at least {quorum} expected")),
        _ => Outcome::success(said),
    }
}

/// Processes with this name that are alive; one that only waits to be buried is not.
fn count(proc: &Path, name: &str) -> io::Result<u32> {
    let mut found = 0;
    for entry in std::fs::read_dir(proc)? {
        let path = entry?.path();
        let number =
            path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit));
        // A process that ends while we look is not there.
        if number && is_alive_as(&path, name).unwrap_or(false) {
            found += 1;
        }
    }
    Ok(found)
}

fn is_alive_as(process: &Path, name: &str) -> io::Result<bool> {
    // "4711 (kube-apiserver) S 1 …"; the name may hold anything, also ") ".
    let stat = std::fs::read(process.join("stat"))?;
    let (Some(open), Some(close)) =
        (stat.iter().position(|octet| *octet == b'('), stat.iter().rposition(|octet| *octet == b')'))
    else {
        return Ok(false);
    };
    let (Some(comm), Some(state)) = (stat.get(open + 1..close), stat.get(close + 2)) else {
        return Ok(false);
    };
    if matches!(state, b'Z' | b'X' | b'x') {
        return Ok(false);
    }
    let name = name.as_bytes();
    if !name.contains(&b'/') {
        return Ok(comm == &name[..name.len().min(COMM_LENGTH)]);
    }
    let command_line = std::fs::read(process.join("cmdline"))?;
    Ok(command_line.split(|octet| *octet == 0).next() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes what /proc shows of a process.
    fn show(proc: &Path, pid: u32, comm: &str, state: char, command_line: &str) {
        let directory = proc.join(pid.to_string());
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("stat"), format!("{pid} ({comm}) {state} 1 {pid} {pid} 0 -1\n"))
            .unwrap();
        std::fs::write(directory.join("cmdline"), command_line.replace(' ', "\0")).unwrap();
    }

    fn host() -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        show(proc.path(), 1, "systemd", 'S', "/sbin/init");
        show(proc.path(), 10, "kube-apiserver", 'S', "/usr/bin/kube-apiserver --v=2");
        show(proc.path(), 11, "kube-controller", 'S', "kube-controller-manager --v=2");
        show(proc.path(), 12, "haproxy", 'S', "/usr/sbin/haproxy -W");
        show(proc.path(), 13, "haproxy", 'R', "/usr/sbin/haproxy -W");
        show(proc.path(), 14, "haproxy", 'Z', "");
        show(proc.path(), 15, "odd) S (x", 'S', "odd");
        std::fs::create_dir(proc.path().join("sys")).unwrap();
        proc
    }

    #[test]
    fn counts_by_the_first_15_characters_of_the_name() {
        let proc = host();
        let counts = ["haproxy", "kube-controller-manager", "kube-apiserver", "kube", "odd) S (x"]
            .map(|name| count(proc.path(), name).unwrap());
        assert_eq!(counts, [2, 1, 1, 0, 1]);
    }

    #[test]
    fn counts_by_the_path_of_argv_0() {
        let proc = host();
        assert_eq!(count(proc.path(), "/usr/sbin/haproxy").unwrap(), 2);
        assert_eq!(count(proc.path(), "/usr/local/sbin/haproxy").unwrap(), 0);
    }

    #[test]
    fn quorum_bounds_the_count_from_both_sides() {
        assert_eq!(judge("haproxy", 1, 1, None), Outcome::success("1 process haproxy"));
        assert_eq!(
            judge("haproxy", 0, 1, None),
            Outcome::failure("0 processes haproxy, at least 1 expected")
        );
        assert_eq!(
            judge("haproxy", 3, 1, Some(2)),
            Outcome::failure("3 processes haproxy, at most 2 expected")
        );
        assert_eq!(judge("haproxy", 0, 0, Some(0)), Outcome::success("0 processes haproxy"));
    }

    #[test]
    fn this_process_is_found() {
        let name = std::fs::read_to_string("/proc/self/comm").unwrap();
        assert!(count(Path::new("/proc"), name.trim_end()).unwrap() >= 1);
    }
}
