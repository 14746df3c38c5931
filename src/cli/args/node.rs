//! Options and commands of the media node.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::options::{DaemonArgs, KeyArgs, OutputArgs, TargetArgs};
use crate::cli::values;
use crate::control::Keep;
use crate::node::fetch::Network;
use crate::node::tokens::Role;

/// Where the page is shown when nothing else is said: to this machine alone.
const DEFAULT_PAGE: &str = "127.0.0.1:8081";

/// How the media node is run.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Options of the media node")]
pub struct NodeArgs {
    /// Answer the HTTP media API (/v1/media) at this address
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Show the operator's page at this address [without one: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, require_equals = true, default_missing_value = DEFAULT_PAGE)]
    pub page: Option<SocketAddr>,
    /// With TLS: the certificate chain, as a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// With TLS: the private key, as a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Refuse an upload that WhatsApp would refuse, at once instead of when it is sent
    #[arg(long)]
    pub strict: bool,
    /// The status that answers an upload, 201 or 200 [default: 201]
    #[arg(long, value_name = "STATUS", value_parser = created_status)]
    pub created_status: Option<u16>,
    /// Bytes an upload may have [default: 100MiB]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub max_upload: Option<u64>,
    /// Requests a second that one token may make in the long run [default: 500]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub requests_per_second: Option<u32>,
    /// Where inbound media come from and messages go; without it the node only keeps media
    #[arg(long, value_name = "KIND", value_enum)]
    pub upstream: Option<UpstreamArg>,
    /// The upstream's base URL, when it is not the published one
    #[arg(long, value_name = "URL", requires = "upstream")]
    pub upstream_url: Option<String>,
    /// The upstream's access token or API key, in the first line of this file
    #[arg(long, value_name = "FILE", requires = "upstream")]
    pub upstream_token_file: Option<PathBuf>,
    /// The sender's phone number id at the Cloud API
    #[arg(long, value_name = "ID", requires = "upstream")]
    pub phone_number_id: Option<String>,
    /// The directory that stands for an upstream of kind `directory`
    #[arg(long, value_name = "DIR", requires = "upstream")]
    pub upstream_directory: Option<PathBuf>,
    /// Take notifications of the upstream at /webhooks/NAME [default: cloud]
    #[arg(long, value_name = "NAME")]
    pub notifications: Option<String>,
    /// What the upstream signs notifications with (X-Hub-Signature-256), in the first line of this file
    #[arg(long, value_name = "FILE")]
    pub app_secret_file: Option<PathBuf>,
    /// What the upstream shows to verify the URL of notifications, in the first line of this file
    #[arg(long, value_name = "FILE")]
    pub verify_token_file: Option<PathBuf>,
    /// How long an inbound message is held back until its medium is stored [default: 15m]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub hold_messages: Option<Duration>,
    /// How long a status is waited for of a message of which nobody knows whether it was sent [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub settle_grace: Option<Duration>,
    /// A private network that links in messages may lead into, for example 10.1.0.0/16
    #[arg(long, value_name = "NETWORK")]
    pub allow_private_network: Vec<Network>,
}

/// Kinds of upstreams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UpstreamArg {
    /// Meta's Cloud API
    Cloud,
    /// 360dialog's v2 API
    #[value(name = "360dialog")]
    Dialog360,
    /// A directory: media/ID in, messages/ID.json out
    Directory,
}

impl NodeArgs {
    /// Whether nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == NodeArgs::default()
    }

    /// Whether nothing was said that is not about the page too.
    #[must_use]
    pub fn is_of_page_alone(&self) -> bool {
        NodeArgs { page: None, tls_cert: None, tls_key: None, ..self.clone() }.is_empty()
    }
}

fn created_status(text: &str) -> Result<u16, String> {
    match text {
        "200" => Ok(200),
        "201" => Ok(201),
        _ => Err("it is 200 or 201".to_owned()),
    }
}

