//! Wrong use and wrong surroundings: each with a message that names the cause and the remedy.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use baton_tests::lab::{Lab, aging_service, baton, leftovers};

/// Runs `baton up` with these flags and this command; it must fail with this code and say all of this.
#[track_caller]
fn assert_refused(lab: &Lab, flags: &[&str], command: &[&str], code: i32, said: &[&str]) {
    let vip = lab.vip().to_string();
    let mut words = vec!["up", "--name", lab.name(), "--check-period", "50ms"];
    if !flags.contains(&"--vip") {
        words.extend(["--vip", &vip]);
    }
    words.extend(flags.iter().chain(&["--"]).chain(command));
    let output = lab.baton(&words);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    for part in said {
        assert!(stderr.contains(part), "`{part}` is not in: {stderr}");
    }
    assert_eq!(leftovers(lab.name()), Vec::<String>::new());
}

#[test]
fn settings_that_cannot_work_end_with_code_2() {
    let lab = Lab::new();
    let cases: [(&[&str], &[&str]); 8] = [
        (&["--memory-max", "1K"], &["too little", "4M"]),
        (&["--memory-max", "900T"], &["more than this machine has"]),
        (&["--memory-max", "lots"], &["give a size such as 512M"]),
        (&["--ceiling", "0"], &["--ceiling", "1..=100"]),
        (&["--ceiling", "101"], &["--ceiling", "1..=100"]),
        (&["--vip", "10.77.0.1"], &["--vip"]),
        (&["--probe-period", "10ms"], &["100ms or more"]),
        (&["--check", "ping"], &["`ping` is no check: use `tcp`, `http:/PATH`"]),
    ];
    for (flags, said) in cases {
        assert_refused(&lab, flags, &["true"], 2, said);
    }
    let output = lab.baton(&["up", "--vip", "10.77.0.1:80"]);
    assert_eq!(output.status.code(), Some(2), "a command is required");
}

#[test]
fn a_vip_that_is_taken_is_refused_by_the_name_of_who_has_it() {
    let mut lab = Lab::new();
    let other = Lab::new();
    assert_refused(&other, &["--vip", "127.0.0.1:80"], &["true"], 1, &["127.0.0.1", "loopback"]);
    lab.up_healthy(&[]);
    let vip = lab.vip().to_string();
    let name = format!("{}-2", lab.name());
    let output = lab.baton(&["up", "--name", &name, "--vip", &vip, "--", "true"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(lab.name()), "{stderr}");
}

#[test]
fn commands_that_do_not_serve_are_explained() {
    let lab = Lab::new();
    let quick = ["--ready-timeout", "2s"];
    let service = aging_service();
    let listens = |at: &str| vec![service.clone(), "--healthy".into(), "--listen".into(), at.to_owned()];
    let cases: [(Vec<String>, &[&str]); 5] = [
        (
            vec!["sh".into(), "-c".into(), "echo no licence >&2; exit 3".into()],
            &["exited with status 3", "no licence"],
        ),
        (vec!["/nonexistent/server".into()], &["/nonexistent/server", "No such file"]),
        (vec!["sleep".into(), "1000".into()], &["listens on no TCP port", "8080"]),
        (listens("0.0.0.0:9000"), &["listens on 0.0.0.0:9000", "pass `--port 9000`"]),
        (listens("127.0.0.1:8080"), &["listens on 127.0.0.1:8080 only", "make it listen on 0.0.0.0"]),
    ];
    for (command, said) in cases {
        let command: Vec<_> = command.iter().map(String::as_str).collect();
        assert_refused(&lab, &quick, &command, 1, said);
    }
}

#[test]
fn an_unknown_service_is_named_with_those_that_are_up() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    for words in
        [&["status", "--name", "nobody"][..], &["rejuvenate", "nobody"], &["events", "--name", "nobody"]]
    {
        let output = lab.baton(words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("no service `nobody`") && stderr.contains(lab.name()), "{stderr}");
    }
}

#[test]
fn a_second_controller_and_another_command_under_the_same_name_are_refused() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let vip = lab.vip().to_string();
    let words = ["up", "--name", lab.name(), "--vip", &vip, "--", "true"];
    let second = lab.baton(&words);
    let stderr = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("a controller of service") && stderr.contains("is running"), "{stderr}");
    lab.kill_controller();
    let words = ["up", "--name", lab.name(), "--vip", &vip, "--", "true"];
    let other = lab.baton(&words);
    let stderr = String::from_utf8_lossy(&other.stderr).into_owned();
    assert_eq!(other.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("another command") && stderr.contains("baton down --name"), "{stderr}");
    assert_eq!(lab.connect().get("/free").unwrap().status, 200, "what runs was left alone");
}

#[test]
fn an_ordinary_user_is_told_to_use_sudo() {
    // The binary is copied where everyone may read it.
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("baton");
    fs::copy(baton(), &copy).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(directory.path(), open).unwrap();
    let nobody = 65534;
    for words in [&["up", "--vip", "10.77.0.1:80", "--", "true"][..], &["down", "--name", "x"]] {
        let output = Command::new(&copy).args(words).uid(nobody).gid(nobody).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("needs root: run it with sudo"), "{stderr}");
    }
}

#[test]
fn an_import_that_no_service_comes_of_fails_and_writes_nothing() {
    let lab = Lab::new();
    let (old, new) = (lab.file("old"), lab.file("new"));
    fs::write(&old, "global_defs {\n router_id LVS\n}\n").unwrap();
    let words = ["import", "keepalived", old.to_str().unwrap(), "--output", new.to_str().unwrap()];
    for words in [&words[..], &words[..3], &[&words[..3], &["--json"]].concat()] {
        let output = lab.baton(words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("no service comes of it"), "{stderr}");
    }
    assert!(!new.exists());
}
