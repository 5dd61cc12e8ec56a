//! What stands between `<name>` and `</name>`, by a scanner that looks at each byte a fixed number of times.

use serde_json::Value;

use crate::empty::{is_space, trim};
use crate::{Error, ErrorKind, Extract};

/// What stands in tags; [`tag`] makes it and describes it.
#[derive(Debug, Clone)]
pub struct Tag {
    tag: Box<str>,
    which: Which,
    name: String,
}

/// Which of the matches are wanted.
#[derive(Debug, Clone, Copy)]
enum Which {
    All,
    First,
    Last,
}

/// Gets what stands in `<name>...</name>`: all matches as a list, or with [`first`](Tag::first) and
/// [`last`](Tag::last) one string.
///
/// It is the behaviour of `<name\b[^>]*>\s*(.*?)\s*</name>`, without regard to case, across lines: a match
/// goes from an opening tag to the next closing one, so in `<a>x <a>y</a> z</a>` it is `x <a>y`; a closing
/// tag with nothing open is passed over; attributes are allowed and end at the first `>`. White space at
/// both ends is trimmed. Beyond that:
///
/// - Names are compared without regard to case in ASCII only, other letters exactly. A name goes on over
///   `-`, `.` and `:`, so `<draft-notes>` is not `<draft>`, just as `<drafts>` is not. A closing tag may have
///   white space before its `>`.
/// - A tag that is opened and never closed is a miss of the whole, also behind good ones: the answer was
///   probably cut. Only `first` does not look at what comes after its match.
/// - An empty match is a miss, so that no empty value gets into a dataset: with `all` a single one among
///   good ones is enough, with `first` and `last` only the one that is asked for counts. `<name/>` is an
///   empty match.
///
/// A name that cannot be one of a tag (empty, or with white space, control characters, `<`, `>`, `/`) gives
/// an extractor whose [`check`](Extract::check) and [`extract`](Extract::extract) always fail with
/// [`ErrorKind::Spec`]; [`Tag::new`] refuses it at once.
///
/// ```
/// use data_generation_extractors::{Extract, tag};
///
/// let answer = "<Draft>One</Draft> and <draft n=\"2\">\n  Two\n</draft>";
/// assert_eq!(tag("draft").extract(answer)?, serde_json::json!(["One", "Two"]));
/// assert_eq!(tag("draft").first().extract(answer)?, "One");
/// assert!(tag("draft").extract("<draft>One</draft><draft>Tw").unwrap_err().is_miss());
/// # Ok::<(), data_generation_extractors::Error>(())
/// ```
#[must_use]
pub fn tag(name: &str) -> Tag {
    Tag {
        tag: name.into(),
        which: Which::All,
        name: String::new(),
    }
    .choose(Which::All)
}

impl Tag {
    /// As [`tag`], but a name that cannot be one of a tag is refused at once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Spec`] for such a name.
    pub fn new(name: &str) -> Result<Self, Error> {
        let tag = tag(name);
        tag.check()?;
        Ok(tag)
    }

    /// All matches, as a list of strings. This is the default.
    #[must_use]
    pub fn all(self) -> Self {
        self.choose(Which::All)
    }

    /// The first match, as a string.
    #[must_use]
    pub fn first(self) -> Self {
        self.choose(Which::First)
    }

    /// The last match, as a string.
    #[must_use]
    pub fn last(self) -> Self {
        self.choose(Which::Last)
    }

    fn choose(mut self, which: Which) -> Self {
        self.which = which;
        let suffix = match which {
            // A name with a colon says its choice, so that the text can be read again.
            Which::All if self.tag.contains(':') => ":all",
            Which::All => "",
            Which::First => ":first",
            Which::Last => ":last",
        };
        self.name = format!("tag:{}{suffix}", self.tag);
        self
    }

    fn elements<'a>(&'a self, answer: &'a str) -> Elements<'a> {
        Elements {
            tag: &self.tag,
            text: answer,
            at: 0,
        }
    }

