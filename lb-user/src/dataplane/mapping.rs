//! An array map of 64-bit words in this process's memory.
#![expect(unsafe_code, reason = "a shared mapping is raw memory")]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// The mapped words; unmapped when dropped.
pub(super) struct Words {
    base: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: the mapping is owned, lives as long as the value, and is only read and written atomically.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// Maps the first `count` words of a memory-mappable array whose values are 8 bytes.
    pub(super) fn map(fd: impl AsFd, count: usize) -> io::Result<Self> {
        let length = NonZeroUsize::new(count * 8).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new shared mapping at an address that the kernel chooses touches no memory of ours.
        let base = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, fd, 0) }?;
        Ok(Self { base: base.cast(), count })
    }

    pub(super) fn load(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Acquire)
    }

    pub(super) fn store(&self, index: usize, word: u64) {
        self.word(index).store(word, Ordering::Release);
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.count, "word {index} of {}", self.count);
        // SAFETY: the index is within the mapping, which is page-aligned and lives as long as `self`.
        unsafe { self.base.add(index).as_ref() }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: `map` made this mapping with this length, and no reference into it outlives `self`.
        // A failure would leave the mapping in place, which harms nothing.
        let _ = unsafe { munmap(self.base.cast(), self.count * 8) };
    }
}
