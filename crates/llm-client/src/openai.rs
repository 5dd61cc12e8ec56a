use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_openai::Client;
use async_openai::config::Config;
use futures::future::BoxFuture;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::de::IgnoredAny;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value, json};

use crate::secrets::Scrubber;
use crate::transport::{Http, Sending, Transport, is_loopback, sending};
use crate::{Answer, Error, Model, OpenAiOptions, Request, TransportError, TransportKind};

/// Any endpoint that speaks OpenAI's chat completions.
///
/// One [`ask`](Model::ask) is exactly one HTTP request. Nothing is read from the environment but the
/// proxy, and a loopback address never goes through one.
///
/// ```
/// use data_generation_llm_client::{OpenAi, OpenAiOptions, Request};
///
/// let mut options = OpenAiOptions::new("http://127.0.0.1:8080/v1", "smollm2");
/// options.temperature = Some(0.7);
/// options.extra.insert("top_k".into(), 40.into());
/// let model = OpenAi::new(options)?;
/// assert_eq!(model.body(&Request::user("Hi"))["top_k"], 40);
/// # Ok::<(), data_generation_llm_client::Error>(())
/// ```
pub struct OpenAi {
    client: Client<Endpoint>,
    model: String,
    address: Arc<str>,
    /// All fields of the body but the messages.
    fields: Map<String, Value>,
    /// What stands before and behind the messages in the identity of every request.
    identity: (String, String),
    http: Arc<Http>,
    scrubber: Arc<Scrubber>,
}

impl OpenAi {
    /// Checks the options and makes a model of them; nothing is sent.
    ///
    /// # Errors
    /// [`ErrorKind::Options`](crate::ErrorKind::Options) with the field that cannot be used, never with
    /// a secret.
    pub fn new(options: OpenAiOptions) -> Result<OpenAi, Error> {
        let key = options
            .api_key
            .filter(|key| !key.expose_secret().is_empty());
        let base = base_url(&options.base_url, key.as_ref())?;
        let fields = fields(
            &options.model,
            options.temperature,
            options.max_tokens,
            options.extra,
        )?;
        let headers = headers(key.as_ref(), &options.headers)?;
        if base.scheme() == "http"
            && !is_loopback(&base)
            && !headers.is_empty()
            && !options.allow_http
        {
            let message = "would send a secret unencrypted; use https, or set `allow_http: true`";
            return Err(Error::options("base_url", message));
        }
        let secrets = key
            .iter()
            .chain(options.headers.iter().map(|(_, value)| value));
        let scrubber = Arc::new(Scrubber::new(secrets.map(ExposeSecret::expose_secret)));
        let transport = Transport::new(
            &base,
            options.timeouts,
            options.concurrency.max(1),
            options.times_connections,
            Arc::clone(&scrubber),
        )
        .map_err(|error| {
            Error::options(
                "base_url",
                format!("cannot be used: {}", error.without_url()),
            )
        })?;
        let endpoint = Endpoint {
            chat: address(&base, CHAT),
            base,
            key: key.unwrap_or_default(),
            headers,
        };
        let (address, http) = (transport.address(), transport.http());
        // `Client::with_config` would make a second HTTP client, with retries of its own.
        let client = Client::build(http.client().clone(), endpoint).with_http_service(transport);
        Ok(OpenAi {
            client,
            model: options.model,
            identity: around_messages(&fields),
            address,
            http,
            fields,
            scrubber,
        })
    }

    /// Looks at an address alone, before there is a key or anything has been shown: it may hold a secret.
    ///
    /// # Errors
    /// [`ErrorKind::Options`](crate::ErrorKind::Options) with what is wrong, never with a secret.
    pub fn check_base_url(written: &str, api_key: Option<&SecretString>) -> Result<(), Error> {
        base_url(written, api_key).map(drop)
    }

