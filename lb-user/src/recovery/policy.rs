//! The settings of a service's rejuvenation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::hook::Phase;
use super::ladder::{GRACEFUL, Rung};
use super::message::Instance;
use super::window::{self, Openness};
use crate::check::{Rule, Window};
use crate::clock::Now;
use crate::names::{BackendName, ServiceName};

/// The deadline of a drain that has none.
pub(super) const NEVER_MS: u64 = u64::MAX;

/// What becomes of the flows that are left at the drain deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stragglers {
    /// They are cut, and the report names them.
    #[default]
    Cut,
    /// They are waited for, until they end or an operator cuts them.
    Wait,
}

/// By how much lives of equal backends are rejuvenated at different ages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// By up to this share of the age (0 to 100).
    Percent(u8),
    /// By up to so many milliseconds.
    Ms(u64),
}

impl Default for Jitter {
    fn default() -> Self {
        Self::Percent(0)
    }
}

/// When to rejuvenate, and how long to wait for what. Times are in milliseconds.
///
/// What an earlier version did not write down is read as its default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct Policy {
    /// Whether every backend that is ready is active, as in a pool; else one is, and the others wait.
    pub spread: bool,
    /// In a pool: nobody is taken out if fewer backends than this would be left active (1 or more).
    pub active_least: u32,
    /// What [`Policy::ceiling_percent`] is a percentage of, in bytes.
    pub memory_limit_bytes: u64,
    /// Memory beyond this share of the limit asks for a rejuvenation (1 to 100; default 50, as the paper).
    pub ceiling_percent: u8,
    /// Samples beyond the ceiling that ask for a rejuvenation...
    pub ceiling_hits: u32,
    /// ...among this many last ones.
    pub ceiling_window: u32,
    /// No automatic rejuvenation within this time after a handover.
    pub cooldown_ms: u64,
    /// No automatic rejuvenation of a life that is younger than this.
    pub min_uptime_ms: u64,
    /// Time between checks of a backend.
    pub check_period_ms: u64,
    /// A check that takes longer has failed; so a pass may be older than its period says by so much.
    pub check_timeout_ms: u64,
    /// Passed checks in a row that make a backend ready.
    pub rise: u32,
    /// Failed checks in a row that make it unfit.
    pub fall: u32,
    /// How long flows may take to end by themselves before [`Policy::stragglers`] says what becomes of them.
    pub drain_deadline_ms: u64,
    /// What becomes of the flows that are left then.
    pub stragglers: Stragglers,
    /// Whether the flows of a backend that is dead are reset at their next packet; else they are left to find
    /// out by themselves.
    pub reset_dead: bool,
    /// How long a backend must be seen without flows before it is restarted.
    pub settle_ms: u64,
    /// How long after a handover a failure of the new active backend is answered by going back.
    pub observation_ms: u64,
    /// How long a restarted backend may take to become ready before the report says that it did not.
    pub ready_deadline_ms: u64,
    /// Wait before a failed start is tried again; it doubles up to 64 times this.
    pub retry_ms: u64,
    /// Failures among the last checks that make a backend unfit although passes are among them.
    pub fall_window: Option<Window>,
    /// Failed checks in a row that make it unfit if clients asked it meanwhile and none was answered (1 or more).
    pub fall_ignored: u32,
    /// Each time but the first that a backend fails its checks, it stays out so much longer.
    pub ejection_step_ms: u64,
    /// And never longer than this.
    pub ejection_most_ms: u64,
    /// Each time that it has been fit for so long, one of the times is forgotten (1 or more).
    pub ejection_forget_ms: u64,
    /// The rules that only speak.
    pub shadow: ShadowRules,
    /// Requests that a backend gets before it may get those of clients; 0 if there is no warm-up.
    pub warm_up_requests: u32,
    /// So many percent of them have to succeed (1 to 100).
    pub warm_up_pass_percent: u8,
    /// How long all of them may take.
    pub warm_up_deadline_ms: u64,
    /// The steps that there are for each backend, in order, and none if only its operator can restart it; one that
    /// is not named here is restarted gracefully.
    pub ladders: BTreeMap<BackendName, Vec<Rung>>,
    /// Failed runs of its ladder in a row after which a backend is left alone while another one serves; 0 means
    /// never.
    pub quarantine_after: u32,
    /// The phases that have hooks, and how long those may take together.
    pub hooks: BTreeMap<Phase, u64>,
    /// Rules ask again so long after a veto.
    pub veto_retry_ms: u64,
    /// A drained backend is stopped so long after it was first asked about, whatever hooks say.
    pub veto_limit_ms: u64,
    /// How long the diagnosis of a drained backend may take; without it there is none.
    pub diagnosis_ms: Option<u64>,
    /// Whether a rejuvenation that is wanted waits for [`super::Input::Leave`] to begin.
    pub asks: bool,
    /// When rules may rejuvenate; at all times if there is none.
    pub windows: Vec<window::Window>,
    /// Whether a ceiling may rejuvenate outside the windows, too.
    pub ceiling_breaks_window: bool,
    /// A life of this age is rejuvenated; at no age if not given.
    pub max_age_ms: Option<u64>,
    /// How much earlier than at [`Policy::max_age_ms`] that may be.
    pub jitter: Jitter,
}

