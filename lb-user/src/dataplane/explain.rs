//! Where a packet would go, and why: the program itself is asked, in a copy that leaves no trace.
//!
//! What always holds:
//! - The copy is loaded on the pinned maps and attached nowhere. It is told at load that it may change
//!   nothing, and the verifier takes all that would out of it.
//! - An answer counts only if the copy is of the same instructions as what is attached
//!   ([`Explainer::ensure_same`]).

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::maps::{Array, MapData, MapError};
use aya::programs::ProgramError;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::loaded_programs;
use lb_common::{Backend, BackendId, Explanation, Reason, ServiceId, Steer};
use thiserror::Error;

use super::flows::{FlowRecord, clock_ticks};
use super::run::{Outcome, RunError, run};
use super::{FlowView, OpenError, XdpProgram, attach, missing, object, view};

/// The program, asked where packets would go.
pub struct Explainer {
    ebpf: Ebpf,
    view: FlowView,
    pins: PathBuf,
}

/// What would become of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Why.
    pub reason: Reason,
    /// The service that it is for.
    pub service: Option<ServiceId>,
    /// Where the service's flows went a moment later.
    pub steering: Option<Steer>,
    /// The backend that it would go to, or comes from.
    pub backend: Option<(BackendId, Backend)>,
    /// Interface that it would leave by, in the namespace of the program; `None` if the program would leave
    /// it to the stack, or drop it.
    pub ifindex: Option<u32>,
    /// Its flow, as the table has it; `None` if it has no entry, or was not looked for.
    pub flow: Option<FlowRecord>,
    /// What the program returned, and the frame as it left it.
    pub outcome: Outcome,
}

/// Why a packet could not be explained.
#[derive(Debug, Error)]
pub enum ExplainError {
    /// The data plane cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The copy could not be run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A map could not be read.
    #[error("map {name}: {source}")]
    Map {
        /// The map's name.
        name: &'static str,
        /// What aya said.
        source: MapError,
    },
    /// A pinned link could not be read.
    #[error("cannot read the link {path}: {message}")]
    Link {
        /// Where it is pinned.
        path: PathBuf,
        /// What was said.
        message: String,
    },
    /// The kernel does not tell about the copy.
    #[error("the kernel tells nothing about the program: {0}")]
    Program(#[source] ProgramError),
    /// Nothing is attached.
    #[error("no program is attached through the links in {0}: packets are not steered at all")]
    NotAttached(PathBuf),
    /// Another build is attached.
    #[error(
        "the program that {path} attaches is of another build of Baton (tag {attached:016x}, this one's is \
         {own:016x}): what this one would do says nothing about it; ask the `baton` that runs the service"
    )]
    OtherBuild {
        /// The pinned link.
        path: PathBuf,
        /// The tag of the program behind it.
        attached: u64,
        /// The tag of the embedded program.
        own: u64,
    },
    /// The program said nothing, which it never does.
    #[error("the program gave no explanation")]
    Silent,
}

impl Explainer {
    /// Loads a copy of the program on the maps that are pinned in `pins`.
    pub fn open(pins: &Path) -> Result<Self, ExplainError> {
        let settings = view::pinned(pins)?;
        let mut ebpf = object::load(pins, &settings, object::Traces::None)?;
        attach::load(&mut ebpf, XdpProgram::Steer).map_err(|error| OpenError::Load(error.into()))?;
        Ok(Self { ebpf, view: FlowView::open(pins)?, pins: pins.to_owned() })
    }

    /// An error unless each steering program that is attached through the pinned links has the same
    /// instructions as the copy, and there is one.
    pub fn ensure_same(&mut self) -> Result<(), ExplainError> {
        let own = attach::program(&mut self.ebpf, XdpProgram::Steer);
        let own = own.info().map_err(ExplainError::Program)?.tag();
        // Programs that end while they are listed are no failure; those behind links do not end.
        let programs: Vec<_> = loaded_programs().filter_map(Result::ok).collect();
        let mut attached = Vec::new();
        for (path, id) in self.links()? {
            let Some(program) = programs.iter().find(|program| program.id() == id) else {
                return Err(ExplainError::Link { path, message: format!("its program {id} is not there") });
            };
            if program.name_as_str() == Some(XdpProgram::Steer.name()) {
                attached.push((path, program.tag()));
            }
        }
        ensure_one_tag(own, attached, &self.pins)
    }

