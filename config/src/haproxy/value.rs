//! Numbers and times as HAProxy reads them.

use std::time::Duration;

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::written::{Statement, Word};

use super::reader::shown;

/// HAProxy's longest time, about 24.8 days.
const MOST_MILLISECONDS: u64 = i32::MAX as u64;

/// A time; a number alone is milliseconds (configuration manual, 2.5).
///
/// # Errors
/// What HAProxy says.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        let found =
            text.chars().next().map_or("nothing".to_owned(), |c| format!("unexpected character `{c}`"));
        return Err(found);
    }
    let number: u64 = number.parse().map_err(|_| too_long())?;
    let (times, divided) = match unit {
        "us" => (1, 1000),
        "ms" | "" => (1, 1),
        "s" => (1000, 1),
        "m" => (60_000, 1),
        "h" => (3_600_000, 1),
        "d" => (86_400_000, 1),
        _ => return Err(format!("unexpected character `{}`", unit.chars().next().unwrap_or(' '))),
    };
    let milliseconds = number.checked_mul(times).ok_or_else(too_long)?.div_ceil(divided);
    if milliseconds > MOST_MILLISECONDS {
        return Err(too_long());
    }
    Ok(Duration::from_millis(milliseconds))
}

fn too_long() -> String {
    "timer overflow: the longest is 2147483647 ms, about 24.8 days".to_owned()
}

/// The digits that a word begins with, as atol(3) reads them: `10x` is 10, `x` is 0.
pub(super) fn number(text: &str) -> i64 {
    let sign = text.starts_with('-');
    let digits: String =
        text.trim_start_matches(['+', '-']).chars().take_while(char::is_ascii_digit).take(18).collect();
    let value: i64 = digits.parse().unwrap_or(0);
    if sign { -value } else { value }
}

/// One number within bounds; HAProxy reads what stands behind its digits as nothing, which is said.
pub(super) fn number_within(
    word: &Word,
    least: i64,
    most: i64,
    what: &str,
    diagnostics: &mut Diagnostics,
) -> Option<i64> {
    let value = number(&word.text);
    if value < least || value > most {
        let finding = Diagnostic::error("invalid-value", &word.at, format!("`{}` is no {what}", shown(word)));
        diagnostics.push(finding.expected(format!("a number from {least} to {most}")));
        return None;
    }
    if word.text.parse::<i64>().is_err() {
        let message = format!("`{}` is read as {value}", shown(word));
        let finding = Diagnostic::warning("number-with-rest", &word.at, message);
        diagnostics
            .push(finding.expected(format!("a number from {least} to {most}")).help("so does HAProxy"));
    }
    Some(value)
}

/// The time behind a keyword.
pub(super) fn time_of(word: &Word, diagnostics: &mut Diagnostics) -> Option<Duration> {
    match time(&word.text) {
        Ok(time) => Some(time),
        Err(why) => {
            let finding = Diagnostic::error("invalid-value", &word.at, format!("`{}`: {why}", shown(word)));
            diagnostics.push(
                finding
                    .expected("a time such as `5000`, `5s` or `1m`")
                    .help("HAProxy does not start with it either"),
            );
            None
        }
    }
}

/// The first parameter, or what HAProxy expects there.
pub(super) fn parameter<'s>(
    statement: &'s Statement,
    index: usize,
    expected: &str,
    diagnostics: &mut Diagnostics,
) -> Option<&'s Word> {
    let word = statement.words.get(index);
    if word.is_none_or(|word| word.text.is_empty()) {
        let keyword: Vec<_> = statement.words.iter().take(index).map(shown).collect();
        let message = format!("`{}` without its value", keyword.join(" "));
        let finding = Diagnostic::error("missing-parameter", &statement.whole(), message);
        diagnostics.push(finding.expected(expected.to_owned()).help("HAProxy does not start with it either"));
        return None;
    }
    word
}

/// What to do about a word that was left over from a template.
pub(super) fn placeholder_help(text: &str) -> Option<String> {
    if text.contains("{{") || text.contains("{%") {
        return Some("this is a template: fill it in first".to_owned());
    }
    if text.contains("${") {
        return Some(format!(
            "variables are replaced within double quotes alone: write \"{}\", or the value itself",
            text.chars().take(60).collect::<String>()
        ));
    }
    let (from, to) = (text.find('<')?, text.rfind('>')?);
    (from < to).then(|| {
        format!("write the value in the place of `{}`", text[from..=to].chars().take(60).collect::<String>())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_milliseconds_without_a_unit() {
        for (text, milliseconds) in
            [("5000", 5000), ("5s", 5000), ("1m", 60_000), ("3h", 10_800_000), ("1500us", 2), ("0", 0)]
        {
            assert_eq!(time(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!(time("10x"), Err("unexpected character `x`".to_owned()));
        assert!(
            time("99999999999").is_err()
                && time("25d").is_err()
                && time("").is_err()
                && time("1.5s").is_err()
        );
    }

    #[test]
    fn numbers_end_where_their_digits_end() {
        assert_eq!([number("10"), number("10x"), number("x"), number("-3"), number("")], [10, 10, 0, -3, 0]);
    }
}
