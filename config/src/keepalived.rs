//! keepalived.conf: the whole language of 2.4.3, and the meaning of its VRRP part.

use std::path::Path;

use crate::LoadOptions;
use crate::diagnostic::Diagnostics;
use crate::model::Model;

mod expand;
mod keywords;
mod lexer;
mod lower;
mod manual;
mod parser;
mod reader;

pub(crate) use lower::{ip_protocol, is_interface_name, locator, mac};
pub(crate) use manual::page as keywords_page;
pub(crate) use reader::read_file;

/// Reads a file and everything it includes, and adds what it means to the model.
pub(crate) fn load(
    files: &[(&Path, Vec<u8>)],
    options: &LoadOptions,
    model: &mut Model,
    diagnostics: &mut Diagnostics,
) {
    let mut reader = reader::Reader::new(options, diagnostics);
    for (path, bytes) in files {
        reader.read_text(path, bytes);
    }
    let pieces = reader.into_pieces();
    let statements = parser::parse(pieces, diagnostics);
    let checker_scripts = parser::checker_scripts(&statements);
    let virtual_servers = statements.iter().filter(|s| s.keyword() == "virtual_server").count();
    let statements = parser::keep_meaning(statements, keywords::Context::Top, diagnostics);
    lower::lower(&statements, options, model, diagnostics);
    model.shown.checker_scripts = checker_scripts;
    model.shown.virtual_servers = virtual_servers;
    model.shown.instances = model.instances.len();
}
