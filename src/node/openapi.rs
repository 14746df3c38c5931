//! The OpenAPI 3.1 document, generated from the routes.

use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, Header, Ref, RefOr, Response};
use utoipa::{Modify, OpenApi};

use super::envelope::{Fault, Faults, Meta};

/// What the document says beside the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "wamedia",
        description = "The media node of a wamedia volume: the WhatsApp Business HTTP media API. The body of a request that is \
no medium has at most 1 MiB, that of a notification 3 MiB, and a medium 100 MiB unless the node is configured otherwise.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    modifiers(&Schemes),
    components(schemas(Meta, Fault, Faults)),
    tags(
        (name = "media", description = "Media: up, down, away."),
        (name = "messages", description = "Messages, sent by the upstream."),
        (name = "users", description = "Logging in and out."),
        (name = "settings", description = "What an admin sets."),
        (name = "webhooks", description = "Notifications of the upstream, and webhooks that were given up."),
        (name = "health", description = "Whether the node works."),
        (name = "document", description = "This document.")
    )
)]
pub struct Document;

/// The ways to show who asks.
struct Schemes;

impl Modify for Schemes {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_with(Default::default);
        let http = |scheme| SecurityScheme::Http(HttpBuilder::new().scheme(scheme).build());
        components.add_security_scheme("bearer", http(HttpAuthScheme::Bearer));
        components.add_security_scheme("basic", http(HttpAuthScheme::Basic));
        components
            .add_security_scheme("d360", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("D360-API-KEY"))));
        for shared in SHARED {
            components.responses.insert(shared.name.to_owned(), shared.response().into());
        }
    }
}

/// An answer that stands in the document once.
struct Shared {
    status: &'static str,
    name: &'static str,
    description: &'static str,
}

/// Who may reach a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Everybody.
    Open,
    /// Who shows a token.
    Users,
    /// Who shows an admin's token.
    Admins,
}

/// The answers that come from what stands before the routes and behind them.
const SHARED: [Shared; 7] = [
    Shared { status: "400", name: "NotValid", description: "The body is not the JSON that is expected here." },
    Shared { status: "401", name: "Denied", description: "No valid token." },
    Shared { status: "403", name: "Forbidden", description: "No admin's token." },
    Shared { status: "413", name: "TooLong", description: "The body has more bytes than it may have." },
    Shared { status: "429", name: "TooMany", description: "Too many requests with this token, or without one." },
    Shared { status: "500", name: "Failed", description: "The node failed; its log says why." },
    Shared { status: "503", name: "NotReady", description: "The volume takes no changes now, or no more work." },
];

impl Shared {
    fn response(&self) -> Response {
        let mut response = Response::new(self.description);
        let body = Content::new(Some(Ref::from_schema_name("Faults")));
        response.content.insert("application/json".to_owned(), body);
        add_headers(self.status, &mut response);
        response
    }

    fn is_of(&self, reach: Reach, has_body: bool) -> bool {
        match self.status {
            "400" | "413" => has_body,
            "403" => reach == Reach::Admins,
            "401" | "429" | "503" => reach != Reach::Open,
            _ => true,
        }
    }
}

/// The headers that an error of this status comes with.
fn add_headers(status: &str, response: &mut Response) {
    let (name, header) = match status {
        "401" => ("WWW-Authenticate", Header::new(Object::with_type(Type::String))),
        "429" | "503" => ("Retry-After", Header::new(Object::with_type(Type::Integer))),
        _ => return,
    };
    response.headers.entry(name.to_owned()).or_insert(header);
}

/// Says of every operation what is answered before it is reached, and which headers errors have.
pub fn complete(openapi: &mut utoipa::openapi::OpenApi, reach: Reach) {
    for item in openapi.paths.paths.values_mut() {
        let operations =
            [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.head, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            complete_operation(operation, reach);
        }
    }
}

fn complete_operation(operation: &mut Operation, reach: Reach) {
    let responses = &mut operation.responses.responses;
    for (status, response) in responses.iter_mut() {
        if let RefOr::T(response) = response
            && !response.content.is_empty()
        {
            add_headers(status, response);
        }
    }
    let has_body = operation.request_body.is_some();
    for shared in SHARED.iter().filter(|shared| shared.is_of(reach, has_body)) {
        let reference = || RefOr::Ref(Ref::from_response_name(shared.name));
        responses.entry(shared.status.to_owned()).or_insert_with(reference);
    }
}
