//! The check by HTTP.

use super::*;
use crate::check::HttpCheck;

fn get() -> Check {
    "http:/health".parse().unwrap()
}

fn with(change: impl FnOnce(&mut HttpCheck)) -> Check {
    let mut check = HttpCheck::default();
    change(&mut check);
    Check::Http(check)
}

#[tokio::test]
async fn the_right_answer_passes() {
    for loopback in LOOPBACKS {
        for answer in [
            &b"HTTP/1.1 204 No Content\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            b"HTTP/1.1 301 Moved\r\nlocation: /\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\nuntil the connection ends",
            b"HTTP/1.0 200 OK\r\n\r\nold",
        ] {
            let (address, _) = server_at(loopback, answer.to_vec());
            assert_eq!(ask(&get(), address).await, Ok(()));
        }
    }
}

#[tokio::test]
async fn other_answers_are_wrong_and_say_how() {
    for (answer, why) in [
        (&b"HTTP/1.1 503 Oh\r\ncontent-length: 0\r\n\r\n"[..], "status 503, wanted 200 to 399"),
        (b"SSH-2.0-OpenSSH\r\n", "invalid"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe", "end of file"),
        (b"", "closed"),
    ] {
        assert_wrong(&ask(&get(), server(answer)).await, why);
    }
}

#[tokio::test]
async fn a_reset_is_told_as_such() {
    let listener = TcpListener::bind((LOOPBACKS[0], 0)).unwrap();
    let address = listener.local_addr().unwrap();
    // What is closed with a request that nobody has read is reset.
    let server = thread::spawn(move || {
        for _ in 0..2 {
            listener.accept().unwrap().0.peek(&mut [0]).unwrap();
        }
    });
    for check in ["http:/", "https:/"] {
        assert_eq!(ask(&check.parse().unwrap(), address).await, Err(Finding::Reset), "{check}");
    }
    server.join().unwrap();
}

#[tokio::test]
async fn the_statuses_that_pass_are_those_that_are_named() {
    let check = with(|check| check.status = vec![200..=204, 418..=418]);
    for (status, passes) in [(200, true), (204, true), (205, false), (417, false), (418, true)] {
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
        let found = ask(&check, server(answer.as_bytes())).await;
        if passes {
            assert_eq!(found, Ok(()));
        } else {
            assert_wrong(&found, &format!("status {status}, wanted 200 to 204, 418"));
        }
    }
}

#[tokio::test]
async fn the_request_is_the_one_that_was_asked_for() {
    let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec();
    let (address, request) = server_at(LOOPBACKS[1], ok.clone());
    assert_eq!(ask(&get(), address).await, Ok(()));
    let said = request.join().unwrap();
    assert!(said.starts_with("GET /health HTTP/1.1\r\n"), "{said}");
    assert!(said.contains(&format!("host: {address}\r\n")), "{said}");
    assert!(said.contains("user-agent: baton-check\r\n") && said.contains("connection: close\r\n"), "{said}");

    let check = with(|check| {
        check.method = "OPTIONS".to_owned();
        check.path = "/a?b=%20c".to_owned();
        check.host = Some("shop.example:81".to_owned());
        check.headers = vec![("User-Agent".into(), "me".into()), ("X-Probe".into(), "1".into())];
    });
    let (address, request) = server_at(LOOPBACKS[0], ok);
    assert_eq!(ask(&check, address).await, Ok(()));
    let said = request.join().unwrap();
    assert!(said.starts_with("OPTIONS /a?b=%20c HTTP/1.1\r\nhost: shop.example:81\r\n"), "{said}");
    assert!(said.contains("user-agent: me\r\n") && said.contains("x-probe: 1\r\n"), "{said}");
    assert!(!said.contains("baton-check"), "{said}");
}

#[tokio::test]
async fn a_body_must_match_and_is_shown_if_it_does_not() {
    let check = with(|check| check.body = Some("\"status\": *\"up\"".parse().unwrap()));
    let answer = |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let up = answer("{\"status\":  \"up\"}");
    assert_eq!(ask(&check, server(up.as_bytes())).await, Ok(()));
    let down = answer("{\"status\":\n\"down\"}");
    assert_wrong(&ask(&check, server(down.as_bytes())).await, r#"it is "{\"status\":\n\"down\"}""#);
    assert_wrong(&ask(&check, server(b"HTTP/1.1 204 X\r\n\r\n")).await, r#"it is """#);
    // A pattern is of no interest if the status is wrong.
    assert_wrong(&ask(&check, server(b"HTTP/1.1 500 X\r\n\r\n")).await, "status 500");
}

#[tokio::test]
async fn a_body_is_read_up_to_64_kib() {
    let check = with(|check| check.body = Some("end$".parse().unwrap()));
    let answer = |length: usize| {
        let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        [head, vec![b'x'; length - 3], b"end".to_vec(), vec![b'y'; 1 << 20]].concat()
    };
    assert_eq!(ask(&check, server(&answer(64 << 10))).await, Ok(()));
    assert_wrong(&ask(&check, server(&answer((64 << 10) + 1))).await, "xxx");
}

#[tokio::test]
async fn an_answer_that_never_ends_is_stopped_by_the_limit() {
    let listener = TcpListener::bind((LOOPBACKS[0], 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let drip = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // An answer that comes before its question would be wrong for that.
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            thread::sleep(LIMIT / 20);
        }
    });
    assert_eq!(ask_briefly(&get(), address).await, Err(Finding::TimedOut));
    // It ends, because the connection was closed.
    drip.join().unwrap();
}
