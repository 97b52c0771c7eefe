//! Looks at the steering all the time: a service must never go without a backend.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use baton::dataplane::FlowView;
use baton::paths::Roots;
use baton::service::load_registration;
use lb_common::steer::NO_BACKEND;

/// Time between two looks.
const PERIOD: Duration = Duration::from_millis(1);

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// How often somebody looked.
    pub(super) looks: u64,
    /// In so many of them new flows went nowhere.
    pub(super) without_backend: u64,
    /// So many times another look found another backend.
    pub(super) handovers: u64,
}

/// Looks until it is asked what it has seen.
pub(super) struct Watch {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Seen>>,
}

impl Watch {
    /// Begins to look at the tables of a service that has an active backend and a standby, which outlive its
    /// controllers.
    pub(super) fn begin(service: &str) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (name, told) = (service.to_owned(), Arc::clone(&over));
        Self { over, thread: Some(thread::spawn(move || look(&name, &told))) }
    }

    /// Ends it.
    pub(super) fn end(mut self) -> Seen {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().expect("it ends once").join().expect("tables that can be read")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn look(service: &str, over: &AtomicBool) -> Seen {
    let roots = Roots::default();
    let paths = roots.service(&service.parse().expect("a name"));
    let registration = load_registration(&paths).expect("readable").expect("a service that is up");
    let pins: PathBuf = registration.pins(&roots);
    let view = FlowView::open(&pins).expect("pinned tables");
    let (mut seen, mut last) = (Seen::default(), None);
    while !over.load(Ordering::Relaxed) {
        let active = view.steering(registration.id).active;
        seen.looks += 1;
        seen.without_backend += u64::from(active == NO_BACKEND);
        seen.handovers += u64::from(last.is_some_and(|last| last != active));
        last = Some(active);
        thread::sleep(PERIOD);
    }
    seen
}
