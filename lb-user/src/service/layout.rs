//! Data planes that another version of Baton left: they are neither taken over nor disturbed.

use std::path::PathBuf;

use lb_common::LAYOUT_VERSION;

use super::UpError;
use crate::names::ServiceName;

/// An error if the service is served by a data plane, one of those `pinned`, whose tables this build cannot
/// read.
pub fn ensure_layout(pinned: &[(u32, PathBuf)], name: &ServiceName) -> Result<(), UpError> {
    match foreign(pinned) {
        Some((layout, pins)) => Err(UpError::ForeignLayout { name: name.clone(), layout, pins }),
        None => Ok(()),
    }
}

/// The data plane of another layout, the newest if there are several.
pub(super) fn foreign(pinned: &[(u32, PathBuf)]) -> Option<(u32, PathBuf)> {
    pinned.iter().rfind(|(layout, _)| *layout != LAYOUT_VERSION).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_layout_is_foreign() {
        let at = |layout: u32| (layout, PathBuf::from(format!("/pins/v{layout}/shop")));
        assert_eq!(foreign(&[]), None);
        assert_eq!(foreign(&[at(LAYOUT_VERSION)]), None);
        assert_eq!(foreign(&[at(1), at(LAYOUT_VERSION)]), Some(at(1)));
        assert_eq!(foreign(&[at(LAYOUT_VERSION), at(LAYOUT_VERSION + 1)]), Some(at(LAYOUT_VERSION + 1)));
    }
}
