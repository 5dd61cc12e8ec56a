//! `datagen init`: something that works, to start from.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::args::Init;
use crate::failure::Failure;
use crate::output;

/// Path and text of every file.
const FILES: [(&str, &str); 4] = [
    ("config.yaml", include_str!("../templates/config.yaml")),
    (
        "prompts/system.txt",
        include_str!("../templates/system.txt"),
    ),
    ("prompts/user.txt", include_str!("../templates/user.txt")),
    ("rows.jsonl", include_str!("../templates/rows.jsonl")),
];

pub(crate) fn run(init: &Init) -> Result<ExitCode, Failure> {
    let taken: Vec<String> = FILES
        .iter()
        .map(|(name, _)| init.dir.join(name))
        .filter(|path| path.symlink_metadata().is_ok())
        .map(|path| path.display().to_string())
        .collect();
    if !taken.is_empty() {
        return Err(Failure::usage(format!(
            "there already: {}; nothing was written",
            taken.join(", ")
        ))
        .hint("name another folder: `datagen init FOLDER`"));
    }
    for (name, text) in FILES {
        let path = init.dir.join(name);
        write_new(&path, text)
            .map_err(|error| Failure::io(format!("could not write {}", path.display()), &error))?;
        output::line(&format!("wrote {}", path.display()));
    }
    let enter = if init.dir == Path::new(".") {
        String::new()
    } else {
        format!("cd {} && ", init.dir.display())
    };
    output::line(&format!(
        "\n`{enter}datagen run` makes a dataset from rows.jsonl, offline and without a key.\n\
         config.yaml says how to ask a real model instead."
    ));
    Ok(ExitCode::SUCCESS)
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)?
        .write_all(text.as_bytes())
}
