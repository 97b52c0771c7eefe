//! Journals that are torn, damaged, too large, and on disks that refuse.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::PathBuf;

use super::*;

fn ended(cycle: u64) -> Record {
    Record::Ended { cycle, outcome: Outcome::Completed }
}

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("service/journal");
    (directory, path)
}

#[test]
fn what_was_appended_is_found_again() {
    let (_directory, path) = scratch();
    let (mut journal, history) = Journal::open(&path);
    assert_eq!(history, History::default());
    journal.append(&[ended(1), ended(2)]).unwrap();
    journal.probe().unwrap();
    journal.append(&[ended(3)]).unwrap();
    let (_, history) = Journal::open(&path);
    assert_eq!(history, History { records: vec![ended(1), ended(2), ended(3)], ..History::default() });
}

#[test]
fn a_torn_tail_is_cut_off_at_every_length_and_writing_goes_on() {
    let (_directory, path) = scratch();
    let (mut journal, _) = Journal::open(&path);
    journal.append(&[ended(1)]).unwrap();
    let whole = fs::metadata(&path).unwrap().len();
    journal.append(&[ended(2)]).unwrap();
    let bytes = fs::read(&path).unwrap();
    for cut in whole as usize + 1..bytes.len() {
        fs::write(&path, &bytes[..cut]).unwrap();
        let (mut journal, history) = Journal::open(&path);
        assert_eq!(history.records, [ended(1)], "cut at {cut}");
        assert_eq!(history.torn, cut as u64 - whole);
        journal.append(&[ended(9)]).unwrap();
        assert_eq!(Journal::open(&path).1.records, [ended(1), ended(9)]);
    }
}

#[test]
fn a_flipped_bit_loses_one_record_and_pauses_wherever_it_is() {
    let (_directory, path) = scratch();
    Journal::open(&path).0.append(&[ended(1), ended(2), ended(3)]).unwrap();
    let bytes = fs::read(&path).unwrap();
    let line = bytes.len() / 3;
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let (mut journal, history) = Journal::open(&path);
        let whole: Vec<_> =
            (0..3).filter(|number| *number != at / line).map(|number| ended(number as u64 + 1)).collect();
        let (records, damage) = (history.records, history.damage);
        // Without its end a line runs into the next one; at the end it is torn.
        if at + 1 == bytes.len() {
            assert_eq!((records, damage, history.torn), (whole, None, line as u64));
            continue;
        }
        let merged = at % line == line - 1;
        let left = if merged { records.len() == 2 } else { records[..2] == whole };
        assert!(left && records.last() == Some(&Record::Paused), "bit flipped in byte {at}: {records:?}");
        let said = damage.unwrap().to_string();
        // At either end there is no number to count by.
        let is_counted = at / line == 1 && !merged;
        let lost = if is_counted { "1 record was lost: " } else { "at least 1 record was lost: " };
        assert!(said.starts_with(lost), "bit flipped in byte {at}: {said}");
        assert_eq!(fs::read(path.with_extension("damaged")).unwrap(), damaged);
        // From here on it is whole, and says the same.
        journal.append(&[ended(4)]).unwrap();
        let (_, again) = Journal::open(&path);
        assert_eq!((again.damage, again.torn), (None, 0));
        assert!(Standing::of(&again.records).paused && again.records.contains(&ended(4)));
    }
}

#[test]
fn what_stands_behind_damage_still_stands_and_what_was_lost_is_said() {
    let (_directory, path) = scratch();
    let b: BackendName = "b".parse().unwrap();
    let word = [Record::MaintenanceBegan, Record::HeldOut { backend: b.clone() }];
    let step = Record::Step { backend: b.clone(), step: Step::Reboot, number: 1 };
    let left_alone = Record::Quarantined { backend: b.clone() };
    let after = [step, left_alone];
    Journal::open(&path).0.append(&[&[ended(1), ended(2)], &word[..], &after[..]].concat()).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    bytes[second + 12] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (_, history) = Journal::open(&path);
    let expected = Standing {
        held_out: [b.clone()].into(),
        paused: true,
        steps: [(b.clone(), (Step::Reboot, 1))].into(),
        quarantined: [b].into(),
        maintenance: true,
    };
    assert_eq!(Standing::of(&history.records), expected);
    let size = bytes[second..].iter().position(|byte| *byte == b'\n').unwrap() + 1;
    assert_eq!(
        history.damage.unwrap().to_string(),
        format!("1 record was lost: 1 after number 1 ({size} damaged bytes at byte {second})")
    );
    // The next one finds the same, and no damage.
    let (_, again) = Journal::open(&path);
    assert_eq!((Standing::of(&again.records), again.damage), (expected, None));
}

