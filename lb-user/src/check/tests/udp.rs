//! The check by UDP.

use std::net::UdpSocket;

use super::*;
use crate::check::UdpCheck;

fn check(answer: Option<&str>) -> Check {
    let answer = answer.map(|pattern| pattern.parse().unwrap());
    Check::Udp(UdpCheck { payload: b"\x00ping\n".to_vec(), answer })
}

/// A server that answers one datagram with `answer`, or with nothing, and hands over what it got.
fn server(at: IpAddr, answer: Option<&'static [u8]>) -> (SocketAddr, thread::JoinHandle<Vec<u8>>) {
    let socket = UdpSocket::bind((at, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    let got = thread::spawn(move || {
        let mut datagram = [0; 1500];
        let (length, from) = socket.recv_from(&mut datagram).unwrap();
        if let Some(answer) = answer {
            socket.send_to(answer, from).unwrap();
        }
        datagram[..length].to_vec()
    });
    (address, got)
}

#[tokio::test]
async fn an_answer_must_match_and_is_shown_if_it_does_not() {
    for loopback in LOOPBACKS {
        let (address, got) = server(loopback, Some(b"\xffpong"));
        assert_eq!(ask(&check(Some("pong$")), address).await, Ok(()));
        assert_eq!(got.join().unwrap(), b"\x00ping\n");
        let (address, _) = server(loopback, Some(b"\xffbusy"));
        assert_wrong(
            &ask(&check(Some("pong$")), address).await,
            r#"does not match `pong$`: it is "\xffbusy""#,
        );
        let (address, _) = server(loopback, Some(b""));
        assert_wrong(&ask(&check(Some("pong$")), address).await, r#"it is """#);
    }
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_refused_whether_an_answer_is_wanted_or_not() {
    for loopback in LOOPBACKS {
        // One that is connected takes nothing from others.
        let held = UdpSocket::bind((loopback, 0)).unwrap();
        held.connect((loopback, 9)).unwrap();
        let closed = held.local_addr().unwrap();
        assert_eq!(ask(&check(None), closed).await, Err(Finding::Refused));
        assert_eq!(ask(&check(Some("pong")), closed).await, Err(Finding::Refused));
    }
}

#[tokio::test]
async fn silence_passes_only_if_no_answer_is_wanted() {
    for loopback in LOOPBACKS {
        let silent = UdpSocket::bind((loopback, 0)).unwrap();
        let address = silent.local_addr().unwrap();
        assert_eq!(ask_briefly(&check(None), address).await, Ok(()));
        assert_eq!(ask_briefly(&check(Some("pong")), address).await, Err(Finding::TimedOut));
        // Any answer is a sign of life, and spares the wait.
        let (address, _) = server(loopback, Some(b"error"));
        assert_eq!(ask(&check(None), address).await, Ok(()));
    }
}

#[tokio::test]
async fn datagrams_of_strangers_are_no_answer() {
    let server = UdpSocket::bind((LOOPBACKS[0], 0)).unwrap();
    let address = server.local_addr().unwrap();
    let stranger = thread::spawn(move || {
        let (_, from) = server.recv_from(&mut [0; 1500]).unwrap();
        UdpSocket::bind((LOOPBACKS[0], 0)).unwrap().send_to(b"pong", from).unwrap();
    });
    assert_eq!(ask_briefly(&check(Some("pong")), address).await, Err(Finding::TimedOut));
    stranger.join().unwrap();
}
