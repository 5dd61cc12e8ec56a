use std::collections::VecDeque;

use super::*;

pub(super) const MINUTE: Micros = 60 * SECOND;

pub(super) fn limit(unit: Unit, amount: u64, window: Micros) -> Limit {
    Limit {
        unit,
        amount,
        window,
    }
}

/// What left when, and with how many tokens in the end.
type Sent = Vec<(Micros, u64)>;

/// The most that any such stretch of time held.
fn most_within(sent: &Sent, window: Micros, weight: impl Fn(u64) -> u64) -> u64 {
    let (mut first, mut sum, mut most) = (0, 0, 0);
    for (at, tokens) in sent {
        sum += weight(*tokens);
        while sent[first].0 + window <= *at {
            sum -= weight(sent[first].1);
            first += 1;
        }
        most = most.max(sum);
    }
    most
}

/// Leaves as fast as it may for so long.
fn saturate(limits: &[Limit], tokens: u64, time: Micros) -> Sent {
    let mut ledger = Ledger::new(limits.iter().copied(), 1);
    let (mut now, mut sent) = (0, Sent::new());
    while now < time {
        now = ledger.earliest(now, tokens).0;
        ledger.take(now, tokens);
        sent.push((now, tokens));
    }
    sent
}

#[test]
fn in_the_long_run_nearly_all_of_a_limit_is_used_evenly() {
    for amount in [60, 600, 6_000, 60_000] {
        let sent = saturate(&[limit(Unit::Requests, amount, MINUTE)], 0, 2 * MINUTE);
        let share = sent.len() as f64 / (2 * amount) as f64;
        assert!(
            (0.99..=1.0 + 1.0 / amount as f64).contains(&share),
            "{amount}: {share}"
        );
        let worst = most_within(&sent, SECOND, |_| 1) as f64;
        assert!(
            worst <= amount as f64 / 60.0 * 1.02 + 1.0,
            "{amount}: {worst} in a second"
        );
    }
    let sent = saturate(&[limit(Unit::Tokens, 90_000, MINUTE)], 300, 5 * MINUTE);
    let share = (sent.len() * 300) as f64 / (5 * 90_000) as f64;
    assert!((0.98..=1.01).contains(&share), "{share}");
}

#[test]
fn all_limits_hold_together_and_the_tightest_is_named() {
    let ledger_of = |tokens_a_minute| {
        let limits = [
            limit(Unit::Requests, 60, MINUTE),
            limit(Unit::Tokens, tokens_a_minute, MINUTE),
        ];
        let mut ledger = Ledger::new(limits, 1);
        ledger.take(0, 100);
        ledger
    };
    let named = |ledger: Ledger| ledger.earliest(1, 100).1.unwrap().to_string();
    assert_eq!(named(ledger_of(90_000)), "60 requests a minute");
    assert_eq!(named(ledger_of(1_000)), "1000 tokens a minute");
}

#[test]
fn what_is_given_back_can_be_used_at_once() {
    let mut ledger = Ledger::new([limit(Unit::Tokens, 1_000, MINUTE)], 1);
    let entry = ledger.take(0, 900);
    assert!(ledger.earliest(SECOND, 900).0 > 50 * SECOND);
    ledger.settle(SECOND, &entry, 0);
    assert_eq!(ledger.earliest(SECOND, 900).0, SECOND);
    let entry = ledger.take(SECOND, 900);
    // It came to more than was reserved: that counts too.
    ledger.settle(SECOND, &entry, 1_800);
    assert!(ledger.earliest(2 * SECOND, 10).0 > 60 * SECOND);
}

#[test]
fn what_was_sent_before_counts() {
    let mut ledger = Ledger::new([limit(Unit::Requests, 10, MINUTE)], 1);
    for n in 0..10 {
        ledger.sent_before(100 * SECOND + n * SECOND, 0);
    }
    let (at, _) = ledger.earliest(110 * SECOND, 0);
    assert!((160 * SECOND..161 * SECOND).contains(&at), "{at}");
}

#[test]
fn a_burst_is_for_those_who_waited() {
    let mut ledger = Ledger::new([limit(Unit::Requests, 60, MINUTE)], 5);
    let start = 1_000 * SECOND;
    let at_once = (0..20)
        .take_while(|_| {
            let free = ledger.earliest(start, 0).0 == start;
            if free {
                ledger.take(start, 0);
            }
            free
        })
        .count();
    assert_eq!(at_once, 5);
}

