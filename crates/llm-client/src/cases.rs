//! How much is tried by tests that throw dice. The integration tests read this file too.

use proptest::prelude::ProptestConfig;

/// A number that the environment gives.
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// So many cases, or `FUZZ_TIMES` times as many: `just fuzz` sets it.
pub(crate) fn cases(usual: u32) -> ProptestConfig {
    let times = number("FUZZ_TIMES").and_then(|times| times.try_into().ok());
    let times = times.unwrap_or(1);
    ProptestConfig {
        cases: usual.saturating_mul(times),
        max_global_rejects: 1024_u32.saturating_mul(times),
        // A case that fails is printed; nothing is written into the checkout.
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}
