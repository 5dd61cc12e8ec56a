//! Lines that we wrote, recognised as whole without being read: what a long run holds is gone through in seconds.
//!
//! Everything here answers yes only where serde would; where it does not, whoever asks reads the line with serde,
//! which knows more forms and says what is wrong.

/// How many bytes are looked at in one go.
const BLOCK: usize = 256;
/// Values that are nested deeper are left to serde.
const DEEPEST: u32 = 64;

/// A walk over a line.
pub(crate) struct Skim<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Skim<'a> {
    /// Of a line without control characters; we write none.
    pub(crate) fn new(line: &'a str) -> Option<Skim<'a>> {
        let bytes = line.as_bytes();
        (!holds_controls(bytes)).then_some(Skim { bytes, at: 0 })
    }

    /// Steps over exactly this.
    #[inline]
    pub(crate) fn literal(&mut self, text: &str) -> Option<()> {
        let rest = &self.bytes[self.at..];
        rest.starts_with(text.as_bytes()).then(|| {
            self.at += text.len();
        })
    }

    /// Steps over so many bytes of one character each, and gives them.
    pub(crate) fn ascii(&mut self, length: usize) -> Option<&'a str> {
        let text = self.bytes.get(self.at..self.at + length)?;
        self.at += length;
        text.is_ascii()
            .then(|| std::str::from_utf8(text).ok())
            .flatten()
    }

    /// Steps over a whole number, and gives it.
    pub(crate) fn whole_number(&mut self) -> Option<u64> {
        let digits = self.digits();
        let text = std::str::from_utf8(&self.bytes[self.at - digits..self.at]).ok()?;
        (digits == 1 || !text.starts_with('0'))
            .then(|| text.parse().ok())
            .flatten()
    }

    /// Steps over a string, and gives what stands between its quotes as it is written, and whether there are escapes
    /// in it.
    pub(crate) fn string(&mut self) -> Option<(&'a [u8], bool)> {
        if self.next() != Some(b'"') {
            return None;
        }
        let start = self.at;
        let mut has_escapes = false;
        loop {
            self.at += end_or_escape(self.bytes.get(self.at..)?)?;
            if self.bytes[self.at] == b'"' {
                self.at += 1;
                return Some((&self.bytes[start..self.at - 1], has_escapes));
            }
            has_escapes = true;
            let (escape, behind) = (self.bytes.get(self.at + 1)?, self.at + 2);
            self.at = match escape {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => behind,
                b'u' => {
                    let digits = self.bytes.get(behind..behind + 4)?;
                    digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
                    behind + 4
                }
                _ => return None,
            };
        }
    }

    /// Steps over a string that stands for a text: half a surrogate pair does not, and whatever might be one is left
    /// to serde.
    pub(crate) fn text(&mut self) -> Option<()> {
        let (written, has_escapes) = self.string()?;
        let may_be_half = |piece: &[u8]| piece[..2] == *b"\\u" && matches!(piece[2], b'd' | b'D');
        (!has_escapes || !written.windows(3).any(may_be_half)).then_some(())
    }

    /// Steps over a text, or over any other value.
    pub(crate) fn text_or_value(&mut self) -> Option<()> {
        match self.bytes.get(self.at)? {
            b'"' => self.text(),
            _ => self.value(0),
        }
    }

    /// Steps over a time as we write it, in UTC with milliseconds; a day that not every month has is left to jiff.
    pub(crate) fn time(&mut self) -> Option<()> {
        let text = self.ascii(24)?.as_bytes();
        let shaped = text.iter().zip(b"0000-00-00T00:00:00.000Z");
        let is_shaped = |(byte, shape): (&u8, &u8)| match shape {
            b'0' => byte.is_ascii_digit(),
            _ => byte == shape,
        };
        shaped.into_iter().all(is_shaped).then_some(())?;
        let two = |at: usize| (text[at] - b'0') * 10 + text[at + 1] - b'0';
        let in_a_year = (1..=12).contains(&two(5)) && (1..=28).contains(&two(8));
        let in_a_day = two(11) < 24 && two(14) < 60 && two(17) < 60;
        (in_a_year && in_a_day).then_some(())
    }

    /// Whether the object ends here, and the line with it.
    pub(crate) fn ends(mut self) -> bool {
        self.next() == Some(b'}') && self.at == self.bytes.len()
    }

    /// Whether further members follow behind the value of one, none of them with one of these names, and then the
    /// end of the object and of the line.
    pub(crate) fn ends_without(mut self, names: &[&str]) -> bool {
        loop {
            self.spaces();
            match self.next() {
                Some(b'}') => return self.at == self.bytes.len(),
                Some(b',') => {}
                _ => return false,
            }
            self.spaces();
            let Some((name, has_escapes)) = self.string() else {
                return false;
            };
            // A name that is written with escapes may be any.
            if has_escapes || names.iter().any(|taken| taken.as_bytes() == name) {
                return false;
            }
            if self.colon().and_then(|()| self.value(0)).is_none() {
                return false;
            }
        }
    }

    fn next(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn spaces(&mut self) {
        while self.bytes.get(self.at) == Some(&b' ') {
            self.at += 1;
        }
    }

    fn colon(&mut self) -> Option<()> {
        self.spaces();
        self.literal(":")
    }

    fn digits(&mut self) -> usize {
        let rest = &self.bytes[self.at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        digits
    }

    fn value(&mut self, depth: u32) -> Option<()> {
        self.spaces();
        match self.bytes.get(self.at)? {
            b'"' => self.string().map(drop),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            b'{' | b'[' if depth == DEEPEST => None,
            b'{' => self.several(b'}', |skim| {
                skim.string()?;
                skim.colon()?;
                skim.value(depth + 1)
            }),
            b'[' => self.several(b']', |skim| skim.value(depth + 1)),
            _ => self.number(),
        }
    }

    /// What stands in brackets.
    fn several(&mut self, end: u8, mut one: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.at += 1;
        self.spaces();
        if self.bytes.get(self.at) == Some(&end) {
            self.at += 1;
            return Some(());
        }
        loop {
            self.spaces();
            one(self)?;
            self.spaces();
            match self.next()? {
                b',' => {}
                other => return (other == end).then_some(()),
            }
        }
    }

    fn number(&mut self) -> Option<()> {
        self.at += number_length(&self.bytes[self.at..])?;
        Some(())
    }
}

/// How many bytes of these are the number that they begin with, if they begin with one.
pub(crate) fn number_length(bytes: &[u8]) -> Option<usize> {
    // Where the digits end that begin here; there must be some.
    let behind_digits = |from: usize| {
        let digits = bytes[from..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit());
        let count = digits.count();
        (count > 0).then_some(from + count)
    };
    let is = |at: usize, one: u8| bytes.get(at) == Some(&one);
    let first = usize::from(is(0, b'-'));
    let mut end = behind_digits(first)?;
    if is(first, b'0') && end > first + 1 {
        return None;
    }
    if is(end, b'.') {
        end = behind_digits(end + 1)?;
    }
    if is(end, b'e') || is(end, b'E') {
        let sign = usize::from(is(end + 1, b'+') || is(end + 1, b'-'));
        end = behind_digits(end + 1 + sign)?;
    }
    Some(end)
}

/// How far it is to the quote that ends a string, or to a backslash.
pub(crate) fn end_or_escape(bytes: &[u8]) -> Option<usize> {
    // Names are short, and so is what stands between escapes: there the call of a search costs more than the search.
    for at in [0, 8] {
        let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) else {
            break;
        };
        let word = u64::from_le_bytes(*word);
        let found = where_it_is(b'"', word) | where_it_is(b'\\', word);
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
    }
    memchr::memchr2(b'"', b'\\', bytes)
}

