//! The locks that this controller may hold, on disk.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use super::identity::Identity;
use crate::documents;

/// The file.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    path: PathBuf,
}

impl Ledger {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The locks that may be held; none if the file cannot be read, which is said aloud.
    pub(super) fn read(&self) -> Vec<Identity> {
        match documents::read(&self.path) {
            Ok(identities) => identities,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                let path = self.path.display();
                tracing::error!(%error, "{path}: which locks of the fleet are held is not known; look at their server");
                Vec::new()
            }
        }
    }

    /// A lock is about to be asked for.
    pub(super) fn add(&self, identity: &Identity) -> io::Result<()> {
        let mut identities = self.read();
        if identities.contains(identity) {
            return Ok(());
        }
        identities.retain(|known| !known.is_same_lock(identity));
        identities.push(identity.clone());
        self.write(&identities)
    }

    /// A lock is not held any more.
    pub(super) fn remove(&self, identity: &Identity) -> io::Result<()> {
        let mut identities = self.read();
        let before = identities.len();
        identities.retain(|known| !known.is_same_lock(identity));
        if identities.len() == before { Ok(()) } else { self.write(&identities) }
    }

    fn write(&self, identities: &[Identity]) -> io::Result<()> {
        let Some(directory) = self.path.parent() else { return Ok(()) };
        if identities.is_empty() {
            fs::remove_file(&self.path)?;
            // Something else may stand beside it.
            let _ = fs::remove_dir(directory);
            return Ok(());
        }
        fs::create_dir_all(directory)?;
        documents::write(&self.path, &identities)?;
        File::open(directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_held_is_known_until_it_is_given_back_and_then_nothing_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(directory.path().join("plane/fleet-lock.json"));
        let identity = |group: &str| Identity {
            url: "http://192.0.2.1".into(),
            group: group.into(),
            id: "one".into(),
            ca_file: None,
            timeout_ms: 1_000,
        };
        assert_eq!(ledger.read(), []);
        for group in ["first", "second", "first"] {
            ledger.add(&identity(group)).unwrap();
        }
        assert_eq!(ledger.read(), [identity("first"), identity("second")]);
        // It is the same lock if somebody else is trusted to be its server.
        let trusted = Identity { ca_file: Some("/etc/baton/ca.pem".into()), ..identity("first") };
        ledger.add(&trusted).unwrap();
        assert_eq!(ledger.read(), [identity("second"), trusted]);
        ledger.remove(&identity("first")).unwrap();
        ledger.remove(&identity("first")).unwrap();
        assert_eq!(ledger.read(), [identity("second")]);
        ledger.remove(&identity("second")).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
