//! JSON documents that processes of Baton leave each other, each of them written whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads a document; one that is damaged is an error of kind `Other`.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)
}

/// Writes a document so that a reader finds the old one or the new one, never half of one. Only its owner may
/// read it: environments hold secrets. What is there already needs no room on a disk that is full.
pub(crate) fn write<T: Serialize>(path: &Path, document: &T) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(document).map_err(io::Error::other)?;
    if fs::read(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let temporary = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(&text).and_then(|()| file.sync_all());
    written.and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
        // Half of it is of no use, and takes room.
        let _ = fs::remove_file(&temporary);
    })
}
