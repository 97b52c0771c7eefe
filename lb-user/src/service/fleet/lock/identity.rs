//! Who takes which lock where.

use std::fs;
use std::path::{Path, PathBuf};

use ring::hmac;
use serde::{Deserialize, Serialize};

use crate::config;

/// Where a machine keeps its id (`machine-id(5)`).
const MACHINE_ID: &str = "/etc/machine-id";
/// What the id of a machine is hashed with, so that what others see does not tell it.
const APPLICATION_ID: u128 = 0x6f1d_2a3b_e0c7_4b8f_9a51_d07c_4e82_b396;

/// All that it takes to give a lock back, also after the configuration has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Identity {
    /// Where the server is.
    pub(super) url: String,
    /// The group.
    pub(super) group: String,
    /// Who holds it.
    pub(super) id: String,
    /// Who is trusted to be the server; the system's authorities if not given.
    pub(super) ca_file: Option<PathBuf>,
    /// How long a request may take, in milliseconds.
    pub(super) timeout_ms: u64,
}

impl Identity {
    /// Whether it is the same lock of the same holder, however its server is reached.
    pub(super) fn is_same_lock(&self, other: &Self) -> bool {
        let Self { url, group, id, ca_file: _, timeout_ms: _ } = self;
        (url, group, id) == (&other.url, &other.group, &other.id)
    }

    /// As configured; the error is for people.
    pub(super) fn of(settings: &config::FleetLock) -> Result<Self, String> {
        let id = match &settings.id {
            Some(id) => id.clone(),
            None => id_of_machine(Path::new(MACHINE_ID))?,
        };
        Ok(Self {
            url: settings.url.clone(),
            group: settings.group.clone(),
            id,
            ca_file: settings.ca_file.clone(),
            timeout_ms: u64::try_from(settings.timeout.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

fn id_of_machine(file: &Path) -> Result<String, String> {
    let no = |what: String| {
        format!("{}: {what}; give [budget.fleet_lock] an `id` that no other host has", file.display())
    };
    let text = fs::read_to_string(file).map_err(|error| no(error.to_string()))?;
    let id = u128::from_str_radix(text.trim(), 16).ok().filter(|id| *id != 0);
    Ok(format!("{:032x}", of_application(id.ok_or_else(|| no("there is no id in it".to_owned()))?)))
}

/// The id of a machine as `systemd-id128 machine-id --app-specific` makes it: a hash, marked as a random UUID.
fn of_application(machine_id: u128) -> u128 {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &machine_id.to_be_bytes());
    let tag = hmac::sign(&key, &APPLICATION_ID.to_be_bytes());
    let hash = tag.as_ref().iter().take(16).fold(0u128, |hash, byte| hash << 8 | u128::from(*byte));
    let version = 0xf << 76;
    let variant = 0b11 << 62;
    hash & !version & !variant | 0x4 << 76 | 0b10 << 62
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_an_id_that_does_not_tell_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("machine-id");
        let own = "0123456789abcdef0123456789abcdef";
        fs::write(&file, format!("{own}\n")).unwrap();
        let id = id_of_machine(&file).unwrap();
        // HMAC-SHA256 of the application's id under the machine's, by Python's hmac, with the bits of a UUID set.
        assert_eq!(id, "c0d59efc3bea4679972c799d8f01fb0b");
        for bad in ["", "uninitialized\n", "00000000000000000000000000000000"] {
            fs::write(&file, bad).unwrap();
            assert!(id_of_machine(&file).unwrap_err().contains("fleet_lock"), "{bad}");
        }
    }
}
