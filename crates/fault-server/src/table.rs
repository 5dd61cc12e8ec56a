//! The table: one entry for each thing that endpoints do.

mod access;
mod account;
mod bodies;
mod connection;
mod endpoint;
mod inside;
mod limits;
mod odd;
mod passing;
mod row;
mod unusable;

use crate::fault::{Fault, Section};

pub(crate) use bodies::GOOD;

/// Everything that the server can do wrong, in the order of the page.
///
/// ```
/// use data_generation_fault_server::FAULTS;
/// let stops = FAULTS.iter().filter(|fault| fault.class == "insufficient_quota");
/// assert!(stops.count() > 3);
/// ```
pub static FAULTS: &[Fault] = &JOINED;

const PARTS: [(Section, &[Fault]); 10] = [
    (Section::Limits, limits::FAULTS),
    (Section::Account, account::FAULTS),
    (Section::Access, access::FAULTS),
    (Section::Row, row::FAULTS),
    (Section::Passing, passing::FAULTS),
    (Section::Inside, inside::FAULTS),
    (Section::Unusable, unusable::FAULTS),
    (Section::Odd, odd::FAULTS),
    (Section::Connection, connection::FAULTS),
    (Section::Endpoint, endpoint::FAULTS),
];

const COUNT: usize = {
    let (mut count, mut part) = (0, 0);
    while part < PARTS.len() {
        count += PARTS[part].1.len();
        part += 1;
    }
    count
};

static JOINED: [Fault; COUNT] = joined();

const fn joined() -> [Fault; COUNT] {
    let mut all = [PARTS[0].1[0]; COUNT];
    let (mut part, mut next) = (0, 0);
    while part < PARTS.len() {
        let (section, faults) = PARTS[part];
        let mut n = 0;
        while n < faults.len() {
            all[next] = faults[n];
            all[next].section = section;
            next += 1;
            n += 1;
        }
        part += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::fault::{Always, Disposition, Every, Play};

    #[test]
    fn every_name_is_there_once_and_fits_a_command_line() {
        let names: BTreeSet<&str> = FAULTS.iter().map(|fault| fault.name).collect();
        assert_eq!(names.len(), FAULTS.len());
        let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        for name in names {
            assert!(name.chars().all(kebab) && !name.is_empty(), "{name}");
        }
    }

    #[test]
    fn every_entry_says_what_happens_and_why() {
        for fault in FAULTS {
            let name = fault.name;
            assert!(
                !fault.what.is_empty() && !fault.what.ends_with('.'),
                "{name}"
            );
            let done = matches!(fault.disposition, Disposition::Ok | Disposition::Warned);
            assert_eq!(
                fault.class.is_empty(),
                fault.disposition == Disposition::Ok,
                "{name}"
            );
            assert!(
                fault
                    .class
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
                "{name}"
            );
            assert_eq!(fault.message.is_empty(), done, "{name}: a message or none");
            if fault.disposition == Disposition::StopRun {
                assert!(!fault.cure.is_empty(), "{name}: what is to be changed");
            }
        }
    }

    #[test]
    fn the_numbers_of_requests_fit_the_disposition() {
        for fault in FAULTS {
            let name = fault.name;
            let requests = fault.requests;
            match fault.disposition {
                Disposition::Ok | Disposition::Warned => {
                    assert_eq!(requests.every, Every::AllRows(1), "{name}");
                }
                Disposition::Retry => assert_eq!(requests.once, 2, "{name}"),
                Disposition::FailRow | Disposition::Later => {
                    assert_eq!(requests.always, Always::Exactly(1), "{name}");
                }
                Disposition::StopRun => {
                    assert_eq!(requests.every, Every::InFlightPlusOne, "{name}");
                }
                Disposition::Pause => assert_eq!(requests.every, Every::UntilTooOld, "{name}"),
            }
        }
    }

    #[test]
    fn a_hint_stands_where_the_endpoint_asks_for_a_wait() {
        for fault in FAULTS.iter().filter(|fault| fault.hint.is_some()) {
            assert!(
                matches!(
                    fault.disposition,
                    Disposition::Pause | Disposition::Later | Disposition::Retry
                ),
                "{}",
                fault.name
            );
        }
    }

    #[test]
    fn an_answer_that_counts_holds_the_answer_of_its_row() {
        for fault in FAULTS {
            let done = matches!(fault.disposition, Disposition::Ok | Disposition::Warned);
            if let (true, Play::Answer { body, .. }) = (done, fault.play) {
                assert!(body.contains("{text}"), "{}", fault.name);
            }
        }
    }

    #[test]
    fn the_sections_follow_one_another_and_none_is_empty() {
        assert!(FAULTS.is_sorted_by_key(|fault| fault.section));
        assert!(PARTS.iter().all(|(_, faults)| !faults.is_empty()));
        assert!(FAULTS.len() >= 80, "{} entries", FAULTS.len());
    }
}