    fn unclosed(&self, at: usize) -> Error {
        let tag = self.tag.to_string();
        Error::new(&self.name, ErrorKind::UnclosedTag { tag, at })
    }

    fn all_of(&self, answer: &str) -> Result<Value, Error> {
        let found: Vec<&str> = self
            .elements(answer)
            .collect::<Result<_, _>>()
            .map_err(|at| self.unclosed(at))?;
        if found.is_empty() {
            return Err(self.nothing_in(answer));
        }
        if let Some(empty) = found.iter().position(|text| text.is_empty()) {
            let what = format!("`<{}>` {} of {}", self.tag, empty + 1, found.len());
            return Err(Error::empty(&self.name, what));
        }
        Ok(found.into())
    }

    fn one_of(&self, answer: &str, found: Option<Result<&str, usize>>) -> Result<Value, Error> {
        match found {
            None => Err(self.nothing_in(answer)),
            Some(Err(at)) => Err(self.unclosed(at)),
            Some(Ok("")) => Err(Error::empty(&self.name, format!("`<{}>`", self.tag))),
            Some(Ok(text)) => Ok(text.into()),
        }
    }

    fn nothing_in(&self, answer: &str) -> Error {
        let reason = format!("no `<{}>` in {} bytes", self.tag, answer.len());
        Error::miss(&self.name, reason)
    }
}

impl Extract for Tag {
    fn name(&self) -> &str {
        &self.name
    }

    fn extract(&self, answer: &str) -> Result<Value, Error> {
        self.check()?;
        match self.which {
            Which::All => self.all_of(answer),
            Which::First => self.one_of(answer, self.elements(answer).next()),
            // An unclosed tag is always the last item.
            Which::Last => self.one_of(answer, self.elements(answer).last()),
        }
    }

    fn check(&self) -> Result<(), Error> {
        if self.tag.is_empty() {
            return Err(Error::spec(
                &self.name,
                "a tag needs a name, as in `tag:draft`",
            ));
        }
        let bad = |c: char| is_space(c) || c.is_control() || matches!(c, '<' | '>' | '/');
        match self.tag.chars().find(|c| bad(*c)) {
            Some(c) => {
                let reason = format!(
                    "a tag's name cannot hold {c:?}; write it without brackets, as in `tag:draft`"
                );
                Err(Error::spec(&self.name, reason))
            }
            None => Ok(()),
        }
    }

    fn sample(&self, content: &str) -> Option<String> {
        let wrap = |content: &str| format!("<{0}>{content}</{0}>", self.tag);
        let holds = |text: &String| self.extract(text).is_ok();
        let text = wrap(content);
        let whole = self.elements(&text).next() == Some(Ok(trim(content)));
        // Content that holds the tag itself, such as a prompt that asks for it, would end the match early.
        let text = if whole {
            text
        } else {
            wrap(&content.replace('<', "[").replace('>', "]"))
        };
        Some(text).filter(holds)
    }
}

/// The matches in a text, trimmed; `Err` with its place for one that is never closed, which is the last.
struct Elements<'a> {
    tag: &'a str,
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<&'a str, usize>;

    fn next(&mut self) -> Option<Self::Item> {
        let (open, after_name) = self.opening()?;
        let text = self.text;
        // Whatever follows an unclosed tag is inside it: the scan ends there.
        self.at = text.len();
        let Some(length) = text[after_name..].find('>') else {
            return Some(Err(open));
        };
        let content = after_name + length + 1;
        if text[after_name..content - 1].ends_with('/') {
            self.at = content;
            return Some(Ok(""));
        }
        let Some((end, next)) = self.closing(content) else {
            return Some(Err(open));
        };
        self.at = next;
        Some(Ok(trim(&text[content..end])))
    }
}

