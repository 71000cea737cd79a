//! Commands and checks.

use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::ready::{Command, Notify};
use crate::time::shown;

use super::Host;

pub(super) fn judge(host: &Host, diagnostics: &mut Diagnostics) {
    for check in &host.config.checks {
        let Some(command) = check.probe.command() else { continue };
        needs_shell(command, diagnostics);
        if check.timeout > check.interval {
            let message = format!(
                "check {} may take {}, longer than its interval of {}",
                check.name,
                shown(check.timeout),
                shown(check.interval)
            );
            let at = Location { place: check.place.clone(), length: 1 };
            let finding = Diagnostic::notice("timeout-over-interval", &at, message);
            diagnostics.push(
                finding
                    .expected("a timeout of at most the interval")
                    .help("runs that are due meanwhile are left out, so it fails later than fall x interval"),
            );
        }
    }
    let config = &host.config;
    let notify =
        config.instances.iter().map(|i| &i.notify).chain(config.sync_groups.iter().map(|g| &g.notify));
    let told = notify.flat_map(Notify::commands);
    let fifos = config.fifos.iter().filter_map(|fifo| fifo.script.as_deref());
    let process =
        [&config.process.startup, &config.process.shutdown].into_iter().filter_map(Option::as_deref);
    let backends =
        config.listeners.iter().flat_map(|listener| &listener.backends).map(|backend| &backend.policy);
    let of_backends = backends.flat_map(|policy| [&policy.notify_up, &policy.notify_down]);
    let quorums = config.listeners.iter().filter_map(|listener| listener.policy.quorum.as_ref());
    let of_servers = of_backends.chain(quorums.flat_map(|quorum| [&quorum.up, &quorum.down]));
    let of_servers = of_servers.filter_map(|command| command.as_deref());
    for command in told.chain(fifos).chain(process).chain(of_servers) {
        needs_shell(command, diagnostics);
    }
}

/// Words of a shell reach the program as arguments: nobody splits the line at them.
fn needs_shell(command: &Command, diagnostics: &mut Diagnostics) {
    let Some(word) = command.arguments.iter().find(|word| is_shell(word)) else { return };
    let program = command.program.display();
    let shown: String = word.chars().take(20).collect();
    let at = Location { place: command.place.clone(), length: 1 };
    let finding =
        Diagnostic::warning("script-needs-shell", &at, format!("`{shown}` is an argument of `{program}`"));
    diagnostics.push(finding.expected("a program and its arguments").help(
        "no shell runs the line, here as in keepalived; write it into a script, or as \"/bin/sh -c 'LINE'\"",
    ));
}

/// A word that means something to a shell alone: an operator, or a redirection.
fn is_shell(word: &str) -> bool {
    let redirected = word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '&');
    let target = redirected.strip_prefix(">>").or_else(|| redirected.strip_prefix('>'));
    matches!(word, "|" | "||" | "&&" | "&" | ";" | "<")
        || target.is_some_and(|file| file.is_empty() || file.starts_with(['/', '&']))
}

#[cfg(test)]
mod tests {
    use super::is_shell;

    #[test]
    fn operators_and_redirections_are_words_of_a_shell() {
        for word in
            ["|", "||", "&&", ">", ">>", "2>", "2>&1", ">/dev/null", "2>/dev/null", "&>/dev/null", "<"]
        {
            assert!(is_shell(word), "{word}");
        }
        for word in ["a|b", "-c", "a && b", "10>5x", "<html>", "->", "a>b", "2", "&amp;", ""] {
            assert!(!is_shell(word), "{word}");
        }
    }
}
