//! HTTP requests from a client's machine, judged one by one.

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use baton::load::{Plan, Report, RequestKind, Stop, render, run_until};
use baton::net::netns::run_in;

use super::{Machine, Site};

/// Longer than any test: requests end when they are told to.
const LONGEST: Duration = Duration::from_mins(20);

/// Every way of using a connection: for one request, for several with pauses, for slow and for large answers.
const MIXED: [&str; 5] = [
    "name=short,path=/free,weight=40,mode=close",
    "name=keep-alive,path=/free,weight=40,mode=keep-alive,requests=10,idle=200ms",
    "name=slow,path=/slow?ms=300,weight=10,mode=close",
    "name=large,path=/large?bytes=200000,weight=5,mode=close,check=crc32,length=200000",
    "name=upload,path=/upload,weight=5,mode=close,upload=200k,check=receipt",
];

/// Requests that go on until [`Requests::end`].
pub struct Requests {
    stop: Stop,
    thread: Option<JoinHandle<Report>>,
}

impl Site {
    /// Starts requests of every kind from a client.
    pub fn requests(&self, client: usize) -> Requests {
        self.requests_of(client, &MIXED)
    }

    /// Starts requests of these kinds from a client.
    pub fn requests_of(&self, client: usize, kinds: &[&str]) -> Requests {
        self.requests_to(client, self.vip(), kinds)
    }

    /// Starts requests of these kinds from a client to another service.
    pub fn requests_to(&self, client: usize, vip: SocketAddr, kinds: &[&str]) -> Requests {
        let mut plan = Plan::new(vip);
        plan.kinds = kinds.iter().map(|kind| kind.parse::<RequestKind>().unwrap()).collect();
        (plan.rate, plan.duration) = (150.0, LONGEST);
        Requests::start(self.client(client), plan)
    }
}

impl Requests {
    fn start(client: &Machine, plan: Plan) -> Self {
        let stop = Stop::new();
        let (netns, told) = (client.netns.try_clone().unwrap(), stop.clone());
        let thread = thread::spawn(move || {
            let run = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(run_until(&plan, &mut (), &told)).unwrap()
            };
            run_in(&netns, run).unwrap()
        });
        Self { stop, thread: Some(thread) }
    }

    /// Sends no more, waits for what is outstanding, and says what came of all.
    pub fn end(mut self) -> Report {
        self.stop.finish();
        self.thread.take().expect("it ends once").join().unwrap()
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        // A failed test waits for no answer.
        self.stop.abandon();
    }
}

/// Panics if a request was lost, or if one of `backends` backends answered none.
pub fn assert_nothing_lost(report: &Report, backends: usize) {
    assert!(report.summary.is_clean(), "{}", render(&report.summary));
    for number in 0..backends {
        let served = report.summary.by_backend.get(&number.to_string());
        assert!(served.is_some_and(|s| s.ok > 0), "{number} served none: {}", render(&report.summary));
    }
}
