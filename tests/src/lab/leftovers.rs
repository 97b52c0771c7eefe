//! What a service has on a machine, wherever it keeps anything: after it is down this must be nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use baton::net::netlink::Netlink;
use baton::net::netns::{NetnsHandle, run_in};
use lb_common::LAYOUT_VERSION;

/// Where something may bear a service's name: namespaces, run directory, pins, cgroups of either version.
fn places() -> Vec<String> {
    let mut places = vec![format!("/sys/fs/bpf/baton/v{LAYOUT_VERSION}")];
    places.extend(PLACES.map(str::to_owned));
    places
}

const PLACES: [&str; 5] = [
    "/run/netns",
    "/run/baton",
    "/sys/fs/cgroup/memory/baton",
    "/sys/fs/cgroup/unified/baton",
    "/sys/fs/cgroup/baton",
];

/// Everything on this machine that bears the name of a service, but for the network of its host.
pub fn leftovers(service: &str) -> Vec<String> {
    // Whole names: a service may be called as the beginning of another.
    let names = [
        service.to_owned(),
        format!("{service}-a"),
        format!("{service}-b"),
        format!("baton-{service}-lb"),
        format!("baton-{service}-a"),
        format!("baton-{service}-b"),
    ];
    let places = places();
    let paths = places.iter().flat_map(|place| names.iter().map(move |name| Path::new(place).join(name)));
    let mut left: Vec<String> =
        paths.filter(|path| path.exists()).map(|path| path.display().to_string()).collect();
    left.extend(processes(service));
    left
}

/// The links and firewall tables of a service on its host.
pub fn network_leftovers(host: &NetnsHandle, service: &str) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let links = runtime.block_on(async { Netlink::open(host).unwrap().links().await }).unwrap();
    let alias = format!("baton {service}");
    let ours = links.into_iter().filter(|link| link.alias.as_deref() == Some(&alias));
    let mut left: Vec<String> = ours.map(|link| format!("link {}", link.name)).collect();
    let tables = run_in(host, || Command::new("nft").args(["list", "tables"]).output()).unwrap().unwrap();
    assert!(tables.status.success(), "nft: {}", String::from_utf8_lossy(&tables.stderr));
    let table = format!("table ip baton-{service}");
    let tables = String::from_utf8(tables.stdout).unwrap();
    left.extend(tables.lines().filter(|line| *line == table).map(str::to_owned));
    left
}

/// Processes of the service: its commands by their environment, shims and controllers by their arguments.
fn processes(service: &str) -> Vec<String> {
    let mark = format!("BATON_SERVICE={service}");
    let within = |directory: String| directory.split('/').any(|part| part == service);
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let words = |file: &str| -> Vec<String> {
            let bytes = fs::read(process.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).split('\0').map(str::to_owned).collect()
        };
        let line = words("cmdline");
        let is_baton = line.first().is_some_and(|program| Path::new(program).ends_with("baton"));
        let is_ours = is_baton && line.iter().any(|word| word == service || within(word.clone()));
        if is_ours || words("environ").contains(&mark) {
            found.push(format!("process {} {}", process.file_name().display(), line.join(" ")));
        }
    }
    found
}
