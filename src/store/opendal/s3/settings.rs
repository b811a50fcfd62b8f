//! How to reach a bucket: options first, then the environment, then the files of the AWS tools.

use std::time::Duration;

use reqsign_core::Env as Surroundings;

use super::profile::{self, variable};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{OptionSpec, REMOTE_OPTIONS, StoreOptions};

/// The size of a part of a multipart upload where `part-size` says nothing, in bytes.
///
/// An upload holds [`DEFAULT_UPLOAD_PARALLELISM`] parts being sent, one waiting and one being gathered, and four
/// large files are uploaded at once (`TransferLimits`): 4 x (4 + 2) x 8 MiB = 192 MiB at most.
pub const DEFAULT_PART_BYTES: u64 = 8 << 20;
/// How many parts of one object are sent at once where `upload-parallelism` says nothing.
pub const DEFAULT_UPLOAD_PARALLELISM: u64 = 4;
/// S3 takes no smaller parts, but for the last.
const MIN_PART_BYTES: u64 = 5 << 20;
/// Parts are held in memory; S3 itself would take 5 GiB.
const MAX_PART_BYTES: u64 = 1 << 30;
const MAX_UPLOAD_PARALLELISM: u64 = 64;
/// How long the service may be silent where `request-timeout` says nothing.
const DEFAULT_SILENCE: Duration = Duration::from_secs(30);
/// How long connecting may take where `connect-timeout` says nothing.
const DEFAULT_CONNECT: Duration = Duration::from_secs(5);
/// The bounds of both.
const MIN_TIMEOUT: Duration = Duration::from_millis(10);
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
/// Where a service that is not Amazon's has no regions, this one is signed for by convention.
const ANY_REGION: &str = "us-east-1";
const AMAZONS_GLOBAL_ENDPOINT: &str = "https://s3.amazonaws.com";
/// Names of Amazon's directory buckets end so.
const DIRECTORY_BUCKET: &str = "--x-s3";
const OPERATION: &str = "open the S3 store";

macro_rules! specs {
    ($($name:literal: $meaning:literal,)*) => {
        &[$(OptionSpec { name: $name, meaning: $meaning },)*]
    };
}

/// The options of an S3 store, besides those of every remote store ([`REMOTE_OPTIONS`]).
pub const S3_OPTIONS: &[OptionSpec] = specs! {
    "endpoint": "URL of the service; else AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile's, or Amazon's",
    "region": "region of the bucket; else AWS_REGION, AWS_DEFAULT_REGION, or the profile's",
    "profile": "profile of the AWS tools; else AWS_PROFILE, or `default`",
    "access-key-id": "with secret-access-key; else from the environment or the profile",
    "secret-access-key": "better given by AWS_SECRET_ACCESS_KEY or a profile: a command line is no secret",
    "session-token": "of temporary credentials",
    "anonymous": "true: requests are not signed",
    "instance-metadata": "false: credentials are not asked of the machine this runs on (EC2, ECS)",
    "addressing": "path (http://host/bucket) or virtual (http://bucket.host); else virtual at Amazon, path elsewhere",
    "part-size": "of multipart uploads, 5MiB to 1GiB; 8MiB",
    "upload-parallelism": "parts of one object sent at once, 1 to 64; 4",
    "request-timeout": "how long the service may be silent; 30s",
    "connect-timeout": "how long connecting may take; 5s",
    "checksum": "crc32c, which the service verifies, or off for services that refuse it; crc32c",
};

/// Where credentials come from.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// Nowhere: requests are not signed.
    Anonymous,
    /// The options.
    Given { access_key_id: String, secret_access_key: String, session_token: Option<String> },
    /// The conventions of AWS. A profile that the options name goes before the environment's keys, as with the
    /// AWS command.
    Conventions { profile: String, ignores_environment: bool, asks_machine: bool },
}

/// Everything that is to be known of a bucket.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) bucket: String,
    /// Without slashes at either end.
    pub(super) prefix: String,
    pub(super) region: String,
    /// URL of the service, without a slash at its end.
    pub(super) endpoint: String,
    pub(super) is_virtual_host: bool,
    pub(super) credentials: Credentials,
    pub(super) part_bytes: u64,
    pub(super) upload_parallelism: u64,
    pub(super) silence: Duration,
    pub(super) connect: Duration,
    pub(super) has_checksums: bool,
    /// A file with certificates to trust instead of the system's.
    pub(super) ca_bundle: Option<String>,
}

