//! The addresses of names, without those that must not be asked. What is left is what is connected to, so a name that
//! changes its address between a check and the connection (DNS rebinding) gains nothing.

use std::error::Error as StdError;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::Allowed;

/// The names of the operating system (`getaddrinfo(3)`).
pub(super) struct SystemNames;

impl Resolve for SystemNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// A name all of whose addresses are private.
#[derive(Debug, thiserror::Error)]
#[error("{0} leads into a private network")]
struct Private(String);

/// The host that was refused, when that is why a request failed.
pub(super) fn private_host(error: &reqwest::Error) -> Option<&str> {
    let mut error: &(dyn StdError + 'static) = error;
    loop {
        if let Some(Private(host)) = error.downcast_ref() {
            return Some(host);
        }
        error = error.source()?;
    }
}

/// Another resolver's addresses, checked.
pub(super) struct Checked {
    names: Arc<dyn Resolve>,
    allowed: Arc<Allowed>,
}

impl Checked {
    pub(super) fn new(names: Arc<dyn Resolve>, allowed: Arc<Allowed>) -> Checked {
        Checked { names, allowed }
    }
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let (host, allowed) = (name.as_str().to_owned(), self.allowed.clone());
        let resolving = self.names.resolve(name);
        Box::pin(async move {
            let mut refused = false;
            let mut found: Vec<_> = resolving.await?.collect();
            found.retain(|address| {
                let may = allowed.may_be_asked(address.ip());
                refused |= !may;
                may
            });
            if found.is_empty() && refused {
                return Err(Private(host).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
