//! What is done to the machines of the simulated world, and what is heard of it, if anything is.

use rand::Rng;

use super::{DIAGNOSIS_MS, HOOK_MS, Happening, Life, PATIENCE_MS, World};
use crate::names::BackendName;
use crate::recovery::hook::{DiagnosisReport, HookCall, HookReport};
use crate::recovery::{CutFlow, Input, Instance, Through, WarmUp};

impl World {
    pub(super) fn warm_up(&mut self, backend: BackendName, instance: Instance) {
        self.machine(backend.as_str()).warm_ups += 1;
        let failed = if self.chance(self.faults.warm_up_fails) { 10 } else { 0 };
        let ms = self.rng.random_range(20..800);
        let result =
            WarmUp { through: Through::DataPath, ok: 10 - failed, failed, took_ms: ms, first_failure: None };
        if !self.chance(self.faults.warm_up_lost) {
            self.later(ms, Happening::Heard(Input::WarmedUp { backend, instance, result }));
        }
    }

    pub(super) fn answer_hooks(&mut self, call: &HookCall) {
        if self.chance(self.faults.lost_answers) {
            return;
        }
        let failure = self.chance(self.faults.vetoes).then(|| "exit status 1".to_owned());
        let report = HookReport { phase: call.phase, hook: "/bin/ask".into(), took_ms: HOOK_MS, failure };
        let late = self.latency();
        self.later(
            HOOK_MS + late,
            Happening::Heard(Input::Hooked { call: call.call, reports: vec![report] }),
        );
    }

    pub(super) fn answer_diagnosis(&mut self, backend: BackendName) {
        if self.chance(self.faults.lost_answers) {
            return;
        }
        let report = DiagnosisReport {
            command: vec!["/bin/dump".into()],
            took_ms: DIAGNOSIS_MS,
            exit_status: Some(0),
            failure: None,
            last_lines: vec!["dumped".into()],
        };
        let late = self.latency();
        self.later(DIAGNOSIS_MS + late, Happening::Heard(Input::Diagnosed { backend, report }));
    }

    /// What became of an order nobody knows.
    pub(super) fn loses(&mut self, backend: &BackendName) -> bool {
        let lost = self.chance(self.faults.orders_lost);
        if lost {
            let error = "the driver has not answered".to_owned();
            let input = Input::StartFailed { backend: backend.clone(), error };
            self.later(PATIENCE_MS, Happening::Heard(input));
        }
        lost
    }

    pub(super) fn start(&mut self, backend: BackendName) {
        if self.loses(&backend) {
            if self.machines[&backend].life.is_none() && self.rng.random() {
                self.begin_life(&backend);
            }
            return;
        }
        let fails = self.chance(self.faults.start_fails);
        let machine = self.machines.get_mut(&backend).unwrap();
        if machine.life.is_some() || fails || machine.bad_starts > 0 {
            machine.bad_starts = machine.bad_starts.saturating_sub(1);
            return self.hear_later(Input::StartFailed { backend, error: "no such file".into() });
        }
        self.begin_life(&backend);
        let instance = self.machines[&backend].life.as_ref().unwrap().instance;
        self.hear_later(Input::Started { backend, instance });
    }

    pub(super) fn begin_life(&mut self, backend: &BackendName) {
        self.serial += 1;
        let instance = Instance { pid: 100 + self.serial as u32, start_ticks: self.now.boot_ms / 10 };
        let listens_at = self.now.boot_ms + self.rng.random_range(0..300);
        let machine = self.machines.get_mut(backend).unwrap();
        machine.starts += 1;
        let memory = machine.fresh_bytes;
        let (wedged, mute, resets) = (false, false, false);
        machine.life = Some(Life { instance, listens_at, wedged, mute, resets, memory });
    }

    pub(super) fn end(&mut self, backend: BackendName, cut: Vec<CutFlow>) {
        if self.loses(&backend) {
            if self.rng.random() {
                self.end_life(&backend);
            }
            return;
        }
        if self.chance(self.faults.stop_fails) {
            return self.hear_later(Input::StartFailed { backend, error: "it hangs in the kernel".into() });
        }
        let life = self.machines[&backend].life.clone();
        self.end_life(&backend);
        if let Some(Life { instance, .. }) = life {
            self.hear_later(Input::Exited { backend: backend.clone(), instance, status: "stopped".into() });
        }
        self.hear_later(Input::Stopped { backend, cut });
    }

    pub(super) fn end_life(&mut self, backend: &BackendName) {
        let machine = self.machines.get_mut(backend).unwrap();
        (machine.life, machine.flows) = (None, 0);
    }
}
