//! Processes that share limits, and whatever may happen to them, decided by dice, on a clock of their own.

use std::cell::RefCell;
use std::fs::{self, File};
use std::future::poll_fn;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::Poll;

use futures::StreamExt;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use proptest::prelude::*;
use tokio::time::{Sleep, sleep};

use super::*;
use crate::LimitFile;
use crate::cases::cases;
use crate::ledger::{SECOND, Unit};
use crate::pace::Push;

mod deeds;
mod server;

use deeds::{Ask, Deed, Harm, Wishes, deeds, wishes};
use server::Server;

/// So many processes live at the same time.
const MOST: usize = 5;
/// Nobody waits until a day is over.
const LONGEST: Duration = Duration::from_secs(700);
/// Where the second copy stands in the file.
const COPY: u64 = 1 << 20;

/// One that shares limits, with all that it does.
struct Process {
    number: usize,
    limiter: Rc<Limiter>,
    wishes: Wishes,
    work: FuturesUnordered<LocalBoxFuture<'static, ()>>,
    stopped: Option<Instant>,
    /// The file that shows that it is there.
    standing: PathBuf,
}

struct World {
    dir: tempfile::TempDir,
    start: Instant,
    booted: Instant,
    server: Rc<RefCell<Server>>,
    processes: Vec<Process>,
    /// Until when the file cannot be used, and who has its lock.
    blocked: Option<(Instant, Option<File>)>,
    /// What stood in the file at some time.
    backup: Option<Vec<u8>>,
    /// Who is looked at first changes.
    round: usize,
}

fn since(start: Instant) -> Micros {
    start.elapsed().as_micros() as Micros
}

fn own(limiter: &Limiter) -> Vec<Limit> {
    limiter.lock().kept.own()
}

impl World {
    fn file(&self) -> PathBuf {
        self.dir.path().join("x")
    }

    fn now(&self) -> Micros {
        since(self.start)
    }

