//! Attaching programs to interfaces through pinned links.
//!
//! A pinned link keeps its program attached without this process, and lets a later one replace the program
//! in one step. Detaching and attaching again would lose packets and, on some cards, the carrier.

use std::io;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, Xdp, XdpMode};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Dataplane;
use crate::net::netns::{NetnsError, NetnsHandle, run_in};

/// How the kernel runs the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In the interface's driver, before a socket buffer exists.
    #[default]
    Native,
    /// In the stack, for drivers without native support: slower, and works everywhere.
    Generic,
}

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpProgram {
    /// Steers packets.
    Steer,
    /// Lets every packet pass; wanted on the far end of a veth pair that native redirect sends to.
    Pass,
}

impl XdpProgram {
    /// Every program.
    pub const ALL: [Self; 2] = [Self::Steer, Self::Pass];

    /// Its name in the object and in the kernel.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Steer => "baton",
            Self::Pass => "baton_pass",
        }
    }
}

/// Where to attach.
#[derive(Clone, Debug)]
pub struct AttachPoint {
    /// The namespace of the interface, as a file to enter it by; `None` is the one that this process is in.
    pub netns: Option<PathBuf>,
    /// The interface.
    pub interface: String,
    /// The program.
    pub program: XdpProgram,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// A new link was made and pinned.
    New,
    /// The program behind an existing link was replaced in one step.
    Replaced,
}

/// Why a program could not be attached.
#[derive(Debug, Error)]
pub enum AttachError {
    /// There is no such interface.
    #[error("there is no interface `{0}`: `ip link` lists what there is")]
    NoInterface(String),
    /// Another program is there.
    #[error("another XDP program is attached to `{0}`: remove it with `ip link set dev {0} xdp off`")]
    Busy(String),
    /// The driver cannot run it.
    #[error("the driver of `{0}` cannot run XDP natively: use `--mode generic`")]
    NotNative(String),
    /// The kernel has no links for XDP.
    #[error(
        "this kernel cannot attach XDP to `{0}` through a link, so it could not be pinned; Linux 5.9 or later can"
    )]
    NoLink(String),
    /// The namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] NetnsError),
    /// The link cannot be pinned.
    #[error("cannot pin the link of `{interface}`: {message}; is bpffs mounted at /sys/fs/bpf?")]
    Pin {
        /// The interface.
        interface: String,
        /// What aya said.
        message: String,
    },
    /// Anything else.
    #[error("cannot attach to `{interface}`: {source}")]
    Other {
        /// The interface.
        interface: String,
        /// What aya said.
        source: ProgramError,
    },
}

impl Dataplane {
    /// Attaches a program and pins its link under `link` in the pin directory; a link that is pinned there
    /// already gets the new program instead.
    pub fn attach(&mut self, point: &AttachPoint, link: &str, mode: Mode) -> Result<Attached, AttachError> {
        let pin = self.pins.join(link);
        if pin.exists() && self.replace(point, &pin)? {
            return Ok(Attached::Replaced);
        }
        let netns = point.netns.as_deref();
        let program = program(&mut self.ebpf, point.program);
        let link = in_namespace(netns, || make_link(program, &point.interface, mode))??;
        link.pin(&pin).map_err(|error| AttachError::Pin {
            interface: point.interface.clone(),
            message: error.to_string(),
        })?;
        Ok(Attached::New)
    }

    /// Replaces the program of a pinned link; false if the link's interface is gone and the pin with it.
    fn replace(&mut self, point: &AttachPoint, pin: &Path) -> Result<bool, AttachError> {
        let failed = |message: String| AttachError::Pin { interface: point.interface.clone(), message };
        let pinned = PinnedLink::from_pin(pin).map_err(|error| failed(error.to_string()))?;
        let link = XdpLink::try_from(FdLink::from(pinned)).map_err(|error| failed(error.to_string()))?;
        let program = program(&mut self.ebpf, point.program);
        // aya keeps the link open in the program; only the pin may, or nobody could detach it by taking that away.
        match program.attach_to_link(link).and_then(|id| program.take_link(id)) {
            Ok(_) => Ok(true),
            Err(error) if os_error(&error) == Some(libc::ENOLINK) => {
                std::fs::remove_file(pin).map_err(|error| failed(error.to_string()))?;
                Ok(false)
            }
            Err(source) => Err(AttachError::Other { interface: point.interface.clone(), source }),
        }
    }
}

/// How often the kernel is asked to verify a program.
const LOAD_TRIES: u32 = 10;

/// Loads a program into the kernel.
///
/// Verification takes a good part of a second, and the kernel gives it up with `EAGAIN` as soon as a signal
/// is pending for the thread; whoever loads is expected to ask again.
pub(super) fn load(ebpf: &mut Ebpf, which: XdpProgram) -> Result<(), ProgramError> {
    let program = program(ebpf, which);
    for _ in 1..LOAD_TRIES {
        match program.load() {
            Err(error) if os_error(&error) == Some(libc::EAGAIN) => {}
            result => return result,
        }
    }
    program.load()
}

pub(super) fn program(ebpf: &mut Ebpf, which: XdpProgram) -> &mut Xdp {
    ebpf.program_mut(which.name())
        .and_then(|program| program.try_into().ok())
        .expect("the embedded object holds both programs; a test loads them")
}

fn make_link(program: &mut Xdp, interface: &str, mode: Mode) -> Result<FdLink, AttachError> {
    let mode = match mode {
        Mode::Native => XdpMode::Driver,
        Mode::Generic => XdpMode::Skb,
    };
    let id = program.attach(interface, mode).map_err(|error| attach_error(interface, error))?;
    let link = program.take_link(id).map_err(|error| attach_error(interface, error))?;
    // aya falls back to netlink without a word; such a link would vanish with this process.
    FdLink::try_from(link).map_err(|_: LinkError| AttachError::NoLink(interface.to_owned()))
}

fn attach_error(interface: &str, error: ProgramError) -> AttachError {
    let interface = interface.to_owned();
    if let ProgramError::UnknownInterface { .. } = error {
        return AttachError::NoInterface(interface);
    }
    match os_error(&error) {
        Some(libc::EBUSY | libc::EEXIST) => AttachError::Busy(interface),
        Some(libc::EOPNOTSUPP) => AttachError::NotNative(interface),
        _ => AttachError::Other { interface, source: error },
    }
}

/// The errno at the root of an error.
fn os_error(error: &ProgramError) -> Option<i32> {
    std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source())
        .find_map(|error| error.downcast_ref::<io::Error>())
        .and_then(io::Error::raw_os_error)
}

/// Runs `work` in a network namespace, or right here if none is named.
fn in_namespace<T: Send>(netns: Option<&Path>, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    match netns {
        Some(path) => run_in(&NetnsHandle::open(path)?, work),
        None => Ok(work()),
    }
}
