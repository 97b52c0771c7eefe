//! Transmit checksums of a veth: they have to be finished by the sender.
//!
//! A packet of a local stack carries an unfinished checksum, in the hope that a network card finishes it. On a
//! veth no card does: an XDP program would forward it as it is, and the receiver would drop it.
//! Spoken over the kernel's generic netlink family `ethtool` (Linux 5.6).

use rtnetlink::packet_core::DefaultNla;
use thiserror::Error;

use super::genetlink::{Family, GenetlinkError, children, nested, text};

/// What a veth claims to do for its sender; as `ethtool -k` calls them.
const TX_CHECKSUMS: [&str; 2] = ["tx-checksum-ip-generic", "tx-checksum-sctp"];

/// Messages and attributes of offloads (`linux/ethtool_netlink.h`).
mod features {
    pub(super) const GET: u8 = 11;
    pub(super) const SET: u8 = 12;
    pub(super) const HEADER: u16 = 1;
    pub(super) const DEVICE_NAME: u16 = 2;
    pub(super) const WANTED: u16 = 3;
    pub(super) const ACTIVE: u16 = 4;
    pub(super) const BITS: u16 = 3;
    pub(super) const BIT: u16 = 1;
    pub(super) const BIT_NAME: u16 = 2;
}

/// Why an offload could not be read or switched.
#[derive(Debug, Error)]
pub enum OffloadError {
    /// The kernel cannot be asked this way.
    #[error("this kernel has no ethtool netlink family: Linux 5.6 with CONFIG_ETHTOOL_NETLINK is needed")]
    Unsupported,
    /// The kernel refused, or did not answer.
    #[error("{action} of {ifname}: {source}")]
    Failed {
        /// What was tried.
        action: &'static str,
        /// The interface.
        ifname: String,
        /// What came of it.
        source: GenetlinkError,
    },
}

/// Makes the senders on `ifname`, in the network namespace of the calling thread, finish their checksums.
pub fn disable_tx_checksum(ifname: &str) -> Result<(), OffloadError> {
    let bits = TX_CHECKSUMS.map(|name| nested(features::BIT, &[text(features::BIT_NAME, name)]));
    let wanted = nested(features::WANTED, &[nested(features::BITS, &bits)]);
    ask_ethtool("switch off tx checksums", features::SET, ifname, Some(wanted)).map(drop)
}

/// True if senders on `ifname`, in the network namespace of the calling thread, may leave checksums unfinished.
pub fn tx_checksum_is_on(ifname: &str) -> Result<bool, OffloadError> {
    let answers = ask_ethtool("read the offloads", features::GET, ifname, None)?;
    let active = answers
        .iter()
        .flat_map(|answer| children(answer, features::ACTIVE))
        .flat_map(|bitset| children(&bitset, features::BITS))
        .flat_map(|bits| children(&bits, features::BIT))
        .flat_map(|bit| children(&bit, features::BIT_NAME))
        .any(|name| TX_CHECKSUMS.iter().any(|wanted| name.strip_suffix(b"\0") == Some(wanted.as_bytes())));
    Ok(active)
}

fn ask_ethtool(
    action: &'static str,
    command: u8,
    ifname: &str,
    payload: Option<DefaultNla>,
) -> Result<Vec<Vec<u8>>, OffloadError> {
    let mut attributes = vec![nested(features::HEADER, &[text(features::DEVICE_NAME, ifname)])];
    attributes.extend(payload);
    Family::open("ethtool").and_then(|family| family.ask(command, &attributes)).map_err(|error| match error {
        GenetlinkError::NoFamily => OffloadError::Unsupported,
        source => OffloadError::Failed { action, ifname: ifname.to_owned(), source },
    })
}
