//! Waits until a service answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::interrupt::Interrupt;

/// Services of the demo need one or two seconds; under Baton both of them must be up.
const DEADLINE: Duration = Duration::from_secs(30);
const ONE_TRY: Duration = Duration::from_millis(500);
const BETWEEN: Duration = Duration::from_millis(50);

/// Returns when `is_ready` says so; its errors end the waiting.
pub(super) fn wait_until_ready(
    interrupt: &Interrupt,
    mut is_ready: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < DEADLINE {
        interrupt.check()?;
        if is_ready()? {
            return Ok(());
        }
        sleep(BETWEEN);
    }
    bail!("the service is not ready after {} s", DEADLINE.as_secs());
}

/// Whether `http://address/health` is answered with 200. Any error means: not yet.
pub(super) fn is_healthy(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, ONE_TRY)?;
        stream.set_read_timeout(Some(ONE_TRY))?;
        stream.set_write_timeout(Some(ONE_TRY))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: demo\r\nconnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(&status == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}
