//! The manifests under `deploy/kubernetes`, without a cluster: they are built as a user builds them, every
//! object is held against its schema, what must agree between them is compared, and the rights that
//! they give out are tried on a real broker.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod agreement;
mod maintenance;
mod operators;
mod render;
mod rights;
mod safety;
mod schemas;

use std::sync::OnceLock;

use render::{Rendered, Tree};

/// The overlays, and production with every component: `everything` is not committed, the test makes it.
fn overlays() -> &'static [(&'static str, Rendered); 3] {
    static BUILT: OnceLock<[(&str, Rendered); 3]> = OnceLock::new();
    BUILT.get_or_init(|| {
        let tree = Tree::copy();
        ["overlays/dev", "overlays/production", "everything"].map(|name| (name, tree.build(name)))
    })
}

fn dev() -> &'static Rendered {
    &overlays()[0].1
}

fn everything() -> &'static Rendered {
    &overlays()[2].1
}
