//! The check by HTTPS, with certificates of all sorts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::check::{HttpCheck, TlsCheck};
use crate::clock::Now;

const DAY: Duration = Duration::from_hours(24);

/// An authority of its own, in a file as an operator would name it.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "an authority of tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        fs::write(directory.path().join("ca.pem"), pem).unwrap();
        Self { issuer: Issuer::new(params, key), directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Trusts this authority and asks for `host`.
    fn check(&self, host: Option<&str>) -> HttpCheck {
        let tls = TlsCheck { ca_file: Some(self.file()), ..TlsCheck::default() };
        HttpCheck { tls: Some(tls), host: host.map(str::to_owned), ..HttpCheck::default() }
    }

    fn sign(&self, params: &CertificateParams) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

fn named(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
}

fn self_signed(params: &CertificateParams) -> (Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap(), key)
}

/// What a server has seen of a client.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    sni: Option<String>,
    alpn: Option<Vec<u8>>,
    closed_in_good_order: bool,
}

/// Answers every connection with `200 OK`; its certificate and key are `identity`.
async fn serve(at: IpAddr, identity: (Certificate, KeyPair)) -> (SocketAddr, mpsc::Receiver<Seen>) {
    let (certificate, key) = identity;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind((at, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, seen) = mpsc::channel(8);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            if !matches!(stream.read(&mut request).await, Ok(1..)) {
                continue;
            }
            let session = stream.get_ref().1;
            let sni = session.server_name().map(str::to_owned);
            let alpn = session.alpn_protocol().map(<[u8]>::to_vec);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            stream.flush().await.unwrap();
            let closed_in_good_order = matches!(stream.read(&mut request).await, Ok(0));
            let _ = sender.send(Seen { sni, alpn, closed_in_good_order }).await;
        }
    });
    (address, seen)
}

#[tokio::test]
async fn a_certificate_of_a_trusted_authority_passes_by_name_and_by_address() {
    let authority = Authority::new();
    for loopback in LOOPBACKS {
        let params = named(&["shop.example", "127.0.0.1", "::1"]);
        let (address, mut seen) = serve(loopback, authority.sign(&params)).await;
        let expected = |sni: Option<&str>| Seen {
            sni: sni.map(str::to_owned),
            alpn: Some(b"http/1.1".to_vec()),
            closed_in_good_order: true,
        };
        for (host, sni) in [
            (Some("shop.example"), Some("shop.example")),
            (Some("shop.example:8443"), Some("shop.example")),
            (Some("[::1]:443"), None),
            (None, None),
        ] {
            assert_eq!(ask(&Check::Http(authority.check(host)), address).await, Ok(()), "{host:?}");
            assert_eq!(seen.recv().await.unwrap(), expected(sni));
        }
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_right_is_a_wrong_answer_unless_nobody_looks() {
    let authority = Authority::new();
    let mut expired = named(&["shop.example"]);
    expired.not_before = date_time_ymd(2001, 1, 1);
    expired.not_after = date_time_ymd(2002, 1, 1);
    let mut early = named(&["shop.example"]);
    early.not_before = date_time_ymd(4000, 1, 1);
    for (identity, why) in [
        (authority.sign(&expired), "expired"),
        (authority.sign(&early), "not valid yet"),
        (authority.sign(&named(&["other.example"])), "not valid for name"),
        (self_signed(&named(&["shop.example"])), "UnknownIssuer"),
        (Authority::new().sign(&named(&["shop.example"])), ""),
    ] {
        let (address, _seen) = serve(LOOPBACKS[0], identity).await;
        let mut check = authority.check(Some("shop.example"));
        let found = ask(&Check::Http(check.clone()), address).await;
        assert_wrong(&found, "TLS: ");
        assert_wrong(&found, why);
        check.tls = Some(TlsCheck { verify: false, ..TlsCheck::default() });
        assert_eq!(ask(&Check::Http(check), address).await, Ok(()), "{why}");
    }
}

#[tokio::test]
async fn the_system_trusts_no_authority_of_a_test() {
    let (address, _seen) = serve(LOOPBACKS[0], Authority::new().sign(&named(&["127.0.0.1"]))).await;
    match ask(&"https:/".parse().unwrap(), address).await {
        Err(Finding::WrongAnswer(why)) => assert!(why.contains("UnknownIssuer"), "{why}"),
        // A machine without `ca-certificates`.
        found => assert_unchecked(&found, "trusts no authority"),
    }
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_a_finding_before_it_ends() {
    let authority = Authority::new();
    let now = UNIX_EPOCH + Duration::from_millis(Now::read().unix_ms);
    let mut params = named(&["shop.example"]);
    params.not_after = (now + 10 * DAY).into();
    let (address, _seen) = serve(LOOPBACKS[0], authority.sign(&params)).await;
    let check = |verify, expires_in| {
        let ca_file = Some(authority.file());
        let mut check = authority.check(Some("shop.example"));
        check.tls = Some(TlsCheck { verify, ca_file, expires_in: Some(expires_in) });
        Check::Http(check)
    };
    for verify in [true, false] {
        assert_eq!(ask(&check(verify, 9 * DAY), address).await, Ok(()));
        assert_wrong(&ask(&check(verify, 11 * DAY), address).await, "which is in less than 11days");
    }
    params.not_after = date_time_ymd(2002, 1, 1);
    params.not_before = date_time_ymd(2001, 1, 1);
    let (address, _seen) = serve(LOOPBACKS[0], authority.sign(&params)).await;
    let found = ask(&check(false, Duration::ZERO), address).await;
    assert_wrong(&found, "the certificate ended at 2002-01-01T00:00:00Z");
}

#[tokio::test]
async fn a_port_that_speaks_no_tls_is_told_from_one_that_breaks_off() {
    let check = "https:/".parse().unwrap();
    let plain = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    assert_wrong(&ask(&check, server(plain)).await, "the port may speak plain HTTP");
    assert_wrong(&ask(&check, server(b"")).await, "the connection ended during the handshake");
    let (address, _seen) = serve(LOOPBACKS[0], self_signed(&named(&["x"]))).await;
    // A port that wants TLS and gets none.
    assert!(matches!(ask(&"http:/".parse().unwrap(), address).await, Err(Finding::WrongAnswer(_))));
}

#[tokio::test]
async fn a_file_of_authorities_that_cannot_be_used_is_no_fault_of_the_backend() {
    let authority = Authority::new();
    let (address, _seen) = serve(LOOPBACKS[0], authority.sign(&named(&["127.0.0.1"]))).await;
    let check = Check::Http(authority.check(None));
    assert_eq!(ask(&check, address).await, Ok(()));
    fs::write(authority.file(), "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").unwrap();
    assert_unchecked(&ask(&check, address).await, "ca.pem");
    fs::write(authority.file(), "").unwrap();
    assert_unchecked(&ask(&check, address).await, "there is no certificate in it");
    fs::remove_file(authority.file()).unwrap();
    assert_unchecked(&ask(&check, address).await, "No such file");
}
