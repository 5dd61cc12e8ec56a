//! Which key goes to which endpoint.

use data_generation_config::{Origin, Origins, Secrets};
use secrecy::{ExposeSecret, SecretString};

use crate::Error;
use crate::settings::{DEFAULT_KEY_VARIABLE, ModelSettings, Provider};

/// The one endpoint that the default variable is meant for.
const DEFAULT_HOST: &str = "api.openai.com";

/// The key of a model, or `None` where none is to be sent.
///
/// A literal key and a variable that the user named go to the `base_url` beside them. The variable that is
/// only a built-in default goes nowhere but to api.openai.com.
pub(crate) fn key(
    settings: &ModelSettings,
    secrets: &Secrets,
    origins: &Origins,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<SecretString>, Error> {
    if settings.provider == Provider::Offline {
        return Ok(None);
    }
    if let Some(key) = secrets.get("model.api_key") {
        return literal(key, &origin_of(secrets)).map(Some);
    }
    let Some(name) = &settings.api_key_env else {
        return Ok(None);
    };
    let value = variable(name)
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty());
    let named_by_user = !origins.is_default("model.api_key_env");
    if named_by_user || host(&settings.base_url) == DEFAULT_HOST {
        let where_from = origins.of("model.api_key_env");
        let Some(value) = value else {
            return Err(Error::Usage(format!(
                "the environment variable {name} (model.api_key_env, {where_from}) is not set or empty; set it to the key of {}, \
                 or set model.api_key_env to null for an endpoint that wants no key, \
                 or try things out with `--set model.provider=offline`",
                settings.base_url
            )));
        };
        return Ok(Some(value.into()));
    }
    if value.is_some() {
        tracing::info!(
            "{DEFAULT_KEY_VARIABLE} is not sent to {}; to send it, name it in model.api_key_env",
            host(&settings.base_url)
        );
    }
    Ok(None)
}

/// A key goes to the `base_url` beside it. Where a stronger layer names another address, that may be
/// meant, and may be a key given away: it is told.
pub(crate) fn warning(
    settings: &ModelSettings,
    secrets: &Secrets,
    origins: &Origins,
) -> Option<String> {
    let (what, origin) = match secrets.origin("model.api_key") {
        Some(origin) => ("model.api_key".to_owned(), origin.clone()),
        None => (
            settings.api_key_env.clone()?,
            origins.of("model.api_key_env"),
        ),
    };
    let address = origins.of("model.base_url");
    if settings.provider == Provider::Offline
        || origin == Origin::Default
        || strength(&address) <= strength(&origin)
    {
        return None;
    }
    Some(format!(
        "the key {what} ({origin}) goes to {}, which {address} names and not the file or variable that names the key",
        host(&settings.base_url)
    ))
}

fn strength(origin: &Origin) -> u8 {
    match origin {
        Origin::Default => 0,
        Origin::File { .. } | Origin::Text { .. } => 1,
        Origin::Env { .. } => 2,
        Origin::Flag { .. } => 3,
        _ => 4,
    }
}