    /// The files that show who is there.
    fn standing(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.dir.path()).unwrap();
        let files = files.map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_some()).collect()
    }

    fn begin(&mut self, wishes: &Wishes) {
        // Nobody starts who cannot open the file.
        if self.processes.len() == MOST || self.file().is_dir() {
            return;
        }
        let options = wishes.options(&LimitFile::open(self.file()).unwrap());
        let before = self.standing();
        let limiter = Limiter::begin(&options, since(self.booted));
        let mut standing = self.standing().into_iter();
        let standing = standing.find(|path| !before.contains(path)).unwrap();
        let number = self.server.borrow_mut().begins(own(&limiter), self.now());
        self.processes.push(Process {
            number,
            limiter: Rc::new(limiter),
            wishes: wishes.clone(),
            work: FuturesUnordered::new(),
            stopped: None,
            standing,
        });
        let last = self.processes.len() - 1;
        self.processes[last].limiter.knows(0);
        self.tells(last);
    }

    /// What a process keeps now stands in the file, where it can be used.
    fn tells(&self, at: usize) {
        let process = &self.processes[at];
        let limits = own(&process.limiter);
        self.server
            .borrow_mut()
            .keeps(process.number, limits, self.now());
    }

    fn ask(&mut self, at: usize, ask: &Ask) {
        let process = &self.processes[at];
        let (limiter, number) = (Rc::clone(&process.limiter), process.number);
        let (server, start, ask) = (Rc::clone(&self.server), self.start, ask.clone());
        server.borrow_mut().waits(number, since(start));
        process.work.push(Box::pin(async move {
            let none = |_: &str, _, _| {};
            let Ok(permit) = limiter.acquire_for(|| ask.tokens, LONGEST, none).await else {
                server.borrow_mut().goes_on(number, since(start));
                return;
            };
            let tells = || {
                server
                    .borrow_mut()
                    .keeps(number, own(&limiter), since(start))
            };
            tells();
            let arrival = server
                .borrow_mut()
                .arrives(number, ask.tokens, since(start));
            sleep(Duration::from_millis(ask.millis)).await;
            if let Some(said) = ask.said {
                limiter.learn(&[said]);
                tells();
                server.borrow_mut().disturbed(since(start));
            }
            let Some(cost) = ask.cost else {
                return;
            };
            let cost = cost.map(|cost| (ask.tokens as f64 * cost) as u64);
            server.borrow_mut().came_to(arrival, cost);
            match cost {
                Some(cost) => permit.settle(cost),
                None => permit.give_back(),
            }
        }));
    }

    fn end(&mut self, at: usize, is_orderly: bool) {
        let Process {
            number,
            limiter,
            work,
            standing,
            ..
        } = self.processes.swap_remove(at);
        self.server.borrow_mut().ends(number, self.now());
        drop(work);
        if !is_orderly {
            let share = limiter.lock().share.take();
            drop(share);
            // A killed one clears nothing away, but the system takes its lock.
            File::create(standing).unwrap();
        }
    }

    /// Where the copies stand in the file, and their numbers; the newer one first.
    fn copies(&self, text: &[u8]) -> Vec<usize> {
        let number = |at: &usize| text.get(at + 9..at + 25).map(<[u8]>::to_vec);
        let mut copies = vec![0, COPY as usize];
        copies.retain(|at| text.get(*at..at + 9) == Some(b"limits 2 "));
        copies.sort_by_key(|at| std::cmp::Reverse(number(at)));
        copies
    }

    /// Makes one of the two copies something that nobody wrote.
    fn tear(&mut self, is_newer: bool) {
        let Ok(mut text) = fs::read(self.file()) else {
            return;
        };
        let copies = self.copies(&text);
        let copy = if is_newer {
            copies.first()
        } else {
            copies.get(1)
        };
        if let Some(byte) = copy.and_then(|at| text.get_mut(at + 70)) {
            *byte ^= 1;
            self.put(&text);
        }
    }

    /// The same file with something else in it.
    fn put(&self, text: &[u8]) {
        fs::write(self.file(), text).unwrap();
    }

    fn harm(&mut self, harm: &Harm) {
        if self.blocked.is_some() {
            return;
        }
        if let Harm::OlderCopy = harm {
            // Nobody needs it.
            self.tear(false);
            return;
        }
        let now = self.now();
        self.server.borrow_mut().trouble(now);
        let mut locked = None;
        let text = fs::read(self.file()).unwrap_or_default();
        let for_a_while = match harm {
            Harm::Cut(length) => {
                let length = text.len().min(*length as usize);
                self.put(&text[..length]);
                None
            }
            Harm::Rubbish(seed) => {
                let mut random = fastrand::Rng::with_seed(*seed);
                let rubbish: Vec<u8> = text.iter().map(|_| random.u8(..)).collect();
                self.put(&rubbish);
                None
            }
            Harm::NewerCopy | Harm::OlderCopy => {
                self.tear(true);
                None
            }
            Harm::Removed => {
                drop(fs::remove_file(self.file()));
                None
            }
            Harm::Restored => {
                if let Some(backup) = &self.backup {
                    self.put(backup);
                }
                self.backup = Some(text);
                None
            }
            Harm::Unusable(millis) => {
                drop(fs::rename(self.file(), self.dir.path().join("aside")));
                fs::create_dir(self.file()).unwrap();
                Some(*millis)
            }
            Harm::Locked(millis) => {
                let file = File::options()
                    .append(true)
                    .create(true)
                    .open(self.file())
                    .unwrap();
                file.lock().unwrap();
                locked = Some(file);
                Some(*millis)
            }
        };
        match for_a_while {
            Some(millis) => {
                let until = Instant::now() + Duration::from_millis(millis);
                self.blocked = Some((until, locked));
            }
            None => self.server.borrow_mut().heals(now),
        }
    }

    fn heal(&mut self) {
        if self.blocked.take().is_some() {
            if self.file().is_dir() {
                fs::remove_dir(self.file()).unwrap();
                drop(fs::rename(self.dir.path().join("aside"), self.file()));
            }
            self.server.borrow_mut().heals(self.now());
        }
    }

    fn boot(&mut self) {
        while !self.processes.is_empty() {
            self.end(0, false);
        }
        self.booted = Instant::now();
        self.server.borrow_mut().is_new(self.now());
    }

    async fn play(&mut self, deed: &Deed) {
        let living = self.processes.len().max(1);
        let at = |who: usize| who % living;
        if self.processes.is_empty()
            && !matches!(deed, Deed::Start(_) | Deed::Pass(_) | Deed::Harm(_))
        {
            return;
        }
        match deed {
            Deed::Start(wishes) => self.begin(wishes),
            Deed::Ask(who, ask, times) => {
                for _ in 0..*times {
                    self.ask(at(*who), ask);
                }
            }
            Deed::Pass(millis) => self.pass(Duration::from_millis(*millis), false).await,
            Deed::Stop(who, millis) => {
                let process = &mut self.processes[at(*who)];
                process.stopped = Some(Instant::now() + Duration::from_millis(*millis));
                let now = since(self.start);
                self.server.borrow_mut().stops(process.number, true, now);
            }
            Deed::End(who) => self.end(at(*who), true),
            Deed::Die(who, torn) => {
                self.end(at(*who), false);
                if *torn && self.blocked.is_none() {
                    self.tear(false);
                }
            }
            Deed::Set(who, wishes) => {
                let at = at(*who);
                let process = &mut self.processes[at];
                if process.stopped.is_none() {
                    process.wishes = wishes.clone();
                    process
                        .limiter
                        .set(&wishes.options(&LimitFile::open("/dev/null").unwrap()));
                    self.tells(at);
                    self.server.borrow_mut().disturbed(self.now());
                }
            }
            Deed::PushBack(who) => {
                for push in [Push::First, Push::Again, Push::Again] {
                    let limiter = &self.processes[at(*who)].limiter;
                    limiter.pushed_back(push, Duration::ZERO);
                }
                let mut server = self.server.borrow_mut();
                server.has_pushed_back = true;
                server.disturbed(self.now());
            }
            Deed::Harm(harm) => self.harm(harm),
            Deed::Boot => self.boot(),
        }
    }

    /// Lets everybody work for so long, or until nobody has anything to do.
    async fn pass(&mut self, time: Duration, until_done: bool) {
        let end = Instant::now() + time;
        loop {
            let stopped = self.processes.iter().filter_map(|process| process.stopped);
            let healed = self.blocked.iter().map(|(until, _)| *until);
            let next = stopped.chain(healed).fold(end, Instant::min);
            let is_done = {
                let mut timer = Box::pin(sleep_until(next));
                poll_fn(|cx| self.work(cx, timer.as_mut(), until_done)).await
            };
            let now = Instant::now();
            if self
                .blocked
                .as_ref()
                .is_some_and(|(until, _)| *until <= now)
            {
                self.heal();
            }
            for process in &mut self.processes {
                if process.stopped.is_some_and(|until| until <= now) {
                    process.stopped = None;
                    let mut server = self.server.borrow_mut();
                    server.stops(process.number, false, since(self.start));
                }
            }
            self.server.borrow().nobody_waits_for_ever(self.now());
            if is_done || now >= end {
                return;
            }
        }
    }

    fn work(
        &mut self,
        cx: &mut std::task::Context<'_>,
        timer: std::pin::Pin<&mut Sleep>,
        until_done: bool,
    ) -> Poll<bool> {
        self.round += 1;
        let count = self.processes.len();
        for n in 0..count {
            let process = &mut self.processes[(self.round + n) % count];
            if process.stopped.is_none() {
                while let Poll::Ready(Some(())) = process.work.poll_next_unpin(cx) {}
            }
        }
        let mut processes = self.processes.iter();
        let is_done = processes.all(|process| process.stopped.is_some() || process.work.is_empty());
        match is_done && until_done {
            true => Poll::Ready(true),
            false => timer.poll(cx).map(|()| false),
        }
    }

    /// In the end everybody who waits gets what he waits for, and what all keep is used.
    async fn come_to_an_end(&mut self, wishes: &Wishes) {
        self.heal();
        self.begin(wishes);
        // Nobody needs those who stand still, not even where it is their turn.
        for process in &mut self.processes {
            process.stopped = process.stopped.map(|_| Instant::now() + 1_000 * LONGEST);
        }
        self.serve_all().await;
        for process in &mut self.processes {
            process.stopped = None;
            let now = since(self.start);
            self.server.borrow_mut().stops(process.number, false, now);
        }
        self.serve_all().await;
        self.pass(Duration::from_secs(125), false).await;
        if self.server.borrow().has_pushed_back {
            for at in 0..self.processes.len() {
                let process = &self.processes[at];
                let options = process
                    .wishes
                    .options(&LimitFile::open(self.file()).unwrap());
                process.limiter.set(&options);
                self.tells(at);
            }
        }
        self.use_up().await;
    }

    async fn serve_all(&mut self) {
        for _ in 0..1_000 {
            if !self.server.borrow().is_waiting() {
                break;
            }
            self.pass(10 * LOOK_EVERY, true).await;
        }
        assert!(
            !self.server.borrow().is_waiting(),
            "somebody waits in the end"
        );
    }

    /// All ask for as much as they can get.
    async fn use_up(&mut self) {
        const TOKENS: u64 = 100;
        for at in 0..self.processes.len() {
            self.processes[at].limiter.knows(0);
            self.tells(at);
        }
        let first = self.processes[0].number;
        let limits = self.server.borrow().in_force(first);
        let spaced = limits.iter().filter(|limit| limit.window <= 60 * SECOND);
        let apart = spaced.map(|limit| match limit.unit {
            Unit::Requests => limit.window as f64 / limit.amount as f64,
            Unit::Tokens => limit.window as f64 * TOKENS as f64 / limit.amount as f64,
        });
        let apart = apart.fold(0.0, f64::max);
        // Without a limit that spaces there is no end to it, and a day's is soon used up.
        if apart == 0.0 || limits.iter().any(|limit| limit.window > 60 * SECOND) {
            return;
        }
        let time = (apart * 15.0 * self.processes.len() as f64).clamp(2e6, 60e6);
        let end = Instant::now() + Duration::from_micros(time as u64);
        let counts = Rc::new(RefCell::new(vec![0_u64; self.processes.len()]));
        for (at, process) in self.processes.iter().enumerate() {
            for _ in 0..2 {
                let (limiter, number) = (Rc::clone(&process.limiter), process.number);
                let (counts, server) = (Rc::clone(&counts), Rc::clone(&self.server));
                let start = self.start;
                process.work.push(Box::pin(async move {
                    while Instant::now() < end {
                        server.borrow_mut().waits(number, since(start));
                        let none = |_: &str, _, _| {};
                        let permit = limiter.acquire_for(|| TOKENS, LONGEST, none).await.unwrap();
                        server
                            .borrow_mut()
                            .keeps(number, own(&limiter), since(start));
                        server.borrow_mut().arrives(number, TOKENS, since(start));
                        permit.settle(TOKENS);
                        counts.borrow_mut()[at] += 1;
                    }
                }));
            }
        }
        self.pass(Duration::from_micros(time as u64), false).await;
        let counts = counts.borrow();
        let sum: u64 = counts.iter().sum();
        assert!(
            sum as f64 >= 0.9 * time / apart - 1.0,
            "{counts:?} in {time} us, {apart} us apart: {limits:?}"
        );
        let (most, least) = (counts.iter().max().unwrap(), counts.iter().min().unwrap());
        // Whoever comes first begins with a burst.
        let bursts = self.processes.iter().map(|process| process.wishes.burst);
        let burst = u64::from(bursts.max().unwrap());
        let tolerated = 1 + burst + (100_000.0 / apart) as u64 + sum / counts.len() as u64 / 8;
        assert!(most - least <= tolerated, "{counts:?}, {apart} us apart");
    }
}