/// `serve`
#[derive(Args, Debug)]
#[command(
    after_help = "Serves the HTTP media API without a mount, at 127.0.0.1:8080 unless --listen says otherwise. `wamedia mount --listen` \
serves both. SIGTERM ends it once answers under way are given; `wamedia umount STORE` does the same.\n\n\
Example:\n  wamedia token create --role user --name shop /var/lib/wamedia/store\n  wamedia serve /var/lib/wamedia/store\n  \
curl -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: image/jpeg' --data-binary @photo.jpg http://127.0.0.1:8080/v1/media"
)]
pub struct Serve {
    /// What opens it.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// The daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,
    /// The store
    #[arg(value_name = "STORE")]
    pub store: PathBuf,
}

/// `token`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  wamedia token create --role admin --name ops /var/lib/wamedia/store\n  \
wamedia token list /var/lib/wamedia/store\n  wamedia token revoke --name ops /var/lib/wamedia/store")]
pub struct TokenArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: TokenAction,
}

/// What `token` can do.
#[derive(Subcommand, Debug)]
pub enum TokenAction {
    /// Make a token and print it, as the last line
    #[command(
        after_help = "The token is shown this once; the volume keeps its digest only. `POST /v1/users/login` takes its name \
and the token as name and password, and gives tokens that last 7 days.\n\n\
Example:\n  wamedia token create --role user /var/lib/wamedia/store | tail -n 1"
    )]
    Create(TokenCreate),
    /// List tokens that have not ended
    #[command(after_help = "Example:\n  wamedia token list --json /srv/whatsappMedia")]
    List(TokenList),
    /// End all tokens of a name, at once
    #[command(after_help = "Example:\n  wamedia token revoke --name shop /srv/whatsappMedia")]
    Revoke(TokenRevoke),
}

/// What a token's holder may do, as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// Everything
    Admin,
    /// Media and messages, no settings and no clean-up
    User,
}

impl From<RoleArg> for Role {
    fn from(arg: RoleArg) -> Role {
        match arg {
            RoleArg::Admin => Role::Admin,
            RoleArg::User => Role::User,
        }
    }
}

/// `token create`
#[derive(Args, Debug)]
pub struct TokenCreate {
    /// What its holder may do
    #[arg(long, value_name = "ROLE", value_enum)]
    pub role: RoleArg,
    /// Whose it is [default: the role]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// How long it lasts, or forever
    #[arg(long, value_name = "TIME", value_parser = values::keep, default_value = "forever")]
    pub expires: Keep,
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `token list`
#[derive(Args, Debug)]
pub struct TokenList {
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `token revoke`
#[derive(Args, Debug)]
pub struct TokenRevoke {
    /// Whose tokens
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `webhooks`
#[derive(Args, Debug)]
#[command(after_help = "Webhooks that were refused for 24 hours wait here, the newest 10,000 of them.\n\n\
Example:\n  wamedia webhooks list /srv/whatsappMedia\n  wamedia webhooks replay /srv/whatsappMedia")]
pub struct Webhooks {
    /// What to do.
    #[command(subcommand)]
    pub action: WebhooksAction,
}

/// What `webhooks` can do.
#[derive(Subcommand, Debug)]
pub enum WebhooksAction {
    /// List webhooks that could not be delivered
    #[command(after_help = "Example:\n  wamedia webhooks list --json /srv/whatsappMedia")]
    List(WebhooksList),
    /// Try them again, all or those that are named
    #[command(after_help = "Example:\n  wamedia webhooks replay --id 17 --id 18 /srv/whatsappMedia")]
    Replay(WebhooksReplay),
}

/// `webhooks list`
#[derive(Args, Debug)]
pub struct WebhooksList {
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `webhooks replay`
#[derive(Args, Debug)]
pub struct WebhooksReplay {
    /// Only this one, as `list` numbers them
    #[arg(long, value_name = "ID")]
    pub id: Vec<u64>,
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}
