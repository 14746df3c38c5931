//! Which job of a topic is next: kept in memory, 180 to 270 bytes a job (measured with half a million of them); what
//! jobs are to do stays in the state log.

use std::collections::{BTreeSet, HashMap};

use xxhash_rust::xxh3::xxh3_64;

use super::record::{Head, JobId};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Jobs that may be under way at a time.
    pub at_once: usize,
    /// Of these, how many of one group.
    pub per_group: usize,
}

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// This job, which is under way now.
    Job(JobId),
    /// Nothing before this time.
    At(i64),
    /// Nothing until something ends or comes.
    Nothing,
}

struct Entry {
    due: i64,
    /// 0: none.
    lane: u64,
    group: u64,
    is_running: bool,
    /// It was hastened to this time while it was under way.
    hastened: Option<i64>,
}

/// Most lanes have one job: that costs nothing more.
struct Lane {
    first: JobId,
    behind: BTreeSet<JobId>,
    is_busy: bool,
}

impl Lane {
    fn add(&mut self, id: JobId) {
        let behind = self.first.max(id);
        self.first = self.first.min(id);
        if behind != self.first {
            self.behind.insert(behind);
        }
    }

    /// Takes a job out; false when it was the only one.
    fn remove(&mut self, id: JobId) -> bool {
        if id != self.first {
            self.behind.remove(&id);
            return true;
        }
        let next = self.behind.pop_first();
        self.first = next.unwrap_or(self.first);
        next.is_some()
    }
}

#[derive(Default)]
struct Group {
    /// Those that nothing but their time keeps, by due time.
    waiting: BTreeSet<(i64, JobId)>,
    running: usize,
    paused_until: i64,
}

/// The jobs of one topic.
#[derive(Default)]
pub(super) struct Shelf {
    entries: HashMap<JobId, Entry>,
    lanes: HashMap<u64, Lane>,
    groups: HashMap<u64, Group>,
    running: usize,
}

fn number(text: &str) -> u64 {
    if text.is_empty() { 0 } else { xxh3_64(text.as_bytes()).max(1) }
}

impl Shelf {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn has(&self, id: JobId) -> bool {
        self.entries.contains_key(&id)
    }

    pub fn add(&mut self, id: JobId, head: &Head) {
        let (lane, group) = (number(&head.lane), number(&head.group));
        let entry = Entry { due: head.due, lane, group, is_running: false, hastened: None };
        let (lane, old_head) = (entry.lane, self.head_of(entry.lane));
        if lane != 0 {
            let own = || Lane { first: id, behind: BTreeSet::new(), is_busy: false };
            self.lanes.entry(lane).or_insert_with(own).add(id);
        }
        self.entries.insert(id, entry);
        // One that was added behind a later one goes before it, unless that is under way.
        if let Some(old_head) = old_head.filter(|old_head| id < *old_head) {
            self.take_off(old_head);
        }
        self.put_on(id);
    }

    fn head_of(&self, lane: u64) -> Option<JobId> {
        self.lanes.get(&lane).map(|lane| lane.first)
    }

    /// Whether nothing but its time keeps a job.
    fn is_free(&self, id: JobId) -> bool {
        let Some(entry) = self.entries.get(&id) else { return false };
        match self.lanes.get(&entry.lane) {
            Some(lane) => lane.first == id && !lane.is_busy,
            None => !entry.is_running,
        }
    }

    fn put_on(&mut self, id: JobId) {
        if !self.is_free(id) {
            return;
        }
        if let Some(entry) = self.entries.get(&id) {
            self.groups.entry(entry.group).or_default().waiting.insert((entry.due, id));
        }
    }

    fn take_off(&mut self, id: JobId) {
        if let Some(entry) = self.entries.get(&id)
            && let Some(group) = self.groups.get_mut(&entry.group)
        {
            group.waiting.remove(&(entry.due, id));
        }
    }

