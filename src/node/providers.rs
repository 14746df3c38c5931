//! `/v1/settings/application/media/providers`: credentials with which links in messages are fetched.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::core::{Core, blocking};
use super::envelope::{ApiError, Body, Code, Done, Faults, Meta, Segment, unexpected};
use super::fetch::Credentials;
use super::queue::{decode, each, encode};
use super::secret::Secret;
use super::tables::PROVIDERS;
use crate::error::Result;
use crate::volume::{StateBatch, Volume};

/// The most bytes of a provider's name, user name, and secret.
const MAX_NAME: usize = 128;
const MAX_SECRET: usize = 4096;
/// The most providers.
const MAX_PROVIDERS: u64 = 1000;

/// The routes of providers.
pub fn router() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(remove))
}

/// A provider with its credentials.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// By which messages name it: one line without a slash, of at most 128 bytes.
    #[schema(pattern = r"^[^/\u0000-\u001f\u007f-\u009f]+$", min_length = 1, max_length = 128)]
    pub name: String,
    /// `www`.
    #[serde(rename = "type")]
    #[schema(pattern = "^www$")]
    pub kind: String,
    /// Its credentials.
    #[schema(value_type = ConfigForm)]
    pub config: ProviderConfig,
}

/// What a provider wants to see: one of both.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// A bearer token, of at most 4096 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<String>,
    /// A user's name and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<Basic>,
}

/// What a provider wants to see, as the document tells it.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "it is in the document only")]
enum ConfigForm {
    Bearer(BearerForm),
    Basic(BasicForm),
}

/// A bearer token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it is in the document only")]
struct BearerForm {
    /// The token, of at most 4096 bytes.
    #[schema(pattern = "^[ -~]+$", min_length = 1, max_length = 4096)]
    bearer: String,
}

/// A name and a password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it is in the document only")]
struct BasicForm {
    /// They.
    basic: Basic,
}

/// A user's name and password.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// The name, one line of at most 128 bytes.
    #[schema(pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$", min_length = 1, max_length = 128)]
    pub username: String,
    /// The password, one line of at most 4096 bytes.
    #[schema(pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$", min_length = 1, max_length = 4096)]
    pub password: String,
}

/// What may be added, as the document tells it.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "a body is read by hand, so that an error names the field")]
enum Providers {
    /// One.
    One(Box<Provider>),
    /// Several.
    Many(Vec<Provider>),
}

/// A provider without its secrets.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ShownProvider {
    /// By which messages name it.
    pub name: String,
    /// `www`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `bearer`, or `basic` with the user's name.
    #[schema(value_type = Object)]
    pub config: BTreeMap<String, Value>,
}

/// The answer with the providers.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProvidersAnswer {
    /// The settings.
    pub settings: ProviderSettings,
    /// As in every answer.
    pub meta: Meta,
}

/// As settings are nested.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProviderSettings {
    /// Those of the application.
    pub application: ProviderApplication,
}

/// As settings are nested.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProviderApplication {
    /// Those of media.
    pub media: ProviderMedia,
}

/// As settings are nested.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProviderMedia {
    /// The providers.
    pub providers: Vec<ShownProvider>,
}

impl Provider {
    fn check(&self) -> std::result::Result<(), ApiError> {
        let refuse = |what: &str| Err(ApiError::new(Code::NotValid, what));
        let is_name = |text: &str| !text.is_empty() && text.len() <= MAX_NAME && !text.chars().any(char::is_control);
        let is_secret =
            |text: &str| !text.is_empty() && text.len() <= MAX_SECRET && !text.chars().any(char::is_control);
        if !is_name(&self.name) || self.name.contains('/') {
            return refuse("name is one line of 1 to 128 bytes without a slash");
        }
        if self.kind != "www" {
            return refuse("type is www");
        }
        match (&self.config.bearer, &self.config.basic) {
            (Some(bearer), None) if is_secret(bearer) && bearer.is_ascii() => Ok(()),
            (None, Some(basic)) if is_name(&basic.username) && is_secret(&basic.password) => Ok(()),
            (Some(_), Some(_)) | (None, None) => refuse("config has either bearer or basic"),
            _ => refuse("config: bearer is a token, basic has username and password, none of them empty"),
        }
    }

    fn shown(&self) -> ShownProvider {
        let config = match &self.config.basic {
            Some(basic) => ("basic", serde_json::json!({"username": basic.username})),
            None => ("bearer", serde_json::json!({})),
        };
        let config = BTreeMap::from([(config.0.to_owned(), config.1)]);
        ShownProvider { name: self.name.clone(), kind: self.kind.clone(), config }
    }
}

/// One provider, or a list of them.
fn read(given: Value) -> std::result::Result<Vec<Provider>, ApiError> {
    let given = if given.is_array() { given } else { Value::Array(vec![given]) };
    serde_json::from_value(given).map_err(|error| unexpected(&error))
}

/// The credentials of a provider; none when there is no such provider.
///
/// # Errors
/// `Damaged`, `Io`.
pub fn get(volume: &Volume, name: &str) -> Result<Option<Credentials>> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Ok(None);
    }
    let kept = volume.state_get(PROVIDERS, name.as_bytes())?.map(zeroize::Zeroizing::new);
    let Some(kept) = kept else { return Ok(None) };
    let config = decode::<Provider>(&kept)?.config;
    Ok(match (config.bearer, config.basic) {
        (Some(bearer), _) => Some(Credentials::Bearer(Secret::new(bearer))),
        (None, Some(basic)) => {
            Some(Credentials::Basic { username: basic.username, password: Secret::new(basic.password) })
        }
        (None, None) => None,
    })
}

