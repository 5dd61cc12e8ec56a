//! The command that goes on with a run, as it is typed.

use std::path::{Path, PathBuf};

use data_generation::Source;
use data_generation::pipeline::{Command, Manifest};
use serde_json::{Value, json};

use crate::output::quoted;

/// What to say of a run that no command line made.
const PROGRAM: &str = "the program that made it, once more";

/// The command that worked through the input of a run, so that it goes on there and asks nothing that is paid for.
pub(crate) struct GoOn {
    /// Its words; `None` where it was no command line.
    words: Option<Vec<String>>,
    /// Whether it is what was typed.
    same: bool,
    /// Whether a secret is left out of it.
    secret: bool,
    /// What `datagen ctl` had set when the last command ended, as it is typed.
    set: Option<String>,
}

impl GoOn {
    /// With the run in a folder.
    pub(crate) fn with(manifest: &Manifest, dir: &Path) -> GoOn {
        let typed = manifest
            .last_through_an_input()
            .and_then(|command| arguments(&command.what));
        let Some(typed) = typed else {
            return GoOn {
                words: None,
                same: true,
                secret: false,
                set: None,
            };
        };
        let (typed, secret) = without_secrets(typed);
        let words = going_on(manifest, dir, &typed);
        GoOn {
            same: words == typed,
            words: Some(words),
            secret,
            set: manifest.commands.last().and_then(set),
        }
    }

    /// What is to be known of settings that were changed while the last command worked: they ended with it.
    pub(crate) fn of_what_was_set(&self) -> Option<String> {
        let set = self.set.as_ref()?;
        Some(format!(
            "what `datagen ctl` set ended with its command; with `{set}` the next one keeps it"
        ))
    }

    /// Whether the same command goes on.
    pub(crate) fn is_the_same(&self) -> bool {
        self.same
    }

    /// What it does, with what is to be given besides.
    pub(crate) fn told(&self, what: &str) -> String {
        match self.secret {
            true => format!("{what}, and give the secret again that is left out here"),
            false => what.to_owned(),
        }
    }

    pub(crate) fn command(&self) -> String {
        match &self.words {
            Some(words) => line(words),
            None => PROGRAM.to_owned(),
        }
    }

    /// The one that mends what is damaged first.
    pub(crate) fn repairing(&self) -> String {
        match &self.words {
            Some(words) => format!("{} --repair", line(words)),
            None => format!("{PROGRAM} and with `repair`"),
        }
    }

    /// The one that takes the whole input, where this one takes the first rows alone.
    pub(crate) fn without_limit(&self) -> Option<String> {
        let words = self.words.as_ref()?;
        let all = without_option(words, "--limit");
        (all != *words).then(|| line(&all))
    }
}

/// What was changed while a command worked, as it is typed.
pub(crate) fn set(command: &Command) -> Option<String> {
    let words = command.steered.iter();
    let words: Vec<String> = words
        .map(|(key, value)| {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            format!("--set {}", quoted(&format!("{key}={value}")))
        })
        .collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn line(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    words.join(" ")
}

fn going_on(manifest: &Manifest, dir: &Path, typed: &[String]) -> Vec<String> {
    let stamped = manifest.settings.get("output_data.need_time_stamp");
    let stamped = stamped.is_none_or(|setting| setting.value != json!(false));
    let chose = typed
        .iter()
        .any(|word| word.starts_with("--resume") || word.starts_with("--fork"));
    let mut words = without_choice(typed);
    // What was damaged is mended by the time that a command is written down.
    words.retain(|word| word != "--repair");
    if let Some(extract) = extracted_since(manifest) {
        words = without_option(&words, "--extract");
        words.extend(["--extract".to_owned(), extract.to_owned()]);
    }
    if let Some(copy) = copied_rows(manifest, dir) {
        words = without_option(&words, "--data");
        words.extend(["--data".to_owned(), copy.display().to_string()]);
    }
    if stamped || chose {
        words.extend(["--resume".to_owned(), dir.display().to_string()]);
    }
    words
}

/// The extractor of the dataset, where it is another one than that of the last run.
fn extracted_since(manifest: &Manifest) -> Option<&str> {
    let changed = |command: &Command| {
        command
            .changed
            .iter()
            .any(|change| change.starts_with("run.extract:"))
    };
    let later = manifest.commands.iter().rev();
    later
        .take_while(|command| command.of_rows)
        .any(changed)
        .then(|| manifest.dataset.get("extract")?.as_str())?
}

/// The command without its secrets, which the manifest does not hold, and whether there were any.
fn without_secrets(words: Vec<String>) -> (Vec<String>, bool) {
    let mut kept: Vec<String> = Vec::new();
    let mut secret = false;
    for word in words {
        if !word.ends_with("=[secret]") {
            kept.push(word);
            continue;
        }
        secret = true;
        if !word.starts_with("--") {
            kept.pop_if(|flag| flag == "--set");
        }
    }
    (kept, secret)
}

/// The copy of the rows, where they came from standard input: who pastes a command has nothing there.
fn copied_rows(manifest: &Manifest, dir: &Path) -> Option<PathBuf> {
    let setting = manifest.settings.get("input_data.path")?;
    let copy = Source::copy_of_stdin(dir);
    (setting.value == "-" && copy.is_file()).then_some(copy)
}

/// The command without an option that has a value.
fn without_option(words: &[String], option: &str) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.strip_prefix(option) {
            Some("") => drop(words.next()),
            Some(value) if value.starts_with('=') => {}
            _ => kept.push(word.clone()),
        }
    }
    kept
}

/// The command without what says which folder.
fn without_choice(words: &[String]) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--new" => {}
            "--fork" => drop(words.next()),
            "--resume" => drop(words.next_if(|next| !next.starts_with('-'))),
            other if other.starts_with("--fork=") || other.starts_with("--resume=") => {}
            _ => kept.push(word.clone()),
        }
    }
    kept
}

/// The words of a command, where it was a command line.
pub(crate) fn arguments(what: &Value) -> Option<Vec<String>> {
    let words = what
        .as_array()?
        .iter()
        .map(|word| word.as_str().map(str::to_owned));
    let mut words = words.collect::<Option<Vec<String>>>()?;
    // Where the program lies is of no interest.
    *words.first_mut()? = "datagen".to_owned();
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_left_out_with_its_flag() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (typed, kept, secret) in [
            ("run --set model.api_key=[secret] -q", "run -q", true),
            ("run --set=...=[secret] -q", "run -q", true),
            (
                "run --set model.model=x -q",
                "run --set model.model=x -q",
                false,
            ),
        ] {
            assert_eq!(without_secrets(words(typed)), (words(kept), secret));
        }
    }

    #[test]
    fn what_chooses_a_folder_is_left_out_of_the_command_that_goes_on() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (typed, kept) in [
            ("datagen run --new --limit 3", "datagen run --limit 3"),
            ("datagen run --fork x --json", "datagen run --json"),
            ("datagen run --resume --json", "datagen run --json"),
            ("datagen run --resume output/x --json", "datagen run --json"),
            ("datagen run --resume=latest", "datagen run"),
        ] {
            assert_eq!(without_choice(&words(typed)), words(kept), "{typed}");
        }
    }
}
