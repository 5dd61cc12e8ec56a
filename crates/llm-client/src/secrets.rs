use std::collections::HashSet;
use std::fmt;

use serde_json::value::RawValue;

use crate::body;

/// What is put in the place of a secret.
const BLOT: &str = "[redacted]";

/// A shorter "key" is a placeholder such as `EMPTY` or `ollama`: taking it out would spoil honest answers.
const SHORTEST_SECRET: usize = 8;

/// A part of a secret that is this long, in an error text, is no accident.
const SHORTEST_PIECE: usize = 8;

/// Knows the secrets of a model and takes them out of whatever comes back.
pub(crate) struct Scrubber {
    /// Each secret in every way that it may be written; the longest first.
    spellings: Vec<String>,
    /// Every part of a spelling that is no accident.
    pieces: HashSet<[u8; SHORTEST_PIECE]>,
    secrets: Vec<String>,
}

impl Scrubber {
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Scrubber {
        let secrets: Vec<String> = secrets
            .into_iter()
            .filter(|secret| secret.len() >= SHORTEST_SECRET)
            .map(str::to_owned)
            .collect();
        let mut spellings: Vec<String> =
            secrets.iter().flat_map(|secret| written(secret)).collect();
        spellings.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        spellings.dedup();
        let pieces = spellings
            .iter()
            .flat_map(|spelling| spelling.as_bytes().windows(SHORTEST_PIECE))
            .filter_map(|piece| piece.try_into().ok())
            .collect();
        Scrubber {
            spellings,
            pieces,
            secrets,
        }
    }

    /// Blots whole secrets out of a body. One without any is untouched.
    pub(crate) fn body(&self, body: Vec<u8>) -> Vec<u8> {
        let body = self.spelled_out(body);
        // A string may hold it with escapes that nobody needs, such as `\u002b` for a plus.
        if self.secrets.is_empty() || memchr::memmem::find(&body, b"\\u00").is_none() {
            return body;
        }
        match String::from_utf8(body) {
            Ok(text) => {
                let blot = |said: &str| {
                    let clean = self.spelled_out(said.as_bytes().to_vec());
                    String::from_utf8_lossy(&clean).into_owned()
                };
                in_strings(text, blot).into_bytes()
            }
            Err(error) => error.into_bytes(),
        }
    }

    fn spelled_out(&self, body: Vec<u8>) -> Vec<u8> {
        self.spellings.iter().fold(body, |body, spelling| {
            match find(&body, spelling.as_bytes()) {
                Some(_) => replace(&body, spelling.as_bytes()),
                None => body,
            }
        })
    }

    /// Blots secrets, pieces of them and masked ones out of a body that reports an error and holds no answer.
    pub(crate) fn error_body(&self, body: Vec<u8>) -> Vec<u8> {
        match String::from_utf8(body) {
            Ok(text) => {
                let text = in_strings(text, |said| self.error_text(said));
                self.error_text(&text).into_bytes()
            }
            // It stays what it is, no text: so it is judged by what came.
            Err(error) => self.without_pieces(&self.spelled_out(error.into_bytes())),
        }
    }

    /// Blots secrets out of a body that was paid for. What it answers stays as it came, but for a whole secret; what
    /// reports an error, in the place of an answer or beside it, holds no piece of one either.
    pub(crate) fn paid_body(&self, body: Vec<u8>) -> Vec<u8> {
        let body = self.body(body);
        let errors = body::errors(&body);
        if errors.is_empty() {
            return body;
        }
        let (mut clean, mut kept) = (Vec::with_capacity(body.len()), 0);
        for error in errors {
            clean.extend_from_slice(&body[kept..error.start]);
            clean.extend(self.error_body(body[error.clone()].to_vec()));
            kept = error.end;
        }
        clean.extend_from_slice(&body[kept..]);
        clean
    }

    /// Blots secrets, pieces of them and masked ones (`sk-ab****yz`) out of an error text.
    pub(crate) fn error_text(&self, text: &str) -> String {
        let whole = self.without_pieces(&self.spelled_out(text.as_bytes().to_vec()));
        let whole = String::from_utf8_lossy(&whole);
        let is_word = |c: char| c.is_ascii_alphanumeric() || "-_.*…•●#/+=".contains(c);
        let mut clean = String::with_capacity(whole.len());
        let mut rest = &*whole;
        while !rest.is_empty() {
            let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            clean.push_str(if self.is_masked(&rest[..word]) {
                BLOT
            } else {
                &rest[..word]
            });
            let gap = rest[word..]
                .find(is_word)
                .map_or(rest.len(), |gap| word + gap);
            clean.push_str(&rest[word..gap]);
            rest = &rest[gap..];
        }
        clean
    }

