//! What the rooms that speak netlink themselves share: attributes, requests that are answered one after the other,
//! nf_tables, and threads for requests that may take long.

pub(crate) mod attributes;
pub(crate) mod kernel;
pub(crate) mod nft;
pub(crate) mod ruleset;
pub(crate) mod worker;
