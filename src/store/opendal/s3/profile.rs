//! What the files of the AWS tools say besides credentials: region and endpoint of a profile.
//!
//! `~/.aws/config` has sections `[default]`, `[profile NAME]` and `[services NAME]`; `~/.aws/credentials` has
//! `[NAME]`. A line is `key = value`; indented lines below a key without a value are settings of that name. Only
//! what is asked for here is read: credentials are loaded by `reqsign`, whenever they are needed.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::PathBuf;

use reqsign_core::Env as Surroundings;

use crate::error::{Error, ErrorKind, Result};

/// Longer files are refused: nobody writes them by hand.
const MAX_FILE_BYTES: u64 = 1 << 20;
const OPERATION: &str = "read the AWS profile";

/// What a profile says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
}

/// The name of the profile in use, and whether somebody chose it. `chosen` is what the option says.
pub(super) fn name_of(chosen: Option<&str>, surroundings: &dyn Surroundings) -> (String, bool) {
    let named = chosen
        .map(str::to_owned)
        .or_else(|| variable(surroundings, "AWS_PROFILE"))
        .or_else(|| variable(surroundings, "AWS_DEFAULT_PROFILE"));
    let is_chosen = named.is_some();
    (named.unwrap_or_else(|| "default".to_owned()), is_chosen)
}

/// An environment variable that is set and not empty.
pub(super) fn variable(surroundings: &dyn Surroundings, name: &str) -> Option<String> {
    surroundings.var(name).filter(|value| !value.is_empty())
}

/// Reads the profile `name` from the files.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] if somebody chose a profile that no file has; what the system says for a file that
/// is there and cannot be read.
pub(super) fn read(name: &str, is_chosen: bool, surroundings: &dyn Surroundings) -> Result<Profile> {
    let config = file(surroundings, "AWS_CONFIG_FILE", "config")?;
    let credentials = file(surroundings, "AWS_SHARED_CREDENTIALS_FILE", "credentials")?;
    let heading = if name == "default" { "default".to_owned() } else { format!("profile {name}") };
    let mut found = sections(&config);
    let section = found.remove(&heading);
    if section.is_none() && is_chosen && !sections(&credentials).contains_key(name) {
        return Err(Error::invalid(OPERATION, "no file of AWS has it")
            .with_object(name)
            .with_advice("check --store-option profile, AWS_PROFILE, and ~/.aws/config"));
    }
    let mut section = section.unwrap_or_default();
    let of_services = section
        .remove("services")
        .and_then(|services| found.remove(&format!("services {services}")))
        .and_then(|mut services| services.remove("s3.endpoint_url"));
    Ok(Profile {
        region: section.remove("region").filter(|region| !region.is_empty()),
        endpoint: of_services.or_else(|| section.remove("endpoint_url")).filter(|endpoint| !endpoint.is_empty()),
    })
}

