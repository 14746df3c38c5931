//! The form of every answer: `meta`, and `errors` when something is wrong.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{Error, Kind};

/// The version of the API's answers.
pub const API_VERSION: &str = env!("CARGO_PKG_VERSION");
/// Bytes the body of a request may have that is no medium.
pub const MAX_JSON_BYTES: usize = 1 << 20;
/// How long such a body may take, all of it: who sends slower holds a connection that others wait for.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What every answer carries.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Meta {
    /// `stable`.
    pub api_status: String,
    /// The version of the node.
    pub version: String,
}

impl Meta {
    /// That of this node.
    #[must_use]
    pub fn new() -> Meta {
        Meta { api_status: "stable".to_owned(), version: API_VERSION.to_owned() }
    }
}

impl Default for Meta {
    fn default() -> Meta {
        Meta::new()
    }
}

/// An answer with nothing to tell.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Done {
    /// As in every answer.
    pub meta: Meta,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// The number of the kind of error.
    pub code: u16,
    /// The kind in words.
    pub title: String,
    /// What is wrong, and the mend.
    pub details: String,
}

/// The body of an answer that tells of an error.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Faults {
    /// As in every answer.
    pub meta: Meta,
    /// What is wrong.
    pub errors: Vec<Fault>,
}

/// The kinds of errors of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Code {
    /// Something without a kind of its own.
    Generic = 1000,
    /// The resource is there already.
    Exists = 1004,
    /// Who asks is unknown, or may not.
    Denied = 1005,
    /// No such resource.
    NotFound = 1006,
    /// A parameter is missing.
    Missing = 1008,
    /// A parameter's value is not valid.
    NotValid = 1009,
    /// A parameter that is not required here.
    NotRequired = 1010,
    /// Something this needs is not set up, or not ready yet.
    NotReady = 1011,
    /// Something in the node failed.
    Internal = 1014,
    /// Too many requests.
    TooMany = 1015,
    /// No room, or too much work.
    Overloaded = 1016,
    /// No URL for webhooks is set.
    NoWebhook = 1022,
    /// What the volume keeps for the node cannot be read or written.
    Database = 1023,
    /// The request makes no sense.
    NotValidRequest = 1025,
}

impl Code {
    /// The kind in words.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Code::Generic => "Generic error",
            Code::Exists => "Resource already exists",
            Code::Denied => "Access denied",
            Code::NotFound => "Resource not found",
            Code::Missing => "Required parameter is missing",
            Code::NotValid => "Parameter value is not valid",
            Code::NotRequired => "Parameter is not required",
            Code::NotReady => "Service not ready",
            Code::Internal => "Internal error",
            Code::TooMany => "Too many requests",
            Code::Overloaded => "System overloaded",
            Code::NoWebhook => "Webhooks URL is not configured",
            Code::Database => "Database error",
            Code::NotValidRequest => "Request is not valid",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Code::Denied => StatusCode::UNAUTHORIZED,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Exists => StatusCode::CONFLICT,
            Code::Missing | Code::NotValid | Code::NotRequired | Code::NoWebhook | Code::NotValidRequest => {
                StatusCode::BAD_REQUEST
            }
            Code::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Code::NotReady | Code::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Code::Generic | Code::Internal | Code::Database => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// An error as the API tells it.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    code: Code,
    details: String,
}

impl ApiError {
    /// An error of this kind; `details` say what is wrong and what to do.
    #[must_use]
    pub fn new(code: Code, details: impl Into<String>) -> ApiError {
        ApiError { status: code.status(), code, details: details.into() }
    }

    /// The same with another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> ApiError {
        self.status = status;
        self
    }

    /// The one entry of its `errors`.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault { code: self.code as u16, title: self.code.title().to_owned(), details: self.details.clone() }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> ApiError {
        match error.kind() {
            Kind::NotFound => ApiError::new(Code::NotFound, error.to_string()),
            Kind::Exists => ApiError::new(Code::Exists, error.to_string()),
            Kind::NoSpace | Kind::ClassLimit => {
                ApiError::new(Code::Overloaded, error.to_string()).with_status(StatusCode::INSUFFICIENT_STORAGE)
            }
            Kind::Invalid | Kind::NameTooLong | Kind::TooLarge | Kind::TooBig => {
                ApiError::new(Code::NotValid, error.to_string())
            }
            Kind::Poisoned | Kind::ReadOnly => ApiError::new(Code::NotReady, error.to_string()),
            _ => {
                tracing::error!(%error, "a request failed");
                ApiError::new(Code::Internal, "the node could not do this; its log says why")
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Faults { meta: Meta::new(), errors: vec![self.fault()] };
        let mut response = (self.status, axum::Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(
                axum::http::header::WWW_AUTHENTICATE,
                axum::http::HeaderValue::from_static("Bearer realm=\"wamedia\""),
            );
        }
        if self.status == StatusCode::TOO_MANY_REQUESTS || self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(axum::http::header::RETRY_AFTER, axum::http::HeaderValue::from_static("1"));
        }
        response
    }
}

