use proptest::prelude::ProptestConfig;

/// So many times as much is tried as usual: `.ci/fuzz` sets `FUZZ_TIMES`.
pub(crate) fn times() -> u32 {
    let times = std::env::var("FUZZ_TIMES").ok();
    times.and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// Whether one of many cases that are alike is tried: one in so many, and all of them where `FUZZ_TIMES` is set, as it is
/// for `.ci/fuzz` and for a stage of `.ci/run`.
pub(crate) fn is_tried(case: usize, one_in: usize) -> bool {
    std::env::var_os("FUZZ_TIMES").is_some() || case.is_multiple_of(one_in)
}

/// So many cases, or `FUZZ_TIMES` times as many.
pub(crate) fn cases(usual: u32) -> ProptestConfig {
    let times = times();
    ProptestConfig {
        cases: usual.saturating_mul(times),
        max_global_rejects: 1024_u32.saturating_mul(times),
        // A case that fails is printed; nothing is written into the checkout.
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}
