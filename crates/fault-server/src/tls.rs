use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, crypto};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The certificate that the server shows where it speaks TLS, with its key, as PEM. Nobody signed it; it
/// is for localhost and 127.0.0.1. A client trusts it when `SSL_CERT_FILE` names a file with this text.
/// The key is known to the whole world: it is good for nothing but tests.
pub const CERTIFICATE: &str = include_str!("self-signed.pem");

/// A handshake with a certificate that nobody should trust; whoever does is left alone.
pub(crate) async fn refuse(stream: TcpStream) -> io::Result<()> {
    drop(handshake(stream, &[]).await?);
    Ok(())
}

/// A handshake that offers these protocols.
pub(crate) async fn handshake(
    stream: TcpStream,
    protocols: &[&[u8]],
) -> io::Result<TlsStream<TcpStream>> {
    let mut config = config().map_err(io::Error::other)?;
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config)).accept(stream).await
}

fn config() -> Result<ServerConfig, rustls::Error> {
    let unread = |error| rustls::Error::General(format!("the certificate: {error}"));
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).map_err(unread)?;
    let key = PrivateKeyDer::from_pem_slice(CERTIFICATE.as_bytes()).map_err(unread)?;
    let ring = Arc::new(crypto::ring::default_provider());
    ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
}
