//! The contracts, one file for each provider, written from the providers' own pages.
//!
//! They are strict: a field that the provider does not document is refused too, because the likeliest
//! cause is a misspelt one. Where a provider's answer to something is not documented, the file says so
//! and gives the answer its other errors suggest.

pub(crate) mod betatel;
pub(crate) mod components;
pub(crate) mod meta_cloud;
mod meta_cloud_errors;
pub(crate) mod meta_onprem;
mod meta_onprem_errors;
pub(crate) mod msgai;
pub(crate) mod onemsg;
pub(crate) mod verihubs;
