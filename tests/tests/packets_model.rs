//! The program against a slow reference model: random services, histories and packets, whole, cut short and with bits
//! flipped. Same verdict, same reason, same bytes, same flows, same counters.
//!
//! `BATON_PACKETS` says how many packets (100,000), `BATON_SEED` which (1). A difference prints the shortest history
//! that shows it and keeps it in a file; `BATON_REPLAY=FILE` runs that alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{env, fs};

use baton_tests::model::World;
use baton_tests::model::corpus;
use baton_tests::model::fuzz::{Finding, Runner, STEPS, judge, spreads};
use baton_tests::model::generate;
use lb_common::Reason;

fn variable<T: FromStr>(name: &str, otherwise: T) -> T {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => otherwise,
    }
}

/// Keeps a finding in a file and says all about it.
fn report(finding: &Finding, of: &str) -> ! {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(corpus::file_name(&format!("packets {of}")));
    fs::write(&file, corpus::text(&finding.history)).unwrap();
    let how = if finding.shows_alone {
        format!("BATON_REPLAY={} cargo xtask test --no-check --suite packets_model", file.display())
    } else {
        "the same run again: by itself this history does not show it".to_owned()
    };
    let steps = finding.history.steps.len();
    panic!(
        "program and model differ ({of}), after {steps} steps:\n{}\nreplay: {how}\n{}",
        finding.difference,
        corpus::text(&finding.history),
    );
}

#[test]
fn program_and_model_agree_on_random_histories() {
    if env::var_os("BATON_REPLAY").is_some() {
        return;
    }
    let (packets, seed) = (variable("BATON_PACKETS", 100_000), variable("BATON_SEED", 1_u64));
    let world = World::new();
    let mut runner = Runner::default();
    let mut reasons = BTreeSet::new();
    let mut number = seed.wrapping_mul(1_000_003);
    while runner.frames < packets {
        match judge(&mut runner, &generate::history(&world, number, STEPS)) {
            Ok(seen) => reasons.extend(seen.into_iter().flatten().map(|ran| ran.reason)),
            Err(finding) => report(&finding, &format!("seed {number} after {} packets", runner.frames)),
        }
        number = number.wrapping_add(1);
    }
    // So many packets meet every end that there is, but for those that a driver without room makes.
    if packets >= 100_000 {
        let missing: Vec<_> = Reason::ALL.iter().filter(|reason| !reasons.contains(reason.name())).collect();
        assert_eq!(missing, [&Reason::Unanswerable, &Reason::NoHeadroom]);
    }
}

#[test]
fn program_and_model_agree_on_the_corpus_which_still_shows_what_it_was_kept_for() {
    let mut runner = Runner::default();
    if let Some(path) = env::var_os("BATON_REPLAY").map(PathBuf::from) {
        let history = corpus::read(&path).unwrap();
        if let Err(finding) = judge(&mut runner, &history) {
            report(&finding, "replayed");
        }
        return;
    }
    for (path, history) in corpus::load(&corpus::directory()).unwrap() {
        let shown = match runner.run_alone(&history) {
            Ok(seen) => seen.into_iter().next_back().flatten().map(|ran| ran.to_string()),
            Err((step, difference)) => panic!("{} differs at step {step}: {difference}", path.display()),
        };
        assert!(spreads(&history) || shown.as_ref() == Some(&history.what), "{}: {shown:?}", path.display());
    }
}
