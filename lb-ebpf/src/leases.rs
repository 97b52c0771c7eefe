//! Client affinity: a client's new flows go where its earlier ones went. A lease is an entry of the flow
//! table under the client's own key ([`FlowKey::lease`]), so it is found, claimed and aged as flows are.
//!
//! A lease that no finished handshake has confirmed may be evicted: a flood of forged SYNs fills nothing.

use lb_common::{BackendId, FlowKey, Halves, Service, Ticks};

use crate::flows::{find_apart, fingerprint};
use crate::pin::{Pin, pin, pin_anew};
use crate::services;

/// The backend that a flow's client is to stay with.
#[inline(always)]
pub(crate) fn holder(service: &Service, key: &FlowKey, now: Ticks) -> Option<BackendId> {
    let lease = find_apart(fingerprint(&lease_of(service, key)))?;
    if lease.halves().lease_holds(now) { Some(lease.id.backend()) } else { None }
}

/// Leases a flow's client to a backend from now on, or renews what it has there.
#[inline(always)]
pub(crate) fn renew(key: &FlowKey, backend: BackendId, now: Ticks) {
    // SAFETY: a reference is valid.
    unsafe { renew_lease(key, backend.into(), now.to_bits()) };
}

/// # Safety
///
/// `key` must be valid or null.
#[inline(never)]
#[unsafe(no_mangle)]
unsafe extern "C" fn renew_lease(key: *const FlowKey, backend: u32, now: u32) -> u32 {
    // SAFETY: by this function's contract; the verifier sees it as memory that may be null.
    let Some(flow) = (unsafe { key.as_ref() }) else { return 0 };
    let Some(service) = services::get(flow.service) else { return 0 };
    let (key, now, backend) = (lease_of(service, flow), Ticks::from_bits(now), backend as BackendId);
    let (print, fresh) = (fingerprint(&key), Halves::lease(now, service.affinity_ticks));
    let wish = Pin { backend, epoch: 0, halves: fresh };
    let renewed = match find_apart(print) {
        Some(entry) if entry.id.backend() == backend => {
            entry.set_client(fresh.client);
            Some(entry.id)
        }
        // Whoever else changes it at this moment has a right to it too.
        Some(entry) => pin_anew(&entry, wish),
        None => pin(&key, print, wish, now),
    };
    u32::from(renewed.is_some())
}

#[inline(always)]
const fn lease_of(service: &Service, key: &FlowKey) -> FlowKey {
    key.lease(service.affinity.key_of(key.client))
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
        && let Some(entry) = find_apart(fingerprint(&lease_of(service, key)))
    {
        entry.set_server(entry.halves().confirmed_lease().server);
    }
    0
}
