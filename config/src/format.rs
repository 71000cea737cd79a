//! Which door a file goes through.

use std::path::Path;

/// The language of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// The native one.
    Toml,
    /// keepalived.conf.
    Keepalived,
    /// haproxy.cfg.
    Haproxy,
    /// nginx.conf.
    Nginx,
}

/// By name, else by the first line that says something.
pub(crate) fn of(path: &Path, bytes: &[u8]) -> Format {
    match path.extension().and_then(|e| e.to_str()) {
        Some("toml") => return Format::Toml,
        Some("cfg") => return Format::Haproxy,
        _ => {}
    }
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(1 << 16)]);
    let lines =
        || text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
    let table = |line: &str| {
        line.starts_with("[[") && line.ends_with("]]") || matches!(line, "[control]" | "[engine]")
    };
    let section = |line: &str| {
        let word = line.split_ascii_whitespace().next().unwrap_or("");
        matches!(word, "global" | "defaults" | "frontend" | "backend" | "listen") && !line.contains('{')
    };
    let nginx = |line: &str| {
        let word = line.trim_end_matches('{').trim_end();
        matches!(word, "stream" | "http" | "events" | "events {}")
    };
    let named = path.file_name().is_some_and(|name| name == "nginx.conf");
    if named || lines().any(|line| nginx(line) || line.starts_with("events {")) {
        return Format::Nginx;
    }
    if path.extension().is_some_and(|end| end == "conf") {
        return if lines().next().is_some_and(section) { Format::Haproxy } else { Format::Keepalived };
    }
    match lines().next() {
        Some(first) if table(first) || (first.contains(" = ") && lines().any(table)) => Format::Toml,
        Some(first) if section(first) => Format::Haproxy,
        _ => Format::Keepalived,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_decides_before_content() {
        assert_eq!(of(Path::new("a.toml"), b"vrrp_instance V1 {"), Format::Toml);
        assert_eq!(of(Path::new("a.conf"), b"[[instance]]"), Format::Keepalived);
        assert_eq!(of(Path::new("haproxy.cfg"), b""), Format::Haproxy);
    }

    #[test]
    fn blocks_of_nginx_tell_its_conf() {
        assert_eq!(of(Path::new("lb.conf"), b"worker_processes 2;\nstream {\n}\n"), Format::Nginx);
        assert_eq!(of(Path::new("nginx.conf"), b"include x;\n"), Format::Nginx);
        assert_eq!(of(Path::new("k.conf"), b"vrrp_instance V {\n}\n"), Format::Keepalived);
        assert_eq!(of(Path::new("haproxy.conf"), b"# x\ndefaults\n mode tcp\n"), Format::Haproxy);
    }

    #[test]
    fn content_decides_without_a_telling_name() {
        assert_eq!(of(Path::new("vipd"), b"# mine\n[[instance]]\n"), Format::Toml);
        assert_eq!(of(Path::new("vipd"), b"router_id = \"a\"\n[[check]]\n"), Format::Toml);
        assert_eq!(of(Path::new("lb"), b"global\n  daemon\n"), Format::Haproxy);
        assert_eq!(of(Path::new("803.conf.tpl"), b"@low net_namespace low\n"), Format::Keepalived);
        assert_eq!(of(Path::new("x"), b"global_defs {\n}\n"), Format::Keepalived);
    }
}