/// A JSON body, whatever content type it comes with; an error names the field.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Body<T>, ApiError> {
        let bytes = read_body(request, MAX_JSON_BYTES).await?;
        serde_json::from_slice(&bytes).map(Body).map_err(|error| unexpected(&error))
    }
}

/// The error of JSON that is not what is expected.
pub fn unexpected(error: &serde_json::Error) -> ApiError {
    let code = if error.to_string().starts_with("missing field") { Code::Missing } else { Code::NotValid };
    ApiError::new(code, format!("the body is not the JSON that is expected here: {error}"))
}

/// The parameters in a query; an error names the one.
pub struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Asked<T>, ApiError> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(Asked(asked)),
            Err(error) => Err(ApiError::new(Code::NotValid, error.body_text())),
        }
    }
}

/// The one variable part of a path; nothing has a name that is no text.
pub struct Segment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Segment, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(text)| Segment(text)).map_err(|_| ApiError::new(Code::NotFound, "URL path not found."))
    }
}

/// Reads a body of at most `most` bytes.
///
/// # Errors
/// 413 for one that is longer, 408 for one that takes longer than 30 seconds, 400 for one that ends too early.
pub async fn read_body(request: Request, most: usize) -> Result<bytes::Bytes, ApiError> {
    read_body_within(request, most, BODY_TIMEOUT).await
}

async fn read_body_within(request: Request, most: usize, within: Duration) -> Result<bytes::Bytes, ApiError> {
    let body = tokio::time::timeout(within, axum::body::to_bytes(request.into_body(), most)).await;
    let late =
        |_| ApiError::new(Code::NotValidRequest, "the body takes too long").with_status(StatusCode::REQUEST_TIMEOUT);
    body.map_err(late)?.map_err(|error| {
        use std::error::Error as _;
        let is_long = error.source().is_some_and(|source| source.is::<http_body_util::LengthLimitError>());
        match is_long {
            true => ApiError::new(Code::NotValidRequest, format!("the body has more than {most} bytes"))
                .with_status(StatusCode::PAYLOAD_TOO_LARGE),
            false => ApiError::new(Code::NotValidRequest, "the body ends before it is whole"),
        }
    })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures_util::stream;

    use super::*;
    use crate::node::webhooks::dead::Page;

    async fn refused(body: Body, most: usize, within: Duration) -> StatusCode {
        read_body_within(Request::new(body), most, within).await.unwrap_err().status
    }

    #[tokio::test]
    async fn a_body_is_read_whole_or_refused() {
        let long = Duration::from_secs(60);
        assert_eq!(read_body_within(Request::new(Body::from("four")), 4, long).await.unwrap(), "four");
        assert_eq!(refused(Body::from("fives"), 4, long).await, StatusCode::PAYLOAD_TOO_LARGE);
        let cut = stream::iter([Ok("t"), Err(std::io::Error::other("cut"))]);
        assert_eq!(refused(Body::from_stream(cut), 4, long).await, StatusCode::BAD_REQUEST);
        let never = stream::pending::<std::io::Result<&str>>();
        assert_eq!(refused(Body::from_stream(never), 4, Duration::from_millis(1)).await, StatusCode::REQUEST_TIMEOUT);
    }

    #[tokio::test]
    async fn what_a_query_or_a_path_has_wrong_is_told_in_the_form_of_all_errors() {
        let parts = |uri: &str| Request::builder().uri(uri).body(Body::empty()).unwrap().into_parts().0;
        let error = Asked::<Page>::from_request_parts(&mut parts("/a?limit=x"), &()).await.err().unwrap();
        assert!(error.code == Code::NotValid && error.details.contains("limit"), "{error:?}");
        let error = Segment::from_request_parts(&mut parts("/a/%ff"), &()).await.err().unwrap();
        assert_eq!(error.code, Code::NotFound);
    }
}
