//! A row of named steps: each says its name, the time it took and, when it fails, how to run it alone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Runs one step. `alone` is the command that repeats it and nothing else.
pub(crate) fn step<T>(name: &str, alone: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("==> {name}");
    let start = Instant::now();
    let result = work();
    let took = seconds(start.elapsed());
    match result {
        Ok(value) => {
            println!("    {name}: ok, {took}\n");
            Ok(value)
        }
        Err(error) => {
            println!("    {name}: failed after {took}\n");
            Err(error).with_context(|| format!("{name} failed; to run it alone: {alone}"))
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_says_how_to_run_it_alone() {
        let error =
            step::<()>("docs", "cargo xtask check docs", || anyhow::bail!("a broken link")).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "docs failed; to run it alone: cargo xtask check docs: a broken link"
        );
    }
}