#[test]
fn a_word_of_the_operators_after_the_damage_stands() {
    let (_directory, path) = scratch();
    Journal::open(&path).0.append(&[Record::Paused, ended(1), Record::Resumed]).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[12] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (_, history) = Journal::open(&path);
    assert!(history.damage.is_some());
    assert_eq!(history.records, [ended(1), Record::Resumed]);
}

#[test]
fn a_record_that_is_missing_without_a_trace_is_missed() {
    let (_directory, path) = scratch();
    Journal::open(&path).0.append(&[ended(1), ended(2), ended(3)]).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    fs::write(&path, [lines[0], lines[2]].concat()).unwrap();
    let (_, history) = Journal::open(&path);
    let at = lines[0].len();
    assert_eq!(
        history.damage.unwrap().to_string(),
        format!("1 record was lost: 1 after number 1 (0 damaged bytes at byte {at})")
    );
    // Nor does one count twice; then nothing is lost.
    fs::write(&path, [lines[0], lines[1], lines[1], lines[2]].concat()).unwrap();
    let (_, history) = Journal::open(&path);
    assert_eq!(history.records, [ended(1), ended(2), ended(3)]);
}

#[test]
fn a_record_of_another_version_is_no_damage_and_is_kept() {
    let (_directory, path) = scratch();
    let (mut journal, _) = Journal::open(&path);
    journal.append(&[Record::Paused]).unwrap();
    let unknown = r#"{"record":"moved","to":"elsewhere"}"#;
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend(lines::line_of(2, unknown));
    fs::write(&path, &bytes).unwrap();
    let (mut journal, history) = Journal::open(&path);
    assert_eq!(history, History { records: vec![Record::Paused], ..History::default() });
    journal.append(&(0..20_000).map(ended).collect::<Vec<_>>()).unwrap();
    assert!(fs::read_to_string(&path).unwrap().contains(unknown));
    let (_, history) = Journal::open(&path);
    assert_eq!(history.records, [Record::Paused, ended(19_999)]);
    assert_eq!((history.damage, history.torn), (None, 0));
}

#[test]
fn a_large_journal_keeps_the_last_cycle_only_also_while_it_is_open() {
    let (_directory, path) = scratch();
    let (mut journal, _) = Journal::open(&path);
    for batch in 0..40 {
        let many: Vec<_> = (batch * 1_000..(batch + 1) * 1_000).map(ended).collect();
        journal.append(&many).unwrap();
        assert!(fs::metadata(&path).unwrap().len() <= 1 << 20);
    }
    journal.append(&[ended(40_000)]).unwrap();
    let (_, history) = Journal::open(&path);
    assert_eq!(history.records.last(), Some(&ended(40_000)));
    assert_eq!((history.damage, history.torn), (None, 0));
}

#[test]
fn a_large_journal_keeps_what_operators_have_said() {
    let (_directory, path) = scratch();
    let (mut journal, _) = Journal::open(&path);
    let (a, b): (BackendName, BackendName) = ("a".parse().unwrap(), "b".parse().unwrap());
    let held_out = |backend: &BackendName| Record::HeldOut { backend: backend.clone() };
    let ready = Record::Ready { backend: a.clone() };
    let said = [held_out(&a), held_out(&b), Record::Paused, Record::MaintenanceBegan, ready];
    journal.append(&said).unwrap();
    journal.append(&(0..20_000).map(ended).collect::<Vec<_>>()).unwrap();
    drop(Journal::open(&path));
    let (_, history) = Journal::open(&path);
    assert_eq!(history.records, [Record::Paused, Record::MaintenanceBegan, held_out(&b), ended(19_999)]);
    assert_eq!(
        Standing::of(&history.records),
        Standing { held_out: [b].into(), paused: true, maintenance: true, ..Standing::default() }
    );
    assert_eq!(Standing::of(&[Record::Paused, Record::Resumed]), Standing::default());
    let over = [Record::MaintenanceBegan, Record::MaintenanceEnded];
    assert_eq!(Standing::of(&over), Standing::default());
}

#[test]
fn a_large_journal_keeps_how_far_recoveries_got() {
    let (_directory, path) = scratch();
    let (mut journal, _) = Journal::open(&path);
    let (a, b): (BackendName, BackendName) = ("a".parse().unwrap(), "b".parse().unwrap());
    let step = |backend: &BackendName, step, number| Record::Step { backend: backend.clone(), step, number };
    let kept = [step(&b, Step::Recreate, 2), Record::Quarantined { backend: b.clone() }];
    let over = [step(&a, Step::Reboot, 1), Record::Quarantined { backend: a.clone() }];
    journal.append(&[step(&b, Step::Reboot, 1)]).unwrap();
    journal.append(&kept).unwrap();
    journal.append(&over).unwrap();
    journal.append(&[Record::Recovered { backend: a }]).unwrap();
    journal.append(&(0..20_000).map(ended).collect::<Vec<_>>()).unwrap();
    drop(Journal::open(&path));
    let (_, history) = Journal::open(&path);
    assert_eq!(history.records, [kept.as_slice(), &[ended(19_999)]].concat());
}

