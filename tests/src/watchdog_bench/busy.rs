//! A healthy backend at the end of its strength: it must be left alone.

use std::fs;
use std::time::Duration;

use baton::load::{RequestKind, run_blocking};
use baton::net::netns::run_in;
use baton::recovery::event::Event;

use super::events::Events;
use super::figures::Quiet;
use crate::lab::{Lab, aging_service};

/// Load of a quiet hour, so that it is known what is usual.
const USUAL_RATE: f64 = 20.0;
const USUAL_TIME: Duration = Duration::from_secs(10);
/// More than one processor can serve.
const RATE: f64 = 1_500.0;
/// As many requests wait for it at any time.
const CONNECTIONS: usize = 256;
/// Work that makes a request cost about two milliseconds of a processor.
const WORK: &str = "2MiB";
/// Ticks of a second in `/proc/PID/stat`.
const TICKS: f64 = 100.0;

/// Loads the active backend to saturation for so long.
pub fn saturate(time: Duration) -> Quiet {
    let mut lab = Lab::new();
    let service = aging_service();
    let command = [&service, "--listen", "0.0.0.0:8080", "--healthy", "--garbage", WORK];
    lab.up_as(&["--check", "http:/health"], &command);
    let kinds = ["name=short,path=/free,weight=1,mode=close"];
    let run = |plan: &baton::load::Plan| {
        run_in(lab.netns(), || run_blocking(plan, &mut ()))
            .expect("a namespace that can be entered")
            .expect("a plan that can be run")
    };
    let mut plan = lab.load_plan(USUAL_RATE, USUAL_TIME, &kinds);
    plan.kinds = kinds.iter().map(|kind| kind.parse::<RequestKind>().expect("a kind")).collect();
    run(&plan);
    let events = Events::follow(&lab);
    let active = lab.backend("active");
    let pid = active["pid"].as_u64().unwrap_or_default();
    (plan.rate, plan.duration, plan.max_connections) = (RATE, time, CONNECTIONS);
    let before = ticks(pid);
    let report = run(&plan);
    let elapsed_s = report.summary.elapsed_ms / 1_000.0;
    let busy_percent = (ticks(pid) - before) / TICKS / elapsed_s * 100.0;
    let ejections = events.rest().filter(|timed| is_ejection(&timed.event)).count() as u64;
    let same =
        lab.backend("active")["name"] == active["name"] && lab.backend("active")["pid"] == active["pid"];
    Quiet {
        seconds: elapsed_s,
        ejections,
        same_backend: same,
        answered_per_second: report.summary.ok as f64 / elapsed_s,
        processor_percent: busy_percent,
        p50_ms: report.summary.uncorrected.p50_ms,
        p99_ms: report.summary.uncorrected.p99_ms,
    }
}

fn is_ejection(event: &Event) -> bool {
    matches!(
        event,
        Event::Handover { .. } | Event::RolledBack { .. } | Event::StaysOut { .. } | Event::Failed { .. }
    )
}

/// Time of processors that a process has had.
fn ticks(pid: u64) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which may hold anything, `utime` and `stime` are the 12th and 13th fields.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum()
}
