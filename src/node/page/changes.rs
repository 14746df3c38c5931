//! What the forms of the page do.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};

use super::guard::Form;
use super::session::Session;
use super::{MEDIA, Page, failed, show, views};
use crate::error::{Kind, Result};
use crate::ids::{Ino, MediaId};
use crate::node::core::blocking;
use crate::volume::origin::{self, Actor, Origin, Way};
use crate::volume::{Medium, PurgeReport, Volume};

/// The media that a form names, as far as there are such.
fn media_of(volume: &Volume, ids: &[String]) -> Result<Vec<Ino>> {
    let mut found = Vec::new();
    for id in ids.iter().filter_map(|id| MediaId::parse(id.as_bytes())).take(MEDIA) {
        found.extend(volume.find(&id)?);
    }
    Ok(found)
}

fn expired_among(volume: &Volume, ids: &[String]) -> Result<Vec<Medium>> {
    let mut media = Vec::new();
    for ino in media_of(volume, ids)? {
        match volume.medium(ino, false) {
            Ok(medium) if medium.expired => media.push(medium),
            Ok(_) => {}
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(media)
}

fn remove(volume: &Volume, ids: &[String]) -> Result<PurgeReport> {
    let media = media_of(volume, ids)?;
    let report = volume.purge_these(&media)?;
    let gone = ids.len().saturating_sub(media.len()) as u64;
    Ok(PurgeReport { kept: report.kept + gone, ..report })
}

/// Holds media, or releases them; how many.
fn hold(volume: &Volume, ids: &[String], held: bool) -> Result<u64> {
    let mut count = 0;
    for ino in media_of(volume, ids)? {
        match volume.hold(ino, held) {
            Ok(()) => count += 1,
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// Asks whether the chosen media are to go, removes them, or holds them.
pub async fn of_expired(session: Session, State(page): State<Arc<Page>>, request: Request) -> Response {
    let form = match Form::of_session(&session, request).await {
        Ok(form) => form,
        Err(refused) => return refused,
    };
    let what = form.one("what").to_owned();
    let ids = match what.as_str() {
        "all" => form.all("shown").to_vec(),
        _ => form.all("id").to_vec(),
    };
    if ids.is_empty() {
        return Redirect::to("/expired?done=none").into_response();
    }
    let (volume, name) = (Arc::clone(&page.core.volume), session.name.clone());
    let actor = Actor { name: name.clone(), ..Actor::default() };
    let origin = Origin { way: Way::Page, actor: Some(actor) };
    let done = match what.as_str() {
        "remove" | "all" => {
            return match blocking(move || expired_among(&volume, &ids)).await {
                Ok(media) if media.is_empty() => Redirect::to("/expired?done=gone").into_response(),
                Ok(media) => show(views::confirm(&session, &media)),
                Err(error) => failed(&session, &error),
            };
        }
        "confirm" => blocking(move || origin::acting(origin, || remove(&volume, &ids))).await.map(|report| {
            tracing::info!(
                media = report.media,
                bytes = report.bytes,
                by = name,
                "media were removed through the page"
            );
            format!("/expired?done=removed&media={}&bytes={}&kept={}", report.media, report.bytes, report.kept)
        }),
        "hold" => blocking(move || hold(&volume, &ids, true)).await.map(|count| {
            tracing::info!(media = count, by = name, "media were held through the page");
            format!("/expired?done=held&media={count}")
        }),
        _ => return views::refusal(StatusCode::BAD_REQUEST, Some(&session), "This form asks for nothing known."),
    };
    match done {
        Ok(place) => Redirect::to(&place).into_response(),
        Err(error) => failed(&session, &error),
    }
}

/// Releases the chosen media.
pub async fn of_held(session: Session, State(page): State<Arc<Page>>, request: Request) -> Response {
    let form = match Form::of_session(&session, request).await {
        Ok(form) => form,
        Err(refused) => return refused,
    };
    let ids = form.all("id").to_vec();
    if ids.is_empty() {
        return Redirect::to("/held?done=none").into_response();
    }
    let (volume, name) = (Arc::clone(&page.core.volume), session.name.clone());
    match blocking(move || hold(&volume, &ids, false)).await {
        Ok(count) => {
            tracing::info!(media = count, by = name, "media were released through the page");
            Redirect::to(&format!("/held?done=released&media={count}")).into_response()
        }
        Err(error) => failed(&session, &error),
    }
}
