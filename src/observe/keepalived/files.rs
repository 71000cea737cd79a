//! Where dumps are written, and how: nobody's link in /tmp is followed, and a reader sees all or nothing.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use config::ready::Process;
use nix::libc;

/// One of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dump {
    /// SIGUSR1.
    Data,
    /// SIGUSR1: the global settings once more, as keepalived's parent process writes them.
    Parent,
    /// SIGUSR2.
    Stats,
    /// The JSON signal.
    Json,
}

/// Where a dump goes: `TMPDIR` if that is a directory given by its whole path, else `/tmp`.
///
/// `data_use_instance` puts namespace and instance into the names of the data dumps; `state_dump_file` is a path, a
/// name, or a directory with `/` at its end (keepalived 2.4.3).
pub fn path(dump: Dump, process: &Process) -> PathBuf {
    path_in(&directory(), dump, process)
}

/// `TMPDIR` or `/tmp`.
pub fn directory() -> PathBuf {
    let given = std::env::var_os("TMPDIR").map(PathBuf::from);
    given.filter(|path| path.is_absolute() && path.is_dir()).unwrap_or_else(|| "/tmp".into())
}

fn path_in(directory: &Path, dump: Dump, process: &Process) -> PathBuf {
    let (stem, is_data) = match dump {
        Dump::Stats => return directory.join("keepalived.stats"),
        Dump::Json => return directory.join("keepalived.json"),
        Dump::Data => ("keepalived", true),
        Dump::Parent => ("keepalived_parent", false),
    };
    let name = format!("{stem}.data");
    let file = match process.state_dump_file.as_deref().filter(|_| is_data) {
        None => directory.join(name),
        Some(file) if file.as_os_str().as_encoded_bytes().ends_with(b"/") => directory.join(file).join(name),
        Some(file) => directory.join(file),
    };
    let parts = [process.net_namespace.as_deref(), process.instance.as_deref()];
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    if !process.data_use_instance || parts.is_empty() {
        return file;
    }
    // `keepalived.data` becomes `keepalived.NAMESPACE_INSTANCE.data`.
    let extension = file.extension().map(|e| e.to_string_lossy().into_owned());
    let stem = file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let extension = extension.map(|extension| format!(".{extension}")).unwrap_or_default();
    file.with_file_name(format!("{stem}.{}{extension}", parts.join("_")))
}

/// Writes a file of its own beside `path`, readable and writable for the owner alone, and puts it in that place. What
/// was there before, be it somebody's link, is replaced and not written to.
///
/// # Errors
/// From the file system; nothing is left behind.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut attempt = 0_u32;
    let (beside, mut file) = loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.{attempt}", std::process::id()));
        let beside = PathBuf::from(name);
        let options = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&beside);
        match options {
            Ok(file) => break (beside, file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => attempt += 1,
            Err(error) => return Err(error),
        }
    };
    let written = file.write_all(text.as_bytes()).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn name(dump: Dump, process: &Process) -> String {
        path_in(Path::new("/t"), dump, process).display().to_string()
    }

    #[test]
    fn names_are_keepaliveds() {
        let mut process = Process::default();
        let all = |process: &Process| {
            [Dump::Data, Dump::Parent, Dump::Stats, Dump::Json].map(|dump| name(dump, process))
        };
        let plain =
            ["/t/keepalived.data", "/t/keepalived_parent.data", "/t/keepalived.stats", "/t/keepalived.json"];
        assert_eq!(all(&process), plain);
        process.instance = Some("I".into());
        assert_eq!(all(&process), plain, "only when it is asked for");
        process.data_use_instance = true;
        assert_eq!(name(Dump::Data, &process), "/t/keepalived.I.data");
        process.net_namespace = Some("N".into());
        assert_eq!(name(Dump::Data, &process), "/t/keepalived.N_I.data");
        process.state_dump_file = Some("/var/x.dump".into());
        assert_eq!(name(Dump::Data, &process), "/var/x.N_I.dump");
        process.data_use_instance = false;
        process.state_dump_file = Some("/var/d/".into());
        assert_eq!(name(Dump::Data, &process), "/var/d/keepalived.data");
    }

    #[test]
    fn a_link_is_replaced_and_its_target_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (target, path) = (directory.path().join("shadow"), directory.path().join("keepalived.data"));
        fs::write(&target, "precious").unwrap();
        symlink(&target, &path).unwrap();
        write(&path, "dump\n").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        assert_eq!(fs::read_to_string(&path).unwrap(), "dump\n");
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert!(metadata.is_file());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_cannot_be_put_in_its_place_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keepalived.data");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), "").unwrap();
        assert!(write(&path, "dump\n").is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
