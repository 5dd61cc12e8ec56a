//! Texts that a plain regular expression is likely to match.

use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

/// The longest text that is made, in bytes: a pattern can ask for millions of characters.
const LONGEST: usize = 64 * 1024;

/// What repetitions are filled with.
#[derive(Clone, Copy)]
enum Fill<'c> {
    /// Inside of groups with this text as far as they can hold it, elsewhere as little as they need.
    Content(&'c str),
    /// Once, even where they need nothing.
    Once,
}

/// Texts to try, the best first. A pattern with look-around or backreferences has none.
///
/// They are guesses (anchors and word boundaries are passed over), so each has to be tried.
pub(crate) fn candidates<'c>(
    pattern: &str,
    content: &'c str,
) -> impl Iterator<Item = String> + use<'c> {
    let hir = regex_syntax::parse(pattern).ok();
    [Fill::Content(content), Fill::Once]
        .into_iter()
        .filter_map(move |fill| {
            let hir = hir.as_ref()?;
            let mut out = String::new();
            // Where no group says what is wanted, all of the match is.
            let wanted = hir.properties().explicit_captures_len() == 0;
            write(hir, fill, wanted, &mut out)?;
            Some(out)
        })
}

/// Appends a text for `hir`; `None` if there is none, or too long a one.
fn write(hir: &Hir, fill: Fill<'_>, wanted: bool, out: &mut String) -> Option<()> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => out.push_str(std::str::from_utf8(&literal.0).ok()?),
        HirKind::Class(class) => out.push(readable(class)?),
        HirKind::Capture(capture) => write(&capture.sub, fill, true, out)?,
        HirKind::Repetition(repetition) => repeat(repetition, fill, wanted, out)?,
        HirKind::Concat(parts) => {
            for part in parts {
                write(part, fill, wanted, out)?;
            }
        }
        HirKind::Alternation(choices) => {
            let start = out.len();
            choices.iter().find_map(|choice| {
                out.truncate(start);
                write(choice, fill, wanted, out)
            })?;
        }
    }
    (out.len() <= LONGEST).then_some(())
}

fn repeat(repetition: &Repetition, fill: Fill<'_>, wanted: bool, out: &mut String) -> Option<()> {
    let (min, max) = (
        repetition.min as usize,
        repetition.max.map(|max| max as usize),
    );
    if let (Fill::Content(content), HirKind::Class(class), true) =
        (fill, repetition.sub.kind(), wanted)
    {
        let held: String = content
            .chars()
            .filter_map(|c| held(class, c))
            .take(max.unwrap_or(LONGEST))
            .collect();
        if !held.trim().is_empty() && held.chars().count() >= min {
            out.push_str(&held);
            return Some(());
        }
    }
    let least = usize::from(wanted || matches!(fill, Fill::Once));
    let count = min.max(least).min(max.unwrap_or(usize::MAX));
    if count == 0 {
        return Some(());
    }
    let mut once = String::new();
    write(&repetition.sub, fill, wanted, &mut once)?;
    let length = once.len().checked_mul(count)?;
    if length > LONGEST {
        return None;
    }
    if length > 0 {
        out.push_str(&once.repeat(count));
    }
    Some(())
}

/// The character, or for white space a space, if the class has it.
fn held(class: &Class, c: char) -> Option<char> {
    if has(class, c) {
        Some(c)
    } else {
        (c.is_whitespace() && has(class, ' ')).then_some(' ')
    }
}

fn has(class: &Class, c: char) -> bool {
    match class {
        Class::Unicode(class) => class
            .iter()
            .any(|range| (range.start()..=range.end()).contains(&c)),
        Class::Bytes(class) => {
            c.is_ascii()
                && class
                    .iter()
                    .any(|range| (range.start()..=range.end()).contains(&(c as u8)))
        }
    }
}

/// A character of the class: a letter or a digit where it has one.
fn readable(class: &Class) -> Option<char> {
    let first = || match class {
        Class::Unicode(class) => class.iter().next().map(|range| range.start()),
        Class::Bytes(class) => class
            .iter()
            .next()
            .map(|range| range.start())
            .filter(u8::is_ascii)
            .map(char::from),
    };
    ('a'..='z')
        .chain('0'..='9')
        .chain('A'..='Z')
        .chain('!'..='~')
        .chain([' '])
        .find(|c| has(class, *c))
        .or_else(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(pattern: &str) -> Option<String> {
        candidates(pattern, "some text").next()
    }

    #[test]
    fn a_text_is_as_short_as_the_pattern_allows_outside_of_groups() {
        assert_eq!(first(r"a+b*\s*(x{2}|y)c?").as_deref(), Some("axx"));
    }

    #[test]
    fn a_group_holds_the_content_cut_to_its_size() {
        assert_eq!(first(r"<(.{0,4})>").as_deref(), Some("<some>"));
        assert_eq!(first(r"<(\w*)>").as_deref(), Some("<sometext>"));
    }

    #[test]
    fn a_huge_repetition_makes_no_huge_text() {
        for pattern in [
            r"(?:a{1000}){1000}",
            r"(?:(?:\b){1000}){1000}",
            r"(?:a{60000}){4000000}",
            r"(?:(?:(?:.{100}){100}){100}){100}",
        ] {
            for text in candidates(pattern, "x") {
                assert!(text.len() <= LONGEST);
            }
        }
    }

    #[test]
    fn a_class_without_characters_has_no_text() {
        assert_eq!(first(r"[a&&b]"), None);
        assert_eq!(first(r"[a&&b]|c").as_deref(), Some("c"));
    }
}
