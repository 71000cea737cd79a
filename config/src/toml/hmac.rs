//! `hmac` of an instance: the keys that its adverts are signed with.

use toml::Spanned;
use toml::de::DeValue;

use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::hmac;
use crate::ready::{Hmac, HmacKey, HmacMode};

use super::Door;
use super::table::Table;

impl Door<'_> {
    pub(super) fn hmac(&mut self, mut table: Table<'_>) -> Option<Hmac> {
        let mut keys: Vec<HmacKey> = Vec::new();
        for value in self.list(&mut table, "keys") {
            let Some(key) = self.hmac_key(value) else { continue };
            if keys.iter().any(|one| one.id == key.id) {
                let at = self.at(value);
                self.refuse(&at, format!("key {} is there already", key.id), "each id once");
            } else {
                keys.push(key);
            }
        }
        let active_key = self.integer::<u8>(&mut table, "active_key", 0..=255);
        if active_key.is_none() && !table.has("active_key") {
            self.missing(&table, "active_key", "the id of the key that we sign with");
        }
        if let Some(active) =
            active_key.as_ref().filter(|active| keys.iter().all(|key| key.id != active.value))
        {
            let message = format!("there is no key {}", active.value);
            let finding = Diagnostic::warning("hmac-without-active-key", &active.at, message);
            self.diagnostics
                .push(finding.expected("the id of one of `keys`").help("the instance stays in FAULT"));
        }
        let window = Duration::from_secs(1)..=Duration::from_secs(300);
        let time_window =
            self.duration(&mut table, "time_window", window).map_or(Duration::ZERO, |time| time.value);
        let monotonic = self.on(&mut table, "monotonic");
        let mode = match self.text(&mut table, "mode") {
            None => HmacMode::Enforce,
            Some(mode) => match mode.value.as_str() {
                "enforce" => HmacMode::Enforce,
                "permissive" => HmacMode::Permissive,
                "receive-only" => HmacMode::ReceiveOnly,
                _ => {
                    let expected = "\"enforce\", \"permissive\" or \"receive-only\"";
                    self.refuse(&mode.at, "an unknown mode", expected);
                    HmacMode::Enforce
                }
            },
        };
        self.finish(table);
        Some(Hmac { keys, active_key: active_key?.value, time_window, monotonic, mode })
    }

    /// `{ id, secret | secret_hex | file }`.
    fn hmac_key(&mut self, value: &Spanned<DeValue<'_>>) -> Option<HmacKey> {
        let mut table = self.as_table(value)?;
        let id = self.integer::<u8>(&mut table, "id", 1..=255);
        if id.is_none() && !table.has("id") {
            self.missing(&table, "id", "1 to 255, the same on all routers");
        }
        let text = self.text(&mut table, "secret");
        let digits = self.text(&mut table, "secret_hex");
        let file = self.path(&mut table, "file");
        let at = table.at.clone();
        let secret = match (text, digits, &file) {
            (Some(text), None, None) => hmac::of_length(text.value.into_bytes(), &text.at),
            (None, Some(digits), None) => match hmac::from_hexadecimal(digits.value.as_bytes()) {
                Some(secret) => hmac::of_length(secret, &digits.at),
                None => {
                    let finding = Diagnostic::error("invalid-value", &digits.at, "not hexadecimal");
                    Err(Box::new(finding.expected("64 to 128 digits")))
                }
            },
            (None, None, Some(file)) => hmac::from_file(&file.value, &file.at, self.diagnostics),
            _ => {
                let finding = Diagnostic::error("invalid-value", &at, "not one secret");
                Err(Box::new(finding.expected("one of `secret`, `secret_hex` and `file`")))
            }
        };
        let secret = secret.map_err(|finding| self.diagnostics.push(*finding)).ok();
        self.finish(table);
        Some(HmacKey { id: id?.value, secret: secret?, file: file.map(|file| file.value) })
    }
}