    /// Whether two addresses are the same endpoint, however each is written: scheme and host in capitals or not, the usual
    /// port or none, with a slash at the end or without.
    pub fn is_same_base_url(one: &str, other: &str) -> bool {
        as_everybody_writes_it(one) == as_everybody_writes_it(other)
    }

    /// Judges the fields of a request without making a model: whether a name stands both in `extra` and
    /// beside it.
    ///
    /// # Errors
    /// [`ErrorKind::Options`](crate::ErrorKind::Options) with the field that cannot be used.
    pub fn check_fields(options: &OpenAiOptions) -> Result<(), Error> {
        let extra = options.extra.clone();
        fields(
            &options.model,
            options.temperature,
            options.max_tokens,
            extra,
        )
        .map(drop)
    }

    /// The JSON that is sent for a request.
    pub fn body(&self, request: &Request) -> Value {
        // A map of strings and values always becomes a value.
        serde_json::to_value(Body {
            fields: &self.fields,
            request,
        })
        .unwrap_or_default()
    }
}

impl Model for OpenAi {
    fn provider(&self) -> &str {
        "openai"
    }

    fn model(&self) -> &str {
        &self.model
    }

    fn lateness(&self) -> Duration {
        self.http.slowest()
    }

    fn max_tokens(&self) -> Option<u64> {
        let of = |name: &str| self.fields.get(name).and_then(Value::as_u64);
        of("max_tokens").or_else(|| of("max_completion_tokens"))
    }

    fn identity(&self, request: &Request) -> Vec<u8> {
        #[derive(serde::Serialize)]
        struct Message<'a> {
            content: &'a str,
            role: &'a str,
        }
        let system = request.system.as_deref().map(|content| Message {
            content,
            role: "system",
        });
        let user = Message {
            content: &request.user,
            role: "user",
        };
        let (before, behind) = &self.identity;
        let mut identity =
            Vec::with_capacity(before.len() + behind.len() + user.content.len() + 256);
        identity.extend_from_slice(before.as_bytes());
        match system {
            Some(system) => serde_json::to_writer(&mut identity, &[system, user]),
            None => serde_json::to_writer(&mut identity, &[user]),
        }
        .expect("texts are JSON, and memory takes them");
        identity.extend_from_slice(behind.as_bytes());
        identity
    }

    fn address(&self) -> Option<&str> {
        Some(&self.address)
    }

    fn without_secrets(&self, body: Vec<u8>) -> Vec<u8> {
        self.scrubber.paid_body(body)
    }

    fn ask<'a>(
        &'a self,
        request: &'a Request,
        _attempt: u32,
    ) -> BoxFuture<'a, Result<Answer, TransportError>> {
        Box::pin(async move { self.request(request).await?.await })
    }
}

impl OpenAi {
    /// A request that leaves when it is waited for. What makes it has a box of its own, which is gone by then.
    fn request<'a>(
        &'a self,
        request: &'a Request,
    ) -> BoxFuture<'a, Result<Sending, TransportError>> {
        Box::pin(async move {
            let body = Body {
                fields: &self.fields,
                request,
            };
            match self.client.chat().create_byot::<_, IgnoredAny>(body).await {
                Err(error) => sending(error),
                Ok(IgnoredAny) => Err(TransportError::new(
                    TransportKind::Other,
                    "the request was lost on its way",
                )),
            }
        })
    }
}

impl fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAi")
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

/// The body of a request: the fields as they are, the messages in second place.
struct Body<'a> {
    fields: &'a Map<String, Value>,
    request: &'a Request,
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len() + 1))?;
        for (n, (name, value)) in self.fields.iter().enumerate() {
            if n == 1 {
                map.serialize_entry("messages", &Messages(self.request))?;
            }
            map.serialize_entry(name, value)?;
        }
        if self.fields.len() == 1 {
            map.serialize_entry("messages", &Messages(self.request))?;
        }
        map.end()
    }
}

struct Messages<'a>(&'a Request);

