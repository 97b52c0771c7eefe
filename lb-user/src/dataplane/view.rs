//! The flow table of a service as anybody may look at it who does not control it: `baton flows`.
//!
//! What always holds:
//! - Nothing is loaded and nothing is written: every map is mapped to be read, so a view works beside a
//!   controller and after its death, and disturbs neither.
//! - Pins of another layout are refused, as a controller refuses them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

use aya::maps::MapData;
use lb_common::{SERVICES_MAX, ServiceId, Settings, Steer};

use super::flows::{BACKEND_WORDS, FlowRecord, FlowTimeouts, clock_ticks, services_of_backends};
use super::mapping::ReadWords;
use super::table::{FlowTable, Mappings, Slot, TupleWords};
use super::{OpenError, layout, settings};

/// The pinned tables of one data plane, to be read.
pub struct FlowView {
    table: FlowTable<ReadWords>,
    backends: ReadWords,
    steering: ReadWords,
    /// Tuples of the log that no controller has put beside their entries yet, by the place of the entry.
    logged: HashMap<usize, TupleWords>,
}

/// Whether a look at the flows finds out who their clients are, which takes most of its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// It does, as far as anybody has written it down.
    Named,
    /// It does not: [`FlowRecord::client`] is `None`.
    LeftOut,
}

impl FlowView {
    /// Opens what is pinned in `pins`; needs `CAP_BPF`.
    pub fn open(pins: &Path) -> Result<Self, OpenError> {
        let settings = pinned(pins)?;
        let map = |name: &'static str, words: usize| map(pins, name, words);
        let [buckets, tuples, log, heads, snat] = FlowTable::words(&settings, settings::cpus());
        let mappings = Mappings {
            buckets: map("BUCKETS", buckets)?,
            tuples: map("TUPLES", tuples)?,
            log: map("TUPLE_LOG", log)?,
            heads: map("TUPLE_LOG_HEADS", heads)?,
            snat: map("SNAT_SLOTS", snat)?,
        };
        Ok(Self {
            table: FlowTable::new(mappings, settings, settings::cpus()),
            backends: map("BACKENDS", BACKEND_WORDS)?,
            steering: map("STEERING", SERVICES_MAX as usize)?,
            logged: HashMap::new(),
        })
    }

    /// Every flow that has not been silent for too long, closed ones included, in the order of the table.
    pub fn flows(&mut self, timeouts: &FlowTimeouts, clients: Clients) -> impl Iterator<Item = FlowRecord> {
        if clients == Clients::Named {
            let logged = &mut self.logged;
            self.table.read_log(|_, slot, tuple| {
                logged.insert(slot, tuple);
            });
        }
        let (view, now) = (&*self, clock_ticks());
        let services = services_of_backends(&view.backends);
        view.table.slots().filter_map(move |slot| {
            let flow = slot.flow();
            if !timeouts.admits(flow.halves, now) {
                return None;
            }
            let client = if clients == Clients::Named { view.client(&slot) } else { None };
            Some(FlowRecord::of(&flow, client, services[usize::from(flow.backend)], now))
        })
    }

    /// Where the flows of a service go at this moment.
    pub fn steering(&self, service: ServiceId) -> Steer {
        Steer::from_word(self.steering.load(usize::from(service)))
    }

    fn client(&self, slot: &Slot) -> Option<SocketAddr> {
        self.table.client(slot).or_else(|| slot.client(*self.logged.get(&slot.index())?))
    }
}

/// The settings of the tables that are pinned in `pins`.
pub(super) fn pinned(pins: &Path) -> Result<Settings, OpenError> {
    layout::read_pins(pins)?.ok_or_else(|| OpenError::NothingPinned(pins.to_owned()))
}

fn map(pins: &Path, name: &'static str, words: usize) -> Result<ReadWords, OpenError> {
    let data = MapData::from_pin(pins.join(name)).map_err(|source| OpenError::Map { name, source })?;
    ReadWords::map(data.fd(), words).map_err(|source| OpenError::Mapping { name, source })
}
