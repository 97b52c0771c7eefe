//! `baton reload`: makes a controller read its configuration again.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::Args;

use super::out::say;
use super::run::PLANE;
use super::runtime;
use crate::api::client::{self, ClientError};
use crate::names::PlaneName;
use crate::paths::Roots;

/// A service that becomes another one waits for its network for less than this.
const LIMIT: Duration = Duration::from_mins(3);

/// Makes the controller read its configuration again, and says what has changed.
///
/// A file that is not right is refused with all that is wrong with it, and the configuration before goes on.
#[derive(Debug, Args)]
pub(super) struct ReloadArgs {
    /// Name of the data plane.
    #[arg(long, value_name = "NAME", default_value = PLANE)]
    plane: PlaneName,
}

impl ReloadArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let socket = Roots::default().plane(&self.plane).socket();
        let asked = runtime()?.block_on(client::post::<String>(&socket, "/v1/reload", LIMIT));
        let summary = asked.map_err(|error| match error {
            ClientError::NotRunning => {
                anyhow!("no controller of data plane {} is running; `baton run` starts one", self.plane)
            }
            ClientError::Ending | ClientError::Broken(_) => {
                anyhow!("the controller ended before it answered; the next `baton run` reads the file as it is then")
            }
            error => anyhow!("{error}"),
        })?;
        say!("{summary}");
        Ok(ExitCode::SUCCESS)
    }
}
