//! What was measured, beside what it should be.

use crate::output;

/// Lines of figures.
#[derive(Default)]
pub(crate) struct Table {
    lines: Vec<[String; 4]>,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// Nothing: it is there to see.
    None,
}

impl Target {
    fn is_met(self, figure: f64) -> Option<bool> {
        match self {
            Target::AtLeast(least) => Some(figure >= least),
            Target::AtMost(most) => Some(figure <= most),
            Target::None => None,
        }
    }

    fn in_words(self, unit: &str) -> String {
        match self {
            Target::AtLeast(least) => format!("at least {}", shown(least, unit)),
            Target::AtMost(most) => format!("at most {}", shown(most, unit)),
            Target::None => String::new(),
        }
    }
}

impl Table {
    /// A figure with its unit and, in brackets, a word more.
    pub(crate) fn add(&mut self, what: &str, figure: f64, unit: &str, more: &str, target: Target) {
        let kept = match target.is_met(figure) {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        let mut value = shown(figure, unit);
        if !more.is_empty() {
            value.push_str(&format!(" ({more})"));
        }
        self.lines.push([
            what.to_owned(),
            value,
            target.in_words(unit),
            kept.to_owned(),
        ]);
    }

    /// Prints it in Markdown, which is readable as it is.
    pub(crate) fn print(&self) {
        let head = ["", "measured", "target", "met"].map(str::to_owned);
        let width = |column: usize| {
            let lines = std::iter::once(&head).chain(&self.lines);
            lines
                .map(|line| line[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths = [width(0), width(1), width(2), width(3)];
        let print = |line: &[String; 4]| {
            let cells: Vec<String> = line
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!(" {cell:width$} "))
                .collect();
            output::line(&format!("|{}|", cells.join("|")));
        };
        print(&head);
        print(&widths.map(|width| "-".repeat(width)));
        self.lines.iter().for_each(print);
    }
}

/// Three digits that count, thousands apart.
fn shown(figure: f64, unit: &str) -> String {
    let number = match figure.abs() {
        _ if !figure.is_finite() => "-".to_owned(),
        0.0..0.1 => format!("{figure:.4}"),
        0.1..10.0 => format!("{figure:.2}"),
        10.0..1000.0 => format!("{figure:.1}"),
        _ => thousands(figure.round() as i64),
    };
    match unit {
        "" => number,
        "%" => format!("{number} %"),
        unit => format!("{number} {unit}"),
    }
}

pub(crate) fn thousands(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_have_their_unit() {
        let shown = [
            (0.0534, "CPU s"),
            (0.7534, ""),
            (93.26, "%"),
            (4712.4, "rows/s"),
            (1_234_567.0, ""),
            (f64::NAN, "s"),
        ]
        .map(|(figure, unit)| super::shown(figure, unit));
        assert_eq!(
            shown,
            [
                "0.0534 CPU s",
                "0.75",
                "93.3 %",
                "4,712 rows/s",
                "1,234,567",
                "- s"
            ]
        );
    }

    #[test]
    fn a_target_is_met_from_its_own_side() {
        assert_eq!(Target::AtLeast(0.9).is_met(0.9), Some(true));
        assert_eq!(Target::AtLeast(0.9).is_met(0.89), Some(false));
        assert_eq!(Target::AtMost(25.0).is_met(25.1), Some(false));
        assert_eq!(Target::AtMost(25.0).is_met(f64::NAN), Some(false));
        assert_eq!(Target::None.is_met(1.0), None);
    }
}
