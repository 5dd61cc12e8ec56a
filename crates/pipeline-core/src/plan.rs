//! What is to be done: how many rows, which of them are finished, and what stands for them.

use std::collections::HashMap;
use std::path::Path;

use crate::before::{self, Before};
use crate::check::Examined;
use crate::error::Error;
use crate::row::{Content, RowId};
use crate::rows::{Rows, RowsError};
use crate::source::Lasting;

/// What is known of a run before its first request.
#[derive(Default)]
pub(crate) struct Plan {
    /// Rows of this command; `None` where they come one by one.
    pub(crate) rows: Option<u64>,
    /// How many of them are finished.
    pub(crate) finished: u64,
    /// Finished rows that the input does not have.
    pub(crate) not_in_input: u64,
    /// Finished rows that an equal row of the input may stand for.
    pub(crate) spares: HashMap<Content, Vec<RowId>>,
}

impl Plan {
    /// For an input that was read once already.
    ///
    /// Where no row has an equal and nothing limits the input, the first pass has counted all there is to
    /// count. Otherwise the rows are gone through once more.
    pub(crate) async fn new(
        source: &Lasting,
        examined: &Examined,
        before: &mut Before,
        dir: &Path,
        limit: Option<u64>,
        equal_rows: bool,
        max_row_bytes: usize,
    ) -> Result<Plan, Error> {
        let rows = limit.map_or(examined.rows, |limit| limit.min(examined.rows));
        let finished = before.finished.len();
        let mut plan = Plan {
            rows: Some(rows),
            finished: examined.known,
            not_in_input: finished - examined.known,
            spares: HashMap::new(),
        };
        let limited = rows < examined.rows;
        if finished == 0 || !(limited || equal_rows || !examined.repeated.is_empty()) {
            return Ok(plan);
        }
        let mut pass = Pass {
            source,
            examined,
            max_row_bytes,
            limit: rows,
        };
        plan.finished = pass.count(|id, _| before.finished.meet(id)).await?;
        if before.finished.not_met() > 0 && equal_rows {
            plan.spares = before::spares(dir, &before.finished)?;
            if !plan.spares.is_empty() {
                let mut spares = plan.spares.clone();
                plan.finished = pass
                    .count(|id, content| {
                        before.finished.contains(id)
                            || take_spare(&mut spares, content)
                                .is_some_and(|spare| before.finished.meet(spare))
                    })
                    .await?;
            }
        }
        plan.not_in_input = before.finished.not_met();
        Ok(plan)
    }
}

/// A finished row that says the same, if one is left.
pub(crate) fn take_spare(
    spares: &mut HashMap<Content, Vec<RowId>>,
    content: Content,
) -> Option<RowId> {
    if spares.is_empty() {
        None
    } else {
        spares.get_mut(&content)?.pop()
    }
}

/// All rows of an input, once more.
struct Pass<'a> {
    source: &'a Lasting,
    examined: &'a Examined,
    max_row_bytes: usize,
    limit: u64,
}

impl Pass<'_> {
    /// How many of the rows of this command are finished; all rows are shown to `is_finished`.
    async fn count(
        &mut self,
        mut is_finished: impl FnMut(RowId, Content) -> bool,
    ) -> Result<u64, Error> {
        let mut rows = Rows::again(self.source, self.examined, self.max_row_bytes, None)?;
        let mut count = 0;
        loop {
            match rows.next().await {
                Ok(None) => return Ok(count),
                Ok(Some(next)) => {
                    count +=
                        u64::from(is_finished(next.id, next.content) && next.index < self.limit)
                }
                Err(RowsError::Changed(what)) => return Err(Error::usage(what)),
                Err(RowsError::Io(error)) => return Err(error),
            }
        }
    }
}