#[test]
fn a_record_of_before_there_were_pools_is_read() {
    let old = r#"{"record":"handover","cycle":3,"from":"a","to":"b","epoch":4,"reason":{"code":"operator"},
        "at":{"boot_ms":1,"unix_ms":2},"drain_deadline_ms":5,"instance":null}"#;
    let Record::Handover { to, .. } = serde_json::from_str(old).unwrap() else { panic!("another record") };
    assert_eq!(to, Some("b".parse().unwrap()));
}

#[test]
fn a_full_disk_is_an_error_and_leaves_the_journal_whole() {
    let (_directory, path) = scratch();
    let (mut journal, _) = Journal::open(&path);
    journal.append(&[ended(1)]).unwrap();
    journal.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
    assert!(journal.append(&[ended(2)]).is_err());
    assert!(journal.probe().is_err());
    assert_eq!(Journal::open(&path).1.records, [ended(1)]);
}

#[test]
fn a_probe_that_was_not_cut_off_loses_nothing() {
    let (_directory, path) = scratch();
    let (mut journal, _) = Journal::open(&path);
    journal.append(&[ended(1)]).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    // What cannot be cut off is left as if the controller had died before it could be.
    let memory = rustix::fs::memfd_create("journal", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
    let mut file = fs::File::from(memory);
    file.write_all(&bytes).unwrap();
    rustix::fs::fcntl_add_seals(&file, rustix::fs::SealFlags::SHRINK).unwrap();
    journal.file = Some(file.try_clone().unwrap());
    assert!(journal.probe().is_err());
    bytes.clear();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    fs::write(&path, &bytes).unwrap();
    let (_, history) = Journal::open(&path);
    assert_eq!(history, History { records: vec![ended(1)], torn: 1024, ..History::default() });
    assert_eq!(Journal::open(&path).1.torn, 0);
}

#[test]
fn a_journal_that_cannot_be_read_is_taken_up_once_it_can_if_it_says_nothing_new() {
    let (directory, path) = scratch();
    // Nothing can be made below a file.
    let in_the_way = directory.path().join("service");
    fs::write(&in_the_way, "").unwrap();
    let (mut journal, history) = Journal::open(&path);
    assert!(
        history.records.is_empty() && history.unread.is_some() && history.trouble.is_some(),
        "{history:?}"
    );
    assert!(journal.append(&[ended(1)]).is_err() && journal.probe().is_err() && !journal.holds_more());
    fs::remove_file(&in_the_way).unwrap();
    journal.probe().unwrap();
    journal.append(&[ended(1)]).unwrap();
    assert_eq!(Journal::open(&path).1.records, [ended(1)]);
}

#[test]
fn a_journal_that_turns_out_to_say_more_is_left_as_it_is() {
    let (directory, path) = scratch();
    let in_the_way = directory.path().join("service");
    fs::write(&in_the_way, "").unwrap();
    let (mut journal, _) = Journal::open(&path);
    fs::remove_file(&in_the_way).unwrap();
    Journal::open(&path).0.append(&[Record::MaintenanceBegan]).unwrap();
    let error = journal.append(&[ended(1)]).unwrap_err().to_string();
    assert!(journal.holds_more() && error.contains("other records"), "{error}");
    assert!(journal.probe().is_err());
    assert_eq!(Journal::open(&path).1.records, [Record::MaintenanceBegan]);
}

#[test]
fn what_is_under_way_is_read_without_opening_the_journal() {
    let (_directory, path) = scratch();
    assert_eq!(under_way(&path), None, "there is no journal");
    let handover = |cycle, reason| Record::Handover {
        cycle,
        from: "a".parse().unwrap(),
        to: None,
        epoch: 1,
        reason,
        at: Now { boot_ms: 1, unix_ms: 1 },
        drain_deadline_ms: 1,
        instance: None,
    };
    let (mut journal, _) = Journal::open(&path);
    journal.append(&[handover(1, Reason::Operator)]).unwrap();
    assert_eq!(under_way(&path), Some(("a".parse().unwrap(), true)));
    journal.append(&[ended(1), handover(2, Reason::Died { status: "killed".into() })]).unwrap();
    assert_eq!(under_way(&path), Some(("a".parse().unwrap(), false)));
    journal.append(&[ended(2)]).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(under_way(&path), None);
    assert_eq!(fs::read(&path).unwrap(), bytes, "nothing is written");
}
