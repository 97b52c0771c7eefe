//! Looks at the host: what [`super::place`] decides on.

use thiserror::Error;

use super::place::{HostLink, HostView, KnownService};
use super::state::{StateError, load_all};
use super::topology::{SUBNET_PREFIX, Spec, namespace_files, service_of_alias};
use crate::net::netlink::{Address, Link, Netlink, NetlinkError, Route};
use crate::paths::Roots;

/// Why the host could not be looked at.
#[derive(Debug, Error)]
pub enum SurveyError {
    /// The kernel did not say.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The run directories could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Looks at the host's interfaces, routes and services.
pub(super) async fn survey(roots: &Roots, host: &Netlink) -> Result<HostView, SurveyError> {
    let addresses = host.addresses().await?;
    let links = host.links().await?.into_iter().map(|link| host_link(link, &addresses)).collect();
    let mut view = HostView { links, routes: host.routes().await?, services: Vec::new() };
    view.services = services_by_link(&view);
    for topology in load_all(roots)? {
        view.services.retain(|service| service.name != topology.name);
        let (vip, subnet) = (Some(topology.vip), Some(topology.subnet));
        view.services.push(KnownService { name: topology.name, vip, subnet });
    }
    Ok(view)
}

/// True if namespaces bear the names of this service's, as a creation that was cut short leaves them.
pub(super) fn has_namespaces(roots: &Roots, spec: &Spec) -> bool {
    namespace_files(roots, &spec.name, &spec.backends).iter().any(|file| file.exists())
}

fn host_link(link: Link, addresses: &[Address]) -> HostLink {
    let own = addresses.iter().filter(|address| address.index == link.index);
    HostLink {
        index: link.index,
        addresses: own.map(|address| address.net).collect(),
        service: link.alias.as_deref().and_then(service_of_alias),
        name: link.name,
        mtu: link.mtu,
        loopback: link.loopback,
    }
}

/// What services have taken, told by their links and the routes through them alone.
fn services_by_link(view: &HostView) -> Vec<KnownService> {
    let known = |link: &HostLink| {
        let through = |route: &&Route| route.index == link.index && route.via.is_some();
        let destination_of = |prefix: u8| {
            let mut routes = view.routes.iter().filter(through);
            routes.find(|route| route.destination.prefix_len() == prefix).map(|route| route.destination)
        };
        Some(KnownService {
            name: link.service.clone()?,
            vip: destination_of(32).map(|net| net.addr()),
            subnet: destination_of(SUBNET_PREFIX),
        })
    };
    view.links.iter().filter_map(known).collect()
}
