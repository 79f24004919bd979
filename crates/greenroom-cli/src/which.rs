//! Which connections a command means: the filters that `ps`, `close`, `send` and `drain` have in common.
//!
//! Only the flags: what they mean is the API's matter (`Filter`), and so is what they may be.

use std::net::IpAddr;

use clap::Args;
use greenroom::admin::client::Filter;

#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Which {
    /// Those of this backend
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// Those of this route
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Those of this user
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Those with this tag: name=value, or a name
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Those of this address
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// Those that are at least so old
    #[arg(long, value_name = "DUR")]
    older_than: Option<String>,
}

impl Which {
    /// The same for the API, with nothing else in it.
    pub(crate) fn filter(&self) -> Filter {
        Filter {
            backend: self.backend.clone(),
            route: self.route.clone(),
            user: self.user.clone(),
            tag: self.tag.clone(),
            address: self.address,
            older_than: self.older_than.clone(),
            ..Filter::default()
        }
    }
}
