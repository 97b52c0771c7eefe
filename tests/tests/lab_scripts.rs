//! What stands in `scripts/` for operators, run as they would.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{env, fs};

use baton::net::netns::run_in;
use baton_tests::lab::{Lab, baton, eventually};

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts")
}

fn script(lab: &Lab, name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(scripts().join(name));
    command.args(arguments).env("BATON", baton()).env("BATON_TIMEOUT", "30s").stdin(Stdio::null());
    command.envs(variables.iter().copied());
    run_in(lab.netns(), || command.output()).unwrap().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn every_service_is_rejuvenated_in_turn_until_one_refuses() {
    let mut first = Lab::new();
    first.up_healthy(&[]);
    let mut second = first.beside();
    second.up_healthy(&[]);
    let names = [first.name(), second.name()];
    let output = script(&first, "rejuvenate-all", &names, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    for lab in [&first, &second] {
        assert_eq!(lab.reports().len(), 1, "{}", said(&output));
    }
    // A service that cannot be rejuvenated at this moment stops it.
    let standby = first.backend("standby")["name"].as_str().unwrap().to_owned();
    assert!(first.baton(&["drain", first.name(), &standby, "--wait"]).status.success());
    let output = script(&first, "rejuvenate-all", &names, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("were left alone"), "{}", said(&output));
    assert_eq!(second.reports().len(), 1);
}

#[test]
fn all_services_that_are_up_are_found_by_their_names() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let listed = lab.baton(&["status", "--quiet"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.lines().any(|line| line == lab.name()), "{listed}");
}

#[test]
fn a_backend_is_renewed_after_its_memory_has_been_kept() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let active = lab.backend("active");
    let (name, pid) = (active["name"].as_str().unwrap(), active["pid"].as_u64().unwrap());
    let kept = lab.file("kept");
    let dump = lab.file("dump");
    fs::write(&dump, "#!/bin/sh\nhead -c 5 /proc/$1/comm > $2\n").unwrap();
    fs::set_permissions(&dump, fs::Permissions::from_mode(0o755)).unwrap();
    let arguments = [lab.name(), name, kept.to_str().unwrap()];
    let variables = [("BATON_DUMP", dump.to_str().unwrap())];

    let refused = [arguments.as_slice(), &["false"]].concat();
    let output = script(&lab, "rejuvenate-with-dump", &refused, &variables);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(lab.backend("active")["pid"], pid, "nothing was done");

    let allowed = [arguments.as_slice(), &["true"]].concat();
    let output = script(&lab, "rejuvenate-with-dump", &allowed, &variables);
    assert_eq!(output.status.code(), Some(0), "{}\n{}", said(&output), lab.output());
    let files: Vec<_> = fs::read_dir(&kept).unwrap().flatten().collect();
    assert_eq!(files.len(), 1);
    assert_eq!(fs::read_to_string(files[0].path()).unwrap(), "aging");
    eventually("both stand", || {
        let mut states = lab.states();
        states.sort();
        states == ["active", "standby"]
    });
    let renewed = lab.backend("standby");
    assert!(renewed["name"] == name && renewed["pid"] != pid, "{renewed}");

    let wrong = script(&lab, "rejuvenate-with-dump", &[lab.name()], &[]);
    assert_eq!(wrong.status.code(), Some(2), "{}", said(&wrong));
}

#[test]
fn a_backend_that_does_not_end_when_it_is_told_to_is_killed() {
    let mut lab = Lab::new();
    lab.up(&[], &["sh", "-c", "trap '' TERM; python3 -m http.server 8080 & while :; do sleep 1; done"]);
    let standby = lab.backend("standby");
    let (name, kept) = (standby["name"].as_str().unwrap(), lab.file("kept"));
    let arguments = [lab.name(), name, kept.to_str().unwrap()];
    let output =
        script(&lab, "rejuvenate-with-dump", &arguments, &[("BATON_DUMP", "true"), ("BATON_TIMEOUT", "3s")]);
    assert!(said(&output).contains("does not end in 3s; it is killed"), "{}", said(&output));
    eventually("it is renewed", || {
        lab.states().contains(&"standby".to_owned()) && lab.backend("standby")["pid"] != standby["pid"]
    });
    let wrong = script(&lab, "rejuvenate-with-dump", &arguments, &[("BATON_TIMEOUT", "soon")]);
    assert_eq!(wrong.status.code(), Some(2), "{}", said(&wrong));
}

/// Runs a script with a `baton` that notes its words and then does this.
fn with_stub(name: &str, arguments: &[&str], stub: &str) -> (Output, String) {
    with_stub_and(name, arguments, stub, &[])
}

/// The same, with these variables.
fn with_stub_and(name: &str, arguments: &[&str], stub: &str, variables: &[(&str, &str)]) -> (Output, String) {
    let directory = tempfile::tempdir().unwrap();
    let (baton, notes) = (directory.path().join("baton"), directory.path().join("notes"));
    fs::write(&baton, format!("#!/bin/sh\necho \"$*\" >>{}\n{stub}\n", notes.display())).unwrap();
    fs::set_permissions(&baton, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(scripts().join(name));
    command.args(arguments).env("BATON", &baton).env("BATON_TIMEOUT", "5s").stdin(Stdio::null());
    command.envs(variables.iter().copied());
    let output = command.current_dir(directory.path()).output().unwrap();
    (output, fs::read_to_string(notes).unwrap_or_default())
}

/// A process to be ended, and the thread that takes note of its end.
fn process() -> (u32, JoinHandle<()>) {
    let mut process = Command::new("sleep").arg("60").spawn().unwrap();
    (process.id(), thread::spawn(move || assert!(process.wait().is_ok())))
}

#[test]
fn services_that_cannot_be_listed_are_no_success() {
    let (output, words) = with_stub("rejuvenate-all", &[], "exit 1");
    assert_eq!((output.status.code(), words.as_str()), (Some(1), "status --quiet\n"), "{}", said(&output));
}

#[test]
fn a_backend_without_a_known_process_is_not_drained_for_its_memory() {
    let stub = "case $* in *--pid*) exit 1 ;; esac";
    let (output, words) = with_stub("rejuvenate-with-dump", &["shop", "a", "kept"], stub);
    assert_eq!((output.status.code(), words.lines().count()), (Some(1), 1), "{words}{}", said(&output));
    assert!(said(&output).contains("nothing was done"), "{}", said(&output));
}

#[test]
fn whatever_fails_after_a_drain_the_backend_is_taken_back() {
    // It is known before the drain, and not any more afterwards.
    let stub = "case $* in drain*) : >drained ;; *--pid*) [ ! -e drained ] && echo 1 ;; esac";
    let (output, words) = with_stub("rejuvenate-with-dump", &["shop", "a", "kept"], stub);
    assert_eq!(output.status.code(), Some(1), "{words}{}", said(&output));
    assert_eq!(words.lines().last(), Some("ready shop a --json"), "{words}{}", said(&output));
}

#[test]
fn a_controller_that_restarts_during_the_drain_takes_the_backend_back_afterwards() {
    // It is away for three tries.
    let stub = "case $* in drain*) exit 1 ;; *--pid*) echo 1 ;;
        ready*--json) echo >>tries; [ $(wc -l <tries) -gt 3 ] || exit 1 ;; esac";
    let (output, words) = with_stub("rejuvenate-with-dump", &["shop", "a", "kept"], stub);
    assert_eq!(output.status.code(), Some(1), "{words}{}", said(&output));
    assert_eq!(words.matches("ready shop a --json").count(), 4, "{words}{}", said(&output));
    assert!(!said(&output).contains("held out yet"), "{}", said(&output));
}

#[test]
fn what_is_not_held_out_need_not_be_taken_back() {
    let stub = "case $* in drain*) exit 1 ;; *--pid*) echo 1 ;;
        ready*) echo '\"message\": \"a is active and not held out: there is nothing to take back\"'; exit 1 ;; esac";
    let (output, words) = with_stub("rejuvenate-with-dump", &["shop", "a", "kept"], stub);
    assert_eq!(output.status.code(), Some(1), "{words}{}", said(&output));
    assert_eq!(words.matches("ready shop a --json").count(), 1, "{words}{}", said(&output));
    assert!(!said(&output).contains("held out yet"), "{}", said(&output));
}

