//! Client affinity: a client's new flows go where its earlier ones went. A lease is an entry of the flow
//! table under the client's own key ([`FlowKey::lease`]), so it is found, claimed and aged as flows are.
//!
//! A lease that no finished handshake has confirmed may be evicted: a flood of forged SYNs fills nothing.

use lb_common::bucket::Fingerprint;
use lb_common::{BackendId, FlowKey, Halves, Service, Ticks};

use crate::flows::{Pinned, find, fingerprint};
use crate::pin::{Pin, pin, pin_anew};
use crate::services;

/// A client's lease, if it has one.
pub(crate) struct Lease {
    key: FlowKey,
    print: Fingerprint,
    entry: Option<Pinned>,
}

impl Lease {
    /// Looks for the lease of a flow's client.
    #[inline(always)]
    pub(crate) fn of(service: &Service, key: &FlowKey) -> Self {
        let key = key.lease(service.affinity.key_of(key.client));
        let print = fingerprint(&key);
        Self { key, print, entry: find(print) }
    }

    /// The backend that the client is to stay with.
    #[inline(always)]
    pub(crate) fn backend(&self, now: Ticks) -> Option<BackendId> {
        let entry = self.entry?;
        if entry.halves().lease_holds(now) { Some(entry.id.backend()) } else { None }
    }

    /// Leases the client to a backend from now on, or renews what it has there.
    #[inline(always)]
    pub(crate) fn renew(&self, backend: BackendId, ticks: u32, now: Ticks) {
        let fresh = Halves::lease(now, ticks);
        let wish = Pin { backend, epoch: 0, halves: fresh };
        match &self.entry {
            Some(entry) if entry.id.backend() == backend => entry.set_client(fresh.client),
            // Whoever else changed it meanwhile has a right to it too.
            Some(entry) => drop(pin_anew(entry, wish)),
            None => drop(pin(&self.key, self.print, wish, now)),
        }
    }
}

/// Keeps the lease of a client that has finished a handshake from being evicted.
#[inline(always)]
pub(crate) fn confirm(key: &FlowKey) {
    // SAFETY: a reference is valid.
    unsafe { confirm_lease(key) };
}

/// # Safety
///
/// `key` must be valid or null.
#[inline(never)]
#[unsafe(no_mangle)]
unsafe extern "C" fn confirm_lease(key: *const FlowKey) -> u32 {
    // SAFETY: by this function's contract; the verifier sees it as memory that may be null.
    if let Some(key) = unsafe { key.as_ref() }
        && let Some(service) = services::get(key.service)
        && let Some(entry) = Lease::of(service, key).entry
    {
        entry.set_server(entry.halves().confirmed_lease().server);
    }
    0
}
