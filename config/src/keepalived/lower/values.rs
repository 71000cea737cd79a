//! Numbers, times, booleans and addresses as keepalived reads them.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::diagnostic::{Diagnostic, Located};
use crate::ready::{Effect, User};
use crate::written::{Statement, Word};

use super::Lower;

/// What happens to digits with something behind them, such as `1s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// The daemon warns and uses the digits.
    Warned,
    /// Always refused: `virtual_router_id`, `priority`, `unicast_ttl`.
    Refused,
}

impl Lower<'_> {
    /// The word behind the keyword. Without most of them keepalived does not start; some lines it skips.
    pub(super) fn required<'s>(&mut self, statement: &'s Statement, expected: &str) -> Option<&'s Word> {
        let word = statement.parameter();
        if word.is_none() && may_be_empty(statement.keyword()) {
            let message = format!("`{}` without a value", statement.keyword());
            let finding = Diagnostic::warning("missing-parameter", statement.at(), message);
            self.diagnostics.push(finding.expected(expected).help("the line is ignored, as in keepalived"));
        } else if word.is_none() {
            let message = format!("`{}` without a value", statement.keyword());
            let finding = Diagnostic::error("missing-parameter", statement.at(), message);
            self.diagnostics.push(
                finding.expected(expected).help(
                    "keepalived does not start with this line either; give the value or delete the line",
                ),
            );
        }
        word
    }

    /// A whole number; `None` and a finding when there is none in the range.
    pub(super) fn number(
        &mut self,
        word: &Word,
        range: RangeInclusive<i64>,
        rest: Rest,
        otherwise: &str,
    ) -> Option<i64> {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        let digits = leading_number(&word.text, false);
        // strtol: without digits it is 0.
        let digits = if digits.is_empty() && rest == Rest::Warned { "0" } else { digits };
        let number = digits.parse::<i64>().ok();
        let whole = digits == word.text;
        let Some(number) = number.filter(|_| whole || rest == Rest::Warned) else {
            self.invalid(word, &expected, otherwise);
            return None;
        };
        if !range.contains(&number) {
            self.invalid(word, &expected, otherwise);
            return None;
        }
        if !whole {
            self.cut_number(word, digits);
        }
        Some(number)
    }

    /// A time in seconds with at most `digits` decimals.
    pub(super) fn seconds(
        &mut self,
        word: &Word,
        range: RangeInclusive<f64>,
        decimals: usize,
        otherwise: &str,
    ) -> Option<Duration> {
        self.decimal(word, "seconds", range, decimals, otherwise)
    }

    /// A number with at most `digits` decimals of a unit, as if the unit were seconds.
    pub(super) fn decimal(
        &mut self,
        word: &Word,
        unit: &str,
        range: RangeInclusive<f64>,
        decimals: usize,
        otherwise: &str,
    ) -> Option<Duration> {
        let expected =
            format!("{unit} from {} to {}, at most {decimals} decimals", range.start(), range.end());
        let digits = leading_number(&word.text, decimals > 0);
        let digits = if digits.is_empty() { "0" } else { digits };
        let Some(mut time) = parse_seconds(digits) else {
            self.invalid(word, &expected, otherwise);
            return None;
        };
        // keepalived writes the zeros that are missing behind what it cannot read, so that `2s` is 2 of the
        // smallest unit. The times of scripts are whole numbers in 2.2.7.
        let cut = digits != word.text;
        let smallest = cut && !(unit == "seconds" && decimals == 3);
        if smallest {
            let units = digits.replace(['.', '+'], "").parse().unwrap_or(0);
            time = Duration::from_nanos(10u64.pow(9 - decimals.min(9) as u32).saturating_mul(units));
        }
        if !range.contains(&time.as_secs_f64()) {
            self.invalid(word, &expected, otherwise);
            return None;
        }
        if smallest {
            let message = format!("`{}` is not a plain number", word.text);
            let finding = Diagnostic::warning("number-with-rest", &word.at, message).expected("digits alone");
            let used = format!("{:.decimals$} {unit} is used, as keepalived does", time.as_secs_f64());
            self.diagnostics.push(finding.help(used));
            return Some(time);
        }
        if cut {
            self.cut_number(word, digits);
        }
        let written = digits.split_once('.').map_or(0, |(_, d)| d.len());
        if written > decimals {
            let step = Duration::from_nanos(10u64.pow(9 - decimals.min(9) as u32));
            let rounded = crate::time::round_to(time, step);
            let message = format!("`{digits}` has more than {decimals} decimals");
            self.diagnostics.push(
                Diagnostic::warning("rounded", &word.at, message)
                    .help(format!("{:.decimals$} {unit} is used", rounded.as_secs_f64())),
            );
            return Some(rounded);
        }
        Some(time)
    }

    pub(super) fn cut_number(&mut self, word: &Word, digits: &str) {
        let message = format!("`{}` is not a plain number", word.text);
        let finding = Diagnostic::warning("number-with-rest", &word.at, message).expected("digits alone");
        self.diagnostics.push(finding.help(format!("{digits} is used, as keepalived does")));
    }

    pub(super) fn invalid(&mut self, word: &Word, expected: &str, otherwise: &str) {
        let shown: String = word.text.chars().take(60).collect();
        let finding = Diagnostic::warning("invalid-value", &word.at, format!("`{shown}` is not valid here"));
        self.diagnostics.push(finding.expected(expected).help(otherwise));
    }

    /// A directive with an optional boolean; true without one.
    pub(super) fn boolean(&mut self, statement: &Statement) -> Option<Located<bool>> {
        let Some(word) = statement.parameter() else {
            return Some(Located::new(true, statement.at().clone()));
        };
        match boolean(&word.text) {
            Some(value) => Some(Located::new(value, statement.whole())),
            None => {
                self.invalid(word, "`on`, `true`, `yes`, `off`, `false` or `no`", "the line is ignored");
                None
            }
        }
    }

    /// `weight NUMBER [reverse]`, from `-limit` to `limit`; the number may be refused and the word not.
    pub(super) fn weight(
        &mut self,
        statement: &Statement,
        limit: i16,
        otherwise: &str,
    ) -> Option<(Option<i16>, bool)> {
        let word = self.required(statement, &format!("-{limit} to {limit}"))?;
        let range = i64::from(-limit)..=i64::from(limit);
        let weight = self.number(word, range, Rest::Warned, otherwise);
        let reverse = match statement.parameters().get(1) {
            Some(word) if word.text == "reverse" => true,
            Some(word) => {
                self.invalid(word, "`reverse` or nothing", "the word is ignored");
                false
            }
            None => false,
        };
        Some((weight.and_then(|weight| i16::try_from(weight).ok()), reverse))
    }

    /// keepalived keeps the first `weight` of files and processes.
    pub(super) fn weight_again(&mut self, statement: &Statement) {
        let finding = Diagnostic::warning("repeated", &statement.whole(), "`weight` is written twice");
        self.diagnostics.push(finding.help("the first counts, as in keepalived"));
    }

    pub(super) fn address(&mut self, word: &Word, otherwise: &str) -> Option<Located<IpAddr>> {
        // keepalived's own reading of addresses cuts a range and a prefix off, silently.
        let end = word.text.find(['/', '-']).unwrap_or(word.text.len());
        let (text, rest) = word.text.split_at(end);
        match text.parse() {
            Ok(address) if !rest.is_empty() => {
                let message = format!("`{rest}` behind an address that takes neither prefix nor range");
                let finding = Diagnostic::notice("rest-of-address", &word.at, message);
                self.diagnostics.push(finding.help("it is dropped, as in keepalived"));
                Some(Located::new(address, word.at.clone()))
            }
            Ok(address) => Some(Located::new(address, word.at.clone())),
            Err(_) => {
                self.invalid(word, "an IPv4 or IPv6 address", otherwise);
                None
            }
        }
    }

    /// `USER [GROUP]`; also `USER:GROUP` in one word.
    pub(super) fn user(&mut self, words: &[Word], otherwise: &str) -> Option<User> {
        self.user_or("unknown-user", words, otherwise)
    }

    /// As [`Self::user`], with the code of the finding when there is no such user.
    pub(super) fn user_or(&mut self, code: &'static str, words: &[Word], otherwise: &str) -> Option<User> {
        let word = words.first()?;
        let (name, group) = match word.text.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (word.text.as_str(), words.get(1).map(|w| w.text.as_str())),
        };
        match self.options.users.find(name, group) {
            Ok(user) => Some(user),
            Err(reason) => {
                let finding = Diagnostic::warning(code, &word.at, reason);
                self.diagnostics
                    .push(finding.expected("a user and, maybe, a group of this host").help(otherwise));
                None
            }
        }
    }
}

