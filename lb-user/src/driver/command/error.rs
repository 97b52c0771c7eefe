//! Why a backend that others start and stop could not be started or stopped.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use thiserror::Error;

use crate::recovery::Step;

/// Why a backend could not be started or stopped.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The program cannot be run.
    #[error("cannot run `{program}`: {source}")]
    NotRun {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// It failed.
    #[error("`{command}` failed ({status}){output}")]
    Failed {
        /// Program and arguments.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// Its last lines, with what goes before them.
        output: String,
    },
    /// It did not end.
    #[error("`{command}` did not end within {} and was killed; `timeout` of the driver says how long it may take", humantime::format_duration(*.limit))]
    TimedOut {
        /// Program and arguments.
        command: String,
        /// How long it had.
        limit: Duration,
    },
    /// It ended, and no process runs.
    #[error("`{command}` succeeded, but {source_of_pid} names no process that runs")]
    NoProcess {
        /// Program and arguments.
        command: String,
        /// Where a process id was looked for.
        source_of_pid: String,
    },
    /// It ended, and the unit is down again.
    #[error("`{command}` succeeded, but the unit did not stay up: its result is `{result}`")]
    UnitDown {
        /// Program and arguments.
        command: String,
        /// What systemd calls what went wrong.
        result: String,
    },
    /// It ended, and the process still runs.
    #[error("`{command}` succeeded, but process {pid} still runs")]
    StillRunning {
        /// Program and arguments.
        command: String,
        /// The process.
        pid: u32,
    },
    /// It ended, and the machine was not started again.
    #[error("`{command}` succeeded, but its boot id is still {id}: the machine was not started again")]
    SameBoot {
        /// Program and arguments.
        command: String,
        /// What `boot_id` prints.
        id: String,
    },
    /// It ended, and nobody tells which boot of the machine runs.
    #[error("`{command}` succeeded, but `boot_id` tells no boot of the machine: {why}")]
    NoBoot {
        /// Program and arguments.
        command: String,
        /// What was wrong the last time.
        why: String,
    },
    /// There is no command for this step.
    #[error("no command for a {0} is configured")]
    NoStep(Step),
    /// Baton's own files.
    #[error("cannot use {path}: {source}")]
    Files {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
