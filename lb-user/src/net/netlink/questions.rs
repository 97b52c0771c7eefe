//! What the kernel knows now, in its own words, IPv4 and IPv6: for callers that also follow its
//! [announcements](super::Events), which come in the same words.

use std::net::IpAddr;

use futures::StreamExt;
use ipnet::IpNet;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};

use super::{Netlink, NetlinkError, done, dump};

impl Netlink {
    /// All interfaces.
    pub async fn link_messages(&self) -> Result<Vec<LinkMessage>, NetlinkError> {
        dump("list the network interfaces", self.handle.link().get().execute()).await
    }

    /// All neighbours of a family; [`AddressFamily::Unspec`] means IPv4 and IPv6, and
    /// [`AddressFamily::Bridge`] the ports by which bridges reach Ethernet addresses.
    pub async fn neighbour_messages(
        &self,
        family: AddressFamily,
    ) -> Result<Vec<NeighbourMessage>, NetlinkError> {
        let request = self.handle.neighbours().get().set_address_family(family);
        dump("list the neighbours", request.execute()).await
    }

    /// The route that a packet of this host to `target` would take. That there is none the kernel says by an
    /// [error number](NetlinkError::raw_os_error), as it does for routes that refuse.
    pub async fn route_to(&self, target: IpAddr) -> Result<Option<RouteMessage>, NetlinkError> {
        let mut question = RouteMessage::default();
        question.header.address_family = family_of(target);
        question.header.destination_prefix_length = IpNet::from(target).prefix_len();
        question.attributes.push(RouteAttribute::Destination(target.into()));
        let answers = self.handle.route().get(question).execute();
        Ok(dump("look up a route", answers).await?.into_iter().next())
    }

    /// Has the stack ask for a neighbour of which it knows nothing good; the answer comes as an event.
    pub async fn ask_neighbour(&self, index: u32, address: IpAddr) -> Result<(), NetlinkError> {
        let request = self
            .handle
            .neighbours()
            .add(index, address)
            .state(NeighbourState::None)
            .flags(NeighbourFlags::Use)
            .replace();
        done(|| format!("ask for the neighbour {address} of interface {index}"), request.execute()).await
    }

    /// Has the stack ask a neighbour that it knows whether it is still there. The entry stays usable
    /// meanwhile; what comes of it comes as an event.
    pub async fn verify_neighbour(&self, index: u32, address: IpAddr) -> Result<(), NetlinkError> {
        let mut message = NeighbourMessage::default();
        message.header.family = family_of(address);
        message.header.ifindex = index;
        message.header.state = NeighbourState::Probe;
        message.attributes.push(NeighbourAttribute::Destination(address.into()));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewNeighbour(message));
        // Only what is there, and only its state: to replace it would make a router forget that it is one.
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        let mut handle = self.handle.clone();
        let acknowledged = async move {
            let mut answers = handle.request(request)?;
            while let Some(answer) = answers.next().await {
                if let NetlinkPayload::Error(error) = answer.payload {
                    return Err(rtnetlink::Error::NetlinkError(error));
                }
            }
            Ok(())
        };
        done(|| format!("verify the neighbour {address} of interface {index}"), acknowledged).await
    }
}

fn family_of(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
