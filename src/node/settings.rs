//! What is set through the API: kept in the volume, read from memory.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::tables::SETTINGS;
use crate::error::{Error, Kind, Result};
use crate::sync::{Mutex, RwLock};
use crate::volume::{StateBatch, Volume};

/// Under which name they are kept.
const APPLICATION: &[u8] = b"application";
/// The least and the most webhooks that may be under way at a time.
const CONCURRENCY: std::ops::RangeInclusive<u32> = 1..=24;

/// The longest delay between two tries of a webhook, in milliseconds: the day after which it is given up.
const MAX_DELAY_MS: u64 = 24 * 60 * 60 * 1000;

/// `settings.application` of the WhatsApp Business API client, as far as it acts here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Application {
    /// By how much the delay between two tries of a webhook grows, in milliseconds.
    #[schema(minimum = 1, maximum = 86_400_000)]
    pub callback_backoff_delay_ms: u64,
    /// The longest delay, in milliseconds; no shorter than what it grows by.
    #[schema(minimum = 1, maximum = 86_400_000)]
    pub max_callback_backoff_delay_ms: u64,
    /// Which inbound media are fetched at once.
    pub media: MediaSettings,
    /// Whether the business is told that a message was sent.
    pub sent_status: bool,
    /// Where webhooks go.
    pub webhooks: WebhookSettings,
}

/// Which inbound media are fetched at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MediaSettings {
    /// Of these kinds: `audio`, `document`, `image`, `sticker`, `video`, `voice`.
    #[schema(value_type = Vec<Downloadable>)]
    pub auto_download: Vec<String>,
}

/// A kind of media that may be fetched at once.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code, reason = "it is in the document only")]
enum Downloadable {
    /// Music.
    Audio,
    /// Any file.
    Document,
    /// A picture.
    Image,
    /// A sticker.
    Sticker,
    /// A film.
    Video,
    /// Speech.
    Voice,
}

/// Where webhooks go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookSettings {
    /// How many may be under way at a time, 1 to 24.
    #[schema(minimum = 1, maximum = 24)]
    pub max_concurrent_requests: u32,
    /// The business's URL, http or https; empty: nowhere.
    pub url: String,
}

/// The kinds that may be fetched at once.
pub const DOWNLOADABLE: [&str; 6] = ["audio", "document", "image", "sticker", "video", "voice"];

impl Default for Application {
    fn default() -> Application {
        Application {
            callback_backoff_delay_ms: 3000,
            max_callback_backoff_delay_ms: 900_000,
            media: MediaSettings::default(),
            sent_status: false,
            webhooks: WebhookSettings::default(),
        }
    }
}

impl Default for MediaSettings {
    fn default() -> MediaSettings {
        MediaSettings { auto_download: DOWNLOADABLE.iter().map(|&kind| kind.to_owned()).collect() }
    }
}

impl Default for WebhookSettings {
    fn default() -> WebhookSettings {
        WebhookSettings { max_concurrent_requests: 6, url: String::new() }
    }
}

impl Application {
    fn validate(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::new(Kind::Invalid, what));
        if let Some(kind) = self.media.auto_download.iter().find(|kind| !DOWNLOADABLE.contains(&kind.as_str())) {
            return refuse(format!("media.auto_download: {kind} is none of {}", DOWNLOADABLE.join(", ")));
        }
        if !CONCURRENCY.contains(&self.webhooks.max_concurrent_requests) {
            return refuse("webhooks.max_concurrent_requests is 1 to 24".to_owned());
        }
        let (delay, longest) = (self.callback_backoff_delay_ms, self.max_callback_backoff_delay_ms);
        if delay == 0 || longest < delay || longest > MAX_DELAY_MS {
            return refuse(format!(
                "callback_backoff_delay_ms is at least 1, max_callback_backoff_delay_ms no less and at most {MAX_DELAY_MS}"
            ));
        }
        let url = &self.webhooks.url;
        if !url.is_empty() {
            let is_web =
                url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            if !is_web {
                return refuse("webhooks.url is not an http or https URL".to_owned());
            }
        }
        Ok(())
    }
}

