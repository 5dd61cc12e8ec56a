//! What an input was when it was checked: by it a change is noticed, and finished rows are passed over.

use std::sync::Arc;

use crate::identity::{Finished, Shorts};
use crate::lines::Mark;
use crate::pass::FileState;
use crate::row::Content;

pub(crate) const ROWS_A_BLOCK: u64 = 256;

/// Recognises an input that changed between its two readings.
#[derive(Clone)]
pub(crate) struct Seal {
    pub(crate) file: Option<FileState>,
    rows: u64,
    blocks: Arc<[Block]>,
}

/// So many rows, one after the other; the last block has what is left.
struct Block {
    /// A sum over the contents of all rows up to its end.
    so_far: u64,
    /// A sum over the ids of its own rows.
    ids: u128,
    /// Where it ends.
    mark: Option<Mark>,
}

/// A seal that is being made.
pub(crate) struct Sealing {
    file: Option<FileState>,
    rows: u64,
    so_far: u64,
    ids: u128,
    blocks: Vec<Block>,
}

impl Sealing {
    pub(crate) fn of(file: Option<FileState>) -> Sealing {
        Sealing {
            file,
            rows: 0,
            so_far: 0,
            ids: 0,
            blocks: Vec::new(),
        }
    }

    /// Takes the next row, and where one could go on behind it. Whether it is the last of a block.
    pub(crate) fn push(&mut self, content: Content, mark: Option<Mark>) -> bool {
        let id = content.id(0);
        self.rows += 1;
        self.so_far = next_sum(self.so_far, content);
        self.ids = self.ids.wrapping_add(u128::from_be_bytes(id.0));
        let ends = self.rows.is_multiple_of(ROWS_A_BLOCK);
        if ends {
            self.end_block(mark);
        }
        ends
    }

    fn end_block(&mut self, mark: Option<Mark>) {
        self.blocks.push(Block {
            so_far: self.so_far,
            ids: std::mem::take(&mut self.ids),
            mark,
        });
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    pub(crate) fn end(mut self, mark: Option<Mark>) -> Seal {
        self.end_block(mark);
        Seal {
            file: self.file,
            rows: self.rows,
            blocks: self.blocks.into(),
        }
    }
}

/// The sum over the contents of all rows so far, with one more.
pub(crate) fn next_sum(so_far: u64, content: Content) -> u64 {
    so_far.rotate_left(1).wrapping_add(content.id(0).short())
}

/// For every block of an input whether each of its rows is finished.
#[derive(Default)]
pub(crate) struct FinishedBlocks(Vec<bool>);

/// Where the reading goes on behind finished blocks.
pub(crate) struct Behind {
    pub(crate) rows: u64,
    pub(crate) so_far: u64,
    pub(crate) mark: Mark,
}

impl Seal {
    /// Whether the rows so far are those that were checked.
    pub(crate) fn verify(&self, rows: u64, so_far: u64, end: bool) -> Result<(), String> {
        let expected = if end {
            self.blocks.last()
        } else if rows.is_multiple_of(ROWS_A_BLOCK) {
            self.blocks.get((rows / ROWS_A_BLOCK) as usize - 1)
        } else {
            return Ok(());
        };
        if expected.is_some_and(|block| block.so_far == so_far) {
            return Ok(());
        }
        Err(format!(
            "the input changed while it was read (noticed at row {rows}); run again to go on with what it is now"
        ))
    }

    /// Which blocks are finished, where no two rows are equal and `shorts` has them in their order. Half an id
    /// finds a row; that it is the right one, the sum of the whole ids says.
    pub(crate) fn finished_blocks(&self, shorts: &Shorts, finished: &Finished) -> FinishedBlocks {
        if finished.len() == 0 {
            return FinishedBlocks::default();
        }
        let rows = shorts.in_order().chunks(ROWS_A_BLOCK as usize);
        let all_found = |(block, rows): (&Block, &[u64])| {
            let sum = rows.iter().try_fold(0_u128, |sum, short| {
                let id = finished.first_with(*short)?;
                Some(sum.wrapping_add(u128::from_be_bytes(id.0)))
            });
            block.mark.is_some() && sum == Some(block.ids)
        };
        FinishedBlocks(self.blocks.iter().zip(rows).map(all_found).collect())
    }

    /// Behind the finished blocks that begin after so many rows, if one does.
    pub(crate) fn behind(&self, rows: u64, finished: &FinishedBlocks) -> Option<Behind> {
        if !rows.is_multiple_of(ROWS_A_BLOCK) {
            return None;
        }
        let first = (rows / ROWS_A_BLOCK) as usize;
        let rest = finished.0.get(first..)?;
        let count = rest.iter().take_while(|finished| **finished).count();
        let last = &self.blocks[(first + count).checked_sub(1)?];
        (count > 0).then_some(Behind {
            rows: self.rows.min((first + count) as u64 * ROWS_A_BLOCK),
            so_far: last.so_far,
            mark: last.mark?,
        })
    }
}
