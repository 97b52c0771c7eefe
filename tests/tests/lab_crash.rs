//! Controllers that are killed in the middle of work: the next one ends what was begun, once.

use std::fs;
use std::thread;
use std::time::Duration;

use baton::load::{Executions, render, run_blocking};
use baton::net::netns::run_in;
use baton_tests::lab::{Lab, aging_service};

const MIXED: [&str; 3] = [
    "name=short,path=/free,weight=50,mode=close",
    "name=keep-alive,path=/free,weight=45,mode=keep-alive,requests=10,idle=200ms",
    "name=slow,path=/slow?ms=700,weight=5,mode=close",
];

#[test]
fn controllers_killed_at_any_moment_of_a_rejuvenation_lose_nothing_and_restart_nothing_twice() {
    let mut lab = Lab::new();
    let (log, starts) = (lab.execution_log(), lab.file("starts"));
    // Each life of a backend leaves a line.
    let script = r#"echo "$BATON_BACKEND" >> "$0"; exec "$@""#;
    let (service, log_file) = (aging_service(), log.to_str().unwrap().to_owned());
    let command = [&service, "--listen", "0.0.0.0:8080", "--healthy", "--execution-log", &log_file];
    let wrapper = ["sh", "-c", script, starts.to_str().unwrap()];
    lab.up(&[], &[&wrapper[..], &command].concat());

    let plan = lab.load_plan(100.0, Duration::from_secs(20), &MIXED);
    let host = lab.netns().try_clone().unwrap();
    let (mut report, rounds) = thread::scope(|scope| {
        let load = scope.spawn(|| run_in(&host, || run_blocking(&plan, &mut ())));
        let mut rounds = 0;
        while !load.is_finished() {
            assert_eq!(lab.baton(&["rejuvenate", lab.name()]).status.code(), Some(0));
            // When the crash comes, not a wait for anything: each round hits another phase.
            thread::sleep(Duration::from_millis(rounds * 150 % 1300));
            lab.kill_controller();
            lab.up_again();
            rounds += 1;
        }
        (load.join().unwrap().unwrap().unwrap(), rounds)
    });
    assert!(rounds >= 5, "{rounds} rounds");
    report.audit(&Executions::read(&[&log], &report).unwrap());
    assert!(report.summary.is_clean(), "{}", render(&report.summary));
    let status = lab.status();
    assert_eq!((&status["epoch"], &status["rejuvenations"]), (&(rounds + 1).into(), &rounds.into()));
    let lives = fs::read_to_string(&starts).unwrap().lines().count() as u64;
    assert_eq!(lives, 2 + rounds, "one restart a rejuvenation: {}", lab.events());
    for report in lab.reports() {
        assert_eq!(report["outcome"], "completed", "{report:#}");
    }
}
