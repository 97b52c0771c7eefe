//! Cases of flows: what each packet shows, and what state that makes.

use super::tcp_flags::{ACK, FIN, RST, SYN};
use super::*;

const NOW: Ticks = Ticks(1000);

#[derive(Clone, Copy)]
enum Packet {
    Client(u8),
    Server(u8),
    ClientData,
    ServerData,
}
use Packet::{Client, ClientData, Server, ServerData};

fn after(halves: Halves, packets: &[Packet], now: Ticks) -> Halves {
    packets.iter().fold(halves, |Halves { client, server }, packet| match *packet {
        Client(flags) => Halves { client: client.after(flags, false, now), server },
        Server(flags) => Halves { client, server: server.after(flags, false, now) },
        ClientData => {
            let client = client.after(ACK, true, now);
            Halves { client: if client.same_turn_as(server) { client.next_turn() } else { client }, server }
        }
        ServerData => Halves { client, server: server.after(ACK, true, now).answering(client) },
    })
}

fn state_after(packets: &[Packet]) -> FlowState {
    after(Halves::default(), packets, NOW).state()
}

const HANDSHAKE: [Packet; 3] = [Client(SYN), Server(SYN | ACK), Client(ACK)];

fn established_then(packets: &[Packet]) -> Halves {
    after(after(Halves::default(), &HANDSHAKE, NOW), packets, NOW)
}

#[test]
fn a_handshake_is_half_open_until_the_client_has_acknowledged() {
    assert_eq!(state_after(&HANDSHAKE[..1]), FlowState::HalfOpen);
    assert_eq!(state_after(&HANDSHAKE[..2]), FlowState::HalfOpen);
    assert_eq!(state_after(&HANDSHAKE), FlowState::Established);
}

#[test]
fn a_flow_that_only_the_client_claims_is_unconfirmed() {
    for claim in [ACK, FIN | ACK, SYN] {
        let claimed = after(Halves::default(), &[Client(claim), Client(claim)], NOW);
        assert_eq!((claimed.state(), claimed.worth(NOW)), (FlowState::HalfOpen, Worth::Unconfirmed));
    }
    assert_eq!(state_after(&[Client(ACK), Server(ACK)]), FlowState::Established);
}

#[test]
fn an_acknowledgement_that_the_backend_resets_leaves_no_live_flow() {
    let forged = after(Halves::default(), &[Client(SYN), Server(SYN | ACK), Client(ACK), Server(RST)], NOW);
    assert_eq!((forged.state(), forged.worth(NOW)), (FlowState::Closed, Worth::Ended));
}

#[test]
fn it_closes_when_both_have_finished_and_not_before() {
    let fin = FIN | ACK;
    assert_eq!(established_then(&[Client(fin), Server(ACK)]).state(), FlowState::HalfClosed);
    assert_eq!(established_then(&[Server(fin), Client(ACK)]).state(), FlowState::HalfClosed);
    let closed = established_then(&[Client(fin), Server(fin), Client(ACK)]);
    assert_eq!((closed.state(), closed.worth(NOW)), (FlowState::Closed, Worth::Ended));
}

#[test]
fn a_reset_closes_it_from_either_side() {
    assert_eq!(established_then(&[Client(RST)]).state(), FlowState::Closed);
    assert_eq!(established_then(&[Server(RST | ACK)]).state(), FlowState::Closed);
}

#[test]
fn a_forged_reset_gives_the_entry_up_only_after_a_silence() {
    let reset = established_then(&[Client(RST)]);
    assert_eq!(reset.worth(NOW), Worth::Kept);
    assert_eq!(reset.worth(Ticks(NOW.0 + RESET_GRACE)), Worth::Ended);
    let revived = after(reset, &[Client(ACK)], NOW);
    assert_eq!((revived.state(), revived.worth(NOW)), (FlowState::Established, Worth::Kept));
}

#[test]
fn data_after_a_forged_fin_revives_the_flow_and_an_acknowledgement_does_not() {
    let finished = established_then(&[Client(FIN | ACK), Client(ACK)]);
    assert_eq!(finished.state(), FlowState::HalfClosed);
    assert_eq!(after(finished, &[ClientData], NOW).state(), FlowState::Established);
}

#[test]
fn a_request_awaits_its_response_until_the_first_byte() {
    let asked = established_then(&[ClientData, ClientData]);
    assert!(asked.awaits_response());
    assert!(after(asked, &[Server(ACK)], NOW).awaits_response(), "an acknowledgement is no response");
    assert!(!after(asked, &[ServerData], NOW).awaits_response());
    assert!(after(asked, &[ServerData, ClientData], NOW).awaits_response());
}

