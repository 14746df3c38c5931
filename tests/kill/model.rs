//! What one writer knows: for each name, every state in which it may be found after a crash.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use crate::support::tree::digest;

/// What a name may hold: no file, or a file with these bytes.
pub type State = Option<Arc<Vec<u8>>>;

/// How many events of a name a failure tells.
const REMEMBERED: usize = 16;

/// The names of one directory.
#[derive(Default)]
pub struct Model {
    /// Never empty: with one state the name is certain, with more a crash decides among them.
    names: BTreeMap<String, Vec<State>>,
    /// What was done to each name, and what state that was about.
    history: BTreeMap<String, VecDeque<(&'static str, State)>>,
    /// Syncs that returned since the last comparison.
    pub synced_this_round: u64,
    /// Removals that returned since the last comparison.
    pub removed_this_round: u64,
}

impl Model {
    /// The certain state of a name: that of the last comparison or sync.
    pub fn now(&self, name: &str) -> State {
        self.names.get(name).and_then(|states| states.last().cloned()).flatten()
    }

    /// From now on a crash may also leave `state`: something that leads to it is about to be asked for.
    pub fn may_become(&mut self, name: &str, state: State) {
        let states = self.names.entry(name.to_owned()).or_insert_with(|| vec![None]);
        states.push(state.clone());
        self.remember(name, "asked for", state);
    }

    /// From now on a crash must leave `state`: it was acknowledged as lasting.
    pub fn must_be(&mut self, name: &str, state: State) {
        self.names.insert(name.to_owned(), vec![state.clone()]);
        self.remember(name, "acknowledged", state);
    }

    /// Notes an event that changes no promise, for the report of a failure.
    pub fn remember(&mut self, name: &str, event: &'static str, state: State) {
        let events = self.history.entry(name.to_owned()).or_default();
        events.push_back((event, state));
        if events.len() > REMEMBERED {
            events.pop_front();
        }
    }

    /// Compares the directory with what may be there, and takes what is there as certain from now on.
    pub fn compare_and_settle(&mut self, dir: &Path, when: &str) {
        let mut faults = Vec::new();
        for (name, states) in &mut self.names {
            let found: State = match fs::read(dir.join(name)) {
                Ok(bytes) => Some(Arc::new(bytes)),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => {
                    faults.push(format!("{name}: {error}"));
                    continue;
                }
            };
            if !states.contains(&found) {
                let allowed: Vec<String> = states.iter().map(describe).collect();
                let told = self.history.get(name).into_iter().flatten();
                let told: Vec<String> =
                    told.map(|(event, state)| format!("\n    {event} {}", describe(state))).collect();
                let (found, allowed, told) = (describe(&found), allowed.join(" or "), told.concat());
                faults.push(format!("{name} is {found}, but may only be {allowed}; before:{told}"));
            }
            self.history.entry(name.clone()).or_default().push_back(("found", found.clone()));
            *states = vec![found];
        }
        for entry in fs::read_dir(dir).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if !self.names.contains_key(&name) {
                faults.push(format!("{name} was never made"));
            }
        }
        assert!(faults.is_empty(), "{when}:\n{}", faults.join("\n"));
        (self.synced_this_round, self.removed_this_round) = (0, 0);
    }
}

fn describe(state: &State) -> String {
    match state {
        None => "absent".to_owned(),
        Some(bytes) => format!("{} bytes {}", bytes.len(), &digest(bytes)[..12]),
    }
}