#[test]
fn a_backend_that_somebody_else_holds_out_is_left_alone() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let standby = lab.backend("standby");
    let (name, kept) = (standby["name"].as_str().unwrap(), lab.file("kept"));
    let arguments = [lab.name(), name, kept.to_str().unwrap()];
    assert!(lab.baton(&["drain", lab.name(), name, "--wait"]).status.success());
    let output = script(&lab, "rejuvenate-with-dump", &arguments, &[("BATON_DUMP", "true")]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("held out already"), "{}", said(&output));
    assert!(!kept.exists() && lab.backend("maintenance")["pid"] == standby["pid"], "{}", said(&output));

    // The other one cannot be drained then, and is not taken for one that is held out.
    let active = lab.backend("active");
    let other = [lab.name(), active["name"].as_str().unwrap(), kept.to_str().unwrap()];
    let output = script(&lab, "rejuvenate-with-dump", &other, &[("BATON_DUMP", "true")]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(!said(&output).contains("held out yet"), "{}", said(&output));
    assert_eq!(lab.backend("active")["pid"], active["pid"]);

    // So is one that drains yet, and one of which nobody can tell.
    for (answer, reason) in
        [("echo 'would: a: no longer held out'", "held out already"), ("exit 1", "nothing was done")]
    {
        let stub = format!("case $* in *--pid*) echo 1 ;; *dry-run*) {answer} ;; esac");
        let (output, words) = with_stub("rejuvenate-with-dump", &["shop", "a", "kept"], &stub);
        assert_eq!(output.status.code(), Some(1), "{words}{}", said(&output));
        assert!(said(&output).contains(reason), "{}", said(&output));
        assert_eq!(words.lines().last(), Some("ready shop a --dry-run"), "{words}");
    }
}

