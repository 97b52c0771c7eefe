//! Batched look-up in a hash map: one system call reads thousands of entries, where aya takes two for each.
#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper for batches")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// `BPF_MAP_LOOKUP_BATCH` of bpf(2).
const LOOKUP_BATCH: libc::c_long = 24;
/// Entries a call; a call that meets a longer hash chain fails with ENOSPC, which a good hash never shows.
const ENTRIES: usize = 4096;

/// The part of `union bpf_attr` that batch commands use.
#[repr(C)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Calls `visit` for every entry of a hash map. Entries that come or go meanwhile may be seen or not.
pub(super) fn for_each<K, V>(map: impl AsFd, mut visit: impl FnMut(&K, &V)) -> io::Result<()>
where
    K: FromBytes + IntoBytes + FromZeros + Clone,
    V: FromBytes + IntoBytes + FromZeros + Clone,
{
    let mut keys = vec![K::new_zeroed(); ENTRIES];
    let mut values = vec![V::new_zeroed(); ENTRIES];
    let mut position = 0u32;
    let mut next = 0u32;
    let mut first = true;
    loop {
        let mut attributes = Attributes {
            in_batch: if first { 0 } else { (&raw const position) as u64 },
            out_batch: (&raw mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: ENTRIES as u32,
            map_fd: map.as_fd().as_raw_fd().cast_unsigned(),
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: all pointers are to live buffers of `count` elements of the map's key and value size,
        // which `layout::verify_pins` or the load itself has established, and any bytes are legal there.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, LOOKUP_BATCH, &raw mut attributes, size_of::<Attributes>())
        };
        let error = (result < 0).then(io::Error::last_os_error);
        let at_end = error.as_ref().is_some_and(|e| e.raw_os_error() == Some(libc::ENOENT));
        if let Some(error) = error
            && !at_end
        {
            return Err(error);
        }
        for (key, value) in keys.iter().zip(&values).take(attributes.count as usize) {
            visit(key, value);
        }
        if at_end {
            return Ok(());
        }
        position = next;
        first = false;
    }
}
