//! What the file says, with its place: words in statements, statements in blocks.

use crate::diagnostic::Location;

/// A word and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Without quotes.
    pub text: String,
    /// With quotes.
    pub at: Location,
    /// It stood in quotes.
    pub quoted: bool,
}

/// A keyword with its parameters and, maybe, a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// At least one.
    pub words: Vec<Word>,
    /// What stood in braces behind it.
    pub block: Option<Block>,
}

impl Statement {
    /// The first word.
    pub fn keyword(&self) -> &str {
        &self.words[0].text
    }

    /// Where the statement begins.
    pub fn at(&self) -> &Location {
        &self.words[0].at
    }

    /// The words behind the keyword.
    pub fn parameters(&self) -> &[Word] {
        &self.words[1..]
    }

    /// The first word behind the keyword.
    pub fn parameter(&self) -> Option<&Word> {
        self.words.get(1)
    }

    /// From the first word to the last.
    pub fn whole(&self) -> Location {
        self.at().to(&self.words[self.words.len() - 1].at)
    }
}

/// Statements between braces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// In the order they were written.
    pub statements: Vec<Statement>,
}
