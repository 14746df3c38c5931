//! What one writer knows of its directory: for each name, every state in which it may be found after a power loss.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use crate::support::tree::digest;

/// What a name may hold: no file, or a file with these bytes.
pub type State = Option<Arc<Vec<u8>>>;

/// Names are paths below the writer's directory.
#[derive(Default)]
pub struct Model {
    /// Never empty: with one state the name is certain, with more the power loss decides among them.
    names: BTreeMap<String, Vec<State>>,
    /// Renames not known to be durable, of acknowledged contents: one of the two names has it.
    moves: Vec<(String, String, State)>,
    history: BTreeMap<String, Vec<String>>,
    /// Syncs that returned before the power failed, since the last comparison.
    pub acknowledged: u64,
}

impl Model {
    /// The state of a name as programs see it.
    pub fn now(&self, name: &str) -> State {
        self.names.get(name).and_then(|states| states.last().cloned()).flatten()
    }

    /// The names that exist as programs see it.
    pub fn existing(&self) -> Vec<String> {
        self.names
            .iter()
            .filter(|(_, states)| states.last().is_some_and(Option::is_some))
            .map(|(n, _)| n.clone())
            .collect()
    }

    /// From now on a power loss may also leave `state`: something that leads to it is about to be asked for.
    pub fn may_become(&mut self, name: &str, state: State) {
        self.moves.retain(|(from, to, _)| from != name && to != name);
        self.tell(name, "asked for", &state);
        self.names.entry(name.to_owned()).or_insert_with(|| vec![None]).push(state);
    }

    /// From now on a power loss must leave `state`: it was acknowledged as lasting.
    pub fn must_be(&mut self, name: &str, state: State) {
        self.moves.retain(|(from, to, _)| from != name && to != name);
        self.tell(name, "acknowledged", &state);
        self.names.insert(name.to_owned(), vec![state]);
    }

    /// A content is being renamed; both names may already become what they will be. One of them has it, if it was
    /// acknowledged.
    pub fn moves(&mut self, from: &str, to: &str) {
        let content = self.now(from);
        let is_certain = self.names.get(from).is_some_and(|states| states.len() == 1);
        self.may_become(from, None);
        self.may_become(to, content.clone());
        if is_certain {
            self.moves.push((from.to_owned(), to.to_owned(), content));
        }
    }

    fn tell(&mut self, name: &str, event: &str, state: &State) {
        self.history.entry(name.to_owned()).or_default().push(format!("{event} {}", describe(state)));
    }

    /// Compares the directory with what may be there, takes what is there as certain, and tells every difference.
    pub fn compare_and_settle(&mut self, dir: &Path) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, states) in &mut self.names {
            let found: State = match fs::read(dir.join(name)) {
                Ok(bytes) => Some(Arc::new(bytes)),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
                Err(error) => {
                    faults.push(format!("{name}: {error}"));
                    let _ = fs::remove_file(dir.join(name));
                    *states = vec![None];
                    continue;
                }
            };
            if !states.contains(&found) {
                let allowed: Vec<String> = states.iter().map(describe).collect();
                let (found, allowed) = (describe(&found), allowed.join(" or "));
                let told = self.history.get(name).map_or(String::new(), |told| told.join("\n    "));
                faults.push(format!("{name} is {found}, but may only be {allowed}; before:\n    {told}"));
            }
            *states = vec![found];
        }
        for (from, to, content) in self.moves.drain(..) {
            let has = |name: &str| self.names.get(name).is_some_and(|states| states.last() == Some(&content));
            if content.is_some() && !has(&from) && !has(&to) {
                faults.push(format!("{}, renamed from {from} to {to}, is under neither", describe(&content)));
            }
        }
        let known: BTreeSet<&str> = self.names.keys().map(String::as_str).collect();
        for entry in walkdir::WalkDir::new(dir) {
            match entry {
                Ok(entry) if entry.file_type().is_dir() => {}
                Ok(entry) => {
                    let name = entry.path().strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                    if !known.contains(name.as_str()) {
                        faults.push(format!("{name} was never made"));
                    }
                }
                Err(error) => faults.push(error.to_string()),
            }
        }
        self.names.retain(|_, states| states.last().is_some_and(Option::is_some));
        self.history.clear();
        faults
    }
}

fn describe(state: &State) -> String {
    match state {
        None => "absent".to_owned(),
        Some(bytes) => format!("{} bytes {}", bytes.len(), &digest(bytes)[..12]),
    }
}