impl Settings {
    /// Reads the options and what they leave out.
    pub(super) fn resolve(
        bucket: &str,
        prefix: &str,
        options: &StoreOptions,
        surroundings: &dyn Surroundings,
    ) -> Result<Self> {
        options.check_known(format!("s3://{bucket}/{prefix}"), &[S3_OPTIONS, REMOTE_OPTIONS])?;
        let (profile_name, is_chosen) = profile::name_of(options.text("profile")?, surroundings);
        let profile = profile::read(&profile_name, is_chosen, surroundings)?;
        let endpoint = endpoint(options, &profile, surroundings)?
            // As OpenDAL does: a host with the bucket's name is the service's, and the global one stands for a region's.
            .map(|endpoint| endpoint.replace(&format!("://{bucket}."), "://"))
            .filter(|endpoint| endpoint != AMAZONS_GLOBAL_ENDPOINT);
        let region = region(options, &profile, endpoint.is_some(), surroundings)?;
        let is_amazon = endpoint.is_none();
        if is_amazon && bucket.ends_with(DIRECTORY_BUCKET) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                OPERATION,
                "directory buckets (S3 Express) do not list in order",
            )
            .with_object(bucket)
            .with_advice("use a general purpose bucket"));
        }
        let is_virtual_host = match options.choice("addressing", &["path", "virtual"])? {
            Some(choice) => choice == "virtual",
            // A certificate for *.s3.amazonaws.com does not cover a name with dots.
            None => is_amazon && !bucket.contains('.'),
        };
        let timeouts = MIN_TIMEOUT..=MAX_TIMEOUT;
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            endpoint: endpoint.unwrap_or_else(|| amazons_endpoint(&region)),
            region,
            is_virtual_host,
            credentials: credentials(options, profile_name)?,
            part_bytes: options.size_bytes("part-size", MIN_PART_BYTES..=MAX_PART_BYTES)?.unwrap_or(DEFAULT_PART_BYTES),
            upload_parallelism: options
                .number("upload-parallelism", 1..=MAX_UPLOAD_PARALLELISM)?
                .unwrap_or(DEFAULT_UPLOAD_PARALLELISM),
            silence: options.duration("request-timeout", timeouts.clone())?.unwrap_or(DEFAULT_SILENCE),
            connect: options.duration("connect-timeout", timeouts)?.unwrap_or(DEFAULT_CONNECT),
            has_checksums: options.choice("checksum", &["crc32c", "off"])?.is_none_or(|choice| choice == "crc32c"),
            ca_bundle: variable(surroundings, "AWS_CA_BUNDLE"),
        })
    }

    /// The URL of the bucket, without a slash at its end.
    pub(super) fn bucket_url(&self) -> String {
        match (self.is_virtual_host, self.endpoint.split_once("://")) {
            (true, Some((scheme, host))) => format!("{scheme}://{}.{host}", self.bucket),
            _ => format!("{}/{}", self.endpoint, self.bucket),
        }
    }
}

fn endpoint(
    options: &StoreOptions,
    profile: &profile::Profile,
    surroundings: &dyn Surroundings,
) -> Result<Option<String>> {
    let is_ignored = variable(surroundings, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let configured = || {
        ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
            .iter()
            .find_map(|name| variable(surroundings, name))
            .or_else(|| profile.endpoint.clone())
            .filter(|_| !is_ignored)
    };
    let Some(text) = options.text("endpoint")?.map(str::to_owned).or_else(configured) else { return Ok(None) };
    let fault = |message: &str| {
        // The text may hold a password.
        Err(Error::invalid(OPERATION, message)
            .with_object("the endpoint")
            .with_advice("give a URL such as https://s3.example.org or http://127.0.0.1:9000, by --store-option endpoint or AWS_ENDPOINT_URL_S3"))
    };
    let text = if text.contains("://") { text } else { format!("https://{text}") };
    let Ok(url) = reqwest::Url::parse(&text) else { return fault("it is not a URL") };
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return fault("it is not a URL of http or https");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return fault("it holds a user or a password");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return fault("it holds a `?` or `#`");
    }
    Ok(Some(url.as_str().trim_end_matches('/').to_owned()))
}

