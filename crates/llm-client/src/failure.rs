use serde_json::value::RawValue;

use crate::Headers;
use crate::body::{Members, list, number, object, text};

/// Characters of a provider's own words that a message may hold.
const MESSAGE_CHARS: usize = 300;
/// Errors inside errors are read so deep. A hostile one may be nested as deep as it is long, and each level
/// costs another look at all of it.
const DEEPEST: u32 = 8;

/// What an endpoint says went wrong, in whatever shape it says it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// One line, at most 300 characters.
    pub(crate) message: String,
    /// The whole text in lower case, for looking things up.
    words: String,
    /// `code`, `type` and `status`, in lower case.
    codes: Vec<String>,
    /// The request field that was refused.
    pub(crate) param: Option<String>,
    /// An HTTP status inside the object.
    pub(crate) status: Option<u16>,
}

impl Failure {
    /// Reads the body of an error answer: JSON of some shape, a page, or plain text.
    pub(crate) fn from_body(body: &[u8]) -> Failure {
        let body = String::from_utf8_lossy(body);
        let body = body.trim_start_matches('\u{feff}').trim();
        if let Ok(members) = object(body)
            && let Some(failure) = Failure::from_members(&members, true)
        {
            return failure;
        }
        if body.starts_with('<') {
            return Failure {
                message: "an HTML page".into(),
                ..Failure::default()
            };
        }
        Failure::from_text(body)
    }

    fn from_text(text: &str) -> Failure {
        // The start is enough: an error that needs 4,000 characters to say what it is says it first.
        let words: String = text.chars().take(4000).collect::<String>().to_lowercase();
        Failure {
            message: one_line(text),
            words,
            ..Failure::default()
        }
    }

    /// Looks for an error in an object; with `flat` also for one that is the object itself.
    pub(crate) fn from_members(members: &Members<'_>, flat: bool) -> Option<Failure> {
        if let Some(failure) = members.find("error", Failure::from_raw) {
            // Beside `error` some put the status (`{"error": "...", "status": 429}`).
            let status = failure.status.or_else(|| status_in(members));
            return Some(Failure { status, ..failure });
        }
        let known = ["message", "detail", "msg", "error_description", "error_msg"];
        let is_error = known.iter().any(|name| members.has(name));
        (flat && is_error).then(|| Failure::from_object(members, DEEPEST))
    }

    /// An `error` value: an object or a text. `null`, `false` and empty ones are none.
    pub(crate) fn from_raw(raw: &RawValue) -> Option<Failure> {
        Failure::inside(raw, DEEPEST)
    }

    fn inside(raw: &RawValue, depth: u32) -> Option<Failure> {
        if let Some((text, _)) = text(raw) {
            return (!text.trim().is_empty()).then(|| Failure::from_text(&text));
        }
        let depth = depth.checked_sub(1)?;
        let failure = match raw.get().as_bytes().first()? {
            b'{' => Failure::from_object(&object(raw.get()).ok()?, depth),
            b'[' => {
                let inside = |raw| Failure::inside(raw, depth);
                return list(raw)?.into_iter().find_map(inside);
            }
            _ => return None,
        };
        (failure != Failure::default()).then_some(failure)
    }

    fn from_object(members: &Members<'_>, depth: u32) -> Failure {
        let words = |name: &str| members.find(name, |raw| Some(text(raw)?.0));
        let names = [
            "message",
            "msg",
            "detail",
            "error_description",
            "error_msg",
            "error",
        ];
        let said = names
            .iter()
            .find_map(|name| words(name).filter(|text| !text.is_empty()));
        // FastAPI: `detail` is a list of objects with `msg`.
        let nested = || members.find("detail", |raw| Failure::inside(raw, depth));
        let mut failure = match said {
            Some(text) => Failure::from_text(&text),
            None => nested().unwrap_or_default(),
        };
        for name in ["code", "type", "status"] {
            failure
                .codes
                .extend(words(name).map(|code| code.to_lowercase()));
        }
        failure.status = status_in(members).or(failure.status);
        failure.param = words("param")
            .map(|param| one_line(&param))
            .filter(|param| !param.is_empty());
        if failure.message.is_empty() {
            failure.message = one_line(&failure.codes.join(", "));
        }
        failure
    }

