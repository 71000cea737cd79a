//! Settings under /proc/sys/net that are changed while something needs them, and restored after.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

const NET: &str = "/proc/sys/net";

/// What was changed, and what it was before.
#[derive(Debug, Default)]
pub(super) struct Sysctls {
    changed: BTreeMap<PathBuf, Setting>,
    /// `rp_filter` of all, of the default and of the interfaces, before it was folded.
    folded: Vec<(PathBuf, String, String)>,
}

#[derive(Debug)]
struct Setting {
    before: String,
    now: String,
    users: u32,
}

/// `/proc/sys/net/ipv4/conf/eth0/arp_ignore`.
pub(super) fn of_interface(family: &str, interface: &str, name: &str) -> PathBuf {
    Path::new(NET).join(family).join("conf").join(interface).join(name)
}

impl Sysctls {
    /// Sets a value as long as somebody wants it.
    ///
    /// # Errors
    ///
    /// With the path; when it cannot be read or written.
    pub fn hold(&mut self, path: PathBuf, value: &str) -> io::Result<()> {
        if let Some(setting) = self.changed.get_mut(&path) {
            setting.users += 1;
            return Ok(());
        }
        let before = read(&path)?;
        write(&path, value)?;
        self.changed.insert(path, Setting { before, now: value.to_owned(), users: 1 });
        Ok(())
    }

    /// One less wants it; with the last it is as before, unless somebody else has changed it meanwhile.
    pub fn release(&mut self, path: &Path) {
        let Some(setting) = self.changed.get_mut(path) else { return };
        setting.users -= 1;
        if setting.users > 0 {
            return;
        }
        if read(path).is_ok_and(|now| now == setting.now) {
            // Its interface may be on its way out.
            let _ = write(path, &setting.before);
        }
        self.changed.remove(path);
    }

    /// The kernel takes the larger of `all` and the interface, so `all` has to be 0 for one interface to be without
    /// the filter. The others get what they had by it.
    ///
    /// # Errors
    ///
    /// As for [`Sysctls::hold`].
    pub fn fold_rp_filter(&mut self) -> io::Result<()> {
        let path = |interface: &str| of_interface("ipv4", interface, "rp_filter");
        let all = read(&path("all"))?;
        if all == "0" || !self.folded.is_empty() {
            return Ok(());
        }
        for entry in std::fs::read_dir(Path::new(NET).join("ipv4/conf"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let own = path(&name);
            let Ok(before) = read(&own) else { continue };
            if name != "all" && before < all {
                write(&own, &all)?;
                self.folded.push((own, before, all.clone()));
            }
        }
        write(&path("all"), "0")?;
        self.folded.push((path("all"), all, "0".to_owned()));
        Ok(())
    }

    /// As it was before [`Sysctls::fold_rp_filter`].
    pub fn unfold_rp_filter(&mut self) {
        for (path, before, written) in self.folded.drain(..).rev() {
            if read(&path).is_ok_and(|now| now == written) {
                let _ = write(&path, &before);
            }
        }
    }

    /// Everything is as before.
    pub fn restore(&mut self) {
        for (path, setting) in std::mem::take(&mut self.changed) {
            if read(&path).is_ok_and(|now| now == setting.now) {
                let _ = write(&path, &setting.before);
            }
        }
        self.unfold_rp_filter();
    }
}

pub(super) fn read(path: &Path) -> io::Result<String> {
    let text = std::fs::read_to_string(path).map_err(|error| named(path, &error))?;
    Ok(text.trim().to_owned())
}

/// Writes unless it is so already: a container's /proc/sys may be read-only and right.
pub(super) fn write(path: &Path, value: &str) -> io::Result<()> {
    if read(path)? == value {
        return Ok(());
    }
    std::fs::write(path, value).map_err(|error| named(path, &error))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
