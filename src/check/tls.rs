//! How a probe trusts a server and says who it is: rustls configurations, made anew when a file changes.
//!
//! A certificate is never accepted unverified unless the configuration says `insecure`.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use config::ready::{Credentials, Target, Tls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::blocking::Blocking;
use super::dial::{Limit, Wire};
use super::{Spoken, certificate};

/// Which version of each file a configuration was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Stamps(Vec<Option<(SystemTime, u64, u64)>>);

impl Stamps {
    /// Looks at the files that the TLS configuration is made from.
    fn of(tls: &Tls, credentials: &Credentials) -> Self {
        let files = [
            tls.ca_file.as_deref(),
            credentials.client_certificate_file.as_deref(),
            credentials.client_key_file.as_deref(),
        ];
        Self(files.map(|file| file.and_then(stamp)).to_vec())
    }
}

fn stamp(file: &Path) -> Option<(SystemTime, u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// Makes connections secure, with a configuration that is made anew when one of its files changes.
#[derive(Debug)]
pub(super) struct Secure {
    tls: Tls,
    credentials: Credentials,
    /// Offered where the configuration names no protocol.
    usual_protocol: Option<&'static str>,
    vips: Vec<IpAddr>,
    files: Blocking<Result<Made, String>>,
    made: Option<Made>,
    findings: Option<Vec<String>>,
}

/// A configuration and the files that it was made from.
#[derive(Clone, Debug)]
struct Made {
    stamps: Stamps,
    config: Arc<ClientConfig>,
}

impl Secure {
    pub(super) fn new(
        tls: &Tls,
        credentials: &Credentials,
        usual_protocol: Option<&'static str>,
        vips: &[IpAddr],
    ) -> Self {
        Self {
            tls: tls.clone(),
            credentials: credentials.clone(),
            usual_protocol,
            vips: vips.to_vec(),
            files: Blocking::default(),
            made: None,
            findings: None,
        }
    }

    /// Looks at the files; `true`: they are others than those of the last connection.
    ///
    /// # Errors
    /// Names the file that cannot be used, and why.
    pub(super) async fn refresh(&mut self, limit: Limit) -> Result<bool, String> {
        let has_files = self.tls.ca_file.is_some() || self.credentials.client_certificate_file.is_some();
        if self.made.is_some() && !has_files {
            return Ok(false);
        }
        let (tls, credentials) = (self.tls.clone(), self.credentials.clone());
        let (usual, known) = (self.usual_protocol, self.made.clone());
        let read = self.files.ask(move || {
            let stamps = Stamps::of(&tls, &credentials);
            match known {
                Some(known) if known.stamps == stamps => Ok(known),
                _ => {
                    let config = client_config(&tls, &credentials, usual)?;
                    Ok(Made { stamps, config: Arc::new(config) })
                }
            }
        });
        let made = limit.hold(read, |time| format!("certificates not read after {time}")).await?;
        let made = made.map_err(|error| error.to_string())??;
        let is_new = self.made.as_ref().is_none_or(|known| !Arc::ptr_eq(&known.config, &made.config));
        self.made = Some(made);
        Ok(is_new)
    }

    /// Completes a handshake. [`refresh`](Self::refresh) comes first.
    ///
    /// # Errors
    /// Says why not.
    pub(super) async fn handshake(
        &mut self,
        stream: TcpStream,
        target: &Target,
        limit: Limit,
    ) -> Result<Wire, String> {
        let Some(made) = &self.made else { return Err("TLS is not set up".to_owned()) };
        let host = self.tls.server_name.as_deref().unwrap_or(&target.host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("{host} cannot be the name of a TLS server"))?;
        let connector = TlsConnector::from(Arc::clone(&made.config));
        let stream = limit
            .hold(connector.connect(name, stream), |time| format!("no TLS handshake after {time}"))
            .await?
            .map_err(|error| unsecured(&error))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        self.findings = Some(certificate::findings(chain, &self.tls, &self.vips, now));
        Ok(Wire::Tls(Box::new(stream)))
    }

    /// What was found about the certificate of the last handshake; each is given once.
    pub(super) fn findings(&mut self) -> Option<Vec<String>> {
        self.findings.take()
    }
}

/// Why a handshake failed.
fn unsecured(error: &io::Error) -> String {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return failure(error);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            "the server closed the connection during the TLS handshake".to_owned()
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "the server reset the connection during the TLS handshake".to_owned()
        }
        _ => format!("TLS handshake failed: {}", Spoken(error)),
    }
}

