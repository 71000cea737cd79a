//! What each backend gets, by what is known of it.

use config::LoadOptions;
use config::ready::Listener;

use super::pool::Share::{self, Ended, Kept, New, None as Nothing};
use super::*;

fn listener(rest: &str) -> Listener {
    let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    let text = format!(
        "[[listener]]\nname = \"web\"\nbind = [\"192.0.2.1:80\"]\nmode = \"kernel\"\n{rest}\nbackends = [\
         {{ name = \"a\", address = \"192.0.2.11:80\" }}, {{ name = \"b\", address = \"192.0.2.12:80\" }}, \
         {{ name = \"c\", address = \"192.0.2.13:80\" }}]\n"
    );
    std::fs::write(file.path(), text).unwrap();
    let loaded = config::load(&[file.path()], &LoadOptions::default());
    let config = loaded.config.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render_human(false)));
    config.listeners.into_iter().next().unwrap()
}

fn now(listener: &Listener, healths: [Health; 3]) -> Vec<BackendStatus> {
    let one = |(backend, health): (&config::ready::Backend, Health)| BackendStatus {
        health,
        effective_weight: 1,
        ..BackendStatus::new(backend.name.clone(), backend.address)
    };
    listener.backends.iter().zip(healths).map(one).collect()
}

fn shares(listener: &Listener, now: &[BackendStatus]) -> Vec<Share> {
    members(listener, now, false).into_iter().map(|member| member.share).collect()
}

#[test]
fn a_backend_that_is_down_is_ended_unless_its_sessions_are_to_stay() {
    let ends = listener("");
    let now_down = now(&ends, [Health::Up, Health::Down, Health::Up]);
    assert_eq!(shares(&ends, &now_down), [New(1), Ended, New(1)]);
    let stays = listener("close_sessions_on_backend_down = false");
    assert_eq!(shares(&stays, &now_down), [New(1), Nothing, New(1)]);
}

#[test]
fn a_backend_of_which_nothing_is_known_comes_after_those_that_are_up() {
    let listener = listener("");
    let some = now(&listener, [Health::Unknown, Health::Up, Health::Unknown]);
    assert_eq!(shares(&listener, &some), [Nothing, New(1), Nothing]);
    let none = now(&listener, [Health::Unknown, Health::Down, Health::Unknown]);
    assert_eq!(shares(&listener, &none), [New(1), Ended, New(1)]);
}

#[test]
fn drain_and_weight_0_keep_what_persistence_brings_and_maintenance_does_not() {
    let listener = listener("");
    let mut now = now(&listener, [Health::Up; 3]);
    (now[0].admin, now[0].effective_weight) = (Admin::Drain, 0);
    now[1].admin = Admin::Maint;
    now[2].effective_weight = 7;
    assert_eq!(shares(&listener, &now), [Kept, Nothing, New(7)]);
    now[2].effective_weight = 0;
    assert_eq!(shares(&listener, &now), [Kept, Nothing, Kept]);
}

#[test]
fn backups_get_sessions_only_while_no_other_can() {
    let mut listener = listener("");
    listener.backends[2].policy.backup = true;
    let all = now(&listener, [Health::Up; 3]);
    assert_eq!(shares(&listener, &all), [New(1), New(1), Nothing]);
    let backup = now(&listener, [Health::Down, Health::Down, Health::Up]);
    assert_eq!(shares(&listener, &backup), [Ended, Ended, New(1)]);
    listener.backends[1].policy.backup = true;
    let backups = now(&listener, [Health::Down, Health::Up, Health::Up]);
    assert_eq!(shares(&listener, &backups), [Ended, New(1), New(1)]);
    listener.policy.backups = config::ready::Backups::First;
    assert_eq!(shares(&listener, &backups), [Ended, New(1), Nothing]);
    assert_eq!(shares(&listener, &backup), [Ended, Ended, New(1)]);
}

#[test]
fn with_try_all_everybody_is_tried_when_all_are_down() {
    let mut listener = listener("");
    listener.policy.no_backend = NoBackend::TryAll;
    let none = now(&listener, [Health::Down; 3]);
    assert_eq!(shares(&listener, &none), [New(1); 3]);
    let one = now(&listener, [Health::Down, Health::Up, Health::Down]);
    assert_eq!(shares(&listener, &one), [Ended, New(1), Ended]);
}

#[test]
fn while_the_quorum_is_lost_backups_alone_are_used() {
    let mut listener = listener("");
    listener.backends[2].policy.backup = true;
    let with = |now: &[BackendStatus], lost| {
        members(&listener, now, lost).into_iter().map(|member| member.share).collect::<Vec<_>>()
    };
    let all = now(&listener, [Health::Up; 3]);
    assert_eq!(with(&all, true), [Nothing, Nothing, New(1)]);
    assert_eq!(with(&all, false), [New(1), New(1), Nothing]);
    let no_backup = now(&listener, [Health::Up, Health::Up, Health::Down]);
    assert_eq!(with(&no_backup, true), [New(1), New(1), Ended]);
}

#[test]
fn sessions_of_backups_end_when_another_can_take_them_again() {
    let mut listener = listener("close_backup_sessions = true");
    listener.backends[2].policy.backup = true;
    let backup = now(&listener, [Health::Down, Health::Down, Health::Up]);
    assert_eq!(shares(&listener, &backup), [Ended, Ended, New(1)]);
    let back = now(&listener, [Health::Up, Health::Down, Health::Up]);
    assert_eq!(shares(&listener, &back), [New(1), Ended, Ended]);
}
