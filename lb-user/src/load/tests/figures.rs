//! Figures, exports and the comparison with execution logs.

use std::io::Write;

use super::server::Server;
use super::{plan, run_quietly};
use crate::load::summary::longest_gap;
use crate::load::{Executions, Gap, Outcome, Record, Report, render, write_requests_csv, write_seconds_csv};

fn record(number: u64, end_us: u64, outcome: Outcome) -> Record {
    Record {
        number,
        kind: 0,
        intended_us: number * 10_000,
        start_us: number * 10_000,
        connected_us: None,
        first_byte_us: None,
        end_us,
        outcome,
        status: None,
        backend: None,
        body_bytes: 0,
        connection: None,
        local_port: None,
    }
}

#[test]
fn the_longest_gap_counts_from_the_start_of_the_run_to_its_end() {
    let gap = |ends: &[(u64, Outcome)]| {
        let records: Vec<_> =
            ends.iter().zip(0..).map(|(&(end, outcome), n)| record(n, end, outcome)).collect();
        longest_gap(&records)
    };
    let (ok, bad) = (Outcome::Ok, Outcome::Timeout);
    assert_eq!(gap(&[]), Gap::default());
    assert_eq!(gap(&[(700, ok), (900, ok), (1200, ok)]).length_us, 18_800, "up to the last intended time");
    assert_eq!(gap(&[(5_000, ok), (90_000, bad), (30_000, ok)]), Gap { at_us: 30_000, length_us: 60_000 });
    assert_eq!(gap(&[(50_000, ok), (60_000, ok), (55_000, bad)]), Gap { at_us: 0, length_us: 50_000 });
    assert_eq!(gap(&[(40_000, bad)]), Gap { at_us: 0, length_us: 40_000 }, "nothing ever succeeded");
    assert_eq!(
        gap(&[(5_000, ok), (9_000, ok), (900_000, ok)]).length_us,
        11_000,
        "slow answers after the end"
    );
}

async fn audited(kinds: &[&str]) -> (Report, Executions) {
    let server = Server::start().await;
    let mut report = run_quietly(&plan(server.address, 5, kinds)).await;
    let mut log = tempfile::NamedTempFile::new().unwrap();
    write!(log, "other-1 done\n{}", server.execution_log()).unwrap();
    let executions = Executions::read(&[log.path()], &report).unwrap();
    report.audit(&executions);
    (report, executions)
}

#[tokio::test]
async fn execution_logs_show_what_was_lost_doubled_or_executed_in_vain() {
    let (report, executions) = audited(&["name=x,path=/ok"]).await;
    assert_eq!((executions.executed, report.summary.is_clean()), (5, true));
    let (report, executions) = audited(&["name=x,path=/double"]).await;
    assert_eq!((executions.doubled.len(), report.summary.is_clean()), (5, false));
    let (report, executions) = audited(&["name=x,path=/unlogged"]).await;
    assert_eq!((executions.lost, report.summary.is_clean()), (vec![0, 1, 2, 3, 4], false));
    let (report, _) = audited(&["name=x,path=/unlogged,logged=no"]).await;
    assert_eq!((report.summary.lost, report.summary.is_clean()), (Some(0), true));
    let (report, _) = audited(&["name=x,path=/reset-mid"]).await;
    assert_eq!((report.summary.executed_but_failed, report.summary.lost), (Some(5), Some(0)));
}

#[tokio::test]
async fn a_summary_adds_up_by_cause_kind_and_backend() {
    let server = Server::start().await;
    let kinds = ["name=good,path=/ok,weight=3", "name=gone,path=/status/503,weight=1"];
    let report = run_quietly(&plan(server.address, 60, &kinds)).await;
    let summary = &report.summary;
    let (good, gone) = (&summary.by_kind["good"], &summary.by_kind["gone"]);
    assert_eq!((summary.requests, summary.ok, summary.failed), (60, good.ok, gone.failed));
    assert_eq!(good.requests + gone.requests, 60);
    assert_eq!((summary.by_cause["http_503"], gone.by_cause["http_503"]), (gone.failed, gone.failed));
    assert_eq!((summary.by_backend["a"].ok, summary.by_backend["unknown"].failed), (good.ok, gone.failed));
    assert!((99.0..101.0).contains(&summary.rate_achieved), "{}", summary.rate_achieved);
    let table = render(summary);
    assert!(table.starts_with("LOST: 60 requests to 127.0.0.1:"), "{table}");
    assert!(table.ends_with(&format!("failed: {} http_503", gone.failed)), "{table}");
}

#[tokio::test]
async fn exports_have_a_row_for_every_request_and_every_second() {
    let server = Server::start().await;
    let report = run_quietly(&plan(server.address, 110, &["name=x,path=/ok"])).await;
    let (mut requests, mut seconds) = (Vec::new(), Vec::new());
    write_requests_csv(&report, &mut requests).unwrap();
    write_seconds_csv(&report, &mut seconds).unwrap();
    let (requests, seconds) = (String::from_utf8(requests).unwrap(), String::from_utf8(seconds).unwrap());
    assert_eq!(requests.lines().count(), 111);
    assert!(requests.lines().nth(1).unwrap().starts_with("test-0,x,0,"), "{requests}");
    let rows: Vec<Vec<&str>> = seconds.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0].last(), Some(&"backend_a"));
    assert_eq!((rows[1][0], rows[1][1], rows[2][1]), ("0", "100", "10"));
    let column_sum =
        |column: usize| rows[1..].iter().map(|row| row[column].parse::<u32>().unwrap()).sum::<u32>();
    assert_eq!((column_sum(3), column_sum(4), column_sum(9)), (110, 0, 110));
}
