//! The operator's page: plain HTML made here, without a script, behind an admin's token.
//!
//! | part | is for |
//! | --- | --- |
//! | `guard`, `session` | who may see it, and that no other site acts through it |
//! | `views`, `chart` | what it looks like; every text is escaped by the templates |
//! | `changes` | what its forms do |
//! | `look` | media to look at |

mod changes;
mod chart;
mod guard;
mod look;
mod session;
mod views;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use maud::Markup;
use serde::Deserialize;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::normalize_path::NormalizePath;

use super::core::{Core, blocking};
use super::figures::{NodeFigures, figures};
use super::server::App;
use super::tokens::Role;
use super::{auth, health, metrics};
use crate::error::{Error, Kind, Result};
use crate::sync::Mutex;
use crate::volume::{AgeClass, MediaFilter, Medium, Overview, cursor_bytes, cursor_text};
use guard::Form;
use session::{LIFE, Session, Sessions};

/// Media on one page of a list.
const MEDIA: usize = 50;
/// Steps through the index for one page of held media.
const STEPS: usize = 64;
/// How long the ages of media, which cost a walk over the index, are not asked for again.
const AGES_LIFE: Duration = Duration::from_secs(60);

/// The page of a node.
pub struct Page {
    core: Arc<Core>,
    sessions: Sessions,
    /// Whether it is shown by TLS.
    is_secure: bool,
    ages: Mutex<Option<(Instant, Vec<AgeClass>)>>,
}

/// What the first page shows.
struct Home {
    overview: Overview,
    node: NodeFigures,
    ages: Vec<AgeClass>,
}

/// Where a list goes on, and what was done just before.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    after: String,
    done: Option<String>,
    media: u64,
    bytes: u64,
    kept: u64,
}

/// Media of one page, and where the next one begins.
struct Listed {
    media: Vec<Medium>,
    next: Option<String>,
}

/// All routes of the page, with the figures for who has no other door to them.
#[must_use]
pub fn app(core: &Arc<Core>, is_secure: bool) -> App {
    let page =
        Arc::new(Page { core: Arc::clone(core), sessions: Sessions::default(), is_secure, ages: Mutex::default() });
    let shown = Router::new()
        .route("/", get(home))
        .route("/expired", get(expired).post(changes::of_expired))
        .route("/held", get(held).post(changes::of_held))
        .route("/media/{id}", get(medium))
        .route("/login", get(login_form).post(login))
        .route("/logout", post(logout))
        .route("/style.css", get(style))
        .fallback(no_page)
        .layer(middleware::from_fn_with_state(Arc::clone(&page), guard::from_here))
        .layer(middleware::from_fn(guard::headers))
        .with_state(page);
    let figures = Router::new()
        .route("/metrics", get(metrics::metrics))
        .layer(middleware::from_fn_with_state(Arc::clone(core), auth::require_token))
        .route("/healthz", get(health::healthz));
    let router = figures
        .layer(middleware::from_fn_with_state(Arc::clone(core), metrics::count))
        .with_state(Arc::clone(core))
        .merge(shown)
        .layer(CatchPanicLayer::custom(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response()));
    NormalizePath::trim_trailing_slash(router)
}

fn show(markup: Markup) -> Response {
    Html(markup.into_string()).into_response()
}

