//! Credentials by the conventions of AWS, as `reqsign` finds them, within a bounded time.
//!
//! In this order: the environment; the files of the profile; its single sign-on; a web identity; its
//! `credential_process`; the container's or the machine's own service. The last two are asked over the network and
//! give up after [`super::transport::METADATA_SILENCE`] where nobody answers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use parking_lot::Mutex;
use reqsign_aws_v4::{Credential, DefaultCredentialProvider, StaticCredentialProvider};
use reqsign_core::time::Timestamp;
use reqsign_core::{
    CommandExecute, CommandOutput, Context, Env as Surroundings, FileRead, ProvideCredential, ProvideCredentialDyn,
    SigningCredential as _,
};

use super::failure::Failure;
use super::settings::Credentials;
use crate::env::Env;
use crate::error::ErrorKind;

/// How long finding credentials may take as a whole.
const MAX_SEARCH: Duration = Duration::from_secs(20);
/// How long a `credential_process` may take: then it is ended.
const MAX_HELPER_TIME: Duration = Duration::from_secs(15);
/// How often it is looked whether it has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// How much of what it says is read, in bytes.
const MAX_SAID_BYTES: u64 = 64 << 10;
/// How much longer a credential must be valid to serve on when no new one is found.
const STILL_VALID: Duration = Duration::from_secs(15);
const NONE_FOUND: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run `aws configure`; \
    --store-option anonymous=true reads public buckets";

/// The source of a store's credentials. `None` for anonymous access.
pub(super) fn source(credentials: &Credentials, env: &Env, surroundings: Arc<dyn Surroundings>) -> Option<Source> {
    let inner: Arc<dyn ProvideCredentialDyn<Credential = Credential>> = match credentials {
        Credentials::Anonymous => return None,
        Credentials::Given { access_key_id, secret_access_key, session_token } => {
            let provider = StaticCredentialProvider::new(access_key_id, secret_access_key);
            match session_token {
                Some(token) => Arc::new(provider.with_session_token(token)),
                None => Arc::new(provider),
            }
        }
        Credentials::Conventions { profile, ignores_environment, asks_machine } => {
            let mut builder = DefaultCredentialProvider::builder().with_profile(profile);
            if *ignores_environment {
                builder = builder.no_env();
            }
            if !*asks_machine {
                builder = builder.no_ecs().no_imds();
            }
            Arc::new(builder.build())
        }
    };
    Some(Source { inner, last: Arc::default(), env: env.clone(), surroundings: Outside(surroundings) })
}

/// See [`source`]. Shows no secrets.
#[derive(Clone)]
pub(super) struct Source {
    inner: Arc<dyn ProvideCredentialDyn<Credential = Credential>>,
    /// What was found last: it serves on while it is valid and a search fails.
    last: Arc<Mutex<Option<Credential>>>,
    env: Env,
    surroundings: Outside,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

impl ProvideCredential for Source {
    type Credential = Credential;

    async fn provide_credential(&self, context: &Context) -> reqsign_core::Result<Option<Credential>> {
        // Files and commands come from here, whatever the caller thought; the HTTP client is the caller's.
        let context = context
            .clone()
            .with_env(self.surroundings.clone())
            .with_file_read(Files(self.env.clone()))
            .with_command_execute(Commands(self.env.clone()));
        let search = self.inner.provide_credential_dyn(&context);
        let found = match select(search, self.env.runtime.sleep(MAX_SEARCH)).await {
            Either::Left((outcome, _)) => outcome.unwrap_or_else(|error| {
                tracing::debug!(%error, "a search for credentials failed");
                None
            }),
            Either::Right(_) => None,
        };
        let mut last = self.last.lock();
        if found.is_some() {
            last.clone_from(&found);
            return Ok(found);
        }
        let soon = Timestamp::now() + STILL_VALID;
        Ok(last.clone().filter(|credential| credential.is_valid_at(soon)))
    }
}

/// What a request fails with that has no credentials. A chain of `reqsign` keeps no reason, so there is one for all.
pub(super) fn none_found() -> Failure {
    Failure::new(ErrorKind::PermissionDenied, "no AWS credentials were found").with_advice(NONE_FOUND)
}

/// Whether a request failed for want of credentials.
pub(super) fn are_missing(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let of_reqsign = error.downcast_ref::<reqsign_core::Error>();
        if of_reqsign.is_some_and(|error| error.kind() == reqsign_core::ErrorKind::CredentialInvalid) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Environment variables; one that is empty counts as not set.
#[derive(Clone, Debug)]
struct Outside(Arc<dyn Surroundings>);

impl Surroundings for Outside {
    fn var(&self, key: &str) -> Option<String> {
        self.0.var(key).filter(|value| !value.is_empty())
    }

    fn vars(&self) -> std::collections::HashMap<String, String> {
        self.0.vars().into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }

    fn home_dir(&self) -> Option<std::path::PathBuf> {
        self.0.home_dir()
    }
}

#[derive(Debug)]
struct Files(Env);

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        let place = path.to_owned();
        let read = self.0.blocking(move || std::fs::read(place)).await.map_err(unexpected)?;
        read.map_err(unexpected)
    }
}

#[derive(Debug)]
struct Commands(Env);

impl CommandExecute for Commands {
    async fn command_execute<'a>(
        &'a self,
        program: &'a str,
        args: &'a [&'a str],
    ) -> reqsign_core::Result<CommandOutput> {
        let mut command = std::process::Command::new(program);
        command.args(args).stdin(std::process::Stdio::null());
        self.0.blocking(move || run(command, MAX_HELPER_TIME)).await.map_err(unexpected)?.map_err(unexpected)
    }
}

