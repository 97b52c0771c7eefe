//! `keepalived.conf`: its virtual servers. What keepalived does besides, such as VRRP, it goes on doing.

mod checker;
mod expand;
mod server;
mod timing;
mod tree;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use self::tree::Item;
use super::words::range;
use super::{ImportError, Imported, Notes, finish};
use crate::config::is_interface;

/// Most VIPs that one line of a group stands for.
const RANGE_MOST: u128 = 64;

/// Reads `text`; `file` names it in messages, `interfaces` carry its packets.
pub fn keepalived(text: &str, file: &str, interfaces: &[String]) -> Result<Imported, ImportError> {
    let mut notes = Notes::default();
    let items = expand::lines(text, &mut notes)
        .and_then(|lines| tree::parse(&lines))
        .map_err(|(line, message)| ImportError { file: file.to_owned(), line, message })?;
    let groups = groups(&items);
    let mut drafts = Vec::new();
    let mut found: Vec<String> = Vec::new();
    for item in &items {
        match item.word(0) {
            "virtual_server" => drafts.extend(server::draft(item, &groups, &mut notes)),
            "virtual_server_group" => {}
            name => {
                if name == "vrrp_instance" {
                    let named = item.block().iter().filter(|inner| inner.word(0) == "interface");
                    found.extend(named.map(|inner| inner.word(1).to_owned()));
                }
                notes.add(item.line, item.shown(), left_to_keepalived(name));
            }
        }
    }
    found.sort();
    found.dedup();
    found.retain(|interface| is_interface(interface));
    Ok(finish(file, drafts, interfaces, &found, notes))
}

fn left_to_keepalived(name: &str) -> &'static str {
    match name {
        "include" => "files are not put together; import the other one, too",
        "SSL" => "checks present no certificate of their own; for authorities see `ca_file`",
        "global_defs" => "settings of keepalived itself",
        _ if name.starts_with("vrrp") || name.starts_with("static") || name.starts_with("track") => {
            "left to keepalived: let it go on with VRRP, and move the virtual servers only"
        }
        _ => "not about a virtual server; left to keepalived",
    }
}

/// The groups of VIPs by name.
fn groups(items: &[Item]) -> BTreeMap<&str, &Item> {
    let groups = items.iter().filter(|item| item.word(0) == "virtual_server_group");
    groups.map(|item| (item.word(1), item)).collect()
}

/// The VIPs that a line of a group stands for: an address or a range of them, and a port.
fn vips(item: &Item, notes: &mut Notes) -> Vec<SocketAddr> {
    let mut left_out = |why: &str| {
        notes.add(item.line, item.shown(), format!("left out: {why}"));
        Vec::new()
    };
    if item.word(0) == "fwmark" {
        return left_out("firewall marks choose no service; make one for each VIP that the mark stands for");
    }
    let Ok(port @ 1..) = item.word(1).parse::<u16>() else {
        return left_out("a service has one port from 1 to 65535");
    };
    match addresses(item.word(0)) {
        Some(addresses) => addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect(),
        None => left_out("it is no address, nor a range of up to 64"),
    }
}

/// `10.0.0.1`, `10.0.0.1-9`, `10.0.0.1-10.0.0.9`, `10.0.0.8/29`, and the same of IPv6.
fn addresses(text: &str) -> Option<Vec<IpAddr>> {
    if let Some((from, to)) = text.split_once('-') {
        let from: IpAddr = from.parse().ok()?;
        let to = to.parse().ok().or_else(|| last_part(from, to))?;
        return range(from, to, RANGE_MOST);
    }
    if text.contains('/') {
        let net: ipnet::IpNet = text.parse().ok()?;
        return range(net.network(), net.broadcast(), RANGE_MOST);
    }
    Some(vec![text.parse().ok()?])
}

/// The address whose last part is another one: a decimal byte of IPv4, four hexadecimal digits of IPv6.
fn last_part(address: IpAddr, part: &str) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Some(IpAddr::from([a, b, c, part.parse().ok()?]))
        }
        IpAddr::V6(address) => {
            let mut parts = address.segments();
            parts[7] = u16::from_str_radix(part, 16).ok()?;
            Some(Ipv6Addr::from(parts).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_vips_are_written_in_four_ways() {
        let shown = |text: &str| {
            let addresses = addresses(text)?;
            Some(format!("{} {} {}", addresses.len(), addresses[0], addresses[addresses.len() - 1]))
        };
        assert_eq!(shown("10.0.0.1").as_deref(), Some("1 10.0.0.1 10.0.0.1"));
        assert_eq!(shown("10.0.0.3-10").as_deref(), Some("8 10.0.0.3 10.0.0.10"));
        assert_eq!(shown("10.0.0.250-10.0.1.5").as_deref(), Some("12 10.0.0.250 10.0.1.5"));
        assert_eq!(shown("10.0.0.8/29").as_deref(), Some("8 10.0.0.8 10.0.0.15"));
        assert_eq!(shown("ae00::2-9").as_deref(), Some("8 ae00::2 ae00::9"));
        for bad in ["10.0.0.9-3", "10.0.0.0/16", "shop", "10.0.0.1-x", ""] {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }
}
