//! What one process knows of those that it keeps limits together with.

use std::collections::VecDeque;
use std::io;

use serde::{Deserialize, Serialize};

use crate::LimitFile;
use crate::kept::Kept;
use crate::ledger::{Entry, Ledger, Limit, Micros, SECOND};
use crate::limit_file::{Locked, Stamp, Standing};
use crate::members::Members;

/// Nobody is further ahead of others than what may leave in this time, and than so many permits: where permits follow
/// each other faster than clocks ring, strict turns would leave most of them unused.
const TOGETHER: Micros = 50_000;
const MOST_AHEAD: u64 = 100;
/// How soon whoever lets somebody else go first looks again.
const SOONEST: Micros = 1_000;
const LATEST: Micros = 250_000;

/// The books of all who share limits, in a file.
#[derive(Debug)]
pub(crate) struct Share {
    file: LimitFile,
    /// The state of the file that is known here.
    known: Stamp,
    /// Which of the members this is.
    id: u64,
    members: Members,
    /// When it was last looked who has ended.
    looked: Micros,
    /// What left before this process began, until it is in the books.
    before: Vec<Before>,
    /// For others to see that this process is there.
    _standing: Option<Standing>,
    /// Since when the file cannot be used.
    trouble: Option<Micros>,
    /// Another process has its lock for longer than anybody needs it.
    is_stuck: bool,
    has_told: bool,
    /// Whether it has been told that the file held nothing of use.
    is_begun_anew: bool,
    news: VecDeque<News>,
}

/// What a source has sent: when, and of how many tokens.
#[derive(Debug)]
struct Before {
    source: u64,
    sent: Vec<(Micros, u64)>,
    told: Micros,
    /// It did not share the limits then.
    is_apart: bool,
}

/// Something that the user should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) class: &'static str,
    pub(crate) message: String,
}

/// What stands in the file.
#[derive(Deserialize)]
struct Read {
    ledger: Ledger,
    members: Members,
}

#[derive(Serialize)]
struct Written<'a> {
    ledger: &'a Ledger,
    members: &'a Members,
}

/// What was sent and which limits are kept, for a moment in which nobody else looks or changes anything.
pub(crate) struct Books<'a> {
    pub(crate) kept: &'a mut Kept,
    ledger: &'a mut Ledger,
    members: Option<(&'a mut Members, u64)>,
    now: Micros,
    /// Others have to hear of it.
    is_changed: bool,
}

impl Share {
    pub(crate) fn new(file: LimitFile) -> Share {
        let id = fastrand::u64(..);
        // Without it this process is taken to be gone where it has nothing to send for a minute.
        let standing = file
            .stand(id)
            .inspect_err(|error| tracing::debug!(%error, "others do not see this process"));
        tracing::info!(
            file = %file.path().display(),
            "limits are shared with what this user runs on this machine, with no other machine"
        );
        Share {
            file,
            known: Stamp::default(),
            id,
            _standing: standing.ok(),
            members: Members::default(),
            looked: 0,
            before: Vec::new(),
            trouble: None,
            is_stuck: false,
            has_told: false,
            is_begun_anew: false,
            news: VecDeque::new(),
        }
    }

