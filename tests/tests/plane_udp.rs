//! Datagrams through the data plane alone, over handovers: each is answered, and by whom the service says.

use baton_tests::plane::{Family, Layout, Options, Plane, ask};
use lb_common::endpoint::UDP;
use lb_common::tables::service_flags::MOVE_DATAGRAMS;

const CONVERSATIONS: usize = 4;
/// Datagrams that make sure that every conversation has had its turn.
const ENOUGH: usize = 400;

/// Conversations over a handover; the backends that answered each, without repetitions.
fn over_a_handover(mut plane: Plane) -> Vec<Vec<u8>> {
    plane.serve();
    let conversations = plane.conversations(0, CONVERSATIONS);
    conversations.until_answered(ENOUGH);
    plane.handover(1);
    conversations.until_answered(ENOUGH);
    assert_eq!(ask(&plane.converse(0), 0), 1, "a new conversation is the new backend's");
    plane.settle();
    conversations.until_answered(ENOUGH);
    let mut answers = conversations.end();
    for names in &mut answers {
        names.dedup();
    }
    answers
}

fn options() -> impl Iterator<Item = Options> {
    let families = [Family::V4, Family::V6].into_iter();
    families.flat_map(|family| {
        [Layout::Routed, Layout::Switched, Layout::Tagged(7)].map(|layout| Options {
            family,
            layout,
            protocol: UDP,
            ..Options::default()
        })
    })
}

#[test]
fn conversations_that_move_follow_the_handover_at_once() {
    for options in options() {
        let answered = over_a_handover(Plane::new(Options { flags: MOVE_DATAGRAMS, ..options }));
        assert_eq!(answered, vec![vec![0, 1]; CONVERSATIONS], "{options:?}");
    }
}

#[test]
fn conversations_that_are_pinned_stay_where_they_began() {
    for options in options() {
        let answered = over_a_handover(Plane::new(options));
        assert_eq!(answered, vec![vec![0]; CONVERSATIONS], "{options:?}");
    }
}
