//! haproxy.cfg: the language of HAProxy 2.6, and the meaning of what matters in `mode tcp`.
//!
//! What HAProxy does not start with is refused with its reason; what cannot be carried is named at its line, with
//! what to write instead. Nothing is dropped without a word.

use std::path::Path;

use crate::diagnostic::Diagnostics;
use crate::model::Model;

mod address;
mod bind;
mod check;
mod condition;
mod explain;
mod global;
mod keywords;
mod lower;
mod manual;
mod page;
mod proxy;
mod reader;
mod rules;
mod server;
mod settings;
mod stick;
mod value;
mod words;

pub(crate) use manual::page as keywords_page;

/// Reads files in this order, as `haproxy -f A -f B` does, and adds what they mean to the model.
pub(crate) fn load(files: &[(&Path, Vec<u8>)], model: &mut Model, diagnostics: &mut Diagnostics) {
    if files.is_empty() {
        return;
    }
    let mut reader = reader::Reader::new(diagnostics);
    for (path, bytes) in files {
        reader.read_text(path, bytes);
    }
    let Some(sections) = reader.into_sections() else { return };
    let configuration = proxy::gather(sections, diagnostics);
    lower::lower(&configuration, model, diagnostics);
}
