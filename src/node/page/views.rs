//! What the page looks like. The templates escape every text; names are shown without what would turn or hide others.

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use super::session::Session;
use super::{Asked, Home, Listed, chart};
use crate::clock::{Timestamp, short};
use crate::node::figures::NodeFigures;
use crate::volume::{AgeClass, ExpiryAction, Growth, Medium, ScrubStatus, Status};
use crate::words::{media_count, printable, size, time};

const PAGES: [(&str, &str); 3] = [("/", "Overview"), ("/expired", "Expired"), ("/held", "Held")];

/// A whole page; without a session one that nobody has logged in to.
fn frame(session: Option<&Session>, here: &str, title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                title { (title) " – wamedia" }
                link rel="stylesheet" href="/style.css";
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header {
                    span.brand { "wamedia" }
                    @if let Some(session) = session {
                        nav aria-label="Pages" {
                            @for (path, name) in PAGES {
                                a href=(path) aria-current=[(path == here).then_some("page")] { (name) }
                            }
                        }
                        form.logout method="post" action="/logout" {
                            (form_key(session))
                            button type="submit" { "Log out " (printable(&session.name)) }
                        }
                    }
                }
                main id="main" {
                    h1 { (title) }
                    (body)
                }
            }
        }
    }
}

fn form_key(session: &Session) -> Markup {
    html! { input type="hidden" name="form_key" value=(session.form_key); }
}

/// A page that says why there is no other.
pub fn refusal(status: StatusCode, session: Option<&Session>, what: &str) -> Response {
    let body = html! {
        p.bad role="alert" { (printable(what)) }
        p { a href="/" { "To the overview" } }
    };
    (status, Html(frame(session, "", "Not done", &body).into_string())).into_response()
}

/// Where a token is shown.
pub fn login(refused: Option<&str>) -> Markup {
    let body = html! {
        @if let Some(why) = refused {
            p.bad role="alert" { (why) }
        }
        form.login method="post" action="/login" {
            // What a password manager keeps the token under.
            input type="text" name="username" value="wamedia" autocomplete="username" hidden;
            label for="token" { "An admin's token" }
            input id="token" name="token" type="password" required autocomplete="current-password" autofocus;
            p.hint { code { "wamedia token create --role admin TARGET" } " makes one." }
            button type="submit" { "Log in" }
        }
    };
    frame(None, "", "Log in", &body)
}

fn at(when: Timestamp) -> Markup {
    html! { time datetime=(when.rfc3339()) { (time(when)) } }
}

fn percent(part: u64, whole: u64) -> u128 {
    u128::from(part) * 100 / u128::from(whole.max(1))
}

