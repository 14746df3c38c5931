//! From an answer that is no success to an [`UpstreamError`]: the Graph API's error body and Meta's published error codes.

use std::time::Duration;

use serde_json::Value;

use super::error::{Refusal, UpstreamError};
use crate::node::client::bounded;

/// Codes by which the Graph API asks for fewer requests: the app's, the account's, the number's, the pair's limit, and
/// that for registrations ("WhatsApp error codes", section on throttling).
const THROTTLING: [i64; 6] = [4, 80_007, 130_429, 131_048, 131_056, 133_016];
/// Codes that pass by themselves: unknown error, service down, overloaded, in maintenance (same page).
const PASSING: [i64; 6] = [1, 2, 131_000, 131_016, 131_057, 133_004];
/// Codes that say the token or its permissions do not suffice (same page); so does every code from 200 to 299.
const DENYING: [i64; 5] = [0, 3, 10, 190, 131_005];
/// An object that does not exist, or is not shown to this token: code and subcode.
const NO_OBJECT: (i64, i64) = (100, 33);

/// What was asked, which decides what a status means.
#[derive(Clone, Copy)]
pub(super) enum Asked<'a> {
    /// Something of the medium with this id.
    Medium(&'a str),
    /// The bytes at a lookup's url.
    Bytes,
    /// That a medium be taken.
    Upload,
    /// That a message be sent.
    Message,
}

/// Reads an answer with any status but 200.
pub(super) fn read(asked: Asked<'_>, status: u16, retry_after: Option<Duration>, body: &[u8]) -> UpstreamError {
    let body = serde_json::from_slice(body).unwrap_or(Value::Null);
    let error = body.get("error").or_else(|| body.get("errors")?.get(0));
    let refusal = refusal(status, &body, error);
    let what = refusal.to_string();
    let is = |codes: &[i64]| refusal.code.is_some_and(|code| codes.contains(&code));
    let passes = error.and_then(|error| error.get("is_transient")?.as_bool()).unwrap_or(false);

    if status == 429 || is(&THROTTLING) || is_rate_limit_of_360dialog(&refusal) {
        return UpstreamError::Throttled { what, retry_after };
    }
    match asked {
        Asked::Bytes if matches!(status, 404 | 410) => return UpstreamError::UrlExpired,
        Asked::Medium(id) if matches!(status, 404 | 410) || (refusal.code, refusal.subcode) == no_object() => {
            return UpstreamError::UnknownId { id: bounded(id) };
        }
        _ => {}
    }
    if is(&PASSING) || passes || status == 408 {
        return UpstreamError::Transient { what, retry_after };
    }
    if status == 401 || is(&DENYING) || refusal.code.is_some_and(|code| (200..300).contains(&code)) {
        return UpstreamError::Denied(refusal);
    }
    match status {
        // A gateway that had no answer itself cannot say what became of the message; 503 comes instead of doing it.
        500.. if matches!(asked, Asked::Message) && error.is_none() && status != 503 => {
            UpstreamError::OutcomeUnknown { what }
        }
        500.. => UpstreamError::Transient { what, retry_after },
        403 => UpstreamError::Denied(refusal),
        // Another 2xx, or what no server should answer: not what the protocol says, and nothing that was refused.
        ..300 if matches!(asked, Asked::Message) => UpstreamError::OutcomeUnknown { what },
        ..300 => UpstreamError::Transient { what, retry_after },
        _ => UpstreamError::Refused(refusal),
    }
}

fn no_object() -> (Option<i64>, Option<i64>) {
    (Some(NO_OBJECT.0), Some(NO_OBJECT.1))
}

/// 360dialog says so with status 400 and no code of Meta's ("Error Code Reference", 360dialog Messaging Errors).
fn is_rate_limit_of_360dialog(refusal: &Refusal) -> bool {
    let says_so = |text: &Option<String>| text.as_ref().is_some_and(|text| text.to_lowercase().contains("rate limit"));
    matches!((refusal.status, refusal.code), (400, None | Some(400)))
        && (says_so(&refusal.title) || says_so(&refusal.details))
}