impl Serialize for Messages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Message<'a> {
            role: &'a str,
            content: &'a str,
        }
        let system = self.0.system.as_deref().map(|content| Message {
            role: "system",
            content,
        });
        serializer.collect_seq(system.into_iter().chain([Message {
            role: "user",
            content: &self.0.user,
        }]))
    }
}

/// The body with all keys sorted and without what limits its tokens, cut where the messages stand: only they
/// differ from request to request.
fn around_messages(fields: &Map<String, Value>) -> (String, String) {
    let mut fields = Value::Object(fields.clone());
    fields.sort_all_objects();
    let (mut before, mut behind) = ("{".to_owned(), String::new());
    for (name, value) in fields.as_object().into_iter().flatten() {
        let member = format!("{}:{value}", Value::from(name.as_str()));
        match name.as_str() {
            "max_tokens" | "max_completion_tokens" => {}
            name if name < "messages" => before.push_str(&format!("{member},")),
            _ => behind.push_str(&format!(",{member}")),
        }
    }
    before.push_str("\"messages\":");
    behind.push('}');
    (before, behind)
}

/// Where requests go and what they carry; async-openai's own reads the environment and panics on a bad key.
struct Endpoint {
    base: Url,
    /// The one address that is asked for again and again.
    chat: String,
    key: SecretString,
    headers: HeaderMap,
}

impl Config for Endpoint {
    fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    fn url(&self, path: &str) -> String {
        match path {
            CHAT => self.chat.clone(),
            _ => address(&self.base, path),
        }
    }

    fn query(&self) -> Vec<(&str, &str)> {
        Vec::new()
    }

    fn api_base(&self) -> &str {
        self.base.as_str()
    }

    fn api_key(&self) -> &SecretString {
        &self.key
    }
}

/// What async-openai asks for behind the base.
const CHAT: &str = "/chat/completions";

fn address(base: &Url, path: &str) -> String {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
    url.into()
}

/// An address in the one spelling that all spellings of it have in common; what is no address, as it is.
pub(crate) fn as_everybody_writes_it(written: &str) -> String {
    match Url::parse(written.trim()) {
        Ok(url) => address(&url, ""),
        Err(_) => written.to_owned(),
    }
}

/// Refuses what cannot work or would give a secret away. What is refused is never repeated: it may hold one.
fn base_url(written: &str, key: Option<&SecretString>) -> Result<Url, Error> {
    let refused = |message: String| Err(Error::options("base_url", message));
    let url = match Url::parse(written.trim()) {
        Ok(url) => url,
        Err(error) => {
            return refused(format!(
                "is no URL ({error}); write it like `https://api.openai.com/v1`"
            ));
        }
    };
    let host = match url.host_str() {
        Some(host) if matches!(url.scheme(), "http" | "https") => host,
        _ => return refused("must begin with http:// or https://".into()),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return refused(format!(
            "holds a user name or password before `{host}`; use `api_key_env` or `headers`"
        ));
    }
    // `https://ab/cd@host/v1` is a key with a slash before the host, and yet names the host `ab`.
    if url.path().contains('@') {
        return refused(
            "holds an `@` behind the host; a key before a host goes into `api_key_env` or `headers`, any other \
             `@` is written `%40`"
                .into(),
        );
    }
    let secret = |name: &str| {
        ["key", "token", "secret", "passw", "auth", "sig"]
            .iter()
            .any(|word| name.to_lowercase().contains(word))
    };
    if let Some((name, _)) = url.query_pairs().find(|(name, _)| secret(name)) {
        return refused(format!(
            "holds a secret in its query (`{name}=`); use `api_key_env` or `headers`"
        ));
    }
    if url.fragment().is_some() {
        return refused("holds a `#`, and what follows it is never sent; take it off".into());
    }
    if key
        .is_some_and(|key| key.expose_secret().len() >= 8 && written.contains(key.expose_secret()))
    {
        return refused("holds the API key; take it out".into());
    }
    if url
        .path()
        .trim_end_matches('/')
        .ends_with("/chat/completions")
    {
        return refused("ends in `/chat/completions`, which is added to it; take that off".into());
    }
    Ok(url)
}

