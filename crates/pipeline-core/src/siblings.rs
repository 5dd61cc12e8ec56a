//! The folders of the other runs of an experiment: those that were set aside, those with other time stamps, and those
//! that one of them was forked from or that were forked from one of them.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::manifest::Manifest;

/// `YYYYMMDD-HHMMSS`
const STAMP: usize = 15;
/// Behind so many that nobody has written to there is nobody at work: few go on with a run that is so old, and an
/// experiment may have thousands.
const IDLE: usize = 100;

/// No fork of forks is as long as this.
const FORKS: usize = 32;

/// The other runs of the experiment that `dir` belongs to whose manifests were written since then, the latest first; then
/// those of the experiment that it was forked from, and so on; then the forks of any of these that stand beside one of
/// them. None is opened but for the sake of forks, and not all are looked at. What cannot be read is told in the log.
pub(crate) fn written_since(dir: &Path, source: Option<&Path>, since: SystemTime) -> Vec<PathBuf> {
    // A link stays what it is: the folders that were set aside stand beside it.
    let Ok(dir) = std::path::absolute(dir) else {
        return Vec::new();
    };
    let line = line(&dir, source.map(Path::to_owned));
    let mut seen: Vec<(u64, u64)> = manifest(&dir).as_ref().map(identity).into_iter().collect();
    let mut all: Vec<PathBuf> = Vec::new();
    for experiment in &line {
        let mut found = runs_of(experiment, since, &mut seen);
        found.sort_by(|a, b| b.cmp(a));
        all.extend(found.into_iter().map(|(_, dir)| dir));
    }
    let mut folders: Vec<&Path> = line.iter().filter_map(|dir| dir.parent()).collect();
    folders.sort_unstable();
    folders.dedup();
    for candidate in folders
        .into_iter()
        .flat_map(|folder| listed(folder, is_folder))
    {
        let Some(facts) = written(&candidate, since) else {
            continue;
        };
        if !seen.contains(&identity(&facts)) && is_fork_of(&candidate, &line) {
            seen.push(identity(&facts));
            all.push(candidate);
        }
    }
    all
}

/// The experiment of a run, that of the run which it was forked from, and so on.
fn line(dir: &Path, source: Option<PathBuf>) -> Vec<PathBuf> {
    let mut line: Vec<PathBuf> = experiment(dir).into_iter().collect();
    let mut next = source;
    while let Some(dir) = next.and_then(|dir| std::path::absolute(dir).ok())
        && let Some(experiment) = experiment(&dir)
        && !line.contains(&experiment)
        && line.len() < FORKS
    {
        line.push(experiment);
        next = source_of(&dir);
    }
    line
}

fn source_of(dir: &Path) -> Option<PathBuf> {
    // Whose it is nobody knows, so it is nothing to be told of.
    Manifest::read(dir).ok()??.forked_from
}

fn is_fork_of(dir: &Path, line_of: &[PathBuf]) -> bool {
    source_of(dir).is_some_and(|source| {
        let line = line(dir, Some(source));
        line.iter().any(|experiment| line_of.contains(experiment))
    })
}

/// The runs of one experiment that were written to since then and were not seen yet, each with when that was.
fn runs_of(
    experiment: &Path,
    since: SystemTime,
    seen: &mut Vec<(u64, u64)>,
) -> Vec<(SystemTime, PathBuf)> {
    let mut found = Vec::new();
    for mut candidates in candidates(experiment) {
        // Names are times of the start.
        candidates.sort_unstable_by(|a, b| b.cmp(a));
        let mut idle = 0;
        for candidate in candidates {
            if idle == IDLE {
                break;
            }
            idle += 1;
            if let Some(facts) = written(&candidate, since)
                && let Ok(at) = facts.modified()
            {
                idle = 0;
                // Links lead to the same run once more.
                if !seen.contains(&identity(&facts)) {
                    seen.push(identity(&facts));
                    found.push((at, candidate));
                }
            }
        }
    }
    found
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
    let beside = experiment.parent().map(|parent| listed(parent, is_aside));
    [
        vec![experiment.to_owned()],
        beside.unwrap_or_default(),
        listed(experiment, is_folder),
    ]
}

fn is_folder(entry: &std::fs::DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| !kind.is_file())
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

/// The facts of its manifest, where that was written since then.
fn written(dir: &Path, since: SystemTime) -> Option<Metadata> {
    let is_since = |facts: &Metadata| facts.modified().is_ok_and(|at| at >= since);
    manifest(dir).filter(is_since)
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
        let own = dir.join(own);
        let source = source_of(&own);
        let found = written_since(&own, source.as_deref(), second(10));
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

    fn forked(dir: &Path, name: &str, from: &str, written: u64) {
        run(dir, name, written);
        let mut manifest = Manifest::new(serde_json::Map::new(), Default::default());
        manifest.forked_from = Some(dir.join(from));
        let path = dir.join(name).join("run.json");
        std::fs::write(&path, serde_json::to_vec(&manifest).unwrap()).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(second(written)).unwrap();
    }

    #[test]
    fn a_fork_its_source_and_other_forks_of_it_are_found_by_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        run(dir, "demo/20261122-101500", 20);
        run(dir, "demo-20261121-090000", 21);
        forked(dir, "a", "demo/20261122-101500", 22);
        forked(dir, "b", "demo/20261122-101500", 23);
        forked(dir, "b-20261123-101500", "demo/20261122-101500", 24);
        // A fork of a fork that nobody has touched for long.
        forked(dir, "old", "demo/20261122-101500", 1);
        forked(dir, "of-old", "old", 25);
        run(dir, "other", 30);
        forked(dir, "of-other", "other", 31);
        forked(dir, "of-itself", "of-itself", 32);
        let family = [
            "a",
            "b",
            "b-20261123-101500",
            "demo-20261121-090000",
            "demo/20261122-101500",
            "of-old",
        ];
        for own in family {
            let mut found = found(dir, own);
            found.sort_unstable();
            let expected: Vec<&str> = family.into_iter().filter(|name| *name != own).collect();
            assert_eq!(found, expected, "{own}");
        }
        assert_eq!(found(dir, "of-other"), ["other"]);
        assert_eq!(found(dir, "of-itself"), [""; 0]);
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
