//! Mail on changes: SMTP, one connection for each mail, no queue, no retry, and never longer than its time.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use config::ready::{Config, Mail};
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

/// Mails that are under way at a time; the others wait for their turn, and not beyond their time.
const AT_A_TIME: usize = 16;
/// A mail is given up this many times the connect timeout after its change.
const TIMES: u32 = 2;

/// Why a mail was not sent.
#[derive(Debug, thiserror::Error)]
enum MailError {
    #[error(transparent)]
    Smtp(#[from] lettre::transport::smtp::Error),
    #[error("not sent within {} s", limit.as_secs_f64())]
    Late { limit: Duration },
    #[error("no recipient was accepted, the last refusal: {0}")]
    Refused(lettre::transport::smtp::Error),
    #[error("the server does not offer STARTTLS")]
    NoTls,
    #[error("a login needs STARTTLS, so that nobody else reads the password")]
    LoginWithoutTls,
    #[error("password file: {0}")]
    Password(io::Error),
}

/// Sends mails, each by a task of its own.
#[derive(Debug)]
pub(super) struct Mailer {
    settings: Option<Arc<Mail>>,
    router_id: String,
    turns: Arc<Semaphore>,
    sending: JoinSet<()>,
}

impl Mailer {
    /// One that sends nothing yet.
    pub(super) fn new() -> Self {
        Self {
            settings: None,
            router_id: String::new(),
            turns: Arc::new(Semaphore::new(AT_A_TIME)),
            sending: JoinSet::new(),
        }
    }

    /// Takes on another configuration; mails under way go as they were.
    pub(super) fn take_on(&mut self, config: &Config) {
        self.settings = config.process.mail.clone().map(Arc::new);
        self.router_id.clone_from(&config.router_id);
    }

    pub(super) fn router_id(&self) -> &str {
        &self.router_id
    }

    /// `no_email_faults`.
    pub(super) fn is_silent_about_faults(&self) -> bool {
        self.settings.as_ref().is_some_and(|settings| settings.no_faults)
    }

    /// Starts a mail and goes on. Nothing happens where no mail is configured.
    pub(super) fn send(&mut self, subject: String, text: &str) {
        while self.sending.try_join_next().is_some() {}
        let Some(settings) = self.settings.clone() else { return };
        let message = message(&settings, &subject, text, &date(SystemTime::now()));
        let turns = Arc::clone(&self.turns);
        self.sending.spawn(async move {
            let limit = settings.connect_timeout * TIMES;
            let sent = tokio::time::timeout(limit, async {
                let _turn = turns.acquire().await;
                deliver(&settings, &message).await
            });
            let server = format!("{}:{}", settings.server, settings.port);
            match sent.await.unwrap_or(Err(MailError::Late { limit })) {
                Ok(()) => info!(server, subject, "mail sent"),
                Err(error) => warn!(server, subject, error = causes(&error), "mail not sent"),
            }
        });
    }

    /// Waits for the mails under way until `deadline`, and gives up the others.
    pub(super) async fn stop(&mut self, deadline: Instant) {
        let all = async { while self.sending.join_next().await.is_some() {} };
        if tokio::time::timeout_at(deadline, all).await.is_err() {
            warn!(mails = self.sending.len(), "mails are still under way, not waiting any longer");
            self.sending.abort_all();
        }
    }
}

async fn deliver(settings: &Mail, message: &str) -> Result<(), MailError> {
    let name = ClientId::Domain(settings.helo.clone());
    let server = (settings.server.as_str(), settings.port);
    let mut connection =
        AsyncSmtpConnection::connect_tokio1(server, Some(settings.connect_timeout), &name, None, None)
            .await?;
    if settings.start_tls {
        if !connection.can_starttls() {
            return Err(MailError::NoTls);
        }
        connection.starttls(TlsParameters::new_rustls(settings.server.clone())?, &name).await?;
    }
    if let Some((user, file)) = &settings.login {
        if !settings.start_tls {
            return Err(MailError::LoginWithoutTls);
        }
        let password = password(file).await.map_err(MailError::Password)?;
        connection.auth(DEFAULT_MECHANISMS, &Credentials::new(user.clone(), password)).await?;
    }
    connection.command(format!("MAIL FROM:<{}>\r\n", one_line(&settings.from))).await?;
    let mut accepted = false;
    let mut refused = None;
    for recipient in &settings.to {
        match connection.command(format!("RCPT TO:<{}>\r\n", one_line(recipient))).await {
            Ok(_) => accepted = true,
            Err(error) if error.is_client() || error.is_timeout() => return Err(error.into()),
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) if !accepted => return Err(MailError::Refused(error)),
        Some(error) => warn!(error = causes(&error), "a recipient of a mail was refused"),
        None => {}
    }
    connection.command("DATA\r\n").await?;
    connection.message(message.as_bytes()).await?;
    // It is sent, whatever the server says to this.
    let _ = connection.quit().await;
    Ok(())
}

/// Headers in keepalived's order.
fn message(settings: &Mail, subject: &str, text: &str, date: &str) -> String {
    let (from, to) = (one_line(&settings.from), one_line(&settings.to.join(", ")));
    let subject = one_line(subject);
    format!(
        "Date: {date}\r\nFrom: {from}\r\nSubject: {subject}\r\nX-Mailer: Keepalived\r\nTo: {to}\r\n\r\n{text}\r\n"
    )
}

/// What would begin another line, and so another header or command, is a blank.
fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

async fn password(file: &Path) -> io::Result<String> {
    let text = tokio::fs::read_to_string(file).await?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// RFC 5322 §3.3, in local time: `Sat, 21 Nov 2026 13:49:21 +0000`.
fn date(at: SystemTime) -> String {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let seconds = nix::libc::time_t::try_from(seconds).unwrap_or_default();
    let mut buffer = [0_u8; 64];
    // SAFETY: a tm of zeros is valid; both calls read and write only what is passed, within its size.
    let length = unsafe {
        let mut parts: nix::libc::tm = std::mem::zeroed();
        nix::libc::localtime_r(&raw const seconds, &raw mut parts);
        let format = c"%a, %d %b %Y %H:%M:%S %z";
        nix::libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), format.as_ptr(), &raw const parts)
    };
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// An error and what caused it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text += &format!(": {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
#[path = "mail_tests.rs"]
mod tests;
