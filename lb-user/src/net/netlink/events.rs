//! What changes in a namespace's network, as the kernel announces it.
//!
//! What always holds: the socket that listens asks nothing. An announcement carries the sequence number of
//! whoever caused the change, so on a socket that also asks it could pass for the answer to a question.

use futures::StreamExt;
use futures::channel::mpsc::{TryRecvError, UnboundedReceiver};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::sys::SocketAddr;
use thiserror::Error;
use tokio::task::AbortHandle;

use super::{Cause, NetlinkError};
use crate::net::netns::{NetnsHandle, run_in};

/// Why announcements are missing: what is known has to be read anew, through new sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Lost {
    /// They came faster than they were read, and some were dropped.
    #[error("the kernel announced more changes than the socket could hold")]
    Overrun,
    /// The socket is gone.
    #[error("the socket that listens for changes was closed")]
    Closed,
}

/// A subscription to changes of one network namespace.
#[derive(Debug)]
pub struct Events {
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    connection: AbortHandle,
}

impl Events {
    /// Subscribes inside `netns`. Call it on a tokio runtime, which carries the connection.
    pub fn open(netns: &NetnsHandle, groups: &[MulticastGroup]) -> Result<Self, NetlinkError> {
        let action = || format!("listen for changes of the network in {}", netns.path().display());
        let runtime = tokio::runtime::Handle::current();
        let connected = run_in(netns, || {
            let _guard = runtime.enter();
            rtnetlink::new_multicast_connection(groups)
        });
        let (connection, _, messages) = connected
            .map_err(|error| NetlinkError { action: action(), cause: error.into() })?
            .map_err(|error| NetlinkError { action: action(), cause: Cause::Kernel(error) })?;
        Ok(Self { messages, connection: tokio::spawn(connection).abort_handle() })
    }

    /// The next change, whenever it comes; nothing is lost if the wait is given up.
    pub async fn next(&mut self) -> Result<RouteNetlinkMessage, Lost> {
        loop {
            let (message, _) = self.messages.next().await.ok_or(Lost::Closed)?;
            if let Some(change) = change_of(message)? {
                return Ok(change);
            }
        }
    }

    /// The next change if it is here already.
    pub fn try_next(&mut self) -> Result<Option<RouteNetlinkMessage>, Lost> {
        loop {
            match self.messages.try_recv() {
                Ok((message, _)) => {
                    if let Some(change) = change_of(message)? {
                        return Ok(Some(change));
                    }
                }
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Closed) => return Err(Lost::Closed),
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // The connection's future never ends by itself while its socket is open.
        self.connection.abort();
    }
}

fn change_of(message: NetlinkMessage<RouteNetlinkMessage>) -> Result<Option<RouteNetlinkMessage>, Lost> {
    match message.payload {
        NetlinkPayload::InnerMessage(change) => Ok(Some(change)),
        NetlinkPayload::Overrun(_) => Err(Lost::Overrun),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::LinkMessage;
    use rtnetlink::packet_core::NetlinkHeader;

    use super::*;

    fn message(payload: NetlinkPayload<RouteNetlinkMessage>) -> NetlinkMessage<RouteNetlinkMessage> {
        NetlinkMessage::new(NetlinkHeader::default(), payload)
    }

    #[test]
    fn an_overrun_is_told_apart_from_a_change_and_from_what_means_nothing() {
        let change = RouteNetlinkMessage::NewLink(LinkMessage::default());
        assert_eq!(change_of(message(NetlinkPayload::InnerMessage(change.clone()))), Ok(Some(change)));
        assert_eq!(change_of(message(NetlinkPayload::Overrun(Vec::new()))), Err(Lost::Overrun));
        assert_eq!(change_of(message(NetlinkPayload::Noop)), Ok(None));
    }
}