/// Runs a helper to its end, which comes after `patience` at the latest: one that hangs would keep its process and a
/// thread for ever, and the next search would start another. What it says goes to files, so that nobody need read along.
fn run(mut command: std::process::Command, patience: Duration) -> std::io::Result<CommandOutput> {
    let (mut said, mut complained) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut child = command.stdout(said.try_clone()?).stderr(complained.try_clone()?).spawn()?;
    for _ in 0..patience.as_millis() / LOOK_INTERVAL.as_millis() {
        if let Some(status) = child.try_wait()? {
            let (stdout, stderr) = (beginning_of(&mut said)?, beginning_of(&mut complained)?);
            return Ok(CommandOutput { status: status.code().unwrap_or(-1), stdout, stderr });
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    child.kill()?;
    child.wait()?;
    Err(std::io::Error::other(format!("the credential process did not end within {patience:?}")))
}

fn beginning_of(file: &mut std::fs::File) -> std::io::Result<Vec<u8>> {
    use std::io::{Read as _, Seek as _};
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(MAX_SAID_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unexpected(error: impl std::error::Error + Send + Sync + 'static) -> reqsign_core::Error {
    reqsign_core::Error::unexpected(error.to_string())
}

#[cfg(test)]
mod tests {
    use reqsign_core::StaticEnv;

    use super::super::profile::tests::home;
    use super::*;

    const KEYS: &[(&str, &str)] = &[("AWS_ACCESS_KEY_ID", "ENV"), ("AWS_SECRET_ACCESS_KEY", "geheim")];
    const CREDENTIALS: &str = "
[default]
aws_access_key_id = DEFAULT
aws_secret_access_key = geheim
[work]
aws_access_key_id = WORK
aws_secret_access_key = geheim
aws_session_token = zeichen
";

    fn conventions(profile: &str, ignores_environment: bool) -> Credentials {
        Credentials::Conventions { profile: profile.to_owned(), ignores_environment, asks_machine: false }
    }

    async fn found(credentials: Credentials, surroundings: StaticEnv) -> Option<Credential> {
        let source = source(&credentials, &Env::system().unwrap(), Arc::new(surroundings)).unwrap();
        assert!(!format!("{source:?}").contains("geheim"));
        source.provide_credential(&Context::new()).await.unwrap()
    }

    #[tokio::test]
    async fn the_environment_goes_before_the_profile_and_a_chosen_profile_before_both() {
        let (_folder, with_keys) = home("", CREDENTIALS, KEYS);
        let (_other, without) = home("", CREDENTIALS, &[("AWS_ACCESS_KEY_ID", "")]);
        let key = |credential: Credential| credential.access_key_id;
        assert_eq!(key(found(conventions("default", false), with_keys.clone()).await.unwrap()), "ENV");
        assert_eq!(key(found(conventions("default", false), without).await.unwrap()), "DEFAULT");
        let work = found(conventions("work", true), with_keys.clone()).await.unwrap();
        assert_eq!((work.access_key_id.as_str(), work.session_token.as_deref()), ("WORK", Some("zeichen")));
        let given = Credentials::Given {
            access_key_id: "GIVEN".to_owned(),
            secret_access_key: "geheim".to_owned(),
            session_token: Some("zeichen".to_owned()),
        };
        let given = found(given, with_keys).await.unwrap();
        assert_eq!((given.access_key_id.as_str(), given.session_token.as_deref()), ("GIVEN", Some("zeichen")));
    }

    #[tokio::test]
    async fn a_credential_process_is_run() {
        let json = r#"{"Version":1,"AccessKeyId":"PROCESS","SecretAccessKey":"geheim"}"#;
        let (folder, _) = home("", "", &[]);
        let script = folder.path().join("keys.json");
        std::fs::write(&script, json).unwrap();
        let config = format!("[default]\ncredential_process = cat {}\n", script.display());
        let (_home, surroundings) = home(&config, "", &[]);
        assert_eq!(found(conventions("default", false), surroundings).await.unwrap().access_key_id, "PROCESS");
    }

    #[test]
    fn a_credential_process_that_hangs_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("pid");
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!("echo $$ > {}; exec sleep 600", place.display())]);
        let error = run(command, Duration::from_millis(500)).unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error}");
        let pid = std::fs::read_to_string(place).unwrap();
        assert!(!std::path::Path::new(&format!("/proc/{}", pid.trim())).exists(), "{pid} goes on");
    }

    #[tokio::test]
    async fn without_credentials_there_are_none_and_anonymous_access_has_no_source() {
        assert!(found(conventions("default", false), StaticEnv::default()).await.is_none());
        assert!(source(&Credentials::Anonymous, &Env::system().unwrap(), Arc::new(StaticEnv::default())).is_none());
    }

    #[tokio::test]
    async fn what_was_found_last_serves_on_while_it_is_valid() {
        let credentials = conventions("default", false);
        let source = source(&credentials, &Env::system().unwrap(), Arc::new(StaticEnv::default())).unwrap();
        let until = |seconds| Credential {
            access_key_id: "OLD".to_owned(),
            secret_access_key: "geheim".to_owned(),
            session_token: None,
            expires_in: Some(Timestamp::now() + Duration::from_secs(seconds)),
        };
        *source.last.lock() = Some(until(60));
        assert_eq!(source.provide_credential(&Context::new()).await.unwrap().unwrap().access_key_id, "OLD");
        *source.last.lock() = Some(until(5));
        assert!(source.provide_credential(&Context::new()).await.unwrap().is_none());
    }
}