fn client_config(
    tls: &Tls,
    credentials: &Credentials,
    usual_protocol: Option<&'static str>,
) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier(tls, provider)?);
    let mut config = match (&credentials.client_certificate_file, &credentials.client_key_file) {
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|error| format!("client certificate {} not usable: {error}", certificate.display()))?,
        _ => builder.with_no_client_auth(),
    };
    let offered = tls.alpn.iter().map(String::as_str);
    let usual = usual_protocol.filter(|_| tls.alpn.is_empty());
    config.alpn_protocols = offered.chain(usual).map(|name| name.as_bytes().to_vec()).collect();
    // A session that is resumed shows no certificate, so nothing could be found about it.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn verifier(tls: &Tls, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    if tls.insecure {
        return Ok(Arc::new(Insecure(provider)));
    }
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(authorities(tls)?), provider)
        .build()
        .map_err(|error| format!("certificate authorities not usable: {error}"))?;
    let known = tls.ca_file.as_ref().map(certificates).transpose()?.unwrap_or_default();
    Ok(Arc::new(Verifier { inner, known, any_name: tls.any_name }))
}

fn authorities(tls: &Tls) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match &tls.ca_file {
        Some(file) => {
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|error| format!("{} not usable: {error}", file.display()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err("this host has no certificate authorities, set ca_file".to_owned());
    }
    Ok(roots)
}

fn certificates(file: &PathBuf) -> Result<Vec<CertificateDer<'static>>, String> {
    let unusable = |error| format!("{} not usable: {error}", file.display());
    let text = std::fs::read(file).map_err(|error| format!("{}: {}", file.display(), Spoken(&error)))?;
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(unusable)?;
    if certificates.is_empty() {
        return Err(format!("{} holds no certificate in PEM format", file.display()));
    }
    Ok(certificates)
}

fn private_key(file: &PathBuf) -> Result<PrivateKeyDer<'static>, String> {
    let text = std::fs::read(file).map_err(|error| format!("{}: {}", file.display(), Spoken(&error)))?;
    PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| format!("{} holds no private key in PEM format", file.display()))
}

/// Verifies a certificate: that it is from an authority of ours, or is itself in the file of those, as curl and OpenSSL
/// take it; and that it is for the server, unless any name will do.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    /// What is in the file.
    known: Vec<CertificateDer<'static>>,
    any_name: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        use rustls::Error::InvalidCertificate;
        let verdict =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let verdict = match verdict {
            // That is looked at when it is known to be valid now; what is left is the name.
            Err(InvalidCertificate(error)) if is_authority(&error) && self.known.contains(end_entity) => {
                let certificate = ParsedCertificate::try_from(end_entity)?;
                verify_server_name(&certificate, server_name).map(|()| ServerCertVerified::assertion())
            }
            verdict => verdict,
        };
        match verdict {
            // The name is looked at last.
            Err(InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) if self.any_name => {
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Accepts every certificate; the server must still own its key.
#[derive(Debug)]
struct Insecure(Arc<CryptoProvider>);

impl ServerCertVerifier for Insecure {
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Why TLS failed, fit for the middle of a sentence.
pub(super) fn failure(error: &rustls::Error) -> String {
    use rustls::AlertDescription::{
        AccessDenied, BadCertificate, CertificateRequired, DecryptError, UnknownCA,
    };
    match error {
        rustls::Error::InvalidCertificate(error) => format!("certificate not trusted: {}", mistrust(error)),
        rustls::Error::NoCertificatesPresented => "the server has no certificate".to_owned(),
        rustls::Error::AlertReceived(CertificateRequired) => {
            "the server demands a client certificate".to_owned()
        }
        rustls::Error::AlertReceived(BadCertificate | UnknownCA | AccessDenied | DecryptError) => {
            "the server does not accept our client certificate".to_owned()
        }
        rustls::Error::AlertReceived(alert) => format!("the server refused TLS: {alert:?}"),
        rustls::Error::InvalidMessage(_) => "the answer is not TLS".to_owned(),
        error => format!("TLS failed: {error}"),
    }
}

/// The certificate is one of an authority, and none of a server.
fn is_authority(error: &CertificateError) -> bool {
    // rustls has no kind of its own for it.
    matches!(error, CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity")
}

fn mistrust(error: &CertificateError) -> String {
    match error {
        error if is_authority(error) => {
            "it is that of an authority, and not in ca_file itself: give the server one of its own".to_owned()
        }
        CertificateError::UnknownIssuer => "unknown issuer".to_owned(),
        // A cluster that was set up anew has an authority of the same name with another key.
        CertificateError::BadSignature => "its issuer has the name of ours but another key".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".to_owned()
        }
        CertificateError::NotValidForName => "it is for another name".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            // `DnsName("kubernetes")` and `IpAddress(10.0.0.1)` become what is in the brackets.
            let bare = |name: &String| {
                let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
                inner.unwrap_or(name).trim_matches('"').to_owned()
            };
            let presented: Vec<String> = presented.iter().map(bare).collect();
            format!("it is not for {} but for {}", expected.to_str(), presented.join(", "))
        }
        error => error.to_string(),
    }
}
