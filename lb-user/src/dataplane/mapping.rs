//! An array map in this process's memory, as 64-bit words.
//!
//! What always holds: a mapping that was made for reading has no operation that writes.
#![expect(unsafe_code, reason = "a shared mapping is raw memory")]

use std::borrow::Borrow;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Words that are mapped to be read; unmapped when dropped.
pub(super) struct ReadWords {
    base: NonNull<AtomicU64>,
    count: usize,
}

/// Words that are mapped to be read and written.
pub(super) struct Words(ReadWords);

// SAFETY: the mapping is owned, lives as long as the value, and is only read and written atomically.
unsafe impl Send for ReadWords {}
// SAFETY: as above.
unsafe impl Sync for ReadWords {}

impl ReadWords {
    /// Maps the first `count` words of a memory-mappable array whose values are multiples of 8 bytes.
    pub(super) fn map(fd: impl AsFd, count: usize) -> io::Result<Self> {
        Self::map_for(fd, count, ProtFlags::PROT_READ)
    }

    fn map_for(fd: impl AsFd, count: usize, protection: ProtFlags) -> io::Result<Self> {
        let length = NonZeroUsize::new(count * 8).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new shared mapping at an address that the kernel chooses touches no memory of ours.
        let base = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, fd, 0) }?;
        Ok(Self { base: base.cast(), count })
    }

    /// All words.
    pub(super) fn all(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, holds `count` words and lives as long as `self`; every access
        // to it in this process is atomic.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.count) }
    }

    /// The word, in order after all that was written before it was.
    pub(super) fn load(&self, index: usize) -> u64 {
        // Of memory that may be read only, no more than a relaxed load is promised to work.
        let word = self.all()[index].load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        word
    }
}

impl Words {
    /// Maps the first `count` words of a memory-mappable array whose values are multiples of 8 bytes.
    pub(super) fn map(fd: impl AsFd, count: usize) -> io::Result<Self> {
        ReadWords::map_for(fd, count, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE).map(Self)
    }

    /// Writes the word, in order after all that was written before.
    pub(super) fn store(&self, index: usize, word: u64) {
        self.all()[index].store(word, Ordering::Release);
    }

    /// Whether the word was still `old` and is `new` by now.
    pub(super) fn exchange(&self, index: usize, old: u64, new: u64) -> bool {
        self.all()[index].compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

impl Deref for Words {
    type Target = ReadWords;

    fn deref(&self) -> &ReadWords {
        &self.0
    }
}

impl Borrow<ReadWords> for Words {
    fn borrow(&self) -> &ReadWords {
        self
    }
}

impl Drop for ReadWords {
    fn drop(&mut self) {
        // SAFETY: `map_for` made this mapping with this length, and no reference into it outlives `self`.
        // A failure would leave the mapping in place, which harms nothing.
        let _ = unsafe { munmap(self.base.cast(), self.count * 8) };
    }
}
