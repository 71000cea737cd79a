//! Which instance of another configuration is the one that runs already.

use std::collections::HashMap;

use config::ready::Instance;

/// Same virtual router: it can change in place. Another one has to stop and start.
pub fn is_same_router(a: &Instance, b: &Instance) -> bool {
    a.interface == b.interface
        && a.vrid == b.vrid
        && a.family == b.family
        && a.version == b.version
        && std::mem::discriminant(&a.transport) == std::mem::discriminant(&b.transport)
        && a.vmac == b.vmac
}

/// For each instance of `after` the index of the one in `before` that goes on as it: by name first; what is left
/// may have another name now, as with keepalived.
pub fn predecessors(before: &[&Instance], after: &[&Instance]) -> Vec<Option<usize>> {
    let by_name: HashMap<&str, usize> =
        before.iter().enumerate().map(|(index, instance)| (instance.name.as_str(), index)).collect();
    let mut found: Vec<Option<usize>> = after
        .iter()
        .map(|wanted| by_name.get(wanted.name.as_str()).copied())
        .zip(after)
        .map(|(index, wanted)| index.filter(|index| is_same_router(before[*index], wanted)))
        .collect();
    let mut taken: Vec<bool> = vec![false; before.len()];
    found.iter().flatten().for_each(|index| taken[*index] = true);
    for (wanted, found) in after.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
        let renamed =
            (0..before.len()).find(|index| !taken[*index] && is_same_router(before[*index], wanted));
        if let Some(index) = renamed {
            taken[index] = true;
            *found = Some(index);
        }
    }
    found
}