fn row(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// The first page.
pub fn home(session: &Session, home: &Home) -> Markup {
    let (status, growth) = (&home.overview.status, &home.overview.growth);
    let body = html! {
        @if status.state != "ok" {
            p.bad role="alert" { "The volume takes no writes: " (printable(&status.state)) }
        }
        @if status.sweep.is_warned {
            p.warn role="status" { (status.sweep.percent) " % of the room is in use, which is above the warning mark." }
        }
        @if status.scrub.damaged_media > 0 {
            p.bad role="alert" { (media_count(status.scrub.damaged_media)) " damaged: see below." }
        }
        @for note in &status.recovery {
            p.warn { (printable(note)) }
        }
        section aria-labelledby="fill" {
            h2 id="fill" { "Fill level" }
            (fill(status, growth))
        }
        section aria-labelledby="growth" {
            h2 id="growth" { "Growth" }
            (forecast(status, growth))
            (chart::growth(growth))
        }
        section aria-labelledby="media" {
            h2 id="media" { "Media" }
            (media(status, &home.ages))
        }
        section aria-labelledby="scrub" {
            h2 id="scrub" { "Scrub" }
            (scrub(&status.scrub, status.used_bytes))
        }
        section aria-labelledby="work" {
            h2 id="work" { "Work and upstream" }
            (work(&home.node))
        }
        p.hint { "Volume " (status.volume_id) ", as of " (at(home.overview.now)) ". Load the page anew for newer figures." }
    };
    frame(Some(session), "/", "Overview", &body)
}

fn fill(status: &Status, growth: &Growth) -> Markup {
    let room = growth.size_bytes;
    html! {
        label for="fill-meter" {
            (size(status.used_bytes)) " of " (size(room)) " used, " (percent(status.used_bytes, room)) " %"
        }
        meter id="fill-meter" min="0" max=(room.max(1)) value=(status.used_bytes) low=(room / 100 * 80)
            high=(room / 100 * 90) optimum="0" {}
        dl {
            (row("Quota", &html! { (status.max_bytes.map_or_else(|| "none".to_owned(), size)) }))
            (row("Reserve", &html! { (size(status.reserved_bytes)) }))
            (row("Disk free", &html! { (size(status.backing_free_bytes)) ", of which " (size(status.floor_bytes)) " stay free" }))
            (row("Refused", &html! { (status.refused_writes) " writes since the start" }))
        }
    }
}

fn forecast(status: &Status, growth: &Growth) -> Markup {
    let pace = match growth.bytes_a_day {
        None => html! { "Not known before six hours have been seen." },
        Some(0) => html! { "It does not grow." },
        Some(bytes) if bytes < 0 => html! { "It shrinks by " (size(bytes.unsigned_abs())) " a day." },
        Some(bytes) => html! { "It grows by " (size(bytes.unsigned_abs())) " a day." },
    };
    let full = match growth.full_at {
        _ if status.used_bytes >= growth.size_bytes => html! { "It is full." },
        Some(when) => html! { "If it goes on so, it is full on " (at(when)) "." },
        None if growth.bytes_a_day.is_some_and(|bytes| bytes > 0) => html! { "It is not full within ten years." },
        None => html! {},
    };
    html! { p { (pace) " " (full) } }
}

fn bar(label: &str, count: u64, bytes: u64, whole: u64) -> Markup {
    html! {
        tr {
            th scope="row" { (label) }
            td.number { (count) }
            td.number { (size(bytes)) }
            td.part { meter min="0" max=(whole.max(1)) value=(bytes) aria-label=(format!("{label}: {} %", percent(bytes, whole))) {} }
        }
    }
}

fn bars(caption: &str, head: &str, rows: &[(String, u64, u64)], whole: u64) -> Markup {
    html! {
        table {
            caption { (caption) }
            thead { tr { th scope="col" { (head) } th.number scope="col" { "Media" } th.number scope="col" { "Size" } th scope="col" { "Part" } } }
            tbody { @for (label, count, bytes) in rows { (bar(label, *count, *bytes, whole)) } }
        }
    }
}

fn age_name(before: u32, days: Option<u32>) -> String {
    match days {
        Some(1) => "less than a day".to_owned(),
        Some(days) => format!("{before} to {days} days"),
        None => format!("{before} days and more"),
    }
}

fn media(status: &Status, ages: &[AgeClass]) -> Markup {
    let kinds: Vec<(String, u64, u64)> = status.by_kind.clone();
    let mut before = 0;
    let by_age: Vec<(String, u64, u64)> = ages
        .iter()
        .map(|class| {
            let name = age_name(before, class.days);
            before = class.days.unwrap_or(before);
            (name, class.media, class.bytes)
        })
        .collect();
    let action = match status.sweep.action {
        ExpiryAction::Show => "shown until somebody removes them".to_owned(),
        ExpiryAction::Purge => format!("removed when they have been shown for {}", short(status.sweep.grace)),
    };
    html! {
        dl {
            (row("All", &html! { (media_count(status.media)) ", " (size(status.used_bytes)) }))
            (row("Expired", &html! {
                a href="/expired" { (media_count(status.expired)) } ", " (size(status.expired_bytes)) "; " (action)
            }))
            (row("Held", &html! { a href="/held" { (media_count(status.held)) } }))
            @if let Some(oldest) = status.oldest { (row("Oldest", &at(oldest))) }
        }
        div.tables {
            (bars("By kind", "Kind", &kinds, status.used_bytes))
            (bars("By age; held media and those with a retention of their own left out", "Age", &by_age, status.used_bytes))
        }
    }
}

fn scrub(scrub: &ScrubStatus, used: u64) -> Markup {
    html! {
        dl {
            @if let Some(run) = &scrub.run {
                (row(if scrub.is_running { "Running" } else { "Waiting to go on" }, &html! {
                    (size(run.bytes)) " of " (size(used)) " verified since " (at(run.started))
                }))
            }
            (row("Last", &match &scrub.last {
                Some(last) => html! { "ended " (at(last.finished)) },
                None => html! { "none has ended yet" },
            }))
            @if let Some(next) = scrub.next { (row("Next", &at(next))) }
            (row("Damaged", &html! { (media_count(scrub.damaged_media)) }))
        }
        @if !scrub.damaged.is_empty() {
            table {
                caption { "Damaged media" }
                thead { tr { th scope="col" { "Path" } th scope="col" { "What is wrong" } } }
                tbody {
                    @for medium in &scrub.damaged {
                        tr { td.path { (printable(&medium.path)) } td { (printable(&medium.problem)) } }
                    }
                }
            }
            p { code { "wamedia check --read-all --repair" } " mends what can be mended, and moves the rest away." }
        }
    }
}

fn ago(secs: u64) -> String {
    short(std::time::Duration::from_secs(secs)) + " ago"
}

fn work(node: &NodeFigures) -> Markup {
    html! {
        @if !node.is_serving {
            p { "The HTTP media API is not served; what is queued waits until it is." }
        }
        dl {
            @match &node.upstream {
                None => { (row("Upstream", &html! { "none configured" })) }
                Some(upstream) => {
                    (row("Upstream", &html! {
                        @if upstream.is_failing { strong.bad { "failing" } } @else if upstream.answered > 0 { "answers" } @else { "not asked yet" }
                        "; " (upstream.answered) " calls answered, " (upstream.failed) " failed"
                        @if let Some(secs) = upstream.answered_secs_ago { "; last answer " (ago(secs)) }
                    }))
                    @if let Some((secs, what)) = &upstream.last_failure {
                        (row("Last failure", &html! { (ago(*secs)) ": " (printable(what)) }))
                    }
                }
            }
        }
        table {
            caption { "Queues" }
            thead { tr { th scope="col" { "Work" } th.number scope="col" { "Waiting" } th.number scope="col" { "Oldest" } th.number scope="col" { "Given up" } } }
            tbody {
                @for queue in &node.queues {
                    tr {
                        th scope="row" { (queue.topic) }
                        td.number { (queue.jobs) }
                        td.number { @if queue.jobs > 0 { (ago(queue.oldest_secs)) } @else { "–" } }
                        td.number { (queue.dead_letters) }
                    }
                }
            }
        }
    }
}

/// What was done just before.
fn done(asked: &Asked) -> Markup {
    let kept = || html! { @if asked.kept > 0 { " " (media_count(asked.kept)) " stayed: gone already, or held, used or opened meanwhile." } };
    let told = match asked.done.as_deref() {
        Some("removed") => html! { "Removed: " (media_count(asked.media)) ", " (size(asked.bytes)) "." (kept()) },
        Some("held") => html! { "Held: " (media_count(asked.media)) "." },
        Some("released") => html! { "Released: " (media_count(asked.media)) "." },
        Some("none") => html! { "Nothing was chosen." },
        Some("gone") => html! { "None of those is expired any more." },
        _ => return html! {},
    };
    html! { p.told role="status" { (told) } }
}

/// The last part of a path.
fn name_of(medium: &Medium) -> String {
    printable(medium.path.rsplit('/').next().unwrap_or_default())
}

fn is_picture(medium: &Medium) -> bool {
    ["image/jpeg", "image/png", "image/webp", "image/gif"].iter().any(|kind| medium.mime_type.starts_with(kind))
}

/// What there is to know of a medium; its name too, where nothing else says it.
fn facts(medium: &Medium, is_named: bool) -> Markup {
    let place = format!("/media/{}", medium.id);
    html! {
        @if is_picture(medium) {
            a.look href=(place) { img src=(place) alt=(format!("Preview of {}", name_of(medium))) width="96" height="96" loading="lazy"; }
        } @else {
            a.look href=(place) { span.kind { (printable(&medium.kind)) } }
        }
        div.facts {
            @if is_named { span.name { (name_of(medium)) } }
            @if medium.path.contains('/') { span.path { (printable(&medium.path)) } }
            span { (size(medium.size)) ", " (printable(&medium.mime_type)) }
            span { "written " (at(medium.mtime)) }
            @if let Some(when) = medium.expires { span { (if medium.expired { "expired " } else { "expires " }) (at(when)) } }
        }
    }
}

fn choices(media: &[Medium]) -> Markup {
    html! {
        ul.media {
            @for medium in media {
                li {
                    input type="checkbox" id=(medium.id) name="id" value=(medium.id);
                    input type="hidden" name="shown" value=(medium.id);
                    label for=(medium.id) { "Choose " (name_of(medium)) }
                    (facts(medium, false))
                }
            }
        }
    }
}

fn further(listed: &Listed, path: &str, asked: &Asked) -> Markup {
    html! {
        nav.further aria-label="Further media" {
            @if !asked.after.is_empty() { a href=(path) { "To the first" } }
            @if let Some(next) = &listed.next { a href=(format!("{path}?after={next}")) { "Next page" } }
        }
    }
}

/// Expired media, to be looked at, removed or held.
pub fn expired(session: &Session, listed: &Listed, asked: &Asked) -> Markup {
    let body = html! {
        (done(asked))
        @if listed.media.is_empty() {
            p { "Nothing is expired here." }
        } @else {
            form method="post" action="/expired" {
                (form_key(session))
                div.actions {
                    button.danger type="submit" name="what" value="remove" { "Remove the chosen…" }
                    button type="submit" name="what" value="hold" { "Hold the chosen" }
                    button.danger type="submit" name="what" value="all" { "Remove all " (listed.media.len()) " shown…" }
                }
                (choices(&listed.media))
            }
        }
        (further(listed, "/expired", asked))
    };
    frame(Some(session), "/expired", "Expired", &body)
}

/// Held media, to be released.
pub fn held(session: &Session, listed: &Listed, asked: &Asked) -> Markup {
    let body = html! {
        (done(asked))
        @if listed.media.is_empty() {
            p { @if listed.next.is_none() { "Nothing is held here." } @else { "Nothing is held among those looked at so far." } }
        } @else {
            form method="post" action="/held" {
                (form_key(session))
                div.actions { button type="submit" name="what" value="release" { "Release the chosen" } }
                (choices(&listed.media))
            }
        }
        (further(listed, "/held", asked))
    };
    frame(Some(session), "/held", "Held", &body)
}

/// Asks once more before media go.
pub fn confirm(session: &Session, media: &[Medium]) -> Markup {
    let bytes: u64 = media.iter().map(|medium| medium.size).sum();
    let body = html! {
        p { (media_count(media.len() as u64)) ", " (size(bytes)) ". They are gone for good then." }
        form method="post" action="/expired" {
            (form_key(session))
            @for medium in media { input type="hidden" name="id" value=(medium.id); }
            div.actions {
                button.danger type="submit" name="what" value="confirm" { "Remove " (media_count(media.len() as u64)) }
                a href="/expired" { "Keep them" }
            }
        }
        ul.media { @for medium in media { li { (facts(medium, true)) } } }
    };
    frame(Some(session), "/expired", "Remove these?", &body)
}
