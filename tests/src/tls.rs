//! Servers of HTTPS that are posted to: an authority of a test's own, and certificates that are right or not.
//!
//! What always holds: whoever is not shown a certificate that they trust sends nothing that is noted.

#![expect(clippy::missing_panics_doc, reason = "a test fails by a panic, wherever in its server")]

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use baton::net::netns::{NetnsHandle, run_in};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

/// A client that stops talking is given up after this.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a server shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// A certificate for its address.
    Right,
    /// One that has ended.
    Expired,
    /// One of another server.
    OtherName,
}

/// An authority that only those know who have its file.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    /// A new one, whose certificate is written to a file.
    pub fn new(file: &Path) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "an authority of tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file: file.to_owned() }
    }

    /// Its certificate, as PEM.
    pub fn file(&self) -> &Path {
        &self.file
    }

    fn identity(&self, of: SocketAddr, shows: Shows) -> Arc<ServerConfig> {
        let name = if shows == Shows::OtherName { "other.example".to_owned() } else { of.ip().to_string() };
        let mut params = CertificateParams::new(vec![name]).unwrap();
        if shows == Shows::Expired {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            );
        Arc::new(config.unwrap())
    }
}

/// A request that somebody has posted.
#[derive(Clone, Debug)]
pub struct Posted {
    /// Request line and header fields, in small letters.
    pub head: Vec<String>,
    /// The document.
    pub body: Value,
}

/// Answers every request with `200 OK`, and notes it.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    authority: Authority,
    identity: Arc<Mutex<Arc<ServerConfig>>>,
    posted: Arc<Mutex<Vec<Posted>>>,
}

impl Server {
    /// Listens on a loopback address; ends with the process of the test.
    pub fn new(netns: &NetnsHandle, authority: Authority) -> Self {
        let listener = run_in(netns, || TcpListener::bind(("127.0.0.1", 0))).unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        let identity = Arc::new(Mutex::new(authority.identity(address, Shows::Right)));
        let posted = Arc::new(Mutex::new(Vec::new()));
        let (shown, noted) = (Arc::clone(&identity), Arc::clone(&posted));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let identity = Arc::clone(&shown.lock().unwrap());
                // Whoever does not like the certificate goes away.
                if let Ok(request) = serve(stream, identity) {
                    noted.lock().unwrap().push(request);
                }
            }
        });
        Self { address, authority, identity, posted }
    }

    /// From the next connection on it shows something else.
    pub fn show(&self, shows: Shows) {
        *self.identity.lock().unwrap() = self.authority.identity(self.address, shows);
    }

    /// The file of the authority that signs its certificates.
    pub fn ca_file(&self) -> &Path {
        self.authority.file()
    }

    /// All that was posted so far.
    pub fn posted(&self) -> Vec<Posted> {
        self.posted.lock().unwrap().clone()
    }
}

/// Takes one request whole and answers it.
fn serve(stream: TcpStream, identity: Arc<ServerConfig>) -> io::Result<Posted> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let session = ServerConnection::new(identity).map_err(io::Error::other)?;
    let mut reader = BufReader::new(StreamOwned::new(session, stream));
    let (mut head, mut line) = (Vec::new(), String::new());
    while reader.read_line(&mut line)? > 0 && !line.trim().is_empty() {
        head.push(std::mem::take(&mut line).trim().to_lowercase());
    }
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let mut stream = reader.into_inner();
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(Posted { head, body: serde_json::from_slice(&body)? })
}