/// Directives that keepalived 2.2.7 reports and skips when nothing stands behind them; it ends with any other.
fn may_be_empty(keyword: &str) -> bool {
    matches!(
        keyword,
        "router_id"
            | "notification_email_from"
            | "smtp_helo_name"
            | "default_interface"
            | "startup_script"
            | "shutdown_script"
            | "startup_script_timeout"
            | "shutdown_script_timeout"
            | "vrrp_delay_after_boot"
            | "script_user"
            | "notify_fifo"
            | "notify_fifo_script"
            | "vrrp_notify_fifo"
            | "vrrp_notify_fifo_script"
            | "vrrp_priority"
            | "vrrp_rt_priority"
            | "vrrp_cpu_affinity"
            | "vrrp_rx_bufs_policy"
            | "vrrp_rx_bufs_multiplier"
            | "json_version"
            | "state_dump_file"
            | "reload_time_file"
            | "net_namespace"
            | "instance"
            | "script"
            | "file"
            | "param_match"
            | "kernel_rx_buf_size"
            | "notify_deleted"
    )
}

/// Weight 0 is FAULT.
pub(super) fn effect((weight, reverse): (i16, bool)) -> Effect {
    match weight {
        0 => Effect::Fault { reverse },
        weight => Effect::Weight { weight: weight.clamp(-253, 253), reverse },
    }
}

pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "on" | "true" | "yes" => Some(true),
        "off" | "false" | "no" => Some(false),
        _ => None,
    }
}

/// The number that a word begins with.
fn leading_number(text: &str, decimal: bool) -> &str {
    let sign = usize::from(text.starts_with(['-', '+']));
    let mut point = false;
    let end = text[sign..].find(|c: char| match c {
        '.' if decimal && !point => {
            point = true;
            false
        }
        c => !c.is_ascii_digit(),
    });
    &text[..end.map_or(text.len(), |end| sign + end)]
}

/// The weight nearest to a number that is beyond ±`limit`.
pub(super) fn nearest_weight(text: &str, limit: i16) -> i16 {
    if leading_number(text, false).starts_with('-') { -limit } else { limit }
}

/// Seconds with up to nine decimals.
fn parse_seconds(digits: &str) -> Option<Duration> {
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let seconds: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let nanos: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    (seconds <= 1 << 40).then_some(Duration::new(seconds, nanos.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_keep_every_decimal() {
        assert_eq!(parse_seconds("1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(parse_seconds(".01"), Some(Duration::from_millis(10)));
        assert_eq!(parse_seconds("0.000001"), Some(Duration::from_micros(1)));
        assert_eq!(parse_seconds("."), None);
        assert_eq!(parse_seconds("-1"), None);
    }

    #[test]
    fn leading_number_stops_at_the_first_letter() {
        assert_eq!(leading_number("1s", true), "1");
        assert_eq!(leading_number("-20x", false), "-20");
        assert_eq!(leading_number("1.5.2", true), "1.5");
        assert_eq!(leading_number("1.5", false), "1");
        assert_eq!(leading_number("abc", false), "");
    }
}
