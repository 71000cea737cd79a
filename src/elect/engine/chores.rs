//! Work that belongs to no single instance: what is static, and the end of everything.

use std::future::Future;

use super::*;

/// Finished work.
#[derive(Debug)]
pub(super) enum Chore {
    /// A round over what is static.
    Statics(statics::Round),
    /// A VMAC was made, or not.
    Vmac(vmacs::VmacNews),
    /// A VMAC has the link-local address of its base, or not.
    LinkLocal { name: String, error: Option<String> },
    /// Addresses have a new lifetime.
    AddressesRenewed,
    /// What could not be done, in words.
    Refused(Vec<String>),
    /// Everything is taken down.
    Farewell(Vec<String>),
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
            Chore::Vmac(news) => self.vmac_news(news),
            Chore::LinkLocal { name, error } => self.link_local_done(&name, error),
            Chore::AddressesRenewed => self.addresses_renewed(),
            Chore::Refused(texts) => self.tell_all(texts),
            Chore::Farewell(texts) => {
                self.tell_all(texts);
                self.farewell = Farewell::Done;
            }
        }
    }

    fn tell_all(&self, texts: Vec<String>) {
        for text in texts {
            self.events.send(Kind::Notice { text });
        }
    }

    /// Takes down what the instances leaned on; gives whether that is done.
    pub(super) fn say_farewell(&mut self) -> bool {
        if self.farewell == Farewell::NotYet && !self.statics.is_busy() {
            self.farewell = Farewell::UnderWay;
            // Not with the rest of the loop, when the process may be gone.
            self.igmp = None;
            let (entries, addresses) = self.statics_farewell();
            let hold = self.hold.clone();
            let tables = self.leases.clear();
            self.start_chore(async move {
                let _ = futures_util::future::join(hold.take(&entries), hold.remove(&addresses)).await;
                let (mut errors, tables) = futures_util::future::join(hold.clear_slow(), tables).await;
                errors.extend(tables);
                Chore::Farewell(errors)
            });
        }
        self.farewell == Farewell::Done
    }
}