fn region(
    options: &StoreOptions,
    profile: &profile::Profile,
    has_endpoint: bool,
    surroundings: &dyn Surroundings,
) -> Result<String> {
    let from_environment = || ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| variable(surroundings, name));
    let region = options
        .text("region")?
        .map(str::to_owned)
        .or_else(from_environment)
        .or_else(|| profile.region.clone())
        .or_else(|| has_endpoint.then(|| ANY_REGION.to_owned()))
        .ok_or_else(|| {
            Error::invalid(OPERATION, "no region is set")
                .with_advice("give --store-option region=REGION, or set AWS_REGION; for a service that is not Amazon's, set its endpoint")
        })?;
    if region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Ok(region);
    }
    Err(Error::invalid(OPERATION, "the region is no name of a region").with_advice("write it as in eu-west-1"))
}

fn amazons_endpoint(region: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://s3.{region}.{domain}")
}

fn credentials(options: &StoreOptions, profile: String) -> Result<Credentials> {
    let key = options.text("access-key-id")?;
    let secret = options.text("secret-access-key")?;
    let token = options.text("session-token")?;
    let is_anonymous = options.flag("anonymous")?.unwrap_or(false);
    let contradiction = |message: &str| Err(Error::invalid(OPERATION, message).with_advice("leave one of them out"));
    let half = "access-key-id and secret-access-key go together";
    match (is_anonymous, key, secret) {
        (true, None, None) if options.text("profile")?.is_none() => Ok(Credentials::Anonymous),
        (true, ..) => contradiction("anonymous access takes no credentials"),
        (false, Some(_), Some(_)) if options.text("profile")?.is_some() => {
            contradiction("a profile and keys are two sources of credentials")
        }
        (false, Some(key), Some(secret)) => Ok(Credentials::Given {
            access_key_id: key.to_owned(),
            secret_access_key: secret.to_owned(),
            session_token: token.map(str::to_owned),
        }),
        (false, None, None) if token.is_some() => Err(Error::invalid(OPERATION, half).with_advice("give both")),
        (false, None, None) => Ok(Credentials::Conventions {
            profile,
            ignores_environment: options.text("profile")?.is_some(),
            asks_machine: options.flag("instance-metadata")?.unwrap_or(true),
        }),
        (false, ..) => Err(Error::invalid(OPERATION, half).with_advice("give both")),
    }
}

#[cfg(test)]
mod tests {
    use reqsign_core::StaticEnv;

    use super::super::profile::tests::home;
    use super::*;

    fn resolve(pairs: &str, variables: &[(&str, &str)]) -> Result<Settings> {
        resolve_at("bucket", pairs, variables)
    }

    fn resolve_at(bucket: &str, pairs: &str, variables: &[(&str, &str)]) -> Result<Settings> {
        let config = "[default]\nregion = profile-region\n[profile work]\nregion = work-region\nendpoint_url = http://profile:1\n";
        let (_folder, surroundings) = home(config, "", variables);
        let mut options = StoreOptions::new();
        options.add_list(pairs).unwrap();
        Settings::resolve(bucket, "a/prefix", &options, &surroundings)
    }

