//! What a paragraph style says: whether it is a heading or an item of a list.

use std::collections::HashMap;

use super::super::xml::{Node, Xml};

#[derive(Default)]
pub struct Styles(HashMap<String, Style>);

#[derive(Default)]
struct Style {
    name: String, // lower case
    based_on: Option<String>,
    outline: Option<u8>,
    list: Option<String>,
    depth: Option<usize>,
}

/// Styles are based on each other; a circle must end.
const MAX_BASES: usize = 16;

impl Styles {
    pub fn of(xml: &str) -> Self {
        let mut styles = HashMap::new();
        let mut open: Option<(String, Style)> = None;
        for node in Xml::new(xml) {
            match node {
                Node::Open(tag) if tag.name() == "style" => {
                    open = Some((tag.attr("styleId").unwrap_or_default(), Style::default()));
                }
                Node::Open(tag) => {
                    let Some((_, style)) = &mut open else { continue };
                    let value = tag.attr("val");
                    match tag.name() {
                        "name" => style.name = value.unwrap_or_default().to_lowercase(),
                        "basedOn" => style.based_on = value,
                        "outlineLvl" => style.outline = value.and_then(|v| v.parse().ok()),
                        "numId" => style.list = value,
                        "ilvl" => style.depth = value.and_then(|v| v.parse().ok()),
                        _ => {}
                    }
                }
                Node::Close(end) if end.name() == "style" => styles.extend(open.take()),
                _ => {}
            }
        }
        Self(styles)
    }

    /// Returns the level of a heading, 1-based: by its outline, else by the name that Word gives it in any language.
    pub fn heading_level(&self, id: &str) -> Option<u8> {
        for style in self.chain(id) {
            if let Some(level) = style.outline {
                return (level < 9).then_some(level + 1);
            }
            match style.name.as_str() {
                "title" => return Some(1),
                "subtitle" => return Some(2),
                name => {
                    let level = name.strip_prefix("heading").and_then(|n| n.trim().parse::<u8>().ok());
                    if let Some(level) = level.filter(|l| (1..=9).contains(l)) {
                        return Some(level);
                    }
                }
            }
        }
        // A file without its styles still names them.
        let bare = id.to_lowercase();
        let level = bare.strip_prefix("heading").and_then(|n| n.trim().parse::<u8>().ok());
        if self.0.contains_key(id) { None } else { level.filter(|l| (1..=9).contains(l)) }
    }

    /// Returns the numbering that a style brings, and its level in it.
    pub fn list(&self, id: &str) -> (Option<String>, Option<usize>) {
        let of_list = self.chain(id).find(|s| s.list.is_some());
        let depth = self.chain(id).find_map(|s| s.depth);
        (of_list.and_then(|s| s.list.clone()), depth)
    }

    fn chain<'s>(&'s self, id: &str) -> impl Iterator<Item = &'s Style> {
        let mut next = self.0.get(id);
        std::iter::from_fn(move || {
            let style = next?;
            next = style.based_on.as_ref().and_then(|id| self.0.get(id));
            Some(style)
        })
        .take(MAX_BASES)
    }
}
