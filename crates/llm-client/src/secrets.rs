use std::fmt;

/// What is put in the place of a secret.
const BLOT: &str = "[redacted]";

/// A shorter "key" is a placeholder such as `EMPTY` or `ollama`: taking it out would spoil honest answers.
const SHORTEST_SECRET: usize = 8;

/// A part of a secret that is this long, in an error text, is no accident.
const SHORTEST_PIECE: usize = 8;

/// Knows the secrets of a model and takes them out of whatever comes back.
pub(crate) struct Scrubber {
    /// Each secret as it is, with escaped slashes, and in base64.
    spellings: Vec<String>,
    secrets: Vec<String>,
}

impl Scrubber {
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Scrubber {
        let secrets: Vec<String> = secrets
            .into_iter()
            .filter(|secret| secret.len() >= SHORTEST_SECRET)
            .map(str::to_owned)
            .collect();
        let mut spellings = Vec::new();
        for secret in &secrets {
            let base64 = base64(secret.as_bytes());
            spellings.push(secret.replace('/', "\\/"));
            // Without the last group, which depends on what follows the secret.
            spellings.push(base64[..base64.len() - 4].to_owned());
            spellings.push(secret.clone());
        }
        spellings.sort_by_key(|spelling| std::cmp::Reverse(spelling.len()));
        Scrubber { spellings, secrets }
    }

    /// Blots whole secrets out of a body. One without any is untouched.
    pub(crate) fn body(&self, body: Vec<u8>) -> Vec<u8> {
        self.spellings.iter().fold(body, |body, spelling| {
            match find(&body, spelling.as_bytes()) {
                Some(_) => replace(&body, spelling.as_bytes()),
                None => body,
            }
        })
    }

    /// Blots secrets, pieces of them and masked ones (`sk-ab****yz`) out of an error text.
    pub(crate) fn error_text(&self, text: &str) -> String {
        let whole = self.body(text.as_bytes().to_vec());
        let whole = String::from_utf8_lossy(&whole);
        let is_word = |c: char| c.is_ascii_alphanumeric() || "-_.*…/+=".contains(c);
        let mut clean = String::with_capacity(whole.len());
        let mut rest = &*whole;
        while !rest.is_empty() {
            let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            clean.push_str(if self.is_piece(&rest[..word]) {
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

    fn is_piece(&self, word: &str) -> bool {
        let masked = ["**", "..", "…"].iter().any(|mask| word.contains(mask));
        self.secrets.iter().any(|secret| {
            let starts = || word.get(..3).is_some_and(|start| secret.starts_with(start));
            let ends = || {
                word.get(word.len().saturating_sub(3)..)
                    .is_some_and(|end| secret.ends_with(end))
            };
            let pieces = || {
                word.as_bytes()
                    .windows(SHORTEST_PIECE)
                    .any(|piece| find(secret.as_bytes(), piece).is_some())
            };
            (masked && word.len() >= 3 && (starts() || ends())) || pieces()
        })
    }
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrubber").finish_non_exhaustive()
    }
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
        for spelling in [bare, KEY.replace('/', "\\/"), base64(KEY.as_bytes())] {
            let clean =
                scrubber().body(format!(r#"{{"a":"{spelling}","b":"{spelling}"}}"#).into_bytes());
            let clean = String::from_utf8(clean).unwrap();
            assert_eq!(clean.matches(BLOT).count(), 2, "{clean}");
            assert!(!clean.contains("AbCdEf"), "{clean}");
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

    #[test]
    fn base64_is_that_of_everybody() {
        assert_eq!(base64(b"light work."), "bGlnaHQgd29yay4=");
        assert_eq!(base64(b"light work"), "bGlnaHQgd29yaw==");
        assert_eq!(base64(b"light wor"), "bGlnaHQgd29y");
    }
}
