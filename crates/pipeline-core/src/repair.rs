//! Moving bad lines aside, so that a damaged folder can be gone on with.
//!
//! Nothing is deleted: a line that cannot be read goes, whole, into a hidden file of the folder. Its row is then
//! neither finished nor failed, and the run makes it again, from the journal where its answer is still there.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::before::{answered_row, failed_id, finished_id};
use crate::beside::Beside;
use crate::disk::Disk;
use crate::error::Error;
use crate::folder::free_name;
use crate::line::push_line;
use crate::numbers::{Rising, in_the_way};
use crate::row::RowId;
use crate::scan::Scan;

/// A bad line, as it is kept.
#[derive(Serialize)]
struct Aside<'a> {
    file: &'a str,
    line: u64,
    what: &'a str,
    /// The line, where it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    /// Else its bytes, two hex digits each.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
}

/// A file of the folder with bad lines in it.
struct Damaged {
    name: &'static str,
    /// Numbers of the bad lines, rising, and what is wrong with each.
    bad: Vec<(u64, String)>,
}

/// Moves the bad lines of a folder aside; what was done, in words. The lock must be held, and the ends of the files
/// be whole.
pub(crate) fn repair(disk: &Disk, dir: &Path) -> Result<Vec<String>, Error> {
    let damaged = [
        damage_of_journal(dir)?,
        damage_of(dir, "failures.jsonl", |line| failed_id(line).map(drop))?,
        damage_of_result(dir)?,
    ];
    let damaged: Vec<Damaged> = damaged
        .into_iter()
        .filter(|file| !file.bad.is_empty())
        .collect();
    if damaged.is_empty() {
        return Ok(Vec::new());
    }
    let aside = free_name(dir, ASIDE);
    keep(disk, dir, &aside, &damaged)?;
    let shown = aside.file_name().unwrap_or_default().to_string_lossy();
    let mut told = Vec::new();
    for file in &damaged {
        take_out(disk, dir, file)?;
        let (first, lines) = (file.bad[0].0, file.bad.len());
        told.push(if lines == 1 {
            format!(
                "{}: line {first} was damaged and is in {shown} now",
                file.name
            )
        } else {
            format!(
                "{}: {lines} damaged lines, the first of them line {first}, are in {shown} now",
                file.name
            )
        });
    }
    Ok(told)
}

/// What begins the name of the files to which bad lines are moved.
const ASIDE: &str = "damaged";

/// The files of a folder to which bad lines were moved, oldest first.
pub(crate) fn moved_aside(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let begins = format!(".{ASIDE}-");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&begins) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn damage_of(
    dir: &Path,
    name: &'static str,
    mut judge: impl FnMut(&str) -> Result<(), String>,
) -> Result<Damaged, Error> {
    let mut bad = Vec::new();
    if let Some(mut lines) = Scan::open(&dir.join(name))? {
        while let Some(line) = lines.next()? {
            if let Err(what) = line.text().and_then(&mut judge) {
                bad.push((line.number, what));
            }
        }
    }
    Ok(Damaged { name, bad })
}

/// A number that does not rise is damage too: the fewest lines go without which the others rise.
fn damage_of_journal(dir: &Path) -> Result<Damaged, Error> {
    let (name, mut numbers, mut falls) = ("journal.jsonl", Rising::default(), false);
    let damaged = damage_of(dir, name, |line| {
        let (seq, _) = answered_row(line)?;
        falls |= numbers.next(seq).is_err();
        Ok(())
    })?;
    if !falls {
        return Ok(damaged);
    }
    let mut numbers = Vec::new();
    damage_of(dir, name, |line| {
        numbers.push(answered_row(line)?.0);
        Ok(())
    })?;
    let mut in_the_way = in_the_way(&numbers).into_iter().peekable();
    let mut at = 0..;
    damage_of(dir, name, |line| {
        let (seq, _) = answered_row(line)?;
        match in_the_way.next_if_eq(&at.next().unwrap_or_default()) {
            Some(_) => Err(format!("has the number {seq} out of its turn")),
            None => Ok(()),
        }
    })
}

/// A row that stands twice is damage too: the first of its lines counts.
fn damage_of_result(dir: &Path) -> Result<Damaged, Error> {
    let mut ids: Vec<RowId> = Vec::new();
    let mut damaged = damage_of(dir, "result.jsonl", |line| {
        ids.push(finished_id(line)?);
        Ok(())
    })?;
    ids.sort_unstable();
    let twice: HashSet<RowId> = ids
        .windows(2)
        .filter(|pair| pair[0] == pair[1])
        .map(|pair| pair[0])
        .collect();
    drop(ids);
    if twice.is_empty() {
        return Ok(damaged);
    }
    let mut met = HashSet::new();
    damaged = damage_of(dir, "result.jsonl", |line| {
        let id = finished_id(line)?;
        if twice.contains(&id) && !met.insert(id) {
            return Err(format!("the row {id} stands here once more"));
        }
        Ok(())
    })?;
    Ok(damaged)
}

/// Writes all bad lines down, durably, before any of them is taken out.
fn keep(disk: &Disk, dir: &Path, aside: &Path, damaged: &[Damaged]) -> Result<(), Error> {
    let mut kept = Beside::create(disk, aside.to_owned())?;
    let mut out = Vec::new();
    for file in damaged {
        each(dir, file, |bytes, bad| {
            let Some((line, what)) = bad else {
                return Ok(());
            };
            let text = std::str::from_utf8(bytes).ok();
            let hex = || bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            out.clear();
            let line = Aside {
                file: file.name,
                line: *line,
                what,
                text,
                bytes: text.is_none().then(hex),
            };
            push_line(&mut out, &line).expect("texts and numbers are JSON");
            kept.write(&out)
        })?;
    }
    kept.sync()?;
    disk.sync_folder(dir)
        .map_err(Error::io("could not write", dir))
}

