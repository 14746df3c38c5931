//! What is done to a volume while its disk records.

/// One step; `Create` and `Open` give a handle its number.
#[derive(Clone, Debug)]
pub enum Step {
    Mkdir(&'static str),
    Rmdir(&'static str),
    Create(u8, &'static str),
    Open(u8, &'static str),
    /// Opens and cuts to nothing.
    OpenAnew(u8, &'static str),
    /// Bytes at an offset, other ones in each step.
    Write(u8, u64, usize),
    Fsync(u8),
    Close(u8),
    /// As the kernel tells of a close: what was written is published beside the caller.
    CloseSoon(u8),
    Truncate(&'static str, u64),
    Rename(&'static str, &'static str),
    Exchange(&'static str, &'static str),
    Link(&'static str, &'static str),
    Unlink(&'static str),
    Xattr(&'static str, &'static str),
    SyncDir(&'static str),
    SyncAll,
    /// What the index waits for is written to it.
    Drain,
    Checkpoint,
    /// Removes everything that is expired, a hundred days later.
    Purge,
    /// Lets the volume's own thread work for a while: blobs that may go do.
    Rest,
    /// A clean end and another mount.
    Reopen,
    Shutdown,
}

use Step::*;

/// So many bytes that a content goes apart, with a last chunk that is not full.
const LARGE: usize = 17 * 65_536 + 100;

/// A workload: its name, and what is done before the disk records and while it does.
pub struct Workload {
    pub name: &'static str,
    /// On a volume without a cipher, where large media lie apart, and on a disk of which nobody asks for a promise.
    pub is_plain: bool,
    pub before: Vec<Step>,
    pub steps: Vec<Step>,
}

/// A file written and closed.
fn put(handle: u8, path: &'static str, len: usize) -> Vec<Step> {
    vec![Create(handle, path), Write(handle, 0, len), Close(handle)]
}

/// The files most workloads begin with, durable.
fn some_files() -> Vec<Step> {
    [vec![Mkdir("d")], put(1, "a", 1000), put(1, "b", 70_000), put(1, "d/c", 140_000)].concat()
}

/// All workloads.
pub fn all() -> Vec<Workload> {
    let with =
        |name, steps: Vec<Vec<Step>>| Workload { name, is_plain: false, before: some_files(), steps: steps.concat() };
    let apart = |name, steps: Vec<Vec<Step>>| Workload { is_plain: true, ..with(name, steps) };
    vec![
        Workload {
            name: "first mount",
            is_plain: false,
            before: Vec::new(),
            steps: [put(1, "a", 500), vec![Shutdown]].concat(),
        },
        with(
            "new files",
            vec![
                vec![Create(1, "n"), Write(1, 0, 100_000), Fsync(1), Close(1)],
                vec![Mkdir("e"), Mkdir("e/f"), Create(2, "e/f/m"), Write(2, 0, 300), Fsync(2), CloseSoon(2)],
                put(3, "never synced", 5000),
                vec![Create(4, "open"), Write(4, 0, 200_000), Fsync(4), Write(4, 200_000, 10_000)],
            ],
        ),
        with(
            "hidden name, then rename",
            vec![
                vec![Create(1, ".n"), Write(1, 0, 90_000), Fsync(1), Close(1), Rename(".n", "n"), SyncDir("")],
                vec![Create(1, "d/.m"), Write(1, 0, 900), Fsync(1), Close(1), Rename("d/.m", "m"), SyncDir("d")],
                vec![Rename("m", "d/o"), SyncDir("")],
            ],
        ),
        with(
            "overwrite in place",
            vec![
                vec![Open(1, "b"), Write(1, 10, 66_000), Fsync(1), Write(1, 0, 400), Fsync(1), Close(1)],
                vec![
                    OpenAnew(1, "a"),
                    Write(1, 0, 3000),
                    CloseSoon(1),
                    OpenAnew(1, "a"),
                    Write(1, 0, 80_000),
                    Fsync(1),
                ],
                vec![Close(1), SyncAll],
            ],
        ),
        with(
            "append",
            vec![
                vec![Open(1, "a"), Write(1, 1000, 500), Fsync(1), Write(1, 1500, 70_000), Fsync(1)],
                vec![Checkpoint, Write(1, 71_500, 100), Fsync(1), Write(1, 71_600, 100), CloseSoon(1), SyncDir("")],
            ],
        ),
        with(
            "truncate",
            vec![
                vec![Truncate("b", 100), SyncAll, Truncate("b", 50_000), Truncate("d/c", 65_536), SyncDir("d")],
                vec![OpenAnew(1, "a"), Write(1, 0, 10), Fsync(1), Close(1)],
            ],
        ),
        with(
            "rename over",
            vec![
                put(1, "n", 2000),
                vec![Rename("n", "a"), SyncDir("")],
                vec![Create(1, "m"), Write(1, 0, 3000), Fsync(1), Close(1), Rename("m", "b"), Drain, Rest],
                // One that nobody has synced or closed yet.
                vec![Create(1, "o"), Write(1, 0, 700), Rename("o", "d/c"), Fsync(1), Close(1), SyncDir("d")],
            ],
        ),
        with(
            "rename over and over",
            vec![
                put(1, "n", 2000),
                vec![Rename("n", "a")],
                put(1, "n", 2500),
                vec![Rename("n", "a"), Rename("a", "z"), Rename("b", "a"), Unlink("a"), SyncDir("")],
                put(1, "a", 10),
                vec![Rename("z", "a"), Checkpoint, Unlink("a"), Rest],
            ],
        ),
        with(
            "exchange",
            vec![
                vec![Exchange("a", "b"), SyncDir(""), Exchange("a", "d/c"), Open(1, "a"), Fsync(1), Close(1)],
                vec![Exchange("a", "b"), Drain, Exchange("b", "d"), SyncAll],
            ],
        ),
        with(
            "remove",
            vec![
                vec![Unlink("a"), SyncDir(""), Unlink("d/c"), Rmdir("d"), Rest, Unlink("b"), Checkpoint, Rest],
                put(1, "a", 600),
                vec![Unlink("a")],
                put(1, "a", 700),
                vec![SyncDir(""), Reopen],
            ],
        ),
        with(
            "remove while open",
            vec![
                vec![Open(1, "b"), Unlink("b"), Write(1, 0, 1000), Fsync(1), Checkpoint, Close(1), Rest],
                vec![Create(2, "n"), Write(2, 0, 90_000), Unlink("n"), Write(2, 90_000, 10), Close(2), SyncDir("")],
            ],
        ),
        with("purge", vec![vec![Drain], put(1, "n", 400), vec![Purge, Rest, SyncAll]]),
        with(
            "hard links",
            vec![
                vec![Link("a", "d/a2"), SyncDir("d"), Unlink("a"), SyncDir(""), Link("b", "b2")],
                put(1, "n", 1200),
                vec![Rename("n", "b"), Open(1, "b"), Fsync(1), Close(1), Unlink("d/a2"), SyncAll],
            ],
        ),
        with(
            "attributes",
            vec![
                vec![
                    Xattr("a", "one"),
                    SyncDir(""),
                    Xattr("a", "two"),
                    Open(1, "a"),
                    Xattr("a", "three"),
                    Write(1, 0, 9),
                ],
                vec![Fsync(1), Xattr("d", "four"), Close(1), SyncAll],
            ],
        ),
        with(
            "checkpoints",
            vec![
                vec![Create(1, "n"), Write(1, 0, 70_000), OpenAnew(2, "b"), Write(2, 0, 300), Checkpoint],
                put(3, "m", 800),
                vec![Drain, Unlink("a"), Checkpoint, Fsync(1), Close(2), Drain, Checkpoint, Close(1), Rest, Checkpoint],
            ],
        ),
        with(
            "blobs made anew",
            vec![
                vec![Open(1, "d/c")],
                vec![Write(1, 0, 140_000), Fsync(1), Write(1, 0, 140_000), Fsync(1), Write(1, 0, 140_000), Fsync(1)],
                vec![Write(1, 0, 140_000), Fsync(1), Write(1, 0, 140_000), Close(1), SyncDir("d"), Rest, Checkpoint],
            ],
        ),
        with(
            "directories",
            vec![
                vec![Mkdir("e"), Rename("d", "e/d"), Create(1, "e/d/n"), Write(1, 0, 50), Fsync(1), Close(1)],
                vec![Mkdir("d"), SyncDir(""), Unlink("e/d/c"), Unlink("e/d/n"), Rename("d", "e/d"), SyncDir("e")],
            ],
        ),
        with(
            "names given on",
            vec![
                vec![Rename("a", "a.1"), Create(1, "a"), Write(1, 0, 400), Fsync(1), Close(1)],
                vec![Rename("a.1", "a.2"), Rename("a", "a.1")],
                put(1, "a", 450),
                vec![Drain, Open(1, "a"), Fsync(1), Close(1), Checkpoint],
            ],
        ),
        apart(
            "contents apart",
            vec![
                vec![Create(1, "n"), Write(1, 0, LARGE), Fsync(1), Close(1)],
                vec![Open(1, "n"), Write(1, 70_000, 300), Fsync(1), Write(1, LARGE as u64, 900), Close(1), SyncAll],
                vec![OpenAnew(2, "n"), Write(2, 0, LARGE + 5), Close(2), SyncAll, Drain],
                vec![Truncate("n", 9), Rest, Checkpoint],
            ],
        ),
        apart(
            "contents replaced and removed",
            vec![
                vec![Create(1, "b.new"), Write(1, 0, LARGE), Fsync(1), Close(1), Rename("b.new", "b"), SyncDir("")],
                vec![Create(2, "never synced"), Write(2, 0, LARGE), Checkpoint, CloseSoon(2)],
                vec![Unlink("b"), SyncDir(""), Rest, Drain, Reopen, Unlink("never synced"), Shutdown],
            ],
        ),
        with("clean end and mount", vec![put(1, "n", 600), vec![Reopen, Unlink("n"), Reopen]]),
    ]
}

/// The workload of that name.
pub fn named(name: &str) -> Workload {
    all().into_iter().find(|workload| workload.name == name).unwrap_or_else(|| panic!("no workload {name}"))
}
