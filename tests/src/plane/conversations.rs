//! Conversations of datagrams, each datagram numbered and answered.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use super::Site;
use crate::lab::{PATIENCE, eventually};

/// Bytes of a datagram: its number, and as much again as makes it an ordinary one.
const LENGTH: usize = 200;

/// Conversations that go on until [`Conversations::end`]: each asks again as soon as it is answered.
pub struct Conversations {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<u8>>>,
}

impl Site {
    /// Starts `count` conversations from a client.
    pub fn conversations(&self, client: usize, count: usize) -> Conversations {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let start = |_| {
            let (stop, answered, socket) = (Arc::clone(&stop), Arc::clone(&answered), self.converse(client));
            thread::spawn(move || {
                let mut names = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    names.push(ask(&socket, names.len()));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                names
            })
        };
        let threads = (0..count).map(start).collect();
        Conversations { stop, answered, threads }
    }

    /// A socket for one conversation from a client.
    pub fn converse(&self, client: usize) -> UdpSocket {
        let (client, vip) = (self.client(client), self.vip());
        let socket = client.run(|| UdpSocket::bind((client.address, 0))).unwrap();
        socket.connect(vip).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }
}

impl Conversations {
    /// Waits until `count` more datagrams have been answered.
    pub fn until_answered(&self, count: usize) {
        let enough = self.answered.load(Ordering::Relaxed) + count;
        eventually(&format!("{count} datagrams are answered"), || {
            assert!(!self.threads.iter().any(JoinHandle::is_finished), "a conversation has ended");
            self.answered.load(Ordering::Relaxed) >= enough
        });
    }

    /// Who answered, datagram by datagram, in each conversation; panics if one was not answered.
    pub fn end(mut self) -> Vec<Vec<u8>> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).map(|thread| thread.join().expect("every datagram is answered")).collect()
    }
}

impl Drop for Conversations {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Sends one numbered datagram and returns the name of who answered it.
pub fn ask(socket: &UdpSocket, number: usize) -> u8 {
    let mut question = [0x5a; LENGTH];
    question[..8].copy_from_slice(&(number as u64).to_be_bytes());
    socket.send(&question).unwrap();
    let mut answer = [0; LENGTH + 2];
    let length = socket.recv(&mut answer).unwrap_or_else(|error| panic!("datagram {number}: {error}"));
    assert_eq!((length, &answer[1..=LENGTH]), (LENGTH + 1, &question[..]), "datagram {number}");
    answer[0]
}
