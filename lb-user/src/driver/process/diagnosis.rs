//! Why a command does not answer on its port, said so that the remedy is plain.

use std::net::SocketAddr;

use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::Process;

/// The sockets that listen in the network namespace of a process.
pub fn listeners(pid: u32) -> Vec<SocketAddr> {
    let Ok(process) = Process::new(pid.cast_signed()) else { return Vec::new() };
    let entries: Vec<TcpNetEntry> = process.tcp().into_iter().chain(process.tcp6()).flatten().collect();
    let mut found: Vec<_> =
        entries.into_iter().filter(|e| e.state == TcpState::Listen).map(|e| e.local_address).collect();
    found.sort();
    found.dedup();
    found
}

/// Explains why nothing answers on `port`, given what listens and the command's last words.
pub fn explain(port: u16, listeners: &[SocketAddr], last_lines: &[String]) -> String {
    let on_port: Vec<_> = listeners.iter().filter(|listener| listener.port() == port).collect();
    let list =
        |sockets: &[SocketAddr]| sockets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let why = if listeners.is_empty() {
        format!("the command runs but listens on no TCP port; it should listen on port {port}")
    } else if on_port.is_empty() {
        // Of several ports the one that can be reached is more likely meant.
        let open = listeners.iter().find(|listener| !listener.ip().to_canonical().is_loopback());
        format!(
            "the command listens on {}, not on port {port}: pass `--port {}`, or make it listen on {port}",
            list(listeners),
            open.or(listeners.first()).map_or(port, SocketAddr::port)
        )
    } else if on_port.iter().all(|listener| listener.ip().to_canonical().is_loopback()) {
        format!(
            "the command listens on {} only, which nobody outside can reach: make it listen on 0.0.0.0 or [::]",
            list(&on_port.into_iter().copied().collect::<Vec<_>>())
        )
    } else {
        format!("the command listens on port {port} but does not pass its check")
    };
    with_last_lines(why, last_lines)
}

/// Adds a command's last words to a message.
pub fn with_last_lines(why: String, last_lines: &[String]) -> String {
    if last_lines.is_empty() {
        return why;
    }
    format!("{why}; its last output:\n  {}", last_lines.join("\n  "))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn said(listeners: &[&str]) -> String {
        let listeners: Vec<_> = listeners.iter().map(|text| text.parse().unwrap()).collect();
        explain(8080, &listeners, &[])
    }

    #[test]
    fn each_cause_has_its_remedy() {
        assert!(said(&[]).contains("listens on no TCP port"));
        assert!(said(&["0.0.0.0:9000"]).contains("pass `--port 9000`"));
        assert!(said(&["127.0.0.1:5005", "0.0.0.0:9000"]).contains("pass `--port 9000`"));
        assert!(said(&["127.0.0.1:8080", "[::1]:8080"]).contains("make it listen on 0.0.0.0"));
        assert!(said(&["[::ffff:127.0.0.1]:8080"]).contains("make it listen on 0.0.0.0"));
        assert!(said(&["0.0.0.0:8080"]).contains("does not pass its check"));
    }

    #[test]
    fn listening_sockets_are_found_and_others_are_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let found = listeners(std::process::id());
        assert!(found.contains(&address) && !found.contains(&client.local_addr().unwrap()), "{found:?}");
        assert!(listeners(u32::MAX / 4).is_empty());
    }

    #[test]
    fn the_last_words_follow() {
        assert!(explain(1, &[], &["panic!".into()]).ends_with("its last output:\n  panic!"));
    }
}
