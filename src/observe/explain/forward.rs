//! Why are the clients of this listener served, or refused?

use std::time::{Duration, SystemTime};

use crate::observe::event::Health;
use crate::observe::status::{Admin, BackendStatus, ListenerStatus};
use crate::observe::words::{ago, long};

/// Backends that a sentence names; the others are counted.
const NAMED: usize = 5;

/// The sentence for [`ListenerStatus::why`], from all its other fields.
pub fn listener(listener: &ListenerStatus, now: SystemTime) -> String {
    let name = &listener.name;
    let (in_use, out): (Vec<_>, Vec<_>) =
        listener.backends.iter().partition(|backend| out_of_use(backend, now).is_none());
    let against = named(out.into_iter().filter_map(|backend| out_of_use(backend, now)));
    if listener.backends.is_empty() {
        return format!("{name} refuses: {}", nobody(listener));
    }
    if listener.refuses {
        return format!("{name} refuses: {against}");
    }
    let notes = named(in_use.iter().filter_map(|backend| note(backend, now)));
    let (count, all) = (in_use.len(), listener.backends.len());
    let mut sentence = match () {
        () if count == 0 => format!("{name} tries every backend, though none is healthy: {against}"),
        () if in_use.iter().all(|backend| backend.backup) && !against.is_empty() => {
            format!("{name} serves with {count} of its backups: {against}")
        }
        () if against.is_empty() => format!("{name} serves with {count} of {all} backends"),
        () => format!("{name} serves with {count} of {all} backends: {against}"),
    };
    if listener.sessions_limit > 0 && listener.sessions >= listener.sessions_limit {
        sentence += &format!("; it is full ({} sessions), more clients wait", listener.sessions);
    }
    if !notes.is_empty() {
        sentence = sentence + "; " + &notes;
    }
    sentence
}

fn nobody(listener: &ListenerStatus) -> String {
    let failed = listener.names.iter().filter_map(|name| {
        let error = name.error.as_ref()?;
        Some(format!("{} is not known: {error}", name.name))
    });
    let failed = named(failed);
    if failed.is_empty() { "it has no backend (yet)".to_owned() } else { failed }
}

/// Why a backend gets no new sessions: `cp1 down since 3 s: connect refused`. `None`: it gets some.
pub fn out_of_use(backend: &BackendStatus, now: SystemTime) -> Option<String> {
    let name = &backend.name;
    let since = |at: Option<SystemTime>| at.map_or_else(String::new, |at| format!(" since {}", ago(now, at)));
    match backend.admin {
        Admin::Maint if backend.admin_since.is_none() => {
            return Some(format!("{name} in maintenance by configuration"));
        }
        Admin::Maint => return Some(format!("{name} in maintenance{}", since(backend.admin_since))),
        Admin::Drain => return Some(format!("{name} draining{}", since(backend.admin_since))),
        Admin::Ready => {}
    }
    if backend.health == Health::Down {
        let detail = backend.observed.as_ref().unwrap_or(&backend.detail);
        return Some(format!("{name} down{}: {detail}", since(backend.since)));
    }
    (backend.weight == 0).then(|| format!("{name} has weight 0"))
}

/// What is to be said of a backend that gets sessions.
fn note(backend: &BackendStatus, now: SystemTime) -> Option<String> {
    let name = &backend.name;
    if let Some(rest) = backend.suspected {
        let rest = long(rest + Duration::from_millis(999));
        return Some(format!("{name} comes last for {rest}: a connect to it hung"));
    }
    match backend.health {
        Health::Unknown => {
            let since = backend.since.map_or_else(String::new, |at| format!(" for {}", ago(now, at)));
            Some(format!("{name} not checked yet{since}"))
        }
        Health::Up | Health::Down => None,
    }
}