    #[test]
    fn options_go_before_the_environment_and_that_before_the_profile() {
        let region = |pairs, variables| resolve(pairs, variables).unwrap().region;
        assert_eq!(region("", &[]), "profile-region");
        assert_eq!(region("", &[("AWS_DEFAULT_REGION", "b")]), "b");
        assert_eq!(region("", &[("AWS_DEFAULT_REGION", "b"), ("AWS_REGION", "a")]), "a");
        assert_eq!(region("region=o", &[("AWS_REGION", "a")]), "o");
        assert_eq!(region("", &[("AWS_PROFILE", "work")]), "work-region");
        assert_eq!(region("profile=work", &[]), "work-region");

        let endpoint = |pairs, variables| resolve(pairs, variables).unwrap().endpoint;
        assert_eq!(endpoint("", &[]), "https://s3.profile-region.amazonaws.com");
        assert_eq!(endpoint("region=cn-north-1", &[]), "https://s3.cn-north-1.amazonaws.com.cn");
        assert_eq!(endpoint("profile=work", &[]), "http://profile:1");
        assert_eq!(endpoint("profile=work", &[("AWS_ENDPOINT_URL", "http://e:2")]), "http://e:2");
        let both = &[("AWS_ENDPOINT_URL", "http://e:2"), ("AWS_ENDPOINT_URL_S3", "http://s:3/")];
        assert_eq!(endpoint("", both), "http://s:3");
        assert_eq!(endpoint("endpoint=o.example", both), "https://o.example");
        let ignored = &[("AWS_ENDPOINT_URL", "http://e:2"), ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")];
        assert_eq!(endpoint("", ignored), "https://s3.profile-region.amazonaws.com");
    }

    #[test]
    fn buckets_are_addressed_as_the_service_expects() {
        let url = |bucket, pairs| resolve_at(bucket, pairs, &[]).unwrap().bucket_url();
        assert_eq!(url("bucket", "region=r"), "https://bucket.s3.r.amazonaws.com");
        assert_eq!(url("with.dots", "region=r"), "https://s3.r.amazonaws.com/with.dots");
        assert_eq!(url("bucket", "endpoint=http://h:1"), "http://h:1/bucket");
        assert_eq!(url("bucket", "endpoint=http://h:1,addressing=virtual"), "http://bucket.h:1");
        assert_eq!(url("bucket", "endpoint=http://bucket.h:1"), "http://h:1/bucket");
        assert_eq!(url("bucket", "endpoint=s3.amazonaws.com,region=r"), "https://bucket.s3.r.amazonaws.com");
        assert_eq!(url("bucket", "region=r,addressing=path"), "https://s3.r.amazonaws.com/bucket");
    }

    #[test]
    fn credentials_have_one_source() {
        let source = |pairs| resolve(pairs, &[]).map(|settings| settings.credentials);
        assert!(source("anonymous=true").unwrap() == Credentials::Anonymous);
        let given = source("access-key-id=a,secret-access-key=s,session-token=t").unwrap();
        assert!(matches!(given, Credentials::Given { session_token: Some(_), .. }));
        let conventions = |ignores_environment, asks_machine| {
            let profile = if ignores_environment { "work" } else { "default" }.to_owned();
            Credentials::Conventions { profile, ignores_environment, asks_machine }
        };
        assert!(source("").unwrap() == conventions(false, true));
        assert!(source("profile=work,instance-metadata=false").unwrap() == conventions(true, false));
        for half in [
            "access-key-id=a",
            "secret-access-key=s",
            "session-token=t",
            "anonymous=true,access-key-id=a",
            "anonymous=true,profile=work",
            "profile=work,access-key-id=a,secret-access-key=s",
        ] {
            assert_eq!(source(half).err().unwrap().kind(), ErrorKind::InvalidInput, "{half}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_and_secrets_are_not_repeated() {
        for pairs in [
            "endpoint=ftp://h",
            "endpoint=http://user:geheim@h",
            "endpoint=http://h?geheim",
            "endpoint=http://",
            "region=a b",
            "part-size=1MiB",
            "part-size=2GiB",
            "upload-parallelism=0",
            "request-timeout=0s",
            "checksum=sha256",
            "addressing=auto",
            "profile=unknown",
        ] {
            let error = resolve(pairs, &[]).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{pairs}: {error}");
            assert!(!error.to_string().contains("geheim"), "{error}");
        }
        let nowhere = Settings::resolve("bucket", "", &StoreOptions::new(), &StaticEnv::default()).err().unwrap();
        assert!(nowhere.to_string().contains("AWS_REGION"), "{nowhere}");
        assert_eq!(resolve_at("b--use1-az4--x-s3", "region=r", &[]).err().unwrap().kind(), ErrorKind::Unsupported);
        resolve_at("b--use1-az4--x-s3", "endpoint=http://h:1", &[]).unwrap();
    }

    #[test]
    fn four_uploads_at_once_stay_within_the_memory_that_is_promised() {
        let settings = resolve("", &[]).unwrap();
        let parts = settings.upload_parallelism + 2;
        assert!(4 * parts * settings.part_bytes <= 192 << 20);
    }
}
