//! Sync groups, scripts, files, processes and BFD sessions of the data dump.

use config::ready::{Check, Effect, FileExpect, ParameterMatch, Probe, ProcessProbe, SyncGroup};

use super::{Page, Picture, instance, words};
use crate::observe::event::{Health, State};
use crate::observe::status::{Activity, CheckStatus};

/// Sections from the sync groups on; one that has nothing is left out.
pub(super) fn sections(page: &mut Page, picture: &Picture<'_>) {
    let config = picture.config;
    if !config.sync_groups.is_empty() {
        page.section("VRRP Sync groups");
        config.sync_groups.iter().for_each(|one| group(page, picture, one));
    }
    type Wanted = fn(&Probe) -> bool;
    type Printed = fn(&mut Page, &Picture<'_>, &Check, Option<&CheckStatus>);
    let kinds: [(&str, Wanted, Printed); 3] = [
        ("VRRP Scripts", |probe| matches!(probe, Probe::Script(_)), script),
        ("VRRP Track files", is_value, file),
        ("VRRP Track processes", |probe| matches!(probe, Probe::Process(_)), process),
    ];
    for (name, wanted, print) in kinds {
        // keepalived forgets a script that nobody tracks.
        let is_shown = |check: &&Check| {
            wanted(&check.probe)
                && (!matches!(check.probe, Probe::Script(_)) || is_tracked(picture, &check.name))
        };
        for (index, check) in config.checks.iter().filter(is_shown).enumerate() {
            if index == 0 {
                page.section(name);
            }
            print(page, picture, check, picture.check(&check.name).map(|(_, status)| status));
        }
    }
    for (index, session) in config.bfd.iter().filter(|session| session.for_vrrp).enumerate() {
        if index == 0 {
            page.section("VRRP Track BFDs");
        }
        page.line(format!(" VRRP Track BFD = {}", session.name));
        page.line(format!("   Weight = {}", words::weight(session.effect)));
        let is_down = picture.status.instances.iter().any(|status| {
            status.faults.iter().any(|fault| fault.to_string().contains(&format!("BFD {} ", session.name)))
        });
        page.line(format!("   Bfd is {}", if is_down { "down" } else { "up" }));
        page.line("   Tracking VRRP instances :");
        for one in &config.instances {
            for track in one.track_bfd.iter().filter(|track| track.bfd == session.name) {
                page.line(format!("     {}, weight {}", one.name, words::weight(track.effect)));
            }
        }
    }
}

fn is_value(probe: &Probe) -> bool {
    matches!(probe, Probe::File { expect: FileExpect::Value, .. })
}

fn is_tracked(picture: &Picture<'_>, check: &str) -> bool {
    let config = picture.config;
    let by_instances = config.instances.iter().flat_map(|instance| &instance.track_checks);
    let by_groups = config.sync_groups.iter().flat_map(|group| &group.track_checks);
    by_instances.chain(by_groups).any(|track| track.check == check)
}

fn group(page: &mut Page, picture: &Picture<'_>, group: &SyncGroup) {
    let states: Vec<State> = group.members.iter().map(|member| picture.state(member)).collect();
    let count = |wanted: State| states.iter().filter(|state| **state == wanted).count();
    let state = if count(State::Fault) > 0 {
        State::Fault
    } else if count(State::Initialize) > 0 {
        State::Initialize
    } else if count(State::Active) == states.len() {
        State::Active
    } else {
        State::Backup
    };
    page.line(format!(" VRRP Sync Group = {}, {}", group.name, words::state(state)));
    let (fault, init) = (count(State::Fault), count(State::Initialize));
    page.line(format!("   Num member fault {fault}, num member init {init}"));
    page.line("   VRRP member instances :");
    group.members.iter().for_each(|member| page.line(format!("     {member}")));
    if group.tracking_weight {
        page.line("   sync group tracking weight set");
    }
    page.line(format!("   Using smtp notification = {}", words::yes_no(group.smtp_alert)));
    if group.notify.priority_changes {
        page.line("   Notify priority changes = yes");
    }
    instance::interfaces(page, group.track_interfaces.iter());
    instance::trackers(page, picture, "process", &group.track_checks, &group.track_bfd);
    instance::scripts(page, &group.notify);
}

/// The weight that a script, file or process was given where it is defined; where that is not known, the one of its
/// first user.
pub(super) fn written_weight(picture: &Picture<'_>, check: &str) -> (i32, bool) {
    let config = picture.config;
    let by_instances = config.instances.iter().flat_map(|instance| &instance.track_checks);
    let by_groups = config.sync_groups.iter().flat_map(|group| &group.track_checks);
    let used = by_instances.chain(by_groups).find(|track| track.check == check);
    match (picture.config.shown.weights.get(check), used.map(|track| track.effect)) {
        (Some(weight), _) => *weight,
        (None, Some(Effect::Weight { weight, reverse } | Effect::Value { weight, reverse })) => {
            (weight.into(), reverse)
        }
        (None, Some(Effect::Fault { reverse })) => (0, reverse),
        (None, None) => (0, false),
    }
}

fn weight_line(page: &mut Page, picture: &Picture<'_>, check: &str) {
    let (weight, reverse) = written_weight(picture, check);
    page.line(format!("   Weight = {weight}{}", if reverse { " reverse" } else { "" }));
}

fn tracking(page: &mut Page, picture: &Picture<'_>, check: &str, indent: &str) {
    for one in &picture.config.instances {
        let group = picture.config.sync_groups.iter().find(|group| group.members.contains(&one.name));
        let by_group = group.into_iter().flat_map(|group| &group.track_checks);
        let track = by_group.chain(&one.track_checks).find(|track| track.check == check);
        if let Some(track) = track {
            page.line(format!("{indent}{}, weight {}", one.name, words::weight(track.effect)));
        }
    }
}

fn script(page: &mut Page, picture: &Picture<'_>, check: &Check, status: Option<&CheckStatus>) {
    let Probe::Script(command) = &check.probe else { return };
    page.line(format!(" VRRP Script = {}", check.name));
    page.line(format!("   Command = {}", words::command(command)));
    page.line(format!("   Interval = {} sec", check.interval.as_secs()));
    // 0 when nothing was written: the interval counts then.
    let timeout = if check.timeout == check.interval { 0 } else { check.timeout.as_secs() };
    page.line(format!("   Timeout = {timeout} sec"));
    weight_line(page, picture, &check.name);
    page.line(format!("   Rise = {}", check.rise));
    page.line(format!("   Fall = {}", check.fall));
    let result = result(check, status);
    page.line(format!("   Result = {result}"));
    page.line("   Insecure = no");
    page.line(format!("   Init state = {}", init_state(status)));
    page.line(format!("   Status = {}", if result >= check.rise { "GOOD" } else { "BAD" }));
    page.line(format!("   Script uid:gid = {}", words::user(command.user.as_ref())));
    page.line("   VRRP instances :");
    page.line("   Tracking instances :");
    tracking(page, picture, &check.name, "     ");
    page.line(format!(
        "   State = {}",
        match status.map_or(Activity::Idle, |status| status.activity) {
            Activity::Idle => "idle",
            Activity::Running => "running",
            Activity::Ending => "requested termination",
            Activity::Killed => "forcing termination",
        }
    ));
}

/// Before the first result, and from then on `unknown`: what keepalived says of a script that is past its start.
fn init_state(status: Option<&CheckStatus>) -> &'static str {
    match status {
        Some(status) if status.new_by_reload => "INIT/RELOAD",
        Some(status) if status.succeeded + status.failed > 0 => "unknown",
        _ => "INIT",
    }
}

