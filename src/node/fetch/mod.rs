//! Fetching a link for `/v1/messages`: the one place where the node asks a server that a client of it has named.
//!
//! Such a link must not reach what only this machine can reach. So no address of a private or special network is
//! connected to unless it is allowed: the check is made on the addresses themselves, those that a name was resolved to
//! for this very connection included, and again at each redirect. Credentials of a provider go to the link's own
//! scheme, host and port alone, and never again once a redirect has led elsewhere.

mod address;
mod error;
mod resolver;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use reqwest::dns::Resolve;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{RequestBuilder, Response};
use url::{Host, Url};

use super::Secret;
use super::arriving::Arriving;
use super::client::{self, Bounds, Deadline, bounded};
use crate::error::Result;
use address::Allowed;
pub use address::Network;
pub use error::FetchError;
use resolver::{Checked, SystemNames, private_host};

/// The longest link that is fetched.
const MAX_LINK_BYTES: usize = 8 * 1024;

type Fetch<T> = std::result::Result<T, FetchError>;

/// The bounds of a fetch.
#[derive(Clone, Debug)]
pub struct FetchConfig {
    /// The most bytes of a medium.
    pub max_bytes: u64,
    /// How many redirects are followed.
    pub max_redirects: u32,
    /// Until a connection stands, TLS included.
    pub connect: Duration,
    /// Between two pieces of a medium.
    pub idle: Duration,
    /// All of it: redirects, and the last byte.
    pub total: Duration,
    /// Private networks that may be asked all the same. Empty: none.
    pub allow: Vec<Network>,
}

impl Default for FetchConfig {
    /// 100 MB, 5 redirects, 10 s, 30 s, 5 min, no private network.
    fn default() -> FetchConfig {
        FetchConfig {
            max_bytes: super::upstream::MAX_MEDIUM_BYTES,
            max_redirects: 5,
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            total: Duration::from_secs(300),
            allow: Vec::new(),
        }
    }
}

/// What a provider wants to see (`/v1/settings/application/media/providers`).
#[derive(Clone, Debug)]
pub enum Credentials {
    /// `Authorization: Bearer`.
    Bearer(Secret),
    /// `Authorization: Basic`.
    Basic {
        /// The user's name.
        username: String,
        /// The password.
        password: Secret,
    },
}

/// Fetches links. Usable from any number of tasks at once.
pub struct Fetcher {
    client: reqwest::Client,
    allowed: Arc<Allowed>,
    config: FetchConfig,
}

impl Fetcher {
    /// Makes ready to fetch; asks nobody.
    ///
    /// # Errors
    /// `Io` when TLS cannot be set up.
    pub fn new(config: FetchConfig) -> Result<Fetcher> {
        Fetcher::with_names(config, Arc::new(SystemNames))
    }

    /// The same with another source of the addresses of names, which are checked all the same.
    ///
    /// # Errors
    /// As [`Fetcher::new`].
    pub fn with_names(config: FetchConfig, names: Arc<dyn Resolve>) -> Result<Fetcher> {
        let allowed = Arc::new(Allowed::new(config.allow.clone()));
        let resolver = Checked::new(names, allowed.clone());
        // No connection is kept: who names a host must not meet a connection that another link has opened.
        let builder = client::builder(config.connect).dns_resolver(resolver).pool_max_idle_per_host(0);
        Ok(Fetcher { client: client::build(builder)?, allowed, config })
    }

