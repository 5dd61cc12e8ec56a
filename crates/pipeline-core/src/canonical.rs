//! The walk over a row's text that judges its grammar and writes its canonical form at once.

use crate::content::{ContentError, reason};
use crate::skim::{end_or_escape, holds_controls, number_length};

/// Objects and lists deeper than this are refused: serde's own limit, and no real row comes near it.
const MAX_DEPTH: usize = 128;

/// A walk that gets through exactly those texts that serde takes for an object, but for what
/// [`canonical`](crate::content::canonical) refuses besides.
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    out: &'a mut Vec<u8>,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str, out: &'a mut Vec<u8>) -> Scanner<'a> {
        Scanner {
            bytes: text.as_bytes(),
            at: 0,
            out,
        }
    }

    /// Walks over the whole text. What is told of broken grammar is for nobody: serde says it better.
    pub(crate) fn row(mut self) -> Result<(), ContentError> {
        self.skip_space();
        if self.peek() != Some(b'{') {
            return Err(self.misplaced());
        }
        self.object(0)?;
        self.skip_space();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.misplaced()),
        }
    }

    fn error(&self, what: impl Into<String>) -> ContentError {
        ContentError {
            column: self.at + 1,
            what: what.into(),
        }
    }

    /// What no JSON has at this place.
    fn misplaced(&self) -> ContentError {
        self.error("is no JSON object")
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), ContentError> {
        if self.peek() != Some(byte) {
            return Err(self.misplaced());
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<(), ContentError> {
        self.skip_space();
        match self.peek() {
            Some(b'{' | b'[') if depth == MAX_DEPTH => {
                Err(self.error(format!("is nested deeper than {MAX_DEPTH} levels")))
            }
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.string(),
            _ => self.scalar(),
        }
    }

    fn scalar(&mut self) -> Result<(), ContentError> {
        let rest = &self.bytes[self.at..];
        let words: [&[u8]; 3] = [b"true", b"false", b"null"];
        let word = words.into_iter().find(|word| rest.starts_with(word));
        let Some(length) = word.map(<[u8]>::len).or_else(|| number_length(rest)) else {
            return Err(self.misplaced());
        };
        self.out.extend_from_slice(&rest[..length]);
        self.at += length;
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<(), ContentError> {
        self.out.push(b'[');
        self.at += 1;
        self.skip_space();
        if self.peek() != Some(b']') {
            loop {
                self.value(depth + 1)?;
                self.skip_space();
                if self.peek() != Some(b',') {
                    break;
                }
                self.out.push(b',');
                self.at += 1;
            }
        }
        self.expect(b']')?;
        self.out.push(b']');
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), ContentError> {
        self.out.push(b'{');
        self.at += 1;
        let first = self.out.len();
        // Where each member starts, its key ends, and it ends, in `out`; each is followed by a comma.
        let mut members: Vec<(usize, usize, usize)> = Vec::new();
        let mut sorted = true;
        self.skip_space();
        if self.peek() != Some(b'}') {
            loop {
                self.skip_space();
                let start = self.out.len();
                self.string()?;
                let key = self.out.len();
                self.skip_space();
                self.expect(b':')?;
                self.out.push(b':');
                self.value(depth + 1)?;
                self.out.push(b',');
                if let Some(&(before, before_key, _)) = members.last() {
                    sorted &= self.out[before..before_key] < self.out[start..key];
                }
                members.push((start, key, self.out.len()));
                self.skip_space();
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
            }
        }
        self.expect(b'}')?;
        if !sorted {
            members.sort_by(|a, b| self.out[a.0..a.1].cmp(&self.out[b.0..b.1]));
            for pair in members.windows(2) {
                if self.out[pair[0].0..pair[0].1] == self.out[pair[1].0..pair[1].1] {
                    let key = String::from_utf8_lossy(&self.out[pair[0].0..pair[0].1]);
                    return Err(self.error(format!("has the key {key} twice")));
                }
            }
            // Written once more in their order, behind themselves, and then moved to their place.
            let end = self.out.len();
            for &(start, _, end) in &members {
                self.out.extend_from_within(start..end);
            }
            self.out.copy_within(end.., first);
            self.out.truncate(end);
        }
        if !members.is_empty() {
            self.out.pop(); // the last comma
        }
        self.out.push(b'}');
        Ok(())
    }

    fn string(&mut self) -> Result<(), ContentError> {
        let start = self.at;
        self.expect(b'"')?;
        let rest = &self.bytes[self.at..];
        let Some(length) = end_or_escape(rest) else {
            return Err(self.misplaced());
        };
        if rest[length] == b'\\' {
            return self.escaped_string(start);
        }
        if holds_controls(&rest[..length]) {
            return Err(self.misplaced());
        }
        self.at += length + 1;
        self.out.extend_from_slice(&self.bytes[start..self.at]);
        Ok(())
    }

    /// The rarer string with a backslash in it.
    fn escaped_string(&mut self, start: usize) -> Result<(), ContentError> {
        let mut kept = true;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(length) = memchr::memchr2(b'"', b'\\', rest) else {
                return Err(self.misplaced());
            };
            self.at += length;
            if rest[length] == b'"' {
                break;
            }
            // Those that are written again as they are.
            kept &= matches!(
                rest.get(length + 1),
                Some(b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't')
            );
            self.at += 2;
        }
        self.at += 1;
        let written = &self.bytes[start..self.at];
        if kept && !holds_controls(written) {
            self.out.extend_from_slice(written);
            return Ok(());
        }
        // serde judges, decodes and encodes all others.
        let decoded: String = serde_json::from_slice(written).map_err(|error| {
            self.error(format!(
                "holds a string that is no text: {}",
                reason(&error)
            ))
        })?;
        serde_json::to_writer(&mut *self.out, &decoded)
            .map_err(|error| self.error(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::marker::PhantomData;

    use proptest::prelude::*;
    use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
    use serde_json::value::RawValue;

    use crate::content::canonical;

    /// The members of an object in their order, also those that come twice.
    struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

    impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Each<'a>(PhantomData<&'a ()>);
            impl<'de: 'a, 'a> Visitor<'de> for Each<'a> {
                type Value = Members<'a>;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an object")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                    let mut members = Vec::new();
                    while let Some(member) = map.next_entry()? {
                        members.push(member);
                    }
                    Ok(Members(members))
                }
            }
            deserializer.deserialize_map(Each(PhantomData))
        }
    }

    /// The form as serde alone makes it, or how the refusal begins.
    fn by_serde(text: &str) -> Result<String, &'static str> {
        let value: &RawValue = serde_json::from_str(text).map_err(|_| "is no JSON: ")?;
        if value.get().starts_with('{') {
            by_serde_at(value.get(), 0)
        } else {
            Err("is no JSON object but ")
        }
    }

    fn by_serde_at(value: &str, depth: usize) -> Result<String, &'static str> {
        match value.as_bytes()[0] {
            b'{' | b'[' if depth == 128 => Err("is nested deeper than 128 levels"),
            b'{' => {
                let Members(members) = serde_json::from_str(value).unwrap();
                let mut sorted = Vec::new();
                // In the order of the text, so that of several things that are wrong the same one is found.
                for (key, value) in members {
                    let key = by_serde_at(key.get(), depth + 1)?;
                    sorted.push((key, by_serde_at(value.get(), depth + 1)?));
                }
                sorted.sort();
                if sorted.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                    return Err("has the key ");
                }
                let members = sorted.iter().map(|(key, value)| format!("{key}:{value}"));
                Ok(format!("{{{}}}", members.collect::<Vec<_>>().join(",")))
            }
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(value).unwrap();
                let items = items.iter().map(|item| by_serde_at(item.get(), depth + 1));
                Ok(format!(
                    "[{}]",
                    items.collect::<Result<Vec<_>, _>>()?.join(",")
                ))
            }
            b'"' => match serde_json::from_str::<String>(value) {
                Ok(text) => Ok(serde_json::to_string(&text).unwrap()),
                Err(_) => Err("holds a string that is no text: "),
            },
            _ => Ok(value.to_owned()),
        }
    }

    /// Whether it is a row: the form, or the kind of refusal, is that of serde.
    #[track_caller]
    fn is_judged_as_by_serde(text: &str) -> bool {
        let mut out = b"of the row before".to_vec();
        let judged = canonical(text, &mut out);
        match (by_serde(text), judged) {
            (Ok(form), Ok(())) => assert_eq!(String::from_utf8(out).unwrap(), form, "{text:?}"),
            (Err(begin), Err(error)) => {
                assert!(
                    error.what.starts_with(begin),
                    "{text:?}: {error}, not {begin}"
                );
                return false;
            }
            (expected, judged) => panic!("{text:?}: {expected:?}, not {judged:?}"),
        }
        true
    }

    /// Values, among them such as are none.
    fn hostile_value() -> impl Strategy<Value = String> {
        let numbers = [
            "0",
            "-0",
            "7",
            "-12.50",
            "1e400",
            "1E+2",
            "-0.0e-3",
            "123456789012345678901234567890",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "1e+",
            "0x1",
            "--1",
            "NaN",
            "Infinity",
        ];
        let words = [
            "true",
            "false",
            "null",
            "nul",
            "truex",
            "True",
            "undefined",
            "'a'",
            "a",
            "",
        ];
        let inner = [
            "",
            "a",
            "é人\u{1f600}",
            r"\u0061",
            r"\u00e9",
            r"\u0000",
            r"\u2028",
            r"\uD83D\uDE00",
            r#"\"\\\b\f\n\r\t"#,
            r"\/",
            "\u{7f}",
            "\u{2028}",
            "\u{feff}",
            r"\ud83d",
            r"\ude00\ud83d",
            r"\ud83dx",
            r"\u12",
            r"\x41",
            r"\U0061",
            "\\",
            "\"",
            "\n",
            "\0",
            "\u{1f}",
            "\t",
        ];
        let text = prop::collection::vec(few_of(inner.to_vec(), 13), 0..3)
            .prop_map(|pieces| format!("\"{}\"", pieces.concat()));
        let deep = (100..130_usize, any::<bool>()).prop_map(|(levels, lists)| {
            let (open, close) = if lists { ("[", "]") } else { ("{\"a\":", "}") };
            format!("{}1{}", open.repeat(levels), close.repeat(levels))
        });
        let leaf = prop_oneof![
            8 => few_of(numbers.to_vec(), 8),
            4 => few_of(words.to_vec(), 3),
            8 => text.boxed(),
            1 => deep.boxed(),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let list = (prop::collection::vec(inner.clone(), 0..4), comma())
                .prop_map(|(items, comma)| format!("[{}]", items.join(&comma)));
            prop_oneof![list, hostile_object(inner)]
        })
    }

    /// One of the texts, mostly one of the first, which are the good ones.
    fn few_of(texts: Vec<&'static str>, good: usize) -> BoxedStrategy<String> {
        let bad = texts[good..].to_vec();
        prop_oneof![
            30 => prop::sample::select(texts[..good].to_vec()),
            1 => prop::sample::select(bad),
        ]
        .prop_map(str::to_owned)
        .boxed()
    }

    fn comma() -> BoxedStrategy<String> {
        few_of(
            vec![
                ",",
                " ,\r\n\t",
                "",
                ",,",
                ";",
                "\u{a0},",
                "\u{2028},",
                ",\u{b}",
            ],
            2,
        )
    }

    fn hostile_object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
        let keys = [
            "\"a\":",
            "\"b\" : ",
            "\"c\":",
            "\"é\":",
            r#""":"#,
            r#""\n":"#,
            r#""\u0062":"#,
            r#""\/":"#,
            r#""\ud83d":"#,
            "a:",
            "1:",
            "\"a\"",
            "\"a\"::",
            "\"\u{1}\":",
            ":",
            "",
        ];
        let members = prop::collection::vec((few_of(keys.to_vec(), 8), value), 0..4);
        // What may follow the last member, or come before the first.
        let edge = || few_of(vec!["", " ", ",", "\u{feff}", "}"], 2);
        (members, comma(), edge(), edge()).prop_map(|(members, comma, before, behind)| {
            let members: Vec<_> = members
                .iter()
                .map(|(key, value)| format!("{key}{value}"))
                .collect();
            format!("{{{before}{}{behind}}}", members.join(&comma))
        })
    }

    /// Texts of which many are rows, and those that are none have one thing wrong or a few.
    fn hostile_text() -> impl Strategy<Value = String> {
        let around = || {
            few_of(
                vec![
                    "", " ", "\t\r\n", "\u{feff}", "\u{a0}", "\u{2028}", "\0", "x", "{}", ",",
                ],
                3,
            )
        };
        let whole =
            prop_oneof![9 => hostile_object(hostile_value()).boxed(), 1 => hostile_value().boxed()];
        (around(), whole, around()).prop_map(|(before, whole, behind)| before + &whole + &behind)
    }

    #[test]
    fn as_deep_as_is_allowed_is_a_row_and_one_level_more_is_none() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested =
                |levels| format!("{{\"a\":{}1{}}}", open.repeat(levels), close.repeat(levels));
            assert!(is_judged_as_by_serde(&nested(127)));
            assert!(!is_judged_as_by_serde(&nested(128)));
        }
    }

    #[test]
    fn one_byte_that_is_changed_taken_out_or_put_in_is_judged_as_serde_judges_it() {
        let mut whole = 0;
        for text in [
            r#"{"n": -1.50e+3, "list": [ 0,[],{} , true,false,null, 1E9, -0.0], "t":{"b":"a \"quoted\" \\ é \u00e9人","a":""}}"#,
            " {\"a\" :\t[ ] ,\r\n\"\\u0061b\":[{\"x\":[[1,2],[3]]}] } ",
        ] {
            assert!(is_judged_as_by_serde(text), "{text}");
            let bytes = text.as_bytes();
            for at in 0..bytes.len() {
                let mut tried: Vec<Vec<u8>> = b"\"\\{}[],: 0179-+.eEtfnu\0\n\t\x1f\x7fx"
                    .iter()
                    .flat_map(|byte| {
                        let mut replaced = bytes.to_vec();
                        replaced[at] = *byte;
                        let mut inserted = bytes.to_vec();
                        inserted.insert(at, *byte);
                        [replaced, inserted]
                    })
                    .collect();
                tried.push([&bytes[..at], &bytes[at + 1..]].concat());
                tried.push(bytes[..at].to_vec());
                for bytes in tried {
                    if let Ok(text) = std::str::from_utf8(&bytes) {
                        whole += usize::from(is_judged_as_by_serde(text));
                    }
                }
            }
        }
        // Or this would prove nothing.
        assert!(whole > 1000, "{whole}");
    }

    proptest! {
        #![proptest_config(crate::cases::cases(2000))]

        #[test]
        fn a_hostile_text_is_judged_as_serde_judges_it(text in hostile_text()) {
            is_judged_as_by_serde(&text);
        }

        #[test]
        fn a_text_of_no_sense_is_judged_as_serde_judges_it(text in ".{0,40}", json in "[{}\\[\\]\"\\\\:, a1]{0,24}") {
            is_judged_as_by_serde(&text);
            is_judged_as_by_serde(&json);
        }
    }
}