#[test]
fn a_dump_of_a_jvm_counts_if_the_jvm_has_written_it_wherever_it_works() {
    let directory = tempfile::tempdir().unwrap();
    let jcmd = directory.path().join("jcmd");
    let path = format!("{}:{}", directory.path().display(), env::var("PATH").unwrap_or_default());
    // It ends with 0 in either case.
    for (writes, code) in [("echo heap >\"$3\"", 0), (":", 1)] {
        fs::write(
            &jcmd,
            format!("#!/bin/sh\ncd /\n[ $2 = VM.version ] || {{ {writes}; }} 2>/dev/null\nexit 0\n"),
        )
        .unwrap();
        fs::set_permissions(&jcmd, fs::Permissions::from_mode(0o755)).unwrap();
        let (pid, ended) = process();
        let stub = format!("case $* in *--pid*) echo {pid} ;; esac");
        let (output, words) =
            with_stub_and("rejuvenate-with-dump", &["shop", "a", "kept"], &stub, &[("PATH", &path)]);
        assert_eq!(output.status.code(), Some(code), "{words}{}", said(&output));
        assert_eq!(said(&output).contains("no dump could be taken"), code == 1, "{}", said(&output));
        ended.join().unwrap();
    }
}

#[test]
fn a_backend_of_a_pool_which_has_no_standby_is_waited_for_as_active() {
    let renewed = |waits: &str, limit: &str| {
        let (pid, ended) = process();
        let stub = format!("case $* in *--pid*) echo {pid} ;; wait*) {waits} ;; esac");
        let variables = [("BATON_DUMP", "true"), ("BATON_TIMEOUT", limit)];
        let (output, _) = with_stub_and("rejuvenate-with-dump", &["shop", "a", "kept"], &stub, &variables);
        ended.join().unwrap();
        output
    };
    let patient = "until [ $1 = --timeout ]; do shift; done; sleep $2; exit 3";
    let start = Instant::now();
    let output = renewed(&format!("case $* in *state=standby*) {patient} ;; esac"), "30s");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());

    // It was drained, so this is not what 3 means.
    let output = renewed("exit 3", "2s");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("neither active nor standby"), "{}", said(&output));
}

#[test]
fn a_backend_that_nobody_takes_back_is_told_with_what_to_run() {
    let (pid, ended) = process();
    // Whether the drain has failed, or the process has ended already.
    for drain in ["exit 1", "exit 0"] {
        let stub = format!(
            "case $* in drain*) {drain} ;; *--pid*) echo {pid} ;; *dry-run*) ;; ready*) exit 1 ;; esac"
        );
        let variables = [("BATON_READY_TIMEOUT", "2s"), ("BATON_DUMP", "true")];
        let (output, words) =
            with_stub_and("rejuvenate-with-dump", &["shop", "a", "kept"], &stub, &variables);
        assert_eq!(output.status.code(), Some(1), "{words}{}", said(&output));
        assert!(words.matches("ready shop a --json").count() > 1, "{words}{}", said(&output));
        assert_eq!(said(&output).matches("run: baton ready shop a").count(), 1, "{}", said(&output));
    }
    ended.join().unwrap();
    let variables = [("BATON_READY_TIMEOUT", "soon")];
    let (output, words) = with_stub_and("rejuvenate-with-dump", &["shop", "a", "kept"], "", &variables);
    assert_eq!((output.status.code(), words.as_str()), (Some(2), ""), "{}", said(&output));
}

#[test]
fn a_paused_service_is_renewed_unless_it_is_to_be_skipped() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    for (off, on) in [
        (&["pause", lab.name()][..], &["resume", lab.name()][..]),
        (&["maintenance", lab.name(), "on"], &["maintenance", lab.name(), "off"]),
    ] {
        assert!(lab.baton(off).status.success());
        let output = script(&lab, "rejuvenate-all", &["--skip-paused", lab.name()], &[]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert!(said(&output).contains("left alone"), "{}", said(&output));
        assert!(lab.baton(on).status.success());
    }
    assert_eq!(lab.reports().len(), 0);
    assert!(lab.baton(&["pause", lab.name()]).status.success());
    let output = script(&lab, "rejuvenate-all", &[lab.name()], &[]);
    assert_eq!((output.status.code(), lab.reports().len()), (Some(0), 1), "{}", said(&output));
    // What is neither is not skipped.
    assert!(lab.baton(&["resume", lab.name()]).status.success());
    let output = script(&lab, "rejuvenate-all", &["--skip-paused", lab.name()], &[]);
    assert_eq!((output.status.code(), lab.reports().len()), (Some(0), 2), "{}", said(&output));
}

#[test]
fn units_name_what_is_there() {
    let unit = fs::read_to_string(scripts().join("baton.service")).unwrap();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/baton ")).unwrap();
    let words: Vec<_> = start.split(' ').collect();
    let help = Command::new(baton()).arg(words[0]).arg("--help").output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for flag in words.iter().filter(|word| word.starts_with("--")) {
        assert!(help.contains(flag), "{flag}: {help}");
    }
    let nightly = fs::read_to_string(scripts().join("baton-rejuvenate.service")).unwrap();
    assert!(nightly.contains("/usr/share/baton/rejuvenate-all") && scripts().join("rejuvenate-all").exists());
}
