//! What differs from run to run and machine to machine, taken out of what a test looks at.

use fancy_regex::Regex;

const FILTERS: [(&str, &str); 12] = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[TIME]"),
    (r"\b\d{4}-\d\d-\d\d \d\d:\d\d( [+-]\d\d:\d\d)?\b", "[TIME]"),
    // Only told where answers are still under way at that moment; the summary always says it.
    (r"(?m)^stopping: .*\n", ""),
    (r"\b\d{8}-\d{6}(-\d+)?\b", "[STAMP]"),
    (r"\b[0-9a-f]{32}\b", "[ID]"),
    (r"\b\d+\.\d s, \d+\.\d rows a second", "[TIME], [SPEED]"),
    (r"\btime( +)\d+\.\d s\b", "time$1[TIME]"),
    (r#""wall_s":\d+\.\d+"#, r#""wall_s":[TIME]"#),
    (r#""waited_s":\{[^}]*\}"#, r#""waited_s":[WAITED]"#),
    (r"\(os error \d+\)", "(os error [N])"),
    (r"\bprocess \d+\b", "process [PID]"),
    (r"\b127\.0\.0\.1:\d+", "127.0.0.1:[PORT]"),
];

/// The text as it would be anywhere.
pub(crate) fn filtered(text: &str) -> String {
    FILTERS
        .iter()
        .fold(text.to_owned(), |text, (pattern, stand_in)| {
            let pattern = Regex::new(pattern).unwrap();
            pattern.replace_all(&text, *stand_in).into_owned()
        })
}
