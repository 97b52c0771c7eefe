//! nftables through `nft`, which is the one interface that its project keeps stable for programs.

use std::io;
use std::process::{Output, Stdio};
use std::time::Duration;

use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// `nft` answers in milliseconds; a host with huge rule sets may take longer.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why `nft` could not do its work.
#[derive(Debug, Error)]
pub enum NftError {
    /// The command is not installed.
    #[error("`nft` is not installed: `apt-get install nftables` (or your distribution's package)")]
    NotInstalled,
    /// It did not answer.
    #[error("`nft` did not answer within {} s", DEADLINE.as_secs())]
    Deadline,
    /// It could not be run.
    #[error("run `nft`: {0}")]
    Run(#[from] io::Error),
    /// It refused.
    #[error("nft refused {what}: {message}")]
    Refused {
        /// What was asked of it.
        what: String,
        /// The first line of its answer.
        message: String,
    },
    /// Its answer could not be read.
    #[error("read the answer of `nft`: {0}")]
    Answer(#[from] serde_json::Error),
}

/// Applies a script in one transaction: all of it or nothing. `what` names it in errors.
pub async fn apply(what: &str, script: &str) -> Result<(), NftError> {
    run(what, &["-f", "-"], script).await.map(drop)
}

/// True if the table exists in family `ip`.
pub async fn has_table(table: &str) -> Result<bool, NftError> {
    let ruleset = json("the list of tables", &["list", "tables", "ip"]).await?;
    Ok(objects(&ruleset, "table").any(|found| found["name"] == table))
}

/// Removes a table of family `ip`; true if there was one.
pub async fn delete_table(table: &str) -> Result<bool, NftError> {
    if !has_table(table).await? {
        return Ok(false);
    }
    run(&format!("removing table {table}"), &["delete", "table", "ip", table], "").await?;
    Ok(true)
}

/// The chains that drop what is forwarded unless a rule accepts it, as `family table chain`.
pub async fn forward_chains_that_drop() -> Result<Vec<String>, NftError> {
    let ruleset = json("the list of chains", &["list", "chains"]).await?;
    let named = |chain: &serde_json::Value| {
        let part = |key: &str| chain[key].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", part("family"), part("table"), part("name"))
    };
    Ok(objects(&ruleset, "chain")
        .filter(|chain| chain["hook"] == "forward" && chain["policy"] == "drop")
        .filter(|chain| chain["family"] == "ip" || chain["family"] == "inet")
        .map(named)
        .collect())
}

async fn json(what: &str, arguments: &[&str]) -> Result<serde_json::Value, NftError> {
    let arguments: Vec<&str> = std::iter::once("-j").chain(arguments.iter().copied()).collect();
    let output = run(what, &arguments, "").await?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn objects<'a>(
    ruleset: &'a serde_json::Value,
    kind: &'a str,
) -> impl Iterator<Item = &'a serde_json::Value> + 'a {
    ruleset["nftables"].as_array().into_iter().flatten().filter_map(move |object| object.get(kind))
}

async fn run(what: &str, arguments: &[&str], input: &str) -> Result<Output, NftError> {
    let mut command = Command::new("nft");
    command.args(arguments).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => NftError::NotInstalled,
        _ => NftError::Run(error),
    })?;
    let mut stdin = child.stdin.take();
    let answered = timeout(DEADLINE, async {
        if let Some(mut stdin) = stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        child.wait_with_output().await
    });
    let output = answered.await.map_err(|_| NftError::Deadline)??;
    if output.status.success() {
        return Ok(output);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let message = text.lines().next().unwrap_or("no reason given").to_owned();
    Err(NftError::Refused { what: what.to_owned(), message })
}