/// keepalived's counter: 0 is as bad as can be, `rise` good, `rise + fall - 1` as good as can be.
fn result(check: &Check, status: Option<&CheckStatus>) -> u32 {
    match status.map(|status| (status.health, status.streak)) {
        Some((Health::Up, failures)) => (check.rise + check.fall - 1).saturating_sub(failures),
        Some((Health::Down, successes)) => successes,
        Some((Health::Unknown, _)) | None => check.rise.saturating_sub(1),
    }
}

fn file(page: &mut Page, picture: &Picture<'_>, check: &Check, status: Option<&CheckStatus>) {
    let Probe::File { path, .. } = &check.probe else { return };
    page.line(format!(" Track file = {}", check.name));
    page.line(format!("   File = {}", path.display()));
    page.line(format!("   Status = {}", status.and_then(|status| status.value).unwrap_or(0)));
    weight_line(page, picture, &check.name);
    if is_tracked(picture, &check.name) {
        page.line("   Tracking instances :");
        tracking(page, picture, &check.name, "     ");
    }
}

/// `param_match` in the JSON dump.
pub(super) fn parameter_match(probe: &ProcessProbe) -> &'static str {
    match probe.parameters.as_ref().map(|(kind, _)| kind) {
        None => "none",
        Some(ParameterMatch::Exact) => "exact",
        Some(ParameterMatch::Partial) => "partial",
        Some(ParameterMatch::Initial) => "initial",
    }
}

/// Processes that run now. What a check says begins with it: `2 processes haproxy`.
pub(super) fn count(status: Option<&CheckStatus>) -> u64 {
    status.and_then(|status| status.detail.split(' ').next()?.parse().ok()).unwrap_or(0)
}

fn process(page: &mut Page, picture: &Picture<'_>, check: &Check, status: Option<&CheckStatus>) {
    let Probe::Process(probe) = &check.probe else { return };
    page.line(format!(" VRRP Track process = {}", check.name));
    page.line(format!("   Process = {}", probe.name));
    if let Some((kind, parameters)) = &probe.parameters {
        if !parameters.is_empty() {
            page.line(format!("   Parameters = {}", parameters.join(" ")));
        }
        page.line(format!(
            "   Param match{}",
            match kind {
                ParameterMatch::Exact => "",
                ParameterMatch::Partial => " = partial",
                ParameterMatch::Initial => " = initial",
            }
        ));
    }
    page.line(format!("   Min processes = {}", probe.quorum));
    if let Some(most) = probe.quorum_max {
        page.line(format!("   Max processes = {most}"));
    }
    page.line(format!("   Current processes = {}", count(status)));
    let quorum = status.is_some_and(|status| status.health == Health::Up);
    page.line(format!("   Have quorum = {quorum}"));
    weight_line(page, picture, &check.name);
    page.line(format!("   Terminate delay = {:.6}s", probe.terminate_delay.as_secs_f64()));
    page.line(format!("   Fork delay = {:.6}s", probe.fork_delay.as_secs_f64()));
    page.line("   Fork delay timer not running");
    page.line("   Terminate delay timer not running");
    page.line(format!("   Full command = {}", probe.full_command));
    if is_tracked(picture, &check.name) {
        page.line("   Tracking instances :");
        tracking(page, picture, &check.name, "     ");
    }
}
