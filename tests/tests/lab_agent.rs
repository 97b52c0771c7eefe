//! Agents of backends: what they say is done, by a controller that asks them on their machines.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use baton_tests::lab::eventually;
use baton_tests::plane::{Governed, Options};

const PORT: u16 = 9990;

/// An agent that says the same to whoever asks until it is told to say something else.
#[derive(Clone)]
struct Agent(Arc<Mutex<String>>);

impl Agent {
    fn on(governed: &Governed, backend: usize) -> Self {
        let machine = governed.backend(backend);
        let address = SocketAddr::new(machine.address, PORT);
        let listener = machine.run(|| TcpListener::bind(address)).unwrap();
        let agent = Self(Arc::new(Mutex::new("up ready 100%".to_owned())));
        let said = agent.clone();
        // It ends with the test's process.
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let line = format!("{}\n", said.0.lock().unwrap());
                // Who asked may have gone.
                let _ = stream.write_all(line.as_bytes());
            }
        });
        agent
    }

    fn says(&self, line: &str) {
        line.clone_into(&mut self.0.lock().unwrap());
    }
}

/// Who answers new connections, over a few of them.
fn answers(governed: &Governed) -> Vec<String> {
    let requests = governed.requests_of(0, &["name=short,path=/free,weight=1,mode=close"]);
    // Enough for every backend to have its turn.
    thread::sleep(Duration::from_millis(500));
    let summary = requests.end().summary;
    assert!(summary.is_clean(), "{summary:?}");
    summary.by_backend.keys().cloned().collect()
}

#[test]
fn what_agents_say_is_done_and_taken_back() {
    let mut governed = Governed::new(Options::default());
    let settings = format!("[service.check]\nagent_port = {PORT}\nagent_interval = \"100ms\"\n");
    let pool = governed.describe("pool", "policy = \"wrr\"").replace("[service.check]\n", &settings);
    let agents = [Agent::on(&governed, 0), Agent::on(&governed, 1)];
    governed.up(&[pool]);
    eventually("both are heard", || {
        governed.status()[0]["backends"]
            .as_array()
            .unwrap()
            .iter()
            .all(|b| b["watch"]["agent"] == "up ready 100%")
    });
    assert_eq!(answers(&governed), ["0", "1"]);

    agents[0].says("0%");
    eventually("it is heard", || governed.status()[0]["backends"][0]["watch"]["agent"] == "0%");
    assert_eq!(answers(&governed), ["1"]);
    agents[0].says("100%");
    eventually("it is heard", || governed.status()[0]["backends"][0]["watch"]["agent"] == "100%");
    assert_eq!(answers(&governed), ["0", "1"]);

    agents[0].says("maint");
    eventually("it is held out", || governed.backends_in("pool", "maintenance") == ["b0"]);
    assert_eq!(answers(&governed), ["1"]);
    agents[0].says("ready");
    eventually("it is back", || governed.backends_in("pool", "active") == ["b0", "b1"]);

    agents[1].says("down#the disk is full");
    eventually("it is taken out", || governed.backends_in("pool", "active") == ["b0"]);
    assert_eq!(answers(&governed), ["0"]);
    assert!(governed.output().contains("its agent says `down`"), "{}", governed.output());
    agents[1].says("up");
    eventually("it is back", || governed.backends_in("pool", "active") == ["b0", "b1"]);

    // An operator's word is above an agent's.
    let name = governed.service("pool");
    governed.baton(&["drain", &name, "b0"]);
    eventually("it is held out", || governed.backends_in("pool", "maintenance") == ["b0"]);
    agents[0].says("up ready");
    eventually("it is heard", || governed.status()[0]["backends"][0]["watch"]["agent"] == "up ready");
    assert_eq!(governed.backends_in("pool", "maintenance"), ["b0"]);
}
