//! Directories of plain container volumes, over which no volume may be mounted: who removes such a volume removes what
//! its directory shows, file by file.

use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

/// The directory in which Docker and podman keep what is in a volume, below `volumes/NAME`.
const DATA: &str = "_data";
/// The directory in which Docker and podman keep their volumes.
const VOLUMES: &str = "volumes";

/// The directory of a container volume that a path is or lies in, and the volume's name.
#[must_use]
pub fn around(path: &Path) -> Option<(PathBuf, String)> {
    path.ancestors().find_map(|place| {
        let volume = place.parent().filter(|_| place.file_name().is_some_and(|name| name == DATA))?;
        let is_kept = volume.parent()?.file_name().is_some_and(|name| name == VOLUMES);
        let name = volume.file_name().filter(|_| is_kept)?;
        Some((place.to_owned(), name.to_string_lossy().into_owned()))
    })
}

/// Refuses to mount where removing a container volume would remove every medium.
///
/// # Errors
/// `Invalid`, with the reason and what to do instead.
pub fn refuse_mount_point(path: &Path) -> Result<()> {
    let Some((place, name)) = around(path) else { return Ok(()) };
    let place = place.display();
    Err(Error::new(
        Kind::Invalid,
        format!(
            "{place} is the directory of the container volume {name}. Removing that volume (`docker volume rm`, `docker \
volume prune`, `podman volume rm`) removes every file in it, and through a mount every medium. Mount elsewhere, and make the \
volume of it: `docker volume create -d local -o type=none -o o=bind -o device=/srv/{name}/.expired/.. {name}` shows \
/srv/{name} at {place}, and its removal leaves the media alone. --force mounts here nevertheless"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directories_of_volumes_are_known_by_their_place() {
        for (path, name) in [
            ("/var/lib/docker/volumes/whatsappMedia/_data", "whatsappMedia"),
            ("/var/lib/docker/volumes/whatsappMedia/_data/shared", "whatsappMedia"),
            ("/srv/engine/volumes/a/_data/volumes/b", "a"),
            ("/var/lib/containers/storage/volumes/v/_data", "v"),
        ] {
            assert_eq!(around(Path::new(path)).map(|(_, name)| name).as_deref(), Some(name), "{path}");
        }
        for path in ["/srv/_data", "/srv/x/_data", "/volumes/_data", "/srv/volumes/a/data", "/srv/volumes/a", "/"] {
            assert_eq!(around(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn the_refusal_says_why_and_what_to_do_instead() {
        let error = refuse_mount_point(Path::new("/var/lib/docker/volumes/m/_data")).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        let told = error.to_string();
        for part in ["docker volume prune", "every medium", "device=/srv/m/.expired/.. m", "--force"] {
            assert!(told.contains(part), "{told}");
        }
        refuse_mount_point(Path::new("/srv/m")).unwrap();
    }
}