/// The answer when the volume fails.
fn failed(session: &Session, error: &Error) -> Response {
    let status = match error.kind() {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Poisoned | Kind::ReadOnly | Kind::NoSpace => StatusCode::SERVICE_UNAVAILABLE,
        _ => {
            tracing::error!(%error, "the page cannot be made");
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    views::refusal(status, Some(session), &error.to_string())
}

fn shown_or_failed<T>(session: &Session, found: Result<T>, shown: impl FnOnce(T) -> Markup) -> Response {
    match found {
        Ok(found) => show(shown(found)),
        Err(error) => failed(session, &error),
    }
}

impl Page {
    fn ages(&self) -> Result<Vec<AgeClass>> {
        // Held while the walk goes on: who else asks waits for the same.
        let mut ages = self.ages.lock();
        match &*ages {
            Some((at, known)) if at.elapsed() < AGES_LIFE => Ok(known.clone()),
            _ => {
                let found = self.core.volume.ages()?;
                *ages = Some((Instant::now(), found.clone()));
                Ok(found)
            }
        }
    }

    fn home(&self) -> Result<Home> {
        Ok(Home { overview: self.core.volume.overview()?, node: figures(&self.core)?, ages: self.ages()? })
    }

    fn expired(&self, after: &str) -> Result<Listed> {
        let volume = &self.core.volume;
        let page = volume.expired(&cursor_bytes(after)?, MEDIA)?;
        let next = (page.len() == MEDIA).then(|| page.last().map(|last| cursor_text(&last.cursor))).flatten();
        let mut media = Vec::with_capacity(page.len());
        for entry in &page {
            match volume.medium(entry.ino, false) {
                Ok(medium) => media.push(medium),
                // Removed since the page was read.
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Listed { media, next })
    }

    fn held(&self, after: &str) -> Result<Listed> {
        let filter = MediaFilter { held: true, ..MediaFilter::default() };
        let (mut media, mut after) = (Vec::new(), cursor_bytes(after)?);
        for _ in 0..STEPS {
            let (found, next) = self.core.volume.list(&filter, &after, MEDIA - media.len())?;
            media.extend(found);
            match next {
                None => return Ok(Listed { media, next: None }),
                Some(next) => after = next,
            }
            if media.len() >= MEDIA {
                break;
            }
        }
        Ok(Listed { media, next: Some(cursor_text(&after)) })
    }
}

async fn home(session: Session, State(page): State<Arc<Page>>) -> Response {
    let found = blocking(move || page.home()).await;
    shown_or_failed(&session, found, |home| views::home(&session, &home))
}

async fn expired(session: Session, State(page): State<Arc<Page>>, Query(asked): Query<Asked>) -> Response {
    let after = asked.after.clone();
    let found = blocking(move || page.expired(&after)).await;
    shown_or_failed(&session, found, |listed| views::expired(&session, &listed, &asked))
}

async fn held(session: Session, State(page): State<Arc<Page>>, Query(asked): Query<Asked>) -> Response {
    let after = asked.after.clone();
    let found = blocking(move || page.held(&after)).await;
    shown_or_failed(&session, found, |listed| views::held(&session, &listed, &asked))
}

async fn medium(_session: Session, State(page): State<Arc<Page>>, Path(id): Path<String>) -> Response {
    look::medium(&page, &id).await
}

async fn login_form() -> Response {
    show(views::login(None))
}

/// Begins a session for who shows an admin's token.
async fn login(State(page): State<Arc<Page>>, request: Request) -> Response {
    let from = auth::address_of(&request);
    let form = match Form::read(request).await {
        Ok(form) => form,
        Err(refused) => return refused,
    };
    let found = page.core.tokens.find(form.one("token").trim(), page.core.volume.now());
    match found {
        Some((id, token)) if token.role == Role::Admin => {
            tracing::info!(name = token.name, "somebody has logged in to the page");
            let secret = page.sessions.begin(id, token.name);
            let cookie = guard::cookie(&page, &secret, LIFE.as_secs());
            ([(SET_COOKIE, cookie)], Redirect::to("/")).into_response()
        }
        found => {
            let is_counted = from.is_none_or(|address| page.core.limits.note_denial(address.ip()));
            let (status, what) = match (is_counted, found) {
                (false, _) => (StatusCode::TOO_MANY_REQUESTS, "Too many tries. Wait a moment."),
                (true, Some(_)) => (StatusCode::FORBIDDEN, "This is a user's token; the page needs an admin's."),
                (true, None) => (StatusCode::UNAUTHORIZED, "This is no token, or one that has ended."),
            };
            (status, show(views::login(Some(what)))).into_response()
        }
    }
}

async fn logout(session: Session, State(page): State<Arc<Page>>, headers: HeaderMap, request: Request) -> Response {
    if let Err(refused) = Form::of_session(&session, request).await {
        return refused;
    }
    if let Some(secret) = guard::secret_of(&page, &headers) {
        page.sessions.end(&secret);
    }
    ([(SET_COOKIE, guard::cookie(&page, "", 0))], Redirect::to("/login")).into_response()
}

async fn style() -> Response {
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8"), (CACHE_CONTROL, "private, max-age=300")];
    (headers, include_str!("style.css")).into_response()
}

async fn no_page(session: Session) -> Response {
    views::refusal(StatusCode::NOT_FOUND, Some(&session), "There is no such page.")
}
