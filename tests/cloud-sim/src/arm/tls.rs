//! TLS with a certificate of this double's own, for clients that take nothing else (`az`).

use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// For `localhost` and 127.0.0.1; the certificate is written to `file`, for REQUESTS_CA_BUNDLE.
pub fn acceptor(file: &Path) -> io::Result<TlsAcceptor> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).map_err(io::Error::other)?;
    std::fs::write(file, made.cert.pem())?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
    let config = config.map_err(io::Error::other)?.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key);
    Ok(TlsAcceptor::from(Arc::new(config.map_err(io::Error::other)?)))
}
