use std::fmt::Write;

use crate::fault::{Fault, Section};
use crate::table::FAULTS;

const INTRODUCTION: &str = "\
<!-- Generated: cargo run -p data-generation-fault-server -- --page > docs/faults.md -->

# What endpoints do, and what happens then

Everything below is played by the fault server, and every line is tried in the tests. To rehearse one of
them yourself:

```
cargo run -p data-generation-fault-server -- --fault retry-after-seconds --rows first --times once
```

It prints the `base_url` to point `model.base_url` at (any model name, no key), and says at Ctrl-C what it
saw.

*Requests* are those of one row that always meets the fault / of one that meets it once, both after other rows
had good answers. *Every row* is the end of a run in which every request meets it from the beginning. Both are
for six attempts a row and the other defaults. *Class* is what stands in `failures.jsonl` or in the
message that stops a run; for an answer that is odd and good it is the mark in `warnings` of its record.
One mark is not of the server's making: `key_redacted`, where the model wrote the whole key.
";

/// The table as a page of Markdown.
pub fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    let mut section = None;
    for fault in FAULTS {
        if section != Some(fault.section) {
            section = Some(fault.section);
            heading(&mut page, fault.section);
        }
        line(&mut page, fault);
    }
    page
}

fn heading(page: &mut String, section: Section) {
    let title = section.title();
    add(page, format_args!("\n## {title}\n\n"));
    page.push_str(
        "| name | the server | what happens | requests | every row | class | message |\n",
    );
    page.push_str("|---|---|---|---|---|---|---|\n");
}

fn line(page: &mut String, fault: &Fault) {
    let name = fault.name;
    let what = cell(fault.what);
    let seen_in = match fault.seen_in {
        "" => String::new(),
        thread => format!(" ({})", cell(thread)),
    };
    let hint = match fault.hint {
        Some(hint) => format!(", not before {hint:?}"),
        None => String::new(),
    };
    let happens = fault.disposition;
    let requests = fault.requests;
    let (counts, every) = (
        format!("{} / {}", requests.always, requests.once),
        requests.every,
    );
    let class = code(fault.class);
    let message = match (fault.message, fault.cure) {
        ("", _) => String::new(),
        (message, "") => format!("\"{}\"", cell(message)),
        (message, cure) => format!("\"{}\", \"{}\"", cell(message), cell(cure)),
    };
    add(
        page,
        format_args!(
            "| `{name}` | {what}{seen_in} | {happens}{hint} | {counts} | {every} | {class} | {message} |\n"
        ),
    );
}

fn code(text: &str) -> String {
    match text {
        "" => String::new(),
        text => format!("`{text}`"),
    }
}

/// A text that neither ends the cell nor begins a tag.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "\\<")
}

fn add(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text)
        .expect("a text can always be written to");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_one_line_of_the_page() {
        let page = page();
        for fault in FAULTS {
            let name = format!("\n| `{}` |", fault.name);
            assert_eq!(page.matches(&name).count(), 1, "{name}");
        }
        let lines = page.lines().filter(|line| line.starts_with("| `"));
        for line in lines {
            let cells = line.replace("\\|", "").matches('|').count();
            assert_eq!(cells, 8, "{line}");
        }
    }
}
