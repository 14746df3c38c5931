//! What a disk may hold when it is cut off: from a log of changes and syncs to trees.

use std::sync::Arc;

use crate::support::patterns::Numbers;
use crate::tree::{Op, Tree};

/// The unit in which a disk writes.
const SECTOR: usize = 512;

/// How a disk keeps names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Only a sync of their directory makes them last.
    ByDirectory,
    /// All names are in one journal in their order, with the lengths of files, and every sync writes it: ext4, XFS.
    ByAnySync,
}

/// One image: what it is, and the changes it has.
pub struct Image {
    pub what: String,
    pub tree: Tree,
}

/// A cut of a log: its changes before it, and whether each has become durable.
pub struct Cut<'a> {
    base: &'a Tree,
    log: &'a [Op],
    durable: Vec<bool>,
    /// Changes that are not.
    pub open: Vec<usize>,
}

impl<'a> Cut<'a> {
    /// Cuts the log of a disk that had `base` before `at`.
    pub fn new(base: &'a Tree, log: &'a [Op], at: usize, names: Names) -> Cut<'a> {
        let log = &log[..at];
        let mut durable = vec![false; log.len()];
        let mut doomed = vec![false; log.len()];
        for (now, op) in log.iter().enumerate() {
            for before in 0..now {
                let change = &log[before];
                let is_of = match op {
                    Op::Sync { node } | Op::FailedSync { node } if change.file() == Some(*node) => true,
                    Op::SyncDir { node } | Op::FailedSync { node } if change.dirs().contains(node) => true,
                    Op::Sync { .. } | Op::SyncDir { .. } => names == Names::ByAnySync && !change.dirs().is_empty(),
                    _ => false,
                };
                match op {
                    _ if !is_of || doomed[before] => {}
                    Op::FailedSync { .. } => doomed[before] = !durable[before],
                    _ => durable[before] = true,
                }
            }
        }
        let open = (0..log.len()).filter(|at| log[*at].is_change() && !durable[*at]).collect();
        Cut { base, log, durable, open }
    }

    /// The tree of all durable changes, and of open ones as `choose` gives them.
    fn tree(&self, choose: &dyn Fn(usize) -> Choice) -> Tree {
        let mut tree = self.base.clone();
        for (at, op) in self.log.iter().enumerate() {
            if !op.is_change() {
                continue;
            }
            match (if self.durable[at] { Choice::Kept } else { choose(at) }, op) {
                (Choice::Kept, _) => tree.apply(op),
                (Choice::Torn(Tear::Length), Op::Write { node, at, bytes }) => {
                    let (have, len) = (tree.bytes(*node).map_or(0, |have| have.len() as u64), at + bytes.len() as u64);
                    if have < len {
                        tree.apply(&Op::Resize { node: *node, len });
                    }
                }
                (Choice::Torn(how), Op::Write { node, at, bytes }) => {
                    for (from, part) in how.parts(bytes) {
                        tree.write(*node, at + from as u64, &part);
                    }
                }
                (Choice::Lost | Choice::Torn(_), _) => {}
            }
        }
        tree
    }

    /// Everything that was asked for: what is there when only the process has ended.
    pub fn all_kept(&self) -> Image {
        Image { what: "all kept".into(), tree: self.tree(&|_| Choice::Kept) }
    }

    fn image(&self, what: String, choose: &dyn Fn(usize) -> Choice) -> Image {
        Image { what, tree: self.tree(choose) }
    }

    /// What a loss of power may leave. The last change is looked at in all ways, `others` of the open ones too, and
    /// `mixtures` are drawn by lot.
    pub fn after_power_loss(&self, others: usize, mixtures: u64, numbers: &mut Numbers) -> Vec<Image> {
        let name = |at: usize| format!("{at} {}", self.log[at].describe());
        let keep = |is: bool| if is { Choice::Kept } else { Choice::Lost };
        let is_data = |at: usize| self.log[at].file().is_some();
        let mut images = vec![
            self.image("all open lost".into(), &|_| Choice::Lost),
            self.image("all open kept".into(), &|_| Choice::Kept),
            self.image("open data kept, names lost".into(), &|at| keep(is_data(at))),
            self.image("open names kept, data lost".into(), &|at| keep(!is_data(at))),
        ];
        let mut looked_at: Vec<usize> = self.open.last().copied().into_iter().collect();
        for _ in 0..others.min(self.open.len()) {
            looked_at.push(self.open[usize::try_from(numbers.below(self.open.len() as u64)).unwrap()]);
        }
        for one in looked_at {
            images.push(self.image(format!("only {} kept", name(one)), &|at| keep(at == one)));
            images.push(self.image(format!("only {} lost", name(one)), &|at| keep(at != one)));
            let Op::Write { bytes, .. } = &self.log[one] else { continue };
            for tear in Tear::all(bytes.len(), numbers) {
                let torn = |rest: Choice| move |at: usize| if at == one { Choice::Torn(tear) } else { rest };
                images.push(self.image(format!("{} {tear:?}, others kept", name(one)), &torn(Choice::Kept)));
                images.push(self.image(format!("{} {tear:?}, others lost", name(one)), &torn(Choice::Lost)));
            }
        }
        for _ in 0..if self.open.len() > 1 { mixtures } else { 0 } {
            let lot = numbers.next();
            images.push(self.image(format!("mixture {lot:x}"), &|at| {
                let mut own = Numbers::new(lot ^ (at as u64) << 32);
                match own.below(8) {
                    0..=2 => Choice::Kept,
                    3..=5 => Choice::Lost,
                    _ => Choice::Torn(Tear::Sectors(own.next())),
                }
            }));
        }
        images
    }
}

/// What becomes of an open change.
#[derive(Clone, Copy)]
enum Choice {
    Kept,
    Lost,
    Torn(Tear),
}

/// Which part of a write is kept.
#[derive(Clone, Copy, Debug)]
enum Tear {
    /// The bytes before this one.
    Until(usize),
    /// The bytes from this one on; zeros before them.
    From(usize),
    /// No byte, but the length that the file has got by it.
    Length,
    /// Sectors by lot.
    Sectors(u64),
}

impl Tear {
    fn all(len: usize, numbers: &mut Numbers) -> Vec<Tear> {
        let sector = len / 2 / SECTOR * SECTOR;
        let mut tears = vec![Tear::Until(len / 2), Tear::Until(len.saturating_sub(1)), Tear::Length];
        if sector > 0 {
            tears.extend([Tear::Until(sector), Tear::From(sector), Tear::Sectors(numbers.next())]);
        }
        tears
    }

    fn parts(self, bytes: &Arc<Vec<u8>>) -> Vec<(usize, Vec<u8>)> {
        match self {
            Tear::Until(end) => vec![(0, bytes[..end].to_vec())],
            Tear::From(from) => vec![(from, bytes[from..].to_vec())],
            Tear::Length => Vec::new(),
            Tear::Sectors(lot) => {
                let sectors = bytes.chunks(SECTOR).enumerate();
                let kept = sectors.filter(|(nth, _)| Numbers::new(lot ^ *nth as u64).below(2) == 0);
                kept.map(|(nth, sector)| (nth * SECTOR, sector.to_vec())).collect()
            }
        }
    }
}