/// The providers, without their secrets.
#[utoipa::path(
    get,
    path = "/v1/settings/application/media/providers",
    operation_id = "list_providers",
    tag = "settings",
    responses(
        (status = 200, description = "They; no secret is ever given back.", body = ProvidersAnswer),
    ),
    security(("bearer" = []), ("d360" = []))
)]
async fn list(State(core): State<Arc<Core>>) -> std::result::Result<Json<ProvidersAnswer>, ApiError> {
    let listed = core.ask(|volume| {
        let mut providers = Vec::new();
        each(volume, PROVIDERS, |_, value| providers.extend(decode::<Provider>(value).map(|one| one.shown())))?;
        Ok(providers)
    });
    let media = ProviderMedia { providers: listed.await? };
    let settings = ProviderSettings { application: ProviderApplication { media } };
    Ok(Json(ProvidersAnswer { settings, meta: Meta::new() }))
}

/// Adds providers, or replaces those of the same name.
#[utoipa::path(
    post,
    path = "/v1/settings/application/media/providers",
    operation_id = "add_providers",
    tag = "settings",
    request_body(content = Providers, description = "A provider, or a list of them."),
    responses(
        (status = 200, description = "They are known, and durable.", body = Done),
        (status = 400, description = "What is wrong with one, by name.", body = Faults),
    ),
    security(("bearer" = []), ("d360" = []))
)]
async fn add(State(core): State<Arc<Core>>, Body(given): Body<Value>) -> std::result::Result<Json<Done>, ApiError> {
    let given = read(given)?;
    given.iter().try_for_each(Provider::check)?;
    if core.volume.state_count(PROVIDERS).saturating_add(given.len() as u64) > MAX_PROVIDERS {
        return Err(ApiError::new(Code::NotValid, format!("there are at most {MAX_PROVIDERS} providers")));
    }
    blocking(move || {
        let mut batch = StateBatch::new();
        for provider in &given {
            batch.put(PROVIDERS, provider.name.as_bytes(), encode(provider)?);
        }
        core.volume.state_commit(&batch)
    })
    .await?;
    Ok(Json(Done { meta: Meta::new() }))
}

/// Removes a provider.
#[utoipa::path(
    delete,
    path = "/v1/settings/application/media/providers/{name}",
    operation_id = "remove_provider",
    tag = "settings",
    params(("name" = String, Path, description = "The provider's name.")),
    responses(
        (status = 200, description = "It is forgotten, with its secret.", body = Done),
        (status = 404, description = "No provider has this name.", body = Faults),
    ),
    security(("bearer" = []), ("d360" = []))
)]
async fn remove(State(core): State<Arc<Core>>, Segment(name): Segment) -> std::result::Result<Json<Done>, ApiError> {
    let removed = core.ask(move |volume| {
        if get(volume, &name)?.is_none() {
            return Ok(false);
        }
        volume.state_commit(StateBatch::new().delete(PROVIDERS, name.as_bytes())).map(|()| true)
    });
    match removed.await? {
        true => Ok(Json(Done { meta: Meta::new() })),
        false => Err(ApiError::new(Code::NotFound, "no provider has this name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(config: serde_json::Value) -> Provider {
        let whole = serde_json::json!({"name": "cdn", "type": "www", "config": config});
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn a_provider_is_shown_without_its_secret() {
        let basic = provider(serde_json::json!({"basic": {"username": "u", "password": "hush"}}));
        let bearer = provider(serde_json::json!({"bearer": "hush"}));
        for one in [basic, bearer] {
            one.check().unwrap();
            let shown = serde_json::to_string(&one.shown()).unwrap();
            assert!(!shown.contains("hush") && shown.contains("cdn"), "{shown}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_provider_is_told() {
        let one = || serde_json::json!({"name": "cdn", "type": "www", "config": {"bearer": "t"}});
        for (given, count) in [(one(), 1), (serde_json::json!([one(), one()]), 2)] {
            assert_eq!(read(given).ok().map(|read| read.len()), Some(count));
        }
        let told = |name: &str, value: Option<Value>| {
            let mut wrong = one();
            let fields = wrong.as_object_mut().unwrap();
            match value {
                Some(value) => drop(fields.insert(name.to_owned(), value)),
                None => drop(fields.remove(name)),
            }
            read(serde_json::json!([wrong])).err().unwrap().fault()
        };
        let missing = told("name", None);
        assert!(missing.code == 1008 && missing.details.contains("`name`"), "{missing:?}");
        let unknown = told("kind", Some("www".into()));
        assert!(unknown.code == 1009 && unknown.details.contains("`kind`"), "{unknown:?}");
    }

    #[test]
    fn a_provider_has_one_kind_of_credentials() {
        for config in [
            serde_json::json!({}),
            serde_json::json!({"bearer": ""}),
            serde_json::json!({"bearer": "a\nb"}),
            serde_json::json!({"bearer": "t", "basic": {"username": "u", "password": "p"}}),
            serde_json::json!({"basic": {"username": "", "password": "p"}}),
        ] {
            assert!(provider(config.clone()).check().is_err(), "{config}");
        }
    }
}
