//! A heap that fills up, and the collector that has to walk it.
//!
//! A collection is due when as much was allocated since the last one as a fixed share of the headroom, that is
//! of what the limit leaves beside the live objects. It follows every reference, so its cost grows with what
//! is live, while its distance shrinks with the headroom: near the limit nearly all time goes into it, as in
//! every tracing collector with a bounded heap.
//!
//! What always holds: leaked objects are really allocated, written and reachable; garbage is returned to the
//! allocator by its user at once and only counted here, so that resident memory shows what is live, as in
//! runtimes that give free memory back.

use thiserror::Error;

/// Cells of one chunk, a power of two. A chunk is small enough for the allocator to serve it from its arena,
/// so resident memory follows the leak closely.
const CHUNK_CELLS: usize = 256;
const CHUNK_SHIFT: u32 = CHUNK_CELLS.trailing_zeros();
/// No cell.
const NIL: u32 = u32::MAX;
/// What an object of a real heap keeps besides its references.
const PAYLOAD_BYTES: usize = 52;
const CELL_BYTES: u64 = size_of::<Cell>() as u64;
const _: () = assert!(size_of::<Cell>() == 64);

/// How large a heap may become and when it is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeapLimits {
    /// Most bytes that may be live, a gibibyte of cells being far below what an index can name.
    pub max_bytes: u64,
    /// A collection is due after allocating this share of the headroom, in percent, 1 to 100.
    pub factor_percent: u64,
}

/// A request's memory does not fit, even after a collection.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "out of memory: {needed_bytes} bytes do not fit beside {live_bytes} live bytes of at most {max_bytes}"
)]
pub struct OutOfMemory {
    /// What was asked for.
    pub needed_bytes: u64,
    /// What the collection found live.
    pub live_bytes: u64,
    /// The limit.
    pub max_bytes: u64,
}

/// One object: two references and something to keep.
#[derive(Clone)]
struct Cell {
    /// The next object of the same leak.
    next: u32,
    /// Some older object, so that following references jumps about in memory as it does in real heaps.
    other: u32,
    /// The number of the collection that reached it last.
    reached: u32,
    _payload: [u8; PAYLOAD_BYTES],
}

/// The heap of one service.
pub struct Heap {
    limits: HeapLimits,
    chunks: Vec<Box<[Cell]>>,
    cells: usize,
    /// The first object of each leak; this is what keeps it reachable.
    roots: Vec<u32>,
    /// What the last collection found.
    live_bytes: u64,
    allocated_since_bytes: u64,
    collections: u32,
}

impl Heap {
    /// An empty heap.
    pub fn new(limits: HeapLimits) -> Self {
        Self {
            limits,
            chunks: Vec::new(),
            cells: 0,
            roots: Vec::new(),
            live_bytes: 0,
            allocated_since_bytes: 0,
            collections: 0,
        }
    }

    /// Takes `garbage_bytes` that will be free again and `leak_bytes` (rounded up to whole objects) that never
    /// will; collects first if that is due.
    pub fn allocate(&mut self, garbage_bytes: u64, leak_bytes: u64) -> Result<(), OutOfMemory> {
        let needed_bytes = garbage_bytes + leak_bytes.next_multiple_of(CELL_BYTES);
        self.allocated_since_bytes += needed_bytes;
        let headroom_bytes = self.limits.max_bytes.saturating_sub(self.live_bytes);
        if self.allocated_since_bytes > headroom_bytes * self.limits.factor_percent / 100 {
            self.collect();
            if self.live_bytes + needed_bytes > self.limits.max_bytes {
                let (live_bytes, max_bytes) = (self.live_bytes, self.limits.max_bytes);
                return Err(OutOfMemory { needed_bytes, live_bytes, max_bytes });
            }
        }
        self.leak(leak_bytes.div_ceil(CELL_BYTES) as usize);
        Ok(())
    }

    /// Bytes that the last collection found live.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Collections so far.
    pub fn collections(&self) -> u32 {
        self.collections
    }

