//! What of the model is expired: age from the last write, under the rules of the policy.

use std::time::Duration;

use wamedia::clock::Timestamp;
use wamedia::volume::{RetentionRule, Selector};

use crate::tree::{Id, Model, Node, ROOT};

impl Model {
    /// The path of a name from the root.
    pub fn path(&self, parent: Id, name: &[u8]) -> Vec<u8> {
        let mut parts = vec![name.to_vec()];
        let mut at = parent;
        while at != ROOT {
            let (above, name) = self.get(at).names.first().expect("a directory has a name").clone();
            parts.push(name);
            at = above;
        }
        parts.reverse();
        parts.join(&b'/')
    }

    /// How long a medium is kept; `None` is for ever.
    fn keep(&self, node: &Node) -> Option<Duration> {
        match node.attrs.retention {
            Some(u64::MAX) => return None,
            Some(own) => return Some(Duration::from_secs(own)),
            None => {}
        }
        let mime = node.attrs.mime.clone().unwrap_or_default();
        let keeps = node.names.iter().map(|(parent, name)| {
            let path = self.path(*parent, name);
            let fitting = self.policy.retention.iter().filter_map(|rule| Some((rank(rule, &mime, &path)?, rule.keep)));
            fitting.max_by_key(|(rank, _)| *rank).expect("a default rule").1
        });
        // Of several names the one that is kept longest decides.
        keeps.max_by_key(|keep| (keep.is_none(), *keep)).expect("a name")
    }

    pub fn is_expired(&self, id: Id) -> bool {
        let node = self.get(id);
        if !node.is_medium() || node.names.is_empty() || node.writers > 0 || node.attrs.held.is_some() {
            return false;
        }
        let start: Timestamp = node.attrs.mtime;
        self.keep(node).is_some_and(|keep| start.plus_secs(keep.as_secs() as i64) <= self.now)
    }

    pub fn expired(&self) -> Vec<Id> {
        self.nodes.keys().copied().filter(|id| self.is_expired(*id)).collect()
    }
}

/// How much a rule says about a name of a medium; none when it is about others. The model's types are only set ones
/// without parameters, of a kind that no bytes say by themselves.
fn rank(rule: &RetentionRule, mime: &[u8], path: &[u8]) -> Option<(u8, usize)> {
    match &rule.selector {
        Selector::Default => Some((0, 0)),
        Selector::Type(pattern) => match pattern.strip_suffix('*') {
            Some(major) => mime.starts_with(major.as_bytes()).then_some((1, 0)),
            None => (mime == pattern.as_bytes()).then_some((1, 1)),
        },
        Selector::Prefix(prefix) => {
            let below = path.strip_prefix(prefix.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'/'));
            below.then_some((2, prefix.len()))
        }
    }
}
