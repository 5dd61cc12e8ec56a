//! Running, killing, stopping, tearing, editing and forking in any order: a plain model says what must stand
//! on the disk afterwards.
//!
//! A sequence is what its seed makes of it; a failure names the seed, and `STATE_SEED=n` tries that one
//! alone. Where a run is killed is counted in polls, of which the threads that write have their share, so
//! that a seed may need a few tries.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

use self::world::World;

mod audit;
mod dice;
mod disk;
mod world;

/// Sequences in every run of the tests.
const SEQUENCES: u64 = 60;

fn sequence(seed: u64, history: Arc<Mutex<Vec<String>>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::new(seed, history);
        for _ in 0..world.rng.u32(3..10) {
            match world.rng.u32(0..10) {
                0..3 => world.edit(),
                3 | 4 => world.tear(),
                _ => world.command().await,
            }
        }
    });
}

#[test]
fn whatever_happens_to_a_run_nothing_paid_for_is_lost_and_no_row_is_doubled() {
    let of_the_environment = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let seeds = match of_the_environment("STATE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..SEQUENCES * of_the_environment("FUZZ_TIMES").unwrap_or(1),
    };
    for seed in seeds {
        let history = Arc::default();
        let told = Arc::clone(&history);
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| sequence(seed, told)));
        if outcome.is_err() {
            let history = history.lock().unwrap().join("\n  ");
            panic!("the sequence of STATE_SEED={seed}, reason above:\n  {history}");
        }
    }
}
