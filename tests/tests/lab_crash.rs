//! Controllers that are killed in the middle of work: the next one ends what was begun, once.

use std::fs;
use std::thread;
use std::time::Duration;

use baton::load::{Executions, render, run_blocking};
use baton::net::netns::run_in;
use baton_tests::lab::{Lab, aging_service, eventually};
use baton_tests::plane::{Governed, Options};

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

#[test]
fn a_restart_that_outlives_its_controller_is_waited_for_and_done_once() {
    let mut governed = Governed::new(Options::default());
    let mut text = governed.describe("shop", "[service.drain]\ndeadline = \"1s\"\n");
    for number in 0..2 {
        let (start, stop) =
            (governed.file(&format!("start-{number}")), governed.file(&format!("stop-{number}")));
        let (start, stop) = (start.display().to_string(), stop.display().to_string());
        let (ran, hold) = (governed.file(&format!("ran-{number}")), governed.file("hold"));
        let wait = format!("while test -e {}; do sleep 0.05; done", hold.display());
        let restart = governed.script(
            &format!("restart-{number}"),
            &format!("echo ran >> {}\n{wait}\n{stop} 2>/dev/null\n{start}\n", ran.display()),
        );
        let both = format!("start = [\"{start}\"]\nstop = [\"{stop}\"]");
        text = text.replace(&both, &format!("restart = [\"{restart}\"]"));
    }
    governed.up(&[text]);
    fs::write(governed.file("hold"), "").unwrap();
    eventually("one is active", || !governed.backends_in("shop", "active").is_empty());
    let number: usize = governed.backends_in("shop", "active")[0][1..].parse().unwrap();
    let runs = |governed: &Governed| {
        fs::read_to_string(governed.file(&format!("ran-{number}"))).unwrap().lines().count()
    };
    assert_eq!(runs(&governed), 1, "it was started");

    assert!(governed.baton(&["rejuvenate", &governed.service("shop")]).status.success());
    eventually("the restart is under way", || runs(&governed) == 2);
    governed.kill_controller();
    governed.start();
    let says = |governed: &Governed, what: &str| governed.output().contains(what);
    eventually("the restart is waited for", || says(&governed, "an earlier controller has ordered"));
    fs::remove_file(governed.file("hold")).unwrap();
    eventually("the rejuvenation is over", || says(&governed, "rejuvenation 1 completed"));
    governed.until_ready(1);
    assert_eq!(runs(&governed), 2, "{}", governed.output());
}
