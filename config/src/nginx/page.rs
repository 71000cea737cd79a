//! Of the `http` block: pages that only say that nginx runs.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::model::Model;
use crate::ready::HealthPage;
use crate::written::Statement;

use super::value;

/// What each `server` of `http` comes to: a health page, or a line that it is not carried.
pub(super) fn lower(http: &Statement, model: &mut Model, diagnostics: &mut Diagnostics) {
    let inside = || http.block.iter().flat_map(|block| &block.statements);
    for server in inside().filter(|line| line.keyword() == "server") {
        if !health(server, model, diagnostics) {
            let finding =
                Diagnostic::warning("not-carried", server.at(), "this `server` of `http` is not carried");
            diagnostics.push(finding.help("vipd carries TCP: keep nginx for it, without the `stream` block"));
        }
    }
    if !inside().any(|line| line.keyword() == "server") {
        let finding = Diagnostic::notice("not-needed", http.at(), "`http` has no effect here");
        diagnostics.push(
            finding.help(
                "it has no `server` in this file; what nginx serves from included files is not carried",
            ),
        );
    }
}

/// Without blanks, so that it fits into a request.
fn is_path(text: &str) -> bool {
    text.chars().all(|c| !c.is_whitespace() && !c.is_control())
}

/// `location /healthz { return 200; }`, maybe beside `stub_status`.
fn health(server: &Statement, model: &mut Model, diagnostics: &mut Diagnostics) -> bool {
    let inside = || server.block.iter().flat_map(|block| &block.statements);
    let answers = |location: &&Statement| {
        let lines = || location.block.iter().flat_map(|block| &block.statements);
        let says = |line: &Statement| {
            line.keyword() == "return" && line.parameter().is_some_and(|code| code.text == "200")
        };
        lines().any(says)
            && lines().all(|line| {
                says(line) || matches!(line.keyword(), "access_log" | "default_type" | "add_header" | "allow")
            })
    };
    let is_status = |location: &&Statement| {
        location.block.iter().flat_map(|block| &block.statements).any(|line| line.keyword() == "stub_status")
    };
    let locations: Vec<&Statement> = inside().filter(|line| line.keyword() == "location").collect();
    let pages: Vec<&Statement> = locations.iter().copied().filter(|location| answers(location)).collect();
    let [page] = pages.as_slice() else { return false };
    if locations.iter().any(|location| !answers(location) && !is_status(location)) {
        return false;
    }
    // An expression is no path, and what does not begin with `/` is asked for by nobody.
    let path = match page.words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().as_slice() {
        [_, path] | [_, "=" | "^~", path] if path.starts_with('/') && is_path(path) => *path,
        _ => return false,
    };
    let mut made = false;
    for listen in inside().filter(|line| line.keyword() == "listen").filter_map(Statement::parameter) {
        match value::listen(&listen.text) {
            Ok(bind) => {
                model.health_pages.push(HealthPage {
                    bind,
                    path: path.to_owned(),
                    listeners: Vec::new(),
                    least: 1,
                    place: listen.at.place.clone(),
                });
                made = true;
            }
            Err(why) => {
                let finding = Diagnostic::error("invalid-value", &listen.at, why);
                diagnostics.push(finding.expected("PORT or ADDRESS:PORT"));
            }
        }
    }
    for location in locations.iter().filter(|location| is_status(location)) {
        let finding = Diagnostic::warning("not-carried", location.at(), "`stub_status` is not served");
        diagnostics
            .push(finding.help(
                "vipd serves its metrics where `[control]`, `metrics = \"ADDRESS:PORT\"` says in TOML",
            ));
    }
    made
}
