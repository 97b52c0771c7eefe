//! JSON documents that processes of Baton leave each other, each of them written whole or not at all.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::atomic_file;

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
    atomic_file::replace(path, &text, 0o600).map(drop)
}
