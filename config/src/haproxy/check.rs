//! How servers are checked: `option …chk`, `http-check`, `tcp-check`, and the options of `server`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::diagnostic::{Diagnostic, Diagnostics, Located};
use crate::model::Check;
use crate::ready::{
    AgentProbe, Bytes, Command, Credentials, Dial, Dialogue, HttpProbe, Pace, Probe, ProxyVersion, Talk,
    Target, Tls,
};
use crate::written::{Statement, Word};

use super::global::Global;
use super::reader::shown;
use super::server::{Options, Server};
use super::settings::{Line, Proxy};

mod http;
mod tcp;

/// `inter`, where it is not written.
const INTER: Duration = Duration::from_secs(2);
/// `rise`.
const RISE: u32 = 2;
/// `fall`.
const FALL: u32 = 3;

/// What checks of a backend have in common; each line of it is judged once.
pub(super) struct Checker<'a> {
    proxy: &'a Proxy,
    global: &'a Global,
    kind: Kind,
}

/// The check option that counts.
enum Kind {
    Connect,
    Tcp(Vec<tcp::Rule>),
    Http(http::Rules),
    Hello,
    Talk(Talk),
    Script(Option<Word>),
}

impl<'a> Checker<'a> {
    /// Reads the option and its rules.
    pub fn new(proxy: &'a Proxy, global: &'a Global, diagnostics: &mut Diagnostics) -> Self {
        let option = proxy.settings.check();
        let (http_rules, tcp_rules) = (rules(proxy, "http-check "), rules(proxy, "tcp-check "));
        let name = option.map(|(name, _)| name);
        ignored(proxy, "http-check", &http_rules, name == Some("option httpchk"), diagnostics);
        ignored(proxy, "tcp-check", &tcp_rules, name == Some("option tcp-check"), diagnostics);
        let kind = match option {
            None => Kind::Connect,
            Some(("option tcp-check", _)) => Kind::Tcp(tcp::rules(&tcp_rules, diagnostics)),
            Some(("option httpchk", statement)) => {
                Kind::Http(http::rules(statement, &http_rules, diagnostics))
            }
            Some(("option ssl-hello-chk", _)) => Kind::Hello,
            Some(("option external-check", _)) => {
                let command =
                    proxy.settings.get("external-check command").and_then(|s| s.words.get(2)).cloned();
                if command.is_none() {
                    let finding = Diagnostic::error(
                        "missing-parameter",
                        proxy.at(),
                        "`option external-check` without `external-check command`",
                    );
                    diagnostics.push(finding.expected("`external-check command /path/of/program`"));
                }
                if !global.external_check {
                    let at = option.map_or_else(|| proxy.at().clone(), |(_, statement)| statement.whole());
                    let message = "`option external-check` without `external-check` in `global`";
                    let finding = Diagnostic::error("missing-parameter", &at, message);
                    let help = "HAProxy does not start with it either; it runs no program that is not permitted there";
                    diagnostics.push(finding.expected("`external-check` in `global`").help(help));
                }
                Kind::Script(command)
            }
            Some((name, statement)) => talk(name, statement, diagnostics).map_or(Kind::Connect, Kind::Talk),
        };
        Self { proxy, global, kind }
    }

    /// The checks of one server: its own, and its agent's.
    pub fn of(&self, server: &Server, address: &Target, diagnostics: &mut Diagnostics) -> Vec<Check> {
        let options = &server.options;
        let name = format!("{}/{}", self.proxy.name.text, server.name.value);
        let mut checks = Vec::new();
        if options.has("check")
            && let Some(probe) = self.probe(server, address, diagnostics)
        {
            checks.push(self.check(Located::new(name.clone(), server.name.at.clone()), probe, options));
        }
        if options.has("agent-check")
            && let Some(probe) = agent(server, address, diagnostics)
        {
            let name = Located::new(format!("{name}#agent"), server.name.at.clone());
            let interval = options.time("agent-inter").or(options.time("inter")).unwrap_or(INTER);
            let whole = self.check(name, Probe::Agent(probe), options);
            checks.push(Check {
                interval,
                timeout: Some(interval),
                pace: Pace::default(),
                dial: Dial::default(),
                ..whole
            });
        }
        checks
    }