/// The settings in force.
pub struct Settings {
    current: RwLock<Arc<Application>>,
    /// Held while they are changed.
    changing: Mutex<()>,
}

impl Settings {
    /// Reads those of a volume.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn load(volume: &Volume) -> Result<Settings> {
        let kept = volume.state_get(SETTINGS, APPLICATION)?;
        let application = match kept.map(|bytes| serde_json::from_slice(&bytes)) {
            None => Application::default(),
            Some(Ok(application)) => application,
            Some(Err(error)) => {
                tracing::warn!(%error, "the settings in the state log make no sense: the defaults hold");
                Application::default()
            }
        };
        Ok(Settings { current: RwLock::new(Arc::new(application)), changing: Mutex::new(()) })
    }

    /// Those in force now.
    #[must_use]
    pub fn current(&self) -> Arc<Application> {
        Arc::clone(&self.current.read())
    }

    /// Changes the fields that `patch` has. Durable on return.
    ///
    /// # Errors
    /// `Invalid` naming the field; those of the state log.
    pub fn patch(&self, volume: &Volume, patch: &Value) -> Result<Arc<Application>> {
        let _one = self.changing.lock();
        let mut whole = serde_json::to_value(&*self.current()).map_err(senseless)?;
        merge(&mut whole, patch);
        let application: Application =
            serde_json::from_value(whole).map_err(|error| Error::new(Kind::Invalid, error.to_string()))?;
        self.keep(volume, application)
    }

    /// Puts all of them back to the defaults. Durable on return.
    ///
    /// # Errors
    /// Those of the state log.
    pub fn reset(&self, volume: &Volume) -> Result<()> {
        let _one = self.changing.lock();
        self.keep(volume, Application::default()).map(drop)
    }

    fn keep(&self, volume: &Volume, application: Application) -> Result<Arc<Application>> {
        application.validate()?;
        let bytes = serde_json::to_vec(&application).map_err(senseless)?;
        volume.state_commit(StateBatch::new().put(SETTINGS, APPLICATION, bytes))?;
        let application = Arc::new(application);
        *self.current.write() = Arc::clone(&application);
        Ok(application)
    }
}

fn senseless(error: serde_json::Error) -> Error {
    Error::new(Kind::Io, "the settings could not be written").with_source(error)
}

/// Puts the fields of `patch` into `whole` (RFC 7396, without removal).
fn merge(whole: &mut Value, patch: &Value) {
    match (whole, patch) {
        (Value::Object(whole), Value::Object(patch)) => {
            for (name, value) in patch {
                merge(whole.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (whole, patch) => *whole = patch.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_changes_what_it_names_and_nothing_else() {
        let mut whole = serde_json::to_value(Application::default()).unwrap();
        merge(
            &mut whole,
            &serde_json::json!({"webhooks": {"url": "https://a.example/"}, "media": {"auto_download": []}}),
        );
        let changed: Application = serde_json::from_value(whole).unwrap();
        assert_eq!(changed.webhooks.url, "https://a.example/");
        assert_eq!(changed.webhooks.max_concurrent_requests, 6);
        assert!(changed.media.auto_download.is_empty());
        changed.validate().unwrap();
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let with = |change: fn(&mut Application)| {
            let mut application = Application::default();
            change(&mut application);
            application.validate().unwrap_err().to_string()
        };
        assert!(with(|a| a.webhooks.url = "ftp://x/".into()).contains("webhooks.url"));
        assert!(with(|a| a.webhooks.url = "nonsense".into()).contains("webhooks.url"));
        assert!(with(|a| a.webhooks.max_concurrent_requests = 0).contains("max_concurrent_requests"));
        assert!(with(|a| a.media.auto_download = vec!["pictures".into()]).contains("pictures"));
        assert!(with(|a| a.max_callback_backoff_delay_ms = 86_400_001).contains("max_callback_backoff_delay_ms"));
        assert!(with(|a| a.callback_backoff_delay_ms = 0).contains("callback_backoff_delay_ms"));
    }
}
