//! The folders of the other runs of an experiment: those that were set aside, and those with other time stamps.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// `YYYYMMDD-HHMMSS`
const STAMP: usize = 15;
/// Behind so many that nobody has written to there is nobody at work: few go on with a run that is so old, and an
/// experiment may have thousands.
const IDLE: usize = 100;

/// The other runs of the experiment that `dir` belongs to whose manifests were written since then, the latest first.
/// None is opened, and not all are looked at. What cannot be read is told in the log.
pub(crate) fn written_since(dir: &Path, since: SystemTime) -> Vec<PathBuf> {
    // A link stays what it is: the folders that were set aside stand beside it.
    let Ok(dir) = std::path::absolute(dir) else {
        return Vec::new();
    };
    let Some(experiment) = experiment(&dir) else {
        return Vec::new();
    };
    let mut seen: Vec<(u64, u64)> = manifest(&dir).as_ref().map(identity).into_iter().collect();
    let mut found = Vec::new();
    for mut candidates in candidates(&experiment) {
        // Names are times of the start.
        candidates.sort_unstable_by(|a, b| b.cmp(a));
        let mut idle = 0;
        for candidate in candidates {
            if idle == IDLE {
                break;
            }
            idle += 1;
            if let Some(facts) = manifest(&candidate)
                && let Ok(written) = facts.modified()
                && written >= since
            {
                idle = 0;
                // Links lead to the same run once more.
                if !seen.contains(&identity(&facts)) {
                    seen.push(identity(&facts));
                    found.push((written, candidate));
                }
            }
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, dir)| dir).collect()
}

/// The folder of the experiment, whose own it is, whose time stamp it has, or from whose place it was set aside.
fn experiment(dir: &Path) -> Option<PathBuf> {
    let (parent, name) = (dir.parent()?, dir.file_name()?);
    let before = name.to_str().and_then(before_stamp);
    let aside = before.and_then(|before| before.strip_suffix('-'));
    Some(match (before, aside) {
        (Some(""), _) => parent.to_owned(),
        (_, Some(name)) => parent.join(name),
        _ => dir.to_owned(),
    })
}

/// What may be runs of the experiment: its own folder, those that were set aside, those with a time stamp.
fn candidates(experiment: &Path) -> [Vec<PathBuf>; 3] {
    let name = experiment.file_name().and_then(|name| name.to_str());
    let is_aside = |entry: &std::fs::DirEntry| {
        let entry = entry.file_name();
        let before = entry.to_str().and_then(before_stamp);
        let before = before.and_then(|before| before.strip_suffix('-'));
        before.is_some() && before == name
    };
    let is_folder = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| !kind.is_file());
    let beside = experiment.parent().map(|parent| listed(parent, is_aside));
    [
        vec![experiment.to_owned()],
        beside.unwrap_or_default(),
        listed(experiment, is_folder),
    ]
}

fn listed(dir: &Path, is_one: impl Fn(&std::fs::DirEntry) -> bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    match entries {
        Ok(entries) => {
            let entries = entries.iter().filter(|entry| is_one(entry));
            entries.map(std::fs::DirEntry::path).collect()
        }
        Err(error) => {
            tell(dir, &error);
            Vec::new()
        }
    }
}

/// What stands before the time stamp that a name ends with, which may have a number: `demo-` of
/// `demo-20261122-101500-2`.
fn before_stamp(name: &str) -> Option<&str> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let numbered = name.rsplit_once('-').filter(|(_, end)| is_number(end));
    let names = [Some(name), numbered.map(|(before, _)| before)];
    names.into_iter().flatten().find_map(|name| {
        let (before, stamp) = name.split_at_checked(name.len().checked_sub(STAMP)?)?;
        let (day, time) = stamp.split_once('-')?;
        let is_stamp = day.len() == 8 && is_number(day) && is_number(time);
        is_stamp.then_some(before)
    })
}

