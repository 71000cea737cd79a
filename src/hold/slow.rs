//! Requests that may take long, each kind on a thread of its own: devices and sysctls, and the firewall.

use std::collections::BTreeSet;
use std::io;

use config::ready;

use super::Hold;
use super::device::{Devices, MadeVmac, VmacError, VmacSpec};
use super::firewall::{Firewall, FirewallError, OverBase, Silenced};
use crate::netlink::worker::Worker;

/// The threads.
#[derive(Clone, Debug)]
pub(super) struct Slow {
    devices: Worker<Devices>,
    firewall: Worker<Firewall>,
}

impl Slow {
    /// The firewall's thread is scheduled as the engine is: a takeover may wait for it.
    pub fn start(prepare: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let firewall = move || {
            prepare();
            Firewall::new(ready::Firewall::default())
        };
        Ok(Self {
            devices: Worker::start("vipd-devices", Devices::default)?,
            firewall: Worker::start("vipd-firewall", firewall)?,
        })
    }
}

/// The thread is gone only when the daemon is.
fn words<T, E: ToString>(answer: io::Result<Result<T, E>>) -> Result<T, String> {
    match answer {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

impl Hold {
    /// Makes a VMAC and brings it up; the firewall knows of it before it can say anything.
    ///
    /// Gives what was done, and what was refused but does not prevent it from working.
    ///
    /// # Errors
    ///
    /// In words, when there is no VMAC.
    pub async fn make_vmac(&self, spec: VmacSpec) -> Result<(MadeVmac, Vec<String>), String> {
        let wanted = spec.clone();
        let (made, mut refused) = words(self.slow.devices.run(move |devices| devices.make(&wanted)).await)?;
        let MadeVmac { index, base } = made;
        for (is_carried, is_ipv6) in [(spec.ipv4, false), (spec.ipv6, true)] {
            if is_carried {
                let vmac = OverBase { is_ipv6, vmac: index, base, mac: spec.mac };
                let known = self.slow.firewall.run(move |firewall| firewall.put_vmac(vmac));
                refused.extend(words::<_, FirewallError>(known.await).err());
            }
        }
        words(self.slow.devices.run(move |devices| devices.raise(&spec, index)).await)?;
        self.shared.read_news();
        Ok((made, refused))
    }

    /// Removes a VMAC and restores what it has changed.
    ///
    /// # Errors
    ///
    /// In words; it may still be there.
    pub async fn unmake_vmac(&self, name: String, made: Option<MadeVmac>) -> Result<(), String> {
        let gone = words::<_, VmacError>(self.slow.devices.run(move |devices| devices.unmake(&name)).await);
        if let Some(MadeVmac { index, .. }) = made {
            words(self.slow.firewall.run(move |firewall| firewall.drop_vmac(index)).await)?;
        }
        gone
    }

    /// Sets `promote_secondaries` of exactly these interfaces; gives what was refused.
    pub async fn promote_secondaries(&self, interfaces: BTreeSet<String>) -> Vec<String> {
        let done = self.slow.devices.run(move |devices| devices.promote_secondaries(&interfaces));
        done.await.unwrap_or_else(|error| vec![error.to_string()])
    }

    /// The firewall's table is this one from now on; what a former life has left in it is removed.
    ///
    /// # Errors
    ///
    /// In words.
    pub async fn reset_firewall(&self, options: ready::Firewall) -> Result<(), String> {
        words(self.slow.firewall.run(move |firewall| firewall.reset(options)).await)
    }

    /// These addresses do not answer from now on.
    ///
    /// # Errors
    ///
    /// In words; they answer then.
    pub async fn silence(&self, addresses: BTreeSet<Silenced>) -> Result<(), String> {
        words(self.slow.firewall.run(move |firewall| firewall.silence(&addresses)).await)
    }

    /// These addresses answer again.
    ///
    /// # Errors
    ///
    /// In words.
    pub async fn unsilence(&self, addresses: BTreeSet<Silenced>) -> Result<(), String> {
        words(self.slow.firewall.run(move |firewall| firewall.unsilence(&addresses)).await)
    }

    /// Removes every VMAC and the firewall's tables, and restores every setting. Gives what could not be done.
    pub async fn clear_slow(&self) -> Vec<String> {
        let devices = self.slow.devices.run(Devices::clear);
        let firewall = self.slow.firewall.run(Firewall::clear);
        let mut errors: Vec<String> =
            devices.await.unwrap_or_default().iter().map(ToString::to_string).collect();
        errors.extend(words::<_, FirewallError>(firewall.await).err());
        errors
    }
}
