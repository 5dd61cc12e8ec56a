"""Judges the run of .ci/e2e: `e2e_check.py RUN_FOLDER AT_KILL ROWS SUMMARY SERVER_LOG`.

AT_KILL is a copy of the run's files from the moment of the kill, SUMMARY what the second command
printed, SERVER_LOG the log of the model server.
"""

import collections
import json
import sys

run, at_kill, rows_file, summary_file, server_log = sys.argv[1:6]
IN_FLIGHT = 4  # run.concurrency_limit
faults = []


def lines(path, torn=False):
    """The objects of a JSONL file; `torn`: without a last line that has no end."""
    try:
        with open(path, "rb") as file:
            parts = file.read().split(b"\n")
    except FileNotFoundError:
        return []
    if parts.pop() and not torn:
        faults.append(f"{path}: the last line has no end")
    return [json.loads(part) for part in parts]


def check(holds, text):
    if not holds:
        faults.append(text)


given = [json.dumps(row) for row in lines(rows_file)]
results, failures = lines(f"{run}/result.jsonl"), lines(f"{run}/failures.jsonl")
journal = lines(f"{run}/journal.jsonl")
done_before = {row["id"] for row in lines(f"{at_kill}/result.jsonl", torn=True)}
journal_before = lines(f"{at_kill}/journal.jsonl", torn=True)
with open(summary_file) as file:
    summary = json.load(file)
with open(server_log, errors="replace") as file:
    # Requests that reached the model, by the word of the server.
    reached = sum("launch_slot_" in line for line in file)

# Each row once, whichever file it is in.
made = [json.dumps(row["input"]) for row in results + failures]
check(sorted(made) == sorted(given), f"{len(given)} rows given, {len(made)} lines made, {len(set(made))} different")
check(len({row["id"] for row in results + failures}) == len(made), "an id is there twice")
check(len(results) >= 30, f"only {len(results)} of {len(given)} rows in result.jsonl")
for row in results:
    check(row["response"].strip() and row["usage"]["completion_tokens"] > 0, f"row {row['index']} has no answer")
    check("offline" not in row, f"row {row['index']} says offline")

# Nothing that was answered was asked again; an answer that was cut may be, it is no answer.
answers = collections.Counter(line["row"] for line in journal)
answers_before = collections.Counter(line["row"] for line in journal_before)
whole_before = {line["row"] for line in journal_before if line["body"]["choices"][0]["finish_reason"] == "stop"}
again = [row for row in done_before | whole_before if answers[row] != answers_before[row]]
check(not again, f"{len(again)} rows had their answer before the kill and were asked again")
check(journal[: len(journal_before)] == journal_before, "the journal of the first life was changed")
check(
    summary["requests"] <= len(given) - len(done_before) + summary["retries"],
    f"{summary['requests']} requests in the second life, {len(done_before)} rows were finished before it",
)

# The server's own count: what it answered and we do not have was in flight at the kill.
check(
    len(journal) <= reached <= len(journal) + IN_FLIGHT,
    f"the server had {reached} requests, the journal has {len(journal)} answers, {IN_FLIGHT} at most were in flight",
)

counts = {key: summary[key] for key in ("rows", "ok", "failed", "skipped", "pending")}
check(counts["rows"] == len(given) and counts["pending"] == 0, f"the summary says {counts}")
check(counts["ok"] + counts["skipped"] == len(results) and counts["failed"] == len(failures), f"the summary says {counts}")

print(f"e2e: {len(results)} rows in result.jsonl, {len(failures)} in failures.jsonl, {len(journal)} answers in the journal")
print(
    f"e2e: at the kill {len(done_before)} rows and {len(journal_before)} answers; "
    f"the second life sent {summary['requests']} requests, {summary['retries']} of them retries"
)
print(f"e2e: the server had {reached} requests; an answer: {results[0]['response'] if results else None!r}")
for row in failures:
    print(f"e2e: failed: row {row['index']}: {row['error']['class']}: {row['error']['message']}")
for fault in faults:
    print(f"e2e: WRONG: {fault}", file=sys.stderr)
sys.exit(1 if faults else 0)
