//! A table of nf_tables as it should be, and the requests that make it so from what it is.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use nix::libc;

use super::attributes::{self, Attributes};
use super::kernel::Kernel;
use super::nft::{
    ACCEPT, DELSETELEM, DELTABLE, ELEMENT, Family, GOTO, NEWCHAIN, NEWRULE, NEWSET, NEWSETELEM, NEWTABLE,
    REGISTER_1, Requests, SET_CONSTANT, SET_MAP, SUBSYSTEM, TYPE_INTEGER, TYPE_MARK, VALUE, VERDICT,
    expression,
};

const GETTABLE: u16 = 1;
const GETCHAIN: u16 = 4;
const DELCHAIN: u16 = 5;
const GETRULE: u16 = 7;
const DELRULE: u16 = 8;
const GETSET: u16 = 10;
const DELSET: u16 = 11;
const GETSETELEM: u16 = 13;
const NEWOBJ: u16 = 18;
const GETOBJ: u16 = 19;
const DELOBJ: u16 = 20;

const SET_ANONYMOUS: u32 = 1;
const SET_TIMEOUT: u32 = 0x10;
const SET_EVAL: u32 = 0x20;
/// NFT_DATA_VERDICT.
const VERDICTS: u32 = 0xffff_ff00;
const COUNTER: u32 = 1;
/// What the kernel gives an anonymous map its name by.
const ANONYMOUS: &str = "__map%d";
/// Elements in one request; a list of attributes has at most 64 KiB.
pub(crate) const AT_A_TIME: usize = 512;
/// The kernel takes 256 octets of user data with a rule, `nft` shows 128.
const LONGEST_COMMENT: usize = 120;

/// What a table holds, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    pub counters: BTreeSet<String>,
    pub sets: BTreeMap<String, Set>,
    pub chains: BTreeMap<String, Chain>,
    /// Of sets that rules only look into: set and key.
    pub elements: BTreeMap<(String, Vec<u8>), To>,
}

/// A set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    /// As `nft` counts types, six bits for each part.
    pub key: u32,
    /// Octets.
    pub length: u32,
    pub holds: Holds,
}

/// What a set is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    Keys,
    Verdicts,
    /// Keys that rules put in and that go after this time; at most so many.
    Remembered(Duration, u32),
}

/// A chain, at a hook of the kernel's if it has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    pub hook: Option<Hook>,
    pub rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    /// `nat` or `filter`.
    pub kind: &'static str,
    /// NF_INET_PRE_ROUTING, ….
    pub number: u32,
    pub priority: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    pub parts: Vec<Part>,
    pub comment: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Is(Attributes),
    /// The number in register 1 is an index here: go to that chain.
    Pick(Vec<String>),
}

/// What an element stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Nothing,
    Chain(String),
}

/// A table, and how it is told of.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub name: String,
    pub comment: &'static str,
    /// It goes with the socket that made it (`flags owner`, Linux 5.12).
    pub owned: bool,
}

impl Ruleset {
    /// One more element, unless its set has such a key already.
    pub fn put(&mut self, set: String, key: Vec<u8>, to: To) {
        self.elements.entry((set, key)).or_insert(to);
    }
}

impl Rule {
    pub fn new(expressions: impl IntoIterator<Item = Attributes>) -> Self {
        Self { parts: expressions.into_iter().map(Part::Is).collect(), comment: String::new() }
    }

    pub fn and(mut self, part: Part) -> Self {
        self.parts.push(part);
        self
    }

    pub fn saying(mut self, comment: impl Into<String>) -> Self {
        self.comment = comment.into();
        self
    }
}

impl Table {
    fn named(&self) -> Attributes {
        Attributes::default().text(1, &self.name)
    }

    /// Makes it, unless it is there.
    pub fn make(&self, requests: &mut Requests) {
        const OWNER: u32 = 2;
        let flags = if self.owned { OWNER } else { 0 };
        let attributes = self.named().be32(2, flags).with(6, &comment(self.comment));
        requests.push(NEWTABLE, libc::NLM_F_CREATE, Family::Inet, attributes);
    }