    fn leak(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let first = self.cells;
        for index in first..first + count {
            let last = index + 1 == first + count;
            self.push(Cell {
                next: if last { NIL } else { index as u32 + 1 },
                other: older(index),
                reached: 0,
                _payload: [index as u8; PAYLOAD_BYTES],
            });
        }
        self.roots.push(first as u32);
    }

    fn push(&mut self, cell: Cell) {
        let (chunk, slot) = place(self.cells as u32);
        if chunk == self.chunks.len() {
            self.chunks.push(vec![cell; CHUNK_CELLS].into_boxed_slice());
        } else {
            self.chunks[chunk][slot] = cell;
        }
        self.cells += 1;
    }

    /// Marks everything that is reachable and counts it.
    fn collect(&mut self) {
        self.collections += 1;
        self.allocated_since_bytes = 0;
        let mut reached = 0;
        let mut pending = Vec::new();
        for root in 0..self.roots.len() {
            pending.push(self.roots[root]);
            while let Some(start) = pending.pop() {
                reached += self.mark_chain(start, &mut pending);
            }
        }
        self.live_bytes = reached * CELL_BYTES;
    }

    /// Follows one chain until its end or an object that is marked; what it refers to besides goes to `pending`.
    fn mark_chain(&mut self, start: u32, pending: &mut Vec<u32>) -> u64 {
        let mut marked = 0;
        let mut at = start;
        while at != NIL {
            let (chunk, slot) = place(at);
            let cell = &mut self.chunks[chunk][slot];
            if cell.reached == self.collections {
                break;
            }
            cell.reached = self.collections;
            marked += 1;
            let other = cell.other;
            at = cell.next;
            let (chunk, slot) = place(other);
            if other != NIL && self.chunks[chunk][slot].reached != self.collections {
                pending.push(other);
            }
        }
        marked
    }
}

fn place(index: u32) -> (usize, usize) {
    ((index >> CHUNK_SHIFT) as usize, index as usize & (CHUNK_CELLS - 1))
}

/// Some object before `index`, spread evenly and always the same (Knuth's multiplicative hash).
fn older(index: usize) -> u32 {
    let spread = (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    if index == 0 { NIL } else { (spread % index as u64) as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn heap(max_bytes: u64) -> Heap {
        Heap::new(HeapLimits { max_bytes, factor_percent: 50 })
    }

    #[test]
    fn a_collection_finds_exactly_what_was_leaked() {
        let mut heap = heap(8 * MIB);
        for _ in 0..100 {
            heap.allocate(0, 10_000).unwrap();
        }
        heap.collect();
        assert_eq!(heap.live_bytes(), 100 * 10_000_u64.next_multiple_of(64));
    }

    #[test]
    fn garbage_alone_never_fills_the_heap_and_is_collected_at_a_steady_rate() {
        let mut heap = heap(8 * MIB);
        for _ in 0..1000 {
            heap.allocate(100_000, 0).unwrap();
        }
        assert_eq!(heap.live_bytes(), 0);
        assert_eq!(heap.collections(), 1000 / (4 * MIB / 100_000 + 1) as u32);
    }

    #[test]
    fn collections_come_closer_as_the_headroom_shrinks() {
        let mut heap = heap(8 * MIB);
        let mut collections = Vec::new();
        while heap.live_bytes() < 7 * MIB {
            let before = heap.collections();
            for _ in 0..100 {
                heap.allocate(64 << 10, 4 << 10).unwrap();
            }
            collections.push(heap.collections() - before);
        }
        assert!(collections.is_sorted(), "{collections:?}");
        assert!(collections.last().unwrap() >= &(4 * collections[0]), "{collections:?}");
    }

    #[test]
    fn what_does_not_fit_after_a_collection_is_refused_and_leaks_nothing() {
        let mut heap = heap(MIB);
        let refused = std::iter::repeat_with(|| heap.allocate(0, 16 << 10)).find_map(Result::err).unwrap();
        assert_eq!(refused.live_bytes, MIB);
        assert_eq!(heap.allocate(0, 64), Err(OutOfMemory { needed_bytes: 64, ..refused }));
        assert_eq!(heap.cells as u64 * CELL_BYTES, MIB);
    }
}
