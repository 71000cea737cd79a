//! Users and groups that scripts run as.

use crate::ready::User;

/// Where users are looked up.
#[derive(Clone, Debug, Default)]
pub enum Users {
    /// On this host.
    #[default]
    Host,
    /// In this list alone: for tests, and for a file that is meant for another host.
    Fixed(Vec<User>),
}

impl Users {
    /// The name of the user that we run as; in a list of users its first.
    pub(crate) fn own_name(&self) -> String {
        let name = match self {
            Self::Host => nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|u| u.name),
            Self::Fixed(users) => users.first().map(|user| user.name.clone()),
        };
        name.unwrap_or_else(|| "root".to_owned())
    }

    /// Finds a user by name or number, with the group given or its own.
    ///
    /// # Errors
    /// Says which of the two does not exist.
    pub fn find(&self, name: &str, group: Option<&str>) -> Result<User, String> {
        let mut user = match self {
            Self::Host => host_user(name)?,
            Self::Fixed(users) => {
                let found = users.iter().find(|u| u.name == name || u.uid.to_string() == name);
                found.cloned().ok_or_else(|| format!("there is no user `{name}`"))?
            }
        };
        if let Some(group) = group {
            user.gid = match self {
                Self::Host => host_group(group)?,
                Self::Fixed(users) => {
                    let named = users.iter().find(|u| u.name == group).map(|u| u.gid);
                    named
                        .or_else(|| group.parse().ok())
                        .ok_or_else(|| format!("there is no group `{group}`"))?
                }
            };
        }
        Ok(user)
    }
}

fn host_user(name: &str) -> Result<User, String> {
    let found = match name.parse::<u32>() {
        Ok(number) => nix::unistd::User::from_uid(number.into()),
        Err(_) => nix::unistd::User::from_name(name),
    };
    let user = found.ok().flatten().ok_or_else(|| format!("there is no user `{name}` on this host"))?;
    Ok(User { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() })
}

fn host_group(name: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse::<u32>() {
        return Ok(number);
    }
    let found = nix::unistd::Group::from_name(name).ok().flatten();
    found.map(|group| group.gid.as_raw()).ok_or_else(|| format!("there is no group `{name}` on this host"))
}
