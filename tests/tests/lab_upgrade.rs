//! Another build of Baton on a service that runs: the program is replaced under load, tables of another
//! layout or size are left as they are.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use baton::dataplane::{AttachPoint, Attached, Dataplane, Mode, XdpProgram, default_flows, flows_in_table};
use baton::load::{self, Executions, Stop};
use baton::net::netns::run_in;
use baton::paths::Roots;
use baton_tests::lab::Lab;
use lb_common::LAYOUT_VERSION;

const MIXED: [&str; 2] = [
    "name=short,path=/free,weight=1,mode=close",
    "name=keep-alive,path=/free,weight=1,mode=keep-alive,requests=20,idle=500ms",
];
/// Longer than the replacements take; they end the load.
const LONG: Duration = Duration::from_mins(5);
const REPLACEMENTS: usize = 100;

fn pins(lab: &Lab, layout: u32) -> PathBuf {
    Roots::default().service(&lab.name().parse().unwrap()).pins(layout)
}

/// Ends the load also when a replacement fails.
struct EndLoad(Stop);

impl Drop for EndLoad {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// Loads the programs anew and puts them behind every pinned link.
fn replace_programs(lab: &Lab) {
    let pins = pins(lab, LAYOUT_VERSION);
    let mut dataplane = Dataplane::open(&pins, default_flows()).unwrap();
    assert!(dataplane.adopted());
    let mut replaced = 0;
    for entry in fs::read_dir(&pins).unwrap() {
        let link = entry.unwrap().file_name().into_string().unwrap();
        if !link.starts_with("link") {
            continue;
        }
        let is_far = link == "link_host" || link.starts_with("link_far");
        let program = if is_far { XdpProgram::Pass } else { XdpProgram::Steer };
        let point = AttachPoint { netns: None, interface: link.clone(), program };
        assert_eq!(dataplane.attach(&point, &link, Mode::Native).unwrap(), Attached::Replaced, "{link}");
        replaced += 1;
    }
    assert_eq!(replaced, 6, "three cables of two ends");
}

#[test]
fn a_hundred_replacements_of_the_program_under_load_lose_nothing() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let before = lab.status();
    let plan = lab.load_plan(150.0, LONG, &MIXED);
    let host = lab.netns().try_clone().unwrap();
    let stop = Stop::new();
    let mut report = thread::scope(|scope| {
        let _end = EndLoad(stop.clone());
        let load = scope.spawn(|| {
            run_in(&host, || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(load::run_until(&plan, &mut (), &stop))
            })
        });
        for _ in 0..REPLACEMENTS {
            assert!(!load.is_finished(), "the load ended before the replacements did");
            replace_programs(&lab);
        }
        stop.finish();
        load.join().unwrap().unwrap().unwrap()
    });
    report.audit(&Executions::read(&[lab.execution_log()], &report).unwrap());
    assert!(report.summary.is_clean(), "{}", load::render(&report.summary));
    let after = lab.status();
    let packets = after["packets"].as_array().unwrap();
    assert!(packets.iter().all(|count| count["reason"] != "taken_up"), "every flow was known: {packets:?}");
    assert_eq!(before["epoch"], after["epoch"]);
}

#[test]
fn a_data_plane_of_another_layout_is_left_running_and_named() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let mut client = lab.connect();
    let backend = client.get("/free").unwrap().backend;
    lab.kill_controller();
    let (ours, theirs) = (pins(&lab, LAYOUT_VERSION), pins(&lab, LAYOUT_VERSION - 1));
    fs::create_dir_all(theirs.parent().unwrap()).unwrap();
    fs::rename(&ours, &theirs).unwrap();
    let pinned = || {
        let mut names: Vec<_> =
            fs::read_dir(&theirs).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = pinned();

    let flows = lab.baton(&["flows", "--service", lab.name()]);
    let flows = (flows.status.code(), String::from_utf8_lossy(&flows.stderr).into_owned());
    for (code, said) in [lab.up_refused(), flows] {
        assert_eq!(code, Some(1), "{said}");
        for part in [
            theirs.to_str().unwrap(),
            &format!("layout {}", LAYOUT_VERSION - 1),
            "left running",
            "baton down --name",
        ] {
            assert!(said.contains(part), "`{part}` is not in: {said}");
        }
    }
    assert_eq!(client.get("/free").unwrap().backend, backend, "it goes on");
    assert_eq!(lab.connect().get("/free").unwrap().status, 200);
    assert_eq!((pinned(), ours.exists()), (before, false));

    let down = lab.baton(&["down", "--name", lab.name()]);
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    assert!(!theirs.exists());
}

#[test]
fn a_table_is_made_as_large_as_asked_and_keeps_its_size() {
    let mut lab = Lab::new();
    lab.up_healthy(&["--flow-table", "5_000"]);
    let made_for = |lab: &Lab| Dataplane::open(&pins(lab, LAYOUT_VERSION), 5_000).unwrap().made_for();
    assert_eq!(made_for(&lab), flows_in_table(5_000));
    let warning = "the flow table of";
    assert!(!lab.output().contains(warning), "{}", lab.output());
    lab.kill_controller();
    lab.up_healthy(&["--flow-table", "50_000"]);
    assert!(lab.output().contains(warning), "{}", lab.output());
    assert_eq!(made_for(&lab), flows_in_table(5_000));
}
