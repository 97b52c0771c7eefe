//! The table of listeners, written so that a packet finds each of them at every moment.

use lb_common::bucket::HashKeys;
use lb_common::listeners::{Name, PLACES, Place, enter, port_bit};
use lb_common::{BackendId, Endpoint, Listener, ServiceId};

use super::mapping::Words;

/// Words of a [`Place`]: the head, two of the address, one to spare.
const WORDS: usize = size_of::<Place>() / 8;

/// The table.
///
/// What always holds: the bit of a port is set before anybody is published on it, and for as long as somebody
/// is.
pub(super) struct Listeners {
    words: Words,
    ports: Words,
    keys: HashKeys,
}

impl Listeners {
    /// Words of the whole table.
    pub(super) const WORDS: usize = PLACES as usize * WORDS;

    pub(super) fn new(words: Words, ports: Words, keys: HashKeys) -> Self {
        Self { words, ports, keys }
    }

    /// Every listener with its endpoint.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Endpoint, Listener)> {
        (0..PLACES).filter_map(|place| {
            let place = self.at(place);
            place.listener().map(|listener| (place.endpoint(), listener))
        })
    }

    /// Publishes `listener` on `endpoint`, and takes it away from where it listened before.
    /// False if the table has no room.
    pub(super) fn publish(&self, endpoint: &Endpoint, listener: Listener) -> bool {
        let name = Name::of(endpoint, &self.keys);
        self.use_port(endpoint.wire_port());
        if let Some(place) = self.place_of(endpoint) {
            self.words.store(place as usize * WORDS, name.place(listener).head);
        } else {
            let Some(moves) = enter(endpoint, &self.keys, |place| self.at(place)) else {
                self.leave_port(endpoint.wire_port());
                return false;
            };
            for step in moves.collect::<Vec<_>>() {
                self.fill(step.to, step.from.map_or(name.place(listener), |from| self.at(from)));
            }
        }
        self.withdraw_where(listener.service, listener.backend, |there| there != *endpoint);
        true
    }

    /// Takes a backend's endpoint away, or a service's VIP if `backend` is [`lb_common::steer::NO_BACKEND`].
    pub(super) fn withdraw(&self, service: ServiceId, backend: BackendId) {
        self.withdraw_where(service, backend, |_| true);
    }

    fn withdraw_where(&self, service: ServiceId, backend: BackendId, is_meant: impl Fn(Endpoint) -> bool) {
        for place in 0..PLACES {
            let there = self.at(place);
            let same = there.listener().is_some_and(|l| l.service == service && l.backend == backend);
            if same && is_meant(there.endpoint()) {
                self.words.store(place as usize * WORDS, 0);
                self.leave_port(there.endpoint().wire_port());
            }
        }
    }

    fn use_port(&self, port: u16) {
        let (word, bit) = port_bit(port);
        self.ports.store(word as usize, self.ports.load(word as usize) | bit);
    }

    /// Takes the bit of a port away, unless somebody listens on it.
    fn leave_port(&self, port: u16) {
        if self.iter().all(|(endpoint, _)| endpoint.wire_port() != port) {
            let (word, bit) = port_bit(port);
            self.ports.store(word as usize, self.ports.load(word as usize) & !bit);
        }
    }

    fn place_of(&self, endpoint: &Endpoint) -> Option<u32> {
        let name = Name::of(endpoint, &self.keys);
        name.places().into_iter().find(|place| {
            let there = self.at(*place);
            name.listener(there.head, there.address).is_some()
        })
    }

    fn at(&self, place: u32) -> Place {
        let first = place as usize * WORDS;
        let head = self.words.load(first);
        Place::new(head, [self.words.load(first + 1), self.words.load(first + 2)])
    }

    /// Writes a place whose present endpoint, if any, stands elsewhere too: the head last, which publishes it.
    fn fill(&self, to: u32, place: Place) {
        let first = to as usize * WORDS;
        self.words.store(first, 0);
        self.words.store(first + 1, place.address[0]);
        self.words.store(first + 2, place.address[1]);
        self.words.store(first, place.head);
    }
}
