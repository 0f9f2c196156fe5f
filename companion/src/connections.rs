//! The connections to the API, and which of them makes room when there are too many.
//!
//! Whoever connects may be anybody, so connections that do nothing must not keep out those that do: a newcomer takes the
//! place of one that has never asked anything, else of the one that is idle for the longest time, else of the one whose
//! answer is read the slowest. One whose request is being worked on is never closed; that is bounded in time. Here it is
//! decided who goes; the server closes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::limits;

/// All that could make room, the first first.
#[derive(Debug, Default)]
pub struct Connections {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Counts on, so that of two connections of one kind the one that has waited longer comes first.
    turn: u64,
    by_use: BTreeMap<(Use, u64), (Instant, Arc<Notify>)>,
}

/// What a connection does while none of its requests is being worked on; the first goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// It has not asked anything yet.
    Silent,
    /// It has its answers.
    Idle,
    /// It still reads an answer.
    Reading,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    all: Arc<Connections>,
    leave: Arc<Notify>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    worked_on: usize,
    read: usize,
    place: Option<(Use, u64)>,
}

/// A request of a connection that is being worked on, or whose answer is being read.
#[derive(Debug)]
pub struct UnderWay {
    connection: Arc<Connection>,
    answered: bool,
}

impl Connections {
    /// Takes in a connection.
    pub fn open(self: &Arc<Self>, now: Instant) -> Arc<Connection> {
        let state = State { worked_on: 0, read: 0, place: None };
        let connection = Connection { all: self.clone(), leave: Arc::default(), state: Mutex::new(state) };
        connection.change(Use::Silent, now, |_| ());
        Arc::new(connection)
    }

    /// Tells one connection to leave; false where all are being worked on.
    pub fn make_room(&self) -> bool {
        let first = lock(&self.waiting).by_use.pop_first();
        first.inspect(|(_, (_, leave))| leave.notify_one()).is_some()
    }

    /// Tells those to leave that have not asked anything for too long.
    pub fn sweep(&self, now: Instant) {
        lock(&self.waiting).by_use.retain(|(kind, _), (since, leave)| {
            let longest = match kind {
                Use::Silent => limits::REQUEST_HEAD,
                Use::Idle => limits::IDLE_CONNECTION,
                Use::Reading => return true,
            };
            let stays = now.saturating_duration_since(*since) < longest;
            if !stays {
                leave.notify_one();
            }
            stays
        });
    }
}

impl Connection {
    /// Ends when the connection has to leave.
    pub async fn told_to_leave(&self) {
        self.leave.notified().await;
    }

    /// A request has come.
    pub fn begin(self: &Arc<Self>, now: Instant) -> UnderWay {
        self.change(Use::Idle, now, |state| state.worked_on += 1);
        UnderWay { connection: self.clone(), answered: false }
    }

    /// Changes the state, and with it the place among those that could leave; `idle` is what it is without requests.
    fn change(&self, idle: Use, now: Instant, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.state);
        change(&mut state);
        let kind = match *state {
            State { worked_on: 1.., .. } => None,
            State { read: 1.., .. } => Some(Use::Reading),
            State { .. } => Some(idle),
        };
        let mut waiting = lock(&self.all.waiting);
        if let Some(place) = state.place.take() {
            waiting.by_use.remove(&place);
        }
        if let Some(kind) = kind {
            waiting.turn += 1;
            let place = (kind, waiting.turn);
            waiting.by_use.insert(place, (now, self.leave.clone()));
            state.place = Some(place);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(place) = lock(&self.state).place {
            lock(&self.all.waiting).by_use.remove(&place);
        }
    }
}

impl UnderWay {
    /// The request was worked on, and its answer is on its way, to be read until this is dropped.
    pub fn answer(&mut self, now: Instant) {
        if !self.answered {
            self.answered = true;
            self.connection.change(Use::Idle, now, |state| {
                state.worked_on -= 1;
                state.read += 1;
            });
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let answered = self.answered;
        self.connection.change(Use::Idle, Instant::now(), |state| match answered {
            true => state.read -= 1,
            false => state.worked_on -= 1,
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    /// Whether it was told to leave since this was last asked.
    fn leaves(connection: &Connection) -> bool {
        connection.told_to_leave().now_or_never().is_some()
    }

    #[test]
    fn the_most_useless_one_makes_room_first() {
        let (all, now) = (Arc::new(Connections::default()), Instant::now());
        let [silent, idle, older, reading, worked_on, gone] = [(); 6].map(|()| all.open(now));
        drop(older.begin(now));
        drop(idle.begin(now));
        let mut answer = reading.begin(now);
        answer.answer(now);
        let _request = worked_on.begin(now);
        drop(gone);
        for next in [&silent, &older, &idle, &reading] {
            assert!(all.make_room());
            let told: Vec<_> = [&silent, &older, &idle, &reading, &worked_on].map(|each| leaves(each)).into();
            assert_eq!(told.iter().filter(|told| **told).count(), 1);
            assert!(!leaves(next));
        }
        assert!(!all.make_room(), "nobody who is worked on is told to leave");
        assert!(!leaves(&worked_on));
    }

    #[test]
    fn each_of_several_requests_counts() {
        let (all, now) = (Arc::new(Connections::default()), Instant::now());
        let connection = all.open(now);
        let (mut one, other) = (connection.begin(now), connection.begin(now));
        one.answer(now);
        assert!(!all.make_room());
        drop(other);
        assert!(all.make_room());
        drop(one);
        assert!(all.make_room(), "it may be told again, as long as it is there");
        drop(connection);
        assert!(!all.make_room());
    }

    #[test]
    fn silence_is_borne_for_a_while() {
        let (all, now) = (Arc::new(Connections::default()), Instant::now());
        let [silent, idle, reading] = [(); 3].map(|()| all.open(now));
        drop(idle.begin(now));
        let mut answer = reading.begin(now);
        answer.answer(now);
        let moment = Duration::from_millis(1);
        all.sweep(now + limits::REQUEST_HEAD - moment);
        assert!(!leaves(&silent));
        all.sweep(now + limits::REQUEST_HEAD);
        assert!(leaves(&silent) && !leaves(&idle));
        all.sweep(now + limits::IDLE_CONNECTION + limits::REQUEST_HEAD);
        assert!(leaves(&idle) && !leaves(&reading));
    }
}
