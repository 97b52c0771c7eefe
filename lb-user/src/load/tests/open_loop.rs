//! Requests start at their times whatever becomes of the others, and their lateness counts.

use std::thread;
use std::time::Duration;

use super::server::Server;
use super::{outcomes, plan, run_quietly};
use crate::load::{Observer, Outcome, Stop, Tick, run, run_blocking, run_until};

#[tokio::test]
async fn a_server_that_stalls_shows_in_the_corrected_latency_of_every_request_it_kept() {
    let server = Server::start().await;
    let plan = plan(server.address, 200, &["name=x,path=/stall/500"]);
    let report = run_quietly(&plan).await;
    assert_eq!(report.summary.failed, 0);
    let corrected = report.summary.corrected;
    assert!((430.0..700.0).contains(&corrected.p99_ms), "{corrected:?}");
    // Fifty requests were intended during the stall; a closed loop would have sent one.
    let kept = report.records.iter().filter(|record| record.corrected_us() > 50_000).count();
    assert!((35..=60).contains(&kept), "{kept}");
    assert!(report.summary.longest_gap_ms >= 400.0, "{}", report.summary.longest_gap_ms);
}

/// Keeps the sender from sending for a while: that is what is tested.
struct Dawdler;

impl Observer for Dawdler {
    fn tick(&mut self, _: &Tick) {
        thread::sleep(Duration::from_millis(300));
    }
}

#[tokio::test]
async fn lateness_of_this_side_counts_in_the_corrected_latency_only() {
    let server = Server::start().await;
    let plan = plan(server.address, 150, &["name=x,path=/ok"]);
    let report = run(&plan, &mut Dawdler).await.unwrap();
    assert_eq!((report.summary.requests, report.summary.failed), (150, 0));
    let (corrected, uncorrected) = (report.summary.corrected, report.summary.uncorrected);
    assert!(corrected.max_ms >= 250.0 && report.summary.max_late_ms >= 250.0, "{corrected:?}");
    assert!(uncorrected.p99_ms < corrected.p99_ms / 2.0, "{uncorrected:?} {corrected:?}");
}

#[tokio::test]
async fn told_to_finish_a_run_waits_for_what_is_outstanding() {
    let server = Server::start().await;
    let plan = plan(server.address, 1000, &["name=x,path=/trickle/300"]);
    let stop = Stop::new();
    let mut nobody = ();
    let (report, ()) = tokio::join!(run_until(&plan, &mut nobody, &stop), async {
        server.has_executed(5).await;
        stop.finish();
    });
    let report = report.unwrap();
    assert!(report.summary.stopped_early);
    assert!((5..=60).contains(&report.records.len()), "{}", report.records.len());
    assert!(outcomes(&report).iter().all(|outcome| *outcome == Outcome::Ok));
}

#[tokio::test]
async fn told_to_abandon_a_run_ends_at_once_and_blames_nobody() {
    let server = Server::start().await;
    let plan = plan(server.address, 10, &["name=x,path=/hang"]);
    let stop = Stop::new();
    let mut nobody = ();
    let (report, ()) = tokio::join!(run_until(&plan, &mut nobody, &stop), async {
        server.has_executed(10).await;
        stop.abandon();
    });
    let report = report.unwrap();
    assert_eq!(outcomes(&report), [Outcome::Abandoned; 10]);
    assert_eq!((report.summary.failed, report.summary.abandoned), (0, 10));
    assert!(!report.summary.is_clean() && !report.summary.is_anything_lost());
    assert!(report.summary.elapsed_ms < 2000.0, "{}", report.summary.elapsed_ms);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_run_has_a_thread_to_itself_if_it_wants() {
    let server = Server::start().await;
    let plan = plan(server.address, 20, &["name=x,path=/ok", "name=y,path=/ok,mode=keep-alive"]);
    let report = tokio::task::spawn_blocking(move || run_blocking(&plan, &mut ())).await.unwrap().unwrap();
    assert_eq!((report.summary.requests, report.summary.failed), (20, 0));
}