    /// Whether `code`, `type` or `status` is one of these.
    pub(crate) fn has_code(&self, codes: &[&str]) -> bool {
        self.codes.iter().any(|code| codes.contains(&code.as_str()))
    }

    /// Whether the text or a code contains one of these lowercase words.
    pub(crate) fn says(&self, words: &[&str]) -> bool {
        words.iter().any(|word| {
            self.words.contains(word) || self.codes.iter().any(|code| code.contains(word))
        })
    }

    /// The text in lower case.
    pub(crate) fn words(&self) -> &str {
        &self.words
    }
}

fn status_in(members: &Members<'_>) -> Option<u16> {
    let status = |name| {
        members
            .find(name, number)
            .and_then(|code| u16::try_from(code).ok())
    };
    ["status", "status_code", "code"]
        .iter()
        .find_map(|name| status(name).filter(|code| (300..600).contains(code)))
}

/// A provider's words made fit for a message: one line, no control characters, at most 300 characters.
pub(crate) fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control() || is_format(c));
    let mut line = String::new();
    let mut chars = 0;
    for word in words.filter(|word| !word.is_empty()) {
        let space = if line.is_empty() { "" } else { " " };
        for c in space.chars().chain(word.chars()) {
            if chars == MESSAGE_CHARS - 1 {
                line.push('…');
                return line;
            }
            line.push(c);
            chars += 1;
        }
    }
    line
}

/// Characters that turn or hide what is printed after them.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// `status 429`, or with the endpoint's own words `status 429: slow down`.
pub(crate) fn with_words(what: &str, failure: &Failure) -> String {
    match failure.message.is_empty() {
        true => what.to_owned(),
        false => format!("{what}: {}", failure.message),
    }
}

/// Where a redirect points, without anything that could be a secret.
pub(crate) fn redirect_target(headers: &Headers) -> Option<String> {
    let location = headers.get("location")?;
    let end = location.find(['?', '#']).unwrap_or(location.len());
    let target = &location[..end];
    (!target.contains('@')).then(|| one_line(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, message: &str, status: Option<u16>, code: &str) {
        let failure = Failure::from_body(body.as_bytes());
        assert_eq!(failure.message, message);
        assert_eq!(failure.status, status);
        assert!(code.is_empty() || failure.has_code(&[code]), "{failure:?}");
    }

    #[test]
    fn an_error_is_read_in_whatever_shape_it_comes() {
        check(
            r#"{"error":{"message":"Slow down","type":"requests","code":"rate"}}"#,
            "Slow down",
            None,
            "rate",
        );
        check(r#"{"error":"plain"}"#, "plain", None, "");
        check(
            r#"[{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED"}}]"#,
            "Quota",
            Some(429),
            "resource_exhausted",
        );
        check(
            r#"{"object":"error","message":"too long","code":400}"#,
            "too long",
            Some(400),
            "",
        );
        check(r#"{"detail":"Not Found"}"#, "Not Found", None, "");
        check(
            r#"{"detail":[{"loc":["body"],"msg":"field required","type":"missing"}]}"#,
            "field required",
            None,
            "missing",
        );
        check(r#"{"error":"busy","status":503}"#, "busy", Some(503), "");
        check("<html><body>nginx</body></html>", "an HTML page", None, "");
        check(
            "upstream connect error\n\n\x1b[31m reset",
            "upstream connect error [31m reset",
            None,
            "",
        );
        check("", "", None, "");
    }

    #[test]
    fn nothing_is_no_error() {
        for body in [
            r#"{"error":null}"#,
            r#"{"error":""}"#,
            r#"{"error":false}"#,
            r#"{"error":{}}"#,
            r#"{"error":[]}"#,
        ] {
            let members = object(body).unwrap();
            assert_eq!(Failure::from_members(&members, true), None, "{body}");
        }
    }

    #[test]
    fn a_message_is_one_short_line() {
        let line = one_line(&"long ".repeat(200));
        assert_eq!(line.chars().count(), MESSAGE_CHARS);
        assert_eq!(one_line("a\u{202e}b\r\nc\u{7}"), "a b c");
    }

    #[test]
    fn a_redirect_is_named_without_its_query() {
        let headers = Headers::from_pairs([("location", "https://x.example/v1?token=secret")]);
        assert_eq!(redirect_target(&headers).unwrap(), "https://x.example/v1");
    }
}
