//! Questions whose answer may block a thread: names, files, /proc.
//!
//! A question that got no answer in time stays the only one: the next run waits for the same answer, so a
//! dead name server or file server costs one thread for a check, not one for each run.

use std::io;

use tokio::task::JoinHandle;

/// One question at a time.
#[derive(Debug)]
pub(super) struct Blocking<T> {
    asked: Option<JoinHandle<T>>,
}

impl<T> Default for Blocking<T> {
    fn default() -> Self {
        Self { asked: None }
    }
}

impl<T: Send + 'static> Blocking<T> {
    /// Asks, or waits for the answer to what was asked before. May be dropped at any time.
    ///
    /// # Errors
    /// The question panicked, or the runtime ends.
    pub(super) async fn ask(&mut self, question: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let asked = match &mut self.asked {
            Some(asked) => asked,
            none => none.insert(tokio::task::spawn_blocking(question)),
        };
        let answer = asked.await;
        self.asked = None;
        answer.map_err(io::Error::other)
    }
}