    /// Blots parts of secrets, each with all of the word that it stands in.
    fn without_pieces(&self, text: &[u8]) -> Vec<u8> {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.*/+=".contains(byte);
        let is_piece = |at: usize| {
            let piece = text.get(at..at + SHORTEST_PIECE);
            piece.is_some_and(|piece| self.pieces.contains(piece))
        };
        let mut clean = Vec::with_capacity(text.len());
        let (mut at, mut kept) = (0, 0);
        while at < text.len() {
            if !is_piece(at) {
                at += 1;
                continue;
            }
            let gap = match is_word(&text[at]) {
                true => text[kept..at].iter().rposition(|byte| !is_word(byte)),
                false => at.checked_sub(kept + 1),
            };
            clean.extend_from_slice(&text[kept..gap.map_or(kept, |gap| kept + gap + 1)]);
            clean.extend_from_slice(BLOT.as_bytes());
            let mut end = at;
            while at < end || text.get(at).is_some_and(is_word) || is_piece(at) {
                if is_piece(at) {
                    end = at + SHORTEST_PIECE;
                }
                at += 1;
            }
            kept = at;
        }
        clean.extend_from_slice(&text[kept..]);
        clean
    }

    /// Whether it is a secret of which only the ends are shown.
    fn is_masked(&self, word: &str) -> bool {
        let masks = ["**", "..", "…", "•", "●", "##", "xxx", "XXX"];
        let masked = masks.iter().any(|mask| word.contains(mask));
        // A sentence may end behind it.
        let word = word.trim_end_matches('.');
        let ends_show = |secret: &String| {
            let starts = || word.get(..3).is_some_and(|start| secret.starts_with(start));
            let ends = || {
                word.get(word.len().saturating_sub(3)..)
                    .is_some_and(|end| secret.ends_with(end))
            };
            starts() || ends()
        };
        masked && word.len() >= 3 && self.secrets.iter().any(ends_show)
    }
}

/// The ways to write a secret: as it is, with escaped slashes, in base64 of both alphabets, as hex digits, with
/// percent signs.
fn written(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let percent = |kept: fn(&u8) -> bool| -> String {
        let written = |byte: u8| match kept(&byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        };
        secret.bytes().map(written).collect()
    };
    let mut ways = vec![
        secret.to_owned(),
        secret.replace('/', "\\/"),
        hex.to_uppercase(),
        hex,
        percent(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(byte)),
        percent(|_| false),
    ];
    // Base64 of a longer text has the secret in one of three ways, with a digit or two at its ends that its
    // neighbours have a part in.
    for before in 0..3 {
        let text = [&b"   "[..before], secret.as_bytes()].concat();
        let whole = base64(&text);
        let digits = &whole[[0, 2, 3][before]..text.len() * 8 / 6];
        ways.push(digits.replace('/', "\\/"));
        ways.push(digits.replace('+', "-").replace('/', "_"));
        ways.push(digits.to_owned());
    }
    ways
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrubber").finish_non_exhaustive()
    }
}

/// Shows what the strings of a JSON text say that are written with escapes; one of which something else is made is
/// written anew.
fn in_strings(text: String, make: impl Fn(&str) -> String) -> String {
    if !text.contains('\\') {
        return text;
    }
    let mut made = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(start) = rest.find('"') {
        made.push_str(&rest[..start]);
        rest = &rest[start..];
        let string = &rest[..end_of_string(rest)];
        rest = &rest[string.len()..];
        let said = string.contains('\\').then(|| said(string)).flatten();
        let other = said.and_then(|said| {
            let other = make(&said);
            (other != said).then(|| serde_json::Value::from(other).to_string())
        });
        match other {
            // One without an end stays without it.
            Some(other) if !string.ends_with('"') => made.push_str(&other[..other.len() - 1]),
            other => made.push_str(other.as_deref().unwrap_or(string)),
        }
    }
    made.push_str(rest);
    made
}

/// What a string says, also one that is cut short, be it in the middle of an escape.
fn said(string: &str) -> Option<String> {
    let of = |json: &str| {
        let raw: &RawValue = serde_json::from_str(json).ok()?;
        Some(body::text(raw)?.0)
    };
    let cut = |bytes: usize| string.get(..string.len().checked_sub(bytes)?);
    of(string).or_else(|| (0..6).find_map(|bytes| of(&format!("{}\"", cut(bytes)?))))
}

