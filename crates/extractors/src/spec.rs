//! Extractors from a line of text.

use std::sync::Arc;

use crate::{Error, Extract, Tag, json, regex};

const FORMS: &str = "none, tag:NAME[:all|first|last], regex:PATTERN, json";

/// Makes an extractor of its description: `tag:NAME`, `tag:NAME:all`, `tag:NAME:first`, `tag:NAME:last`,
/// `regex:PATTERN` or `json`. `none` is no extractor, `None`.
///
/// A pattern is everything behind `regex:`, as it is, colons and white space included. Elsewhere white
/// space at both ends is dropped. A tag's name may hold a colon if `all`, `first` or `last` is given.
/// An extractor's [`name`](Extract::name) is such a description again.
///
/// ```
/// use data_generation_extractors::{Extract, parse};
///
/// let last = parse("tag:draft:last")?.expect("a tag was named");
/// assert_eq!(last.extract("<draft>a</draft> <draft>b</draft>")?, "b");
/// assert!(parse("none")?.is_none());
/// assert!(parse("xml:draft").is_err());
/// # Ok::<(), data_generation_extractors::Error>(())
/// ```
///
/// # Errors
///
/// [`ErrorKind::Spec`](crate::ErrorKind::Spec) for a text that is no description,
/// [`ErrorKind::Pattern`](crate::ErrorKind::Pattern) for a pattern that does not compile.
pub fn parse(spec: &str) -> Result<Option<Arc<dyn Extract>>, Error> {
    if let Some(pattern) = spec.trim_start().strip_prefix("regex:") {
        return if pattern.is_empty() {
            Err(Error::spec(
                spec,
                r"a pattern is missing, as in `regex:(\d+) points`",
            ))
        } else {
            Ok(Some(Arc::new(regex(pattern)?)))
        };
    }
    let trimmed = spec.trim();
    if let Some(rest) = trimmed.strip_prefix("tag:") {
        return Ok(Some(Arc::new(tag_of(trimmed, rest)?)));
    }
    match trimmed {
        "none" => Ok(None),
        "json" => Ok(Some(Arc::new(json()))),
        _ => Err(Error::spec(
            spec,
            format!("there is no such extractor; there are {FORMS}"),
        )),
    }
}

fn tag_of(spec: &str, rest: &str) -> Result<Tag, Error> {
    let Some((name, which)) = rest.rsplit_once(':') else {
        return Tag::new(rest);
    };
    let tag = Tag::new(name)?;
    match which {
        "all" => Ok(tag.all()),
        "first" => Ok(tag.first()),
        "last" => Ok(tag.last()),
        _ => {
            // A misspelt choice must not become a part of the name and miss every answer.
            let reason = format!(
                "`{which}` is none of all, first, last; a name with a colon needs one of them behind it"
            );
            Err(Error::spec(spec, reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use std::error::Error as _;

    fn name_of(spec: &str) -> String {
        parse(spec).unwrap().unwrap().name().to_owned()
    }

    #[track_caller]
    fn refused(spec: &str) -> String {
        let error = parse(spec).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Spec { .. }), "{error:?}");
        assert_eq!(error.class(), "extractor_error");
        error.to_string()
    }

    #[test]
    fn none_is_no_extractor() {
        assert!(parse("none").unwrap().is_none());
        assert!(parse(" none\n").unwrap().is_none());
    }

    #[test]
    fn a_name_describes_the_same_extractor_again() {
        for spec in [
            "tag:draft",
            "tag:draft:first",
            "tag:ns:draft:all",
            "tag:ns:draft:last",
            "json",
            r"regex:a:(\d+) ",
        ] {
            assert_eq!(name_of(spec), spec);
        }
        assert_eq!(name_of(" tag:draft:all "), "tag:draft");
        assert_eq!(name_of("tag:first"), "tag:first");
        assert_eq!(name_of("tag:first:first"), "tag:first:first");
    }

    #[test]
    fn a_pattern_is_taken_as_it_is() {
        let extractor = parse("regex:  a:b ").unwrap().unwrap();
        assert!(extractor.extract("x  a:b ").is_ok());
        assert!(extractor.extract("a:b").is_err());
    }

    #[test]
    fn what_is_no_description_says_what_is() {
        insta::assert_snapshot!(refused("tga:draft"), @"extractor `tga:draft`: there is no such extractor; there are none, tag:NAME[:all|first|last], regex:PATTERN, json");
        insta::assert_snapshot!(refused(""), @"extractor ``: there is no such extractor; there are none, tag:NAME[:all|first|last], regex:PATTERN, json");
        insta::assert_snapshot!(refused("tag:"), @"extractor `tag:`: a tag needs a name, as in `tag:draft`");
        insta::assert_snapshot!(refused("tag:draft:frist"), @"extractor `tag:draft:frist`: `frist` is none of all, first, last; a name with a colon needs one of them behind it");
        insta::assert_snapshot!(refused("tag::first"), @"extractor `tag:`: a tag needs a name, as in `tag:draft`");
        insta::assert_snapshot!(refused("tag:a b"), @"extractor `tag:a b`: a tag's name cannot hold ' '; write it without brackets, as in `tag:draft`");
        insta::assert_snapshot!(refused("regex:"), @r"extractor `regex:`: a pattern is missing, as in `regex:(\d+) points`");
        for spec in [
            "tag",
            "regex",
            "json:x",
            "JSON",
            "None",
            "tag:draft:",
            "tag:a:",
        ] {
            refused(spec);
        }
    }

    #[test]
    fn a_pattern_that_does_not_compile_says_where_and_why() {
        let error = parse("regex:ab(c").unwrap_err();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Pattern {
                    position: Some(_),
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(error.source().is_some());
    }
}