impl Elements<'_> {
    /// The next opening tag: where its `<` is, and where its name ends.
    fn opening(&mut self) -> Option<(usize, usize)> {
        loop {
            let open = self.at + self.text[self.at..].find('<')?;
            self.at = open + 1;
            if let Some(end) = self.name_at(open + 1)
                && !self.text[end..].starts_with(goes_on)
            {
                return Some((open, end));
            }
        }
    }

    /// The next closing tag at or behind `from`: where it begins and where it ends.
    fn closing(&self, from: usize) -> Option<(usize, usize)> {
        let mut at = from;
        loop {
            let open = at + self.text[at..].find('<')?;
            at = open + 1;
            if !self.text[at..].starts_with('/') {
                continue;
            }
            let Some(end) = self.name_at(at + 1) else {
                continue;
            };
            let rest = self.text[end..].trim_start_matches(is_space);
            if rest.starts_with('>') {
                return Some((open, self.text.len() - rest.len() + 1));
            }
        }
    }

    /// Where the tag's name ends, if it stands at `at`. The name is whole characters, so this is no place
    /// within one.
    fn name_at(&self, at: usize) -> Option<usize> {
        let end = at + self.tag.len();
        let found = self.text.as_bytes().get(at..end)?;
        found
            .eq_ignore_ascii_case(self.tag.as_bytes())
            .then_some(end)
    }
}

