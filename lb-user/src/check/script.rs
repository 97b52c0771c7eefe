//! The check by a command of the operator's; whatever it leaves in the background is killed when it ends.

use std::fmt::Write;
use std::time::Duration;

use super::kind::ScriptCheck;
use super::{Target, excerpt};
use crate::net::netns::NetnsHandle;
use crate::program::{Ended, Failure, Job, Leaves, Subject};
use crate::recovery::Finding;

/// Runs the command inside `netns`.
pub(super) async fn ask(
    check: &ScriptCheck,
    netns: &NetnsHandle,
    target: &Target,
    limit: Duration,
) -> Result<(), Finding> {
    let Target { address, service, backend } = target.clone();
    let job = Job {
        command: &check.command,
        subject: &Subject { service, backend, address },
        variables: &[],
        input: &[],
        leaves: Leaves::Nothing,
        netns: Some(netns),
        limit,
    };
    match job.run().await {
        Ok(ended) => verdict(&ended),
        Err(Failure::TimedOut) => Err(Finding::TimedOut),
        Err(Failure::NotRun(error)) => {
            let program = check.command.first().map_or("", String::as_str);
            Err(Finding::Unchecked(format!("{program}: {error}")))
        }
    }
}

fn verdict(ended: &Ended) -> Result<(), Finding> {
    if ended.status.success() {
        return Ok(());
    }
    let mut what = ended.in_words();
    let said = ended.output.trim_ascii();
    if !said.is_empty() {
        let _ = write!(what, ": {}", excerpt(said));
    }
    Err(Finding::WrongAnswer(what))
}
