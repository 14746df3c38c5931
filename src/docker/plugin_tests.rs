//! Counting, and what is done again, on a keeper that only remembers.

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::docker::answer;

/// What became of each volume.
#[derive(Default)]
struct World {
    made: Vec<String>,
    deleted: Vec<String>,
    mounted: BTreeMap<String, Found>,
    mounts: usize,
    is_busy: bool,
    fails_to_mount: bool,
}

#[derive(Default)]
struct Remembers(Mutex<World>);

impl Keeper for Remembers {
    fn wishes(&self, volume: Asked<'_>) -> Result<Wishes> {
        match volume.options.contains_key("unknown") {
            true => Err(Error::new(Kind::Invalid, "unknown option")),
            false => Ok(Wishes {
                stays: volume.options.contains_key("stays"),
                deletes: volume.options.contains_key("deletes"),
            }),
        }
    }

    fn make(&self, volume: Asked<'_>) -> Result<()> {
        self.0.lock().made.push(volume.name.to_owned());
        Ok(())
    }

    fn look(&self, volume: Asked<'_>) -> Result<Found> {
        let mut world = self.0.lock();
        let found = world.mounted.get(volume.name).copied().unwrap_or(Found::Absent);
        if found == Found::Dead {
            world.mounted.remove(volume.name);
        }
        Ok(found)
    }

    fn mount(&self, volume: Asked<'_>) -> Result<()> {
        let mut world = self.0.lock();
        if world.fails_to_mount {
            return Err(Error::new(Kind::Io, "no mount today"));
        }
        assert!(world.mounted.insert(volume.name.to_owned(), Found::Alive).is_none(), "mounted twice");
        world.mounts += 1;
        Ok(())
    }

    fn unmount(&self, volume: Asked<'_>) -> Result<Left> {
        let mut world = self.0.lock();
        if world.is_busy {
            return Ok(Left::InUse);
        }
        assert_eq!(world.mounted.remove(volume.name), Some(Found::Alive), "unmounted twice");
        Ok(Left::Unmounted)
    }

    fn discard(&self, volume: Asked<'_>, deletes: bool) -> Result<()> {
        if deletes {
            self.0.lock().deleted.push(volume.name.to_owned());
        }
        Ok(())
    }

    fn mountpoint(&self, volume: Asked<'_>) -> PathBuf {
        Path::new("/m").join(volume.name)
    }

    fn figures(&self, _: Asked<'_>, last: Option<&Figures>) -> Figures {
        last.cloned().unwrap_or_else(|| Figures::from_iter([("used_bytes".to_owned(), 7.into())]))
    }

    fn now(&self) -> String {
        "now".to_owned()
    }
}

/// A plugin with its directory.
struct Ground {
    directory: tempfile::TempDir,
    plugin: Plugin<Remembers>,
}

impl Ground {
    fn new() -> Ground {
        let directory = tempfile::tempdir().unwrap();
        let plugin = Plugin::new(Remembers::default(), StateFile::open(directory.path()).unwrap());
        Ground { directory, plugin }
    }

    /// Ends the plugin and starts another one on what it left.
    fn again(self) -> Ground {
        let Ground { directory, plugin } = self;
        let Plugin { keeper, state, .. } = plugin;
        drop(state);
        let plugin = Plugin::new(keeper, StateFile::open(directory.path()).unwrap());
        Ground { directory, plugin }
    }

    fn ask(&self, path: &str, body: Value) -> Result<Value> {
        answer(&self.plugin, &format!("/VolumeDriver.{path}"), body.to_string().as_bytes())
    }

    fn create(&self, options: &[&str]) {
        let options: Options = options.iter().map(|name| ((*name).to_owned(), String::new())).collect();
        self.ask("Create", json!({ "Name": "v", "Opts": options })).unwrap();
    }

    fn mount(&self, id: &str) {
        assert_eq!(self.ask("Mount", json!({ "Name": "v", "ID": id })).unwrap(), json!({ "Mountpoint": "/m/v" }));
    }

