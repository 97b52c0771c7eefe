//! Hooks and diagnoses, run beside the loop of the controller, which never waits for them.
//!
//! They end with the controller: what it asked and was not answered the next one asks again.

mod webhook;

use std::time::Duration;

use super::runtime::Runtime;
use super::tasks::Reporter;
use crate::check::TlsCheck;
use crate::clock::Now;
use crate::config::{Hook, HookAction};
use crate::driver::Driver;
use crate::names::BackendName;
use crate::program::{self, Failure, Job, Leaves, Subject};
use crate::recovery::Input;
use crate::recovery::hook::{DiagnosisReport, HookCall, HookReport};
use crate::recovery::report::Reason;

impl Runtime {
    /// Runs the hooks of a phase.
    pub(super) fn call_hooks(&mut self, call: HookCall) {
        let hooks: Vec<_> = self.service.hooks.iter().filter(|hook| hook.on == call.phase).cloned().collect();
        let Some(subject) = self.subject(&call.backend) else { return };
        let reporter = self.reporter.clone();
        self.beside(run_hooks(hooks, call, subject, reporter));
    }

    /// Runs the diagnosis of a drained backend.
    pub(super) fn diagnose(&mut self, backend: BackendName, reason: &Reason) {
        let recovery = &self.service.recovery;
        let (Some(command), Some(subject)) = (recovery.diagnose.clone(), self.subject(&backend)) else {
            return;
        };
        let limit = recovery.diagnose_timeout;
        let driver = self.parts.backends.get(&backend).map(|parts| &parts.driver);
        let pid = driver.and_then(Driver::alive).filter(|life| life.is_known());
        let variables = [
            ("BATON_PID", pid.map_or_else(String::new, |life| life.pid.to_string())),
            ("BATON_REASON", reason.to_string()),
        ];
        let reporter = self.reporter.clone();
        self.beside(async move {
            let report = run_diagnosis(command, &subject, &variables, limit).await;
            // A runtime that has ended needs no report.
            let _ = reporter.send(Input::Diagnosed { backend, report }).await;
        });
    }

    fn subject(&self, backend: &BackendName) -> Option<Subject> {
        Some(Subject {
            service: Some(self.service.name.clone()),
            backend: Some(backend.clone()),
            address: self.parts.backends.get(backend)?.address,
        })
    }

    fn beside(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        // Those that have ended are forgotten here, so that they do not pile up.
        while self.hooks.try_join_next().is_some() {}
        self.hooks.spawn(work);
    }
}

/// Runs them one after the other; who is asked for consent needs not be asked after the first veto.
async fn run_hooks(hooks: Vec<Hook>, call: HookCall, subject: Subject, reporter: Reporter) {
    let number = call.call;
    let mut reports = Vec::new();
    for hook in &hooks {
        let report = run_hook(hook, &call, &subject).await;
        let is_veto = report.failure.is_some() && call.phase.asks();
        reports.push(report);
        if is_veto {
            break;
        }
    }
    // A runtime that has ended needs no report.
    let _ = reporter.send(Input::Hooked { call: number, reports }).await;
}

async fn run_hook(hook: &Hook, call: &HookCall, subject: &Subject) -> HookReport {
    let begun = Now::read();
    let document = serde_json::to_vec(call).unwrap_or_default();
    let result = match &hook.action {
        HookAction::Exec(command) => execute(command, &document, call, subject, hook.timeout).await,
        HookAction::Webhook { url, ca_file, retries } => {
            let trust = TlsCheck { ca_file: ca_file.clone(), ..TlsCheck::default() };
            webhook::post(url, &trust, &document, hook.timeout, *retries, Hook::RETRY_WAIT).await
        }
    };
    let took_ms = Now::read().ms_since(begun);
    let name = match &hook.action {
        HookAction::Exec(command) => command.join(" "),
        HookAction::Webhook { url, .. } => url.clone(),
    };
    HookReport { phase: call.phase, hook: name, took_ms, failure: result.err() }
}

async fn execute(
    command: &[String],
    document: &[u8],
    call: &HookCall,
    subject: &Subject,
    limit: Duration,
) -> Result<(), String> {
    let reason = call.reason.as_ref().map(ToString::to_string).unwrap_or_default();
    let variables = [("BATON_PHASE", call.phase.name().to_owned()), ("BATON_REASON", reason)];
    let job = Job {
        command,
        subject,
        variables: &variables,
        input: document,
        leaves: Leaves::Nothing,
        netns: None,
        limit,
    };
    match job.run().await {
        Ok(ended) if ended.status.success() => Ok(()),
        Ok(ended) => {
            let said = program::last_words(&ended.output);
            let said = if said.is_empty() { String::new() } else { format!(": {}", said.join(" / ")) };
            Err(format!("{}{said}", ended.in_words()))
        }
        Err(failure) => Err(in_words(&failure, limit)),
    }
}

async fn run_diagnosis(
    command: Vec<String>,
    subject: &Subject,
    variables: &[(&'static str, String)],
    limit: Duration,
) -> DiagnosisReport {
    let begun = Now::read();
    let job = Job {
        command: &command,
        subject,
        variables,
        input: &[],
        leaves: Leaves::Nothing,
        netns: None,
        limit,
    };
    let result = job.run().await;
    let took_ms = Now::read().ms_since(begun);
    let (exit_status, failure, last_lines) = match result {
        Ok(ended) => {
            let failure = (!ended.status.success()).then(|| ended.in_words());
            (ended.status.code(), failure, program::last_words(&ended.output))
        }
        Err(failure) => (None, Some(in_words(&failure, limit)), Vec::new()),
    };
    DiagnosisReport { command, took_ms, exit_status, failure, last_lines }
}

fn in_words(failure: &Failure, limit: Duration) -> String {
    match failure {
        Failure::NotRun(error) => format!("cannot be run: {error}"),
        Failure::TimedOut => {
            format!("did not end within {} and was killed", humantime::format_duration(limit))
        }
    }
}
