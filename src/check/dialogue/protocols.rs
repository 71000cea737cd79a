//! A few words of other people's protocols: enough to hear that a server serves.

use config::ready::Talk;

use super::{Call, Line};
use crate::check::matching::{line as shown_line, shown};

/// What the server said, fit for the middle of a sentence.
///
/// `line`: with its certificates, for those that turn to TLS after a few words.
pub(super) async fn speak(talk: &Talk, call: &mut Call, line: &mut Line) -> Result<Option<String>, String> {
    let said = match talk {
        Talk::Steps(_) => return Ok(None),
        Talk::Smtp { hello } => smtp(call, hello).await?,
        Talk::Redis => redis(call).await?,
        Talk::Ldap => ldap(call).await?,
        Talk::Mysql { user } => mysql(call, line, user.as_deref()).await?,
        Talk::Postgres { user } => postgres(call, line, user).await?,
    };
    Ok(Some(said))
}

/// RFC 5321 §4.2: greeting 220, `HELO` 250, `QUIT` 221; HAProxy takes any 2xx.
async fn smtp(call: &mut Call, hello: &str) -> Result<String, String> {
    let greeting = smtp_reply(call).await?;
    call.say(format!("{hello}\r\n").as_bytes()).await?;
    smtp_reply(call).await.map_err(|error| format!("{hello}: {error}"))?;
    call.say(b"QUIT\r\n").await?;
    smtp_reply(call).await.map_err(|error| format!("QUIT: {error}"))?;
    Ok(greeting)
}

/// All lines of a reply; its last one.
async fn smtp_reply(call: &mut Call) -> Result<String, String> {
    // Bounded: what is heard of one reply has a limit.
    for _ in 0..100 {
        let reply = call.line().await?;
        let code: Option<&[u8]> = reply.get(..3).filter(|code| code.iter().all(u8::is_ascii_digit));
        match (code, reply.get(3)) {
            (Some(_), Some(b'-')) => {}
            (Some([b'2', ..]), None | Some(b' ')) => return Ok(shown_line(&reply)),
            (Some(_), None | Some(b' ')) => return Err(format!("the server says {}", shown_line(&reply))),
            _ => return Err(format!("the answer is not SMTP: {}", shown(&reply))),
        }
    }
    Err("the reply does not end".to_owned())
}

/// HAProxy's `option redis-check`.
async fn redis(call: &mut Call) -> Result<String, String> {
    call.say(b"*1\r\n$4\r\nPING\r\n").await?;
    match call.line().await?.as_slice() {
        b"+PONG" => Ok("PONG".to_owned()),
        [b'-', error @ ..] => Err(format!("the server says {}", shown_line(error))),
        other => Err(format!("the answer is not Redis: {}", shown(other))),
    }
}

/// An anonymous simple bind (RFC 4511 §4.2), and an unbind.
async fn ldap(call: &mut Call) -> Result<String, String> {
    call.say(b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00").await?;
    let foreign = |octets: &[u8]| format!("the answer is not LDAP: {}", shown(octets));
    let head = call.exactly(2).await?;
    let length = match head.as_slice() {
        [0x30, length @ 0..=0x7f] => usize::from(*length),
        [0x30, size @ 0x81..=0x84] => {
            let octets = call.exactly(usize::from(size & 0x7f)).await?;
            octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet))
        }
        other => return Err(foreign(other)),
    };
    let message = call.exactly(length.clamp(1, super::ANSWER_LIMIT)).await?;
    // Message 1; BindResponse, its length; the result code.
    let code = match message.as_slice() {
        [0x02, 0x01, 0x01, 0x61, 0..=0x7f, 0x0a, 0x01, code, ..] => Some(*code),
        [0x02, 0x01, 0x01, 0x61, size @ 0x81..=0x84, rest @ ..] => {
            match rest.get(usize::from(size & 0x7f)..) {
                Some([0x0a, 0x01, code, ..]) => Some(*code),
                _ => None,
            }
        }
        _ => None,
    };
    // It may have closed already.
    let _ = call.say(b"\x30\x05\x02\x01\x02\x42\x00").await;
    match code {
        Some(0) => Ok("anonymous bind accepted".to_owned()),
        Some(code) => Err(format!("the server refuses an anonymous bind: result code {code}")),
        None => Err(foreign(&message)),
    }
}

/// Of the capabilities of MySQL's client: version 4.1 of the protocol, and its way to log in.
const MYSQL_CLIENT: u32 = 0x0200 | 0x8000;
/// It goes on over TLS (CLIENT_SSL); of the server: it can.
const MYSQL_TLS: u32 = 0x0800;