    fn unmount(&self, id: &str) {
        self.ask("Unmount", json!({ "Name": "v", "ID": id })).unwrap();
    }

    fn users(&self) -> Vec<String> {
        self.plugin.entry("v").unwrap().mounts.into_iter().collect()
    }

    fn is_mounted(&self) -> bool {
        self.plugin.keeper.0.lock().mounted.get("v") == Some(&Found::Alive)
    }

    fn becomes(&self, found: Found) {
        let mut world = self.plugin.keeper.0.lock();
        world.mounted.remove("v");
        if found != Found::Absent {
            world.mounted.insert("v".to_owned(), found);
        }
    }
}

#[test]
fn it_is_mounted_with_the_first_use_and_unmounted_with_the_last() {
    let ground = Ground::new();
    ground.create(&[]);
    for id in ["a", "b", "a"] {
        ground.mount(id);
    }
    assert_eq!((ground.users(), ground.plugin.keeper.0.lock().mounts), (vec!["a".to_owned(), "b".to_owned()], 1));
    for id in ["a", "a", "unknown"] {
        ground.unmount(id);
        assert!(ground.is_mounted(), "{id}");
    }
    ground.unmount("b");
    assert!(!ground.is_mounted());
    ground.unmount("b");
    let status = ground.ask("Get", json!({ "Name": "v" })).unwrap()["Volume"]["Status"].clone();
    assert_eq!(status, json!({ "used_bytes": 7, "mounts": 0 }));
}

#[test]
fn one_that_is_to_stay_stays() {
    let ground = Ground::new();
    ground.create(&["stays"]);
    ground.mount("a");
    ground.unmount("a");
    assert!(ground.is_mounted());
    // As after the machine has started.
    ground.becomes(Found::Absent);
    let ground = ground.again();
    ground.plugin.restore();
    assert!(ground.is_mounted());
}

#[test]
fn making_it_again_changes_nothing() {
    let ground = Ground::new();
    ground.create(&["x"]);
    ground.mount("a");
    ground.create(&["x"]);
    ground.create(&[]);
    assert_eq!((ground.users(), ground.plugin.keeper.0.lock().made.len()), (vec!["a".to_owned()], 1));
    let refused = ground.ask("Create", json!({ "Name": "v", "Opts": { "y": "" } })).unwrap_err();
    assert_eq!(refused.kind(), Kind::Exists);
    let refused = ground.ask("Create", json!({ "Name": "w", "Opts": { "unknown": "" } })).unwrap_err();
    assert_eq!((refused.kind(), ground.plugin.list().len()), (Kind::Invalid, 1));
}

#[test]
fn a_mount_that_lost_its_daemon_is_mounted_again() {
    let ground = Ground::new();
    ground.create(&[]);
    ground.mount("a");
    ground.becomes(Found::Dead);
    ground.mount("b");
    assert!(ground.is_mounted());
    // Who had the dead one will end its use too.
    assert_eq!(ground.users(), ["a", "b"]);
    ground.becomes(Found::Dead);
    let ground = ground.again();
    ground.plugin.restore();
    assert!(ground.is_mounted());
    assert_eq!(ground.users(), ["a", "b"]);
}

#[test]
fn a_mount_that_is_gone_has_taken_its_users_with_it() {
    let ground = Ground::new();
    ground.create(&[]);
    ground.mount("a");
    ground.becomes(Found::Absent);
    ground.mount("b");
    assert_eq!(ground.users(), ["b"]);
    ground.becomes(Found::Absent);
    let ground = ground.again();
    ground.plugin.restore();
    assert!(!ground.is_mounted());
    assert!(ground.users().is_empty());
}

#[test]
fn users_outlive_the_plugin() {
    let ground = Ground::new();
    ground.create(&[]);
    ground.mount("a");
    let ground = ground.again();
    ground.plugin.restore();
    assert_eq!((ground.users(), ground.plugin.keeper.0.lock().mounts), (vec!["a".to_owned()], 1));
    ground.unmount("a");
    assert!(!ground.is_mounted());
}

