//! Finds a key, or a part of one, in whatever way it is written.

use std::collections::HashMap;
use std::sync::LazyLock;

/// The key of the tests that are about keys; its `/`, `+` and `~` are written in different ways in different
/// places.
pub(crate) const KEY: &str = "sk-proj-Zq7/Wm2xKd9+vTb4~RhYc6LnPj3";

/// Keys of other tests.
const OTHERS: [&str; 3] = [
    "sk-Rk5vQz81bW",
    "sk-for-openai-alone",
    "a-key-that-is-secret",
];

/// So many bytes of a key are no accident.
const PIECE: usize = 8;

/// A way to write a key, and how long a part of it says eight bytes of the key.
struct Spelling {
    way: &'static str,
    text: String,
    part: usize,
}

/// A part of a key: where it begins in which spelling.
type Part = (Spelling, usize);

/// All keys in all ways, by the first bytes of every part.
static PARTS: LazyLock<HashMap<[u8; PIECE], Vec<Part>>> = LazyLock::new(|| {
    let mut parts: HashMap<_, Vec<_>> = HashMap::new();
    for spelling in [KEY].iter().chain(&OTHERS).flat_map(|key| spellings(key)) {
        let Spelling { way, text, part } = spelling;
        for at in 0..(text.len() + 1).saturating_sub(part) {
            let first = text.as_bytes()[at..at + PIECE].try_into().unwrap();
            let text = text.clone();
            let entry = (Spelling { way, text, part }, at);
            parts.entry(first).or_default().push(entry);
        }
    }
    parts
});

/// What of a key stands in a text, if anything does.
pub(crate) fn found(text: &[u8]) -> Option<String> {
    for (at, first) in text.windows(PIECE).enumerate() {
        let Some(parts) = <[u8; PIECE]>::try_from(first)
            .ok()
            .and_then(|first| PARTS.get(&first))
        else {
            continue;
        };
        for (
            Spelling {
                way,
                text: key,
                part,
            },
            from,
        ) in parts
        {
            let part = &key.as_bytes()[*from..from + part];
            if text[at..].starts_with(part) {
                let around = &text[at.saturating_sub(80)..(at + 120).min(text.len())];
                let (part, around) = (
                    String::from_utf8_lossy(part),
                    String::from_utf8_lossy(around),
                );
                return Some(format!("{part:?} ({way}) is at byte {at}: {around:?}"));
            }
        }
    }
    None
}

/// A key in the ways in which things are written.
fn spellings(key: &str) -> Vec<Spelling> {
    let hex: String = key.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut ways = vec![
        ("plain", key.to_owned(), PIECE),
        ("escaped", key.replace('/', "\\/"), PIECE),
        ("backwards", key.chars().rev().collect(), PIECE),
        ("hex", hex.to_uppercase(), 2 * PIECE),
        ("hex", hex, 2 * PIECE),
        ("percent", percent(key, false), PIECE),
        ("percent throughout", percent(key, true), 3 * PIECE),
    ];
    for before in 0..3 {
        let text = format!("{}{key}", &"   "[..before]);
        let digits = base64(text.as_bytes());
        // The digits at both ends are also of what stands before and after.
        let own = digits[[0, 2, 3][before]..text.len() * 8 / 6].to_owned();
        ways.push(("base64url", own.replace('+', "-").replace('/', "_"), 11));
        ways.push(("base64 escaped", own.replace('/', "\\/"), 11));
        ways.push(("base64", own, 11));
    }
    let spelling = |(way, text, part)| Spelling { way, text, part };
    ways.into_iter().map(spelling).collect()
}

pub(crate) fn percent(text: &str, all: bool) -> String {
    let kept = |byte: u8| !all && (byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    let written = |byte: u8| match kept(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(written).collect()
}

pub(crate) fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = [0, 1, 2].iter().fold(0, |bits, at| {
            bits << 8 | u32::from(group.get(*at).copied().unwrap_or(0))
        });
        for digit in 0..4 {
            text.push(match digit <= group.len() {
                true => char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63]),
                false => '=',
            });
        }
    }
    text
}

#[test]
fn a_key_is_found_however_it_is_written_and_whatever_stands_around_it() {
    let words = |text: &str| format!("an error in {text} at line 3");
    for key in [KEY].iter().chain(&OTHERS) {
        let piece = &key[2..10];
        for planted in [
            (*key).to_owned(),
            piece.to_owned(),
            key.replace('/', "\\/"),
            key.chars().rev().collect(),
            hex(key),
            hex(key).to_uppercase(),
            hex(piece),
            percent(key, false),
            percent(key, true),
            percent(piece, true),
            format!("https://x.example/?key={}&n=1", percent(key, false)),
        ] {
            assert!(found(words(&planted).as_bytes()).is_some(), "{planted}");
        }
        for (before, after) in [
            ("", ""),
            ("u:", ""),
            ("u", ""),
            ("user", "!"),
            ("é", "more of it"),
            ("Bearer ", "\n"),
        ] {
            let digits = base64(format!("{before}{key}{after}").as_bytes());
            let of_addresses = digits.replace('+', "-").replace('/', "_");
            let escaped = digits.replace('/', "\\/");
            for planted in [digits, of_addresses, escaped] {
                let planted = planted.trim_end_matches('=');
                assert!(found(words(planted).as_bytes()).is_some(), "{planted}");
            }
        }
    }
    let mut bytes = vec![0xff; 5000];
    bytes.splice(4000..4000, KEY.bytes());
    assert!(found(&bytes).is_some());
}

#[test]
fn what_is_no_key_is_left_alone() {
    for text in [
        "",
        "short",
        "sk-proj",
        &KEY[..7],
        "Your key is [redacted], in base64 [redacted].",
        "model.api_key (config.yaml:3) is still the placeholder; put your key there",
        "e1d7f3e28f9bdb147db2853118862046 259bb84d3b59cef76de84c7c8b168d47",
    ] {
        assert_eq!(found(text.as_bytes()), None);
    }
}

#[test]
fn base64_is_that_of_everybody() {
    assert_eq!(base64(b"light work."), "bGlnaHQgd29yay4=");
    assert_eq!(base64(b"light work"), "bGlnaHQgd29yaw==");
    assert_eq!(base64(b"light wor"), "bGlnaHQgd29y");
}
