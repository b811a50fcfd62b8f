//! Whom we trust: the system's certificates, or those of `AWS_CA_BUNDLE`.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;

use super::settings::Settings;
use crate::error::{Error, ErrorKind, Result};

const OPERATION: &str = "open the S3 store";

/// The provider of cryptography is named here and not process-wide: that choice is the embedding program's.
pub(super) fn configuration(settings: &Settings) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Internal, OPERATION, "TLS cannot be set up").with_source(error))?;
    if let Some(file) = &settings.ca_bundle {
        return Ok(builder.with_root_certificates(bundle(file)?).with_no_client_auth());
    }
    match builder.clone().with_platform_verifier() {
        Ok(builder) => Ok(builder.with_no_client_auth()),
        // Plain HTTP does without.
        Err(_) if settings.endpoint.starts_with("http://") => {
            Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
        }
        Err(error) => {
            Err(Error::new(ErrorKind::Io, OPERATION, format!("the system has no certificates to trust: {error}"))
                .with_advice("install them (Debian: ca-certificates), or name a file of them by AWS_CA_BUNDLE"))
        }
    }
}

fn bundle(file: &str) -> Result<RootCertStore> {
    let fail = |message: String| {
        Error::invalid(OPERATION, message)
            .with_object(file)
            .with_advice("AWS_CA_BUNDLE names a PEM file with certificates")
    };
    let certificates =
        CertificateDer::pem_file_iter(file).map_err(|error| fail(format!("it cannot be read: {error}")))?;
    let certificates: Vec<_> =
        certificates.collect::<Result<_, _>>().map_err(|error| fail(format!("it is malformed: {error}")))?;
    let mut roots = RootCertStore::empty();
    // Bundles of systems hold old certificates that nobody can use any more.
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() { Err(fail("it holds no certificate that can be used".to_owned())) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_without_certificates_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bundle.pem").display().to_string();
        assert_eq!(bundle(&file).unwrap_err().kind(), ErrorKind::InvalidInput);
        std::fs::write(&file, "nothing").unwrap();
        let error = bundle(&file).unwrap_err();
        assert!(error.to_string().contains("no certificate"), "{error}");
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(bundle(&file).is_err());
    }
}