/// The lowest bit that is set is in the first byte of the word that is this one; none is where no byte is. What is set
/// above it says nothing.
fn where_it_is(byte: u8, word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let zero_there = word ^ (ONES * u64::from(byte));
    zero_there.wrapping_sub(ONES) & !zero_there & (ONES << 7)
}

/// Whether one of the bytes cannot stand in a string as it is.
pub(crate) fn holds_controls(bytes: &[u8]) -> bool {
    bytes.chunks(BLOCK).any(|block| {
        // The least of all and no way out in the middle, so that the compiler can do many at once.
        block.iter().fold(u8::MAX, |least, byte| least.min(*byte)) < 0x20
    })
}

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;

    use super::*;

    /// Whether `{"id":7` and what follows is taken for a whole line.
    fn is_whole(line: &str) -> bool {
        let begin = |mut skim: Skim<'_>| {
            skim.literal("{\"id\":")?;
            skim.whole_number()?;
            Some(skim.ends_without(&["id"]))
        };
        Skim::new(line).and_then(begin) == Some(true)
    }

    const LINES: [&str; 4] = [
        r#"{"id":7,"input":{"n": -1.50e+3, "list": [ 0,[],{} , true,false,null, 1E9, -0.0]},"text":"a \"quoted\" \\ text of more than thirty-two bytes, \u00e9 and é人\n","e":""}"#,
        r#"{"id":0}"#,
        r#"{"id":12345678901234567,"a":"0123456789012345678901234567890123456789012345678901234567890123"}"#,
        r#"{"id":7 , "a" : [[["x"]]] , "b":{"id":1}}"#,
    ];

    #[test]
    fn lines_that_we_write_are_whole() {
        for line in LINES {
            assert!(is_whole(line), "{line}");
        }
    }

    #[test]
    fn a_line_that_serde_refuses_is_never_whole() {
        let mut whole = 0;
        for line in LINES {
            let bytes = line.as_bytes();
            for at in 0..bytes.len() {
                let mut tried: Vec<Vec<u8>> = b"\"\\{}[],: 0179-+.eEtfnu\0\n\x1fx"
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
                tried.push([&bytes[..at], bytes].concat());
                for bytes in tried {
                    let Ok(text) = std::str::from_utf8(&bytes) else {
                        continue;
                    };
                    if is_whole(text) {
                        whole += 1;
                        let read = serde_json::from_str::<IgnoredAny>(text);
                        assert!(read.is_ok(), "{text}");
                    }
                }
            }
        }
        // Or this would prove nothing.
        assert!(whole > 1000, "{whole}");
    }

    #[test]
    fn the_end_of_a_string_or_an_escape_is_found_wherever_it_stands() {
        for filler in 0..=u8::MAX {
            let bytes = [filler; 40];
            for at in 0..40 {
                for found in *b"\"\\" {
                    for behind in [filler, found ^ 1, found ^ 0x80, b'"', b'\\'] {
                        let mut bytes = bytes;
                        bytes[at] = found;
                        bytes[at + 1..].iter_mut().for_each(|byte| *byte = behind);
                        for from in [0, 1, 7, 39] {
                            let rest = &bytes[from..];
                            let first = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
                            assert_eq!(end_or_escape(rest), first, "{rest:?}");
                        }
                    }
                }
            }
            let is_one = matches!(filler, b'"' | b'\\');
            assert_eq!(end_or_escape(&bytes), is_one.then_some(0));
        }
        assert_eq!(end_or_escape(b""), None);
    }

    #[test]
    fn a_control_character_is_found_wherever_it_stands() {
        for length in [0, 1, 15, 16, 17, 255, 256, 257, 300] {
            for filler in [b' ', b'~', 0x7f, 0x80, 0xff] {
                let bytes = vec![filler; length];
                assert!(!holds_controls(&bytes));
                for at in 0..length {
                    for control in [0, 0x1f] {
                        let mut bytes = bytes.clone();
                        bytes[at] = control;
                        assert!(holds_controls(&bytes));
                    }
                }
            }
        }
    }

    #[test]
    fn what_may_be_a_second_member_of_the_same_name_is_left_to_serde() {
        for line in [
            r#"{"id":7,"id":8}"#,
            r#"{"id":7,"a":1,"id":8}"#,
            r#"{"id":7,"\u0069d":8}"#,
        ] {
            assert!(!is_whole(line), "{line}");
        }
        let deep = format!(r#"{{"id":7,"a":{}{}}}"#, "[".repeat(70), "]".repeat(70));
        assert!(!is_whole(&deep));
    }
}