    fn check(&self, name: Located<String>, probe: Probe, options: &Options) -> Check {
        let interval = options.time("inter").unwrap_or(INTER);
        let settings = &self.proxy.settings;
        let connect = settings.timeout("timeout connect").map_or(interval, |connect| connect.min(interval));
        // Without `timeout check` the whole check has as long as a connect has with it.
        let (timeout, connect_timeout) = match (&probe, settings.timeout("timeout check")) {
            (Probe::Tcp { .. }, _) | (_, None) => (connect, None),
            (_, Some(check)) => (check, Some(connect).filter(|connect| *connect < check)),
        };
        let number =
            |name, default: u32| options.number(name).and_then(|n| u32::try_from(n).ok()).unwrap_or(default);
        let send_proxy = options.has("check-send-proxy")
            || (takes_header(options) && options.text("port").is_none() && !options.has("addr"));
        Check {
            name,
            probe,
            interval,
            timeout: Some(timeout),
            rise: number("rise", RISE),
            fall: number("fall", FALL),
            // A server is up at the start, and down after its first failure.
            first_result_decides: true,
            only_if_used: false,
            pace: Pace {
                fast_interval: options.time("fastinter").filter(|time| *time != interval),
                down_interval: options.time("downinter").filter(|time| *time != interval),
                ..Pace::default()
            },
            dial: Dial {
                send_proxy: send_proxy.then(|| header(options)),
                connect_timeout,
                ..Dial::default()
            },
        }
    }

    fn probe(&self, server: &Server, address: &Target, diagnostics: &mut Diagnostics) -> Option<Probe> {
        let options = &server.options;
        let written =
            options.number("port").and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        let port = written.or(Some(address.port).filter(|port| *port > 0)).or(self.port_of_rules());
        let Some(port) = port else {
            let message = format!("server {} has neither a port nor one for its check", server.name.value);
            let finding = Diagnostic::error("missing-parameter", &server.name.at, message);
            diagnostics.push(
                finding.expected("`port N` behind `check`").help("HAProxy does not start with it either"),
            );
            return None;
        };
        let mut target = Target { host: address.host.clone(), port };
        if let Some(host) = options.text("addr") {
            host.clone_into(&mut target.host);
        }
        let tls = options.has("check-ssl").then(|| self.tls(options));
        let credentials = self.credentials(options);
        Some(match &self.kind {
            Kind::Connect if tls.is_none() => Probe::Tcp { target },
            Kind::Connect => {
                Probe::Dialogue(Dialogue { target, tls, credentials, talk: Talk::Steps(Vec::new()) })
            }
            Kind::Hello => {
                let tls = Tls { insecure: true, ..Tls::default() };
                Probe::Dialogue(Dialogue {
                    target,
                    tls: Some(tls),
                    credentials,
                    talk: Talk::Steps(Vec::new()),
                })
            }
            Kind::Talk(talk) => Probe::Dialogue(Dialogue { target, tls, credentials, talk: talk.clone() }),
            Kind::Tcp(rules) => {
                let dialogue = Dialogue { target, tls, credentials, talk: Talk::Steps(Vec::new()) };
                tcp::probe(rules, dialogue, |connect| self.tls_of(connect, options))
            }
            Kind::Http(rules) => {
                let probe = HttpProbe { target, tls, credentials, requests: Vec::new() };
                Probe::Http(http::probe(rules, probe, |connect| self.tls_of(connect, options)))
            }
            Kind::Script(command) => Probe::Script(script(command.as_ref()?, &target)),
        })
    }

