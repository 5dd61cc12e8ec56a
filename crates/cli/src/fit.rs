//! Lines that fit a terminal: whole parts are left out, the least important first.

use console::{measure_text_width, truncate_str};

/// A part of a line, in one form or several: each with how much it is worth, and shorter than the one before.
pub(crate) struct Part(Vec<(u8, String)>);

/// Worth so much it is never left out.
pub(crate) const STAYS: u8 = u8::MAX;

impl Part {
    pub(crate) fn new(worth: u8, text: String) -> Part {
        Part(vec![(worth, text)])
    }

    /// What stands in its place where there is no room.
    pub(crate) fn or(mut self, worth: u8, text: String) -> Part {
        self.0.push((worth, text));
        self
    }

    fn worth(&self) -> u8 {
        self.0.first().map_or(STAYS, |(worth, _)| *worth)
    }
}

/// The parts in their order, as many of them as fit.
pub(crate) fn joined(mut parts: Vec<Part>, columns: usize) -> String {
    loop {
        let texts = parts.iter().filter_map(|part| part.0.first());
        let texts: Vec<&str> = texts.map(|(_, text)| text.as_str()).collect();
        let line = texts.join(" · ");
        let least = (0..parts.len()).min_by_key(|at| parts[*at].worth());
        match least {
            Some(at) if measure_text_width(&line) > columns && parts[at].worth() < STAYS => {
                parts[at].0.remove(0);
                parts.retain(|part| !part.0.is_empty());
            }
            _ => return line,
        }
    }
}

/// A text between two others, shortened at the end of a word so that all fit.
pub(crate) fn between(before: &str, text: &str, after: &str, columns: usize) -> String {
    let others = measure_text_width(before) + measure_text_width(after);
    let room = columns.saturating_sub(others);
    if measure_text_width(text) <= room {
        return format!("{before}{text}{after}");
    }
    let cut = truncate_str(text, room.saturating_sub(1), "");
    let words = cut.rsplit_once(' ').map_or(&*cut, |(words, _)| words);
    let words = words.trim_end_matches([' ', ',', ';', ':']);
    format!("{before}{words}…{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_parts_are_left_out_the_least_important_first() {
        let line = |columns| {
            let parts = vec![
                Part::new(STAYS, "10/20".into()),
                Part::new(2, "5 in flight of 8".into()).or(3, "5 in flight".into()),
                Part::new(1, "9 rows/s".into()),
                Part::new(STAYS, "7k tokens".into()),
            ];
            joined(parts, columns)
        };
        for (columns, expected) in [
            (80, "10/20 · 5 in flight of 8 · 9 rows/s · 7k tokens"),
            (47, "10/20 · 5 in flight of 8 · 9 rows/s · 7k tokens"),
            (46, "10/20 · 5 in flight of 8 · 7k tokens"),
            (35, "10/20 · 5 in flight · 7k tokens"),
            (30, "10/20 · 7k tokens"),
            (5, "10/20 · 7k tokens"),
        ] {
            assert_eq!(line(columns), expected, "{columns}");
        }
    }

    #[test]
    fn a_long_text_is_cut_behind_a_word_and_what_follows_stays() {
        let line = |columns| {
            between(
                "2 rows wait for ",
                "the endpoint: too busy",
                ", 9 s",
                columns,
            )
        };
        assert_eq!(line(43), "2 rows wait for the endpoint: too busy, 9 s");
        assert_eq!(line(42), "2 rows wait for the endpoint: too…, 9 s");
        assert_eq!(line(36), "2 rows wait for the endpoint…, 9 s");
    }
}
