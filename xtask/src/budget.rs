//! What the XDP programs may cost the kernel's verifier, which gives up at a million instructions.
//!
//! `lb-ebpf/budget.toml` says what each program cost when somebody last looked. A change that makes one of
//! them dearer by more than a tenth is then a decision and not an accident.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::{cargo, privilege, run, workspace};

/// Where the budget is kept.
const FILE: &str = "lb-ebpf/budget.toml";
/// How much dearer a program may become, in percent.
const SLACK_PERCENT: u64 = 10;
/// How the budget is renewed.
pub(crate) const RENEW: &str = "cargo xtask check budget --update-budget";

/// What the programs may cost.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    /// Release of the kernel that counted.
    kernel: String,
    /// By the programs' names.
    verified_instructions: BTreeMap<String, u64>,
}

/// What `packet-bench programs` prints.
#[derive(Deserialize)]
struct Loaded {
    programs: Vec<Program>,
}

#[derive(Deserialize)]
struct Program {
    name: String,
    verified_instructions: u64,
}

/// Holds the programs against the budget.
pub(crate) fn check() -> Result<()> {
    let path = workspace().join(FILE);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let budget: Budget = toml::from_str(&text).with_context(|| format!("cannot read {FILE}"))?;
    let costs = costs()?;
    for (program, cost) in &costs {
        println!("{program}: {cost} verified instructions");
    }
    let findings = findings(&budget, &costs);
    ensure!(findings.is_empty(), "{}; if that is meant: {RENEW}", findings.join("; "));
    Ok(())
}

/// Makes what the programs cost now their budget.
pub(crate) fn renew() -> Result<()> {
    let release =
        fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot read the kernel's release")?;
    let series: Vec<&str> = release.trim().splitn(3, ['.', '-']).take(2).collect();
    let budget = Budget { kernel: series.join("."), verified_instructions: costs()? };
    let path = workspace().join(FILE);
    fs::write(&path, budget.shown()).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {FILE}");
    Ok(())
}

/// Loads the programs and asks the kernel what they cost its verifier.
fn costs() -> Result<BTreeMap<String, u64>> {
    let built = cargo::build(&["--package", "baton-tests", "--bin", "packet-bench"])?;
    let mut bench = privilege::as_root(built.executable("packet-bench")?, "load the XDP programs")?;
    let found = run::capture(bench.arg("programs"))?;
    let Loaded { programs } = serde_json::from_str(&found).context("cannot read what the kernel says")?;
    Ok(programs.into_iter().map(|program| (program.name, program.verified_instructions)).collect())
}

fn findings(budget: &Budget, costs: &BTreeMap<String, u64>) -> Vec<String> {
    let budgets = &budget.verified_instructions;
    let mut findings = Vec::new();
    for (program, cost) in costs {
        match budgets.get(program) {
            None => findings.push(format!("the program `{program}` has no budget in {FILE}")),
            Some(allowed) if cost * 100 > allowed * (100 + SLACK_PERCENT) => findings.push(format!(
                "the verifier walks {cost} instructions of the program `{program}`, more than {SLACK_PERCENT} % \
                 above the {allowed} that Linux {} walked for {FILE}",
                budget.kernel
            )),
            Some(_) => {}
        }
    }
    let gone = budgets.keys().filter(|program| !costs.contains_key(*program));
    findings.extend(gone.map(|program| format!("{FILE} has a budget for `{program}`, which is no program")));
    findings
}

impl Budget {
    /// As it stands in its file.
    fn shown(&self) -> String {
        let mut text = format!(
            "# What the XDP programs cost the kernel's verifier. `cargo xtask check budget` fails when one costs\n\
             # {SLACK_PERCENT} % more; to renew this file: {RENEW}\n\
             kernel = \"{}\"\n\n[verified_instructions]\n",
            self.kernel
        );
        for (program, cost) in &self.verified_instructions {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{program} = {cost}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs_of(costs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        costs.iter().map(|(program, cost)| ((*program).to_owned(), *cost)).collect()
    }

    fn budget(costs: &[(&str, u64)]) -> Budget {
        Budget { kernel: "6.18".to_owned(), verified_instructions: costs_of(costs) }
    }

    #[test]
    fn a_program_may_become_dearer_by_a_tenth_and_no_more() {
        let budget = budget(&[("baton", 1000)]);
        assert_eq!(findings(&budget, &costs_of(&[("baton", 1100)])), [""; 0]);
        assert_eq!(
            findings(&budget, &costs_of(&[("baton", 1101)])),
            [
                "the verifier walks 1101 instructions of the program `baton`, more than 10 % above the 1000 that \
              Linux 6.18 walked for lb-ebpf/budget.toml"
            ]
        );
    }

    #[test]
    fn programs_and_budgets_go_in_pairs() {
        let found = findings(&budget(&[("old", 1)]), &costs_of(&[("new", 1)]));
        assert_eq!(
            found,
            [
                "the program `new` has no budget in lb-ebpf/budget.toml",
                "lb-ebpf/budget.toml has a budget for `old`, which is no program"
            ]
        );
    }

    #[test]
    fn a_renewed_budget_reads_as_it_was_written() {
        let budget = budget(&[("baton", 61_640), ("baton_pass", 8)]);
        assert_eq!(toml::from_str::<Budget>(&budget.shown()).unwrap(), budget);
    }

    #[test]
    fn the_budget_of_this_tree_can_be_read() {
        let text = fs::read_to_string(workspace().join(FILE)).unwrap();
        let budget: Budget = toml::from_str(&text).unwrap();
        assert_eq!(budget.shown(), text);
    }
}
