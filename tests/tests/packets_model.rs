//! The program against a slow reference model: random services, histories and packets, whole, cut short and with bits
//! flipped. Same verdict, same reason, same bytes, same flows, same counters.
//!
//! `BATON_PACKETS` says how many packets (100,000), `BATON_SEED` which (1). A difference prints the shortest history
//! that shows it and keeps it in a file; `BATON_REPLAY=FILE` runs that alone.

use std::env;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use baton_tests::model::corpus;
use baton_tests::model::fuzz::{Finding, Runner, STEPS, judge};
use baton_tests::model::generate;
use baton_tests::model::{Ran, World};

fn variable<T: FromStr>(name: &str, otherwise: T) -> T {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => otherwise,
    }
}

/// Keeps a finding in a file and says all about it.
fn report(finding: &Finding, of: &str) -> ! {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(corpus::file_name(&format!("packets {of}")));
    corpus::write(&file, &finding.history).unwrap();
    let how = if finding.shows_alone {
        format!("BATON_REPLAY={} cargo xtask test --no-check --suite packets_model", file.display())
    } else {
        "the same run again: by itself this history does not show it".to_owned()
    };
    let steps = finding.history.steps.len();
    panic!(
        "program and model differ ({of}), after {steps} steps:\n{}\nreplay: {how}\n{}",
        finding.difference,
        std::fs::read_to_string(&file).unwrap(),
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
    for number in 0.. {
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(number);
        if let Err(finding) = judge(&mut runner, &generate::history(&world, seed, STEPS)) {
            report(&finding, &format!("seed {seed} after {} packets", runner.frames));
        }
        if runner.frames >= packets {
            break;
        }
    }
    println!("{} packets", runner.frames);
}

fn replay(runner: &mut Runner, path: &Path) -> Vec<Option<Ran>> {
    let history = corpus::read(path).unwrap();
    match judge(runner, &history) {
        Ok(seen) => seen,
        Err(finding) => report(&finding, &path.display().to_string()),
    }
}

#[test]
fn program_and_model_agree_on_the_corpus_which_still_shows_what_it_was_kept_for() {
    if let Some(path) = env::var_os("BATON_REPLAY") {
        replay(&mut Runner::default(), &PathBuf::from(path));
        return;
    }
    let mut runner = Runner::default();
    for (path, history) in corpus::load(&corpus::directory()).unwrap() {
        let last = replay(&mut runner, &path).pop().flatten().map(|ran| ran.to_string());
        assert_eq!(last, Some(history.what), "{}", path.display());
    }
}
