//! The service's nftables table on the host: masquerading for its commands, no connection tracking for its
//! VIP, and a limit on what the host forwards only because Baton made it.

use std::fmt::Write;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::outcome::Warning;
use super::topology::{HOST_LINK_PREFIX, Topology, table};
use crate::net::nft::{self, NftError};

/// The script that replaces the service's table, whatever it was, in one transaction.
///
/// `guarded` are the indexes of interfaces that would not forward without Baton.
pub(super) fn script(topology: &Topology, guarded: &[u32]) -> String {
    rules(&table(&topology.name), topology.vip, topology.subnet, guarded)
}

/// The script for any table, VIP and subnet.
pub(super) fn rules(table: &str, vip: Ipv4Addr, subnet: Ipv4Net, guarded: &[u32]) -> String {
    let links = format!("\"{HOST_LINK_PREFIX}*\"");
    // Adding the table first lets the deletion succeed when there is none.
    let mut text = format!(
        "add table ip {table}
delete table ip {table}
table ip {table} {{
    chain prerouting {{
        type filter hook prerouting priority raw; policy accept;
        ip daddr {vip} notrack
        ip saddr {vip} notrack
    }}
    chain output {{
        type filter hook output priority raw; policy accept;
        ip daddr {vip} notrack
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {subnet} oifname != {links} masquerade
    }}
"
    );
    if !guarded.is_empty() {
        let indexes: Vec<String> = guarded.iter().map(u32::to_string).collect();
        // By index and not by name: an interface that comes back under its name no longer forwards.
        let _ = write!(
            text,
            "    chain forward {{
        type filter hook forward priority filter; policy accept;
        iif {{ {} }} oifname != {links} drop
    }}
",
            indexes.join(", ")
        );
    }
    text.push_str("}\n");
    text
}

/// Warns if the host drops what it forwards unless a rule accepts it, as Docker arranges it.
pub(super) async fn forward_warning() -> Result<Option<Warning>, NftError> {
    let chains = nft::forward_chains_that_drop().await?;
    Ok(warning_of(&chains))
}

fn warning_of(chains: &[String]) -> Option<Warning> {
    if chains.is_empty() {
        return None;
    }
    let rules = chains.iter().flat_map(|chain| {
        ["iifname", "oifname"]
            .map(|side| format!("nft insert rule {chain} {side} '\"{HOST_LINK_PREFIX}*\"' accept"))
    });
    Some(Warning {
        what: format!(
            "this host drops forwarded packets (chain {}): clients on other machines may not reach the VIP, \
             nor commands the outside",
            chains.join(", ")
        ),
        remedy: rules.collect::<Vec<_>>().join("; "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_that_drops_is_named_with_the_rules_that_help() {
        let warning = warning_of(&["ip filter FORWARD".to_owned()]).unwrap();
        assert!(warning.what.contains("chain ip filter FORWARD"), "{warning}");
        assert!(warning.remedy.contains("nft insert rule ip filter FORWARD oifname '\"bt*\"' accept"));
        assert_eq!(warning_of(&[]), None);
    }
}