    /// Looks and changes, alone among all processes: `act` sees what all have sent, and all see what it leaves. Where
    /// the file cannot be read or written, the limits are kept as far as they are known here, and the ledger
    /// remembers that it is ahead of the file.
    pub(crate) fn with<T>(
        &mut self,
        ledger: &mut Ledger,
        kept: &mut Kept,
        now: Micros,
        act: impl FnOnce(&mut Books<'_>) -> T,
    ) -> T {
        let file = self.file.clone();
        let locked = file.lock(!self.is_stuck).and_then(|locked| {
            self.read(&locked, ledger, now)?;
            Ok(locked)
        });
        let is_fewer = self.looked.saturating_add(SECOND) <= now && {
            self.looked = now;
            self.members.forget(self.id, now, |id| file.is_standing(id))
        };
        let is_shown = self.members.show(self.id, &kept.own(), now);
        self.hear_of_others(ledger, kept, now);
        let is_grown = !self.before.is_empty();
        for before in self.before.drain(..) {
            let (source, sent) = (before.source, &before.sent);
            match before.is_apart {
                true => ledger.look_back_apart(source, sent, before.told),
                false => ledger.look_back(source, sent, now),
            }
        }
        let mut books = Books {
            kept: &mut *kept,
            ledger: &mut *ledger,
            members: Some((&mut self.members, self.id)),
            now,
            is_changed: is_shown || is_grown || is_fewer,
        };
        let value = act(&mut books);
        let is_changed = books.is_changed | self.members.show(self.id, &kept.own(), now);
        let saved = locked.and_then(|locked| match is_changed || ledger.is_unsaved {
            true => self.write(&locked, ledger),
            false => Ok(()),
        });
        ledger.is_unsaved = saved.is_err() && (is_changed || ledger.is_unsaved);
        match saved {
            Ok(()) => self.is_well(),
            Err(error) => self.met(&error, now),
        }
        value
    }

    fn read(&mut self, locked: &Locked<'_>, ledger: &mut Ledger, now: Micros) -> io::Result<()> {
        if locked.is_another {
            // What stood in the old one nobody else knows any more.
            ledger.is_unsaved = true;
            self.known = Stamp::default();
        }
        let Some((stamp, text)) = locked.read(self.known)? else {
            return Ok(());
        };
        if !stamp.may_follow(self.known) {
            // Somebody put an older state back, or began anew: the file does not know what was sent since.
            ledger.is_unsaved = true;
        }
        match serde_json::from_slice(&text) {
            Ok(Read {
                ledger: theirs,
                members,
            }) => {
                ledger.take_over(theirs, now);
                self.members.take_over(members, self.id, now);
            }
            Err(_) if text.is_empty() && locked.is_blank()? => {}
            Err(error) if !text.is_empty() => {
                tracing::info!(%error, "the shared limits are of another version, and begun anew");
            }
            Err(_) if std::mem::replace(&mut self.is_begun_anew, true) => {}
            Err(_) => self.tell_begun_anew(),
        }
        self.known = stamp;
        Ok(())
    }

    fn tell_begun_anew(&mut self) {
        let message = format!(
            "{} holds nothing that can be read, so it is begun anew: what others with the same key sent before \
             is not known",
            self.file.path().display()
        );
        let class = "limits_begun_anew";
        self.news.push_back(News { class, message });
    }

    fn write(&mut self, locked: &Locked<'_>, ledger: &Ledger) -> io::Result<()> {
        let members = &self.members;
        let text = serde_json::to_vec(&Written { ledger, members })?;
        self.known = locked.write(self.known, &text)?;
        Ok(())
    }

    /// All keep the lowest that any of them keeps: they ask the same endpoint with the same key, so one of them knows
    /// something that the others do not.
    fn hear_of_others(&mut self, ledger: &mut Ledger, kept: &mut Kept, now: Micros) {
        let of_others = self.members.limits_of_others(self.id);
        if let Some(lowered) = kept.set_others(of_others) {
            let limits: Vec<String> = lowered.iter().map(Limit::to_string).collect();
            if limits.is_empty() {
                tracing::info!("no other process with the same key keeps lower limits any more");
            } else {
                let message = format!(
                    "another process with the same key keeps {}: as long as it runs, this one keeps that too",
                    limits.join(" and ")
                );
                let class = "limits_of_another";
                self.news.push_back(News { class, message });
            }
        }
        keep(ledger, kept, now);
    }

    fn is_well(&mut self) {
        (self.trouble, self.is_stuck) = (None, false);
        if std::mem::take(&mut self.has_told) {
            tracing::info!("the limits are shared again");
        }
    }

    fn met(&mut self, error: &io::Error, now: Micros) {
        let since = *self.trouble.get_or_insert(now);
        self.is_stuck = error.kind() == io::ErrorKind::WouldBlock;
        // On a busy machine it may be somebody who has to wait for the processor himself.
        let is_short = self.is_stuck && now.saturating_sub(since) < SECOND;
        if is_short || std::mem::replace(&mut self.has_told, true) {
            return;
        }
        let message = format!(
            "the limits are not shared for now: {} could not be used ({error}); this run goes on to keep them alone, \
             and others with the same key do not hear of what it sends",
            self.file.path().display()
        );
        let class = "limits_not_shared";
        self.news.push_back(News { class, message });
    }

    /// What a source has sent before this process began, as far as nobody here has counted it: from the next look
    /// into the file on, because each costs something.
    pub(crate) fn look_back(
        &mut self,
        source: u64,
        sent: Vec<(Micros, u64)>,
        told: Micros,
        is_apart: bool,
    ) {
        self.before.push(Before {
            source,
            sent,
            told,
            is_apart,
        });
    }

    pub(crate) fn news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    pub(crate) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// With how many the permits are shared at present.
    pub(crate) fn others_waiting(&self, now: Micros) -> usize {
        self.members.others_waiting(self.id, now)
    }

    /// Nobody waits for this one any more, and what it keeps is no longer kept for its sake.
    pub(crate) fn leave(&mut self, ledger: &mut Ledger, now: Micros) -> io::Result<()> {
        let file = self.file.clone();
        let locked = file.lock(!self.is_stuck)?;
        self.read(&locked, ledger, now)?;
        self.members.leave(self.id);
        self.write(&locked, ledger)
    }
}

impl<'a> Books<'a> {
    /// Those of a process that shares nothing.
    pub(crate) fn alone(ledger: &'a mut Ledger, kept: &'a mut Kept, now: Micros) -> Books<'a> {
        Books {
            kept,
            ledger,
            members: None,
            now,
            is_changed: false,
        }
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        self.ledger
    }