/// The greeting; with a user also a login as in HAProxy's `option mysql-check user`. With TLS the handshake is
/// between the two, behind a login that is cut off where the user's name would come.
async fn mysql(call: &mut Call, line: &mut Line, user: Option<&str>) -> Result<String, String> {
    let (_, greeting) = mysql_packet(call).await?;
    let version = match greeting.as_slice() {
        [0xff, ..] => return Err(mysql_error(&greeting)),
        [10, rest @ ..] => rest.split(|octet| *octet == 0).next().unwrap_or_default(),
        other => return Err(format!("the answer is not MySQL's greeting: {}", shown(other))),
    };
    let said = format!("version {}", shown_line(version));
    let mut capabilities = MYSQL_CLIENT;
    let mut number = 1;
    if line.secure.is_some() {
        // Behind the version: a thread, eight octets of salt and one 0, then what it can, its lower half first.
        let offered = greeting.get(version.len() + 15..version.len() + 17).unwrap_or_default();
        if offered.iter().rev().fold(0, |all, octet| all << 8 | u32::from(*octet)) & MYSQL_TLS == 0 {
            return Err("the server does not offer TLS".to_owned());
        }
        capabilities |= MYSQL_TLS;
        call.say(&mysql_framed(number, &mysql_head(capabilities))).await?;
        call.secure(line).await?;
        number += 1;
    }
    let Some(user) = user else { return Ok(said) };
    // No password.
    let login = [mysql_head(capabilities).as_slice(), user.as_bytes(), &[0, 0]].concat();
    call.say(&mysql_framed(number, &login)).await?;
    let (mut number, mut reply) = mysql_packet(call).await?;
    if reply.first() == Some(&0xfe) {
        // Another way to prove who we are; without a password the proof is empty.
        call.say(&mysql_framed(number.wrapping_add(1), &[])).await?;
        (number, reply) = mysql_packet(call).await?;
    }
    if let [1, 3 | 4, ..] = reply.as_slice() {
        // caching_sha2_password: the proof was taken (3), or more is wanted.
        (number, reply) = mysql_packet(call).await?;
    }
    let _ = number;
    match reply.first() {
        Some(0) => {
            let _ = call.say(&mysql_framed(0, &[1])).await;
            Ok(said)
        }
        Some(0xff) => Err(mysql_error(&reply)),
        _ => Err(format!("user {user} was not let in: {}", shown(&reply))),
    }
}

/// What a client can, 16 MiB at most in a packet, the character set utf8, 23 zeros.
fn mysql_head(capabilities: u32) -> Vec<u8> {
    let mut head = capabilities.to_le_bytes().to_vec();
    head.extend([0, 0, 0, 1, 33]);
    head.extend([0; 23]);
    head
}

async fn mysql_packet(call: &mut Call) -> Result<(u8, Vec<u8>), String> {
    let head = call.exactly(4).await?;
    let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
    if length == 0 || length > super::ANSWER_LIMIT {
        return Err(format!("the answer is not MySQL: {}", shown(&head)));
    }
    Ok((head[3], call.exactly(length).await?))
}

fn mysql_framed(number: u8, content: &[u8]) -> Vec<u8> {
    let [low, middle, ..] = content.len().to_le_bytes();
    let mut packet = vec![low, middle, 0, number];
    packet.extend_from_slice(content);
    packet
}

/// Code, maybe `#` and a state of five characters, text.
fn mysql_error(packet: &[u8]) -> String {
    let text = packet.get(3..).unwrap_or_default();
    let text = if text.first() == Some(&b'#') { text.get(6..).unwrap_or_default() } else { text };
    format!("the server says {}", shown_line(text))
}

/// A StartupMessage of version 3.0, answered by any demand for a proof; then a Terminate. With TLS an SSLRequest comes
/// first, and the handshake.
async fn postgres(call: &mut Call, line: &mut Line, user: &str) -> Result<String, String> {
    if line.secure.is_some() {
        call.say(b"\0\0\0\x08\x04\xd2\x16\x2f").await?;
        match call.exactly(1).await?.as_slice() {
            b"S" => call.secure(line).await?,
            b"N" => return Err("the server does not offer TLS".to_owned()),
            other => return Err(format!("the answer is not PostgreSQL: {}", shown(other))),
        }
    }
    let mut startup = vec![0, 3, 0, 0];
    for word in ["user", user, "database", user] {
        startup.extend(word.bytes().chain([0]));
    }
    startup.push(0);
    let length = u32::try_from(startup.len() + 4).unwrap_or(u32::MAX);
    call.say(&[&length.to_be_bytes(), startup.as_slice()].concat()).await?;
    let head = call.exactly(5).await?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let length = usize::try_from(length).ok().filter(|length| (4..super::ANSWER_LIMIT).contains(length));
    match (head[0], length) {
        (b'R', Some(_)) => {
            let _ = call.say(b"X\0\0\0\x04").await;
            Ok("the server is ready for a login".to_owned())
        }
        (b'E', Some(length)) => {
            let fields = call.exactly(length - 4).await?;
            let message = fields.split(|octet| *octet == 0).find_map(|field| field.strip_prefix(b"M"));
            Err(format!("the server says {}", shown_line(message.unwrap_or(&fields))))
        }
        _ => Err(format!("the answer is not PostgreSQL: {}", shown(&head))),
    }
}
