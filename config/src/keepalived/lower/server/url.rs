//! `HTTP_GET` and `SSL_GET`, and the top-level block `SSL`.

use std::path::PathBuf;

use crate::diagnostic::{Diagnostic, Location};
use crate::ready::{Credentials, Matching};
use crate::written::Statement;

use super::super::values::Rest;
use super::super::{Lower, inside};
use super::IGNORED;

/// An `HTTP_GET` or `SSL_GET`.
#[derive(Clone, Debug)]
pub(super) struct Web {
    pub ssl: bool,
    pub urls: Vec<Url>,
    pub virtualhost: Option<String>,
    pub version: Version,
    pub sni: bool,
    pub sni_name: Option<String>,
}

/// What is said of HTTP in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V10,
    /// With `Connection: close`.
    V10Close,
    V11,
}

/// One request and what is expected of its answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Url {
    pub path: String,
    pub digest: Option<[u8; 16]>,
    pub status: Vec<(u16, u16)>,
    pub virtualhost: Option<String>,
    pub regex: Option<String>,
    pub no_match: bool,
}

impl Lower<'_> {
    /// `own` reads the words that other checkers know too.
    pub(super) fn web_checker(
        &mut self,
        block: &Statement,
        ssl: bool,
        mut own: impl FnMut(&mut Self, &Statement),
    ) -> Option<Web> {
        let mut web = Web {
            ssl,
            urls: Vec::new(),
            virtualhost: None,
            version: Version::V10,
            sni: false,
            sni_name: None,
        };
        for statement in inside(block) {
            match statement.keyword() {
                "url" => web.urls.extend(self.url(statement)),
                "virtualhost" => web.virtualhost = self.web_host(statement),
                "http_protocol" => self.http_protocol(statement, &mut web),
                "enable_sni" => web.sni = self.boolean(statement).map_or(web.sni, |on| on.value),
                "sni_name" => {
                    web.sni_name = self.web_host(statement);
                    web.sni |= web.sni_name.is_some();
                }
                "nb_get_retry" => {
                    let finding =
                        Diagnostic::warning("old-word", statement.at(), "`nb_get_retry` is deprecated");
                    self.diagnostics.push(finding.expected("`retry`").help("it is taken for `retry`"));
                    let mut renamed = statement.clone();
                    renamed.words[0].text = "retry".to_owned();
                    own(self, &renamed);
                }
                _ => own(self, statement),
            }
        }
        if web.urls.is_empty() {
            let message = format!("no `url` in `{}`", block.keyword());
            let finding =
                Diagnostic::warning("missing-url", block.at(), message).expected("`url { path … }`");
            self.diagnostics.push(finding.help("the checker is left out, as in keepalived"));
            return None;
        }
        Some(web)
    }

    fn http_protocol(&mut self, statement: &Statement, web: &mut Web) {
        if statement.parameter().is_none() {
            self.optional_text(statement);
            return;
        }
        let Some(word) = statement.parameter() else { return };
        web.version = match word.text.as_str() {
            "1.0" => Version::V10,
            "1.0C" | "1.0c" => Version::V10Close,
            "1.1" => Version::V11,
            _ => return self.invalid(word, "`1.0`, `1.0C` or `1.1`", IGNORED),
        };
    }

    fn url(&mut self, block: &Statement) -> Option<Url> {
        let mut url = Url::default();
        let mut path = None;
        let mut options: Option<Location> = None;
        let mut letters = String::new();
        for statement in inside(block) {
            match statement.keyword() {
                "path" => path = self.required(statement, "a path").map(|word| word.text.clone()),
                "digest" => self.digest(statement, &mut url),
                "status_code" => self.status_codes(statement, &mut url),
                "virtualhost" => url.virtualhost = self.web_host(statement),
                "regex" => url.regex = self.regex(statement).or(url.regex.take()),
                "regex_no_match" => url.no_match = true,
                "regex_options" => {
                    options = Some(statement.at().clone());
                    letters.push_str(&self.regex_options(statement));
                }
                "regex_min_offset" | "regex_max_offset" => self.offset(statement),
                other => debug_assert!(false, "no meaning for {other}"),
            }
        }
        let Some(path) = path else {
            let finding = Diagnostic::warning("missing-url", block.at(), "`url` without a `path`");
            self.diagnostics.push(finding.expected("`path /…`").help("it is left out, as in keepalived"));
            return None;
        };
        let path = self.request_path(block, path)?;
        if let (None, Some(at)) = (&url.regex, &options) {
            let finding = Diagnostic::notice("regex-options", at, "`regex_options` without `regex`");
            self.diagnostics.push(finding.help(IGNORED));
        }
        if let (Some(regex), false) = (&mut url.regex, letters.is_empty()) {
            *regex = format!("(?{letters}){regex}");
        }
        url.path = path;
        Some(url)
    }

    /// keepalived asks for whatever is written; servers answer 400 to what is no path.
    fn request_path(&mut self, block: &Statement, path: String) -> Option<String> {
        if path.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let finding = Diagnostic::warning("missing-url", block.at(), "a blank in the `path` of `url`");
            self.diagnostics.push(finding.expected("`%20` for it").help("the URL is left out"));
            return None;
        }
        Some(if path.starts_with('/') || path == "*" { path } else { format!("/{path}") })
    }

    fn digest(&mut self, statement: &Statement, url: &mut Url) {
        let expected = "32 hexadecimal digits, as `genhash` prints them";
        let Some(word) = self.required(statement, expected) else { return };
        if url.digest.is_some() {
            return self.invalid(word, "one digest", "the first counts, as in keepalived");
        }
        let octet = |index: usize| {
            let pair = word.text.get(2 * index..2 * index + 2)?;
            u8::from_str_radix(pair, 16).ok().filter(|_| !pair.starts_with('+'))
        };
        let octets: Option<Vec<u8>> = (0..16).map(octet).collect();
        match octets.and_then(|octets| octets.try_into().ok()) {
            Some(digest) if word.text.len() == 32 => url.digest = Some(digest),
            _ => self.invalid(word, expected, "the body is not looked at, as in keepalived"),
        }
    }

    /// `200`, `200-299`, several of them.
    fn status_codes(&mut self, statement: &Statement, url: &mut Url) {
        for word in statement.parameters() {
            let (low, high) = word.text.split_once('-').unwrap_or((&word.text, &word.text));
            let range = low.parse::<u16>().ok().zip(high.parse::<u16>().ok());
            match range.filter(|(low, high)| (100..=599).contains(low) && low <= high && *high <= 599) {
                Some(range) => url.status.push(range),
                None => self.invalid(word, "a status from 100 to 599, or a range", "the word is ignored"),
            }
        }
    }

    fn regex(&mut self, statement: &Statement) -> Option<String> {
        let [word] = statement.parameters() else {
            let finding = Diagnostic::notice("regex", statement.at(), "`regex` needs one word");
            self.diagnostics.push(finding.expected("the expression in quotes").help(IGNORED));
            return None;
        };
        if let Err(reason) = Matching::regex(&word.text) {
            let message = format!("`{}` is no expression that can be used here: {reason}", word.text);
            let finding = Diagnostic::warning("regex", &word.at, message);
            self.diagnostics.push(finding.help(
                "the body is not looked at; look-around and back references are not known, and a digest or a simpler expression may do",
            ));
            return None;
        }
        Some(word.text.clone())
    }

    /// The letters for those options that mean the same here.
    fn regex_options(&mut self, statement: &Statement) -> String {
        let mut letters = String::new();
        for word in statement.parameters() {
            match word.text.as_str() {
                "caseless" => letters.push('i'),
                "multiline" => letters.push('m'),
                "dotall" => letters.push('s'),
                "extended" => letters.push('x'),
                "ungreedy" => letters.push('U'),
                // Nothing of what they change can be seen by whether an expression matches, or they make it faster.
                "auto_callout" | "no_auto_capture" | "no_auto_possess" | "no_dotstar_anchor"
                | "no_start_optimize" | "never_utf" | "use_offset_limit" | "dupnames"
                | "never_backslash_c" => {}
                option => {
                    let message = format!("the option `{option}` of expressions has no effect here");
                    let finding = Diagnostic::notice("regex-options", &word.at, message);
                    self.diagnostics.push(finding.help("the expression is used without it"));
                }
            }
        }
        letters
    }

    fn offset(&mut self, statement: &Statement) {
        let keyword = statement.keyword();
        let Some(word) = statement.parameter() else { return };
        if self.number(word, 0..=i64::from(u32::MAX), Rest::Warned, IGNORED).is_some_and(|offset| offset > 0)
        {
            let message = format!("`{keyword}` has no effect here");
            let finding = Diagnostic::warning("regex-options", statement.at(), message);
            self.diagnostics.push(finding.help("the expression may match anywhere in the body"));
        }
    }

    /// The top-level block: who we are to servers that ask for a certificate.
    pub(in super::super) fn ssl(&mut self, block: &Statement) {
        let mut made = Credentials::default();
        for statement in inside(block) {
            let value = self.optional_text(statement).map(PathBuf::from);
            match statement.keyword() {
                "certificate" => made.client_certificate_file = value,
                "key" => made.client_key_file = value,
                _ => {}
            }
        }
        if made.client_certificate_file.is_some() != made.client_key_file.is_some() {
            let message = "`SSL` with a certificate or a key, and not both";
            let finding = Diagnostic::warning("ssl", block.at(), message);
            self.diagnostics.push(
                finding
                    .expected("`certificate FILE` and `key FILE`")
                    .help("no certificate is shown to servers"),
            );
            made = Credentials::default();
        }
        self.ssl_credentials = made;
    }
}
