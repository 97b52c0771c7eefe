//! Which backends a packet without entry may go to: one where steering or a lease says so, several where a policy has
//! a choice.

use lb_common::pool::Policy;
use lb_common::tables::service_flags as flags;
use lb_common::{BackendId, Reason};

use super::bytes::Octets;
use super::flow::Key;
use super::parse::Packet;
use super::path::{is_new, lease_key};
use super::state::{HashedTo, Member, Model, Pool, Steering};
use super::world::Site;

/// A backend, or why there is none; and, if a hash has chosen it, what it will choose the same for.
pub(super) type Choice = (Result<BackendId, Reason>, Option<HashedTo>);

impl Model {
    /// All choices that there are for a packet.
    pub(super) fn choices(&self, packet: &Packet, site: &Site, key: &Key, steering: Steering) -> Vec<Choice> {
        if is_new(packet) {
            if let Some(held) = self.held(site, key.1, steering) {
                return vec![(Ok(held), None)];
            }
            return match self.pool_in_use(site, steering) {
                Some(pool) => self.of_pool(pool, key),
                None => vec![(named(steering.active), None)],
            };
        }
        // An old flow.
        let draining = steering.draining;
        match (self.pool_in_use(site, steering), draining) {
            (None, 0) => vec![(named(steering.active), None)],
            (None, _) => vec![(Ok(draining), None)],
            (Some(pool), 0) => self.of_pool(pool, key),
            (Some(_), _) => {
                // Where a hash had put it under the pool before, or else where flows finish.
                let place = steering.from_pool.map_or(0, |used| 1 - used);
                match &self.pools[usize::from(site.id)][place] {
                    Some(before) if matches!(before.policy, Policy::Maglev | Policy::Sh) => {
                        let mut choices = self.of_pool(before, key);
                        for choice in &mut choices {
                            // All full: it has no place there.
                            choice.0 = choice.0.or(Ok(draining));
                        }
                        choices
                    }
                    _ => vec![(Ok(draining), None)],
                }
            }
        }
    }

    /// The backend that a client's lease names, if it may stay there.
    fn held(&self, site: &Site, client: Octets, steering: Steering) -> Option<BackendId> {
        let held = *self.leases.get(&(site.id, lease_key(site, client)?))?;
        let breaks = site.has(flags::BREAK_AFFINITY) && held == steering.draining;
        (!breaks && self.present(held)).then_some(held)
    }

    fn pool_in_use(&self, site: &Site, steering: Steering) -> Option<&Pool> {
        self.pools[usize::from(site.id)][steering.from_pool?].as_ref()
    }

    /// The members that a policy may choose: none that is at its limit.
    fn of_pool(&self, pool: &Pool, key: &Key) -> Vec<Choice> {
        let open =
            |member: &Member| self.open.get(&member.backend).map_or(0, |open| (*open).max(0).cast_unsigned());
        let has_room = |member: &&Member| member.limit == 0 || open(member) < u64::from(member.limit);
        let limited = pool.members.iter().any(|member| member.limit != 0);
        let room: Vec<&Member> = pool.members.iter().filter(has_room).collect();
        let all = |members: &[&Member]| members.iter().map(|one| (Ok(one.backend), None)).collect();
        if room.is_empty() {
            return vec![(Err(Reason::NoBackend), None)];
        }
        match pool.policy {
            Policy::Fo => {
                let first = room.iter().max_by_key(|member| member.weight).copied();
                all(first.as_slice())
            }
            Policy::Lc | Policy::Wlc => {
                // Fewest open flows for its weight; among equals any.
                let less = |one: &Member, than: &Member| {
                    open(one) * u64::from(than.weight) < open(than) * u64::from(one.weight)
                };
                let is_least = |one: &&&Member| !room.iter().any(|other| less(other, one));
                let least: Vec<&Member> = room.iter().filter(is_least).copied().collect();
                all(&least)
            }
            // The same client, or the same flow, always finds the same one; where limits push it elsewhere, any.
            Policy::Sh | Policy::Maglev if !limited => {
                let port = (pool.policy == Policy::Maglev).then_some(key.2);
                let hashed = (pool.serial, key.1, port);
                match self.hashed.get(&hashed) {
                    Some(known) => vec![(Ok(*known), None)],
                    None => room.iter().map(|one| (Ok(one.backend), Some(hashed))).collect(),
                }
            }
            // Whose turn it is depends on the CPU, random is random.
            Policy::Rr | Policy::Wrr | Policy::Random2 | Policy::Sh | Policy::Maglev => all(&room),
            Policy::ActiveStandby => vec![(Err(Reason::NoBackend), None)],
        }
    }
}

fn named(backend: BackendId) -> Result<BackendId, Reason> {
    if backend == 0 { Err(Reason::NoBackend) } else { Ok(backend) }
}