#[test]
fn a_day_is_not_spread_out_and_ends_when_it_is_used_up() {
    let mut ledger = Ledger::new([limit(Unit::Requests, 3, 86_400 * SECOND)], 1);
    for _ in 0..3 {
        assert_eq!(ledger.earliest(5, 0).0, 5);
        ledger.take(5, 0);
    }
    assert!(ledger.earliest(5, 0).0 >= 86_400 * SECOND);
}

#[test]
fn what_answers_give_back_is_used_though_they_come_late() {
    // Twice as much is reserved as is needed, and known to be too much after 400 ms.
    let mut ledger = Ledger::new([limit(Unit::Tokens, 60_000, MINUTE)], 1);
    let (mut now, mut used, mut open) = (0, 0, VecDeque::new());
    while now < 5 * MINUTE {
        let mut at = ledger.earliest(now, 300).0;
        if let Some((due, _)) = open.front() {
            at = at.min(*due);
        }
        now = at.max(now);
        while let Some((due, entry)) = open.front().cloned()
            && due <= now
        {
            ledger.settle(now, &entry, 150);
            open.pop_front();
        }
        if ledger.earliest(now, 300).0 == now {
            open.push_back((now + 400_000, ledger.take(now, 300)));
            used += 150;
        }
    }
    let share = f64::from(used) / 300_000.0;
    assert!((0.97..=1.01).contains(&share), "{share}");
}

#[test]
fn a_request_that_did_not_leave_leaves_no_trace() {
    let limits = [
        limit(Unit::Requests, 60, MINUTE),
        limit(Unit::Tokens, 1_000, MINUTE),
    ];
    let mut ledger = Ledger::new(limits, 1);
    let start = 5 * SECOND;
    let entry = ledger.take(start, 900);
    assert!(ledger.earliest(start, 900).0 > start);
    ledger.withdraw(&entry);
    assert_eq!(ledger.earliest(start, 900).0, start);
}

#[test]
fn a_limit_that_changes_while_a_request_is_under_way_keeps_its_books() {
    let tokens = |amount| limit(Unit::Tokens, amount, MINUTE);
    for (before, after) in [(1_000, 200_000), (200_000, 1_000)] {
        let mut ledger = Ledger::new([tokens(before)], 1);
        let first = ledger.take(0, 4_000);
        ledger.set(SECOND, [tokens(after)], 1);
        let second = ledger.take(2 * SECOND, 500);
        ledger.settle(3 * SECOND, &first, 30);
        ledger.withdraw(&second);
        assert_eq!(ledger.used(tokens(after), 3 * SECOND), 30);
        assert_eq!(ledger.used(tokens(after), 100 * SECOND), 0);
    }
}

#[test]
fn a_limit_that_comes_while_a_request_is_under_way_does_not_give_back_what_it_never_had() {
    let tokens = limit(Unit::Tokens, 1_000, MINUTE);
    let mut ledger = Ledger::new([], 1);
    let early = ledger.take(0, 900);
    ledger.set(0, [tokens], 1);
    ledger.take(0, 600);
    ledger.settle(SECOND, &early, 0);
    assert_eq!(ledger.used(tokens, SECOND), 600);
    // And what it did have is there again when it comes back.
    ledger.set(SECOND, [], 1);
    ledger.set(2 * SECOND, [tokens], 1);
    assert_eq!(ledger.used(tokens, 2 * SECOND), 600);
}

#[test]
fn a_lower_limit_or_a_dear_answer_makes_nobody_wait_for_longer_than_its_window() {
    let tokens = |amount| limit(Unit::Tokens, amount, MINUTE);
    let mut ledger = Ledger::new([tokens(100_000)], 1);
    let entry = ledger.take(0, 100_000);
    ledger.set(0, [tokens(10)], 1);
    assert!(ledger.earliest(0, 1).0 < 61 * SECOND);
    ledger.settle(SECOND, &entry, u64::MAX);
    assert!(ledger.earliest(SECOND, 1).0 < 62 * SECOND);
}

#[test]
fn a_file_that_cannot_be_true_is_passed_over() {
    let requests = limit(Unit::Requests, 10, MINUTE);
    let mut ledger = Ledger::new([requests], 1);
    ledger.take(SECOND, 0);
    let sound = serde_json::to_string(&ledger).unwrap();
    assert!(sound.contains("[[10,1]]"), "{sound}");
    let huge = u64::MAX;
    for pieces in [
        "[[10,1],[9,1]]".to_owned(),
        format!("[[{huge},1]]"),
        format!("[[9,{huge}],[10,{huge}]]"),
    ] {
        let text = sound.replace("[[10,1]]", &pieces);
        ledger.take_over(serde_json::from_str(&text).unwrap(), 2 * SECOND);
        assert_eq!(ledger.used(requests, 2 * SECOND), 1, "{pieces}");
    }
    // A sum is not believed, it is made anew.
    let text = sound.replace("\"sum\":1", "\"sum\":0");
    ledger.take_over(serde_json::from_str(&text).unwrap(), 2 * SECOND);
    assert_eq!(ledger.used(requests, 2 * SECOND), 1);
    assert_eq!(ledger.used(requests, 100 * SECOND), 0);
}

