//! How a probe trusts a server and says who it is: rustls configurations, made anew when a file changes.
//!
//! A certificate is never accepted unverified unless the configuration says `insecure`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use config::ready::{Credentials, Tls};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::Spoken;

/// Which version of each file a configuration was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamps(Vec<Option<(SystemTime, u64, u64)>>);

impl Stamps {
    /// Looks at the files that the TLS configuration is made from.
    pub(super) fn of(tls: Option<&Tls>, credentials: &Credentials) -> Self {
        let files = [
            tls.and_then(|tls| tls.ca_file.as_deref()),
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

/// What a probe needs to connect. Plain HTTP gets one too, which is never used.
///
/// # Errors
/// Names the file that cannot be used, and why.
pub(super) fn client_config(tls: Option<&Tls>, credentials: &Credentials) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let Some(tls) = tls else {
        return Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier(tls, provider)?);
    let mut config = match (&credentials.client_certificate_file, &credentials.client_key_file) {
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|error| format!("client certificate {} not usable: {error}", certificate.display()))?,
        _ => builder.with_no_client_auth(),
    };
    // SNI carries names only; one that is an address is verified all the same, see `verifier`.
    config.enable_sni = address(tls.server_name.as_deref()).is_none();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The address in a server name that is one.
pub(super) fn address(server_name: Option<&str>) -> Option<IpAddr> {
    server_name?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn verifier(tls: &Tls, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    if tls.insecure {
        return Ok(Arc::new(Insecure(provider)));
    }
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(authorities(tls)?), provider)
        .build()
        .map_err(|error| format!("certificate authorities not usable: {error}"))?;
    Ok(match address(tls.server_name.as_deref()) {
        Some(address) => Arc::new(Named { inner, name: ServerName::from(address) }),
        None => inner,
    })
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

/// Verifies for another name than the one that was connected to.
#[derive(Debug)]
struct Named {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.inner.verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
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

fn mistrust(error: &CertificateError) -> String {
    match error {
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
