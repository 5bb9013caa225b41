//! How the parts of a package find each other, and what they say of the whole. Knows no body text.

use std::collections::HashMap;

use super::package::Package;
use super::xml::{Node, Xml, texts};
use crate::corpus::reader::Refusal;
use crate::corpus::reader::budget::Around;
use crate::corpus::reader::build::Build;

/// One relation of a part.
pub struct Relation {
    pub kind: String,   // the last word of its type: `slide`, `hyperlink`
    pub target: String, // a member's name, or an address where `external`
    pub external: bool,
}

/// The relations of a part, by their ids; empty where it has none.
pub fn relations(
    package: &mut Package<'_>,
    part: &str,
    around: &Around<'_>,
) -> Result<HashMap<String, Relation>, Refusal> {
    let (folder, file) = part.rsplit_once('/').unwrap_or(("", part));
    let name = if folder.is_empty() { format!("_rels/{file}.rels") } else { format!("{folder}/_rels/{file}.rels") };
    let mut found = HashMap::new();
    let Some(xml) = package.text(&name, around)? else { return Ok(found) };
    for node in Xml::new(&xml) {
        let Node::Open(tag) = node else { continue };
        if tag.name() != "Relationship" {
            continue;
        }
        let (Some(id), Some(target)) = (tag.attr("Id"), tag.attr("Target")) else { continue };
        let external = tag.attr("TargetMode").as_deref() == Some("External");
        let kind = tag.attr("Type").unwrap_or_default();
        let kind = kind.rsplit('/').next().unwrap_or_default().to_owned();
        let target = if external { target } else { resolved(folder, &target) };
        found.insert(id, Relation { kind, target, external });
    }
    Ok(found)
}

/// Returns the name of a member as seen from a folder of the package; `..` never leaves it.
pub fn resolved(folder: &str, target: &str) -> String {
    let target = target.split(['#', '?']).next().unwrap_or_default();
    let mut path: Vec<&str> = if target.starts_with('/') { Vec::new() } else { folder.split('/').collect() };
    for word in target.split('/') {
        match word {
            "" | "." => {}
            ".." => drop(path.pop()),
            word => path.push(word),
        }
    }
    path.retain(|word| !word.is_empty());
    path.join("/")
}

/// Takes title, author, dates and language from the properties of an OOXML package.
pub fn core_properties(package: &mut Package<'_>, build: &mut Build, around: &Around<'_>) -> Result<(), Refusal> {
    let Some(xml) = package.text("docProps/core.xml", around)? else { return Ok(()) };
    dublin_core(&xml, build);
    Ok(())
}

/// Takes what XML says in the terms of the Dublin Core, as OOXML, ODF and EPUB do.
pub fn dublin_core(xml: &str, build: &mut Build) {
    let fields = [
        ("title", "title"),
        ("creator", "author"),
        ("initial-creator", "author"),
        ("created", "date"),
        ("creation-date", "date"),
        ("date", "date"),
        ("modified", "modified"),
        ("language", "language"),
        ("subject", "subject"),
    ];
    for (element, key) in fields {
        for text in texts(xml, element).into_iter().take(1) {
            build.meta(key, &text);
        }
    }
    // `de-DE` is German to those who ask for `de`.
    if let Some(language) = build.document.meta.get_mut("language") {
        let main = language.split(['-', '_']).next().unwrap_or_default().to_lowercase();
        *language = main;
    }
}

#[cfg(test)]
mod tests {
    use super::resolved;

    #[test]
    fn a_target_never_leaves_the_package() {
        assert_eq!(resolved("ppt/slides", "../notesSlides/n1.xml"), "ppt/notesSlides/n1.xml");
        assert_eq!(resolved("a", "../../../../etc/passwd"), "etc/passwd");
        assert_eq!(resolved("a/b", "/word/document.xml#x"), "word/document.xml");
    }
}
