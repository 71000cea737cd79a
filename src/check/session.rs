//! Is a BFD session up? The thread that runs the sessions tells us; nothing is asked of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::schedule::{BoxFuture, Outcome, Probing};

/// Changes that may be under way; the one who tells tries again when there are more.
const QUEUE: usize = 1024;

/// What a session says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionNews {
    /// Name of the session.
    pub session: String,
    /// Up or down.
    pub up: bool,
    /// Behind the name: `is down: …`.
    pub detail: String,
}

/// Where a session tells how it is. Never waits.
#[derive(Clone, Debug)]
pub struct SessionTeller(mpsc::Sender<SessionNews>);

impl SessionTeller {
    /// `false`: try again.
    pub fn try_tell(&self, news: SessionNews) -> bool {
        // A daemon without checks any more wants no news.
        !matches!(self.0.try_send(news), Err(mpsc::error::TrySendError::Full(_)))
    }
}

/// All sessions that have told of themselves.
#[derive(Debug)]
pub(super) struct Sessions {
    known: Mutex<HashMap<String, watch::Sender<Option<SessionNews>>>>,
    teller: mpsc::Sender<SessionNews>,
}

impl Sessions {
    /// Must be called within a runtime.
    pub(super) fn new() -> Arc<Self> {
        let (teller, mut told) = mpsc::channel(QUEUE);
        let this = Arc::new(Self { known: Mutex::default(), teller });
        let sessions = Arc::downgrade(&this);
        tokio::spawn(async move {
            while let Some(news) = told.recv().await {
                let Some(sessions) = sessions.upgrade() else { return };
                sessions.with(&news.session.clone(), |session| session.send_replace(Some(news)));
            }
        });
        this
    }

    pub(super) fn teller(&self) -> SessionTeller {
        SessionTeller(self.teller.clone())
    }

    pub(super) fn with<T>(
        &self,
        name: &str,
        act: impl FnOnce(&watch::Sender<Option<SessionNews>>) -> T,
    ) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        act(known.entry(name.to_owned()).or_insert_with(|| watch::Sender::new(None)))
    }
}

/// Follows one session.
#[derive(Debug)]
pub(super) struct SessionCheck {
    name: String,
    session: watch::Receiver<Option<SessionNews>>,
}

impl SessionCheck {
    pub(super) fn new(name: &str, sessions: &Sessions) -> Self {
        Self { name: name.to_owned(), session: sessions.with(name, watch::Sender::subscribe) }
    }
}

impl Probing for SessionCheck {
    fn probe(&mut self, _timeout: Duration) -> BoxFuture<'_, Outcome> {
        let outcome = match &*self.session.borrow_and_update() {
            Some(news) if news.up => Outcome::success(format!("session {} is up", self.name)),
            Some(news) => Outcome::failure(format!("session {} {}", self.name, news.detail)),
            None => Outcome::failure(format!("session {} has not been up yet", self.name)),
        };
        Box::pin(async { outcome })
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if self.session.changed().await.is_err() {
                std::future::pending().await
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_session_is_what_it_told_last_and_a_change_is_heard_at_once() {
        let sessions = Sessions::new();
        let mut check = SessionCheck::new("upstream", &sessions);
        let first = check.probe(Duration::ZERO).await;
        assert_eq!(first, Outcome::failure("session upstream has not been up yet"));
        for (up, detail, outcome) in [
            (true, "is up", Outcome::success("session upstream is up")),
            (false, "is down: silence", Outcome::failure("session upstream is down: silence")),
        ] {
            let news = SessionNews { session: "upstream".into(), up, detail: detail.into() };
            assert!(sessions.teller().try_tell(news));
            check.changed().await;
            assert_eq!(check.probe(Duration::ZERO).await, outcome);
        }
    }
}
