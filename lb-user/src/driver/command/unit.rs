//! What is asked of systemd, and what it says.

/// What asks systemd.
const SYSTEMCTL: &str = "systemctl";

/// A command of systemd's.
pub(super) fn systemctl(arguments: &[&str]) -> Vec<String> {
    std::iter::once(SYSTEMCTL).chain(arguments.iter().copied()).map(str::to_owned).collect()
}

/// What systemd says of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Its main process runs.
    Process(u32),
    /// It is active without a main process.
    Active,
    /// It is not active.
    Inactive,
}

/// Reads the properties `ActiveState` and `MainPID`, as `systemctl show` prints them.
pub(super) fn unit_state(lines: &[String]) -> Unit {
    let value = |key: &str| lines.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let pid = value("MainPID").and_then(|pid| pid.parse().ok()).filter(|pid| *pid != 0);
    match (pid, value("ActiveState")) {
        (Some(pid), _) => Unit::Process(pid),
        (None, Some("active" | "reloading")) => Unit::Active,
        (None, _) => Unit::Inactive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_known_by_its_main_process_or_by_its_state() {
        let state = |text: &str| unit_state(&text.lines().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(state("MainPID=812\nActiveState=active"), Unit::Process(812));
        assert_eq!(state("MainPID=0\nActiveState=active"), Unit::Active);
        for text in ["MainPID=0\nActiveState=failed", "MainPID=0\nActiveState=inactive", "", "MainPID=x"] {
            assert_eq!(state(text), Unit::Inactive, "{text}");
        }
    }
}
