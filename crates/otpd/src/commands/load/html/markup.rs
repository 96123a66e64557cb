//! Markup that cannot go wrong: elements close where they were opened, and every text is escaped.

use std::fmt::{Display, Write};

/// HTML or SVG that grows.
#[derive(Debug, Default)]
pub(super) struct Markup(String);

impl Markup {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Markup as it is. Only for what this module's own callers wrote themselves.
    pub(super) fn raw(&mut self, markup: &str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Text.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        self.0.push_str(&escaped(&text.to_string()));
        self
    }

    /// An element and what is in it.
    pub(super) fn element(
        &mut self,
        name: &str,
        attributes: &[(&str, &dyn Display)],
        inside: impl FnOnce(&mut Self),
    ) -> &mut Self {
        self.open(name, attributes);
        self.0.push('>');
        inside(self);
        // A string takes whatever is written to it.
        let _ = write!(self.0, "</{name}>");
        self
    }

    /// An element of one text.
    pub(super) fn leaf(
        &mut self,
        name: &str,
        attributes: &[(&str, &dyn Display)],
        text: impl Display,
    ) -> &mut Self {
        self.element(name, attributes, |inside| {
            inside.text(text);
        })
    }

    /// An element without anything in it.
    pub(super) fn empty(&mut self, name: &str, attributes: &[(&str, &dyn Display)]) -> &mut Self {
        self.open(name, attributes);
        self.0.push_str("/>");
        self
    }

    fn open(&mut self, name: &str, attributes: &[(&str, &dyn Display)]) {
        self.0.push('<');
        self.0.push_str(name);
        for (name, value) in attributes {
            let _ = write!(self.0, " {name}=\"{}\"", escaped(&value.to_string()));
        }
    }

    /// A table: heads, then rows. The first column names its row; what follows a line break in it explains.
    pub(super) fn table<const N: usize>(&mut self, heads: [&str; N], rows: &[[String; N]]) -> &mut Self {
        self.element("div", &[("class", &"scroll")], |m| {
            m.element("table", &[], |m| {
                m.element("thead", &[], |m| {
                    m.element("tr", &[], |m| {
                        for head in heads {
                            m.leaf("th", &[("scope", &"col")], head);
                        }
                    });
                });
                m.element("tbody", &[], |m| rows.iter().for_each(|row| m.row(row)));
            });
        })
    }

    fn row(&mut self, cells: &[String]) {
        self.element("tr", &[], |m| {
            for (place, cell) in cells.iter().enumerate() {
                if place == 0 {
                    let (name, meaning) = cell.split_once('\n').unwrap_or((cell, ""));
                    m.element("th", &[("scope", &"row")], |m| {
                        m.text(name);
                        if !meaning.is_empty() {
                            m.leaf("small", &[], meaning);
                        }
                    });
                } else {
                    m.leaf("td", &[], cell);
                }
            }
        });
    }

    /// What has grown.
    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// A text as it may stand between tags and in quotes. What XML cannot hold at all is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && !matches!(c, '\n' | '\t') => {}
            c => out.push(c),
        }
    }
    out
}

/// Whether every tag is closed by its own, and nothing looks like a tag that is none. For tests.
#[cfg(test)]
pub(super) fn is_well_formed(markup: &str) -> Result<(), String> {
    let mut open: Vec<String> = Vec::new();
    let mut rest = markup;
    while let Some((before, after)) = rest.split_once('<') {
        if before.contains('>') {
            return Err(format!("a lone > in {before:?}"));
        }
        let (tag, after) = after.split_once('>').ok_or("a tag that does not end")?;
        rest = after;
        if tag.matches('"').count() % 2 != 0 {
            return Err(format!("quotes in <{tag}>"));
        }
        if tag.starts_with('!') || tag.starts_with("meta ") || tag.ends_with('/') {
            continue;
        }
        match tag.strip_prefix('/') {
            Some(name) => {
                let last = open.pop();
                if last.as_deref() != Some(name) {
                    return Err(format!("</{name}> closes {last:?}"));
                }
            }
            None => open.push(tag.split_whitespace().next().unwrap_or_default().to_owned()),
        }
    }
    if rest.contains('>') {
        return Err(format!("a lone > in {rest:?}"));
    }
    if open.is_empty() { Ok(()) } else { Err(format!("left open: {open:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_checker_checks() {
        for good in ["", "<p>a</p>", "<a><b x=\"1\"/></a>", "<!doctype html><p></p>"] {
            assert_eq!(is_well_formed(good), Ok(()), "{good}");
        }
        for bad in ["<p>", "</p>", "<a><b></a></b>", "a > b", "<p", "<p x=\"1>a</p>"] {
            assert!(is_well_formed(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_out(text in "\\PC*", hostile in "[<>&\"'/a-z =]{0,40}") {
            for text in [text, hostile] {
                let mut m = Markup::new();
                m.element("p", &[("title", &text)], |m| { m.text(&text); });
                let markup = m.into_string();
                prop_assert_eq!(is_well_formed(&markup), Ok(()));
                prop_assert_eq!(markup.matches('<').count(), 2, "{}", markup);
            }
        }
    }
}
