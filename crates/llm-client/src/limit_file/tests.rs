use super::*;

#[test]
fn a_name_tells_endpoint_and_account_apart_and_shows_neither() {
    let name = LimitFile::name("https://api.openai.com", "sk-secret");
    assert_eq!(name.len(), 24);
    assert_ne!(name, LimitFile::name("https://api.openai.com", "sk-other"));
    assert_ne!(name, LimitFile::name("https://api.openai.comsk", "-secret"));
    // Of a model of one's own the name need not be an address.
    assert_ne!(
        LimitFile::name("own", "model"),
        LimitFile::name("ownm", "odel")
    );
}

#[test]
fn each_machine_and_each_start_of_it_has_a_name_of_its_own() {
    let name = |clock| name_by(clock, "https://api.openai.com", "sk-secret");
    assert_eq!(name("one"), name("one"));
    assert_ne!(name("one"), name("other"));
    assert_eq!(
        LimitFile::name("own", "model"),
        name_by(&clock(), "own", "model")
    );
    assert_eq!(clock(), clock());
    if let Ok(boot) = std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        assert!(clock().contains(boot.trim()), "{}", clock());
    }
}

#[test]
fn an_endpoint_has_one_name_however_it_is_written() {
    let name = |endpoint| LimitFile::name(endpoint, "sk-secret");
    let usual = name("https://api.openai.com/v1");
    for other in [
        "https://api.openai.com/v1/",
        "HTTPS://API.OpenAI.com/v1",
        " https://api.openai.com:443/v1//",
    ] {
        assert_eq!(name(other), usual, "{other}");
    }
    for other in [
        "https://api.openai.com/V1",
        "http://api.openai.com/v1",
        "https://api.openai.com:8443/v1",
        "https://api.openai.com/v1?of=2",
    ] {
        assert_ne!(name(other), usual, "{other}");
    }
    assert_eq!(name("HTTP://LOCALHOST:80"), name("http://localhost/"));
    assert_ne!(name("Own Model"), name("own model"));
}

/// What is read by somebody who knows nothing.
fn read(file: &LimitFile) -> String {
    let (_, text) = file
        .lock(true)
        .unwrap()
        .read(Stamp::default())
        .unwrap()
        .unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn what_is_written_is_read_by_others_and_is_no_news_to_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("limits/x");
    let (one, other) = (
        LimitFile::open(&path).unwrap(),
        LimitFile::open(&path).unwrap(),
    );
    let mut known = Stamp::default();
    assert_eq!(read(&one), "");
    for text in ["first", "second, which is longer", "third", ""] {
        let locked = one.lock(true).unwrap();
        known = locked.write(known, text.as_bytes()).unwrap();
        drop(locked);
        assert_eq!(read(&other), text);
        assert!(
            one.lock(true).unwrap().read(known).unwrap().is_none(),
            "{text}"
        );
    }
}

#[test]
fn while_one_has_it_nobody_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let (one, other) = (
        LimitFile::open(&path).unwrap(),
        LimitFile::open(&path).unwrap(),
    );
    let locked = one.lock(true).unwrap();
    for is_patient in [true, false] {
        let error = other.lock(is_patient).map(drop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
    drop(locked);
    other.lock(false).unwrap();
}

#[test]
fn whoever_is_killed_while_he_writes_leaves_what_was_there_before() {
    let dir = tempfile::tempdir().unwrap();
    let file = LimitFile::open(dir.path().join("x")).unwrap();
    let mut known = Stamp::default();
    let mut texts = vec![String::new()];
    for n in 0..3 {
        let text = format!("{n}").repeat(5_000 + n * 1_000);
        known = file
            .lock(true)
            .unwrap()
            .write(known, text.as_bytes())
            .unwrap();
        texts.push(text);
    }
    let before = std::fs::read(file.path()).unwrap();
    // The one that is written next, torn at each page and in its first line.
    file.lock(true)
        .unwrap()
        .write(known, &[b'n'; 9_000])
        .unwrap();
    let after = std::fs::read(file.path()).unwrap();
    let place = COPY as usize;
    for end in [0, 1, 30, HEAD, HEAD + 1, 4_096, 8_192] {
        let mut torn = before.clone();
        torn.resize(after.len(), 0);
        torn[place..place + end].copy_from_slice(&after[place..place + end]);
        std::fs::write(file.path(), &torn).unwrap();
        assert_eq!(read(&file), texts[3], "torn after {end}");
        // Whoever comes next writes in its place, and not over the only whole copy.
        let locked = file.lock(true).unwrap();
        let found = locked
            .read(known)
            .unwrap()
            .map_or(known, |(found, _)| found);
        assert_eq!(found, known);
        locked.write(found, b"whole").unwrap();
        drop(locked);
        let whole = std::fs::read(file.path()).unwrap();
        assert_eq!(whole[..place], before[..place], "torn after {end}");
        assert_eq!(read(&file), "whole");
    }
}

#[test]
fn a_file_that_is_something_else_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    std::fs::write(&path, "limits 2 {not these}".repeat(10)).unwrap();
    let file = LimitFile::open(&path).unwrap();
    assert_eq!(read(&file), "");
    file.lock(true)
        .unwrap()
        .write(Stamp::default(), b"limits")
        .unwrap();
    assert_eq!(read(&file), "limits");
}

