use std::fs;

use data_generation_templating::{ErrorKind, Prompt, Syntax};

fn from_bytes(bytes: &[u8]) -> Result<String, String> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("user.txt");
    fs::write(&path, bytes).expect("it writes");
    let prompt = Prompt::from_file(&path, Syntax::Handlebars);
    let shown = |text: String| text.replace(&dir.path().display().to_string(), "DIR");
    prompt
        .map(|prompt| prompt.source().to_owned())
        .map_err(|error| shown(error.to_string()))
}

#[test]
fn a_file_is_read_without_mark_carriage_returns_and_final_newline() {
    assert_eq!(from_bytes(b"\xEF\xBB\xBFa\r\nb\r\n").unwrap(), "a\nb");
    assert_eq!(from_bytes(b"a\n\n").unwrap(), "a\n");
    assert_eq!(from_bytes(b"a").unwrap(), "a");
    assert_eq!(from_bytes(b"").unwrap(), "");
}

#[test]
fn a_file_that_is_not_utf8_is_refused() {
    insta::assert_snapshot!(from_bytes(b"\xFF\xFEa\0").unwrap_err(), @"`DIR/user.txt`: the file is UTF-16; save the prompt as UTF-8");
    insta::assert_snapshot!(from_bytes(b"a\0b\0").unwrap_err(), @"`DIR/user.txt`: the file looks like UTF-16; save the prompt as UTF-8");
    insta::assert_snapshot!(from_bytes("a\n\u{e9}b".as_bytes().iter().copied().chain([0xE9, b'c']).collect::<Vec<_>>().as_slice()).unwrap_err(), @"`DIR/user.txt` line 2, column 3: the byte 0xE9 is not UTF-8; save the prompt as UTF-8");
}

#[test]
fn an_absent_file_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.txt");
    let error = Prompt::from_file(&path, Syntax::Handlebars).unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.prompt(), path.display().to_string());
    assert!(
        error
            .to_string()
            .ends_with("none.txt`: there is no such prompt file")
    );
    assert!(std::error::Error::source(&error).is_some());

    let error = Prompt::from_file(dir.path(), Syntax::Handlebars).unwrap_err();
    assert!(!error.is_not_found());
    assert!(matches!(error.kind(), ErrorKind::Unreadable));
}

#[test]
fn the_syntax_is_read_in_lower_case() {
    assert_eq!(
        serde_json::from_str::<Syntax>("\"format\"").unwrap(),
        Syntax::Format
    );
    assert_eq!(
        serde_json::to_string(&Syntax::default()).unwrap(),
        "\"handlebars\""
    );
}
