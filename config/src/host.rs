//! What this host lacks: looked at only when the caller asks for it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::ready::{Command, Config, Notify, Place};

mod networks;

/// Warns of interfaces that are missing, of addresses that do not fit their networks, and of scripts that are missing or cannot be run.
pub(crate) fn check(config: &Config, diagnostics: &mut Diagnostics) {
    if let Ok(interfaces) = interfaces() {
        missing_interfaces(config, &interfaces, diagnostics);
        missing_elsewhere(config, &interfaces, diagnostics);
    }
    networks::check(config, &networks::of_this_host(), diagnostics);
    for check in &config.checks {
        if let Some(command) = check.probe.command() {
            script(command, "it counts as failed until it is there", diagnostics);
        }
    }
    let notify =
        config.instances.iter().map(|i| &i.notify).chain(config.sync_groups.iter().map(|g| &g.notify));
    let fifos = config.fifos.iter().filter_map(|fifo| fifo.script.as_deref());
    let process =
        [&config.process.startup, &config.process.shutdown].into_iter().filter_map(Option::as_deref);
    for command in notify.flat_map(Notify::commands).chain(fifos).chain(process) {
        script(command, "it cannot be run until it is there", diagnostics);
    }
}

/// Of the network namespace that we are in, which /sys need not show.
fn interfaces() -> std::io::Result<HashSet<String>> {
    let table = std::fs::read_to_string("/proc/self/net/dev")?;
    Ok(table
        .lines()
        .skip(2)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.trim().to_owned())
        .collect())
}

fn missing_interfaces(config: &Config, present: &HashSet<String>, diagnostics: &mut Diagnostics) {
    for instance in &config.instances {
        let tracked = instance.track_interfaces.iter().map(|t| (&t.interface, &instance.place));
        let addresses = instance.held().map(|a| (&a.interface, &a.place));
        let mut told = HashSet::new();
        for (interface, place) in
            std::iter::once((&instance.interface, &instance.place)).chain(tracked).chain(addresses)
        {
            if !interface.is_empty() && !present.contains(interface) && told.insert(interface) {
                let message = format!("instance {}: this host has no interface {interface}", instance.name);
                let finding = Diagnostic::warning("interface-missing", &at(place), message);
                diagnostics
                    .push(finding.help("the instance waits in FAULT until it is there; see `ip link`"));
            }
        }
    }
}

/// Those of routes, rules and settings that stand by themselves.
fn missing_elsewhere(config: &Config, present: &HashSet<String>, diagnostics: &mut Diagnostics) {
    let routes = config.instances.iter().flat_map(|i| &i.routes).chain(&config.static_routes);
    let routes = routes.flat_map(|route| {
        route.next_hops.iter().filter_map(|hop| hop.interface.as_ref()).map(|i| (i, &route.place))
    });
    let rules = config.instances.iter().flat_map(|i| &i.rules).chain(&config.static_rules);
    let rules = rules.flat_map(|rule| {
        [&rule.input_interface, &rule.output_interface].into_iter().flatten().map(|i| (i, &rule.place))
    });
    let fixed = config.static_addresses.iter().map(|fixed| (&fixed.address.interface, &fixed.address.place));
    let groups = &config.announcement_groups;
    let groups = groups.iter().flat_map(|group| group.interfaces.iter().map(|i| (i, &group.place)));
    let is_missing = |interface: &String| !interface.is_empty() && !present.contains(interface);
    for (interface, place) in routes.chain(rules).chain(fixed).chain(groups).filter(|(i, _)| is_missing(i)) {
        let message = format!("this host has no interface {interface}");
        let finding = Diagnostic::warning("interface-missing", &at(place), message);
        diagnostics.push(finding.help("it takes effect when the interface is there; see `ip link`"));
    }
    for delay in config.link_delays.iter().filter(|delay| is_missing(&delay.interface)) {
        let message = format!("this host has no interface {}", delay.interface);
        let finding = Diagnostic::warning("interface-missing-for-delay", &at(&delay.place), message);
        diagnostics.push(finding.help("the delay counts when the interface is there; see `ip link`"));
    }
}

fn script(command: &Command, missing: &str, diagnostics: &mut Diagnostics) {
    let program = &command.program;
    let Some(found) = find(program) else {
        let finding = Diagnostic::warning(
            "script-missing",
            &at(&command.place),
            format!("there is no `{}`", program.display()),
        );
        diagnostics.push(finding.help(missing));
        return;
    };
    if !is_executable(&found) {
        let finding = Diagnostic::warning(
            "script-not-executable",
            &at(&command.place),
            format!("`{}` cannot be executed", found.display()),
        );
        diagnostics.push(finding.help(format!("chmod +x {}", found.display())));
    }
}

/// As it will be started: with a slash as it is, without one through PATH.
fn find(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o111 != 0)
}

fn at(place: &Place) -> Location {
    Location { place: place.clone(), length: 1 }
}
