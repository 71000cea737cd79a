//! Can this host forward? The forwarder tells of its listeners the way BFD tells of its sessions.

use std::time::Duration;

use futures_util::future::select_all;
use tokio::sync::watch;

use super::schedule::{BoxFuture, Outcome, Probing};
use super::session::{SessionNews, Sessions};

/// What a listener says of itself: `up`, while its clients are served.
pub fn news(listener: &str, up: bool, detail: String) -> SessionNews {
    // No session is called so: their names have no blanks.
    SessionNews { session: format!("listener {listener}"), up, detail }
}

/// Up while one of its listeners is.
#[derive(Debug)]
pub(super) struct ListenersCheck {
    listeners: Vec<(String, watch::Receiver<Option<SessionNews>>)>,
}

impl ListenersCheck {
    pub(super) fn new(names: &[String], sessions: &Sessions) -> Self {
        let subscribe = |name: &String| {
            let key = news(name, false, String::new()).session;
            (name.clone(), sessions.with(&key, watch::Sender::subscribe))
        };
        Self { listeners: names.iter().map(subscribe).collect() }
    }
}

impl Probing for ListenersCheck {
    fn probe(&mut self, _timeout: Duration) -> BoxFuture<'_, Outcome> {
        let (mut is_up, mut is_unknown, mut said) = (false, false, Vec::new());
        for (name, listener) in &mut self.listeners {
            match &*listener.borrow_and_update() {
                Some(news) => {
                    is_up |= news.up;
                    said.push(format!("{name}: {}", news.detail));
                }
                None => is_unknown = true,
            }
        }
        let outcome = match (is_up, is_unknown) {
            // Until the checks of the backends have spoken nobody is worse than the others.
            (false, true) => Outcome::success("no check of a backend has spoken yet"),
            (true, _) => Outcome::success(said.join("; ")),
            (false, false) => Outcome::failure(said.join("; ")),
        };
        Box::pin(async { outcome })
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        let changes = self.listeners.iter_mut().map(|(_, listener)| Box::pin(listener.changed()));
        let changes: Vec<_> = changes.collect();
        Box::pin(async {
            if changes.is_empty() || select_all(changes).await.0.is_err() {
                std::future::pending().await
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_listener_that_serves_is_enough_and_silence_is_no_failure() {
        let sessions = Sessions::new();
        let mut check = ListenersCheck::new(&["api".to_owned(), "web".to_owned()], &sessions);
        let nothing = Outcome::success("no check of a backend has spoken yet");
        assert_eq!(check.probe(Duration::ZERO).await, nothing);
        for (listener, up, detail, outcome) in [
            ("api", false, "0 of 2 backends are healthy", nothing),
            (
                "web",
                false,
                "less than the quorum",
                Outcome::failure("api: 0 of 2 backends are healthy; web: less than the quorum"),
            ),
            (
                "api",
                true,
                "1 of 2 backends is healthy",
                Outcome::success("api: 1 of 2 backends is healthy; web: less than the quorum"),
            ),
        ] {
            assert!(sessions.teller().try_tell(news(listener, up, detail.into())));
            check.changed().await;
            assert_eq!(check.probe(Duration::ZERO).await, outcome);
        }
    }
}
