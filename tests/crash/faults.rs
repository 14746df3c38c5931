//! Which call of a disk fails, and how.

/// What kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Bytes or length of a file.
    Write,
    /// A name comes or changes.
    Name,
    /// A name goes.
    Unlink,
    /// Room is asked for.
    Allocate,
    /// A file or directory is synced.
    Sync,
    /// Bytes or names are read.
    Read,
    /// A file is opened to be written.
    OpenToWrite,
}

/// How a disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One changing call fails with EIO, a write of it half done.
    IoOnce,
    /// The disk is gone for changes from then on: EIO.
    IoForGood,
    /// One call that needs room fails with ENOSPC.
    FullOnce,
    /// The disk is full from then on.
    Full,
    /// The same on a disk that has never had room to promise.
    Tight,
    /// The disk has turned read-only from then on.
    ReadOnly,
    /// One write takes only half of its bytes.
    ShortWrite,
    /// One read fails with EIO.
    ReadOnce,
    /// One read gives only half of what is there.
    ShortRead,
}

impl Fault {
    fn concerns(self, call: Call) -> bool {
        match self {
            Fault::IoOnce | Fault::IoForGood => !matches!(call, Call::Read | Call::OpenToWrite),
            Fault::FullOnce | Fault::Full => matches!(call, Call::Write | Call::Name | Call::Allocate),
            Fault::Tight => matches!(call, Call::Write | Call::Name),
            Fault::ReadOnly => !matches!(call, Call::Read),
            Fault::ShortWrite => call == Call::Write,
            Fault::ReadOnce | Fault::ShortRead => call == Call::Read,
        }
    }

    fn lasts(self) -> bool {
        matches!(self, Fault::IoForGood | Fault::Full | Fault::Tight | Fault::ReadOnly)
    }

    fn answer(self, call: Call) -> Answer {
        match self {
            Fault::IoOnce | Fault::IoForGood | Fault::ReadOnce => Answer::Fail(libc::EIO),
            Fault::FullOnce | Fault::Full | Fault::Tight => Answer::Fail(libc::ENOSPC),
            // Bytes that are on their way are lost, and their sync says so.
            Fault::ReadOnly if call == Call::Sync => Answer::Fail(libc::EIO),
            Fault::ReadOnly => Answer::Fail(libc::EROFS),
            Fault::ShortWrite | Fault::ShortRead => Answer::Short,
        }
    }
}

/// What a call gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    GoOn,
    Short,
    Fail(i32),
}

/// The fault that is planned, and how many calls it could have hit.
#[derive(Default)]
pub struct Faults {
    plan: Option<(Fault, u64)>,
    seen: u64,
}

impl Faults {
    /// Has the call number `nth`, counted from now among those that `fault` concerns, fail.
    pub fn plan(&mut self, fault: Fault, nth: u64) {
        (self.plan, self.seen) = (Some((fault, nth)), 0);
    }

    /// No more faults; says whether the planned one had happened.
    pub fn end(&mut self) -> bool {
        let happened = self.plan.is_some_and(|(_, nth)| self.seen > nth);
        self.plan = None;
        happened
    }

    /// Whether the disk has no room left.
    pub fn is_full(&self) -> bool {
        self.plan.is_some_and(|(fault, nth)| matches!(fault, Fault::Full | Fault::Tight) && self.seen > nth)
    }

    /// Whether the disk promises no room to anybody.
    pub fn is_tight(&self) -> bool {
        self.plan.is_some_and(|(fault, _)| fault == Fault::Tight)
    }

    /// What a write into room that the disk has promised gets: it cannot be full for that.
    pub fn ask_promised(&mut self) -> Answer {
        match self.plan {
            Some((Fault::FullOnce | Fault::Full | Fault::Tight, _)) => Answer::GoOn,
            _ => self.ask(Call::Write),
        }
    }

    /// What this call gets.
    pub fn ask(&mut self, call: Call) -> Answer {
        let Some((fault, nth)) = self.plan.filter(|(fault, _)| fault.concerns(call)) else { return Answer::GoOn };
        self.seen += 1;
        let is_hit = self.seen == nth + 1 || (fault.lasts() && self.seen > nth);
        if is_hit { fault.answer(call) } else { Answer::GoOn }
    }
}
