//! Histories out of a seed: conversations as clients and backends hold them, strays, errors of routers, and damaged
//! frames, while the controller hands over, drains, refuses and narrows paths.

use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use lb_common::pool::Policy;
use lb_common::tables::service_flags as flags;

use super::flow::flag::{ACK, FIN, RST, SYN};
use super::history::{History, Path, State, Step};
use super::parse::protocol::{EXTENSIONS, TCP};
use super::recipe::{Body, DONT_FRAGMENT, Recipe, Who, Wound};
use super::world::{Site, World};

/// Clients of a history.
const CLIENTS: u8 = 10;
/// Services that a history is about: few, so that it gets deep.
const SERVICES: usize = 3;
/// Longest packets that paths let pass; 0 for one that is not known.
const MTUS: [u16; 6] = [1500, 1500, 0, 1400, 1280, 9000];
/// Bytes of headers before the data, by family, protocol and mode.
const HEADERS: [u16; 6] = [40, 60, 28, 48, 80, 100];
/// Where fields of lengths and versions stand in a frame without tags and a little around them.
const TELLING: std::ops::Range<u16> = 12..60;

/// The history of a seed, with so many steps.
pub fn history(world: &World, seed: u64, steps: usize) -> History {
    let mut random = SmallRng::seed_from_u64(seed);
    let sites: Vec<&Site> = world.sites.choose_multiple(&mut random, SERVICES).collect();
    let mut writer = Writer { random, sites, talks: [[0; CLIENTS as usize]; SERVICES] };
    History { what: format!("seed {seed}"), steps: (0..steps).map(|_| writer.step()).collect() }
}

/// A history that is like another one: with steps left out, doubled and changed, and others after it.
pub fn variation(world: &World, of: &History, seed: u64, steps: usize) -> History {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut changed = Vec::new();
    for step in &of.steps {
        match random.random_range(0..12) {
            0 => {}
            1 => changed.extend([step.clone(), step.clone()]),
            2 => {
                let mut step = step.clone();
                if let Step::Frame(recipe) = &mut step {
                    recipe.wounds.push(wound(&mut random));
                }
                changed.push(step);
            }
            _ => changed.push(step.clone()),
        }
    }
    let mut ids: Vec<u16> = changed.iter().map(Step::service).collect();
    ids.dedup();
    ids.truncate(SERVICES);
    let mut sites: Vec<&Site> = ids.iter().map(|id| world.site(*id)).collect();
    while sites.len() < SERVICES {
        sites.extend(world.sites.choose(&mut random));
    }
    let mut writer = Writer { random, sites, talks: [[3; CLIENTS as usize]; SERVICES] };
    changed.extend((0..steps).map(|_| writer.step()));
    History { what: format!("after {}, seed {seed}", of.what), steps: changed }
}

/// Who writes a history.
struct Writer<'a> {
    random: SmallRng,
    sites: Vec<&'a Site>,
    /// How far each client's conversation with each service has come.
    talks: [[u8; CLIENTS as usize]; SERVICES],
}

