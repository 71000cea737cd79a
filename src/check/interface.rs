//! Is an interface administratively up and running? Asks the kernel in our own network namespace.

use std::io;
use std::time::Duration;

use nix::net::if_::InterfaceFlags;

use super::Spoken;
use super::blocking::Blocking;
use super::schedule::{BoxFuture, Outcome, Probing};

/// Looks at one interface.
#[derive(Debug)]
pub(super) struct InterfaceCheck {
    name: String,
    ask: Blocking<io::Result<Option<InterfaceFlags>>>,
}

impl InterfaceCheck {
    pub(super) fn new(name: String) -> Self {
        Self { name, ask: Blocking::default() }
    }

    async fn run(&mut self, timeout: Duration) -> Outcome {
        let name = self.name.clone();
        match tokio::time::timeout(timeout, self.ask.ask(move || flags(&name))).await {
            Ok(Ok(Ok(flags))) => judge(&self.name, flags),
            Ok(Ok(Err(error)) | Err(error)) => {
                Outcome::failure(format!("interfaces not read: {}", Spoken(&error)))
            }
            Err(_) => Outcome::failure(format!("interfaces not read after {}", Spoken(timeout))),
        }
    }
}

impl Probing for InterfaceCheck {
    fn probe(&mut self, timeout: Duration) -> BoxFuture<'_, Outcome> {
        Box::pin(self.run(timeout))
    }
}

/// `None`: there is no such interface. /sys is not asked: it shows the namespace that it was mounted in.
fn flags(name: &str) -> io::Result<Option<InterfaceFlags>> {
    let mut addresses = nix::ifaddrs::getifaddrs()?;
    Ok(addresses.find(|address| address.interface_name == name).map(|address| address.flags))
}

fn judge(name: &str, flags: Option<InterfaceFlags>) -> Outcome {
    match flags {
        None => Outcome::failure(format!("interface {name} does not exist")),
        Some(flags) if !flags.contains(InterfaceFlags::IFF_UP) => {
            Outcome::failure(format!("interface {name} is administratively down"))
        }
        Some(flags) if !flags.contains(InterfaceFlags::IFF_RUNNING) => {
            Outcome::failure(format!("interface {name} has no carrier"))
        }
        Some(_) => Outcome::success(format!("interface {name} is up")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_means_administratively_up_and_running() {
        let (up, running) = (InterfaceFlags::IFF_UP, InterfaceFlags::IFF_RUNNING);
        assert_eq!(judge("eth1", Some(up | running)), Outcome::success("interface eth1 is up"));
        assert_eq!(judge("eth1", Some(up)), Outcome::failure("interface eth1 has no carrier"));
        assert_eq!(judge("eth1", Some(running)), Outcome::failure("interface eth1 is administratively down"));
        assert_eq!(judge("eth1", None), Outcome::failure("interface eth1 does not exist"));
    }

    #[test]
    fn the_kernel_is_asked() {
        assert!(flags("lo").unwrap().is_some());
        assert_eq!(flags("nosuchif0").unwrap(), None);
    }
}