/// Whether a name that has come so far is a longer one.
fn goes_on(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(extractor: Tag, answer: &str, expected: Value) {
        assert_eq!(extractor.extract(answer).unwrap(), expected, "{answer:?}");
    }

    #[track_caller]
    fn message(extractor: Tag, answer: &str) -> String {
        let error = extractor.extract(answer).unwrap_err();
        assert!(error.is_miss(), "{error:?}");
        error.to_string()
    }

    #[test]
    fn all_matches_are_a_list_also_when_there_is_one() {
        check(tag("draft"), "a <draft>x</draft> b", json!(["x"]));
        check(
            tag("draft"),
            "<draft>x</draft><draft>y</draft>",
            json!(["x", "y"]),
        );
    }

    #[test]
    fn first_and_last_are_strings() {
        let answer = "<a>1</a><a>2</a><a>3</a>";
        check(tag("a").first(), answer, json!("1"));
        check(tag("a").last(), answer, json!("3"));
        check(tag("a").last().all(), answer, json!(["1", "2", "3"]));
    }

    #[test]
    fn case_attributes_and_lines_do_not_matter() {
        let answer = "<DRAFT\n lang='zh' n=1 >\n\u{3000}第一行\n\n第二行 \u{a0}</Draft \n>";
        check(tag("draft"), answer, json!(["第一行\n\n第二行"]));
        check(tag("DrAfT"), answer, json!(["第一行\n\n第二行"]));
    }

    #[test]
    fn a_longer_name_is_another_tag() {
        let answer =
            "<drafts>1</drafts><draft-notes>2</draft-notes><draft_x/><draft:x>3</draft:x><draft稿>";
        let error = tag("draft").extract(answer).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Miss { .. }), "{error}");
        check(
            tag("draft"),
            &format!("{answer}<draft>good</draft>"),
            json!(["good"]),
        );
        check(
            tag("draft"),
            "<draft>a</drafts>b</draft-x>c</draft>",
            json!(["a</drafts>b</draft-x>c"]),
        );
    }

    #[test]
    fn a_name_may_be_in_any_script() {
        check(tag("草稿"), "<草稿 类=1>好</草稿>", json!(["好"]));
        check(tag("a-b.c"), "<A-B.C>x</a-b.c>", json!(["x"]));
    }

    #[test]
    fn a_match_ends_at_the_first_closing_tag() {
        check(tag("a"), "<a>x <a>y</a> z</a>", json!(["x <a>y"]));
        check(tag("a"), "</a> </a><a>x</a></a>", json!(["x"]));
    }

    #[test]
    fn an_unclosed_tag_is_never_half_a_value() {
        for cut in ["<a>x", "<a", "<a href=", "<a>x</a", "<a>x</", "<a>x<b></b>"] {
            let error = tag("a").extract(cut).unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::UnclosedTag { at: 0, .. }),
                "{cut}: {error}"
            );
            let behind = format!("<a>1</a>, {cut}");
            for extractor in [tag("a"), tag("a").last()] {
                let error = extractor.extract(&behind).unwrap_err();
                assert!(
                    matches!(error.kind(), ErrorKind::UnclosedTag { at: 10, .. }),
                    "{behind}: {error}"
                );
            }
            check(tag("a").first(), &behind, json!("1"));
        }
    }

    #[test]
    fn an_empty_match_is_never_in_the_dataset() {
        for empty in [
            "<a></a>",
            "<a> \n\u{3000}</a>",
            "<a/>",
            "<a />",
            "<a b='c'/>",
        ] {
            for extractor in [tag("a"), tag("a").first(), tag("a").last()] {
                let error = extractor.extract(empty).unwrap_err();
                assert!(
                    matches!(error.kind(), ErrorKind::Empty { .. }),
                    "{empty}: {error}"
                );
            }
            let among = format!("<a>1</a>{empty}<a>2</a>");
            assert!(tag("a").extract(&among).is_err(), "{among}");
            check(tag("a").first(), &among, json!("1"));
            check(tag("a").last(), &among, json!("2"));
        }
    }

    #[test]
    fn a_miss_says_what_and_where() {
        insta::assert_snapshot!(message(tag("draft"), "no such thing"), @"extractor `tag:draft`: no `<draft>` in 13 bytes");
        insta::assert_snapshot!(message(tag("draft").last(), "x <draft>y"), @"extractor `tag:draft:last`: `<draft>` opened at byte 2 is never closed: the answer was cut, or is not in the form asked for");
        insta::assert_snapshot!(message(tag("a"), "<a>1</a><a></a>"), @"extractor `tag:a`: `<a>` 2 of 2 is empty");
        insta::assert_snapshot!(message(tag("a").first(), "<a></a>"), @"extractor `tag:a:first`: `<a>` is empty");
    }

    #[test]
    fn an_impossible_name_is_refused_and_never_a_panic() {
        for name in ["", " ", "a b", "<draft>", "a>", "/a", "a\n", "\u{0}"] {
            let extractor = tag(name);
            for error in [
                Tag::new(name).unwrap_err(),
                extractor.check().unwrap_err(),
                extractor.extract("<a b>x</a b>").unwrap_err(),
            ] {
                assert!(
                    matches!(error.kind(), ErrorKind::Spec { .. }),
                    "{name:?}: {error}"
                );
                assert!(!error.is_miss(), "asking again would not help");
            }
            assert_eq!(extractor.sample("x"), None);
        }
        insta::assert_snapshot!(Tag::new("<draft>").unwrap_err(), @"extractor `tag:<draft>`: a tag's name cannot hold '<'; write it without brackets, as in `tag:draft`");
    }

    #[test]
    fn a_sample_is_accepted_whatever_the_content() {
        assert_eq!(
            tag("draft").sample(" hi ").as_deref(),
            Some("<draft> hi </draft>")
        );
        for content in [
            "</draft><draft>",
            "put it in <draft></draft>",
            "<draft",
            "<draft/>",
            "a < b",
            "/",
        ] {
            for extractor in [tag("draft"), tag("draft").first(), tag("draft").last()] {
                let text = extractor.sample(content).unwrap();
                assert!(extractor.extract(&text).is_ok(), "{text}");
            }
        }
        assert_eq!(tag("draft").sample(" \n"), None);
    }

    #[test]
    fn a_name_with_a_colon_can_be_read_again() {
        assert_eq!(tag("draft").name(), "tag:draft");
        assert_eq!(tag("draft").first().name(), "tag:draft:first");
        assert_eq!(tag("ns:draft").name(), "tag:ns:draft:all");
    }
}
