//! Agents that answer, say nothing that means anything, or do not answer at all.

use super::{LIMIT, LOOPBACKS, PATIENCE, assert_wrong, closed_port, server, server_at};
use crate::check::agent::{AgentWord, Wanted, ask_agent};
use crate::net::netns::NetnsHandle;
use crate::recovery::Finding;

async fn ask(address: std::net::SocketAddr, limit: std::time::Duration) -> Result<AgentWord, Finding> {
    ask_agent(&NetnsHandle::own().unwrap(), address, limit).await
}

/// What an agent says that does not wait to be asked, and then ends the connection or keeps it.
fn agent(line: &'static [u8], keeps: bool) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind((LOOPBACKS[0], 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut stream, line).unwrap();
        if keeps {
            // Until the other side has had enough.
            let _ = std::io::Read::read(&mut stream, &mut [0]);
        }
    });
    address
}

#[tokio::test]
async fn an_agent_says_how_its_backend_is() {
    let word = ask(agent(b"up ready 75%\n", true), PATIENCE).await.unwrap();
    let wanted = Some(Wanted::Ready);
    assert_eq!(word, AgentWord { health: Some(Ok(())), wanted, percent: Some(75) });
    assert_eq!(ask(agent(b"down", false), PATIENCE).await.unwrap().health, Some(Err("down")));
}

#[tokio::test]
async fn what_means_nothing_is_shown() {
    assert_wrong(&ask(agent(b"hello\r\nup\r\n", true), PATIENCE).await.map(drop), "the agent said \"hello\"");
}

#[tokio::test]
async fn an_agent_that_is_not_there_or_silent_is_no_word_of_its_backend() {
    let (_held, closed) = closed_port(LOOPBACKS[0]);
    assert_eq!(ask(closed, PATIENCE).await, Err(Finding::Refused));
    // It waits for a question that an agent is not asked.
    assert_eq!(ask(server(b"up\n"), LIMIT).await, Err(Finding::TimedOut));
    assert_eq!(ask(server_at(LOOPBACKS[1], b"up\n".to_vec()).0, LIMIT).await, Err(Finding::TimedOut));
}
