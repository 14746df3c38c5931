//! Which media a command is about, by what they are.

use std::time::Duration;

use clap::Args;

use crate::cli::values;
use crate::volume::MediaFilter;

/// Which media are matched: of several options all must fit.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct MatchArgs {
    /// Only expired media
    #[arg(long)]
    pub expired: bool,
    /// Only media of this type
    #[arg(long = "type", value_name = "TYPE", value_parser = values::mime_pattern)]
    pub mime_type: Option<String>,
    /// Only media of at least this age
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub older_than: Option<Duration>,
    /// Only media of more bytes
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub larger: Option<u64>,
    /// Only media below this directory of the volume
    #[arg(long, value_name = "DIR", value_parser = values::directory)]
    pub below: Option<String>,
    /// Only media with this extended attribute
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::attribute)]
    pub attribute: Option<(String, String)>,
}

impl MatchArgs {
    /// The filter that takes these, held or not.
    #[must_use]
    pub fn filter(&self) -> MediaFilter {
        MediaFilter {
            expired: self.expired,
            mime_type: self.mime_type.clone(),
            older_than: self.older_than,
            larger: self.larger,
            held: false,
            below: self.below.clone(),
            attribute: self.attribute.clone(),
        }
    }
}
