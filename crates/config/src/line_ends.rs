//! The line ends of YAML 1.2, for a reader of YAML 1.1.
//!
//! The reader ends a line at U+0085, U+2028 and U+2029 too, and drops the blanks around them in a
//! string. JSON, YAML 1.2 and editors have them as characters like any other. So the reader gets
//! stand-ins for them: characters of private use that the text does not hold.

use std::borrow::Cow;
use std::collections::HashSet;

/// What YAML 1.1 takes for the end of a line and nobody else does.
const ODD: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

/// The characters that stand in, in the order of [`ODD`]; `None` where the text holds none of those.
#[derive(Default)]
pub(crate) struct StandIns(Option<[char; 3]>);

impl StandIns {
    pub(crate) fn new(text: &str) -> Self {
        if !text.contains(ODD) {
            return Self(None);
        }
        let private = |c: &char| matches!(c, '\u{E000}'..='\u{F8FF}' | '\u{100000}'..='\u{10FFFD}');
        let taken: HashSet<char> = text.chars().filter(private).collect();
        let mut free = ('\u{E000}'..='\u{10FFFD}').filter(|c| private(c) && !taken.contains(c));
        // A text that leaves none free is read as YAML 1.1.
        let found = [free.next(), free.next(), free.next()];
        Self(match found {
            [Some(nel), Some(line), Some(paragraph)] => Some([nel, line, paragraph]),
            _ => None,
        })
    }

    /// The text that the reader gets.
    pub(crate) fn put<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match &self.0 {
            Some(stand_ins) => Cow::Owned(swap(text, &ODD, stand_ins)),
            None => Cow::Borrowed(text),
        }
    }

    /// A string of the text from what the reader made of it.
    pub(crate) fn back(&self, read: &str) -> String {
        match &self.0 {
            Some(stand_ins) => swap(read, stand_ins, &ODD),
            None => read.to_owned(),
        }
    }
}

fn swap(text: &str, from: &[char; 3], to: &[char; 3]) -> String {
    let other = |c| from.iter().position(|f| *f == c).map_or(c, |i| to[i]);
    text.chars().map(other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stand_ins_are_characters_that_the_text_does_not_hold() {
        let text = "\u{E000} \u{2028} \u{E002} \u{85}\u{2029}";
        let stand_ins = StandIns::new(text);
        let put = stand_ins.put(text);
        assert_eq!(put, "\u{E000} \u{E003} \u{E002} \u{E001}\u{E004}");
        assert_eq!(stand_ins.back(&put), text);
    }

    #[test]
    fn text_with_usual_line_ends_stays_as_it_is() {
        let text = "a\r\nb\n\u{E000}";
        assert!(matches!(StandIns::new(text).put(text), Cow::Borrowed(_)));
    }
}
