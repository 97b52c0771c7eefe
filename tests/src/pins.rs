//! Pin directories of tests: one for each data plane, and none for long after its process has been killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

const BPFFS: &str = "/sys/fs/bpf";
/// What the directories' names begin with; the process and a number follow.
const PREFIX: &str = "baton-test-";

/// A directory that nothing is pinned in yet. Whoever asks removes it; what killed processes left goes now.
pub fn fresh() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    static SWEEP: Once = Once::new();
    SWEEP.call_once(sweep);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    Path::new(BPFFS).join(format!("{PREFIX}{}-{number}", std::process::id()))
}

/// Removes the pins of processes that are gone: their tables take memory until the machine restarts.
fn sweep() {
    for entry in fs::read_dir(BPFFS).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(owner_of);
        if owner.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists()) {
            // Another test may be removing it too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn owner_of(name: &str) -> Option<u32> {
    let (process, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    process.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_directory_of_tests_has_an_owner() {
        assert_eq!(owner_of("baton-test-4711-3"), Some(4711));
        for other in ["baton", "baton-test-", "baton-test-4711", "baton-test-x-1", "tc"] {
            assert_eq!(owner_of(other), None, "{other}");
        }
    }
}
