//! Conditions of `.if` and `.elif` (configuration manual, 2.4).

use super::words::Variables;

/// The version that predicates are asked about.
const VERSION: [u32; 3] = [2, 6, 12];
/// What Debian's build of it can do (`haproxy -vv`).
const FEATURES: [&str; 22] = [
    "ACCEPT4",
    "CPU_AFFINITY",
    "CRYPT_H",
    "DL",
    "EPOLL",
    "GETADDRINFO",
    "LIBCRYPT",
    "LINUX_SPLICE",
    "LINUX_TPROXY",
    "LUA",
    "NETFILTER",
    "NS",
    "OPENSSL",
    "PCRE2",
    "POLL",
    "PRCTL",
    "PROMEX",
    "QUIC",
    "SLZ",
    "SYSTEMD",
    "THREAD",
    "TFO",
];
/// Parentheses within parentheses.
const MOST_DEPTH: usize = 32;

/// Whether it holds.
///
/// # Errors
/// What cannot be read.
pub(super) fn holds(text: &str, variables: &Variables) -> Result<bool, String> {
    if text.trim().is_empty() {
        return Ok(false);
    }
    let mut reader = Reader { rest: text.trim(), variables, depth: 0 };
    let value = reader.any()?;
    reader.skip();
    if reader.rest.is_empty() {
        Ok(value)
    } else {
        Err(format!("`{}` behind the condition", short(reader.rest)))
    }
}

struct Reader<'a> {
    rest: &'a str,
    variables: &'a Variables,
    depth: usize,
}

impl Reader<'_> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn any(&mut self) -> Result<bool, String> {
        let mut value = self.all()?;
        while self.take("||") {
            value |= self.all()?;
        }
        Ok(value)
    }

    fn all(&mut self) -> Result<bool, String> {
        let mut value = self.term()?;
        while self.take("&&") {
            value &= self.term()?;
        }
        Ok(value)
    }

    fn term(&mut self) -> Result<bool, String> {
        let mut negated = false;
        while self.take("!") {
            negated = !negated;
        }
        let value = if self.take("(") {
            self.depth += 1;
            if self.depth > MOST_DEPTH {
                return Err("too many parentheses".to_owned());
            }
            let value = self.any()?;
            self.depth -= 1;
            if !self.take(")") {
                return Err("`)` is missing".to_owned());
            }
            value
        } else {
            self.predicate()?
        };
        Ok(value != negated)
    }

    fn predicate(&mut self) -> Result<bool, String> {
        self.skip();
        let end =
            self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        if !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()) {
            self.rest = rest;
            return Ok(word.bytes().any(|b| b != b'0'));
        }
        let inside = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let Some((arguments, rest)) = inside else {
            return Err(format!("unparsable conditional expression `{}`", short(self.rest)));
        };
        self.rest = rest;
        let arguments: Vec<&str> = arguments.split(',').map(str::trim).collect();
        match (word, arguments.as_slice()) {
            ("defined", [name]) => Ok(self.variables.get(name).is_some()),
            ("feature", [name]) => Ok(FEATURES.contains(name)),
            ("streq", [a, b]) => Ok(a == b),
            ("strneq", [a, b]) => Ok(a != b),
            ("version_atleast", [version]) => Ok(VERSION >= number(version)),
            ("version_before", [version]) => Ok(VERSION < number(version)),
            // Debian 12 has OpenSSL 3.
            ("openssl_version_atleast", [version]) => Ok([3, 0, 0] >= number(version)),
            ("openssl_version_before", [version]) => Ok([3, 0, 0] < number(version)),
            ("ssllib_name_startswith", [name]) => Ok("OpenSSL".starts_with(name)),
            _ => Err(format!("unknown predicate `{}` with {} arguments", short(word), arguments.len())),
        }
    }
}

/// `2.4-dev19` is 2.4: of a version in development it cannot be told here.
fn number(text: &str) -> [u32; 3] {
    let mut parts = text.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each with the answer of `haproxy -cc` of 2.6.12: exit code 0 for true.
    #[test]
    fn conditions_are_judged_as_haproxy_does() {
        let mut variables = Variables::default();
        variables.set("FOO", None);
        variables.set("SET", Some(String::new()));
        for (condition, expected) in [
            ("version_atleast(2.6)", true),
            ("version_atleast(2.7)", false),
            ("version_before(2.6.13)", true),
            ("feature(OPENSSL) && !defined(FOO)", true),
            ("defined(SET)", true),
            ("streq(yes,no) || 1 && (0 || 12)", true),
            ("!streq(a,a)", false),
            ("strneq(a,b)", true),
            ("feature(WURFL)", false),
            ("", false),
        ] {
            assert_eq!(holds(condition, &variables), Ok(expected), "{condition}");
        }
        for wrong in ["foo", "foo(1)", "1 2", "(1", "streq(a)"] {
            assert!(holds(wrong, &variables).is_err(), "{wrong}");
        }
        assert!(holds(&"(".repeat(1_000_000), &variables).is_err());
    }
}
