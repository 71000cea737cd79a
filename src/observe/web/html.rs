//! Markup that cannot be broken by what is shown in it.
//!
//! What is markup must stand in this program's source (`&'static str`); everything else is escaped, for text and
//! for attribute values in double quotes alike. The result is one line.

use std::fmt::{self, Display, Write};
use std::hash::{DefaultHasher, Hasher};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::observe::words::long;

/// A piece of a page.
#[derive(Debug, Default)]
pub struct Html {
    text: String,
    /// Of all but what only time changes.
    hash: DefaultHasher,
}

impl Html {
    /// Markup of ours.
    pub fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.hash.write(markup.as_bytes());
        self.text.push_str(markup);
        self
    }

    /// Anything, as it is to be read.
    pub fn text(&mut self, text: impl Display) -> &mut Self {
        let before = self.text.len();
        // Writing to a string does not fail.
        let _ = write!(Escaped(&mut self.text), "{text}");
        self.hash.write(&self.text.as_bytes()[before..]);
        self
    }

    /// `<TAG>text</TAG>`, from the two halves.
    pub fn put(&mut self, begin: &'static str, text: impl Display, end: &'static str) -> &mut Self {
        self.raw(begin).text(text).raw(end)
    }

    /// How long ago something was. The page lets it go on by itself, so it does not count as a change.
    pub fn ago(&mut self, now: SystemTime, then: SystemTime) -> &mut Self {
        let since = then.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        self.raw("<time data-since=\"").text(since).raw("\">");
        let age = long(now.duration_since(then).unwrap_or_default());
        let _ = write!(Escaped(&mut self.text), "{age}");
        self.raw("</time>")
    }

    /// What it has become, and a number that changes with it.
    pub fn finish(self) -> (String, u64) {
        (self.text, self.hash.finish())
    }
}

struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' => self.0.push_str("&#10;"),
                // The parser would refuse those, or show nothing, or turn the reading direction.
                '\t' => self.0.push(' '),
                other if other.is_control() || is_direction(other) => self.0.push('\u{fffd}'),
                other => self.0.push(other),
            }
        }
        Ok(())
    }
}

/// Unicode's marks, embeddings and isolates of direction.
fn is_direction(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn nothing_from_outside_is_markup() {
        let mut html = Html::default();
        html.put("<p title=\"", "a\" onload='x", "\">").put(
            "",
            "<script>alert(1)</script>&\r\n\u{202e}",
            "</p>",
        );
        assert_eq!(
            html.finish().0,
            "<p title=\"a&quot; onload=&#39;x\">&lt;script&gt;alert(1)&lt;/script&gt;&amp;\u{fffd}&#10;\u{fffd}</p>"
        );
    }

    #[test]
    fn only_what_time_alone_changes_is_no_change() {
        let then = UNIX_EPOCH + Duration::from_secs(1000);
        let made = |seconds, name: &str| {
            let mut html = Html::default();
            html.put("<b>", name, "</b>").ago(then + Duration::from_secs(seconds), then);
            html.finish()
        };
        let (text, hash) = made(5, "cp1");
        assert_eq!(text, "<b>cp1</b><time data-since=\"1000000\">5 s</time>");
        assert_eq!(made(65, "cp1").1, hash);
        assert_ne!(made(5, "cp2").1, hash);
    }
}