/// The rules that say what they would do, and do nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShadowRules {
    /// A backend that fails its checks is not taken out.
    pub checks: bool,
    /// A backend beyond the ceiling is not renewed.
    pub ceiling: bool,
}

/// The answer of a warm-up whose time is over is waited for so long.
const WARM_UP_GRACE_MS: u64 = 2_000;

impl Default for Policy {
    fn default() -> Self {
        Self {
            spread: false,
            active_least: 1,
            memory_limit_bytes: u64::MAX,
            ceiling_percent: 50,
            ceiling_hits: 2,
            ceiling_window: 3,
            cooldown_ms: 1_000,
            min_uptime_ms: 0,
            check_period_ms: 250,
            check_timeout_ms: 1_000,
            rise: 2,
            fall: 3,
            drain_deadline_ms: 60_000,
            stragglers: Stragglers::Cut,
            reset_dead: true,
            settle_ms: 300,
            observation_ms: 10_000,
            ready_deadline_ms: 60_000,
            retry_ms: 1_000,
            fall_window: None,
            fall_ignored: 2,
            ejection_step_ms: 10_000,
            ejection_most_ms: 300_000,
            ejection_forget_ms: 600_000,
            shadow: ShadowRules::default(),
            warm_up_requests: 0,
            warm_up_pass_percent: 100,
            warm_up_deadline_ms: 30_000,
            ladders: BTreeMap::new(),
            quarantine_after: 0,
            hooks: BTreeMap::new(),
            veto_retry_ms: 60_000,
            veto_limit_ms: 600_000,
            diagnosis_ms: None,
            asks: false,
            windows: Vec::new(),
            ceiling_breaks_window: true,
            max_age_ms: None,
            jitter: Jitter::default(),
        }
    }
}

impl Policy {
    /// Bytes of memory beyond which a backend is over the ceiling.
    pub fn ceiling_bytes(&self) -> u64 {
        self.memory_limit_bytes / 100 * u64::from(self.ceiling_percent)
    }

    /// How many results of checks make a verdict.
    pub fn rule(&self) -> Rule {
        Rule { rise: self.rise, fall: self.fall, window: self.fall_window }
    }

    /// Backends that have to stay active when one is taken out.
    pub fn floor(&self) -> usize {
        if self.spread { self.active_least.max(1) as usize } else { 1 }
    }

    /// Whether checks mean the same under both.
    pub(super) fn judges_like(&self, other: &Self) -> bool {
        let of = |policy: &Self| {
            let rule = policy.rule();
            (
                rule.rise,
                rule.fall,
                rule.window,
                policy.fall_ignored,
                policy.check_period_ms,
                policy.check_timeout_ms,
            )
        };
        of(self) == of(other)
    }

    /// A warm-up that has not been heard of within this is taken to have failed, in milliseconds.
    pub(super) fn warm_up_limit_ms(&self) -> u64 {
        self.warm_up_deadline_ms.saturating_add(WARM_UP_GRACE_MS)
    }

    /// How long a backend may take from its stop to its return, in milliseconds.
    pub(super) fn return_limit_ms(&self) -> u64 {
        let warm_up_ms = if self.warm_up_requests > 0 { self.warm_up_limit_ms() } else { 0 };
        self.ready_deadline_ms.saturating_add(warm_up_ms)
    }

