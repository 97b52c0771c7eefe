//! Searches for `cargo xtask fuzz packet`: random histories through the program and the reference model.
//!
//! Needs root. What it has found goes to its output as JSON, how it gets on to its errors.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use baton_tests::model::corpus::{file_name, load, text};
use baton_tests::model::fuzz::search;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

/// Searches for packets on which Baton's program and its model differ
#[derive(Parser)]
struct Cli {
    /// Histories to begin with
    #[arg(long, value_name = "DIRECTORY")]
    corpus: PathBuf,
    /// How long
    #[arg(long)]
    seconds: u64,
    /// Which histories; a new seed each time by default
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> Result<()> {
    let Cli { corpus, seconds, seed } = Cli::parse();
    let seed = seed.unwrap_or_else(|| SmallRng::from_os_rng().random_range(0..1 << 32));
    let known = load(&corpus).with_context(|| format!("cannot read the corpus in {}", corpus.display()))?;
    let bar = ProgressBar::new(seconds);
    // The template is a constant; the plain bar would do as well.
    if let Ok(style) = ProgressStyle::with_template("{bar:30.cyan/dim} {pos:>3}/{len} s  {wide_msg}") {
        bar.set_style(style);
    }
    let start = Instant::now();
    let report = search(known.into_iter().map(|(_, history)| history).collect(), seed, |report| {
        bar.set_position(start.elapsed().as_secs());
        bar.set_message(format!("{} packets, {} things seen", report.frames, report.seen.len()));
        start.elapsed() >= Duration::from_secs(seconds)
    });
    bar.finish_and_clear();
    let kept: Vec<_> = report
        .kept
        .iter()
        .map(|history| json!({ "file": file_name(&history.what), "text": text(history) }))
        .collect();
    let dropped: Vec<_> = report.dropped.iter().map(|history| file_name(&history.what)).collect();
    let finding = report.finding.map(|finding| {
        json!({
            "what": finding.difference.to_string(),
            "steps": finding.history.steps.len(),
            "shows_alone": finding.shows_alone,
            "text": text(&finding.history),
        })
    });
    let document = json!({
        "seed": seed,
        "seconds": start.elapsed().as_secs_f64(),
        "histories": report.histories,
        "packets": report.frames,
        "seen": report.seen.len(),
        "kept": kept,
        "dropped": dropped,
        "finding": finding,
    });
    println!("{document}");
    Ok(())
}
