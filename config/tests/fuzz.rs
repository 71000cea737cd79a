//! Whatever stands in a file: findings, never a panic.

use std::path::Path;

use config::users::Users;
use config::{LoadOptions, load};
use proptest::prelude::*;

const WORDS: &[&str] = &[
    "vrrp_instance",
    "vrrp_script",
    "global_defs",
    "track_file",
    "vrrp_sync_group",
    "virtual_server",
    "V1",
    "{",
    "}",
    "\n",
    "\"",
    "'",
    "#",
    "!",
    "\\",
    "\\\n",
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
    "~LST({a,b},{1,2}) ",
    "${i}",
    "include *.conf",
    "includea x{a,b}",
    "interface",
    "eth0",
    "virtual_router_id",
    "51",
    "priority",
    "255",
    "-1",
    "1s",
    "advert_int",
    "0.0000001",
    "9999999999999999999999",
    "authentication",
    "auth_type",
    "PASS",
    "AH",
    "auth_pass",
    "virtual_ipaddress",
    "10.0.0.1/24",
    "fe80::1/200",
    "dev",
    "label",
    "brd",
    "+",
    "peer",
    "unicast_peer",
    "min_ttl",
    "track_script",
    "track_interface",
    "weight",
    "reverse",
    "script",
    "/bin/true",
    "</x",
    "state",
    "MASTER",
    "\u{0}",
    "é",
    "\t",
    "\r\n",
    "[[instance]]",
    "[[check]]",
    "[[listener]]",
    "name = \"a\"",
    "vrid = 1",
    "[control]",
    "=",
    "[",
    "]",
    "password = \"x",
];

fn load_bytes(name: &str, bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let options = LoadOptions {
        config_id: Some("lb1".into()),
        users: Users::Fixed(Vec::new()),
        ..LoadOptions::default()
    };
    let loaded = load(&[&path], &options);
    assert_eq!(loaded.config.is_none(), loaded.diagnostics.has_errors());
    let _ = loaded.diagnostics.render_human(true);
    let _ = loaded.diagnostics.to_json();
}

/// A case of our own with a few bytes changed.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let mut files: Vec<_> =
        std::fs::read_dir("tests/cases").unwrap().map(|e| e.unwrap().path().join("input.conf")).collect();
    files.push(Path::new("../docs/examples/everything.toml").to_owned());
    files.sort();
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..8);
    (prop::sample::select(files), edits).prop_map(|(file, edits)| {
        let mut bytes = std::fs::read(file).unwrap();
        for (index, byte, kind) in edits {
            let at = index.index(bytes.len() + 1);
            match kind {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.truncate(at),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), toml: bool) {
        load_bytes(if toml { "a.toml" } else { "a.conf" }, &bytes);
    }

    #[test]
    fn random_words_never_panic(words in prop::collection::vec(prop::sample::select(WORDS), 0..120), toml: bool) {
        load_bytes(if toml { "a.toml" } else { "a.conf" }, words.join(" ").as_bytes());
    }

    #[test]
    fn mutated_files_never_panic(bytes in mutated(), toml: bool) {
        load_bytes(if toml { "a.toml" } else { "a.conf" }, &bytes);
    }
}

/// The cases of the doors of haproxy.cfg and nginx.conf, changed.
fn of_doors() -> Vec<(&'static str, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders: Vec<_> =
        std::fs::read_dir("tests/doors").unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    for (name, folder) in folders.iter().flat_map(|folder| [("haproxy.cfg", folder), ("nginx.conf", folder)])
    {
        files.extend(std::fs::read(folder.join(name)).ok().map(|bytes| (name, bytes)));
    }
    files
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn changed_files_of_the_doors_never_panic_and_findings_have_places(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..5_u8, any::<u8>()), 1..12),
    ) {
        let files = of_doors();
        let (name, mut bytes) = files[which.index(files.len())].clone();
        for (from, to, kind, byte) in changes {
            let (a, b) = (from.index(bytes.len() + 1), to.index(bytes.len() + 1));
            let (a, b) = (a.min(b), a.max(b).min(a.min(b) + 80));
            match kind {
                0 => drop(bytes.drain(a..b)),
                1 => bytes.insert(a, byte),
                2 => {
                    let piece = bytes[a..b].to_vec();
                    bytes.splice(a..a, piece);
                }
                3 => drop(bytes.splice(a..b, b"99999999999999999999".to_vec())),
                _ => drop(bytes.splice(a..a, [b"\"", b"{", b"}", b";", b"'"][usize::from(byte) % 5].to_vec())),
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        let loaded = load(&[&path], &LoadOptions { users: Users::Fixed(Vec::new()), ..LoadOptions::default() });
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for finding in loaded.diagnostics.iter().filter(|finding| finding.location.place.file.ends_with(name)) {
            let place = &finding.location.place;
            let line = text.split('\n').nth(place.line as usize - 1);
            let width = line.map(|line| line.chars().count());
            prop_assert!(width.is_some_and(|width| place.column as usize <= width + 1), "{}", finding);
        }
        loaded.diagnostics.render_human(false);
    }
}
