use super::*;

const SECOND: Duration = Duration::from_secs(1);

async fn enter(gate: &Gate) -> Slot<'_> {
    gate.enter(Lane::New, |_| {}).await.unwrap()
}

/// So many have a slot, of whom so many have sent something.
async fn with(gate: &Gate, entered: usize, sent: usize) -> Vec<Slot<'_>> {
    let mut slots = Vec::new();
    for n in 0..entered {
        let mut slot = enter(gate).await;
        if n < sent {
            slot.sent();
        }
        slots.push(slot);
    }
    slots
}

fn asked() -> Why {
    Why::Asked("429".into())
}

#[tokio::test(start_paused = true)]
async fn a_pause_keeps_a_share_of_what_was_under_way_not_of_what_may_be_nor_of_who_waits_for_a_permit()
 {
    for adaptive in [false, true] {
        let gate = Gate::new(400.try_into().unwrap(), false);
        if adaptive {
            gate.set_adaptive(400.try_into().unwrap());
        }
        let mut slots = with(&gate, 100, 20).await;
        slots[0].pause(asked(), Cause::TooFast, false, |_| SECOND);
        assert_eq!(gate.lock().level.allowed(), 14, "adaptive: {adaptive}");
        // Nor does one that goes alone say how many may.
        drop(slots);
        let mut probe = enter(&gate).await;
        probe.sent();
        assert!(probe.is_probe());
        (0..14).for_each(|_| gate.lock().level.put_off());
        probe.pause(asked(), Cause::TooFast, false, |_| SECOND);
        assert_eq!(gate.lock().level.allowed(), 14, "adaptive: {adaptive}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_away_is_no_reason_to_send_less() {
    let gate = Gate::new(64.try_into().unwrap(), false);
    let mut slots = with(&gate, 3, 3).await;
    slots[0].pause(Why::Away("refused".into()), Cause::Away, false, |_| SECOND);
    assert_eq!(gate.lock().level.allowed(), 64);
}

#[tokio::test(start_paused = true)]
async fn one_too_many_leaves_those_that_are_worked_on_and_counts_once() {
    for adaptive in [false, true] {
        let gate = Gate::new(64.try_into().unwrap(), false);
        if adaptive {
            gate.set_adaptive(64.try_into().unwrap());
        }
        let mut slots = with(&gate, 50, 44).await;
        slots[43].refused(40);
        assert_eq!(gate.lock().level.allowed(), 40, "adaptive: {adaptive}");
        // It left before that was known.
        slots[42].refused(20);
        assert_eq!(gate.lock().level.allowed(), 40, "adaptive: {adaptive}");
        // Where hardly any are known to be worked on, a share is left.
        tokio::time::advance(SECOND).await;
        slots[42].sent();
        slots[42].refused(1);
        assert_eq!(gate.lock().level.allowed(), 30, "adaptive: {adaptive}");
        assert!(slots[42].is_open());
    }
}

#[tokio::test(start_paused = true)]
async fn where_a_server_had_no_slot_is_left_alone_for_longer_than_where_it_was_too_fast() {
    for (cause, level) in [(Cause::Busy, 8), (Cause::TooFast, 9)] {
        let gate = Gate::new(20.try_into().unwrap(), false);
        let mut slots = with(&gate, 9, 9).await;
        slots[0].pause(asked(), cause, false, |_| SECOND);
        drop(slots);
        let mut slot = enter(&gate).await;
        (0..6 + 7 + 8).for_each(|_| slot.good());
        assert_eq!(gate.lock().level.allowed(), level, "{cause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn all_that_are_put_off_count_among_the_answers_of_a_round() {
    let gate = Gate::new(20.try_into().unwrap(), false);
    for level in [14, 9] {
        let allowed = gate.lock().level.allowed();
        let mut slots = with(&gate, allowed, allowed).await;
        for slot in &mut slots {
            slot.pause(asked(), Cause::TooFast, false, |_| SECOND);
        }
        assert_eq!(gate.lock().level.allowed(), level);
        drop(slots);
        enter(&gate).await.good();
    }
}

#[tokio::test(start_paused = true)]
async fn what_left_before_somebody_began_anew_to_find_out_how_many_are_best_is_not_looked_at() {
    let [four, eight] = [4, 8].map(|n| NonZeroUsize::new(n).unwrap());
    let gate = Gate::new(eight, true);
    let before = with(&gate, 4, 4).await;
    gate.set_limit(four);
    gate.set_adaptive(eight);
    drop(before);
    let after = with(&gate, 4, 4).await;
    drop(after);
    assert_eq!((gate.level(), gate.limit()), (Some(4), 8));
}