fn named(parts: impl Iterator<Item = String>) -> String {
    let mut parts: Vec<String> = parts.collect();
    if parts.len() > NAMED + 1 {
        let more = parts.len() - NAMED;
        parts.truncate(NAMED);
        parts.push(format!("{more} more"));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::sample;
    use crate::observe::status::NameStatus;

    fn backend(name: &str) -> BackendStatus {
        BackendStatus::new(name.into(), "10.0.0.11:6443".parse().unwrap())
    }

    fn down(name: &str) -> BackendStatus {
        BackendStatus {
            health: Health::Down,
            since: Some(sample::now() - Duration::from_secs(3)),
            detail: "connect refused".into(),
            ..backend(name)
        }
    }

    fn maint(name: &str) -> BackendStatus {
        let since = Some(sample::now() - Duration::from_secs(130));
        BackendStatus { admin: Admin::Maint, admin_since: since, ..backend(name) }
    }

    fn said(backends: Vec<BackendStatus>, refuses: bool) -> String {
        let status = ListenerStatus { name: "api".into(), backends, refuses, ..ListenerStatus::default() };
        listener(&status, sample::now())
    }

    #[test]
    fn a_refusal_names_every_backend_and_why() {
        assert_eq!(
            said(vec![down("cp1"), maint("cp2")], true),
            "api refuses: cp1 down since 3 s: connect refused; cp2 in maintenance since 2 min 10 s"
        );
    }

    #[test]
    fn what_is_well_is_short() {
        assert_eq!(said(vec![backend("cp1"), backend("cp2")], false), "api serves with 2 of 2 backends");
    }

    #[test]
    fn a_part_that_is_missing_is_named() {
        assert_eq!(
            said(vec![backend("cp1"), down("cp2")], false),
            "api serves with 1 of 2 backends: cp2 down since 3 s: connect refused"
        );
        let drained = BackendStatus { admin: Admin::Drain, ..backend("cp2") };
        assert_eq!(
            said(vec![backend("cp1"), drained], false),
            "api serves with 1 of 2 backends: cp2 draining"
        );
        let sorry = BackendStatus { backup: true, ..backend("sorry") };
        assert_eq!(
            said(vec![down("cp1"), sorry], false),
            "api serves with 1 of its backups: cp1 down since 3 s: connect refused"
        );
    }

    #[test]
    fn trying_all_and_knowing_nothing_are_said() {
        assert_eq!(
            said(vec![down("cp1")], false),
            "api tries every backend, though none is healthy: cp1 down since 3 s: connect refused"
        );
        let unknown = BackendStatus { health: Health::Unknown, ..backend("cp1") };
        assert_eq!(said(vec![unknown], false), "api serves with 1 of 1 backends; cp1 not checked yet");
        let suspected = BackendStatus { suspected: Some(Duration::from_millis(4200)), ..backend("cp1") };
        assert_eq!(
            said(vec![suspected], false),
            "api serves with 1 of 1 backends; cp1 comes last for 5 s: a connect to it hung"
        );
    }

    #[test]
    fn a_name_without_addresses_is_the_reason() {
        let names = vec![NameStatus {
            name: "etcd.example.org:2379".into(),
            error: Some("no such name".into()),
            ..NameStatus::default()
        }];
        let status =
            ListenerStatus { name: "etcd".into(), names, refuses: true, ..ListenerStatus::default() };
        assert_eq!(
            listener(&status, sample::now()),
            "etcd refuses: etcd.example.org:2379 is not known: no such name"
        );
    }

    #[test]
    fn a_full_listener_says_so() {
        let status = ListenerStatus {
            name: "api".into(),
            backends: vec![backend("cp1")],
            sessions: 10,
            sessions_limit: 10,
            ..ListenerStatus::default()
        };
        assert_eq!(
            listener(&status, sample::now()),
            "api serves with 1 of 1 backends; it is full (10 sessions), more clients wait"
        );
    }

    #[test]
    fn of_many_backends_a_few_are_named() {
        let many = (0..100).map(|number| down(&format!("b{number}"))).collect();
        let sentence = said(many, true);
        assert!(
            sentence.ends_with("b4 down since 3 s: connect refused; 95 more") && sentence.len() < 300,
            "{sentence}"
        );
    }
}