fn manifest(dir: &Path) -> Option<Metadata> {
    let path = dir.join("run.json");
    match std::fs::metadata(&path) {
        Ok(facts) => facts.is_file().then_some(facts),
        Err(error) => {
            tell(&path, &error);
            None
        }
    }
}

fn identity(facts: &Metadata) -> (u64, u64) {
    (facts.dev(), facts.ino())
}

/// What is not there has sent nothing.
fn tell(path: &Path, error: &io::Error) {
    if !matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    ) {
        tracing::warn!(%error, path = %path.display(), "what other runs of this experiment sent could not be read");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::Duration;

    fn run(dir: &Path, name: &str, written: u64) {
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let file = File::create(dir.join("run.json")).unwrap();
        file.set_modified(second(written)).unwrap();
    }

    fn second(n: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + n)
    }

    fn found(dir: &Path, own: &str) -> Vec<String> {
        let found = written_since(&dir.join(own), second(10));
        let name = |path: PathBuf| path.strip_prefix(dir).unwrap().display().to_string();
        found.into_iter().map(name).collect()
    }

    #[test]
    fn the_runs_of_one_experiment_are_found_whichever_of_them_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let runs = [
            ("demo", 20),
            ("demo/20261122-101500", 30),
            ("demo/20261122-101500-2", 25),
            ("demo-20261121-090000", 10),
            ("demo-20261121-090000-12", 40),
        ];
        let others = [
            ("demo-2", 50),
            ("demo-fork", 50),
            ("other", 50),
            ("other-20261121-090000", 50),
            ("demo-old-20261121-090000", 50),
            ("xdemo-20261121-090000", 50),
            ("demo20261121-090000", 50),
            ("demo/20261120-101500", 9),
            ("demo-20261120-101500", 9),
        ];
        for (name, written) in runs.into_iter().chain(others) {
            run(dir, name, written);
        }
        std::fs::write(dir.join("demo/journal.jsonl"), "").unwrap();
        std::fs::create_dir(dir.join("demo/20261123-101500")).unwrap();
        std::os::unix::fs::symlink("20261122-101500", dir.join("demo/newest")).unwrap();
        let newest_first = [
            "demo-20261121-090000-12",
            "demo/20261122-101500",
            "demo/20261122-101500-2",
            "demo",
            "demo-20261121-090000",
        ];
        for own in newest_first {
            let expected: Vec<&str> = newest_first.into_iter().filter(|n| *n != own).collect();
            let mut found = found(dir, own);
            // The same run under another name.
            for name in &mut found {
                *name = name.replace("newest", "20261122-101500");
            }
            assert_eq!(found, expected, "{own}");
        }
        // A new folder, which holds nothing yet.
        assert_eq!(found(dir, "demo/20261123-101500").len(), 5);
        assert_eq!(found(dir, "demo-fork"), [""; 0]);
        assert_eq!(found(dir, "nowhere"), [""; 0]);
    }

    #[test]
    fn of_thousands_only_the_newest_are_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        for n in 0..IDLE * 3 {
            // One in the reach of the newest, one in the reach of that one, and one behind too many that are idle.
            let is_idle = ![0, IDLE + 50, IDLE * 2].contains(&n);
            let written = if is_idle { 9 } else { 20 };
            run(dir, &format!("demo/20261122-{n:06}"), written);
        }
        let expected = ["demo/20261122-000200", "demo/20261122-000150"];
        assert_eq!(found(dir, "demo/20261123-000000"), expected);
    }

    #[test]
    fn a_time_stamp_is_told_from_other_endings_of_a_name() {
        let told = [
            "20261122-101500",
            "20261122-101500-2",
            "demo-20261122-101500",
            "a-b-20261122-101500-13",
            "demo",
            "demo-2",
            "demo-20261122",
            "20261122-10150x",
            "1-20261122",
            "人20261122101500",
            "",
        ];
        let told = told.map(before_stamp);
        let none = [None; 7];
        let some = [Some(""), Some(""), Some("demo-"), Some("a-b-")];
        assert_eq!(told[..4], some);
        assert_eq!(told[4..], none);
    }
}
