//! Pins flows that have not begun: whoever knows a client's address and port beforehand says where it goes.
//!
//! What always holds:
//! - An entry is claimed as the packet path does it: by one compare-and-exchange on a free one, or on that of an old
//!   flow of the same client that has closed.
//! - Only the flow's first bucket is used; if that has no room, another port of the client may have more luck.
//! - The flow begins with its first packet: its SYN counts neither as a new flow of a client's nor as one sent again.

use std::net::SocketAddr;
use std::path::Path;

use aya::maps::MapData;
use lb_common::bucket::{ENTRIES, Fingerprint, Id, across};
use lb_common::endpoint::TCP;
use lb_common::{BackendId, Endpoint, FlowKey, Half, Halves, ServiceId, Settings};

use super::flows::clock_ticks;
use super::mapping::Words;
use super::table::FlowTable;
use super::{OpenError, settings, view};

const WORDS_PER_BUCKET: usize = 2 * ENTRIES;

/// The flow table, for connections that are about to be opened.
pub struct FlowPinner {
    buckets: Words,
    settings: Settings,
}

impl FlowPinner {
    /// Opens the flow table that is pinned in `pins`; needs `CAP_BPF`.
    pub fn open(pins: &Path) -> Result<Self, OpenError> {
        let name = "BUCKETS";
        let settings = view::pinned(pins)?;
        let data = MapData::from_pin(pins.join(name)).map_err(|source| OpenError::Map { name, source })?;
        let [words, ..] = FlowTable::words(&settings, settings::cpus());
        let buckets = Words::map(data.fd(), words).map_err(|source| OpenError::Mapping { name, source })?;
        Ok(Self { buckets, settings })
    }

    /// Lets the TCP connection that `client` is about to open to a service go to this backend, whatever the steering
    /// says. False if its entry has no room, or belongs to a connection that has not closed.
    pub fn pin(&self, client: SocketAddr, service: ServiceId, backend: BackendId, epoch: u32) -> bool {
        let end = Endpoint::new(client, TCP);
        let key = FlowKey { client: end.address(), client_port: end.wire_port(), service };
        let print = Fingerprint::of(&key, &self.settings.keys);
        let mask = self.settings.bucket_mask;
        let home = print.home() & mask;
        let second = across(home, print.tag(), mask);
        if self.place_of(second, print.tag() | Id::AWAY).is_some() {
            return false;
        }
        let own = self.place_of(home, print.tag());
        let Some(word) = own.or_else(|| self.free_place(home)) else { return false };
        let seen = self.buckets.load(word);
        let may_begin = Halves::from_word(self.buckets.load(word + 1)).may_begin_anew();
        if own.is_some() && !may_begin {
            return false;
        }
        let id = Id::new(print.tag(), 0, backend, epoch as u8).to_word();
        if !self.buckets.exchange(word, seen, seen & Id::MARKS | id) {
            return false;
        }
        let client = Half::awaited(clock_ticks());
        self.buckets.store(word + 1, Halves { client, server: Half::default() }.to_word());
        true
    }

    /// The first word of the entry of this name in a bucket.
    fn place_of(&self, bucket: u32, name: u64) -> Option<usize> {
        words_of(bucket).find(|word| self.buckets.load(*word) & Id::NAME == name)
    }

    fn free_place(&self, bucket: u32) -> Option<usize> {
        words_of(bucket).find(|word| Id::from_word(self.buckets.load(*word)).is_free())
    }
}

fn words_of(bucket: u32) -> impl Iterator<Item = usize> {
    let first = bucket as usize * WORDS_PER_BUCKET;
    (0..ENTRIES).map(move |entry| first + 2 * entry)
}