#[test]
fn a_file_that_was_taken_away_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let one = LimitFile::open(&path).unwrap();
    one.lock(true)
        .unwrap()
        .write(Stamp::default(), b"old")
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    let other = LimitFile::open(&path).unwrap();
    other
        .lock(true)
        .unwrap()
        .write(Stamp::default(), b"new")
        .unwrap();
    let locked = one.lock(true).unwrap();
    assert!(locked.is_another);
    drop(locked);
    assert!(!one.lock(true).unwrap().is_another);
    assert_eq!(read(&one), "new");
}

#[test]
fn whoever_has_taken_a_new_file_keeps_others_out_of_that_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let one = LimitFile::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let other = LimitFile::open(&path).unwrap();
    let locked = other.lock(true).unwrap();
    let error = one.lock(false).map(drop).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    drop(locked);
    let locked = one.lock(false).unwrap();
    let error = other.lock(false).map(drop).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    drop(locked);
}

#[test]
fn whoever_cannot_use_the_file_keeps_nobody_else_out() {
    let dir = tempfile::tempdir().unwrap();
    let (path, aside) = (dir.path().join("x"), dir.path().join("aside"));
    let (one, other) = (
        LimitFile::open(&path).unwrap(),
        LimitFile::open(&path).unwrap(),
    );
    std::fs::rename(&path, &aside).unwrap();
    std::fs::create_dir(&path).unwrap();
    let error = one.lock(true).map(drop).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    other.lock(false).unwrap();
}

#[test]
fn a_patient_one_gets_a_lock_that_is_held_for_a_moment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let (one, other) = (
        LimitFile::open(&path).unwrap(),
        LimitFile::open(&path).unwrap(),
    );
    // On a busy machine a moment may be long: one of these is enough.
    let got = (0..100).any(|_| {
        let (held, is_held) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let locked = one.lock(true).unwrap();
                held.send(()).unwrap();
                thread::sleep(PAUSE * 10);
                drop(locked);
            });
            is_held.recv().unwrap();
            other.lock(true).is_ok()
        })
    });
    assert!(got);
}

#[test]
fn nobody_else_on_the_machine_reads_it() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("limits/x");
    let file = LimitFile::open(&path).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    // The same for one that is made anew.
    std::fs::remove_file(&path).unwrap();
    drop(file.lock(true).unwrap());
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn what_is_too_long_for_its_place_is_refused_and_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = LimitFile::open(dir.path().join("x")).unwrap();
    let mut known = Stamp::default();
    for text in ["first", "second"] {
        known = file
            .lock(true)
            .unwrap()
            .write(known, text.as_bytes())
            .unwrap();
    }
    let too_long = vec![b'x'; COPY as usize];
    file.lock(true)
        .unwrap()
        .write(known, &too_long)
        .unwrap_err();
    assert_eq!(read(&file), "second");
}

#[test]
fn a_head_that_says_more_than_there_is_room_for_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let file = LimitFile::open(&path).unwrap();
    file.lock(true)
        .unwrap()
        .write(Stamp::default(), b"whole")
        .unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.resize(COPY as usize, 0);
    for length in [1, COPY as usize, u32::MAX as usize] {
        let stamp = Stamp { number: 9, sum: 9 };
        let mut harmed = bytes.clone();
        harmed.extend(Head { stamp, length }.to_line());
        std::fs::write(&path, harmed).unwrap();
        assert_eq!(read(&file), "whole", "{length}");
        let is_one = file.lock(true).unwrap().copies.len() == 2;
        assert_eq!(is_one, length == 1, "{length}");
    }
}
