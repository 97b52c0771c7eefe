//! The least that a balancer can do with a TCP segment over IPv4: find out where it goes, and rewrite it.

use aya_ebpf::btf_maps::{Array, LruHashMap};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use lb_common::bench::Target;
use lb_common::checksum::Delta;

/// Where everything goes.
#[btf_map]
static TARGET: Array<Target, 1> = Array::new();

/// Where each flow goes; the loader sets how many there can be.
#[btf_map]
static FLOWS: LruHashMap<Tuple, Target, 1> = LruHashMap::new();

/// How many frames found no flow.
#[btf_map]
static MISSES: Array<u64, 1> = Array::new();

const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
const VERSION_4_NO_OPTIONS: u8 = 0x45;
const TCP: u8 = 6;

/// Names a flow: the five values that all of its packets share. The compiler takes the three that lie side
/// by side in a segment at once, so they are where the verifier lets it put eight bytes.
#[repr(C, align(8))]
struct Tuple {
    destination: u32,
    source_port: u16,
    destination_port: u16,
    source: u32,
    protocol: u32,
}

/// An Ethernet, an IPv4 and a TCP header.
#[repr(C, packed(2))]
struct Headers {
    hardware: [u16; 6],
    ethertype: u16,
    version_ihl: u8,
    tos: u8,
    total_length: u16,
    identification: u16,
    fragment: u16,
    ttl: u8,
    protocol: u8,
    ip_checksum: u16,
    source: u32,
    destination: u32,
    source_port: u16,
    destination_port: u16,
    sequence: u32,
    acknowledgement: u32,
    offset_flags: u16,
    window: u16,
    tcp_checksum: u16,
    urgent: u16,
}

const _: () = assert!(size_of::<Headers>() == 54);

/// Looks the flow up and sends the frame where it says.
#[inline(always)]
pub(crate) fn by_table(ctx: &XdpContext) -> Option<()> {
    let headers = headers(ctx)?;
    // SAFETY: entries are written before the measurement and not changed in it.
    let Some(target) = (unsafe { FLOWS.get(tuple(headers)) }) else {
        let misses = MISSES.get_ptr_mut(0)?;
        // SAFETY: the map gave the pointer, and the bench runs on one CPU.
        unsafe { *misses += 1 };
        return None;
    };
    rewrite(headers, target);
    Some(())
}

/// Records the flow.
#[inline(always)]
pub(crate) fn record(ctx: &XdpContext) -> Option<()> {
    let headers = headers(ctx)?;
    FLOWS.insert(tuple(headers), TARGET.get(0)?, 0).ok()
}

/// Forgets the flow.
#[inline(always)]
pub(crate) fn forget(ctx: &XdpContext) -> Option<()> {
    FLOWS.remove(tuple(headers(ctx)?)).ok()
}

/// Sends the frame where everything goes.
#[inline(always)]
pub(crate) fn without_table(ctx: &XdpContext) -> Option<()> {
    rewrite(headers(ctx)?, TARGET.get(0)?);
    Some(())
}

#[inline(always)]
fn headers(ctx: &XdpContext) -> Option<&'static mut Headers> {
    let start = ctx.data();
    if start + size_of::<Headers>() > ctx.data_end() {
        return None;
    }
    // SAFETY: the headers lie within the frame, and one CPU sees a frame at a time.
    let headers = unsafe { &mut *(start as *mut Headers) };
    let steered = headers.ethertype == ETHERTYPE_IPV4
        && headers.version_ihl == VERSION_4_NO_OPTIONS
        && headers.protocol == TCP;
    steered.then_some(headers)
}

#[inline(always)]
fn tuple(headers: &Headers) -> Tuple {
    Tuple {
        source: headers.source,
        destination: headers.destination,
        source_port: headers.source_port,
        destination_port: headers.destination_port,
        protocol: u32::from(headers.protocol),
    }
}

#[inline(always)]
fn rewrite(headers: &mut Headers, target: &Target) {
    let delta = Delta::new().replace_u32(headers.destination, target.address);
    headers.ip_checksum = delta.apply(headers.ip_checksum);
    headers.tcp_checksum =
        delta.replace_u16(headers.destination_port, target.port).apply(headers.tcp_checksum);
    headers.destination = target.address;
    headers.destination_port = target.port;
    for (to, from) in headers.hardware.iter_mut().zip(&target.hardware) {
        // SAFETY: references are valid. One by one: as a whole they would be copied by a call to `memmove`.
        unsafe { (&raw mut *to).write_volatile(*from) };
    }
}