    /// The ledger, for something that all have to know.
    pub(crate) fn change(&mut self) -> &mut Ledger {
        self.is_changed = true;
        self.ledger
    }

    /// Keeps what is to be kept now. Says whether that is something else than before.
    pub(crate) fn keep(&mut self) -> bool {
        keep(self.ledger, self.kept, self.now)
    }

    /// Somebody here waits. It is his turn from when the windows have room: if it were from when requests are far enough
    /// apart, whoever may send more of them at once would always be there before him.
    pub(crate) fn wait(&mut self, tokens: u64) {
        let (since, ahead) = (self.ledger.room(self.now, tokens), self.ahead(tokens));
        if let Some((members, id)) = &mut self.members {
            self.is_changed |= members.wait(*id, since, ahead);
        }
    }

    /// Whether nobody else has to go before a request of so many tokens.
    pub(crate) fn is_own_turn(&self, tokens: u64) -> bool {
        self.members.as_ref().is_none_or(|(members, id)| {
            let ahead = self.ahead(tokens);
            members.is_turn_of(*id, self.now, ahead)
        })
    }

    /// When whoever let somebody else go first looks again.
    pub(crate) fn look_again(&self, tokens: u64) -> Micros {
        self.now + (self.ledger.pace(tokens) / 4).clamp(SOONEST, LATEST)
    }

    /// A request of so many tokens leaves.
    pub(crate) fn take(&mut self, tokens: u64) -> Entry {
        let ahead = self.ahead(tokens);
        if let Some((members, id)) = &mut self.members {
            members.serve(*id, ahead);
        }
        let now = self.now;
        self.change().take(now, tokens)
    }

    /// How many permits this process may be ahead of others.
    fn ahead(&self, tokens: u64) -> u64 {
        (TOGETHER / self.ledger.pace(tokens).max(1)).min(MOST_AHEAD)
    }
}

fn keep(ledger: &mut Ledger, kept: &Kept, now: Micros) -> bool {
    let all = kept.all();
    let is_new = !ledger.limits().eq(all.iter().copied()) || ledger.burst() != kept.burst;
    if is_new {
        ledger.set(now, all, kept.burst);
    }
    is_new
}

#[cfg(test)]
mod tests;
