use std::fmt;
use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

/// One answer of an endpoint as it came: status, headers, bytes. It is not judged yet.
///
/// `Debug` shows how long the body is and not what it says.
#[derive(Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The response headers.
    pub headers: Headers,
    /// The body, decompressed and otherwise byte for byte as it was sent (a secret that it repeats is blotted out, in
    /// what reports an error a part of one too).
    pub body: Vec<u8>,
    /// From sending to the last byte, without any waiting of ours.
    pub latency: Duration,
    /// When the last byte arrived.
    pub at: SystemTime,
}

impl Answer {
    /// A good answer with this text, for models of your own: status 200, a `chat.completion` body.
    ///
    /// ```
    /// let answer = data_generation_llm_client::Answer::text("four");
    /// assert!(answer.is_paid());
    /// ```
    pub fn text(content: &str) -> Answer {
        let body = json!({
            "object": "chat.completion",
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": content},
                "finish_reason": "stop",
            }],
        });
        Answer::from_body(200, body.to_string())
    }

    /// An answer of any status and body, arrived now, without headers.
    pub fn from_body(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer {
            status,
            headers: Headers::default(),
            body: body.into(),
            latency: Duration::ZERO,
            at: SystemTime::now(),
        }
    }

    /// Whether it was paid for: every 2xx, also one that turns out to be unusable.
    pub fn is_paid(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("body_bytes", &self.body.len())
            .field("latency", &self.latency)
            .finish_non_exhaustive()
    }
}

/// The headers of an answer. `Debug` shows their names only.
#[derive(Clone, Default)]
pub struct Headers(HeaderMap);

impl Headers {
    pub(crate) fn from_map(map: HeaderMap) -> Headers {
        Headers(map)
    }

    /// Headers from names and values; a pair that HTTP does not allow is left out.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Headers {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::from_bytes(name.as_ref().as_bytes());
            let value = HeaderValue::from_str(value.as_ref());
            if let (Ok(name), Ok(value)) = (name, value) {
                map.append(name, value);
            }
        }
        Headers(map)
    }

    /// The first value under this name (in any case), if it is text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.to_str().ok()
    }

    /// All names and those values that are text.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_in_any_case_and_never_shown() {
        let headers = Headers::from_pairs([
            ("Retry-After", "7"),
            ("bad name", "x"),
            ("X-Secret", "sk-1"),
        ]);
        assert_eq!(headers.get("retry-after"), Some("7"));
        assert_eq!(headers.iter().count(), 2);
        assert_eq!(format!("{headers:?}"), r#"["retry-after", "x-secret"]"#);
    }
}
