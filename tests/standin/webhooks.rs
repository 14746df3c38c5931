//! Webhooks: the notifications of the Cloud API, signed, and the request that verifies a URL.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{APP_SECRET, PHONE_NUMBER_ID, StandIn};

/// The business account in notifications.
const ACCOUNT: &str = "102290129340398";
/// What the challenge of a verification is.
const CHALLENGE: &str = "1158201444";

/// The value of `X-Hub-Signature-256` for a body.
pub fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

/// A notification with these members beside the usual ones (`messages`, `statuses`, `contacts`, `errors`).
pub fn notification(members: &Value) -> Value {
    let mut value = json!({
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550783881", "phone_number_id": PHONE_NUMBER_ID},
    });
    for (name, member) in members.as_object().unwrap() {
        value[name] = member.clone();
    }
    json!({
        "object": "whatsapp_business_account",
        "entry": [{"id": ACCOUNT, "changes": [{"value": value, "field": "messages"}]}],
    })
}

/// A notification of a message's status; one that failed has an error.
pub fn status(message_id: &str, status: &str, opaque: Option<&str>) -> Value {
    let mut item = json!({
        "id": message_id, "status": status, "timestamp": "1712595443", "recipient_id": "16505551234",
    });
    if let Some(opaque) = opaque {
        item["biz_opaque_callback_data"] = opaque.into();
    }
    if status == "failed" {
        let title = "Media upload error";
        item["errors"] = json!([{"code": 131_053, "title": title, "message": title, "error_data": {"details": title}}]);
    }
    notification(&json!({"statuses": [item]}))
}

impl StandIn {
    /// The notification of a message with one of its media; `kind` is `image` and the like.
    pub fn media_message(&self, kind: &str, id: &str, caption: Option<&str>) -> Value {
        let medium = self.medium(id).expect("a medium that is there");
        let mut object = json!({"id": id, "mime_type": medium.mime_type, "sha256": STANDARD.encode(medium.sha256())});
        if let Some(caption) = caption {
            object["caption"] = caption.into();
        }
        let message = json!({
            "from": "16505551234", "id": format!("wamid.in.{id}"), "timestamp": "1712595443", "type": kind, kind: object,
        });
        let contact = json!({"profile": {"name": "Ada"}, "wa_id": "16505551234"});
        notification(&json!({"contacts": [contact], "messages": [message]}))
    }

    /// Posts a notification, signed with the app's secret; gives the status of the answer, or 0 without one.
    pub async fn deliver(&self, url: &str, notification: &Value) -> u16 {
        self.deliver_signed(url, notification, APP_SECRET).await
    }

    /// The same, signed with another secret.
    pub async fn deliver_signed(&self, url: &str, notification: &Value, secret: &str) -> u16 {
        let body = notification.to_string();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let request = reqwest::Client::new()
            .post(url)
            .header("content-type", "application/json")
            .header("user-agent", "facebookexternalua")
            .header("x-hub-signature-256", signature(secret, body.as_bytes()))
            .body(body);
        request.send().await.map_or(0, |answer| answer.status().as_u16())
    }

    /// Verifies a URL: whether it answers the challenge as Meta asks, with 200 and nothing but the challenge.
    pub async fn verify(&self, url: &str, verify_token: &str) -> bool {
        let mut url = url::Url::parse(url).unwrap();
        url.query_pairs_mut()
            .append_pair("hub.mode", "subscribe")
            .append_pair("hub.challenge", CHALLENGE)
            .append_pair("hub.verify_token", verify_token);
        let _ = rustls::crypto::ring::default_provider().install_default();
        match reqwest::Client::new().get(url).send().await {
            Ok(answer) => answer.status() == 200 && answer.text().await.is_ok_and(|text| text == CHALLENGE),
            Err(_) => false,
        }
    }
}
