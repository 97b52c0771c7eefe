//! TLS under a check by HTTP: who is trusted, and how long a certificate still lasts.
//!
//! What always holds: no session is resumed, because a resumed one shows no certificate.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, InvalidMessage, RootCertStore, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::kind::TlsCheck;
use super::socket;
use crate::clock::Now;
use crate::recovery::Finding;

/// A client for one check.
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// The name that a host stands for in TLS, which knows no ports; `None` if it can be none.
pub(super) fn server_name(host: &str) -> Option<ServerName<'static>> {
    let authority = host.parse::<Authority>().ok()?;
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(name.to_owned()).ok()
}

impl Client {
    /// Reads who is trusted. Without a host the certificate has to name the backend's address.
    pub(crate) async fn prepare(
        tls: &TlsCheck,
        host: Option<&str>,
        address: SocketAddr,
    ) -> Result<Self, Finding> {
        let name = match host {
            None => ServerName::from(address.ip()),
            Some(host) => server_name(host)
                .ok_or_else(|| Finding::Unchecked(format!("`{host}` is no name that TLS could ask for")))?,
        };
        let config = match (&tls.ca_file, tls.verify) {
            (_, false) => Arc::new(trusting_anybody()?),
            (None, true) => trusting_the_system().await?,
            (Some(file), true) => Arc::new(trusting_file(file).await?),
        };
        Ok(Self { config, name })
    }

    /// Begins TLS and looks at the certificate.
    pub(crate) async fn shake_hands(
        self,
        tls: &TlsCheck,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, Finding> {
        let connected = TlsConnector::from(self.config).connect(self.name, stream).await;
        let stream = connected.map_err(|error| refusal(&error, tls.ca_file.as_deref()))?;
        if let Some(wanted) = tls.expires_in {
            let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let certificate = certificate.ok_or_else(|| wrong("the server shows no certificate"))?;
            ensure_lasting(certificate, wanted, Now::read().unix_ms / 1000)?;
        }
        Ok(stream)
    }
}

fn wrong(what: impl std::fmt::Display) -> Finding {
    Finding::WrongAnswer(format!("TLS: {what}"))
}

/// What a failed handshake says, if the authorities of this file are trusted, or those of the system.
fn refusal(error: &io::Error, ca_file: Option<&Path>) -> Finding {
    if error.kind() == io::ErrorKind::ConnectionReset {
        return Finding::Reset;
    }
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            wrong("the answer is not TLS: the port may speak plain HTTP")
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => match ca_file {
            Some(file) => wrong(format!(
                "no authority in {} has signed the certificate (UnknownIssuer)",
                file.display()
            )),
            None => wrong(
                "nobody whom this machine trusts has signed the certificate (UnknownIssuer): if it is an authority of \
                 your own, name its PEM file as `ca_file`",
            ),
        },
        Some(error) => wrong(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            wrong("the connection ended during the handshake")
        }
        None => socket::finding(error),
    }
}

/// Whether a certificate lasts beyond `now_unix_s` by `wanted` or more.
fn ensure_lasting(
    certificate: &CertificateDer<'_>,
    wanted: Duration,
    now_unix_s: u64,
) -> Result<(), Finding> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|error| wrong(format!("the certificate cannot be read: {error}")))?;
    let end_unix_s = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    if end_unix_s >= now_unix_s.saturating_add(wanted.as_secs()) {
        return Ok(());
    }
    let end = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + Duration::from_secs(end_unix_s));
    Err(wrong(if end_unix_s < now_unix_s {
        format!("the certificate ended at {end}")
    } else {
        let wanted = humantime::format_duration(wanted);
        format!("the certificate ends at {end}, which is in less than {wanted}")
    }))
}

fn config(verifier: impl FnOnce(Arc<CryptoProvider>) -> Verifier) -> Result<ClientConfig, Finding> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Finding::Unchecked(error.to_string()))?;
    let mut config = match verifier(provider) {
        Verifier::Roots(roots) => builder.with_root_certificates(roots),
        Verifier::Anybody(anybody) => builder.dangerous().with_custom_certificate_verifier(Arc::new(anybody)),
    }
    .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

enum Verifier {
    Roots(RootCertStore),
    Anybody(Anybody),
}

fn trusting_anybody() -> Result<ClientConfig, Finding> {
    config(|provider| Verifier::Anybody(Anybody(provider)))
}

/// The system's authorities are read once: that takes some ten milliseconds, and they change seldom.
async fn trusting_the_system() -> Result<Arc<ClientConfig>, Finding> {
    static SYSTEM: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();
    let read = || async {
        let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
        let loaded = loaded.map_err(|error| Finding::Unchecked(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        // Some in the wild cannot be parsed; what they have signed is then not trusted.
        let (usable, _) = roots.add_parsable_certificates(loaded.certs);
        if usable == 0 {
            return Err(Finding::Unchecked(
                "this machine trusts no authority: install its package `ca-certificates`, or name a `ca_file`"
                    .to_owned(),
            ));
        }
        config(|_| Verifier::Roots(roots)).map(Arc::new)
    };
    SYSTEM.get_or_try_init(read).await.cloned()
}

async fn trusting_file(file: &Path) -> Result<ClientConfig, Finding> {
    let unchecked = |what: String| Finding::Unchecked(format!("{}: {what}", file.display()));
    let text = tokio::fs::read(file).await.map_err(|error| unchecked(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let added = certificate
            .map_err(|error: pem::Error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
        added.map_err(unchecked)?;
    }
    if roots.is_empty() {
        return Err(unchecked("there is no certificate in it: it must be PEM".to_owned()));
    }
    config(|_| Verifier::Roots(roots))
}

/// Takes every certificate, as `verify = false` asks for: what is checked is that somebody answers.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
