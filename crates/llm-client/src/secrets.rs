use std::collections::HashSet;
use std::fmt;

use serde_json::value::RawValue;

use crate::body;

/// What is put in the place of a secret.
pub(crate) const BLOT: &str = "[redacted]";

/// A shorter "key" is a placeholder such as `EMPTY` or `ollama`: taking it out would spoil honest texts.
const SHORTEST_SECRET: usize = 8;

/// A key as long as this is one of which some part is a digit or its letters are of both cases.
const LONG: usize = 16;
/// A key as long as this is one that has all of these.
const LONG_ENOUGH: usize = 12;
/// `sk-000000000000000000` is none.
const DIFFERENT: usize = 8;

/// A part of a secret that is this long, in an error text, is no accident.
const SHORTEST_PIECE: usize = 8;

/// Knows the secrets of a model and takes them out of whatever comes back.
pub(crate) struct Scrubber {
    /// Each secret in every way that it may be written; the longest first.
    spellings: Vec<String>,
    /// The same of those that are no words, for an answer may hold a word by itself.
    of_answers: Vec<String>,
    /// Every part of a spelling that is no accident.
    pieces: HashSet<[u8; SHORTEST_PIECE]>,
    secrets: Vec<String>,
}

impl Scrubber {
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Scrubber {
        let given: Vec<&str> = secrets.into_iter().collect();
        // `Bearer sk-...` in a header of the user's own: the endpoint names the key without that word.
        let words = given.iter().flat_map(|secret| secret.split_whitespace());
        let words: Vec<&str> = words.filter(|word| looks_like_a_secret(word)).collect();
        let mut secrets: Vec<String> = given
            .iter()
            .chain(&words)
            .filter(|secret| secret.len() >= SHORTEST_SECRET)
            .map(|secret| (*secret).to_owned())
            .collect();
        secrets.sort_unstable();
        secrets.dedup();
        let spellings = spellings_of(secrets.iter().map(String::as_str));
        let of_answers = spellings_of(words.into_iter());
        let pieces = spellings
            .iter()
            .flat_map(|spelling| spelling.as_bytes().windows(SHORTEST_PIECE))
            .filter_map(|piece| piece.try_into().ok())
            .collect();
        Scrubber {
            spellings,
            of_answers,
            pieces,
            secrets,
        }
    }

    /// Blots whole secrets out of a header.
    pub(crate) fn header(&self, value: &[u8]) -> Option<Vec<u8>> {
        without(&self.spellings, value)
    }

    /// A body without the whole secrets that no answer holds by itself; `None` where there is none.
    pub(crate) fn body(&self, body: &[u8]) -> Option<Vec<u8>> {
        let clean = without(&self.of_answers, body);
        // A string may hold it with escapes that nobody needs, such as `\u002b` for a plus.
        let said = clean.as_deref().unwrap_or(body);
        if self.of_answers.is_empty() || memchr::memmem::find(said, b"\\u00").is_none() {
            return clean;
        }
        let Ok(text) = std::str::from_utf8(said) else {
            return clean;
        };
        let made = in_strings(text.to_owned(), |said| self.answer(said));
        if made == text {
            clean
        } else {
            Some(made.into_bytes())
        }
    }

    /// A text that a model wrote, without the whole secrets that no answer holds by itself.
    pub(crate) fn answer(&self, text: &str) -> String {
        match without(&self.of_answers, text.as_bytes()) {
            Some(clean) => String::from_utf8_lossy(&clean).into_owned(),
            None => text.to_owned(),
        }
    }

    fn spelled_out(&self, text: Vec<u8>) -> Vec<u8> {
        without(&self.spellings, &text).unwrap_or(text)
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

/// Whether it is long and mixed, as keys are and words are not. `lm-studio`, `not-needed`, `sk-no-key-required`
/// and addresses are words.
fn looks_like_a_secret(word: &str) -> bool {
    let has = |is_meant: fn(&u8) -> bool| word.bytes().any(|byte| is_meant(&byte));
    let digits = has(u8::is_ascii_digit);
    let both_cases = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    let mixed = match word.len() {
        LONG.. => digits || both_cases,
        LONG_ENOUGH.. => digits && both_cases,
        _ => false,
    };
    mixed && !word.contains("://") && word.bytes().collect::<HashSet<u8>>().len() >= DIFFERENT
}

/// All ways to write all of them, the longest first.
fn spellings_of<'a>(secrets: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut spellings: Vec<String> = secrets.flat_map(written).collect();
    spellings.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    spellings.dedup();
    spellings
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
pub(crate) fn in_strings(text: String, make: impl Fn(&str) -> String) -> String {
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

/// A text without these; `None` where it holds none of them.
fn without(spellings: &[String], text: &[u8]) -> Option<Vec<u8>> {
    let mut clean: Option<Vec<u8>> = None;
    for spelling in spellings {
        let said = clean.as_deref().unwrap_or(text);
        if find(said, spelling.as_bytes()).is_some() {
            clean = Some(replace(said, spelling.as_bytes()));
        }
    }
    clean
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
            let body = format!(r#"{{"a":"{spelling}","b":"{spelling}"}}"#);
            let clean = String::from_utf8(scrubber().body(body.as_bytes()).unwrap()).unwrap();
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
        let body = b"an EMPTY sk-proj- answer \xff";
        assert_eq!(scrubber().body(body), None);
    }

    #[test]
    fn a_word_that_stands_for_a_key_is_left_in_answers_and_taken_out_of_errors() {
        for word in [
            "lm-studio",
            "ollama",
            "not-needed",
            "EMPTY",
            "sk-no-key-required",
            "token-abc123",
            "sk-00000000000000000000",
            "https://example.com/My/App2",
        ] {
            let scrubber = Scrubber::new([word]);
            let said = format!("install {word} first");
            assert_eq!(scrubber.body(said.as_bytes()), None, "{word}");
            if word.len() >= SHORTEST_SECRET {
                assert!(!scrubber.error_text(&said).contains(word), "{word}");
            }
        }
        for key in [
            "sk-Rk5vQz81bW",
            "0123456789abcdef",
            "QwErTyUiOpAsDfGh",
            "550e8400-e29b-41d4-a716-446655440000",
        ] {
            let said = format!("it is {key}.");
            assert_eq!(Scrubber::new([key]).answer(&said), "it is [redacted].");
        }
        let header = Scrubber::new([format!("Bearer {KEY}").as_str()]);
        assert_eq!(header.answer(&format!("it is {KEY}.")), "it is [redacted].");
    }

    #[test]
    fn an_error_text_keeps_no_piece_of_a_secret() {
        let text = "Incorrect API key provided: sk-proj-********************9xyz. Or Bearer 0123456789 was wrong, see https://example.com.";
        assert_eq!(
            scrubber().error_text(text),
            "Incorrect API key provided: [redacted] Or Bearer [redacted] was wrong, see https://example.com.",
        );
    }

    #[test]
    fn base64_is_that_of_everybody() {
        assert_eq!(base64(b"light work."), "bGlnaHQgd29yay4=");
        assert_eq!(base64(b"light work"), "bGlnaHQgd29yaw==");
        assert_eq!(base64(b"light wor"), "bGlnaHQgd29y");
    }
}
