//! What Baton asks of Linux networking: namespaces, links, addresses, routes, neighbours, next
//! hops, sysctls, nftables and offloads, each behind a small typed wrapper that knows nothing of services.
//!
//! Every wait has a deadline, and whatever has to happen inside a namespace happens on a thread or a socket
//! made for it, so that no thread of the caller ever changes its namespace.

pub mod genetlink;
pub mod hops;
pub mod mac;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod offload;
pub mod sysctl;