    /// Begins to fetch `link`; the bytes are read from the answer.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(&self, link: &str, credentials: Option<&Credentials>) -> Fetch<Fetched> {
        let mut deadline = Deadline::new(self.config.total);
        let mut url = self.parse(link)?;
        let origin = url.origin();
        let mut credentials = credentials;
        for _ in 0..=self.config.max_redirects {
            let request = self.client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
            let response = match deadline.meet(authorized(request, credentials)?.send()).await {
                Err(within) => return Err(FetchError::slow(within)),
                Ok(Err(e)) => return Err(failed(e)),
                Ok(Ok(response)) => response,
            };
            match response.status().as_u16() {
                200 => return self.body(response, deadline),
                301 | 302 | 303 | 307 | 308 => url = self.next(&url, &response)?,
                status => {
                    return Err(FetchError::Status { status, retry_after: client::retry_after(response.headers()) });
                }
            }
            if url.origin() != origin {
                credentials = None;
            }
        }
        Err(FetchError::TooManyRedirects { most: self.config.max_redirects })
    }

    fn body(&self, response: Response, deadline: Deadline) -> Fetch<Fetched> {
        let headers = response.headers();
        if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            return Err(FetchError::Encoded);
        }
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(bounded);
        let (length, most) = (response.content_length(), self.config.max_bytes);
        if length.is_some_and(|length| length > most) {
            return Err(FetchError::TooLarge { most });
        }
        let bounds = Bounds { idle: self.config.idle, deadline: Some(deadline), most, exactly: length };
        let pieces = client::body(response, bounds).map_err(FetchError::from).boxed();
        Ok(Fetched { length, content_type, pieces })
    }

    /// Where a redirect leads, if it may be followed.
    fn next(&self, url: &Url, response: &Response) -> Fetch<Url> {
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| FetchError::link("it is redirected without a location"))?;
        let next = url.join(location).map_err(|_| FetchError::link("it is redirected to what is no URL"))?;
        self.parse(next.as_str())
    }

    /// A URL that may be asked for, as far as it alone tells.
    fn parse(&self, link: &str) -> Fetch<Url> {
        if link.len() > MAX_LINK_BYTES {
            return Err(FetchError::link("it is too long"));
        }
        let url = Url::parse(link).map_err(|_| FetchError::link("it is no URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(FetchError::link("only http and https are fetched"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::link("it holds a name or password: use a provider for these"));
        }
        // Addresses are connected to as they are; names go through the resolver.
        let address = match url.host() {
            None => return Err(FetchError::link("it has no host")),
            Some(Host::Domain(_)) => return Ok(url),
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
        };
        if self.allowed.may_be_asked(address) { Ok(url) } else { Err(FetchError::private(&address.to_string())) }
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher").field("config", &self.config).finish_non_exhaustive()
    }
}

fn authorized(request: RequestBuilder, credentials: Option<&Credentials>) -> Fetch<RequestBuilder> {
    Ok(match credentials {
        None => request,
        Some(Credentials::Bearer(token)) => {
            HeaderValue::from_str(token.expose())
                .map_err(|_| FetchError::link("the provider's token cannot be a header"))?;
            request.bearer_auth(token.expose())
        }
        Some(Credentials::Basic { username, password }) => request.basic_auth(username, Some(password.expose())),
    })
}

fn failed(error: reqwest::Error) -> FetchError {
    match private_host(&error) {
        Some(host) => FetchError::private(host),
        None => FetchError::Unreachable { why: client::reason(&error.without_url()) },
    }
}

/// A medium as it comes from a link.
pub type Fetched = Arriving<FetchError>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_to_public_places_are_taken() {
        let fetcher = Fetcher::new(FetchConfig::default()).unwrap();
        for link in ["http://8.8.8.8/a", "https://[2606:4700::1111]:8/", "https://example.com/a?b#c", "HTTP://8.8.8.8"]
        {
            assert!(fetcher.parse(link).is_ok(), "{link}");
        }
        for link in ["", "a", "ftp://8.8.8.8/", "file:///a", "data:,a", "http://user@8.8.8.8/", "http://:word@8.8.8.8/"]
        {
            assert!(matches!(fetcher.parse(link), Err(FetchError::BadLink { .. })), "{link}");
        }
        // All the ways in which a URL can write such an address.
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "0",
            "127.0.0.1.",
            "１２７.0.0.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[64:ff9b::169.254.169.254]",
            "169.254.169.254",
            "[fe80::1]",
        ] {
            let link = format!("http://{host}/");
            assert!(matches!(fetcher.parse(&link), Err(FetchError::PrivateAddress { .. })), "{link}");
        }
    }
}
