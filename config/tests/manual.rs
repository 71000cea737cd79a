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