    /// That of `tcp-check connect port N`, or `http-check connect port N`.
    fn port_of_rules(&self) -> Option<u16> {
        match &self.kind {
            Kind::Tcp(rules) => rules.iter().find_map(|rule| match rule {
                tcp::Rule::Connect(connect) => connect.port,
                _ => None,
            }),
            Kind::Http(rules) => rules.connect.as_ref()?.port,
            _ => None,
        }
    }

    fn tls(&self, options: &Options) -> Tls {
        let insecure = match options.text("verify") {
            Some(verify) => verify == "none",
            None => self.global.verify_none || options.text("ca-file").is_none(),
        };
        let name = options.text("check-sni").or(options.text("verifyhost")).map(str::to_owned);
        Tls {
            ca_file: options
                .text("ca-file")
                .filter(|file| !file.starts_with('@'))
                .map(|file| based(self.global.ca_base.as_deref(), file)),
            // HAProxy verifies the name with `verifyhost` alone.
            any_name: !insecure && options.text("verifyhost").is_none(),
            server_name: name,
            insecure,
            alpn: protocols(options.text("check-alpn")),
            ..Tls::default()
        }
    }

    /// `connect ssl`, with its own name and protocols.
    fn tls_of(&self, connect: &Connect, options: &Options) -> Option<Tls> {
        if !connect.tls {
            return None;
        }
        let mut tls = self.tls(options);
        if let Some(name) = &connect.sni {
            tls.server_name = Some(name.clone());
        }
        if let Some(alpn) = &connect.alpn {
            tls.alpn = protocols(Some(alpn));
        }
        Some(tls)
    }

    fn credentials(&self, options: &Options) -> Credentials {
        let file = options.text("crt").map(|file| based(self.global.crt_base.as_deref(), file));
        Credentials { bearer_token_file: None, client_certificate_file: file.clone(), client_key_file: file }
    }

    /// The check says something about the server beyond that its port is open.
    pub fn kind(&self) -> &'static str {
        match self.kind {
            Kind::Connect => "connect",
            Kind::Tcp(ref rules)
                if rules.iter().all(|rule| matches!(rule, tcp::Rule::Connect(connect) if !connect.tls)) =>
            {
                "connect"
            }
            Kind::Tcp(_) => "tcp",
            Kind::Http(_) => "http",
            Kind::Hello => "hello",
            Kind::Talk(_) => "talk",
            Kind::Script(_) => "script",
        }
    }

    /// HTTP is spoken without TLS, unless an option of the server says otherwise.
    pub fn is_plain_http(&self) -> bool {
        matches!(&self.kind, Kind::Http(rules) if !rules.connect.as_ref().is_some_and(|connect| connect.tls))
    }

    /// The path that is asked for.
    pub fn path(&self) -> Option<&str> {
        match &self.kind {
            Kind::Http(rules) => rules.path(),
            _ => None,
        }
    }
}

/// `http-check connect` and `tcp-check connect`.
#[derive(Clone, Debug, Default)]
pub(super) struct Connect {
    pub port: Option<u16>,
    pub host: Option<String>,
    pub tls: bool,
    pub sni: Option<String>,
    pub alpn: Option<String>,
}

/// Of the server's own lines if there are any, else those of its defaults.
fn rules<'p>(proxy: &'p Proxy, family: &str) -> Vec<&'p Line> {
    let all = || proxy.lines.iter().filter(|line| line.keyword.name.starts_with(family));
    let own: Vec<_> = all().filter(|line| !line.inherited).collect();
    if own.is_empty() { all().collect() } else { own }
}

fn ignored(proxy: &Proxy, family: &str, rules: &[&Line], used: bool, diagnostics: &mut Diagnostics) {
    let own = rules.iter().find(|line| !line.inherited);
    if let (false, Some(line)) = (used, own) {
        let option = if family == "http-check" { "option httpchk" } else { "option tcp-check" };
        let message = match proxy.settings.check() {
            Some((other, _)) if other != option => {
                format!("`{family}` never had an effect: servers are checked by `{other}`")
            }
            _ => format!("`{family}` never had an effect without `{option}`"),
        };
        let finding = Diagnostic::warning("replaced-check", &line.statement.whole(), message);
        diagnostics.push(
            finding
                .expected(format!("`{option}`, and no other check option behind it"))
                .help("HAProxy ignores the rules too"),
        );
    }
}

