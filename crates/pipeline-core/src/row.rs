//! A row and its identity.

use std::fmt;

use serde_json::value::RawValue;

use crate::content::{self, ContentError};

/// Part of every hash: when the rule of identity changes, this does, and old runs are recognised.
const CONTENT_VERSION: &[u8] = b"data-generation row 1\n";

/// The identity of a row: BLAKE3 over a format version, the content and the occurrence.
///
/// Shown as 32 lower-case hex digits. It does not depend on the position of the row, the prompts or the
/// model, and is the same whether the row comes from a file, a list or a stream. Equal rows (the same keys
/// and values, whatever their order and white space; numbers as written) are numbered in the order in which
/// they come, and each number gives another id.
///
/// ```
/// use data_generation_pipeline_core::RowId;
///
/// let id = RowId::from_hex("e1d7f3e28f9bdb147db2853118862046").unwrap();
/// assert_eq!(id.to_string(), "e1d7f3e28f9bdb147db2853118862046");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId(pub(crate) [u8; 16]);

impl RowId {
    /// Reads 32 lower-case hex digits; `None` for anything else.
    pub fn from_hex(text: &str) -> Option<RowId> {
        let digits = text.as_bytes();
        if digits.len() != 32 {
            return None;
        }
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex(pair[0])? << 4 | hex(pair[1])?;
        }
        Some(RowId(id))
    }
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl RowId {
    /// Its hex digits, without the machinery of formatting: each row shows its id several times.
    fn digits(&self) -> [u8; 32] {
        let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            (pair[0], pair[1]) = (digit(byte >> 4), digit(byte & 0xf));
        }
        digits
    }

    /// The first eight bytes, which sort as the whole does: for tables that must stay small.
    pub(crate) fn short(&self) -> u64 {
        u64::from_be_bytes(*self.0.first_chunk().expect("an id has 16 bytes"))
    }
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.digits();
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for RowId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits = self.digits();
        serializer.serialize_str(std::str::from_utf8(&digits).map_err(serde::ser::Error::custom)?)
    }
}

impl<'de> serde::Deserialize<'de> for RowId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<RowId, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        RowId::from_hex(&text).ok_or_else(|| serde::de::Error::custom("an id is 32 hex digits"))
    }
}

/// What a row says, as a hash: equal rows have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Content([u8; 16]);

impl Content {
    /// The content of a row given as JSON text; `scratch` is room that may be used again.
    pub(crate) fn of(text: &str, scratch: &mut Vec<u8>) -> Result<Content, ContentError> {
        content::canonical(text, scratch)?;
        Ok(Content::of_bytes(scratch))
    }

    /// The content of bytes that no JSON is read from: rows that are none, or too large to be held.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Content {
        Content::from_hasher(Content::hasher().update(bytes))
    }

    /// For bytes that come piece by piece.
    pub(crate) fn hasher() -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new();
        hasher.update(CONTENT_VERSION);
        hasher
    }

    pub(crate) fn from_hasher(hasher: &blake3::Hasher) -> Content {
        Content(first_half(hasher.finalize()))
    }

    /// The id of the n-th (from 0) of the rows that say this.
    ///
    /// The first has the hash of the content itself, which spares nearly every row a second hash.
    pub(crate) fn id(&self, occurrence: u64) -> RowId {
        if occurrence == 0 {
            return RowId(self.0);
        }
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(CONTENT_VERSION)
            .update(&self.0)
            .update(&occurrence.to_le_bytes());
        RowId(first_half(hasher.finalize()))
    }
}

fn first_half(hash: blake3::Hash) -> [u8; 16] {
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

/// 32 hex digits of BLAKE3 over a text, as manifests hold them.
pub fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()
}

/// One row of the input: a JSON object, as it was given, with its identity. A run makes it and shows it to
/// every [`Step`](crate::Step).
#[derive(Debug, Clone)]
pub struct Row {
    pub(crate) id: RowId,
    pub(crate) index: u64,
    pub(crate) json: Box<RawValue>,
}

impl Row {
    /// What tells this row from every other, whatever its position.
    pub fn id(&self) -> RowId {
        self.id
    }

    /// 0-based position in the input of this command: for sorting, never for identity.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The row as JSON text, with every field and every number as it was written.
    pub fn json(&self) -> &str {
        self.json.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(text: &str) -> Content {
        Content::of(text, &mut Vec::new()).unwrap()
    }

    #[test]
    fn equal_rows_differ_only_by_their_occurrence() {
        let (a, b) = (content(r#"{"x":1,"y":2}"#), content(r#"{ "y":2, "x":1 }"#));
        assert_eq!(a, b);
        assert_eq!(a.id(0), b.id(0));
        assert_ne!(a.id(0), a.id(1));
        assert_ne!(a.id(0), content(r#"{"x":1,"y":2.0}"#).id(0));
    }

    #[test]
    fn ids_stay_the_same_from_version_to_version() {
        // Whoever changes this loses every unfinished run of every user.
        insta::assert_snapshot!(content(r#"{"topic":"人工智能","n":1.50}"#).id(0), @"e1d7f3e28f9bdb147db2853118862046");
        insta::assert_snapshot!(content(r#"{"topic":"人工智能","n":1.50}"#).id(1), @"259bb84d3b59cef76de84c7c8b168d47");
    }

    #[test]
    fn an_id_reads_back_from_its_hex_digits() {
        let id = content("{}").id(3);
        assert_eq!(RowId::from_hex(&id.to_string()), Some(id));
        for wrong in [
            "",
            "0",
            "zz",
            &"g".repeat(32),
            &"A".repeat(32),
            &"é".repeat(16),
        ] {
            assert_eq!(RowId::from_hex(wrong), None, "{wrong}");
        }
    }
}
