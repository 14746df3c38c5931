//! `wamedia mount`.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::{Failure, MakeStore, Outcome, make_store};
use crate::cli::args::Mount;
use crate::cli::daemon::{self, MountAt, Service};
use crate::cli::environment::Environment;
use crate::cli::keeping::{self, Begin};
use crate::cli::log::Log;
use crate::cli::{container_volume, holder, keys, node, target};
use crate::crypto::Suite;
use crate::error::{Error, Kind, Result};
use crate::fs::{Access, MountOptions};
use crate::store;

/// Mounts a volume and serves it: in the foreground, or with `--daemon` in the background once it answers.
///
/// # Errors
/// What is found before the mount answers, also in the background; exit code 32 when the mount itself fails.
pub fn run(args: Mount, environment: &Environment, log: &Log) -> Outcome {
    let kept = if args.keep_mount { keeping::receive()? } else { Vec::new() };
    // A mount that was kept answers only once it is served again: not even a look at it ends before.
    let places = Places::resolve(&args, !keeping::has_connection(&kept))?;
    let options = mount_options(&args, &places.store, environment)?;
    let node = node::config_of(&args.node, None)?;
    if node.is_some() && options.read_only() {
        let message = "the media node and the page change the volume, which a mount with `-o ro` does not let them; leave one of them out";
        return Err(Error::new(Kind::Invalid, message).into());
    }
    let outlets = args.daemon.outlets()?;
    if outlets.url.is_some() && options.read_only() {
        let message = "events for a URL are kept in the volume, which a mount with `-o ro` does not change; leave one of them out";
        return Err(Error::new(Kind::Invalid, message).into());
    }
    let begin = begin(kept, &args, &places, &options)?;
    // Before a store and a key are made that a wrong mount point would leave behind.
    if !matches!(begin, Some(Begin::Outlived(_))) {
        require_mount_point(&places.mount_point, args.init)?;
    }
    if !target::is_store(&places.store)? {
        make(&args, &places, environment)?;
    } else if args.init && !args.new.is_empty() {
        eprintln!(
            "wamedia: {} is a store already; its cipher, quota and retention stay as they are",
            places.store.display()
        );
    }
    let superblock = store::read_superblock(&places.store)?;
    if options.pass_through {
        expect_passing(superblock.suite(), args.keep_mount)?;
    }
    // Asked for while there still is a terminal.
    let sources = keys::read(&args.keys, environment, &superblock)?;
    holder::wait_for(&places.store);
    args.daemon.direct(log)?;
    let service = Service {
        store: places.store,
        mount: Some(MountAt { point: places.mount_point, options, asked: places.asked, begin }),
        node,
        outlets,
        index_cache_bytes: args.daemon.index_cache,
        scrubs: args.daemon.scrubs(),
        sources,
        log_file: args.daemon.log_file,
    };
    daemon::run(service, args.daemon.in_background, log)
}

/// How a mount begins that is to be kept; none for one that is not.
fn begin(kept: Vec<(String, OwnedFd)>, args: &Mount, places: &Places, options: &MountOptions) -> Result<Option<Begin>> {
    if !args.keep_mount {
        return Ok(None);
    }
    if !keeping::has_manager() {
        tracing::warn!("there is no service manager to keep the mount: it ends with this process");
        return Ok(None);
    }
    if !target::is_store(&places.store)? {
        return Err(Error::new(Kind::NotFound, format!("{} is not a store", places.store.display())));
    }
    let volume = store::read_superblock(&places.store)?.volume();
    keeping::begin(kept, volume, &places.asked, options).map(Some)
}

/// Refuses `-o pass_through` where it could do nothing, or end badly.
fn expect_passing(suite: Suite, is_kept: bool) -> Result<()> {
    if suite != Suite::Checksum {
        let message = "the kernel cannot read an encrypted volume by itself; leave `-o pass_through` out, or make a volume with `--cipher none`";
        return Err(Error::new(Kind::Invalid, message));
    }
    if is_kept {
        let message = "what is passed through ends with this process, so the mount cannot be kept; leave out `-o pass_through` or `--keep-mount`";
        return Err(Error::new(Kind::Invalid, message));
    }
    Ok(())
}

/// Where the volume is and is to be.
struct Places {
    store: PathBuf,
    mount_point: PathBuf,
    /// The mount point as it was given, made absolute.
    asked: PathBuf,
}

impl Places {
    /// Resolves both; the mount point itself is only looked at when it `answers`.
    fn resolve(args: &Mount, answers: bool) -> Result<Places> {
        if !args.init && !args.new.is_empty() {
            return Err(Error::new(
                Kind::Invalid,
                "options for a new volume need --init; `wamedia quota` and `wamedia retention` change an existing one",
            ));
        }
        let store = target::absolute(&args.store)?;
        let asked =
            std::path::absolute(&args.mount_point).map_err(|e| Error::io(args.mount_point.display().to_string(), e))?;
        let mount_point = if answers { target::absolute(&args.mount_point)? } else { asked.clone() };
        if store.starts_with(&mount_point) || mount_point.starts_with(&store) {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "{} and {} lie in one another; the store needs a place of its own",
                    store.display(),
                    mount_point.display()
                ),
            ));
        }
        if !args.force {
            container_volume::refuse_mount_point(&mount_point)?;
        }
        Ok(Places { store, mount_point, asked })
    }
}

