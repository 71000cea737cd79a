//! Work that belongs to no single instance: what is static, and the end of everything.

use std::future::Future;

use super::*;

/// Finished work.
#[derive(Debug)]
pub(super) enum Chore {
    /// A round over what is static.
    Statics(statics::Round),
    /// Everything is taken down.
    Farewell,
}

/// How far the end has come, once every instance is idle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Farewell {
    #[default]
    NotYet,
    UnderWay,
    Done,
}

impl Loop {
    /// Runs beside the loop; the requests leave with the first poll.
    pub(super) fn start_chore(&self, work: impl Future<Output = Chore> + 'static) {
        let chores = self.chores.clone();
        let mut work = Box::pin(async move {
            // The receiver lives as long as the loop; after it nobody asks.
            let _ = chores.send(work.await);
        });
        if work.as_mut().now_or_never().is_none() {
            tokio::task::spawn_local(work);
        }
    }

    pub(super) fn handle_chore(&mut self, chore: Chore) {
        match chore {
            Chore::Statics(round) => self.statics_done(round),
            Chore::Farewell => self.farewell = Farewell::Done,
        }
    }

    /// Takes down what the instances leaned on; gives whether that is done.
    pub(super) fn say_farewell(&mut self) -> bool {
        if self.farewell == Farewell::NotYet && !self.statics.is_busy() {
            self.farewell = Farewell::UnderWay;
            let (entries, addresses) = self.statics_farewell();
            let hold = self.hold.clone();
            self.start_chore(async move {
                let _ = futures_util::future::join(hold.take(&entries), hold.remove(&addresses)).await;
                Chore::Farewell
            });
        }
        self.farewell == Farewell::Done
    }
}
