//! The parts of the page, each one element with an id of its own, so that it can be replaced alone.

mod instances;
mod listeners;
mod others;
mod summary;

use std::time::SystemTime;

use super::html::Html;
use crate::observe::event::{Health, State};
use crate::observe::history::Recorded;
use crate::observe::status::Status;

/// How something is to be taken; never said by colour alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Somebody must act.
    Bad,
    /// To be looked at.
    Doubtful,
    /// Neither.
    Plain,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Doubtful => "warn",
            Self::Plain => "plain",
        }
    }

    fn of_state(state: State) -> Self {
        match state {
            State::Active => Self::Good,
            State::Fault => Self::Bad,
            State::Backup => Self::Plain,
            State::Initialize => Self::Doubtful,
        }
    }

    fn of_health(health: Health) -> Self {
        match health {
            Health::Up => Self::Good,
            Health::Down => Self::Bad,
            Health::Unknown => Self::Doubtful,
        }
    }
}

/// One element of the page.
#[derive(Debug)]
pub struct Part {
    /// Its markup.
    pub html: String,
    /// Another one when it says something else.
    pub hash: u64,
}

/// The page at one moment.
#[derive(Debug)]
pub struct Picture {
    /// What the title says.
    pub title: String,
    /// From top to bottom: markup of ours between parts, and parts.
    pub pieces: Vec<Piece>,
}

/// See [`Picture::pieces`].
#[derive(Debug)]
pub enum Piece {
    /// Headings and containers.
    Frame(&'static str),
    /// An element with an id.
    Part(Part),
}

impl Picture {
    /// Of this status.
    pub fn new(status: &Status, history: &[Recorded], now: SystemTime) -> Self {
        let mut drawing = Drawing { pieces: Vec::new(), now };
        summary::draw(&mut drawing, status);
        instances::draw(&mut drawing, status);
        listeners::draw(&mut drawing, status);
        others::draw(&mut drawing, status);
        others::history(&mut drawing, history);
        Self { title: summary::title(status), pieces: drawing.pieces }
    }

    /// What stands in `<main>`.
    pub fn whole(&self) -> String {
        let text = |piece: &Piece| match piece {
            Piece::Frame(markup) => (*markup).to_owned(),
            Piece::Part(part) => part.html.clone(),
        };
        self.pieces.iter().map(text).collect()
    }

    /// All parts.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Part(part) => Some(part),
            Piece::Frame(_) => None,
        })
    }
}

/// A picture that is being drawn.
struct Drawing {
    pieces: Vec<Piece>,
    now: SystemTime,
}

impl Drawing {
    fn frame(&mut self, markup: &'static str) {
        self.pieces.push(Piece::Frame(markup));
    }

    /// An element of this kind, with an id, a class of its tone, and what `inside` puts into it.
    fn part(&mut self, tag: Tag, tone: Tone, inside: impl FnOnce(&mut Html)) {
        let mut html = Html::default();
        html.raw(tag.begin).text(self.pieces.len()).raw("\" class=\"").raw(tone.class()).raw("\">");
        inside(&mut html);
        html.raw(tag.end);
        let (html, hash) = html.finish();
        self.pieces.push(Piece::Part(Part { html, hash }));
    }
}

/// A kind of element.
#[derive(Clone, Copy)]
struct Tag {
    begin: &'static str,
    end: &'static str,
}

const ARTICLE: Tag = Tag { begin: "<article id=\"p", end: "</article>" };
const SECTION: Tag = Tag { begin: "<section id=\"p", end: "</section>" };

/// A word in a coloured box.
fn badge(html: &mut Html, tone: Tone, text: impl std::fmt::Display) {
    html.raw("<span class=\"badge ").raw(tone.class()).raw("\">").text(text).raw("</span>");
}

/// A cell that tells its column's name where there is no room for columns.
fn cell(html: &mut Html, label: &'static str, text: impl std::fmt::Display) {
    html.raw("<td data-label=\"").raw(label).raw("\">").text(text).raw("</td>");
}