#[test]
fn what_leaves_while_a_limit_is_taken_away_counts_when_it_is_set_again() {
    let requests = |amount| limit(Unit::Requests, amount, MINUTE);
    let day = limit(Unit::Requests, 1_000, DAY);
    let others: [&[Limit]; 3] = [&[], &[day], &[limit(Unit::Tokens, 9_000, MINUTE)]];
    for others in others {
        let keep = |ledger: &mut Ledger, now, own: &[Limit]| {
            ledger.set(now, own.iter().chain(others).copied(), 60);
        };
        let mut ledger = Ledger::new([], 60);
        keep(&mut ledger, 0, &[requests(60)]);
        keep(&mut ledger, SECOND, &[]);
        for n in 0..40 {
            ledger.take(SECOND + n * SECOND / 20, 1);
        }
        keep(&mut ledger, 4 * SECOND, &[requests(60)]);
        assert_eq!(ledger.used(requests(60), 4 * SECOND), 40, "{others:?}");
        // It was not spaced out for the limit that was not there.
        assert_eq!(ledger.earliest(4 * SECOND, 1).0, 4 * SECOND);
        keep(&mut ledger, 4 * SECOND, &[requests(30)]);
        assert!(ledger.earliest(4 * SECOND, 1).0 > 60 * SECOND);
    }
}

#[test]
fn a_limit_of_a_shorter_time_takes_what_a_longer_one_counted_for_as_late_as_it_may_have_left() {
    let day = limit(Unit::Requests, 1_000, DAY);
    let minute = limit(Unit::Requests, 60, MINUTE);
    let now = 1_000 * MINUTE + 50 * SECOND;
    let mut ledger = Ledger::new([day], 1);
    for n in 0..60 {
        ledger.take(now - 40 * SECOND + n * SECOND / 2, 1);
    }
    ledger.set(now, [day, minute], 1);
    assert_eq!(ledger.used(minute, now), 60);
    assert!(ledger.earliest(now, 1).0 > now + 20 * SECOND);
}

#[test]
fn what_was_sent_above_a_low_limit_counts_in_full_for_the_higher_one_that_follows() {
    let tokens = |amount| limit(Unit::Tokens, amount, MINUTE);
    let mut ledger = Ledger::new([tokens(100)], 1);
    ledger.take(0, 4_000);
    ledger.set(SECOND, [tokens(4_100)], 1);
    assert!(ledger.earliest(2 * SECOND, 200).0 > 60 * SECOND);
}

#[test]
fn a_limit_that_comes_while_a_request_is_under_way_hears_what_that_cost_in_the_end() {
    let tokens = |window| limit(Unit::Tokens, 10_000, window);
    for cost in [100, 5_000] {
        let now = 2 * MINUTE;
        let mut ledger = Ledger::new([tokens(MINUTE)], 1);
        let entry = ledger.take(now, 1_000);
        ledger.set(now, [tokens(MINUTE), tokens(DAY)], 1);
        ledger.settle(now + SECOND, &entry, cost);
        assert_eq!(ledger.used(tokens(DAY), now + SECOND), cost);
    }
    let mut ledger = Ledger::new([tokens(DAY)], 1);
    let entry = ledger.take(MINUTE, 1_000);
    ledger.set(MINUTE, [tokens(MINUTE)], 1);
    ledger.settle(MINUTE + SECOND, &entry, 5_000);
    assert_eq!(ledger.used(tokens(MINUTE), MINUTE + SECOND), 5_000);
}

#[test]
fn where_connections_are_slow_a_burst_is_remembered_for_as_much_longer() {
    for (lateness, least) in [(0, SECOND), (250_000, 1_250_000), (MINUTE, 1_500_000)] {
        let mut ledger = Ledger::new([limit(Unit::Requests, 5, SECOND)], 5);
        ledger.arrive_late(lateness);
        let now = MINUTE;
        for _ in 0..5 {
            assert_eq!(ledger.earliest(now, 0).0, now);
            ledger.take(now, 0);
        }
        let next = ledger.earliest(now, 0).0 - now;
        assert!(
            (least..least + 10_000).contains(&next),
            "{lateness}: {next}"
        );
    }
}