    /// The pinned links with the ids of their programs, in order.
    fn links(&self) -> Result<Vec<(PathBuf, u32)>, ExplainError> {
        let failed = |path: &Path, message: String| ExplainError::Link { path: path.to_owned(), message };
        let entries = fs::read_dir(&self.pins).map_err(|error| failed(&self.pins, error.to_string()))?;
        let mut links = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failed(&self.pins, error.to_string()))?;
            if !entry.file_name().to_string_lossy().starts_with("link") {
                continue;
            }
            let path = entry.path();
            let program = || -> Result<u32, LinkError> {
                Ok(FdLink::from(PinnedLink::from_pin(&path)?).info()?.program_id())
            };
            let program = program().map_err(|error| failed(&path, error.to_string()))?;
            links.push((path, program));
        }
        links.sort();
        Ok(links)
    }

    /// Where `frame`, which comes from `from`, would go if it came in at this moment.
    pub fn explain(&mut self, frame: &[u8], from: SocketAddr) -> Result<Answer, ExplainError> {
        let refused = |source| ExplainError::Map { name: "EXPLANATION", source };
        self.array::<Explanation>("EXPLANATION")?.set(0, Explanation::default(), 0).map_err(refused)?;
        let outcome = run(attach::program(&mut self.ebpf, XdpProgram::Steer), frame)?;
        let told = self.array::<Explanation>("EXPLANATION")?.get(&0, 0).map_err(refused)?;
        let reason = told.reason().ok_or(ExplainError::Silent)?;
        let backend = match told.backend() {
            Some(id) => Some((id, self.backend(id)?)),
            None => None,
        };
        let service = told.service();
        Ok(Answer {
            reason,
            service,
            steering: service.map(|service| self.view.steering(service)),
            backend,
            ifindex: Some(told.ifindex).filter(|index| *index != 0),
            flow: told.flow().map(|flow| FlowRecord::of(&flow, Some(from), service, clock_ticks())),
            outcome,
        })
    }

    fn backend(&mut self, id: BackendId) -> Result<Backend, ExplainError> {
        let refused = |source| ExplainError::Map { name: "BACKENDS", source };
        self.array::<Backend>("BACKENDS")?.get(&u32::from(id), 0).map_err(refused)
    }

    fn array<V: aya::Pod>(&mut self, name: &'static str) -> Result<Array<&mut MapData, V>, ExplainError> {
        let refused = |source| ExplainError::Map { name, source };
        self.ebpf.map_mut(name).ok_or_else(|| refused(missing(name)))?.try_into().map_err(refused)
    }
}

fn ensure_one_tag(own: u64, attached: Vec<(PathBuf, u64)>, pins: &Path) -> Result<(), ExplainError> {
    if attached.is_empty() {
        return Err(ExplainError::NotAttached(pins.to_owned()));
    }
    match attached.into_iter().find(|(_, tag)| *tag != own) {
        Some((path, attached)) => Err(ExplainError::OtherBuild { path, attached, own }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_program_of_the_same_build_is_spoken_for() {
        let pins = Path::new("/pins");
        let attached =
            |tags: &[u64]| tags.iter().map(|tag| (pins.join(format!("link-{tag}")), *tag)).collect();
        assert!(ensure_one_tag(7, attached(&[7, 7]), pins).is_ok());
        let none = ensure_one_tag(7, attached(&[]), pins);
        assert!(matches!(none, Err(ExplainError::NotAttached(path)) if path == pins));
        let other = ensure_one_tag(7, attached(&[7, 8]), pins).unwrap_err().to_string();
        assert!(other.contains("/pins/link-8") && other.contains("tag 0000000000000008"), "{other}");
    }
}
