//! What the tests share: frames made and read by an independent library, a data plane to run them on, a lab, and a
//! service that ages.

pub mod aging;
pub mod bench;
pub mod ends;
pub mod frame;
pub mod icmp;
pub mod lab;
pub mod lan;
pub mod model;
pub mod packet_bench;
pub mod pins;
pub mod plane;
pub mod processes;
pub mod snapshot;
pub mod systemd;
pub mod tls;
pub mod trust;
pub mod watchdog_bench;
