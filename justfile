# `just --list` shows these. Each is one line that works without just as well; .ci/run calls the same.

# everything that must hold before a change goes in
ci:
    .ci/run

# the quick half of it, while writing: format, clippy, tests
check: format lint test

# formatting, as a check (`cargo fmt --all` repairs it)
format:
    cargo fmt --all --check

# clippy, warnings are errors
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# all tests, doc examples included; no network, no key
test:
    cargo test --workspace

# the documentation, warnings are errors
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# none of the five layers depends on another
layers:
    .ci/star

# the README's first command leaves exactly one dataset (`just first-run --clone`: in a fresh clone)
first-run *arguments:
    .ci/first-run {{arguments}}

# SIGKILL at random moments of one run of 10,000 rows (25 in CI), then of extract and run --repair
kill times="200":
    .ci/kill {{times}}

# what datagen costs beside bare loops, in the shipped build (`just bench --quick`, `--list`, `--only NAME`)
bench *arguments:
    cargo build --profile dist -p data-generation-cli
    cargo run --profile dist -p data-generation-bench -- {{arguments}}

# what single pieces cost
bench-micro *arguments:
    cargo bench -p data-generation-bench --bench micro -- {{arguments}}

# property tests and the state machine of running again, so many times as many cases as the tests try
fuzz times="100":
    .ci/fuzz {{times}}

# against a real model on a llama.cpp server (needs Python)
e2e:
    .ci/e2e

# licences, bans, sources and known vulnerabilities of the dependencies (needs cargo-deny)
deny:
    cargo deny check

# whether limits hold for minutes, as the endpoint sees them
limits:
    cargo build --release -p data-generation-cli
    DATAGEN=target/release/datagen cargo run --release -p data-generation-fault-server --example limits
