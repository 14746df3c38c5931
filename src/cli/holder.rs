//! Waits for a store whose holder is about to end: umount(8) returns before the daemon has let go.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::control::{Client, Hello};
use crate::store::StoreLock;

/// How long a process that serves nobody may hold the store: a daemon that shuts down, or another command.
const ENDING_PATIENCE: Duration = Duration::from_secs(10);
/// The same for a daemon that still answers but has no mount here: it ends, or is mounted where this process cannot see.
const ANSWERING_PATIENCE: Duration = Duration::from_millis(1500);
/// How long between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until nobody holds the store, but not for a daemon that serves it, and not for ever. Whoever opens the store
/// afterwards is told of a holder that is still there.
pub fn wait_for(store: &Path) {
    let begun = Instant::now();
    while StoreLock::is_held(store) && begun.elapsed() < patience(store) {
        sleep(PAUSE);
    }
}

fn patience(store: &Path) -> Duration {
    match Client::connect(store) {
        Ok(Some(client)) if is_mounted(client.hello()) => Duration::ZERO,
        // One that ends closes its connections, which is an error in the middle of a hello.
        Ok(Some(_)) | Err(_) => ANSWERING_PATIENCE,
        Ok(None) => ENDING_PATIENCE,
    }
}

/// Whether the mount of a daemon is there.
fn is_mounted(hello: &Hello) -> bool {
    let mounts = crate::fs::find_mounts().unwrap_or_default();
    hello.mount.as_ref().is_some_and(|place| mounts.iter().any(|mount| mount.path == Path::new(place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_let_go_is_waited_for() {
        let store = tempfile::tempdir().unwrap();
        let lock = StoreLock::take(store.path()).unwrap();
        let letting_go = std::thread::spawn(move || {
            sleep(Duration::from_millis(200));
            drop(lock);
        });
        wait_for(store.path());
        assert!(StoreLock::take(store.path()).is_ok());
        letting_go.join().unwrap();
    }
}
