//! `wamedia serve`.

use super::Outcome;
use crate::cli::args::Serve;
use crate::cli::daemon::{self, Service};
use crate::cli::environment::Environment;
use crate::cli::log::Log;
use crate::cli::{holder, keys, node, target};
use crate::error::{Error, Kind};
use crate::store;

/// Serves the HTTP media API of a volume that is not mounted.
///
/// # Errors
/// What is found before it answers, also in the background.
pub fn run(args: Serve, environment: &Environment, log: &Log) -> Outcome {
    let store = target::absolute(&args.store)?;
    let node = node::config_of(&args.node, Some(node::DEFAULT_LISTEN))?;
    let outlets = args.daemon.outlets()?;
    if !target::is_store(&store)? {
        let shown = store.display();
        let message = format!("{shown} is not a store; `wamedia init {shown}` makes it");
        return Err(Error::new(Kind::NotFound, message).into());
    }
    let superblock = store::read_superblock(&store)?;
    // Asked for while there still is a terminal.
    let sources = keys::read(&args.keys, environment, &superblock)?;
    holder::wait_for(&store);
    args.daemon.direct(log)?;
    let service = Service {
        store,
        mount: None,
        node,
        outlets,
        index_cache_bytes: args.daemon.index_cache,
        scrubs: args.daemon.scrubs(),
        sources,
        log_file: args.daemon.log_file,
    };
    daemon::run(service, args.daemon.in_background, log)
}