fn takes_header(options: &Options) -> bool {
    options.has("send-proxy") || options.has("send-proxy-v2")
}

/// The version that goes to a server.
pub(super) fn header(options: &Options) -> ProxyVersion {
    if options.has("send-proxy-v2") { ProxyVersion::V2 } else { ProxyVersion::V1 }
}

fn protocols(text: Option<&str>) -> Vec<String> {
    text.map(|text| text.split(',').map(str::to_owned).collect()).unwrap_or_default()
}

fn based(base: Option<&str>, file: &str) -> PathBuf {
    base.map_or_else(|| PathBuf::from(file), |base| Path::new(base).join(file))
}

/// HAProxy calls it with the address of the frontend, which a backend does not know, and that of the server.
fn script(command: &Word, target: &Target) -> Command {
    let unknown = || "NOT_USED".to_owned();
    Command {
        program: PathBuf::from(&command.text),
        arguments: vec![unknown(), unknown(), target.host.clone(), target.port.to_string()],
        user: None,
        place: command.at.place.clone(),
    }
}

fn agent(server: &Server, address: &Target, diagnostics: &mut Diagnostics) -> Option<AgentProbe> {
    let options = &server.options;
    let port =
        options.number("agent-port").and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let Some(port) = port else {
        let finding =
            Diagnostic::error("missing-parameter", &server.name.at, "`agent-check` without `agent-port`");
        diagnostics
            .push(finding.expected("`agent-port N` beside it").help("HAProxy does not start with it either"));
        return None;
    };
    let host = options.text("agent-addr").or(options.text("addr")).unwrap_or(&address.host).to_owned();
    let send = options.text("agent-send").map(Bytes::from).unwrap_or_default();
    Some(AgentProbe { target: Target { host, port }, send })
}

/// Options that speak a protocol of their own.
fn talk(name: &str, statement: &Statement, diagnostics: &mut Diagnostics) -> Option<Talk> {
    let word = |index: usize| statement.words.get(index).map(|word| word.text.clone());
    let user = (word(2).as_deref() == Some("user")).then(|| word(3)).flatten();
    Some(match name {
        "option smtpchk" => {
            let hello = match (word(2).as_deref(), word(3)) {
                (Some("EHLO"), Some(domain)) => format!("EHLO {domain}"),
                (Some("HELO"), Some(domain)) => format!("HELO {domain}"),
                _ => "HELO localhost".to_owned(),
            };
            Talk::Smtp { hello }
        }
        "option mysql-check" => Talk::Mysql { user },
        "option pgsql-check" => {
            let Some(user) = user else {
                let finding = Diagnostic::error(
                    "missing-parameter",
                    &statement.whole(),
                    "`option pgsql-check` without a user",
                );
                diagnostics.push(
                    finding
                        .expected("`option pgsql-check user NAME`")
                        .help("HAProxy does not start with it either"),
                );
                return None;
            };
            Talk::Postgres { user }
        }
        "option redis-check" => Talk::Redis,
        "option ldap-check" => Talk::Ldap,
        _ => return None,
    })
}

/// A step of a check that cannot be carried.
fn not_carried(word: &Word, instead: &str, diagnostics: &mut Diagnostics) {
    let message = format!("`{}` of a check is not carried", shown(word));
    diagnostics.push(Diagnostic::warning("not-carried", &word.at, message).help(instead));
}

