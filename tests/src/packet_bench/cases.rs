//! The cases: which frames of how many flows meet which program and which table.

use anyhow::{Result, bail};
use lb_common::Reason;

use super::services::Kind;

/// Flows of the cases whose names end in `64k`, `1m` and `1`.
pub(super) const FLOWS_64K: u32 = 1 << 16;
pub(super) const FLOWS_1M: u32 = 1 << 20;
const ONE: u32 = 1;

/// One figure to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its name, which never changes.
    pub name: &'static str,
    /// Flows that it visits, a power of two.
    pub flows: u32,
    /// What is measured.
    pub subject: Subject,
}

/// What a case measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Baton's program.
    Baton {
        /// The flows that its table holds.
        table: Table,
        /// The frames that it gets.
        sent: Sent,
        /// What it must count for them.
        reason: Reason,
    },
    /// One look-up in a kernel's LRU hash and the rewrite.
    FloorLru,
    /// The rewrite alone.
    FloorStateless,
    /// A drain's look at the whole table from user space.
    Scan {
        /// The flows that it holds.
        table: Table,
    },
}

/// A flow table, made for [`FLOWS_1M`] flows, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// 65,536 established flows of each protocol whose cases visit that many.
    Few,
    /// Nothing, or almost: what is measured opens flows, and they are forgotten after each round.
    Empty,
    /// 1,048,576 established flows of one service: as many as it was made for.
    Million(Kind),
}

/// Who sends what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Clients go on: bare acknowledgements, or datagrams.
    ByClients(Kind),
    /// The backend answers, with data.
    ByBackend(Kind),
    /// Clients open connections, none of which has been there before.
    Syns(Kind),
    /// Clients of something else.
    ToNobody,
}

impl Table {
    /// The flows that are there from the beginning: whose, and how many.
    pub(super) fn held(self) -> Vec<(Kind, u32)> {
        match self {
            Self::Few => [Kind::Tcp4, Kind::Tcp6, Kind::Udp4].map(|kind| (kind, FLOWS_64K)).to_vec(),
            Self::Empty => Vec::new(),
            Self::Million(kind) => vec![(kind, FLOWS_1M)],
        }
    }
}

const fn baton(name: &'static str, flows: u32, table: Table, sent: Sent, reason: Reason) -> Case {
    Case { name, flows, subject: Subject::Baton { table, sent, reason } }
}

/// Every case, in the order in which they are measured and shown.
pub const CASES: [Case; 19] = {
    use Kind::{DrainOnly, Dsr, Ipip, Tcp4, Tcp6, Udp4};
    use Reason::{NewFlow, NotForService, PinnedFlow, Reply, Untracked};
    use Sent::{ByBackend, ByClients, Syns, ToNobody};
    use Table::{Empty, Few, Million};
    [
        baton("tcp4_est_1", ONE, Few, ByClients(Tcp4), PinnedFlow),
        baton("tcp4_est_64k", FLOWS_64K, Few, ByClients(Tcp4), PinnedFlow),
        baton("tcp4_est_1m", FLOWS_1M, Million(Tcp4), ByClients(Tcp4), PinnedFlow),
        baton("tcp6_est_1", ONE, Few, ByClients(Tcp6), PinnedFlow),
        baton("tcp6_est_64k", FLOWS_64K, Few, ByClients(Tcp6), PinnedFlow),
        baton("tcp6_est_1m", FLOWS_1M, Million(Tcp6), ByClients(Tcp6), PinnedFlow),
        baton("udp4_est_64k", FLOWS_64K, Few, ByClients(Udp4), PinnedFlow),
        baton("tcp4_syn_64k", FLOWS_64K, Empty, Syns(Tcp4), NewFlow),
        baton("tcp4_syn_1m", FLOWS_64K, Million(Tcp4), Syns(Tcp4), NewFlow),
        baton("tcp4_reply_1m", FLOWS_1M, Million(Tcp4), ByBackend(Tcp4), Reply),
        baton("dsr_est_1m", FLOWS_1M, Million(Dsr), ByClients(Dsr), PinnedFlow),
        baton("ipip_est_1m", FLOWS_1M, Million(Ipip), ByClients(Ipip), PinnedFlow),
        baton("not_for_service", ONE, Few, ToNobody, NotForService),
        baton("drain_only_1", ONE, Few, ByClients(DrainOnly), Untracked),
        Case { name: "floor_lru_1", flows: ONE, subject: Subject::FloorLru },
        Case { name: "floor_lru_64k", flows: FLOWS_64K, subject: Subject::FloorLru },
        Case { name: "floor_lru_1m", flows: FLOWS_1M, subject: Subject::FloorLru },
        Case { name: "floor_stateless_1", flows: ONE, subject: Subject::FloorStateless },
        Case { name: "drain_scan_1m_ms", flows: FLOWS_1M, subject: Subject::Scan { table: Million(Tcp4) } },
    ]
};

/// The cases with these names, or all of them if there are none, in the order of [`CASES`].
pub fn by_names(names: &[String]) -> Result<Vec<Case>> {
    if let Some(unknown) = names.iter().find(|name| !CASES.iter().any(|case| case.name == **name)) {
        bail!("no case `{unknown}`; there are {}", CASES.map(|case| case.name).join(", "));
    }
    let chosen = |case: &Case| names.is_empty() || names.iter().any(|name| name == case.name);
    Ok(CASES.into_iter().filter(chosen).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cases_have_the_names_that_others_compare_with() {
        let names = "tcp4_est_1 tcp4_est_64k tcp4_est_1m tcp6_est_1 tcp6_est_64k tcp6_est_1m udp4_est_64k \
                     tcp4_syn_64k tcp4_syn_1m tcp4_reply_1m dsr_est_1m ipip_est_1m not_for_service \
                     drain_only_1 floor_lru_1 floor_lru_64k floor_lru_1m floor_stateless_1 drain_scan_1m_ms";
        assert_eq!(CASES.map(|case| case.name).join(" "), names);
    }

    #[test]
    fn every_number_of_flows_is_a_power_of_two_and_what_is_visited_is_held() {
        for case in CASES {
            assert!(case.flows.is_power_of_two(), "{}", case.name);
            if let Subject::Baton { table, sent: Sent::ByClients(kind), reason: Reason::PinnedFlow } =
                case.subject
            {
                let holds = table.held().iter().any(|(of, flows)| *of == kind && *flows >= case.flows);
                assert!(holds, "{}", case.name);
            }
        }
    }

    #[test]
    fn cases_are_chosen_by_name_and_an_unknown_name_is_refused() {
        let chosen = by_names(&["floor_lru_1".to_owned(), "tcp4_est_1".to_owned()]).unwrap();
        assert_eq!(chosen.iter().map(|case| case.name).collect::<Vec<_>>(), ["tcp4_est_1", "floor_lru_1"]);
        assert_eq!(by_names(&[]).unwrap().len(), CASES.len());
        let error = by_names(&["tcp4".to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("no case `tcp4`; there are tcp4_est_1, "), "{error}");
    }
}