#[test]
fn a_mount_that_fails_counts_no_user() {
    let ground = Ground::new();
    ground.create(&[]);
    ground.plugin.keeper.0.lock().fails_to_mount = true;
    let refused = ground.ask("Mount", json!({ "Name": "v", "ID": "a" })).unwrap_err();
    assert!(refused.to_string().contains("no mount today"));
    assert!(ground.users().is_empty());
}

#[test]
fn what_the_host_uses_stays_mounted_until_it_is_asked_for_again() {
    let ground = Ground::new();
    ground.create(&[]);
    ground.mount("a");
    ground.plugin.keeper.0.lock().is_busy = true;
    ground.unmount("a");
    assert!(ground.is_mounted() && ground.users().is_empty());
    assert_eq!(ground.ask("Remove", json!({ "Name": "v" })).unwrap_err().kind(), Kind::Busy);
    ground.plugin.keeper.0.lock().is_busy = false;
    ground.mount("b");
    ground.unmount("b");
    assert!(!ground.is_mounted());
}

#[test]
fn removing_it_deletes_nothing_unless_that_was_said() {
    for (options, deleted) in [(&[][..], 0), (&["deletes"][..], 1)] {
        let ground = Ground::new();
        ground.create(options);
        ground.mount("a");
        let refused = ground.ask("Remove", json!({ "Name": "v" })).unwrap_err();
        assert_eq!(refused.kind(), Kind::Busy);
        assert!(refused.to_string().contains("wamedia umount /m/v"), "{refused}");
        ground.unmount("a");
        ground.ask("Remove", json!({ "Name": "v" })).unwrap();
        ground.ask("Remove", json!({ "Name": "v" })).unwrap();
        assert_eq!((ground.plugin.keeper.0.lock().deleted.len(), ground.plugin.list().len()), (deleted, 0));
        assert_eq!(ground.again().plugin.entry("v").unwrap_err().kind(), Kind::NotFound);
    }
}

#[test]
fn the_answers_have_the_form_of_the_protocol() {
    let ground = Ground::new();
    assert_eq!(answer(&ground.plugin, "/Plugin.Activate", b"").unwrap(), json!({ "Implements": ["VolumeDriver"] }));
    assert_eq!(ground.ask("Capabilities", json!({})).unwrap(), json!({ "Capabilities": { "Scope": "local" } }));
    assert_eq!(ground.ask("List", json!({})).unwrap(), json!({ "Volumes": [] }));
    ground.ask("Create", json!({ "Name": "v", "Opts": null })).unwrap();
    assert_eq!(ground.ask("Path", json!({ "Name": "v" })).unwrap(), json!({ "Mountpoint": "/m/v" }));
    let volume = &ground.ask("Get", json!({ "Name": "v" })).unwrap()["Volume"];
    assert_eq!((&volume["Name"], &volume["CreatedAt"]), (&json!("v"), &json!("now")));
    assert_eq!(ground.ask("List", json!({})).unwrap()["Volumes"], json!([{ "Name": "v", "Mountpoint": "/m/v" }]));
    for path in ["Get", "Path", "Mount", "Unmount"] {
        let refused = ground.ask(path, json!({ "Name": "w", "ID": "a" })).unwrap_err();
        assert_eq!(refused.kind(), Kind::NotFound, "{path}");
    }
    assert_eq!(ground.ask("Other", json!({})).unwrap_err().kind(), Kind::Unsupported);
    assert_eq!(answer(&ground.plugin, "/VolumeDriver.Create", b"{").unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn names_and_ids_that_lead_elsewhere_are_refused() {
    let ground = Ground::new();
    let long = "x".repeat(256);
    for name in ["", ".", "..", "../x", "a/b", ".new-x", "a b", "ä", "-x", "_x", "a\0", &long] {
        let refused = ground.ask("Create", json!({ "Name": name })).unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid, "{name}");
    }
    ground.create(&[]);
    for id in ["", "x".repeat(257).as_str()] {
        let refused = ground.ask("Mount", json!({ "Name": "v", "ID": id })).unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid, "{id}");
    }
    assert!(!ground.is_mounted());
}
