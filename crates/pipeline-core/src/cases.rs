use proptest::prelude::ProptestConfig;

/// So many cases, or `FUZZ_TIMES` times as many: `.ci/fuzz` sets it.
pub(crate) fn cases(usual: u32) -> ProptestConfig {
    let times = std::env::var("FUZZ_TIMES").ok();
    let times = times.and_then(|times| times.parse().ok()).unwrap_or(1);
    ProptestConfig {
        cases: usual.saturating_mul(times),
        // A case that fails is printed; nothing is written into the checkout.
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}
