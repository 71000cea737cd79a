//! Names of routing tables, protocols, scopes and the like, as iproute2 keeps them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Where distributions keep the files when nobody says.
const DEFAULT_FOLDERS: [&str; 2] = ["/usr/share/iproute2", "/usr/lib/iproute2"];
/// A file with more than this is cut.
const MOST_BYTES: u64 = 1 << 20;
/// Files of a folder `NAME.d` that are read.
const MOST_FILES: usize = 256;

/// A kind of name, each in a file of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Names {
    Table,
    Protocol,
    Scope,
    TypeOfService,
    Realm,
    Group,
}

impl Names {
    fn file(self) -> &'static str {
        match self {
            Self::Table => "rt_tables",
            Self::Protocol => "rt_protos",
            Self::Scope => "rt_scopes",
            Self::TypeOfService => "rt_dsfield",
            Self::Realm => "rt_realms",
            Self::Group => "group",
        }
    }

    fn most(self) -> u32 {
        match self {
            Self::Table => u32::MAX,
            Self::Group => i32::MAX as u32,
            _ => 255,
        }
    }

    /// What is known without any file.
    fn known(self) -> &'static [(&'static str, u32)] {
        match self {
            Self::Table => &[("default", 253), ("main", 254), ("local", 255)],
            Self::Scope => &[("global", 0), ("site", 200), ("link", 253), ("host", 254), ("nowhere", 255)],
            Self::Protocol => &[
                ("none", 0),
                ("redirect", 1),
                ("kernel", 2),
                ("boot", 3),
                ("static", 4),
                ("gated", 8),
                ("ra", 9),
                ("mrt", 10),
                ("zebra", 11),
                ("bird", 12),
                ("dnrouted", 13),
                ("xorp", 14),
                ("ntk", 15),
                ("dhcp", 16),
                ("keepalived", 18),
                ("babel", 42),
            ],
            Self::TypeOfService | Self::Realm | Self::Group => &[],
        }
    }
}

/// The names of a host; its files are read when the first name is looked up.
#[derive(Debug)]
pub(crate) struct Iproute {
    /// `iproute_etc_dir`: what the administrator wrote.
    pub etc: PathBuf,
    /// `iproute_usr_dir`: what came with the distribution.
    pub usr: Vec<PathBuf>,
    read: RefCell<HashMap<Names, Rc<HashMap<String, u32>>>>,
}

impl Default for Iproute {
    fn default() -> Self {
        Self {
            etc: "/etc/iproute2".into(),
            usr: DEFAULT_FOLDERS.iter().map(Into::into).collect(),
            read: RefCell::default(),
        }
    }
}

impl Iproute {
    /// A number (decimal, `0x…` or `0…`), or the number of a name.
    pub fn find(&self, names: Names, text: &str) -> Option<u32> {
        if let Some(number) = number(text) {
            return (number <= names.most()).then_some(number);
        }
        let known = names.known().iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
        let map = self.read.borrow().get(&names).cloned();
        let map = map.unwrap_or_else(|| {
            let map = Rc::new(self.read_files(names));
            self.read.borrow_mut().insert(names, map.clone());
            map
        });
        map.get(text).copied().or(known)
    }

    /// As `find`, for names whose numbers are bytes.
    pub fn find_byte(&self, names: Names, text: &str) -> Option<u8> {
        self.find(names, text).and_then(|number| u8::try_from(number).ok())
    }

    /// `REALM` or `FROM/TO`, the first in the upper half.
    pub fn realms(&self, text: &str) -> Option<u32> {
        let realm = |text| self.find(Names::Realm, text);
        match text.split_once('/') {
            Some((from, to)) => Some(realm(from)? << 16 | realm(to)?),
            None => realm(text),
        }
    }

    /// The administrator's file, or else that of the distribution; then `NAME.d/*.conf` of both.
    fn read_files(&self, names: Names) -> HashMap<String, u32> {
        let mut map = HashMap::new();
        let folders = || std::iter::once(&self.etc).chain(&self.usr);
        if let Some(text) = folders().find_map(|folder| read(&folder.join(names.file()))) {
            entries(&text, names.most(), &mut map);
        }
        let mut seen = Vec::new();
        for folder in folders() {
            let inside = folder.join(format!("{}.d", names.file()));
            let Ok(listing) = std::fs::read_dir(inside) else { continue };
            let mut files: Vec<PathBuf> =
                listing.take(MOST_FILES).filter_map(|entry| entry.ok().map(|e| e.path())).collect();
            files.sort();
            for file in files {
                let Some(name) = file.file_name().map(ToOwned::to_owned) else { continue };
                let wanted = name.to_str().is_some_and(|n| n.ends_with(".conf") && !n.starts_with('.'));
                if !wanted || seen.contains(&name) {
                    continue;
                }
                if let Some(text) = read(&file) {
                    entries(&text, names.most(), &mut map);
                }
                seen.push(name);
            }
        }
        map
    }
}

/// The beginning of a regular file.
fn read(path: &Path) -> Option<String> {
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// `NUMBER NAME` on each line; the first of a name counts.
fn entries(text: &str, most: u32, map: &mut HashMap<String, u32>) {
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let (Some(id), Some(name), None) = (words.next(), words.next(), words.next()) else { continue };
        if let Some(id) = number(id).filter(|id| *id <= most) {
            map.entry(name.to_owned()).or_insert(id);
        }
    }
}

/// As `strtoul` with base 0.
pub(crate) fn number(text: &str) -> Option<u32> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return (!digits.starts_with('+')).then(|| u32::from_str_radix(digits, 16).ok())?;
    }
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    match text.strip_prefix('0').filter(|digits| !digits.is_empty()) {
        Some(digits) => u32::from_str_radix(digits, 8).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_both_folders_and_the_administrators_file_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (etc, usr) = (folder.path().join("etc"), folder.path().join("usr"));
        std::fs::create_dir_all(etc.join("rt_tables.d")).unwrap();
        std::fs::create_dir_all(usr.join("rt_tables.d")).unwrap();
        std::fs::write(etc.join("rt_tables"), "# tables\n200 blue # the blue one\n0x64\tred\nbad\n1 2 3\n")
            .unwrap();
        std::fs::write(usr.join("rt_tables"), "201 hidden\n").unwrap();
        std::fs::write(etc.join("rt_tables.d/a.conf"), "300 green\n").unwrap();
        std::fs::write(usr.join("rt_tables.d/a.conf"), "301 covered\n").unwrap();
        std::fs::write(usr.join("rt_tables.d/b.conf"), "302 grey\n").unwrap();
        std::fs::write(usr.join("rt_tables.d/c.txt"), "303 none\n").unwrap();
        std::fs::write(etc.join("rt_dsfield"), "0x2e EF\n256 too-much\n").unwrap();
        let names = Iproute { etc, usr: vec![usr], ..Iproute::default() };
        let table = |name| names.find(Names::Table, name);
        assert_eq!(
            [table("blue"), table("red"), table("green"), table("grey")],
            [200, 100, 300, 302].map(Some)
        );
        assert_eq!([table("hidden"), table("covered"), table("none"), table("bad")], [None; 4]);
        assert_eq!([table("main"), table("0x20"), table("010")], [254, 32, 8].map(Some));
        assert_eq!(names.find_byte(Names::TypeOfService, "EF"), Some(0x2e));
        assert_eq!(names.find_byte(Names::TypeOfService, "256"), None);
        assert_eq!(names.find_byte(Names::TypeOfService, "too-much"), None);
        assert_eq!(names.realms("1/2"), Some(0x1_0002));
    }
}
