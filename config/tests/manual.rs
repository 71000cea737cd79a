//! `docs/keepalived.md` says what the parser does. `UPDATE_GOLDEN=1` rewrites it.

#[test]
fn page_of_keywords_is_up_to_date() {
    let path = "../docs/keepalived.md";
    let page = config::keepalived_keywords();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "docs/keepalived.md is out of date; UPDATE_GOLDEN=1 rewrites it");
}

#[test]
fn every_keyword_has_a_row_with_its_verdict() {
    let page = config::keepalived_keywords();
    let verdicts = ["supported", "supported with a difference", "accepted without effect", "refused"];
    let mut rows = 0;
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.split(" | ").collect();
        assert!(verdicts.contains(&cells[1]), "{row}");
        assert!(cells[1] == "supported" || cells[2].len() > 10, "no sentence: {row}");
        rows += 1;
    }
    assert!(rows > 400, "{rows} rows");
}

#[test]
fn page_on_haproxy_is_up_to_date() {
    let path = "../docs/haproxy.md";
    let page = config::haproxy_keywords();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "docs/haproxy.md is out of date; UPDATE_GOLDEN=1 rewrites it");
}

/// `haproxy -dKcfg,srv,bnd` prints every keyword that HAProxy registers; those of the manual's matrix that it does not
/// print are in the tables by hand.
#[test]
fn every_keyword_that_haproxy_registers_has_a_row() {
    if std::env::var("NETNS_TESTS").is_ok_and(|skip| skip == "skip") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("empty.cfg");
    std::fs::write(&file, "global\n").unwrap();
    let output = std::process::Command::new("haproxy")
        .args(["-dKcfg,srv,bnd", "-c", "-f"])
        .arg(&file)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("haproxy cannot be run ({error}); NETNS_TESTS=skip does without"));
    let page = config::haproxy_keywords();
    let has = |word: &str| page.contains(&format!("| `{word}` |")) || page.contains(&format!("| `{word} "));
    let mut count = 0;
    for line in String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.strip_prefix('\t')) {
        let words: Vec<_> = line.split_whitespace().collect();
        let name = match words.as_slice() {
            ["bind", "<addr>", "ssl", name, ..]
            | ["bind", "<addr>", name, ..]
            | ["server", "<name>", "<addr>", name, ..] => (*name).to_owned(),
            ["option", name, ..] => format!("option {name}"),
            [name] => (*name).to_owned(),
            _ => continue,
        };
        // Of `userlist`, `peers`, `crt-list` and rules, which have no rows of their own.
        if name.starts_with("tune.") || !line.starts_with(char::is_alphabetic) {
            continue;
        }
        let elsewhere = ["user", "group", "bind", "peer", "server", "table", "default-bind"];
        assert!(has(&name) || elsewhere.contains(&name.as_str()) || line.contains('['), "no row for {line}");
        count += 1;
    }
    assert!(count > 200, "{count} keywords");
}

#[test]
fn page_on_nginx_is_up_to_date() {
    let path = "../docs/nginx.md";
    let page = config::nginx_keywords();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "docs/nginx.md is out of date; UPDATE_GOLDEN=1 rewrites it");
}
