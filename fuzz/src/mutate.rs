//! Real configurations, changed.

use std::path::Path;

use crate::{MOST_BYTES, Random};

/// Pieces that mean something somewhere.
const WORDS: &[&str] = &[
    "{",
    "}",
    "\n",
    "\"",
    "'",
    "#",
    "!",
    "\\",
    "\\\n",
    "\r\n",
    "\t",
    "\0",
    "é",
    "\u{feff}",
    "@lb1 ",
    "@^lb1 ",
    "$A=",
    "$A",
    "${A}",
    "${_PWD}",
    "${_RANDOM 3 1}",
    "${_ENV HOME}",
    "${",
    "~SEQ(i,1,3) ",
    "~SEQ(i,3,0,1)",
    "~SEQx(i,1,9999999) ",
    "~LST({a,b},{1,2}) ",
    "${i}",
    "include *",
    "include input.conf",
    "includea x{a,b}",
    "vrrp_instance V1 {",
    "global_defs {",
    "virtual_ipaddress {",
    "virtual_routes {",
    "virtual_rules {",
    "static_routes {",
    "static_rules {",
    "static_ipaddress {",
    "track_group G {",
    "group {",
    "priority 255",
    "virtual_router_id 51",
    "interface eth0",
    "-1",
    "0",
    "255",
    "65536",
    "4294967296",
    "9999999999999999999999",
    "1e9",
    "0x",
    "1.0000000001",
    "10.0.0.1/24",
    "fe80::1/200",
    "::/0",
    "default",
    "via",
    "dev",
    "encap",
    "mpls",
    "nexthop",
    "lock",
    "table",
    "track_group",
    "use_vmac",
    "02:00:00:00:00:",
    "[[instance]]",
    "[[check]]\n",
    "[[listener]]\n",
    "routes = [",
    "{ to = \"default\" }",
    "]",
    "= \"",
    "\"\"\"",
    "auth_pass",
    "password =",
    "[a",
    ".if 1\n",
    ".if streq(a,a) && (",
    ".endif\n",
    "\"${HOME}\"",
    "\"${HOME[*]}\"",
    "\\x",
    "listen l\n",
    "backend b from d\n",
    "bind *:1-65535",
    "bind :::1-1000,:5",
    "server-template t 1-1000000 _a._b.c:1",
    "server s 10.0.0.1:+65535 check",
    "default-server inter 1ms",
    "option httpchk GET / HTTP/1.1\\r\\nHost:x",
    "http-check expect ! rstatus (",
    "tcp-check expect rstring [",
    "track b/s",
    "use_backend %[src] if a",
    "stick on src,ipmask(255.0.0.0,7)",
    "timeout client 99999999d",
    "stream {",
    "upstream u {",
    "server 10.0.0.1:1 weight=99999999999;",
    "listen [::]:1 udp proxy_protocol;",
    "proxy_pass ${",
    "location / {",
    "return 200;",
];

/// What mutation begins with.
pub struct Seeds(Vec<(Vec<u8>, &'static str)>);

impl Seeds {
    /// The project's own cases and examples, and those of `VIPD_CORPUS`.
    pub fn read() -> Self {
        let mut seeds = Vec::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for folder in ["config/tests/cases", "docs/examples"] {
            collect(&root.join(folder), &mut seeds);
        }
        if let Some(corpus) = std::env::var_os("VIPD_CORPUS") {
            collect(Path::new(&corpus), &mut seeds);
        }
        assert!(!seeds.is_empty(), "no configurations to begin with");
        Self(seeds)
    }

    /// Those of one door: the project's cases of this name, and the corpus of this folder.
    pub fn of_door(name: &str, corpus_folder: &str) -> Self {
        let mut seeds = Vec::new();
        let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/tests/doors");
        let mut folders: Vec<_> = std::fs::read_dir(&cases)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok().map(|e| e.path()))
            .collect();
        folders.sort();
        for path in folders.into_iter().map(|folder| folder.join(name)).filter(|path| path.exists()) {
            seeds.push((std::fs::read(&path).unwrap_or_default(), crate::extension(&path)));
        }
        if let Some(corpus) = std::env::var_os("VIPD_CORPUS") {
            collect(&Path::new(&corpus).join("wild").join(corpus_folder), &mut seeds);
        }
        assert!(!seeds.is_empty(), "no configurations to begin with");
        Self(seeds)
    }

    /// One of them.
    pub fn pick(&self, random: &mut Random) -> &(Vec<u8>, &'static str) {
        random.pick(&self.0)
    }
}

fn collect(folder: &Path, seeds: &mut Vec<(Vec<u8>, &'static str)>) {
    let Ok(listing) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = listing.filter_map(|entry| entry.ok().map(|e| e.path())).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, seeds);
        } else if path.extension().is_none_or(|e| e != "txt" && e != "tsv" && e != "md") {
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes.len() <= MOST_BYTES {
                seeds.push((bytes, crate::extension(&path)));
            }
        }
    }
}

/// One configuration, changed in up to eight places.
pub fn mutate(seeds: &Seeds, random: &mut Random) -> (Vec<u8>, &'static str) {
    let (bytes, extension) = seeds.pick(random).clone();
    let mut bytes = bytes;
    for _ in 0..random.range(1, 8) {
        change(&mut bytes, seeds, random);
    }
    bytes.truncate(MOST_BYTES);
    (bytes, extension)
}

fn change(bytes: &mut Vec<u8>, seeds: &Seeds, random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let end = (at + random.below(64)).min(bytes.len());
    match random.below(10) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 => bytes.insert(at, u8::try_from(random.below(256)).unwrap_or(0)),
        2 => drop(bytes.drain(at..end)),
        3 => {
            let piece = bytes[at..end].to_vec();
            for _ in 0..random.range(1, 400) {
                insert(bytes, at, &piece);
            }
        }
        4 => bytes.truncate(at),
        5 => {
            let other = &seeds.pick(random).0;
            let from = random.below(other.len() + 1);
            let to = (from + random.below(2000)).min(other.len());
            insert(bytes, at, &other[from..to]);
        }
        6 => {
            // Two lines change places.
            let mut lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
            let (a, b) = (random.below(lines.len()), random.below(lines.len()));
            lines.swap(a, b);
            *bytes = lines.join(&b'\n');
        }
        _ => {
            let word = random.pick::<&str>(WORDS).as_bytes();
            insert(bytes, at, word);
            if random.one_in(2) {
                insert(bytes, at, b" ");
            }
        }
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    if bytes.len() + piece.len() <= MOST_BYTES {
        drop(bytes.splice(at..at, piece.iter().copied()));
    }
}
