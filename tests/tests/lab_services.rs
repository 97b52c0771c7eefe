//! Services side by side on one host: each on its own, all of them seen.

use baton_tests::lab::{Lab, eventually, leftovers, network_leftovers};
use lb_common::LAYOUT_VERSION;
use serde_json::Value;

/// The services in `baton status --json`, without those of other tests.
fn shown(lab: &Lab, names: &[&str]) -> Vec<String> {
    let output = lab.baton(&["status", "--json"]);
    let all: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let services = all.as_array().into_iter().flatten().filter_map(|service| service["service"].as_str());
    services.filter(|service| names.contains(service)).map(str::to_owned).collect()
}

#[test]
fn two_services_run_side_by_side_and_one_goes_without_the_other() {
    let mut one = Lab::new();
    let mut two = one.beside();
    one.up_healthy(&[]);
    two.up_healthy(&["--memory-max", "64M"]);
    let (first, second) = (one.name().to_owned(), two.name().to_owned());
    eventually("both are shown", || shown(&one, &[&first, &second]) == [first.clone(), second.clone()]);
    let before = two.status();
    assert_eq!(one.rejuvenate().0, Some(0));
    assert_eq!(two.status()["epoch"], before["epoch"], "a handover is its service's own affair");

    two.kill_controller();
    let down = two.baton(&["down", "--name", &second]);
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    assert_eq!(leftovers(&second), Vec::<String>::new());
    assert_eq!(network_leftovers(two.netns(), &second), Vec::<String>::new());
    assert_eq!(one.connect().get("/free").unwrap().status, 200);
    assert_eq!(one.rejuvenate().0, Some(0), "the other one is whole");
}

#[test]
fn what_a_service_leaves_is_seen_by_the_lab() {
    let mut lab = Lab::new();
    lab.up_healthy(&["--memory-max", "64M"]);
    let left = leftovers(lab.name()).join("\n");
    let name = lab.name();
    for part in [
        format!("/run/netns/baton-{name}-lb"),
        format!("/run/netns/baton-{name}-a"),
        format!("/run/netns/baton-{name}-b"),
        format!("/run/baton/{name}"),
        format!("/sys/fs/bpf/baton/v{LAYOUT_VERSION}/{name}"),
        format!("/baton/{name}-a"),
        format!("shim /run/baton/{name}/a"),
        "aging-service --listen".to_owned(),
    ] {
        assert!(left.contains(&part), "`{part}` is not in:\n{left}");
    }
    let network = network_leftovers(lab.netns(), name);
    assert_eq!(network.len(), 2, "a link and a table: {network:?}");
}

#[test]
fn taking_down_what_is_not_there_says_so() {
    let lab = Lab::new();
    let down = lab.baton(&["down", "--name", lab.name()]);
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    let said = String::from_utf8_lossy(&down.stdout);
    assert_eq!(said.trim(), format!("nothing of service {} is left", lab.name()));
}
