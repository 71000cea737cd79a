//! `-t`: what keepalived's test of a configuration says, and above all its exit code, which programs read.
//!
//! keepalived 2.2.7 reads the files, then tests the start and stop scripts, the checkers and the VRRP side one
//! after the other. A script that is run without `enable_script_security` gives 6, any other complaint 5, a
//! missing parameter 2 at once. What differs on purpose stands in [`complaints`] with its reason.

mod complaints;
mod scripts;

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use config::LoadOptions;
use config::diagnostic::{Diagnostics, Severity};
use config::ready::DynamicInterfaces;
use nix::libc;

use super::{Wanted, exit, missing, refuse};
use crate::daemon::process;

pub use complaints::lacks_an_include;

/// Tests the configuration; complaints go to standard error, or are appended to `report`.
pub fn run(wanted: &Wanted, report: Option<&Path>) -> ExitCode {
    let open = |path: &Path| {
        let options = File::options().append(true).create(true).custom_flags(libc::O_NOFOLLOW).open(path);
        options.map_err(|error| format!("Unable to open config-test log file {} - {error}", path.display()))
    };
    let mut report: Box<dyn Write> = match report.map(open) {
        None => Box::new(io::stderr()),
        Some(Ok(file)) => Box::new(file),
        Some(Err(problem)) => return refuse(&problem),
    };
    let (text, code) = result(wanted);
    match report.write_all(text.as_bytes()) {
        Ok(()) => ExitCode::from(code),
        Err(error) => refuse(&format!("Cannot write the report: {error}")),
    }
}

/// One line for each complaint, and the exit code.
fn result(wanted: &Wanted) -> (String, u8) {
    if wanted.files.is_empty() {
        // keepalived 2.2.7 says so and is content.
        return (missing(&wanted.pattern), 0);
    }
    let options = LoadOptions { config_id: wanted.config_id.clone(), ..LoadOptions::default() };
    let (config, _) = config::load_in_part(&wanted.paths(), &options);
    let namespace = wanted.namespace.clone().or(config.process.net_namespace);
    if let Some(name) = namespace
        && let Err(error) = process::enter_namespace(&name)
    {
        // So does keepalived 2.2.7: a test elsewhere than on the host says nothing of its interfaces.
        return (format!("Unable to set network namespace {name} - not tested: {error}\n"), 0);
    }
    let options = LoadOptions { check_host: true, keep_unused: true, ..options };
    let (config, diagnostics) = config::load_in_part(&wanted.paths(), &options);
    let dynamic = config.engine.dynamic_interfaces != DynamicInterfaces::No;
    let judged = complaints::judge(&diagnostics, wanted.all_config, dynamic);
    if judged.code == exit::CANNOT_RUN {
        return (shown(&diagnostics), exit::CANNOT_RUN);
    }
    let (more, highest) = scripts::complaints(&config, judged.without_interfaces);
    (shown(&diagnostics) + &more, judged.code.max(highest))
}

/// Errors and warnings as keepalived shows them: `(FILE: Line N) text`.
fn shown(diagnostics: &Diagnostics) -> String {
    let mut text = String::new();
    for finding in diagnostics.iter().filter(|finding| finding.severity != Severity::Notice) {
        let place = &finding.location.place;
        text.push_str(&format!("({}: Line {}) ", place.file, place.line));
        text.push_str(&finding.message);
        if let Some(expected) = &finding.expected {
            text.push_str(&format!("; expected {expected}"));
        }
        text.push('\n');
    }
    text
}