fn origin_of(secrets: &Secrets) -> String {
    secrets
        .origin("model.api_key")
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn literal(key: &SecretString, origin: &str) -> Result<SecretString, Error> {
    let text = key.expose_secret().trim();
    let wrong = match text {
        "" => "is empty; set it to null for an endpoint that wants no key",
        "your_api_key" | "YOUR_API_KEY" => {
            "is still the placeholder; put your key there, or name an environment variable in model.api_key_env"
        }
        _ => return Ok(text.to_owned().into()),
    };
    Err(Error::Usage(format!("model.api_key ({origin}) {wrong}")))
}

/// The host of an address, lower case; empty where there is none. The client judges the address itself.
fn host(base_url: &str) -> String {
    let rest = base_url
        .split_once("://")
        .map_or(base_url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    host.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use data_generation_config::Layers;

    #[track_caller]
    fn judged(yaml: &str, environment: &[(&str, &str)]) -> Result<Option<String>, String> {
        let loaded = Layers::defaults(&Settings::default())
            .unwrap()
            .free_form("model.extra")
            .secret("model.api_key")
            .secret("model.headers.*")
            .text("config.yaml", yaml)
            .load::<Settings>()
            .unwrap();
        let variable = |name: &str| {
            environment
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| (*v).to_owned())
        };
        key(
            &loaded.value.model,
            &loaded.secrets,
            &loaded.origins,
            variable,
        )
        .map(|key| key.map(|key| key.expose_secret().to_owned()))
        .map_err(|error| error.to_string())
    }

    #[test]
    fn the_default_variable_goes_to_openai_and_nowhere_else() {
        let set = [("OPENAI_API_KEY", "sk-1")];
        assert_eq!(judged("", &set), Ok(Some("sk-1".into())));
        assert_eq!(
            judged("model: {base_url: 'http://127.0.0.1:8000/v1'}", &set),
            Ok(None)
        );
        assert_eq!(
            judged(
                "model: {base_url: 'https://api.openai.com.evil.example/v1'}",
                &set
            ),
            Ok(None)
        );
        assert_eq!(
            judged(
                "model: {base_url: 'https://x@evil.example/api.openai.com'}",
                &set
            ),
            Ok(None)
        );
        assert!(
            judged("", &[])
                .unwrap_err()
                .contains("OPENAI_API_KEY (model.api_key_env, default) is not set or empty")
        );
    }

    #[test]
    fn a_variable_that_the_user_named_goes_to_the_endpoint_beside_it_and_must_be_there() {
        let yaml = "model: {api_key_env: MY_KEY, base_url: 'https://llm.example/v1'}";
        assert_eq!(judged(yaml, &[("MY_KEY", " k \n")]), Ok(Some("k".into())));
        for environment in [&[][..], &[("MY_KEY", "")], &[("OPENAI_API_KEY", "sk")]] {
            assert!(
                judged(yaml, environment)
                    .unwrap_err()
                    .contains("MY_KEY (model.api_key_env, config.yaml:1)")
            );
        }
        let named_default =
            "model: {api_key_env: OPENAI_API_KEY, base_url: 'https://llm.example/v1'}";
        assert_eq!(
            judged(named_default, &[("OPENAI_API_KEY", "sk")]),
            Ok(Some("sk".into()))
        );
    }

    #[test]
    fn a_literal_key_wins_and_must_be_one() {
        assert_eq!(
            judged("model: {api_key: sk-2}", &[]),
            Ok(Some("sk-2".into()))
        );
        assert!(
            judged("model: {api_key: your_api_key}", &[])
                .unwrap_err()
                .contains("is still the placeholder")
        );
        assert!(
            judged("model: {api_key: ''}", &[])
                .unwrap_err()
                .contains("is empty")
        );
    }

    #[test]
    fn a_key_that_goes_to_an_address_of_a_stronger_layer_is_told() {
        let told = |yaml: &str, assignment: &str| {
            let layers = Layers::defaults(&Settings::default())
                .unwrap()
                .secret("model.api_key");
            let layers = layers.text("config.yaml", yaml).set(assignment);
            let loaded = layers.load::<Settings>().unwrap();
            warning(&loaded.value.model, &loaded.secrets, &loaded.origins)
        };
        let elsewhere = "model.base_url=https://other.example/v1";
        for yaml in [
            "model: {api_key_env: OPENAI_API_KEY}",
            "model: {api_key: sk-1}",
        ] {
            let text = told(yaml, elsewhere).unwrap();
            assert!(
                text.contains("goes to other.example, which --set model.base_url names"),
                "{text}"
            );
            assert!(!text.contains("sk-1"));
            assert_eq!(told(yaml, "model.temperature=1"), None);
        }
        assert_eq!(
            told("", elsewhere),
            None,
            "the default variable goes nowhere else anyway"
        );
        assert_eq!(
            told(
                "model: {base_url: 'https://other.example/v1'}",
                "model.api_key_env=MINE"
            ),
            None
        );
    }

    #[test]
    fn no_key_is_sent_where_none_is_wanted() {
        assert_eq!(
            judged("model: {api_key_env: null}", &[("OPENAI_API_KEY", "sk")]),
            Ok(None)
        );
        assert_eq!(
            judged("model: {provider: offline, api_key: your_api_key}", &[]),
            Ok(None)
        );
    }
}