/// The mount options, with what is default: the store as the source, and for root `allow_other`.
fn mount_options(args: &Mount, store: &Path, environment: &Environment) -> Result<MountOptions> {
    let mut options = options_of(&args.options, store)?;
    if environment.is_root() && options.access == Access::Owner {
        options.access = Access::Everybody;
    }
    Ok(options)
}

/// The mount options, with the store as the source.
pub(super) fn options_of(words: &[String], store: &Path) -> Result<MountOptions> {
    let mut options = MountOptions::parse(words)?;
    let names_source = words.iter().any(|list| list.split(',').any(|word| word.starts_with("fsname=")));
    if !names_source {
        options.source = store.display().to_string();
    }
    Ok(options)
}

fn make(args: &Mount, places: &Places, environment: &Environment) -> Result<()> {
    if !args.init {
        let (store, mount_point) = (places.store.display(), places.mount_point.display());
        return Err(Error::new(
            Kind::NotFound,
            format!("{store} is not a store; `wamedia mount --init {store} {mount_point}` makes it"),
        ));
    }
    make_store(&MakeStore { store: &places.store, keys: &args.keys, new: &args.new }, environment)?;
    Ok(())
}

/// Sees to it that there is a directory to mount at, and makes it if it may.
fn require_mount_point(path: &Path, may_make: bool) -> std::result::Result<(), Failure> {
    match path.symlink_metadata() {
        Ok(found) if !found.is_dir() => {
            let message = format!("{} is not a directory; name one to mount at", path.display());
            Err(Failure::of_mount(Error::new(Kind::NotDirectory, message)))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && may_make => std::fs::create_dir(path)
            .map_err(|e| Failure::of_mount(Error::io(format!("cannot make the mount point {}", path.display()), e))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let path = path.display();
            let message = format!("there is no directory {path} to mount at; make it with `mkdir {path}`");
            Err(Failure::of_mount(Error::new(Kind::NotFound, message)))
        }
        // A mount whose daemon is gone does not answer; the mount itself clears it.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use clap::Parser;

    fn parse(line: &[&str]) -> Mount {
        match Cli::try_parse_from([&["wamedia", "mount"], line].concat()).unwrap().command {
            Command::Mount(mount) => *mount,
            _ => panic!("no mount"),
        }
    }

    fn environment(uid: u32) -> Environment {
        Environment { uid, ..Environment::read() }
    }

    #[test]
    fn root_mounts_for_everybody_unless_told_otherwise() {
        let store = Path::new("/s");
        let access = |line: &[&str], uid| mount_options(&parse(line), store, &environment(uid)).unwrap().access;
        assert_eq!(access(&["S", "M"], 0), Access::Everybody);
        assert_eq!(access(&["S", "M"], 7), Access::Owner);
        assert_eq!(access(&["-o", "allow_root", "S", "M"], 0), Access::OwnerAndRoot);
    }

    #[test]
    fn the_source_is_the_store_unless_named() {
        let source = |line: &[&str]| mount_options(&parse(line), Path::new("/s"), &environment(0)).unwrap().source;
        assert_eq!(source(&["S", "M"]), "/s");
        assert_eq!(source(&["-o", "ro,fsname=x", "S", "M"]), "x");
    }

    #[test]
    fn store_and_mount_point_may_not_lie_in_one_another() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        for (store, mount_point) in [("a", "a"), ("a/b", "a"), ("a", "a/b")] {
            std::fs::create_dir_all(at("a")).unwrap();
            let refused = Places::resolve(&parse(&[&at(store), &at(mount_point)]), true).err().unwrap();
            assert_eq!(refused.kind(), Kind::Invalid, "{store} {mount_point}");
        }
        assert!(Places::resolve(&parse(&[&at("a"), &at("ab")]), true).is_ok());
    }

    #[test]
    fn the_directory_of_a_container_volume_is_mounted_over_by_force_alone() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("volumes/whatsappMedia/_data");
        std::fs::create_dir_all(&data).unwrap();
        std::os::unix::fs::symlink(&data, directory.path().join("link")).unwrap();
        for name in ["volumes/whatsappMedia/_data", "link"] {
            let mnt = directory.path().join(name).display().to_string();
            let store = directory.path().join("s").display().to_string();
            let refused = Places::resolve(&parse(&[&store, &mnt]), true).err().unwrap();
            assert!(refused.to_string().contains("docker volume prune"), "{refused}");
            assert!(Places::resolve(&parse(&["--force", &store, &mnt]), true).is_ok());
        }
    }

    #[test]
    fn options_for_a_new_volume_need_init() {
        let refused = Places::resolve(&parse(&["--quota", "1GiB", "S", "M"]), true).err().unwrap();
        assert!(refused.to_string().contains("--init"), "{refused}");
    }
}
