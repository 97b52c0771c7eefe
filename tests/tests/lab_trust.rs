//! Whether Baton may be left alone: rejuvenations in a row under load, with faults among them.

use std::fs;

use baton_tests::trust::{Length, assert_trusted, trial};

/// How many rounds the long trial has, and how many backends.
const ROUNDS: &str = "BATON_TRUST_ROUNDS";
const BACKENDS: &str = "BATON_TRUST_BACKENDS";
/// The file that gets its figures.
const FIGURES: &str = "BATON_TRUST_FIGURES";

#[test]
fn twenty_rejuvenations_with_a_fault_among_five_lose_nothing_but_what_was_on_the_killed() {
    let figures = trial(Length { rounds: 20, fault_every: 5, backends: 2 });
    assert_eq!(figures.faults.len(), 4, "{figures:#?}");
    assert_trusted(&figures);
}

#[test]
#[ignore = "takes as long as it is told to: cargo xtask bench trust"]
fn as_many_rejuvenations_as_wanted_lose_nothing_but_what_was_on_the_killed() {
    let number = |variable: &str| std::env::var(variable).ok()?.parse().ok();
    let rounds = number(ROUNDS).expect("rounds");
    let backends = number(BACKENDS).expect("backends") as usize;
    let figures = trial(Length { rounds, fault_every: 10, backends });
    let text = serde_json::to_string_pretty(&figures).unwrap();
    if let Ok(path) = std::env::var(FIGURES) {
        fs::write(path, text + "\n").unwrap();
    }
    assert_trusted(&figures);
}