#[test]
fn turns_wrap_and_touch_nothing_else() {
    let mut half = Half::default().after(ACK, false, NOW);
    for _ in 0..1024 {
        half = half.next_turn();
    }
    assert_eq!(half, Half::default().after(ACK, false, NOW));
}

#[test]
fn a_flow_whose_replies_pass_elsewhere_is_judged_by_its_client() {
    let one_way = Halves { client: Half::default(), server: Half::ONE_WAY };
    let taken_up = after(one_way, &[Client(ACK)], NOW);
    assert_eq!((taken_up.state(), taken_up.worth(NOW)), (FlowState::HalfOpen, Worth::Unconfirmed));
    let opened = after(one_way, &[Client(SYN), ClientData], NOW);
    assert_eq!((opened.state(), opened.worth(NOW)), (FlowState::Established, Worth::Kept));
    assert!(!opened.awaits_response());
    let finished = after(opened, &[Client(FIN | ACK)], NOW);
    assert_eq!(finished.state(), FlowState::HalfClosed);
    assert!(
        !opened.may_begin_anew() && finished.may_begin_anew(),
        "nobody sees here whether the backend has"
    );
    assert!(opened.is_one_way() && !opened.is_datagram());
}

#[test]
fn a_flow_that_is_pinned_beforehand_begins_with_its_syn() {
    let (early, now) = (Ticks::from_bits(5), Ticks::from_bits(7));
    let awaited = Halves { client: Half::awaited(early), server: Half::default() };
    assert!(
        !awaited.has_begun() && !awaited.is_lease() && !awaited.is_datagram() && !awaited.awaits_response()
    );
    assert_eq!((awaited.state(), awaited.worth(now)), (FlowState::HalfOpen, Worth::Unconfirmed));
    assert_eq!(awaited.idle(now), 2);
    let begun = Halves { client: awaited.client.after(SYN, false, now), ..awaited };
    assert!(begun.has_begun());
    let unawaited = Half::default().after(SYN, false, now);
    assert_eq!(begun, Halves { client: unawaited, server: Half::default() });
    let replied = Half::default().after(SYN | ACK, false, now);
    assert!(Halves { client: Half::default(), server: replied }.has_begun());
}

#[test]
fn datagrams_are_a_flow_once_both_sides_have_spoken() {
    let mut halves = Halves::default();
    halves.client = halves.client.after_datagram(NOW);
    assert!(halves.is_datagram());
    assert_eq!(halves.state(), FlowState::HalfOpen);
    halves.server = halves.server.after_datagram(NOW);
    assert_eq!((halves.state(), halves.worth(NOW)), (FlowState::Established, Worth::Kept));
    assert!(!halves.is_one_way());
}

#[test]
fn idleness_counts_from_the_later_half_and_over_the_wrap() {
    let late = Ticks(TICK_MASK - 99);
    let halves = after(Halves::default(), &[Client(SYN)], late);
    assert_eq!(halves.idle(Ticks(0)), 100);
    assert_eq!(after(halves, &[Server(ACK)], Ticks(TICK_MASK)).idle(Ticks(0)), 1);
    assert_eq!(halves.idle_ms(Ticks(0)), 107_374);
}

#[test]
fn a_moment_in_the_future_is_not_idle() {
    assert_eq!(Ticks(10).until(Ticks(5)), 0);
}

#[test]
fn the_word_holds_both_halves() {
    let halves = established_then(&[ClientData, Server(ACK)]);
    assert_eq!(Halves::from_word(halves.to_word()), halves);
}

#[test]
fn a_lease_runs_out_and_only_a_confirmed_one_is_kept() {
    let lease = Halves::lease(NOW, 300);
    assert!(lease.is_lease() && !lease.is_datagram() && !lease.is_one_way());
    assert!(lease.lease_holds(Ticks(NOW.0 + 299)) && !lease.lease_holds(Ticks(NOW.0 + 300)));
    assert_eq!(lease.worth(NOW), Worth::Unconfirmed);
    let confirmed = lease.confirmed_lease();
    assert_eq!(confirmed.worth(NOW), Worth::Kept);
    assert_eq!(confirmed.worth(Ticks(NOW.0 + 300)), Worth::Ended);
    assert!(confirmed.lease_holds(Ticks(NOW.0 + 299)));
    for flow in [Halves::default(), established_then(&[]), after(Halves::default(), &[Client(SYN)], NOW)] {
        assert!(!flow.is_lease());
    }
}