/// Replaces the file by its good lines.
fn take_out(disk: &Disk, dir: &Path, file: &Damaged) -> Result<(), Error> {
    replace(disk, dir, file.name, |good| {
        each(dir, file, |bytes, bad| {
            if bad.is_some() {
                return Ok(());
            }
            good.write(bytes)?;
            good.write(b"\n")
        })
    })
}

/// Replaces a file of the folder by what `fill` writes, durably.
pub(crate) fn replace(
    disk: &Disk,
    dir: &Path,
    name: &str,
    fill: impl FnOnce(&mut Beside) -> Result<(), Error>,
) -> Result<(), Error> {
    let hidden = dir.join(format!(".{name}.repaired"));
    let mut new = Beside::create(disk, hidden.clone())?;
    fill(&mut new)?;
    new.sync()?;
    let place = dir.join(name);
    disk.rename(&hidden, &place)
        .map_err(Error::io("could not write", &place))?;
    disk.sync_folder(dir)
        .map_err(Error::io("could not write", dir))
}

/// Shows every line of the file, the bad ones with what is wrong.
fn each(
    dir: &Path,
    file: &Damaged,
    mut show: impl FnMut(&[u8], Option<&(u64, String)>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut bad = file.bad.iter().peekable();
    let Some(mut lines) = Scan::open(&dir.join(file.name))? else {
        return Ok(());
    };
    while let Some(line) = lines.next()? {
        let number = line.number;
        show(line.bytes, bad.next_if(|(at, _)| *at == number))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::before::Before;

    fn id(byte: u8) -> RowId {
        RowId([byte; 16])
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn bad_lines_are_moved_and_the_others_stay_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let result = |n: u8| format!("{{\"id\":\"{}\",\"x\":1.50}}\n", id(n)).into_bytes();
        let answer = |seq: u64| {
            format!(
                "{{\"v\":1,\"seq\":{seq},\"row\":\"{}\",\"key\":\"k\",\"step\":\"ask\",\"attempt\":1,\"status\":200,\
                 \"at\":\"2026-11-22T10:00:00.000Z\",\"latency_ms\":1,\"body\":{{}}}}\n",
                id(1)
            )
            .into_bytes()
        };
        let write = |name: &str, parts: &[Vec<u8>]| {
            std::fs::write(dir.path().join(name), parts.concat()).unwrap();
        };
        let bad = |bytes: &[u8]| bytes.to_vec();
        write(
            "result.jsonl",
            &[
                result(1),
                bad(b"{\"id\":\n"),
                result(2),
                result(1),
                bad(b"\xff\xfe\n"),
                result(3),
            ],
        );
        write("failures.jsonl", &[bad(b"\0\0\n")]);
        write(
            "journal.jsonl",
            &[
                answer(1),
                bad(b"[]\n"),
                answer(900),
                answer(2),
                answer(2),
                answer(3),
            ],
        );
        let told = repair(&Disk::default(), dir.path()).unwrap();
        assert_eq!(told.len(), 3, "{told:?}");
        let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        assert_eq!(
            read("result.jsonl"),
            [result(1), result(2), result(3)].concat()
        );
        assert_eq!(read("failures.jsonl"), b"");
        assert_eq!(
            read("journal.jsonl"),
            [answer(1), answer(2), answer(3)].concat()
        );
        assert_eq!(Before::load(dir.path()).unwrap().finished.len(), 3);

        let names = names(dir.path());
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(
            names[0].starts_with(".damaged-") && names[0].ends_with(".jsonl"),
            "{names:?}"
        );
        let kept = String::from_utf8(read(&names[0])).unwrap();
        let kept: Vec<serde_json::Value> = kept
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let places: Vec<(&str, u64)> = kept
            .iter()
            .map(|line| {
                (
                    line["file"].as_str().unwrap(),
                    line["line"].as_u64().unwrap(),
                )
            })
            .collect();
        let expected = [
            ("journal.jsonl", 2),
            ("journal.jsonl", 3),
            ("journal.jsonl", 5),
            ("failures.jsonl", 1),
            ("result.jsonl", 2),
            ("result.jsonl", 4),
            ("result.jsonl", 5),
        ];
        assert_eq!(places, expected);
        assert_eq!(kept[0]["text"], "[]");
        assert_eq!(kept[3]["text"], "\0\0");
        assert_eq!(kept[6]["bytes"], "fffe");
    }

    #[test]
    fn a_folder_without_damage_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("result.jsonl"),
            format!("{{\"id\":\"{}\"}}\n", id(1)),
        )
        .unwrap();
        assert_eq!(repair(&Disk::default(), dir.path()).unwrap(), [""; 0]);
        assert_eq!(names(dir.path()), ["result.jsonl"]);
    }

    #[test]
    fn a_second_repair_in_the_same_second_takes_another_name() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            std::fs::write(dir.path().join("journal.jsonl"), "x\n").unwrap();
            repair(&Disk::default(), dir.path()).unwrap();
        }
        assert_eq!(names(dir.path()).len(), 4);
    }
}
