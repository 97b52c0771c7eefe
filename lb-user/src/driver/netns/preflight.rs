//! What has to hold before a network can be made: rights, kernel and tools. Whatever is missing is told at
//! once, each with its remedy, before anything on the host has changed.

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use thiserror::Error;
use tokio::runtime::Builder;

use super::firewall;
use super::outcome::StepError;
use super::rooms::Room;
use crate::net::mac::Mac;
use crate::net::netlink::VethEnd;
use crate::net::netns::{NetnsError, NetnsHandle, run_in};
use crate::net::nft::{self, NftError};
use crate::net::offload::{self, OffloadError};
use crate::paths::Roots;

/// Bits of `/proc/PID/status`, from linux/capability.h.
const CAPABILITIES: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_SYS_ADMIN", 21), ("CAP_BPF", 39)];

/// Before Linux 5.8 there was no `CAP_BPF`; what it allows was part of `CAP_SYS_ADMIN`.
const CAP_LAST: &str = "/proc/sys/kernel/cap_last_cap";

/// One thing that is missing.
#[derive(Debug, Error)]
pub enum Problem {
    /// The process may not do what it has to.
    #[error("{missing} missing: run as root, for example with `sudo`")]
    Rights {
        /// The capabilities, by name.
        missing: String,
    },
    /// Maps and programs cannot be pinned.
    #[error("no BPF file system at {path}, and none can be mounted ({source}): `mount -t bpf bpf {path}`")]
    Bpffs {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Network namespaces do not work.
    #[error("network namespaces do not work here ({0}): a kernel with CONFIG_NET_NS is needed")]
    Namespaces(NetnsError),
    /// veth pairs do not work.
    #[error("veth pairs do not work here ({0}): `modprobe veth`, or a kernel with CONFIG_VETH, is needed")]
    Veth(StepError),
    /// Offloads cannot be switched.
    #[error(transparent)]
    Offload(OffloadError),
    /// nftables does not work.
    #[error("{source}{}", nft_remedy(.source))]
    Nft {
        /// What it said.
        source: NftError,
    },
}

/// All that is missing.
#[derive(Debug, Error)]
#[error("{}", list(.problems))]
pub struct PreflightError {
    /// At least one problem, in order of the checks.
    pub problems: Vec<Problem>,
}

/// Checks rights, kernel and tools, in namespaces of its own. Mounts the BPF file system if it is missing.
pub async fn preflight(roots: &Roots) -> Result<(), PreflightError> {
    let mut problems: Vec<Problem> = check_rights().err().into_iter().collect();
    // Without the rights everything else fails as well, and says nothing of the kernel.
    if problems.is_empty() {
        problems.extend(check_bpffs(roots).err());
        problems.extend(check_network().await.err());
    }
    if problems.is_empty() { Ok(()) } else { Err(PreflightError { problems }) }
}

fn check_rights() -> Result<(), Problem> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let last = fs::read_to_string(CAP_LAST).ok().and_then(|text| text.trim().parse().ok());
    let missing = missing_capabilities(&status, last.unwrap_or(u32::MAX));
    if missing.is_empty() { Ok(()) } else { Err(Problem::Rights { missing: missing.join(", ") }) }
}

fn missing_capabilities(status: &str, last: u32) -> Vec<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    let missing = |(_, bit): &&(&str, u32)| *bit <= last && effective & (1 << bit) == 0;
    CAPABILITIES.iter().filter(missing).map(|(name, _)| *name).collect()
}

fn check_bpffs(roots: &Roots) -> Result<(), Problem> {
    let is_bpffs = |path: &Path| statfs(path).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC);
    // The directory itself may be missing still; a file system is told by what is above it.
    if roots.bpf.ancestors().find(|path| path.exists()).is_some_and(is_bpffs) {
        return Ok(());
    }
    let path = roots.bpf.parent().unwrap_or(&roots.bpf);
    mount(Some("bpf"), path, Some("bpf"), MsFlags::empty(), None::<&str>)
        .map_err(|errno| Problem::Bpffs { path: path.to_owned(), source: errno.into() })
}

/// Tries in two namespaces without names, which vanish with their handles.
async fn check_network() -> Result<(), Problem> {
    let one = NetnsHandle::anonymous().map_err(Problem::Namespaces)?;
    let other = NetnsHandle::anonymous().map_err(Problem::Namespaces)?;
    let room = Room::enter(one).map_err(Problem::Veth)?;
    let end = |name, last| VethEnd { name, mac: Mac::local_for(Ipv4Addr::new(0, 0, 0, last)) };
    let made = room.netlink.add_veth(end("near", 1), end("far", 2), &other, 1500).await;
    made.map_err(|error| Problem::Veth(error.into()))?;
    run_in(&room.netns, || offload::disable_tx_checksum("near"))
        .map_err(Problem::Namespaces)?
        .map_err(Problem::Offload)?;
    run_in(&room.netns, try_nft).map_err(Problem::Namespaces)?.map_err(|source| Problem::Nft { source })
}

/// Loads a table such as services have. `nft` works on the namespace of the thread that starts it.
fn try_nft() -> Result<(), NftError> {
    let vip = Ipv4Addr::new(192, 0, 2, 1);
    let script = firewall::rules("baton", vip, vip.into(), &[1]);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(nft::apply("a table for trial", &script))
}

fn nft_remedy(error: &NftError) -> &'static str {
    match error {
        NftError::Refused { .. } => {
            "; a kernel with nf_tables, NAT and connection tracking is needed (CONFIG_NFT_NAT, CONFIG_NFT_MASQ, \
             CONFIG_NFT_CT)"
        }
        _ => "",
    }
}

fn list(problems: &[Problem]) -> String {
    let mut text = String::new();
    for (number, problem) in problems.iter().enumerate() {
        let _ = write!(text, "{}{problem}", if number == 0 { "" } else { "; " });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_capability_is_named() {
        assert_eq!(missing_capabilities("CapEff:\t000001ffffffffff\n", 40), [""; 0]);
        assert_eq!(missing_capabilities("CapEff:\t0000000000201000\n", 40), ["CAP_BPF"]);
        assert_eq!(missing_capabilities("CapEff:\t0000000000201000\n", 37), [""; 0], "an old kernel");
        assert_eq!(missing_capabilities("", 40), ["CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_BPF"]);
    }
}
