//! The numbers of a journal: they rise from line to line, and so an answer that stands twice is found while nothing
//! but the last number is held.

/// Watches that numbers rise.
#[derive(Default)]
pub(crate) struct Rising {
    first: Option<u64>,
    last: Option<u64>,
}

impl Rising {
    /// The number of the next line, or what is wrong with it. Either way the lines behind it are measured by it: one
    /// number that is too high must not make all of them wrong.
    pub(crate) fn next(&mut self, number: u64) -> Result<(), String> {
        self.first.get_or_insert(number);
        match self.last.replace(number) {
            Some(last) if number <= last => Err(format!(
                "has the number {number} behind the number {last}, so an answer stands here twice or a number is \
                 damaged; a run with `--repair` moves such lines aside and goes on without them"
            )),
            _ => Ok(()),
        }
    }

    /// Goes on behind lines that somebody else has watched, or says what is wrong with the first of them.
    pub(crate) fn go_on(&mut self, lines: Rising) -> Result<(), String> {
        let seam = lines.first.map_or(Ok(()), |first| self.next(first));
        self.last = lines.last.or(self.last);
        seam
    }
}

/// The positions of as few numbers as possible without which the others rise, in order. Of equal ones the first stays.
pub(crate) fn in_the_way(numbers: &[u64]) -> Vec<usize> {
    // Where the best rising sequence of each length ends, and for each number the one before it in its own.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(numbers.len());
    for (at, number) in numbers.iter().enumerate() {
        let length = ends.partition_point(|end| numbers[*end] < *number);
        before.push(length.checked_sub(1).map(|shorter| ends[shorter]));
        match ends.get_mut(length) {
            Some(end) if numbers[*end] == *number => {}
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    let mut stays = vec![false; numbers.len()];
    let mut next = ends.last().copied();
    while let Some(at) = next {
        stays[at] = true;
        next = before[at];
    }
    (0..numbers.len()).filter(|at| !stays[*at]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_number_is_told_once() {
        for (numbers, wrong) in [
            (&[1, 2, 7, 8][..], &[][..]),
            (&[1, 2, 2, 3], &[2]),
            (&[1, 2, 900, 4, 5], &[3]),
            (&[3, 4, 1, 5], &[2]),
            (&[0], &[]),
        ] {
            let mut rising = Rising::default();
            let told: Vec<usize> = (0..numbers.len())
                .filter(|at| rising.next(numbers[*at]).is_err())
                .collect();
            assert_eq!(told, wrong, "{numbers:?}");
        }
    }

    #[test]
    fn numbers_that_somebody_else_watched_must_rise_from_those_before() {
        let watched = |numbers: &[u64]| {
            let mut rising = Rising::default();
            numbers
                .iter()
                .for_each(|number| rising.next(*number).unwrap());
            rising
        };
        for (parts, told) in [
            ([&[1, 2][..], &[7, 8], &[9]], [true, true, true]),
            ([&[1, 2], &[2, 3], &[4]], [true, false, true]),
            ([&[5, 9], &[4, 6], &[7]], [true, false, true]),
            ([&[5, 9], &[], &[7]], [true, true, false]),
            ([&[], &[0], &[1]], [true, true, true]),
        ] {
            let mut rising = Rising::default();
            let seen = parts.map(|numbers| rising.go_on(watched(numbers)).is_ok());
            assert_eq!(seen, told, "{parts:?}");
        }
    }

    #[test]
    fn the_fewest_lines_are_in_the_way_and_of_equal_ones_not_the_first() {
        for (numbers, wrong) in [
            (&[][..], &[][..]),
            (&[1, 2, 7, 8], &[]),
            (&[1, 2, 2, 3], &[2]),
            (&[1, 2, 900, 4, 5, 6], &[2]),
            (&[3, 4, 1, 5], &[2]),
            (&[5, 5, 5], &[1, 2]),
            (&[1, 2, 3, 1, 2, 3, 4], &[3, 4, 5]),
        ] {
            assert_eq!(in_the_way(numbers), wrong, "{numbers:?}");
        }
    }
}
