//! In which order locks are taken: a graph of who was held when who was asked for, over all threads and for as long as the
//! process lives. A circle in it is a deadlock that some day happens, so the second half of one is not let happen.
//!
//! A node is not one lock but all those made at one place of the code for one type, as in the kernel's lockdep: whoever
//! takes an inode's state and then the quota says so for all inodes. Locks of one node may be nested, since nothing here
//! knows which of two inodes is the parent; the same lock twice may not.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::io::Write;
use std::panic::Location;

use parking_lot::Mutex;

/// All locks of one type made at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class {
    made_at: &'static Location<'static>,
    of: &'static str,
}

/// Where a lock was held, and another one asked for.
#[derive(Clone, Copy, Debug)]
struct Nesting {
    held_since: &'static Location<'static>,
    asked_at: &'static Location<'static>,
}

/// Names a file to which each new nesting is added as a line.
const LOCKS: &str = "WAMEDIA_LOCKS";

/// Who was held when who was asked for.
#[derive(Debug, Default)]
struct Graph(BTreeMap<Class, BTreeMap<Class, Nesting>>);

#[derive(Clone, Copy, Debug)]
struct Held {
    class: Class,
    lock: usize,
    since: &'static Location<'static>,
    ticket: u64,
}

/// Says that a lock is held, until it is dropped.
#[derive(Debug)]
pub(super) struct Holding {
    ticket: u64,
}

static GRAPH: Mutex<Graph> = Mutex::new(Graph(BTreeMap::new()));

thread_local! {
    static HELD: RefCell<Vec<Held>> = const { RefCell::new(Vec::new()) };
    static TICKETS: Cell<u64> = const { Cell::new(0) };
    /// What this thread has already told the graph.
    static TOLD: RefCell<BTreeSet<(Class, Class)>> = const { RefCell::new(BTreeSet::new()) };
}

impl Class {
    #[track_caller]
    pub(super) fn here<T: ?Sized>() -> Class {
        Class { made_at: Location::caller(), of: std::any::type_name::<T>() }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}:{}", self.of, self.made_at.file(), self.made_at.line())
    }
}

/// Adds a line to a file, with one call, since other processes may do so too.
fn note(path: &OsStr, line: &str) {
    let file = std::fs::File::options().append(true).create(true).open(path);
    let _lost = file.and_then(|mut file| file.write_all(line.as_bytes()));
}

impl Graph {
    /// The way from one node to another along what was nested.
    fn way(&self, from: Class, to: Class) -> Option<Vec<(Class, Nesting)>> {
        let mut from_where: BTreeMap<Class, (Class, Nesting)> = BTreeMap::new();
        let mut next = vec![from];
        while let Some(node) = next.pop() {
            if node == to {
                let mut way = Vec::new();
                let mut at = to;
                while at != from {
                    let (before, nesting) = *from_where.get(&at)?;
                    way.push((before, nesting));
                    at = before;
                }
                way.reverse();
                return Some(way);
            }
            for (inner, nesting) in self.0.get(&node).into_iter().flatten() {
                if *inner != from && !from_where.contains_key(inner) {
                    from_where.insert(*inner, (node, *nesting));
                    next.push(*inner);
                }
            }
        }
        None
    }

    /// Notes that `inner` is asked for while `outer` is held.
    ///
    /// # Errors
    /// The circle that this closes, told.
    fn nest(&mut self, outer: Held, inner: Class, asked_at: &'static Location<'static>) -> Result<(), String> {
        if outer.class == inner || self.0.get(&outer.class).is_some_and(|inners| inners.contains_key(&inner)) {
            return Ok(());
        }
        if let Some(way) = self.way(inner, outer.class) {
            let (class, since) = (outer.class, outer.since);
            let mut told =
                format!("locks in a circle: at {asked_at} {inner} is asked for, while {class} is held since {since};");
            for (class, nesting) in way {
                told += &format!("\n  {class} was held since {}, when at {}", nesting.held_since, nesting.asked_at);
            }
            return Err(told + &format!(" {class} was asked for"));
        }
        self.0.entry(outer.class).or_default().insert(inner, Nesting { held_since: outer.since, asked_at });
        if let Some(path) = std::env::var_os(LOCKS) {
            note(&path, &format!("{} -> {inner} at {asked_at}\n", outer.class));
        }
        Ok(())
    }
}

/// A lock is asked for by somebody who would wait for it.
///
/// # Errors
/// Why it must not be.
#[track_caller]
pub(super) fn ask(class: Class, lock: usize) -> Result<(), String> {
    let asked_at = Location::caller();
    HELD.with_borrow(|held| {
        for outer in held {
            if outer.lock == lock {
                let (class, since) = (outer.class, outer.since);
                return Err(format!("at {asked_at} {class} is asked for by the thread that holds it since {since}"));
            }
            let is_news = TOLD.with_borrow(|told| !told.contains(&(outer.class, class)));
            if is_news {
                GRAPH.lock().nest(*outer, class, asked_at)?;
                TOLD.with_borrow_mut(|told| told.insert((outer.class, class)));
            }
        }
        Ok(())
    })
}

/// The lock is held from now on.
#[track_caller]
pub(super) fn hold(class: Class, lock: usize) -> Holding {
    let ticket = TICKETS.get();
    TICKETS.set(ticket + 1);
    let since = Location::caller();
    HELD.with_borrow_mut(|held| held.push(Held { class, lock, since, ticket }));
    Holding { ticket }
}

impl Drop for Holding {
    fn drop(&mut self) {
        // A thread that ends may drop its guards when its list is gone.
        let _ended = HELD.try_with(|held| held.borrow_mut().retain(|held| held.ticket != self.ticket));
    }
}

/// Ends the process: whoever panicked here would poison nothing and be noticed by nobody, in a thread of the volume's own.
pub(super) fn expect(allowed: Result<(), String>) {
    if let Err(told) = allowed {
        let _nobody = writeln!(std::io::stderr(), "{told}\n{}", std::backtrace::Backtrace::force_capture());
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> [Class; 3] {
        [Class::here::<u8>(), Class::here::<u16>(), Class::here::<u32>()]
    }

    #[test]
    fn a_circle_is_found_however_long() {
        let [a, b, c] = classes();
        let at = Location::caller();
        let held = |class| Held { class, lock: 0, since: at, ticket: 0 };
        let mut graph = Graph::default();
        graph.nest(held(a), b, at).unwrap();
        graph.nest(held(b), c, at).unwrap();
        graph.nest(held(a), c, at).unwrap();
        graph.nest(held(a), a, at).unwrap();
        assert!(graph.nest(held(b), a, at).unwrap_err().contains("u16"));
        assert!(graph.nest(held(c), a, at).unwrap_err().contains("u32"));
        graph.nest(held(b), c, at).unwrap();
    }

    #[test]
    fn what_is_held_is_what_was_not_let_go() {
        let [a, b, c] = classes();
        let first = hold(a, 1);
        ask(b, 2).unwrap();
        let second = hold(b, 2);
        ask(c, 3).unwrap();
        assert!(ask(a, 1).unwrap_err().contains("by the thread that holds it"));
        drop(second);
        ask(a, 4).unwrap();
        drop(first);
        ask(a, 1).unwrap();
        let _third = hold(c, 3);
        assert!(ask(a, 1).unwrap_err().contains("locks in a circle"));
        assert!(ask(b, 2).unwrap_err().contains("locks in a circle"));
    }
}