/// The text of a file, empty if it is not there. `variable_name` names another place for it.
fn file(surroundings: &dyn Surroundings, variable_name: &str, name: &str) -> Result<String> {
    let path = match variable(surroundings, variable_name) {
        Some(path) => match (path.strip_prefix("~/"), surroundings.home_dir()) {
            (Some(below), Some(home)) => home.join(below),
            _ => PathBuf::from(path),
        },
        None => match surroundings.home_dir() {
            Some(home) => home.join(".aws").join(name),
            None => return Ok(String::new()),
        },
    };
    let fail = |error| Error::io(OPERATION, path.display(), error);
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(fail(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(
            Error::new(ErrorKind::LimitExceeded, OPERATION, "it is longer than 1 MiB").with_object(path.display())
        );
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Sections by heading; a nested setting is `name.key`.
fn sections(text: &str) -> HashMap<String, HashMap<String, String>> {
    let mut found: HashMap<String, HashMap<String, String>> = HashMap::new();
    let (mut heading, mut parent) = (String::new(), None::<String>);
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(named) = trimmed.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            heading = named.0.split_whitespace().collect::<Vec<_>>().join(" ");
            parent = None;
            found.entry(heading.clone()).or_default();
            continue;
        }
        let Some((key, value)) = trimmed.split_once('=') else { continue };
        let (key, value) = (key.trim(), value.split(" #").next().unwrap_or_default().trim());
        let is_nested = line.starts_with([' ', '\t']);
        let key = match &parent {
            Some(parent) if is_nested => format!("{parent}.{key}"),
            _ => {
                parent = value.is_empty().then(|| key.to_owned());
                key.to_owned()
            }
        };
        found.entry(heading.clone()).or_default().insert(key, value.to_owned());
    }
    found
}

#[cfg(test)]
pub(super) mod tests {
    use reqsign_core::StaticEnv;

    use super::*;

    /// A home folder with these files, and these variables.
    pub(in crate::store::opendal::s3) fn home(
        config: &str,
        credentials: &str,
        variables: &[(&str, &str)],
    ) -> (tempfile::TempDir, StaticEnv) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".aws")).unwrap();
        std::fs::write(folder.path().join(".aws/config"), config).unwrap();
        std::fs::write(folder.path().join(".aws/credentials"), credentials).unwrap();
        let envs = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let surroundings = StaticEnv { home_dir: Some(folder.path().to_owned()), envs };
        (folder, surroundings)
    }

    const CONFIG: &str = "
# a comment
[default]
region = eu-west-1   # a comment behind
[profile work]
region=us-east-2
services = ours
endpoint_url = http://127.0.0.1:1
s3 =
  addressing_style = path
[services ours]
dynamodb =
  endpoint_url = http://127.0.0.1:2
s3 =
  endpoint_url = http://127.0.0.1:3
[profile  plain ]
endpoint_url = http://127.0.0.1:4
";

    fn of(name: &str, is_chosen: bool) -> Result<Profile> {
        let (_folder, surroundings) = home(CONFIG, "[only-keys]\naws_access_key_id = x\n", &[]);
        read(name, is_chosen, &surroundings)
    }

    fn profile(region: &str, endpoint: &str) -> Profile {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Profile { region: text(region), endpoint: text(endpoint) }
    }

    #[test]
    fn region_and_endpoint_are_those_of_the_profile_and_of_its_services() {
        assert_eq!(of("default", false).unwrap(), profile("eu-west-1", ""));
        assert_eq!(of("work", true).unwrap(), profile("us-east-2", "http://127.0.0.1:3"));
        assert_eq!(of("plain", true).unwrap(), profile("", "http://127.0.0.1:4"));
        assert_eq!(of("only-keys", true).unwrap(), Profile::default());
    }

    #[test]
    fn a_profile_that_somebody_chose_must_be_there() {
        let error = of("wrok", true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("wrok"), "{error}");
        let nowhere = StaticEnv::default();
        assert_eq!(read("default", false, &nowhere).unwrap(), Profile::default());
        assert!(read("default", true, &nowhere).is_err());
    }

    #[test]
    fn the_files_may_lie_elsewhere_and_the_profile_may_be_named_by_the_environment() {
        let (folder, _) = home(CONFIG, "", &[]);
        let moved = folder.path().join(".aws/config").display().to_string();
        let envs = [("AWS_CONFIG_FILE".to_owned(), moved), ("AWS_PROFILE".to_owned(), "work".to_owned())].into();
        let surroundings = StaticEnv { home_dir: None, envs };
        let (name, is_chosen) = name_of(None, &surroundings);
        assert_eq!((name.as_str(), is_chosen), ("work", true));
        assert_eq!(read(&name, is_chosen, &surroundings).unwrap().region.as_deref(), Some("us-east-2"));
        assert_eq!(name_of(Some("plain"), &surroundings).0, "plain");
        assert_eq!(name_of(None, &StaticEnv::default()), ("default".to_owned(), false));
    }
}
