//! The OpenAPI 3.1 document, generated from the routes.

use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::envelope::{Fault, Faults, Meta};

/// What the document says beside the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "wamedia",
        description = "The media node of a wamedia volume: the WhatsApp Business HTTP media API.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    modifiers(&Schemes),
    components(schemas(Meta, Fault, Faults))
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
    }
}
