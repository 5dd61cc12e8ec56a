use std::collections::HashSet;
use std::fmt;

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
        self.spellings.iter().fold(body, |body, spelling| {
            match find(&body, spelling.as_bytes()) {
                Some(_) => replace(&body, spelling.as_bytes()),
                None => body,
            }
        })
    }

    /// Blots secrets, pieces of them and masked ones (`sk-ab****yz`) out of an error text.
    pub(crate) fn error_text(&self, text: &str) -> String {
        let whole = self.without_pieces(&self.body(text.as_bytes().to_vec()));
        let whole = String::from_utf8_lossy(&whole);
        let is_word = |c: char| c.is_ascii_alphanumeric() || "-_.*…/+=".contains(c);
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
        let masked = ["**", "..", "…"].iter().any(|mask| word.contains(mask));
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

    #[test]
    fn base64_is_that_of_everybody() {
        assert_eq!(base64(b"light work."), "bGlnaHQgd29yay4=");
        assert_eq!(base64(b"light work"), "bGlnaHQgd29yaw==");
        assert_eq!(base64(b"light wor"), "bGlnaHQgd29y");
    }
}