/// `connect [default] [port N] [addr IP] [send-proxy] [ssl] [sni NAME] [alpn LIST] [linger] [proto NAME] [comment TEXT]`
fn connect(statement: &Statement, diagnostics: &mut Diagnostics) -> Connect {
    let mut made = Connect::default();
    let mut words = statement.words.iter().skip(2);
    while let Some(word) = words.next() {
        let mut value = || words.next();
        match word.text.as_str() {
            "ssl" => made.tls = true,
            "port" => {
                let port =
                    value().and_then(|word| super::value::number_within(word, 1, 65535, "port", diagnostics));
                made.port = port.and_then(|port| u16::try_from(port).ok());
            }
            "addr" => made.host = value().map(|word| word.text.clone()),
            "sni" => made.sni = value().map(|word| word.text.clone()),
            "alpn" => made.alpn = value().map(|word| word.text.clone()),
            "comment" => drop(value()),
            "default" | "linger" => {}
            "proto" => {
                value();
                not_carried(word, "an HTTP check speaks HTTP/1.1", diagnostics);
            }
            "send-proxy" => not_carried(word, "write `check-send-proxy` at the servers", diagnostics),
            "via-socks4" => not_carried(word, "checks go to the server itself", diagnostics),
            _ => {
                let message = format!("unknown `{}` behind `connect`", shown(word));
                let finding = Diagnostic::error("unknown-keyword", &word.at, message);
                diagnostics.push(
                    finding
                        .expected("`port`, `addr`, `ssl`, `sni`, `alpn`, `send-proxy`, `default`, `linger` or `comment`")
                        .help("HAProxy does not start with it either"),
                );
                return made;
            }
        }
    }
    made
}

/// A regular expression, in the words that the check takes.
fn pattern(word: &Word, diagnostics: &mut Diagnostics) -> Option<String> {
    let text = literal_braces(&word.text);
    match crate::ready::Matching::regex(&text) {
        Ok(_) => Some(text),
        Err(why) => {
            let finding =
                Diagnostic::error("refused", &word.at, format!("this expression cannot be used: {why}"));
            diagnostics.push(
                finding.expected("a regular expression as in Perl, without look-around and back references"),
            );
            None
        }
    }
}

/// In Perl's expressions a `{` that begins no repetition stands for itself; here it must be escaped.
fn literal_braces(text: &str) -> String {
    let mut made = String::with_capacity(text.len());
    let mut escaped = false;
    // `\p{…}` and `\x{…}` keep theirs.
    let mut named = false;
    for (index, c) in text.char_indices() {
        if c == '{' && !escaped && !named {
            let repetition = text[index + 1..].split_once('}').is_some_and(|(inside, _)| {
                let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
                let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
                !least.is_empty() && digits(least) && digits(most)
            });
            if !repetition {
                made.push('\\');
            }
        }
        named = escaped && matches!(c, 'p' | 'P' | 'x');
        escaped = c == '\\' && !escaped;
        made.push(c);
    }
    made
}

fn octets(word: &Word, diagnostics: &mut Diagnostics) -> Option<Bytes> {
    let digits: Vec<u32> = word.text.chars().map_while(|c| c.to_digit(16)).collect();
    if digits.len() != word.text.chars().count() || digits.len() % 2 == 1 {
        let finding = Diagnostic::error(
            "invalid-value",
            &word.at,
            format!("`{}` are no hexadecimal digits", shown(word)),
        );
        diagnostics.push(
            finding.expected("two digits for each octet").help("HAProxy does not start with it either"),
        );
        return None;
    }
    let octet = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair[1]).unwrap_or(0);
    Some(Bytes(digits.chunks(2).map(octet).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each is an expression for PCRE, which HAProxy uses.
    #[test]
    fn braces_that_repeat_nothing_stand_for_themselves() {
        for (written, read) in [
            (r#"{"a":{"b":".*"}}"#, r#"\{"a":\{"b":".*"}}"#),
            ("a{2,3}b{4}c{5,}", "a{2,3}b{4}c{5,}"),
            (r"\{x", r"\{x"),
            (r"\x{41}\p{L}{", r"\x{41}\p{L}\{"),
        ] {
            assert_eq!(literal_braces(written), read);
        }
        assert!(
            crate::ready::Matching::regex(&literal_braces(r#"{"FileStatus":{"pathSuffix":".*","#)).is_ok()
        );
    }
}
