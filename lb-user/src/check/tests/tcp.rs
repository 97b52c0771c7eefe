//! The check by TCP, and what all checks by connection have in common.

use std::net::TcpListener;

use super::*;
use crate::net::netlink::Netlink;

#[tokio::test]
async fn an_open_port_passes_and_a_closed_one_is_refused() {
    for loopback in LOOPBACKS {
        let listener = TcpListener::bind((loopback, 0)).unwrap();
        assert_eq!(ask(&Check::Tcp, listener.local_addr().unwrap()).await, Ok(()));
        for check in ["tcp", "http:/", "https:/"] {
            let (_held, closed) = closed_port(loopback);
            let found = ask(&check.parse().unwrap(), closed).await;
            assert_eq!(found, Err(Finding::Refused), "{check} {loopback}");
        }
    }
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_times_out() {
    let listener = TcpListener::bind((LOOPBACKS[0], 0)).unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(ask(&Check::Tcp, address).await, Ok(()));
    for check in ["http:/", "https:/"] {
        assert_eq!(ask_briefly(&check.parse().unwrap(), address).await, Err(Finding::TimedOut), "{check}");
    }
    // The checks are over, so their connections are, too.
    for _ in 0..3 {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
}

#[tokio::test]
async fn a_network_without_a_way_there_is_unreachable() {
    let empty = NetnsHandle::anonymous().unwrap();
    // The loopback interface has index 1 in every namespace; without it IPv6 misses an address of its own first.
    Netlink::open(&empty).unwrap().set_up(1).await.unwrap();
    for address in ["10.77.255.1:1", "[fd77::1]:1"] {
        for check in ["tcp", "http:/", "udp:"] {
            let check = check.parse().unwrap();
            let found = run(&check, &empty, address.parse::<SocketAddr>().unwrap(), LIMIT).await;
            assert!(matches!(found, Err(Finding::Unreachable(_))), "{address}: {found:?}");
        }
    }
}
