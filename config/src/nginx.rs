//! nginx.conf: its `stream` block, as nginx 1.22 reads it.
//!
//! What nginx does not start with is refused with its reason; what cannot be carried is named at its line, with what to
//! write instead.

use std::path::Path;

use crate::diagnostic::Diagnostics;
use crate::model::Model;

mod keywords;
mod lower;
mod manual;
mod page;
mod parser;
mod upstream;
mod value;

pub(crate) use manual::page as keywords_page;

/// Reads a file with what it includes, and adds what it means to the model.
pub(crate) fn load(path: &Path, bytes: &[u8], model: &mut Model, diagnostics: &mut Diagnostics) {
    if let Some(statements) = parser::read(path, bytes, diagnostics) {
        lower::lower(&statements, model, diagnostics);
    }
}