impl Writer<'_> {
    fn step(&mut self) -> Step {
        let place = self.random.random_range(0..SERVICES);
        let site = self.sites[place];
        let client = self.random.random_range(0..CLIENTS);
        let mut recipe = match self.random.random_range(0..100) {
            0..8 => return self.control(site),
            8..60 => self.talk(place, client),
            60..74 => self.stray(site, client),
            74..86 => self.error(site, client),
            _ => self.oddity(site, client),
        };
        self.dress(&mut recipe);
        Step::Frame(recipe)
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    /// What the controller does.
    fn control(&mut self, site: &Site) -> Step {
        let service = site.id;
        let replica = self.random.random_range(0..site.replicas.len() as u8);
        let draining = if self.chance(60) { Some((replica + 1) % site.replicas.len() as u8) } else { None };
        match self.random.random_range(0..10) {
            0..4 if site.kind.pooled => self.spread(site, draining),
            0..4 => {
                Step::Steer { service, active: if self.chance(90) { Some(replica) } else { None }, draining }
            }
            4..7 => {
                let state = match self.random.random_range(0..10) {
                    0..6 => State::Present,
                    6..9 => State::Refused,
                    _ => State::Absent,
                };
                Step::State { service, replica, state }
            }
            7 => Step::Uplink { service, path: self.path() },
            _ => Step::Hop { service, replica, path: self.path() },
        }
    }

    fn path(&mut self) -> Path {
        let mtu = *MTUS.choose(&mut self.random).unwrap_or(&1500);
        match self.random.random_range(0..8) {
            0 => Path::Unresolved(mtu),
            1 => Path::Back(mtu),
            _ => Path::Through(mtu),
        }
    }

    fn spread(&mut self, site: &Site, draining: Option<u8>) -> Step {
        let counts = site.has(flags::COUNT_OPEN);
        let policies = Policy::ALL.iter().filter(|one| one.has_pool() && (counts || !one.needs_loads()));
        let policies: Vec<_> = policies.collect();
        let policy = policies.choose(&mut self.random).map_or("rr", |policy| policy.name()).to_owned();
        // All different, so that the heaviest is one.
        let mut weights = [1, 2, 3, 5];
        weights.shuffle(&mut self.random);
        let limits = counts && self.chance(40);
        let mut members = Vec::new();
        for (place, weight) in (0..site.replicas.len() as u8).zip(weights) {
            if Some(place) != draining && self.chance(80) {
                let limit = if limits { self.random.random_range(1..5) } else { 0 };
                members.push((place, weight, limit));
            }
        }
        Step::Spread { service: site.id, policy, members, draining }
    }

    /// The next packet of a client's conversation.
    fn talk(&mut self, place: usize, client: u8) -> Recipe {
        let site = self.sites[place];
        let stage = self.talks[place][usize::from(client)];
        if site.kind.protocol != TCP {
            let from_client = stage == 0 || self.chance(60);
            self.talks[place][usize::from(client)] = 1;
            let body = Body::Udp { data: self.length(), checksum: self.chance(90) };
            return self.between(site, client, from_client, body);
        }
        let (from_client, flags, next) = match (stage, self.random.random_range(0..16)) {
            (0, _) | (1, 0) | (5, 4..12) => (true, SYN, 1),
            (1, _) => (false, SYN | ACK, 2),
            (2, _) => (true, ACK, 3),
            (_, 0) => (true, FIN | ACK, 4),
            (_, 1) => (false, FIN | ACK, 4),
            (4, 2..6) => (self.chance(50), FIN | ACK, 5),
            (_, 2) => (true, RST, 5),
            (_, 3) => (false, RST | ACK, 5),
            (stage, 4..9) => (true, ACK, stage),
            (stage, _) => (false, ACK, stage),
        };
        self.talks[place][usize::from(client)] = next;
        let data = if flags & (SYN | RST) == 0 && self.chance(60) { self.length() } else { 0 };
        let body = self.tcp(flags, data);
        self.between(site, client, from_client, body)
    }

    fn tcp(&mut self, flags: u8, data: u16) -> Body {
        let options =
            if self.chance(if flags & SYN != 0 { 85 } else { 20 }) { self.options() } else { Vec::new() };
        Body::Tcp {
            flags,
            sequence: self.random.random(),
            acknowledgement: self.random.random(),
            options,
            data,
        }
    }

    /// TCP options: segment sizes at all places, timestamps, and what makes no sense.
    fn options(&mut self) -> Vec<u8> {
        let mut options = Vec::new();
        while options.len() < 40 && self.chance(75) {
            match self.random.random_range(0..12) {
                0..5 => {
                    let size: u16 =
                        *[1460, 1440, 8960, 536, 1361, 65_535, 0].choose(&mut self.random).unwrap_or(&1460);
                    options.extend([2, 4]);
                    options.extend(size.to_be_bytes());
                }
                5..8 => options.push(1),
                8 => options.extend([3, 3, 7]),
                9 => options.extend([8, 10, 0, 0, 0, 1, 0, 0, 0, 2]),
                10 => options.extend([self.random.random_range(0..9), self.random.random_range(0..12)]),
                _ => options.extend([4, 2]),
            }
        }
        options.resize(options.len().next_multiple_of(4), self.random.random_range(0..2));
        options.truncate(40);
        options
    }

    fn between(&mut self, site: &Site, client: u8, from_client: bool, body: Body) -> Recipe {
        let (from, to) = if from_client {
            (Who::Client(client), Who::Vip)
        } else {
            (Who::Pinned(client), self.outside(site, client))
        };
        recipe(site, from, to, body)
    }

    /// What a client looks like to its backend.
    fn outside(&mut self, site: &Site, client: u8) -> Who {
        if site.ports.is_some() && self.chance(92) { Who::Lent(client) } else { Who::Client(client) }
    }

    /// Any packet, between any two.
    fn stray(&mut self, site: &Site, client: u8) -> Recipe {
        let body = if (site.kind.protocol == TCP) == self.chance(97) {
            let flags = self.random.random_range(0..64);
            let data = if self.chance(50) { self.length() } else { 0 };
            self.tcp(flags, data)
        } else {
            Body::Udp { data: self.length(), checksum: self.chance(80) }
        };
        let (from, to) = match self.random.random_range(0..20) {
            0..9 => (Who::Client(client), Who::Vip),
            9..13 => (Who::Pinned(client), self.outside(site, client)),
            13..16 => (Who::Replica(self.random.random()), self.outside(site, client)),
            16 => (Who::Pinned(client), Who::Balancer),
            17 => (Who::Client(client), Who::Stranger),
            18 => (Who::Vip, Who::Client(client)),
            _ => (Who::Client(client), Who::Mapped),
        };
        recipe(site, from, to, body)
    }

    /// An error about a packet of a flow, in either direction.
    fn error(&mut self, site: &Site, client: u8) -> Recipe {
        let data = if self.chance(50) { 40 } else { self.length().min(600) };
        let about_body = if site.kind.protocol == TCP {
            self.tcp(ACK, data)
        } else {
            Body::Udp { data, checksum: self.chance(80) }
        };
        let to_backend = self.chance(50);
        let seen = self.outside(site, client);
        let (from, to, mut about) = if to_backend {
            let from = if self.chance(70) { Who::Router } else { Who::Client(client) };
            (from, Who::Vip, recipe(site, Who::Vip, Who::Client(client), about_body))
        } else {
            let from = if self.chance(50) { Who::Router } else { Who::Pinned(client) };
            (from, seen, recipe(site, seen, Who::Pinned(client), about_body))
        };
        if self.chance(10) {
            self.dress(&mut about);
            about.wounds.clear();
        }
        if self.chance(4) {
            about.from = Who::Balancer;
        }
        let kinds: [u8; 8] = if site.v6 { [1, 2, 3, 4, 1, 2, 128, 135] } else { [3, 3, 3, 11, 12, 5, 8, 0] };
        let header = if site.v6 { 40 } else { 20 };
        let quoted = match self.random.random_range(0..8) {
            0..3 => header + 8,
            3 => header + 7,
            4 => self.random.random_range(0..100),
            _ => 500,
        };
        let kind = *kinds.choose(&mut self.random).unwrap_or(&3);
        let body = Body::Error {
            kind,
            code: self.random.random_range(0..5),
            rest: self.random.random_range(0..1500),
            about: Box::new(about),
            quoted,
        };
        recipe(site, from, to, body)
    }

    /// What the packet path only looks at: fragments, options, extension headers, other protocols, echo.
    fn oddity(&mut self, site: &Site, client: u8) -> Recipe {
        let body = match self.random.random_range(0..4) {
            0 => Body::Message { kind: if site.v6 { 128 } else { 8 }, data: self.length().min(1400) },
            1 => Body::Other { protocol: self.random.random(), data: self.random.random_range(0..80) },
            _ if site.kind.protocol == TCP => self.tcp(ACK, 20),
            _ => Body::Udp { data: 20, checksum: true },
        };
        let from_client = self.chance(70);
        let mut recipe = self.between(site, client, from_client, body);
        match self.random.random_range(0..4) {
            0 => {
                recipe.fragment =
                    *[0x2000, 0x2001, 1, 0x1fff, 0x6000, 0x8000].choose(&mut self.random).unwrap_or(&1);
            }
            1 if site.v6 => recipe.options = EXTENSIONS.choose(&mut self.random).copied(),
            1 => recipe.options = Some(self.random.random_range(1..=10)),
            _ => {}
        }
        recipe
    }

    /// Tags, class, flags, and damage.
    fn dress(&mut self, recipe: &mut Recipe) {
        if self.chance(25) {
            let tag = |random: &mut SmallRng, kind| (kind, random.random());
            recipe.tags = match self.random.random_range(0..6) {
                0..3 => vec![tag(&mut self.random, 0x8100)],
                3 => vec![tag(&mut self.random, 0x88a8)],
                4 => vec![tag(&mut self.random, 0x88a8), tag(&mut self.random, 0x8100)],
                _ => vec![(0x8100, 7); self.random.random_range(2..4)],
            };
        }
        if self.chance(20) {
            recipe.class = self.random.random();
        }
        if self.chance(25) {
            recipe.fragment &= !DONT_FRAGMENT;
        }
        while self.chance(18) {
            recipe.wounds.push(wound(&mut self.random));
        }
    }

    /// How much data: little, around what just passes, or more than a page.
    fn length(&mut self) -> u16 {
        match self.random.random_range(0..20) {
            0..2 => 0,
            2..13 => self.random.random_range(1..200),
            13..18 => {
                let mtu = *[1500, 1400, 1280].choose(&mut self.random).unwrap_or(&1500);
                let headers = *HEADERS.choose(&mut self.random).unwrap_or(&40);
                mtu - headers + self.random.random_range(0..3) - 1
            }
            18 => self.random.random_range(1000..4000),
            _ => self.random.random_range(4000..9100),
        }
    }
}

fn recipe(site: &Site, from: Who, to: Who, body: Body) -> Recipe {
    Recipe {
        service: site.id,
        from,
        to,
        tags: Vec::new(),
        class: 0,
        fragment: DONT_FRAGMENT,
        options: None,
        body,
        wounds: Vec::new(),
    }
}

fn wound(random: &mut SmallRng) -> Wound {
    match random.random_range(0..10) {
        0..4 => Wound::Cut(random.random_range(14..130)),
        4..7 => Wound::Flip(random.random_range(0..110 * 8)),
        7..9 => Wound::Set(random.random_range(TELLING), random.random()),
        _ => Wound::Pad(random.random_range(1..80)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_history() {
        let world = World::new();
        assert_eq!(history(&world, 7, 200), history(&world, 7, 200));
        assert_ne!(history(&world, 7, 200).steps, history(&world, 8, 200).steps);
        let varied = variation(&world, &history(&world, 7, 50), 9, 50);
        assert_eq!(varied, variation(&world, &history(&world, 7, 50), 9, 50));
    }
}
