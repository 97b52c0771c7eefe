//! `baton detach`: removes what `baton attach --pin` left.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::out::say;
use crate::dataplane::unload;

/// Detaches the XDP program that `baton attach --pin` left on an interface.
#[derive(Debug, Args)]
pub(super) struct DetachArgs {
    /// The interface.
    #[arg(long, value_name = "IF")]
    iface: String,
}

impl DetachArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let pins = super::attach::pins(&self.iface);
        ensure!(
            pins.exists(),
            "nothing of Baton is pinned for `{}`: {} is not there",
            self.iface,
            pins.display()
        );
        unload(&pins).with_context(|| format!("cannot remove {}", pins.display()))?;
        say!("detached from {}", self.iface);
        Ok(ExitCode::SUCCESS)
    }
}