    /// The steps that there are for a backend, in order.
    pub(super) fn rungs(&self, name: &BackendName) -> &[Rung] {
        self.ladders.get(name).map_or(&[GRACEFUL], Vec::as_slice)
    }

    /// Whether anything can be done to renew a backend; else only its operator can.
    pub(super) fn can_renew(&self, name: &BackendName) -> bool {
        !self.rungs(name).is_empty()
    }

    /// What the windows say to this moment.
    pub fn openness(&self, now: Now) -> Openness {
        window::openness(&self.windows, now.unix_ms)
    }

    /// The age at which a life is rejuvenated, in milliseconds: drawn once for each life, the same at each look.
    pub fn age_limit_ms(&self, service: &ServiceName, backend: &BackendName, life: Instance) -> Option<u64> {
        let max_age_ms = self.max_age_ms?;
        let spread_ms = match self.jitter {
            Jitter::Percent(percent) => max_age_ms / 100 * u64::from(percent.min(100)),
            Jitter::Ms(ms) => ms.min(max_age_ms),
        };
        let mut hash = crc32fast::Hasher::new();
        hash.update(format!("{service} {backend} {} {}", life.pid, life.start_ticks).as_bytes());
        // A checksum of names that hardly differ is stirred until each of its bits depends on all.
        let drawn = stir(hash.finalize());
        let earlier_ms = (u128::from(spread_ms) * u128::from(drawn)) >> u32::BITS;
        Some(max_age_ms.saturating_sub(u64::try_from(earlier_ms).unwrap_or(spread_ms)))
    }

    /// When what is left of a drain that begins now is cut, in milliseconds of the boot clock.
    pub(super) fn drain_deadline(&self, now: Now) -> u64 {
        match self.stragglers {
            Stragglers::Cut => now.plus_ms(self.drain_deadline_ms).boot_ms,
            Stragglers::Wait => NEVER_MS,
        }
    }
}

fn stir(bits: u32) -> u32 {
    let bits = (bits ^ bits >> 16).wrapping_mul(0x85eb_ca6b);
    let bits = (bits ^ bits >> 13).wrapping_mul(0xc2b2_ae35);
    bits ^ bits >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn limits(jitter: Jitter) -> Vec<u64> {
        let policy = Policy { max_age_ms: Some(100 * HOUR_MS), jitter, ..Policy::default() };
        let service = "shop".parse().unwrap();
        let lives = (0..500u64).map(|number| Instance { pid: 100 + number as u32, start_ticks: 7 * number });
        let names = ["a", "b", "c"].map(|name| name.parse::<BackendName>().unwrap());
        let limit = |name, life| policy.age_limit_ms(&service, name, life).unwrap();
        let drawn: Vec<_> =
            lives.clone().flat_map(|life| names.each_ref().map(|name| limit(name, life))).collect();
        let again: Vec<_> = lives.flat_map(|life| names.each_ref().map(|name| limit(name, life))).collect();
        assert_eq!(drawn, again, "a life keeps what was drawn for it");
        drawn
    }

    #[test]
    fn equal_backends_age_apart_and_none_longer_than_it_may() {
        let hours = |limits: &[u64], from: u64, to: u64| {
            limits.iter().filter(|ms| (from * HOUR_MS..=to * HOUR_MS).contains(ms)).count()
        };
        for jitter in [Jitter::Percent(20), Jitter::Ms(20 * HOUR_MS)] {
            let limits = limits(jitter);
            assert_eq!(hours(&limits, 80, 100), 1_500);
            // Each quarter gets its share.
            for from in [80, 85, 90, 95] {
                let count = hours(&limits, from, from + 5);
                assert!((300..450).contains(&count), "{count} from {from} h on");
            }
        }
        assert!(limits(Jitter::default()).iter().all(|ms| *ms == 100 * HOUR_MS));
        let more_than_there_is = limits(Jitter::Ms(u64::MAX));
        assert!(more_than_there_is.iter().all(|ms| *ms <= 100 * HOUR_MS));
    }

    #[test]
    fn a_policy_of_before_there_were_windows_is_read() {
        let old: Policy = serde_json::from_str("{\"rise\":7}").unwrap();
        assert_eq!(old, Policy { rise: 7, ..Policy::default() });
    }
}
