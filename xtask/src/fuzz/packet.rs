//! `cargo xtask fuzz packet`: builds the search, runs it as root, keeps what it found.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use crate::setup::{self, Scope};
use crate::{cargo, privilege, run as processes, workspace};

/// Where the corpus is, from the workspace's root.
const CORPUS: &str = "tests/corpus/packets";

/// Random packets through the XDP program and a slow reference model of it, which must agree.
///
/// Histories that show something for the first time (a reason, a verdict, a change of a flow's state, by mode and
/// protocol) join the corpus in tests/corpus/packets, up to 200; `cargo xtask test` replays them. If it is full, a
/// history of which others show all makes room. Exits with 1 if program and model differ, and says how to replay the
/// shortest history that shows it. Needs root.
#[derive(Args, Debug)]
pub(crate) struct PacketArgs {
    /// How long to search.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Search the same histories again; new ones by default.
    #[arg(long)]
    seed: Option<u64>,
    /// Write what was found to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What the search prints.
#[derive(Debug, Deserialize)]
struct Report {
    seed: u64,
    seconds: f64,
    histories: u64,
    packets: u64,
    seen: u64,
    kept: Vec<Kept>,
    /// Files of the corpus that show nothing any longer that others do not show.
    dropped: Vec<String>,
    finding: Option<Finding>,
}

/// A history for the corpus.
#[derive(Debug, Deserialize)]
struct Kept {
    file: String,
    text: String,
}

/// A history on which program and model differ.
#[derive(Debug, Deserialize)]
struct Finding {
    what: String,
    steps: u64,
    shows_alone: bool,
    text: String,
}

pub(super) fn run(args: &PacketArgs) -> Result<ExitCode> {
    setup::ensure(Scope::Kernel)?;
    let built = cargo::build(&["--package", "baton-tests", "--bin", "packet-fuzz"])?;
    let mut search = privilege::as_root(built.executable("packet-fuzz")?, "load XDP programs and run them")?;
    let corpus = workspace().join(CORPUS);
    search.arg("--corpus").arg(&corpus).arg("--seconds").arg(args.seconds.to_string());
    if let Some(seed) = args.seed {
        search.arg("--seed").arg(seed.to_string());
    }
    println!("$ {}", processes::shown(&search));
    let printed = processes::capture(&mut search)?;
    let document: Value = serde_json::from_str(&printed).context("cannot read what the search printed")?;
    let report = Report::deserialize(&document).context("the search has printed something else")?;
    if let Some(file) = &args.json {
        write(file, &(serde_json::to_string_pretty(&document)? + "\n"))?;
    }
    for file in &report.dropped {
        let path = corpus.join(file);
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        println!("no longer needed in the corpus: {CORPUS}/{file}");
    }
    for kept in &report.kept {
        write(&corpus.join(&kept.file), &kept.text)?;
        println!("new in the corpus: {CORPUS}/{}", kept.file);
    }
    println!(
        "seed {}: {} packets in {} histories and {:.0} s, {} things seen, {} of them new in the corpus",
        report.seed,
        report.packets,
        report.histories,
        report.seconds,
        report.seen,
        report.kept.len(),
    );
    match &report.finding {
        None => Ok(ExitCode::SUCCESS),
        Some(finding) => say(finding, report.seed),
    }
}

fn say(finding: &Finding, seed: u64) -> Result<ExitCode> {
    let file = cargo::target_dir().join(format!("packets-fuzz-{seed}.json"));
    write(&file, &finding.text)?;
    println!("program and model differ, after {} steps:\n{}", finding.steps, finding.what);
    if finding.shows_alone {
        let replay = "cargo xtask test --no-check --suite packets_model";
        println!("replay it: BATON_REPLAY={} {replay}", file.display());
    } else {
        println!("{} does not show it by itself: search again with --seed {seed}", file.display());
    }
    Ok(ExitCode::FAILURE)
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_is_read_with_and_without_a_finding() {
        let mut document = json!({
            "seed": 7, "seconds": 1.5, "histories": 2, "packets": 800, "seen": 9,
            "kept": [{ "file": "a.json", "text": "{}" }], "dropped": ["b.json"], "finding": null,
        });
        assert!(Report::deserialize(&document).unwrap().finding.is_none());
        document["finding"] = json!({ "what": "w", "steps": 3, "shows_alone": true, "text": "{}" });
        assert_eq!(Report::deserialize(&document).unwrap().finding.map(|finding| finding.steps), Some(3));
        assert!(Report::deserialize(&json!({ "seed": 7 })).is_err());
    }
}
