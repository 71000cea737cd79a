//! What is shown, made once for all who look at the same moment.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Shown;
use crate::observe::control::ControlHandler;
use crate::observe::history::History;

/// Least time between two looks at the daemon.
const APART: Duration = Duration::from_millis(250);

/// Longest, while somebody follows.
const EVERY: Duration = Duration::from_secs(1);

/// A picture that nobody asked for again is forgotten.
const KEPT: Duration = Duration::from_secs(2);

/// The daemon gives its status within microseconds, unless it is in deep trouble.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A sign of life for who follows.
const BEAT: Duration = Duration::from_secs(5);

/// Most who follow at the same time; others reload the page.
pub const FOLLOWERS: usize = 32;

/// Events that are shown.
const EVENTS: usize = 40;

type Frame = Result<Arc<Shown>, String>;

/// Looks at the daemon for those who look at the page.
pub struct Live {
    handler: Arc<dyn ControlHandler>,
    history: Arc<History>,
    latest: tokio::sync::Mutex<Option<(Instant, Arc<Shown>)>>,
    /// While somebody follows.
    feed: Mutex<Option<watch::Receiver<Option<Frame>>>>,
    followers: AtomicUsize,
}

impl Live {
    /// Nobody looks yet.
    pub fn new(handler: Arc<dyn ControlHandler>, history: Arc<History>) -> Arc<Self> {
        Arc::new(Self {
            handler,
            history,
            latest: tokio::sync::Mutex::default(),
            feed: Mutex::default(),
            followers: AtomicUsize::new(0),
        })
    }

    /// What is now, or was a moment ago.
    ///
    /// # Errors
    /// The daemon gives no status.
    pub async fn picture(self: &Arc<Self>) -> Frame {
        let mut latest = self.latest.lock().await;
        if let Some((at, shown)) = &*latest
            && at.elapsed() < APART
        {
            return Ok(shown.clone());
        }
        let status = timeout(ANSWER_WITHIN, self.handler.status())
            .await
            .map_err(|_| format!("the daemon gave no status within {} s", ANSWER_WITHIN.as_secs()))??;
        let shown = Arc::new(Shown::new(&status, &self.history.last(EVENTS), SystemTime::now()));
        let forgetful = latest.is_none();
        *latest = Some((Instant::now(), shown.clone()));
        drop(latest);
        if forgetful {
            tokio::spawn(self.clone().forget());
        }
        Ok(shown)
    }

    async fn forget(self: Arc<Self>) {
        loop {
            sleep(KEPT).await;
            let mut latest = self.latest.lock().await;
            if latest.as_ref().is_none_or(|(at, _)| at.elapsed() >= KEPT) {
                *latest = None;
                drop(latest);
                return self.handler.is_forgotten();
            }
        }
    }

    /// Nothing is kept for anybody.
    #[cfg(test)]
    pub async fn is_forgotten(&self) -> bool {
        let feed = self.feed.lock().unwrap_or_else(PoisonError::into_inner).is_none();
        feed && self.latest.lock().await.is_none()
    }

    /// Gives what changes as it does. `None`: as many as may follow already do.
    pub fn follow(self: &Arc<Self>) -> Option<Follower> {
        let place = Place::take(self)?;
        let mut feed = self.feed.lock().unwrap_or_else(PoisonError::into_inner);
        let running = feed.as_ref().filter(|feed| feed.has_changed().is_ok());
        let mut frames = match running {
            Some(running) => running.clone(),
            None => {
                let (sender, receiver) = watch::channel(None);
                tokio::spawn(self.clone().look(sender));
                // The task ends when only this one is left.
                feed.insert(receiver).clone()
            }
        };
        frames.mark_changed();
        Some(Follower { frames, shown: None, _place: place })
    }

    /// Until nobody follows any more.
    async fn look(self: Arc<Self>, frames: watch::Sender<Option<Frame>>) {
        let mut news = self.history.news();
        loop {
            let next = Instant::now() + EVERY;
            let frame = self.picture().await;
            frames.send_replace(Some(frame));
            sleep(APART).await;
            tokio::select! {
                () = sleep_until(next) => {}
                _ = news.recv() => {}
            }
            let mut feed = self.feed.lock().unwrap_or_else(PoisonError::into_inner);
            if frames.receiver_count() <= 1 {
                *feed = None;
                return;
            }
        }
    }
}

/// One of so many.
struct Place(Arc<Live>);

impl Place {
    fn take(live: &Arc<Live>) -> Option<Self> {
        let taken = live.followers.fetch_add(1, Ordering::Relaxed);
        let place = Self(live.clone());
        (taken < FOLLOWERS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One who follows.
pub struct Follower {
    frames: watch::Receiver<Option<Frame>>,
    /// What was sent: a number for the frame, and one for each part.
    shown: Option<(u64, Vec<u64>)>,
    _place: Place,
}

impl Follower {
    /// The next events in the format of Server-Sent Events. `None`: nobody looks at the daemon any more.
    pub async fn next(&mut self) -> Option<String> {
        match timeout(BEAT, self.frames.changed()).await {
            Err(_) => return Some(event("beat", "", SystemTime::now())),
            Ok(Err(_)) => return None,
            Ok(Ok(())) => {}
        }
        let frame = self.frames.borrow_and_update().clone();
        match frame {
            None => Some(": wait a moment\n\n".to_owned()),
            Some(Err(error)) => Some(event("trouble", &one_line(&error), SystemTime::now())),
            Some(Ok(shown)) => Some(self.difference(&shown)),
        }
    }

    fn difference(&mut self, shown: &Shown) -> String {
        let frame = frame_of(shown);
        let parts: Vec<u64> = shown.picture.parts().map(|part| part.hash).collect();
        let before = self.shown.replace((frame, parts));
        let title = event("title", &one_line(&shown.picture.title), shown.at);
        match before {
            Some((before, hashes)) if before == frame => {
                let changed: String = shown
                    .picture
                    .parts()
                    .zip(&hashes)
                    .filter(|(part, hash)| part.hash != **hash)
                    .map(|(part, _)| part.html.as_str())
                    .collect();
                match changed.is_empty() {
                    true => event("beat", "", shown.at),
                    false => title + &event("parts", &changed, shown.at),
                }
            }
            _ => title + &event("whole", &shown.picture.whole(), shown.at),
        }
    }
}

/// The headings and containers, and how many parts stand where.
fn frame_of(shown: &Shown) -> u64 {
    let mut hasher = DefaultHasher::new();
    for piece in &shown.picture.pieces {
        match piece {
            super::parts::Piece::Frame(markup) => markup.hash(&mut hasher),
            super::parts::Piece::Part(_) => 0.hash(&mut hasher),
        }
    }
    hasher.finish()
}

/// The moment of the server goes with it as the id, so that ages are right where the clock is not.
fn event(name: &str, data: &str, at: SystemTime) -> String {
    format!("event: {name}\nid: {}\ndata: {data}\n\n", millis(at))
}

fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

/// Milliseconds since 1970.
pub fn millis(at: SystemTime) -> u128 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

/// A number for a text.
pub fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
