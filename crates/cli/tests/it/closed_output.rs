//! Nobody listens, or there is nothing to write to: the run goes on, and its exit code is right.

use crate::harness::{Folder, rows};
use crate::server::{Answer, Server};

const RESULT: &str = "output/demo/result.jsonl";

#[test]
fn without_standard_streams_everything_is_made_all_the_same() {
    for closed in [">&-", "2>&-", "<&-", "<&- >&- 2>&-"] {
        let folder = Folder::offline();
        let script = format!("exec \"$DATAGEN\" run --json {closed}");
        folder.shell(&script).exits(0);
        // A file that came to stand where a stream was would have got what was printed.
        assert_eq!(folder.lines(RESULT).len(), 3, "{closed}");
        assert_eq!(
            folder.lines("output/demo/journal.jsonl").len(),
            3,
            "{closed}"
        );
        folder
            .read("output/demo/run.json")
            .parse::<serde_json::Value>()
            .unwrap();
    }
}

#[test]
fn without_standard_streams_the_exit_code_still_tells_of_failed_rows() {
    let server = Server::start(|asked| match asked.user().contains("topic 1") {
        true => Answer::error(400, "content_filter", "no"),
        false => Answer::good("fine"),
    });
    for closed in [">&-", "2>&-", ">&- 2>&-"] {
        let folder = Folder::asking(&server);
        let script = format!("exec \"$DATAGEN\" run --json {closed}");
        folder.shell(&script).exits(3);
        assert_eq!(folder.lines("output/demo/failures.jsonl").len(), 1);
    }
}

#[test]
fn a_reader_that_leaves_does_not_end_the_run() {
    let folder = Folder::offline().file("rows.jsonl", rows(60));
    // The reader is gone before the first row is done; what is printed after that meets a broken pipe.
    let script = "{ \"$DATAGEN\" run --json --concurrency 4 --set offline.latency_ms=20 --set offline.error_rate=0.2; \
                  echo $? >code; } 2>&1 | true; while [ ! -s code ]; do sleep 0.01; done";
    folder.shell(script).exits(0);
    assert_eq!(folder.read("code"), "0\n");
    assert_eq!(folder.lines(RESULT).len(), 60);
}
