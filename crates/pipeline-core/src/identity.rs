//! Which of several equal rows a row is, and which rows are finished, in a few bytes a row.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use crate::row::{Content, RowId};

/// A hash of a hash would be work for nothing.
#[derive(Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, value: u64) {
        // The table takes its slot from the low bits and its tag from the high ones; ids are even in both.
        self.0 = value;
    }
}

pub(crate) type ShortSet = HashSet<u64, BuildHasherDefault<AsItIs>>;

/// Numbers equal rows 0, 1, 2 ... in the order in which they come.
pub(crate) struct Occurrences {
    known: Known,
    /// How often each content that may come twice came so far.
    counts: HashMap<Content, u64>,
}

enum Known {
    /// The contents that come more than once, found by a first pass over the input.
    Repeated(ShortSet),
    /// Nobody knows what will come: everything seen so far. In parts, because a table that grows holds
    /// two of itself for a moment.
    Seen(Vec<ShortSet>),
}

const PARTS: usize = 256;
/// Finished rows have a start for about so many of them.
const IDS_A_START: usize = 16;

impl Occurrences {
    /// For an input that was read before.
    pub(crate) fn after_a_pass(repeated: ShortSet) -> Occurrences {
        Occurrences {
            known: Known::Repeated(repeated),
            counts: HashMap::new(),
        }
    }

    /// For an input that is read once only.
    pub(crate) fn of_a_stream() -> Occurrences {
        Occurrences {
            known: Known::Seen(vec![ShortSet::default(); PARTS]),
            counts: HashMap::new(),
        }
    }

    /// The number of this row among those that say the same.
    pub(crate) fn next(&mut self, content: Content) -> u64 {
        let short = content.id(0).short();
        let (may_repeat, first) = match &mut self.known {
            Known::Repeated(repeated) => (repeated.contains(&short), 0),
            Known::Seen(parts) => (!parts[(short >> 56) as usize].insert(short), 1),
        };
        if !may_repeat {
            return 0;
        }
        let count = self.counts.entry(content).or_insert(first);
        *count += 1;
        *count - 1
    }

    /// Whether any content came a second time.
    pub(crate) fn any_repeated(&self) -> bool {
        self.counts.values().any(|count| *count > 1)
    }
}

/// The short ids of all rows, gathered by a first pass: 8 bytes a row.
#[derive(Default)]
pub(crate) struct Shorts(Vec<u64>);

impl Shorts {
    pub(crate) fn push(&mut self, content: Content) {
        self.0.push(content.id(0).short());
    }

    /// In the order in which they came, as long as nobody asked for those that come more than once.
    pub(crate) fn in_order(&self) -> &[u64] {
        &self.0
    }

    /// The contents that come more than once; all have come.
    pub(crate) fn repeated(&mut self) -> ShortSet {
        self.0.sort_unstable();
        let pairs = self.0.windows(2).filter(|pair| pair[0] == pair[1]);
        pairs.map(|pair| pair[0]).collect()
    }

    /// How many of `finished` the input has as the first of their kind; after [`repeated`](Shorts::repeated).
    pub(crate) fn known(self, finished: &Finished) -> u64 {
        let mut rest = self.0.iter().peekable();
        let mut known = 0;
        for id in &finished.ids {
            let short = id.short();
            while rest.next_if(|other| **other < short).is_some() {}
            known += u64::from(rest.peek() == Some(&&short));
        }
        known
    }
}

/// The rows that are in the dataset: 16 bytes a row, half a byte to find it by, and a bit for whether the input
/// has it.
#[derive(Default)]
pub(crate) struct Finished {
    ids: Vec<RowId>,
    /// Where the ids begin whose first bits are 0, 1, 2 ...: a search through all of them would miss the cache
    /// at every step.
    starts: Vec<usize>,
    /// How many bits behind the first ones there are.
    behind: u32,
    met: Vec<u64>,
    met_count: u64,
}

impl Finished {
    /// Takes the ids in any order; gives back one that stands twice, if any does.
    pub(crate) fn new(mut ids: Vec<RowId>) -> (Finished, Option<RowId>) {
        ids.sort_unstable_by_key(|id| u128::from_be_bytes(id.0));
        let doubled = ids
            .windows(2)
            .find(|pair| pair[0] == pair[1])
            .map(|pair| pair[0]);
        let met = vec![0; ids.len().div_ceil(64)];
        let behind = 64
            - (ids.len() / IDS_A_START)
                .checked_ilog2()
                .unwrap_or(0)
                .max(1);
        let parts = 1_usize << (64 - behind);
        // First how many each part has, and then what those before it have together.
        let mut starts = vec![0; parts + 1];
        for id in &ids {
            starts[(id.short() >> behind) as usize + 1] += 1;
        }
        let mut so_far = 0;
        for start in &mut starts {
            so_far += *start;
            *start = so_far;
        }
        (
            Finished {
                ids,
                starts,
                behind,
                met,
                met_count: 0,
            },
            doubled,
        )
    }

    pub(crate) fn len(&self) -> u64 {
        self.ids.len() as u64
    }

    pub(crate) fn contains(&self, id: RowId) -> bool {
        self.find(id).is_some()
    }

    /// The first one with this half of an id.
    pub(crate) fn first_with(&self, short: u64) -> Option<RowId> {
        let (_, ids) = self.part(short)?;
        ids.get(before(ids, |id| id.short() < short))
            .copied()
            .filter(|id| id.short() == short)
    }