fn refusal(status: u16, body: &Value, error: Option<&Value>) -> Refusal {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(bounded);
    let Some(error) = error else {
        let redirect = (300..400).contains(&status).then(|| "a redirect, which is not followed".to_owned());
        return Refusal { status, title: redirect.or_else(|| text(body.get("message"))), ..Refusal::default() };
    };
    let number = |name: &str| error.get(name).and_then(Value::as_i64);
    let title = ["error_user_title", "title", "message"].into_iter().find_map(|name| text(error.get(name)));
    let details = text(error.get("error_data").and_then(|data| data.get("details")))
        .or_else(|| ["error_user_msg", "details"].into_iter().find_map(|name| text(error.get(name))));
    Refusal {
        status,
        code: number("code"),
        subcode: number("error_subcode"),
        title: title.or_else(|| text(Some(error))),
        details,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(asked: Asked<'_>, status: u16, code: i64) -> UpstreamError {
        let body = format!(r#"{{"error":{{"message":"m","code":{code},"error_data":{{"details":"d"}}}}}}"#);
        read(asked, status, None, body.as_bytes())
    }

    #[test]
    fn codes_count_before_statuses() {
        use UpstreamError as E;
        for code in THROTTLING {
            assert!(matches!(graph(Asked::Message, 400, code), E::Throttled { .. }), "{code}");
        }
        for code in PASSING {
            assert!(matches!(graph(Asked::Message, 400, code), E::Transient { .. }), "{code}");
        }
        for code in DENYING.into_iter().chain([200, 299]) {
            assert!(matches!(graph(Asked::Upload, 400, code), E::Denied(_)), "{code}");
        }
        for code in [100, 300, 131_008, 131_026, 131_053, 33] {
            assert!(matches!(graph(Asked::Message, 400, code), E::Refused(_)), "{code}");
        }
        assert!(matches!(graph(Asked::Message, 500, 131_026), E::Transient { .. }), "an error body: it was not sent");
    }

    #[test]
    fn what_is_unknown_depends_on_what_was_asked() {
        use UpstreamError as E;
        let body = br#"{"error":{"message":"Unsupported get request.","code":100,"error_subcode":33}}"#;
        assert_eq!(read(Asked::Medium("7"), 400, None, body), E::UnknownId { id: "7".to_owned() });
        assert_eq!(read(Asked::Medium("7"), 404, None, b""), E::UnknownId { id: "7".to_owned() });
        assert_eq!(read(Asked::Bytes, 404, None, b"<html>"), E::UrlExpired);
        assert_eq!(read(Asked::Bytes, 410, None, b""), E::UrlExpired);
        // The phone number id is what is not known there.
        assert!(matches!(read(Asked::Message, 400, None, body), E::Refused(Refusal { subcode: Some(33), .. })));
        assert!(matches!(read(Asked::Upload, 404, None, b""), E::Refused(Refusal { status: 404, .. })));
    }

    #[test]
    fn a_gateway_without_an_answer_leaves_open_whether_a_message_was_sent() {
        use UpstreamError as E;
        for status in [500, 502, 504, 202] {
            assert!(read(Asked::Message, status, None, b"<html>").may_have_been_sent(), "{status}");
            assert!(matches!(read(Asked::Upload, status, None, b"<html>"), E::Transient { .. }), "{status}");
        }
        for status in [503, 400, 401, 403, 404, 408, 413, 429] {
            assert!(!read(Asked::Message, status, None, b"<html>").may_have_been_sent(), "{status}");
        }
    }

    #[test]
    fn the_forms_of_error_bodies_are_read_and_bounded() {
        let long = "x".repeat(100_000);
        let body = format!(r#"{{"error":{{"message":"{long}","code":131053,"error_data":{{"details":"{long}"}}}}}}"#);
        let UpstreamError::Refused(refusal) = read(Asked::Upload, 400, None, body.as_bytes()) else { panic!() };
        assert_eq!(refusal.code, Some(131_053));
        assert_eq!((refusal.title.unwrap().len(), refusal.details.unwrap().len()), (500, 500));
        for (body, told) in [
            (r#"{"errors":[{"code":1013,"title":"User is not valid","details":"d"}]}"#, "User is not valid, d"),
            (r#"{"error":"Invalid thing"}"#, "Invalid thing"),
            (r#"{"message":"Invalid thing"}"#, "Invalid thing"),
            (r#"{"error":[]}"#, "status 400"),
            (r#"{"error":{"code":"7","message":5}}"#, "status 400"),
        ] {
            let error = read(Asked::Upload, 400, None, body.as_bytes());
            assert!(matches!(error, UpstreamError::Refused(_)) && error.to_string().contains(told), "{body}: {error}");
        }
        let slow = br#"{"error":{"message":"You have exceeded the endpoint rate limit.","code":400}}"#;
        assert!(matches!(read(Asked::Medium("1"), 400, None, slow), UpstreamError::Throttled { .. }));
        let moved = read(Asked::Bytes, 302, None, b"").to_string();
        assert!(moved.contains("redirect, which is not followed"), "{moved}");
    }
}
