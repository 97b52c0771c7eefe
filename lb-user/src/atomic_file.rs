//! Files that are replaced whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Puts a file of these bytes in the place of another in one step, on disk when it returns: a reader finds the old
/// one or the new one, never half of one. `mode` is for a file that is new. Returns it, open behind the last byte.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<File> {
    let temporary = path.with_added_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
        // Half of it is of no use, and takes room that is missing.
        let _ = fs::remove_file(&temporary);
    })?;
    Ok(file)
}