    /// Removes it with all that is in it.
    pub fn remove(&self, requests: &mut Requests) {
        requests.push(DELTABLE, 0, Family::Inet, self.named());
    }

    /// Whether it is there.
    pub fn exists(&self, kernel: &mut Kernel) -> io::Result<bool> {
        self.has(kernel, GETTABLE, &self.named())
    }

    /// Whether it has such a chain.
    pub fn has_chain(&self, kernel: &mut Kernel, chain: &str) -> io::Result<bool> {
        self.has(kernel, GETCHAIN, &self.named().text(3, chain))
    }

    fn has(&self, kernel: &mut Kernel, kind: u16, attributes: &Attributes) -> io::Result<bool> {
        match kernel.ask(SUBSYSTEM | kind, 0, &[Family::Inet.number(), 0, 0, 0], attributes) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Packets and octets of every named counter.
    pub fn counters(&self, kernel: &mut Kernel) -> io::Result<BTreeMap<String, (u64, u64)>> {
        let mut counters = BTreeMap::new();
        let header = [Family::Inet.number(), 0, 0, 0];
        kernel.dump(SUBSYSTEM | GETOBJ, &header, &self.named(), |payload| {
            let (mut name, mut counts, mut ours) = (String::new(), (0, 0), false);
            for (kind, value) in attributes::read(payload.get(header.len()..).unwrap_or_default()) {
                match kind {
                    1 => ours = attributes::as_text(value) == self.name,
                    2 => name = attributes::as_text(value),
                    4 => {
                        for (kind, value) in attributes::read(value) {
                            match kind {
                                1 => counts.1 = attributes::as_be64(value),
                                2 => counts.0 = attributes::as_be64(value),
                                _ => {}
                            }
                        }
                    }
                    _ => {}
                }
            }
            if ours {
                counters.insert(name, counts);
            }
        })?;
        Ok(counters)
    }

    /// Whether it holds what is wanted and nothing else, as far as names and numbers tell; what rules put into sets by
    /// themselves is not looked at.
    pub fn holds(&self, kernel: &mut Kernel, wanted: &Ruleset) -> io::Result<bool> {
        let counts = |chains: &BTreeMap<String, Chain>| -> BTreeMap<String, usize> {
            chains.iter().map(|(name, chain)| (name.clone(), chain.rules.len())).collect()
        };
        let mut chains: BTreeMap<String, usize> = BTreeMap::new();
        for name in self.names(kernel, GETCHAIN, 3)? {
            chains.insert(name, 0);
        }
        for chain in self.names(kernel, GETRULE, 2)? {
            *chains.entry(chain).or_default() += 1;
        }
        let sets: BTreeSet<String> =
            self.names(kernel, GETSET, 2)?.into_iter().filter(|name| !name.starts_with("__")).collect();
        if chains != counts(&wanted.chains)
            || !sets.iter().eq(wanted.sets.keys())
            || !self.counters(kernel)?.keys().eq(&wanted.counters)
        {
            return Ok(false);
        }
        for (name, _) in wanted.sets.iter().filter(|(_, set)| !matches!(set.holds, Holds::Remembered(..))) {
            let elements = wanted.elements.keys().filter(|(set, _)| set == name).count();
            if self.elements_in(kernel, name)? != elements {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The text in this attribute of everything of a kind that is in the table.
    fn names(&self, kernel: &mut Kernel, kind: u16, attribute: u16) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        let header = [Family::Inet.number(), 0, 0, 0];
        kernel.dump(SUBSYSTEM | kind, &header, &self.named(), |payload| {
            let (mut ours, mut name) = (false, None);
            for (kind, value) in attributes::read(payload.get(header.len()..).unwrap_or_default()) {
                match kind {
                    1 => ours = attributes::as_text(value) == self.name,
                    kind if kind == attribute => name = Some(attributes::as_text(value)),
                    _ => {}
                }
            }
            names.extend(name.filter(|_| ours));
        })?;
        Ok(names)
    }

    fn elements_in(&self, kernel: &mut Kernel, set: &str) -> io::Result<usize> {
        let mut count = 0;
        let header = [Family::Inet.number(), 0, 0, 0];
        kernel.dump(SUBSYSTEM | GETSETELEM, &header, &self.named().text(2, set), |payload| {
            let lists = attributes::read(payload.get(header.len()..).unwrap_or_default());
            count += lists
                .filter(|(kind, _)| *kind == 3)
                .map(|(_, list)| attributes::read(list).count())
                .sum::<usize>();
        })?;
        Ok(count)
    }

    /// What has to be done so that the table is `to` when it is `from`.
    pub fn change(&self, requests: &mut Requests, from: &Ruleset, to: &Ruleset) {
        let mut change = Change { table: self, requests, set_id: 0 };
        for (place, value) in from.elements.iter().filter(|one| to.elements.get(one.0) != Some(one.1)) {
            change.elements(DELSETELEM, 0, &place.0, 0, &[element(&place.1, value)]);
        }
        for counter in to.counters.difference(&from.counters) {
            change.counter(NEWOBJ, counter);
        }
        let is_same = |(name, set): &(&String, &Set)| from.sets.get(*name) == Some(*set);
        // A set that is made anew is another one: the rules have to find it again.
        let reworked = to.sets.iter().any(|one| from.sets.contains_key(one.0) && !is_same(&one));
        let is_kept = |name: &str| !reworked && to.chains.get(name) == from.chains.get(name);
        for name in from.chains.keys().filter(|name| !is_kept(name)) {
            change.flush(name);
        }
        for (name, _) in from.sets.iter().filter(|one| to.sets.get(one.0) != Some(one.1)) {
            change.requests.push(DELSET, 0, Family::Inet, self.named().text(2, name));
        }
        for (name, set) in to.sets.iter().filter(|one| !is_same(one)) {
            change.set(name, set);
        }
        for (name, chain) in to.chains.iter().filter(|(name, _)| !from.chains.contains_key(*name)) {
            change.chain(name, chain.hook);
        }
        for (name, chain) in to.chains.iter().filter(|(name, _)| !is_kept(name)) {
            for rule in &chain.rules {
                change.rule(name, rule);
            }
        }
        for (place, value) in to.elements.iter().filter(|one| from.elements.get(one.0) != Some(one.1)) {
            let element = element(&place.1, value);
            change.elements(NEWSETELEM, libc::NLM_F_CREATE, &place.0, 0, &[element]);
        }
        for name in from.chains.keys().filter(|name| !to.chains.contains_key(*name)) {
            change.requests.push(DELCHAIN, 0, Family::Inet, self.named().text(3, name));
        }
        for counter in from.counters.difference(&to.counters) {
            change.counter(DELOBJ, counter);
        }
    }
}

struct Change<'a> {
    table: &'a Table,
    requests: &'a mut Requests,
    set_id: u32,
}

impl Change<'_> {
    fn counter(&mut self, kind: u16, name: &str) {
        let attributes = self.table.named().text(2, name).be32(3, COUNTER);
        let (flags, attributes) = if kind == NEWOBJ {
            (libc::NLM_F_CREATE, attributes.nest(4, &Attributes::default()))
        } else {
            (0, attributes)
        };
        self.requests.push(kind, flags, Family::Inet, attributes);
    }

    fn flush(&mut self, chain: &str) {
        self.requests.push(DELRULE, 0, Family::Inet, self.table.named().text(2, chain));
    }

    fn chain(&mut self, name: &str, hook: Option<Hook>) {
        let mut attributes = self.table.named().text(3, name);
        if let Some(Hook { kind, number, priority }) = hook {
            let hook = Attributes::default().be32(1, number).be32(2, priority.cast_unsigned());
            attributes = attributes.nest(4, &hook).be32(5, ACCEPT).text(7, kind);
        }
        self.requests.push(NEWCHAIN, libc::NLM_F_CREATE, Family::Inet, attributes);
    }

    fn set(&mut self, name: &str, set: &Set) {
        self.set_id += 1;
        let attributes =
            |flags| self.table.named().text(2, name).be32(3, flags).be32(4, set.key).be32(5, set.length);
        let attributes = match set.holds {
            Holds::Keys => attributes(0),
            Holds::Verdicts => attributes(SET_MAP).be32(6, VERDICTS).be32(7, 0),
            Holds::Remembered(time, most) => attributes(SET_TIMEOUT | SET_EVAL)
                .nest(9, &Attributes::default().be32(1, most))
                .be64(11, u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        };
        let mut attributes = attributes.be32(10, self.set_id);
        if set.key == TYPE_MARK {
            attributes = attributes.with(13, &in_hosts_order());
        }
        self.requests.push(NEWSET, libc::NLM_F_CREATE, Family::Inet, attributes);
    }

    fn elements(&mut self, kind: u16, flags: libc::c_int, set: &str, id: u32, elements: &[Attributes]) {
        for some in elements.chunks(AT_A_TIME) {
            let mut list = Attributes::default();
            for element in some {
                list = list.nest(ELEMENT, element);
            }
            let mut attributes = self.table.named().text(2, set);
            if id != 0 {
                attributes = attributes.be32(4, id);
            }
            self.requests.push(kind, flags, Family::Inet, attributes.nest(3, &list));
        }
    }

    /// A map from indices to chains; gives its number in this batch.
    fn pick(&mut self, chains: &[String]) -> u32 {
        self.set_id += 1;
        let size = u32::try_from(chains.len()).expect("a pool has at most some thousand places");
        let attributes = self.table.named().text(2, ANONYMOUS);
        let attributes = attributes.be32(3, SET_ANONYMOUS | SET_CONSTANT | SET_MAP);
        let attributes = attributes.be32(4, TYPE_INTEGER).be32(5, 4).be32(6, VERDICTS).be32(7, 0);
        let attributes = attributes.be32(10, self.set_id).nest(9, &Attributes::default().be32(1, size));
        let attributes = attributes.with(13, &in_hosts_order());
        self.requests.push(NEWSET, libc::NLM_F_CREATE, Family::Inet, attributes);
        let elements: Vec<Attributes> = (0_u32..)
            .zip(chains)
            .map(|(index, chain)| element(&index.to_ne_bytes(), &To::Chain(chain.clone())))
            .collect();
        let id = self.set_id;
        self.elements(NEWSETELEM, libc::NLM_F_CREATE, ANONYMOUS, id, &elements);
        id
    }

    fn rule(&mut self, chain: &str, rule: &Rule) {
        let mut list = Attributes::default();
        for part in &rule.parts {
            list = match part {
                Part::Is(expression) => list.nest(ELEMENT, expression),
                Part::Pick(chains) => {
                    let id = self.pick(chains);
                    let data =
                        Attributes::default().text(1, ANONYMOUS).be32(2, REGISTER_1).be32(3, 0).be32(4, id);
                    list.nest(ELEMENT, &expression("lookup", &data))
                }
            };
        }
        let mut attributes = self.table.named().text(2, chain).nest(4, &list);
        if !rule.comment.is_empty() {
            attributes = attributes.with(7, &comment(&rule.comment));
        }
        self.requests.push(NEWRULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND, Family::Inet, attributes);
    }
}

/// NFTNL_UDATA_SET_KEYBYTEORDER: for `nft`, which shows the keys.
fn in_hosts_order() -> Vec<u8> {
    [&[0, 4][..], &1_u32.to_ne_bytes()].concat()
}

fn element(key: &[u8], to: &To) -> Attributes {
    let attributes = Attributes::default().nest(1, &Attributes::default().with(VALUE, key));
    match to {
        To::Nothing => attributes,
        To::Chain(chain) => {
            let verdict = Attributes::default().be32(1, GOTO).text(2, chain);
            attributes.nest(2, &Attributes::default().nest(VERDICT, &verdict))
        }
    }
}

/// NFTNL_UDATA_RULE_COMMENT and NFTNL_UDATA_TABLE_COMMENT are 0: kind u8, length u8, text with its final zero.
///
/// `nft` has no quotes in a comment.
pub(crate) fn comment(text: &str) -> Vec<u8> {
    let text = text.replace('"', "'");
    let mut end = text.len().min(LONGEST_COMMENT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let length = u8::try_from(end + 1).expect("it was cut");
    [&[0, length], &text.as_bytes()[..end], &[0]].concat()
}
