//! `auth_hmac`: keys and how they are used.
//!
//! A key that cannot be used is left out with a warning, as in keepalived 2.4. When it is the active one the
//! instance stays in FAULT: keepalived would send its adverts unsigned.

use std::path::PathBuf;
use std::time::Duration;

use crate::diagnostic::{Diagnostic, Severity};
use crate::hmac;
use crate::model::Instance;
use crate::ready::{Hmac, HmacKey, HmacMode};
use crate::written::{Statement, Word};

use super::values::Rest;
use super::{Lower, inside};

impl Lower<'_> {
    pub(super) fn auth_hmac(&mut self, block: &Statement, instance: &mut Instance) {
        let mut keys: Vec<HmacKey> = Vec::new();
        let mut active: Option<(u8, &Statement)> = None;
        let mut made = (Duration::ZERO, false, HmacMode::default());
        for statement in inside(block) {
            match statement.keyword() {
                "key" => {
                    if let Some(key) = self.hmac_key(statement) {
                        if keys.iter().any(|one| one.id == key.id) {
                            self.hmac_error(&statement.words[1], "a key of this id is there already");
                        } else {
                            keys.push(key);
                        }
                    }
                }
                "active_key" => {
                    let id = self.required(statement, "the id of a key").and_then(|word| self.key_id(word));
                    active = id.map(|id| (id, statement));
                }
                "time_window" => {
                    let word = self.required(statement, "seconds from 1 to 300");
                    let window =
                        word.and_then(|w| self.number(w, 1..=300, Rest::Warned, "the default is used"));
                    made.0 = window
                        .and_then(|s| u64::try_from(s).ok())
                        .map(Duration::from_secs)
                        .unwrap_or_default();
                }
                "anti_replay" => {
                    let Some(word) = self.required(statement, "`time` or `monotonic`") else { continue };
                    match word.text.as_str() {
                        "time" => made.1 = false,
                        "monotonic" => made.1 = true,
                        _ => self.hmac_error(word, "neither `time` nor `monotonic`"),
                    }
                }
                "mode" => {
                    let Some(word) = self.required(statement, "a mode") else { continue };
                    match word.text.as_str() {
                        "enforce" => made.2 = HmacMode::Enforce,
                        "permissive" => made.2 = HmacMode::Permissive,
                        "receive-only" => made.2 = HmacMode::ReceiveOnly,
                        _ => self.hmac_error(word, "none of `enforce`, `permissive`, `receive-only`"),
                    }
                }
                other => debug_assert!(false, "no meaning for {other}"),
            }
        }
        let (time_window, monotonic, mode) = made;
        let there = active.as_ref().is_some_and(|(id, _)| keys.iter().any(|key| key.id == *id));
        if !there {
            let at = active.as_ref().map_or(block.at().clone(), |(_, statement)| statement.whole());
            let message = format!("instance {}: no key that is active", instance.name.value);
            let finding = Diagnostic::warning("hmac-without-active-key", &at, message);
            self.diagnostics.push(
                finding
                    .expected("`active_key ID` with the id of a `key`")
                    .help("it stays in FAULT; keepalived would run it unsigned"),
            );
        }
        if instance.hmac.is_some() {
            self.repeated(block, Some(block.at()));
        }
        let active_key = active.map_or(0, |(id, _)| id);
        instance.hmac = Some(Hmac { keys, active_key, time_window, monotonic, mode });
    }

    fn hmac_error(&mut self, word: &Word, what: &str) {
        let finding = Diagnostic::warning("hmac", &word.at, what.to_owned());
        self.diagnostics.push(finding.help("the line is ignored"));
    }

    fn key_id(&mut self, word: &Word) -> Option<u8> {
        let id = word.text.parse::<u8>().ok().filter(|id| *id > 0);
        if id.is_none() {
            let finding = Diagnostic::warning("hmac", &word.at, "this is no id of a key");
            self.diagnostics.push(finding.expected("a number from 1 to 255").help("the line is ignored"));
        }
        id
    }

    /// `key ID hex:HEX|file:PATH|TEXT`.
    fn hmac_key(&mut self, statement: &Statement) -> Option<HmacKey> {
        let id = self.required(statement, "`ID VALUE`")?;
        let id = self.key_id(id)?;
        let Some(value) = statement.words.get(2) else {
            self.hmac_error(&statement.words[1], "a key without its value");
            return None;
        };
        let (secret, file) = match value.text.strip_prefix("file:") {
            Some(path) => {
                (hmac::from_file(path.as_ref(), &value.at, self.diagnostics), Some(PathBuf::from(path)))
            }
            None => (hmac::secret(value.text.as_bytes(), &value.at), None),
        };
        match secret {
            Ok(secret) => Some(HmacKey { id, secret, file }),
            Err(finding) => {
                let finding = Diagnostic { severity: Severity::Warning, ..*finding };
                self.diagnostics.push(finding.help("the key is left out"));
                None
            }
        }
    }
}
