//! The form of a message, as the OpenAPI document tells it. Messages themselves are passed on as they came.
#![allow(dead_code, reason = "it is in the document only")]

use utoipa::ToSchema;
use uuid::Uuid;

/// To whom a message goes.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum RecipientType {
    /// To one.
    Individual,
    /// To a group.
    Group,
}

/// A message. It has the object that `type` names: one of those below, or another of the Cloud API (`text`, `template`,
/// `interactive`, ...), which is passed on as it came.
#[derive(ToSchema)]
pub struct Message {
    /// The recipient.
    #[schema(min_length = 1, max_length = 256)]
    to: String,
    /// Which object the message has; without it: `text`.
    #[schema(rename = "type", nullable = false, min_length = 1, max_length = 256)]
    kind: Option<String>,
    /// `individual`, unless it says otherwise.
    #[schema(nullable = false)]
    recipient_type: Option<RecipientType>,
    /// What webhooks about this message tell again.
    #[schema(nullable = false)]
    biz_opaque_callback_data: Option<String>,
    /// Of type `audio`.
    #[schema(nullable = false)]
    audio: Option<MessageMedium>,
    /// Of type `document`.
    #[schema(nullable = false)]
    document: Option<MessageMedium>,
    /// Of type `image`.
    #[schema(nullable = false)]
    image: Option<MessageMedium>,
    /// Of type `sticker`.
    #[schema(nullable = false)]
    sticker: Option<MessageMedium>,
    /// Of type `video`.
    #[schema(nullable = false)]
    video: Option<MessageMedium>,
}

/// The medium of a message: `id` or `link`. A member that is null is none.
#[derive(ToSchema)]
struct MessageMedium {
    /// The id of a medium that was uploaded.
    id: Option<Uuid>,
    /// A URL, http or https, which the node fetches.
    #[schema(max_length = 8192)]
    link: Option<String>,
    /// With a link: whose credentials it is fetched with.
    provider: Option<MessageProvider>,
    /// Of an image, a video, a document.
    #[schema(max_length = 1024)]
    caption: Option<String>,
    /// Of a document.
    #[schema(max_length = 240)]
    filename: Option<String>,
}

/// The provider of a link.
#[derive(ToSchema)]
struct MessageProvider {
    /// Its name.
    name: String,
}
