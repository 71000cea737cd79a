//! `keepalived -t` and vipd under that name give the same exit code.
//!
//! Each configuration of `exit_codes/cases.conf` and of the corpus (`VIPD_CORPUS`) is tested by a running keepalived
//! 2.2.7 and by vipd, on a host with the interfaces and users that it names. What differs is listed with its reason.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use config::LoadOptions;
use netns_tests::reference::{self, Names};
use netns_tests::{enabled, peer};

/// Where keepalived and vipd differ: the name, both exit codes, why.
type Difference = (&'static str, i32, i32, &'static str);

const PLACEHOLDER: &str = "a template that nobody filled in: what stands in the braces is a keyword";

const DIFFERENCES: &[Difference] = &[
    ("linkbeat-dev", 4, 0, "vipd has link states from the kernel and polls no interface"),
    ("quote", 5, 6, "the rest of the line is taken as the command, and a script is a script"),
    ("script-frac", 5, 0, "decimals are allowed from 2.3.2 on"),
    ("x1", 5, 6, "nobody looks for the interface of an instance that has no router id"),
    ("041-seaweedfs-vars-zh.conf", 2, 5, PLACEHOLDER),
];

/// Files at a time.
const WORKERS: usize = 3;

/// What stands for the beginning of an instance, and for script security.
const SHORT: [(&str, &str); 2] = [
    (
        "INSTANCE\n",
        "vrrp_instance V1 {\n interface eth0\n virtual_router_id 51\n priority 100\n \
         virtual_ipaddress {\n  10.200.0.9/24\n }\n",
    ),
    ("SECURITY\n", "global_defs {\n enable_script_security\n script_user root\n}\n"),
];

/// Both exit codes, keepalived's first. It has none when it hangs, crashes, or sends itself SIGTERM: 2.2.7 does that
/// with a script whose user is not root, because it takes the shell for a parent that has changed.
fn codes(file: &Path, names: &Names, vipd: &Path) -> (Option<i32>, Option<i32>) {
    let test = |program: &Path| {
        let status = Command::new("timeout")
            .args(["--signal=KILL", "--foreground", "30"])
            .arg(program)
            .args(["-t", "-f"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        status.code().filter(|code| *code < 124)
    };
    reference::in_namespaces(names, || (test(Path::new("keepalived")), test(vipd)))
}

/// Goes through all files and fails on what differs without a reason.
fn all_the_same(files: &[(String, PathBuf, Names)]) {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let vipd = folder.path().join("keepalived");
    std::os::unix::fs::symlink(peer::vipd(), &vipd).unwrap();
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some((name, file, names)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (keepalived, ours) = codes(file, names, &vipd);
                    let ours = ours.unwrap_or_else(|| panic!("vipd gives no answer: {name}"));
                    match keepalived {
                        None => println!("{name}: keepalived gives no answer, vipd {ours}"),
                        Some(theirs) if theirs == ours => {}
                        Some(theirs) => found.lock().unwrap().push((name.as_str(), theirs, ours)),
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap();
    found.sort_unstable();
    let known: BTreeSet<_> =
        DIFFERENCES.iter().map(|(name, keepalived, ours, _)| (*name, *keepalived, *ours)).collect();
    let tested: BTreeSet<_> = files.iter().map(|(name, ..)| name.as_str()).collect();
    let new: Vec<_> = found.iter().filter(|difference| !known.contains(difference)).collect();
    let gone: Vec<_> =
        known.iter().filter(|known| tested.contains(known.0) && !found.contains(known)).collect();
    println!("{} files, {} differ", files.len(), found.len());
    assert!(new.is_empty(), "(name, keepalived, vipd): {new:#?}");
    assert!(gone.is_empty(), "listed, and no difference any more: {gone:#?}");
}

#[test]
fn small_configurations_give_the_same_exit_code() {
    if !enabled(&["keepalived"]) {
        return;
    }
    let cases = include_str!("exit_codes/cases.conf");
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let interfaces = ["eth0", "eth1"].map(str::to_owned).into();
    let names = Names { interfaces, ..Names::default() };
    let files: Vec<_> = cases
        .split("### ")
        .skip(1)
        .map(|case| {
            let (name, text) = case.split_once('\n').unwrap();
            let text = SHORT.iter().fold(text.to_owned(), |text, (short, long)| text.replace(short, long));
            let file = folder.path().join(format!("{name}.conf"));
            std::fs::write(&file, text).unwrap();
            (name.to_owned(), file, names.clone())
        })
        .collect();
    assert!(files.len() > 150, "{} cases", files.len());
    all_the_same(&files);
}

#[test]
fn configurations_of_the_corpus_give_the_same_exit_code() {
    let corpus = match std::env::var("VIPD_CORPUS") {
        Ok(skip) if skip == "skip" => return,
        Ok(folder) => PathBuf::from(folder),
        Err(_) => panic!("VIPD_CORPUS must name the folder of the corpus (or be `skip` to leave it out)"),
    };
    if !enabled(&["keepalived"]) {
        return;
    }
    let entries = ["maintainer", "wild/keepalived"].map(|folder| std::fs::read_dir(corpus.join(folder)));
    let paths = entries.into_iter().flat_map(Result::unwrap).map(|entry| entry.unwrap().path());
    let files: Vec<_> = paths
        .filter(|path| path.is_file() && path.extension().is_none_or(|e| e != "tsv"))
        .map(|path| {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            let loaded = config::load(&[&path], &LoadOptions::default());
            let mut names = Names::of(&text, loaded.config.as_ref());
            // Neither of them finds it: what is said of a host without it is compared.
            names.namespaces.clear();
            (path.file_name().unwrap().to_string_lossy().into_owned(), path, names)
        })
        .collect();
    all_the_same(&files);
}