fn fields(
    model: &str,
    temperature: Option<f64>,
    max_tokens: Option<u32>,
    extra: Map<String, Value>,
) -> Result<Map<String, Value>, Error> {
    if temperature.is_some_and(|temperature| !temperature.is_finite()) {
        return Err(Error::options("temperature", "is no number"));
    }
    let mut fields = Map::new();
    fields.insert("model".into(), json!(model));
    fields.extend(temperature.map(|temperature| ("temperature".into(), json!(temperature))));
    fields.extend(max_tokens.map(|tokens| ("max_tokens".into(), json!(tokens))));
    let mut faults = Vec::new();
    for (name, value) in extra {
        match name.as_str() {
            "messages" => faults.push("holds `messages`, which are made from the prompts".into()),
            "stream" => faults.push("holds `stream`; answers are always read whole".into()),
            _ if fields.contains_key(&name) => faults.push(format!(
                "holds `{name}`, which is also set beside it; take one of them out"
            )),
            _ => drop(fields.insert(name, value)),
        }
    }
    if !faults.is_empty() {
        return Err(Error::options("extra", faults.join("; ")));
    }
    Ok(fields)
}

fn headers(
    key: Option<&SecretString>,
    further: &[(String, SecretString)],
) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    if let Some(key) = key {
        let key = key.expose_secret();
        if key.trim() != key {
            return Err(Error::options(
                "api_key",
                "begins or ends with white space (a newline at its end?)",
            ));
        }
        let value = secret_value(&format!("Bearer {key}"));
        let message = "holds a character that no HTTP header may hold";
        headers.insert(
            AUTHORIZATION,
            value.ok_or_else(|| Error::options("api_key", message))?,
        );
    }
    for (name, value) in further {
        let refused = |why: &str| {
            Error::options(
                "headers",
                format!("`{}` {why}", crate::failure::one_line(name)),
            )
        };
        let header =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused("is no header name"))?;
        let ours = [
            "host",
            "content-type",
            "content-length",
            "transfer-encoding",
            "accept-encoding",
            "connection",
        ];
        if ours.contains(&header.as_str()) {
            return Err(refused("is set by the client itself"));
        }
        if headers.contains_key(&header) {
            return Err(refused("is set twice"));
        }
        let value = secret_value(value.expose_secret());
        headers.insert(
            header,
            value.ok_or_else(|| refused("has a value that no HTTP header may hold"))?,
        );
    }
    Ok(headers)
}

fn secret_value(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_the_body_with_its_keys_sorted_and_without_its_maximum() {
        let mut options = OpenAiOptions::new("http://127.0.0.1:1/v1", "m\"1\u{2028}");
        (options.temperature, options.max_tokens) = (Some(0.7), Some(9));
        for (name, value) in [
            ("zeta", json!({"z": [{"b": 1, "a": 2}], "a": null})),
            ("messages_", json!("\"messages\":")),
            ("alpha", json!(1e30)),
            ("a\"b", json!({"max_tokens": 5})),
            ("max_completion_tokens", json!(5)),
        ] {
            options.extra.insert(name.into(), value);
        }
        for options in [options, OpenAiOptions::new("http://127.0.0.1:1/v1", "m")] {
            let model = OpenAi::new(options).unwrap();
            for system in [None, Some("be \"brief\"\n人".to_owned())] {
                let request = Request {
                    system,
                    user: "tides\t\u{1}".into(),
                };
                let mut body = model.body(&request);
                let fields = body.as_object_mut().unwrap();
                fields.remove("max_tokens");
                fields.remove("max_completion_tokens");
                body.sort_all_objects();
                let identity = String::from_utf8(model.identity(&request)).unwrap();
                assert_eq!(identity, body.to_string());
            }
        }
    }
}
