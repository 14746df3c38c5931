//! The protocol: one JSON request, one JSON answer, for each path.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::plugin::{Keeper, Options, Plugin};
use crate::error::{Error, Kind, Result};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Create {
    name: String,
    #[serde(default)]
    opts: Option<Options>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Use {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "ID")]
    id: String,
}

/// Answers a request.
///
/// # Errors
/// `Unsupported` for a path that is not known, `Invalid` for a body that makes no sense, those of [`Plugin`].
pub fn answer<K: Keeper>(plugin: &Plugin<K>, path: &str, body: &[u8]) -> Result<Value> {
    match path {
        "/Plugin.Activate" => Ok(json!({ "Implements": ["VolumeDriver"] })),
        "/VolumeDriver.Capabilities" => Ok(json!({ "Capabilities": { "Scope": "local" } })),
        "/VolumeDriver.Create" => {
            let Create { name, opts } = parse(body)?;
            plugin.create(&name, &opts.unwrap_or_default()).map(|()| json!({}))
        }
        "/VolumeDriver.Remove" => plugin.remove(&parse::<Named>(body)?.name).map(|()| json!({})),
        "/VolumeDriver.Mount" => {
            let Use { name, id } = parse(body)?;
            plugin.mount(&name, &id).map(|place| json!({ "Mountpoint": place.display().to_string() }))
        }
        "/VolumeDriver.Unmount" => {
            let Use { name, id } = parse(body)?;
            plugin.unmount(&name, &id).map(|()| json!({}))
        }
        "/VolumeDriver.Path" => {
            let place = plugin.path(&parse::<Named>(body)?.name)?;
            Ok(json!({ "Mountpoint": place.display().to_string() }))
        }
        "/VolumeDriver.Get" => {
            let name = parse::<Named>(body)?.name;
            let entry = plugin.entry(&name)?;
            let mut status = plugin.figures(&name, &entry);
            status.insert("mounts".to_owned(), entry.mounts.len().into());
            let place = plugin.path(&name)?.display().to_string();
            let volume = json!({ "Name": name, "Mountpoint": place, "CreatedAt": entry.created, "Status": status });
            Ok(json!({ "Volume": volume }))
        }
        "/VolumeDriver.List" => {
            let volumes = plugin.list().into_iter();
            let volumes =
                volumes.map(|(name, place)| json!({ "Name": name, "Mountpoint": place.display().to_string() }));
            Ok(json!({ "Volumes": volumes.collect::<Vec<_>>() }))
        }
        _ => Err(Error::new(Kind::Unsupported, format!("a volume driver has no {path}"))),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|e| Error::new(Kind::Invalid, format!("the request makes no sense: {e}")))
}
