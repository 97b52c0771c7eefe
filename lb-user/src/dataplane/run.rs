//! Running the loaded program on one frame (`BPF_PROG_TEST_RUN`): its real answer, with its real maps.

use aya::programs::{ProgramError, TestRun, TestRunOptions, Xdp};
use thiserror::Error;

use super::{Dataplane, XdpProgram, attach};

/// What the program returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpAction {
    /// The program failed, or a redirect was refused.
    Aborted,
    /// The frame is discarded.
    Drop,
    /// The frame goes to the stack.
    Pass,
    /// The frame leaves through the interface that it came in by.
    Tx,
    /// The frame leaves through another interface.
    Redirect,
}

/// What the program did with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What it returned.
    pub action: XdpAction,
    /// The frame as it left it.
    pub frame: Vec<u8>,
}

/// Why the program could not be run.
#[derive(Debug, Error)]
pub enum RunError {
    /// The kernel refused.
    #[error("the kernel cannot run the program on a frame: {0}")]
    Refused(#[from] ProgramError),
    /// The kernel knows an action that this build does not.
    #[error("the program returned {0}, which is no XDP action")]
    UnknownAction(u32),
}

impl Dataplane {
    /// Runs the steering program on `frame` (14 to about 3,500 bytes) as if it came in by the loopback
    /// interface. Flows and counters change as they would for a real frame.
    pub fn run(&mut self, frame: &[u8]) -> Result<Outcome, RunError> {
        run(attach::program(&mut self.ebpf, XdpProgram::Steer), frame)
    }
}

/// Runs a program on a frame.
pub(super) fn run(program: &mut Xdp, frame: &[u8]) -> Result<Outcome, RunError> {
    let mut out = vec![0; frame.len() + 256];
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        ..TestRunOptions::new()
    })?;
    out.truncate(result.data_size_out as usize);
    let action = match result.return_value {
        0 => XdpAction::Aborted,
        1 => XdpAction::Drop,
        2 => XdpAction::Pass,
        3 => XdpAction::Tx,
        4 => XdpAction::Redirect,
        other => return Err(RunError::UnknownAction(other)),
    };
    Ok(Outcome { action, frame: out })
}