    /// Takes the job that has waited longest of those that may be done.
    pub fn take(&mut self, bounds: Bounds, now: i64) -> Next {
        if self.running >= bounds.at_once {
            return Next::Nothing;
        }
        let ready = self.groups.values().filter(|group| group.running < bounds.per_group).filter_map(|group| {
            let (due, id) = group.waiting.first()?;
            Some(((*due).max(group.paused_until), *id))
        });
        let Some((at, id)) = ready.min() else { return Next::Nothing };
        if at > now {
            return Next::At(at);
        }
        self.take_off(id);
        if let Some(entry) = self.entries.get_mut(&id) {
            (entry.is_running, entry.hastened) = (true, None);
            self.running += 1;
            if let Some(lane) = self.lanes.get_mut(&entry.lane) {
                lane.is_busy = true;
            }
            self.groups.entry(entry.group).or_default().running += 1;
        }
        Next::Job(id)
    }

    fn stop(&mut self, id: JobId) {
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.is_running) else { return };
        entry.is_running = false;
        self.running = self.running.saturating_sub(1);
        if let Some(lane) = self.lanes.get_mut(&entry.lane) {
            lane.is_busy = false;
        }
        if let Some(group) = self.groups.get_mut(&entry.group) {
            group.running = group.running.saturating_sub(1);
        }
    }

    /// A job that was under way waits again.
    pub fn put_back(&mut self, id: JobId, due: i64) {
        self.take_off(id);
        self.stop(id);
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.due = entry.hastened.take().map_or(due, |hastened| hastened.min(due));
        let lane = entry.lane;
        match self.head_of(lane) {
            Some(first) => self.put_on(first),
            None => self.put_on(id),
        }
    }

    /// A job need not wait longer than to `due`; one that is under way may be done again from then on, if it is not over.
    pub fn hasten(&mut self, id: JobId, due: i64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        match entry.is_running {
            true => entry.hastened = Some(due),
            false => self.put_back(id, due),
        }
    }

    /// A job is over.
    pub fn remove(&mut self, id: JobId) {
        self.take_off(id);
        self.stop(id);
        let Some(entry) = self.entries.remove(&id) else { return };
        if let Some(lane) = self.lanes.get_mut(&entry.lane) {
            let next = lane.remove(id).then_some(lane.first);
            match next {
                Some(next) => self.put_on(next),
                None => drop(self.lanes.remove(&entry.lane)),
            }
        }
        let is_over = |group: &Group| group.running == 0 && group.waiting.is_empty() && group.paused_until == 0;
        if self.groups.get(&entry.group).is_some_and(is_over) {
            self.groups.remove(&entry.group);
        }
    }

    /// No job of a group is begun before `until`.
    pub fn pause(&mut self, group: &str, until: i64) {
        self.groups.entry(number(group)).or_default().paused_until = until;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIDE: Bounds = Bounds { at_once: 100, per_group: 100 };

    fn head(lane: &str, group: &str, due: i64) -> Head {
        Head { lane: lane.into(), group: group.into(), due, made: 0, first: None, attempts: 0, error: None }
    }

    #[test]
    fn a_lane_is_done_in_order_whatever_its_jobs_wait_for() {
        let mut shelf = Shelf::default();
        shelf.add(1, &head("a", "", 50));
        shelf.add(2, &head("a", "", 0));
        shelf.add(3, &head("b", "", 10));
        assert_eq!(shelf.take(WIDE, 10), Next::Job(3));
        assert_eq!(shelf.take(WIDE, 10), Next::At(50));
        assert_eq!(shelf.take(WIDE, 50), Next::Job(1));
        assert_eq!(shelf.take(WIDE, 50), Next::Nothing);
        shelf.put_back(1, 70);
        assert_eq!(shelf.take(WIDE, 60), Next::At(70));
        shelf.hasten(1, 0);
        assert_eq!(shelf.take(WIDE, 60), Next::Job(1));
        shelf.hasten(1, 5);
        shelf.put_back(1, 1000);
        assert_eq!(shelf.take(WIDE, 60), Next::Job(1));
        shelf.put_back(1, 1000);
        assert_eq!(shelf.take(WIDE, 60), Next::At(1000));
        shelf.remove(1);
        assert_eq!(shelf.take(WIDE, 60), Next::Job(2));
    }

    #[test]
    fn groups_have_a_limit_each_and_can_be_paused() {
        let mut shelf = Shelf::default();
        for id in 1..=3 {
            shelf.add(id, &head("", "a", 0));
        }
        shelf.add(4, &head("", "b", 0));
        let bounds = Bounds { at_once: 2, per_group: 1 };
        assert_eq!(shelf.take(bounds, 0), Next::Job(1));
        assert_eq!(shelf.take(bounds, 0), Next::Job(4));
        assert_eq!(shelf.take(bounds, 0), Next::Nothing);
        shelf.remove(1);
        shelf.pause("a", 30);
        assert_eq!(shelf.take(bounds, 0), Next::At(30));
        assert_eq!(shelf.take(bounds, 30), Next::Job(2));
    }

    #[test]
    fn a_job_that_was_added_behind_a_later_one_of_its_lane_goes_before_it() {
        let mut shelf = Shelf::default();
        shelf.add(2, &head("a", "", 0));
        shelf.add(1, &head("a", "", 0));
        assert_eq!(shelf.take(WIDE, 0), Next::Job(1));
        shelf.remove(1);
        assert_eq!(shelf.take(WIDE, 0), Next::Job(2));
        shelf.add(1, &head("a", "", 0));
        assert_eq!(shelf.take(WIDE, 0), Next::Nothing);
        shelf.put_back(2, 0);
        assert_eq!(shelf.take(WIDE, 0), Next::Job(1));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_bound_is_broken(steps in proptest::collection::vec((0u8..6, 0u64..20, 0i64..40), 1..200)) {
            let bounds = Bounds { at_once: 3, per_group: 2 };
            let mut shelf = Shelf::default();
            let (mut now, mut next) = (0, 1);
            let mut running: Vec<JobId> = Vec::new();
            let mut facts: HashMap<JobId, (u64, u64)> = HashMap::new();
            let (mut added, mut removed) = (0, 0);
            for (what, n, t) in steps {
                let pick = running.get(n as usize % running.len().max(1)).copied();
                match (what, pick) {
                    (0 | 1, _) => {
                        let (lane, group) = (n % 4, n % 3);
                        let name = if lane == 0 { String::new() } else { lane.to_string() };
                        shelf.add(next, &head(&name, &group.to_string(), now + t));
                        facts.insert(next, (lane, group));
                        (next, added) = (next + 1, added + 1);
                    }
                    (2, Some(id)) => {
                        shelf.put_back(id, now + t);
                        running.retain(|other| *other != id);
                    }
                    (3, Some(id)) => {
                        shelf.remove(id);
                        running.retain(|other| *other != id);
                        removed += 1;
                    }
                    (4, _) => now += t,
                    _ => if let Next::Job(id) = shelf.take(bounds, now) {
                        let (lane, group) = facts[&id];
                        prop_assert!(running.iter().all(|other| lane == 0 || facts[other].0 != lane));
                        prop_assert!(running.iter().filter(|other| facts[*other].1 == group).count() < 2);
                        running.push(id);
                        prop_assert!(running.len() <= 3);
                    }
                }
                prop_assert_eq!(shelf.len(), added - removed);
            }
            let mut order: HashMap<u64, JobId> = HashMap::new();
            running.iter().for_each(|id| { shelf.remove(*id); removed += 1; });
            while let Next::Job(id) = shelf.take(bounds, i64::MAX) {
                let lane = facts[&id].0;
                prop_assert!(lane == 0 || order.insert(lane, id).is_none_or(|before| before < id));
                shelf.remove(id);
                removed += 1;
            }
            prop_assert_eq!(added, removed);
        }
    }
}
