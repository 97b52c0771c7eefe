//! The loaded programs themselves: what they cost the verifier, and a handle to call them by.

use aya::programs::{ProgramError, ProgramFd, Xdp};
use serde::Serialize;

use super::{Dataplane, XdpProgram};

/// A program as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProgramFacts {
    /// Its name.
    pub name: &'static str,
    /// Instructions that the verifier walked through, along all paths, until it was satisfied; the kernel
    /// gives up at a million. 0 if the kernel does not say (before Linux 5.16).
    pub verified_instructions: u32,
    /// Instructions that it has, after the kernel's own changes.
    pub instructions: u32,
    /// Bytes of machine code; 0 if it is interpreted.
    pub jited_bytes: u32,
}

impl Dataplane {
    /// What the kernel says of each loaded program.
    pub fn programs(&self) -> Result<Vec<ProgramFacts>, ProgramError> {
        /// Bytes of an instruction (RFC 9669, section 3).
        const INSTRUCTION_BYTES: u32 = 8;
        XdpProgram::ALL
            .iter()
            .map(|which| {
                let info = self.loaded(*which)?.info()?;
                Ok(ProgramFacts {
                    name: which.name(),
                    verified_instructions: info.verified_instruction_count().unwrap_or_default(),
                    instructions: info.size_translated().unwrap_or_default() / INSTRUCTION_BYTES,
                    jited_bytes: info.size_jitted(),
                })
            })
            .collect()
    }

    /// A handle to a loaded program, for an array of programs that others call it through.
    pub fn program_fd(&self, which: XdpProgram) -> Result<&ProgramFd, ProgramError> {
        self.loaded(which)?.fd()
    }

    fn loaded(&self, which: XdpProgram) -> Result<&Xdp, ProgramError> {
        self.ebpf.program(which.name()).ok_or(ProgramError::NotLoaded)?.try_into()
    }
}
