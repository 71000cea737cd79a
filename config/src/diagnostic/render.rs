//! Findings for people: each with its source line, through miette.

use std::fmt;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode,
    SourceSpan, SpanContents,
};

use super::{Diagnostic, Diagnostics, Severity};

/// A longer source line is cut around the finding.
const SHOWN_WIDTH: usize = 160;

impl Diagnostics {
    /// All findings with their source lines. `graphical` draws with colours and line characters; without
    /// it everything is plain ASCII, for files and for terminals with `NO_COLOR`.
    pub fn render_human(&self, graphical: bool) -> String {
        let theme = if graphical {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme { characters: miette::ThemeCharacters::ascii(), ..GraphicalTheme::none() }
        };
        let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_width(120);
        let mut text = String::new();
        for diagnostic in &self.list {
            let shown = Shown::new(self, diagnostic);
            handler.render_report(&mut text, &shown).expect("writing to a string does not fail");
            text.push('\n');
        }
        if graphical { text } else { text.replace('…', "...") }
    }
}

/// A finding as miette wants it.
#[derive(Debug)]
struct Shown<'a> {
    diagnostic: &'a Diagnostic,
    excerpt: Option<Excerpt>,
    headline: String,
}

impl<'a> Shown<'a> {
    fn new(all: &Diagnostics, diagnostic: &'a Diagnostic) -> Self {
        let place = &diagnostic.location.place;
        let excerpt = all.shown_line(place).filter(|_| diagnostic.location.length > 0);
        let excerpt = excerpt.map(|line| Excerpt::new(&line, diagnostic));
        let headline = match &excerpt {
            Some(_) => diagnostic.message.clone(),
            None => format!("{place}: {}", diagnostic.message),
        };
        Self { diagnostic, excerpt, headline }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline)
    }
}

impl std::error::Error for Shown<'_> {}

impl miette::Diagnostic for Shown<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.diagnostic.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.diagnostic.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
            Severity::Notice => miette::Severity::Advice,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.diagnostic.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.excerpt.as_ref().map(|e| e as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let excerpt = self.excerpt.as_ref()?;
        let label = match &self.diagnostic.expected {
            Some(expected) => format!("expected {expected}"),
            None => "here".to_owned(),
        };
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(Some(label), excerpt.span))))
    }
}

/// One line of a file, cut to a width that can be read, at its true line and column.
#[derive(Debug)]
struct Excerpt {
    file: String,
    text: String,
    span: SourceSpan,
    /// Counted from 0, as miette does.
    line: usize,
    /// Counted from 0.
    column: usize,
}

impl Excerpt {
    fn new(line: &str, diagnostic: &Diagnostic) -> Self {
        let place = &diagnostic.location.place;
        let characters: Vec<char> =
            line.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect();
        let start = (place.column as usize).saturating_sub(1).min(characters.len());
        let end = (start + diagnostic.location.length as usize).min(characters.len());
        let from = if characters.len() > SHOWN_WIDTH { start.saturating_sub(20) } else { 0 };
        let to = characters.len().min(from + SHOWN_WIDTH);
        let text: String = characters[from..to].iter().collect();
        let bytes =
            |range: std::ops::Range<usize>| characters[range].iter().map(|c| c.len_utf8()).sum::<usize>();
        let end = end.clamp(start, to.max(start));
        Self {
            file: place.file.to_string(),
            text,
            span: (bytes(from..start), bytes(start..end)).into(),
            line: place.line.saturating_sub(1) as usize,
            column: start,
        }
    }
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        _span: &SourceSpan,
        lines_before: usize,
        _lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        // miette reads the context, which begins its line, and the span alone, to print where it is.
        let whole = SourceSpan::from((0, self.text.len()));
        let column = if lines_before == 0 { self.column } else { 0 };
        Ok(Box::new(MietteSpanContents::new_named(
            self.file.clone(),
            self.text.as_bytes(),
            whole,
            self.line,
            column,
            1,
        )))
    }
}