    /// The ids that begin with the same bits, and how many are before them.
    fn part(&self, short: u64) -> Option<(usize, &[RowId])> {
        let part = (short >> self.behind) as usize;
        let (from, to) = (*self.starts.get(part)?, *self.starts.get(part + 1)?);
        Some((from, &self.ids[from..to]))
    }

    fn find(&self, id: RowId) -> Option<usize> {
        let (from, ids) = self.part(id.short())?;
        let number = u128::from_be_bytes(id.0);
        let at = before(ids, |other| u128::from_be_bytes(other.0) < number);
        (ids.get(at) == Some(&id)).then_some(from + at)
    }

    /// Notes that the input has this row; false where the row is not finished.
    pub(crate) fn meet(&mut self, id: RowId) -> bool {
        let Some(at) = self.find(id) else {
            return false;
        };
        let bit = 1 << (at % 64);
        if self.met[at / 64] & bit == 0 {
            self.met[at / 64] |= bit;
            self.met_count += 1;
        }
        true
    }

    /// How many the input was not seen to have.
    pub(crate) fn not_met(&self) -> u64 {
        self.len() - self.met_count
    }

    pub(crate) fn is_met(&self, id: RowId) -> bool {
        self.find(id)
            .is_some_and(|at| self.met[at / 64] & (1 << (at % 64)) != 0)
    }

    pub(crate) fn forget_met(&mut self) {
        self.met.fill(0);
        self.met_count = 0;
    }
}

/// How many of these ids, which are sorted, come first. A search would wait for memory at every step; where there are
/// only a few, as hashes have it, nothing that is read depends on what was read before, and so it all comes at once.
fn before(ids: &[RowId], comes_first: impl Fn(&RowId) -> bool) -> usize {
    if ids.len() > 4 * IDS_A_START {
        return ids.partition_point(comes_first);
    }
    ids.iter().filter(|id| comes_first(id)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents() -> [Content; 3] {
        ["a", "b", "c"].map(|text| Content::of_bytes(text.as_bytes()))
    }

    #[test]
    fn equal_rows_are_numbered_in_order_with_and_without_a_first_pass() {
        let [a, b, c] = contents();
        let rows = [a, b, a, c, a, b];
        let mut shorts = Shorts::default();
        rows.iter().for_each(|row| shorts.push(*row));
        let repeated = shorts.repeated();
        assert_eq!(repeated.len(), 2);
        for mut occurrences in [
            Occurrences::after_a_pass(repeated),
            Occurrences::of_a_stream(),
        ] {
            let numbers: Vec<u64> = rows.iter().map(|row| occurrences.next(*row)).collect();
            assert_eq!(numbers, [0, 0, 1, 0, 2, 1]);
            assert!(occurrences.any_repeated());
        }
    }

    #[test]
    fn a_first_pass_counts_the_finished_rows_that_the_input_still_has() {
        let [a, b, c] = contents();
        let (finished, doubled) = Finished::new(vec![c.id(0), a.id(0), b.id(1)]);
        assert_eq!(doubled, None);
        let mut shorts = Shorts::default();
        [b, a].iter().for_each(|row| shorts.push(*row));
        assert!(shorts.repeated().is_empty());
        assert_eq!(shorts.known(&finished), 1);
    }

    #[test]
    fn finished_rows_are_met_once_each() {
        let [a, b, c] = contents();
        let (mut finished, _) = Finished::new(vec![a.id(0), b.id(0)]);
        assert!(finished.meet(a.id(0)) && finished.meet(a.id(0)) && !finished.meet(c.id(0)));
        assert_eq!((finished.len(), finished.not_met()), (2, 1));
        assert!(finished.is_met(a.id(0)) && !finished.is_met(b.id(0)) && !finished.is_met(c.id(0)));
        assert_eq!(
            Finished::new(vec![a.id(0), b.id(0), a.id(0)]).1,
            Some(a.id(0))
        );
    }

    #[test]
    fn every_finished_row_is_found_however_many_there_are_and_no_other() {
        for count in [0, 1, 2, 15, 16, 33, 1000, 5000] {
            let id = |n: u32| Content::of_bytes(&n.to_le_bytes()).id(0);
            let (mut finished, doubled) = Finished::new((0..count).map(id).collect());
            assert_eq!(doubled, None);
            assert!((0..count).all(|n| finished.contains(id(n)) && !finished.is_met(id(n))));
            assert!((count..2 * count + 9).all(|n| !finished.meet(id(n))));
            assert!((0..count).all(|n| finished.meet(id(n))));
            assert_eq!(finished.not_met(), 0, "{count}");
            let ends = [RowId([0; 16]), RowId([0xff; 16])];
            assert!(ends.iter().all(|id| !finished.contains(*id)));
            let (finished, _) = Finished::new(ends.to_vec());
            assert!(ends.iter().all(|id| finished.contains(*id)));
        }
        // Ids that no hash has made stand close together.
        let id = |n: u32| RowId(u128::from(2 * n).to_be_bytes());
        let (finished, _) = Finished::new((0..1000).map(id).collect());
        for n in 0..1000 {
            let between = RowId((u128::from(2 * n) + 1).to_be_bytes());
            assert!(finished.contains(id(n)) && !finished.contains(between));
        }
        assert_eq!(finished.first_with(0), Some(id(0)));
    }
}
