//! Which processes count: by the short name, by the command, by its parameters.

use std::io;
use std::path::Path;

use config::ready::{ParameterMatch, ProcessProbe};

/// Octets that the kernel keeps of a command's name.
const COMM_LENGTH: usize = 15;

/// What /proc shows of a process that is alive.
#[derive(Debug)]
pub(super) struct Seen {
    comm: Vec<u8>,
    /// `argv`; empty for threads of the kernel, and where nobody asks.
    arguments: Vec<Vec<u8>>,
}

/// Some of these can be told only with the command line.
pub(super) fn needs_arguments(wanted: &ProcessProbe) -> bool {
    compares_command(wanted) || wanted.parameters.is_some()
}

fn compares_command(wanted: &ProcessProbe) -> bool {
    wanted.full_command || wanted.name.contains('/')
}

/// `None` for one that is not there, or only waits to be buried.
pub(super) fn look(process: &Path, with_arguments: bool) -> io::Result<Option<Seen>> {
    // "4711 (kube-apiserver) S 1 …"; the name may hold anything, also ") ".
    let stat = std::fs::read(process.join("stat"))?;
    let (Some(open), Some(close)) =
        (stat.iter().position(|octet| *octet == b'('), stat.iter().rposition(|octet| *octet == b')'))
    else {
        return Ok(None);
    };
    let (Some(comm), Some(state)) = (stat.get(open + 1..close), stat.get(close + 2)) else {
        return Ok(None);
    };
    if matches!(state, b'Z' | b'X' | b'x') {
        return Ok(None);
    }
    let mut arguments = Vec::new();
    if with_arguments {
        let line = std::fs::read(process.join("cmdline"))?;
        let line = line.strip_suffix(&[0]).unwrap_or(&line);
        arguments.extend(line.split(|octet| *octet == 0).map(<[u8]>::to_vec));
    }
    Ok(Some(Seen { comm: comm.to_vec(), arguments }))
}

/// This process is one of those that are wanted.
pub(super) fn matches(wanted: &ProcessProbe, seen: &Seen) -> bool {
    let name = wanted.name.as_bytes();
    let named = if compares_command(wanted) {
        seen.arguments.first().is_some_and(|command| command == name)
    } else {
        seen.comm == name[..name.len().min(COMM_LENGTH)]
    };
    named && parameters_match(wanted, seen)
}

fn parameters_match(wanted: &ProcessProbe, seen: &Seen) -> bool {
    let Some((how, wanted)) = &wanted.parameters else { return true };
    let given = seen.arguments.get(1..).unwrap_or_default();
    let equal = |count: usize| {
        given.len() >= count
            && given.iter().zip(wanted).take(count).all(|(given, wanted)| *given == wanted.as_bytes())
    };
    match (how, wanted.split_last()) {
        (ParameterMatch::Exact, _) => given.len() == wanted.len() && equal(wanted.len()),
        (ParameterMatch::Partial, _) => equal(wanted.len()),
        (ParameterMatch::Initial, None) => true,
        (ParameterMatch::Initial, Some((last, before))) => {
            equal(before.len()) && given.get(before.len()).is_some_and(|one| one.starts_with(last.as_bytes()))
        }
    }
}
