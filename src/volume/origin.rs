//! Who asks for what a thread does, and by which way: noted by whoever takes the request in, read where something is
//! removed.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};

/// By which way something is removed. The numbers of [`Way::code`] are on disk and never change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Nobody has said.
    #[default]
    Other,
    /// By its name in the mount.
    Mount,
    /// In `.expired` of the mount.
    Expired,
    /// Through the HTTP media API.
    Api,
    /// By a command that purges, or by the clean-up of the HTTP media API.
    Purge,
    /// By the daemon itself, since it has been expired for the grace period.
    Schedule,
    /// By the daemon itself, since the volume fills up.
    Watermark,
    /// By a command that erases.
    Erase,
    /// By a repair, since it is damaged.
    Repair,
    /// On the operator's page.
    Page,
}

impl Way {
    const ALL: [Way; 10] = [
        Way::Other,
        Way::Mount,
        Way::Expired,
        Way::Api,
        Way::Purge,
        Way::Schedule,
        Way::Watermark,
        Way::Erase,
        Way::Repair,
        Way::Page,
    ];

    /// Its number on disk.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The way of a number; one of a later version is [`Way::Other`].
    #[must_use]
    pub fn from_code(code: u8) -> Way {
        Way::ALL.get(usize::from(code)).copied().unwrap_or_default()
    }

    /// The word for it, as `wamedia audit` shows it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Way::Other => "other",
            Way::Mount => "mount",
            Way::Expired => "expired",
            Way::Api => "api",
            Way::Purge => "purge",
            Way::Schedule => "schedule",
            Way::Watermark => "watermark",
            Way::Erase => "erase",
            Way::Repair => "repair",
            Way::Page => "page",
        }
    }
}

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The user's number.
    pub uid: Option<u32>,
    /// The process; none for one that this host does not see.
    pub pid: Option<u32>,
    /// The program's name as the kernel has it, or the name of the token.
    pub name: String,
}

/// Who asks, and by which way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// By which way.
    pub way: Way,
    /// Who; none when nobody has asked, or it is not known.
    pub actor: Option<Actor>,
}

impl Actor {
    /// A process of this host, with its program's name as the kernel has it now. The number 0 stands for one that this host
    /// does not see.
    #[must_use]
    pub fn of_process(uid: u32, pid: u32) -> Actor {
        let seen = (pid != 0).then_some(pid);
        let name = seen.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()).unwrap_or_default();
        Actor { uid: Some(uid), pid: seen, name: name.trim_end().to_owned() }
    }
}

thread_local! {
    static ORIGIN: RefCell<Origin> = const { RefCell::new(Origin { way: Way::Other, actor: None }) };
}

/// Puts what was before back, also when a panic ends the work.
struct Before(Option<Origin>);

impl Drop for Before {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            ORIGIN.with_borrow_mut(|origin| *origin = before);
        }
    }
}

/// Does something in the name of `origin`.
pub fn acting<T>(origin: Origin, work: impl FnOnce() -> T) -> T {
    let _before = Before(Some(ORIGIN.replace(origin)));
    work()
}

/// Does something by another way, in the name of whoever asks now.
pub fn by_way<T>(way: Way, work: impl FnOnce() -> T) -> T {
    acting(Origin { way, ..current() }, work)
}

/// In whose name this thread works now.
#[must_use]
pub fn current() -> Origin {
    ORIGIN.with_borrow(Clone::clone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_lasts_as_long_as_its_work() {
        let actor = Actor { uid: Some(7), pid: None, name: "rm".into() };
        let outer = Origin { way: Way::Mount, actor: Some(actor.clone()) };
        acting(outer.clone(), || {
            assert_eq!(by_way(Way::Erase, current), Origin { way: Way::Erase, actor: Some(actor) });
            assert_eq!(current(), outer);
            let panicked = std::panic::catch_unwind(|| by_way(Way::Api, || panic!("of the test")));
            assert!(panicked.is_err());
            assert_eq!(current(), outer);
        });
        assert_eq!(current(), Origin::default());
    }

    #[test]
    fn every_way_has_a_number_and_a_word_of_its_own() {
        for (nth, way) in Way::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(way.code()), nth);
            assert_eq!(Way::from_code(way.code()), way);
            assert_eq!(serde_json::to_value(way).unwrap(), way.as_str());
        }
        assert_eq!(Way::from_code(200), Way::Other);
    }
}