fn play(first: &[Wishes], deeds: &[Deed], last: &Wishes, seed: u64) {
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World {
            dir: tempfile::tempdir().unwrap(),
            start: Instant::now(),
            booted: Instant::now(),
            server: Rc::default(),
            processes: Vec::new(),
            blocked: None,
            backup: None,
            round: 0,
        };
        // The machine has been running for some time.
        tokio::time::advance(Duration::from_millis(seed % 1_000_000)).await;
        for wishes in first {
            world.begin(wishes);
        }
        for deed in deeds {
            world.play(deed).await;
        }
        world.come_to_an_end(last).await;
    });
}

proptest! {
    #![proptest_config(cases(3))]

    #[test]
    fn whoever_comes_and_goes_no_window_is_exceeded_nobody_waits_for_ever_and_all_is_used(
        first in proptest::collection::vec(wishes(), 1..4),
        deeds in deeds(false),
        last in wishes(),
        seed in any::<u64>(),
    ) {
        play(&first, &deeds, &last, seed);
    }

    #[test]
    fn whatever_becomes_of_the_file_each_keeps_its_own_limits_and_all_are_shared_again(
        first in proptest::collection::vec(wishes(), 1..4),
        deeds in deeds(true),
        last in wishes(),
        seed in any::<u64>(),
    ) {
        play(&first, &deeds, &last, seed);
    }
}