/// Where the string that begins with the first quote ends.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    let quote = text.bytes().enumerate().skip(1).find(|(_, byte)| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    quote.map_or(text.len(), |(at, _)| at + 1)
}

fn find(text: &[u8], piece: &[u8]) -> Option<usize> {
    let first = *piece.first()?;
    let mut from = 0;
    while let Some(at) = text[from..].iter().position(|byte| *byte == first) {
        if text[from + at..].starts_with(piece) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

fn replace(text: &[u8], piece: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = find(rest, piece) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(BLOT.as_bytes());
        rest = &rest[at + piece.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let bits = group.iter().enumerate().fold(0u32, |bits, (n, byte)| {
            bits | u32::from(*byte) << (16 - 8 * n)
        });
        let digit = |n: usize| {
            if n <= group.len() {
                DIGITS[(bits >> (18 - 6 * n)) as usize & 63]
            } else {
                b'='
            }
        };
        [0, 1, 2, 3].map(|n| char::from(digit(n)))
    };
    bytes.chunks(3).flat_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-proj-AbCdEf/0123456789xyz";

    fn scrubber() -> Scrubber {
        Scrubber::new([KEY, "EMPTY"])
    }

    #[test]
    fn a_secret_is_blotted_out_in_every_spelling() {
        let bare = KEY.to_owned();
        let hex: String = KEY.bytes().map(|byte| format!("{byte:02X}")).collect();
        let escaped = KEY.replace('/', "%2F");
        let mut spellings = vec![
            bare,
            KEY.replace('/', "\\/"),
            hex.to_lowercase(),
            hex,
            escaped,
        ];
        for before in ["", "a", "é", "key="] {
            spellings.push(base64(format!("{before}{KEY}").as_bytes()));
        }
        for spelling in spellings {
            let clean =
                scrubber().body(format!(r#"{{"a":"{spelling}","b":"{spelling}"}}"#).into_bytes());
            let clean = String::from_utf8(clean).unwrap();
            assert_eq!(clean.matches(BLOT).count(), 2, "{clean}");
            assert!(!clean.contains("AbCdEf"), "{clean}");
        }
    }

    #[test]
    fn an_error_text_keeps_no_piece_in_another_spelling_either() {
        let hex: String = KEY.bytes().map(|byte| format!("{byte:02x}")).collect();
        let base64 = base64(format!("user:{KEY}").as_bytes());
        let odd = Scrubber::new(["pass: word~with (signs) 人工智能"]);
        for piece in ["word~with (s", "gns) 人", "%77%6F%72", "ith%20%28signs"] {
            let clean = odd.error_text(&format!("it was {piece}, not"));
            assert_eq!(clean.replace(' ', ""), "itwas[redacted],not", "{piece}");
        }
        for piece in [&hex[6..22], &base64[12..24]] {
            let clean = scrubber().error_text(&format!("it was {piece}, not"));
            assert_eq!(clean, "it was [redacted], not");
        }
    }

    #[test]
    fn a_body_without_a_secret_and_a_placeholder_key_are_left_alone() {
        let body = b"an EMPTY sk-proj- answer \xff".to_vec();
        assert_eq!(scrubber().body(body.clone()), body);
    }

    #[test]
    fn an_error_text_keeps_no_piece_of_a_secret() {
        let text = "Incorrect API key provided: sk-proj-********************9xyz. Or Bearer 0123456789 was wrong, see https://example.com.";
        assert_eq!(
            scrubber().error_text(text),
            "Incorrect API key provided: [redacted] Or Bearer [redacted] was wrong, see https://example.com.",
        );
    }

    /// What an endpoint may say of the key in an error: whole, masked, in parts, with escapes.
    fn gossip() -> Vec<String> {
        let escaped: String = KEY.bytes().map(|b| format!("\\u{b:04X}")).collect();
        vec![
            KEY.to_owned(),
            KEY.replace('-', "\\u002d").replace('/', "\\u002F"),
            escaped,
            format!("{}****{}", &KEY[..12], &KEY[KEY.len() - 12..]),
            "sk-p...9xyz.".to_owned(),
            "sk-•••••9xyz".to_owned(),
            "sk-xxxxxxxxxxxx9xyz".to_owned(),
            format!("{} and {}", &KEY[..14], &KEY[14..]),
            format!("{}\\u002f{}", &KEY[8..14], &KEY[15..]),
        ]
    }

    fn is_clean(text: &str) -> bool {
        let ends = ["sk-p", "9xyz", "AbCdEf", "56789"];
        let decoded = in_strings(text.to_owned(), |said| {
            assert!(!ends.iter().any(|end| said.contains(end)), "{said}");
            said.to_owned()
        });
        !ends.iter().any(|end| decoded.contains(end))
    }

    #[test]
    fn an_error_that_was_paid_for_keeps_no_piece_of_a_secret() {
        for said in gossip() {
            for body in [
                format!(r#"{{"error":{{"message":"Incorrect API key {said}","code":401}}}}"#),
                format!(r#"{{"error":"no: {said}","choices":[]}}"#),
                format!(r#"{{"choices":[{{"error":{{"message":"{said}"}}}}]}}"#),
                format!(r#"[{{"error":{{"message":"{said}"}}}}]"#),
                format!(r#"{{"choices":null,"detail":"{said}"}}"#),
                format!(r#"{{"error":{{"message":"{said}"#),
                format!("<html>{}</html>", said.replace("\\u", "")),
                format!("data: {{\"error\":{{\"message\":\"{said}\"}}}}\n\ndata: [DONE]\n\n"),
            ] {
                let was = body::read(body.as_bytes()).map(|_| ());
                let clean = scrubber().paid_body(body.clone().into_bytes());
                let clean = String::from_utf8(clean).unwrap();
                // What is written with escapes is nothing outside of JSON.
                let is_page = body.starts_with('<') && said.contains("\\u");
                assert!(
                    is_page || clean.contains(BLOT) && is_clean(&clean),
                    "{body}\n{clean}"
                );
                assert_eq!(body::read(clean.as_bytes()).map(|_| ()), was, "{clean}");
            }
        }
    }

    #[test]
    fn an_answer_stays_as_it_came_beside_an_error_that_says_the_key() {
        let text = format!("yours begins with {} \\u4eba \\/", &KEY[..14]);
        let choice =
            format!(r#"[{{"message": {{"content": "{text}"}}, "finish_reason": "stop", "error":"#);
        for said in gossip().into_iter().skip(1) {
            let error = format!(r#"{{"message": "it is {said}", "n": 1.50}}"#);
            for body in [
                format!(r#"{{"error": {error}, "choices": {choice} null}}]}}"#),
                format!(r#"{{"choices": {choice} {error}}}], "error": {error}}}"#),
                format!(
                    "data: {{\"choices\": {choice} null}}]}}\n\ndata: {{\"error\": {error}}}\n\n"
                ),
            ] {
                let clean = scrubber().paid_body(body.clone().into_bytes());
                let clean = String::from_utf8(clean).unwrap();
                assert_eq!(clean.matches(&text).count(), 1, "{clean}");
                assert!(clean.contains("\"n\": 1.50"), "{clean}");
                let rest = clean.replace(&text, "");
                assert!(rest.contains(BLOT) && is_clean(&rest), "{body}\n{clean}");
                let whole = body.replace("it is", "was it").replace(&said, "another");
                assert_eq!(
                    scrubber().paid_body(whole.clone().into_bytes()),
                    whole.into_bytes()
                );
            }
        }
    }

    #[test]
    fn an_answer_without_an_error_keeps_everything_but_a_whole_secret() {
        let masked = "sk-proj-****9xyz";
        for (said, kept) in [
            (KEY.replace('-', "\\u002D"), "[redacted]".to_owned()),
            (KEY[..14].to_owned(), KEY[..14].to_owned()),
            (masked.to_owned(), masked.to_owned()),
            (
                "an \\\"error\\\" \\u002d".to_owned(),
                "an \\\"error\\\" \\u002d".to_owned(),
            ),
        ] {
            let body = |said: &str| {
                format!(r#"{{"choices":[{{"message":{{"content":"{said}"}}}}],"error":null}}"#)
            };
            let clean = scrubber().paid_body(body(&said).into_bytes());
            assert_eq!(String::from_utf8(clean).unwrap(), body(&kept));
        }
    }

    #[test]
    fn base64_is_that_of_everybody() {
        assert_eq!(base64(b"light work."), "bGlnaHQgd29yay4=");
        assert_eq!(base64(b"light work"), "bGlnaHQgd29yaw==");
        assert_eq!(base64(b"light wor"), "bGlnaHQgd29y");
    }
}
