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
        slots[0].pause(asked(), true, false, |_| SECOND);
        assert_eq!(gate.lock().allowed, 14, "adaptive: {adaptive}");
        // Nor does one that goes alone say how many may.
        drop(slots);
        let mut probe = enter(&gate).await;
        probe.sent();
        assert!(probe.is_probe());
        gate.lock().since_cut = None;
        probe.pause(asked(), true, false, |_| SECOND);
        assert_eq!(gate.lock().allowed, 14, "adaptive: {adaptive}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_away_is_no_reason_to_send_less() {
    let gate = Gate::new(64.try_into().unwrap(), false);
    let mut slots = with(&gate, 3, 3).await;
    slots[0].pause(Why::Away("refused".into()), false, false, |_| SECOND);
    assert_eq!(gate.lock().allowed, 64);
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
        assert_eq!(gate.lock().allowed, 40, "adaptive: {adaptive}");
        // It left before that was known.
        slots[42].refused(20);
        assert_eq!(gate.lock().allowed, 40, "adaptive: {adaptive}");
        // Where hardly any are known to be worked on, a share is left.
        tokio::time::advance(SECOND).await;
        slots[42].sent();
        slots[42].refused(1);
        assert_eq!(gate.lock().allowed, 30, "adaptive: {adaptive}");
        assert!(slots[42].is_open());
    }
}
