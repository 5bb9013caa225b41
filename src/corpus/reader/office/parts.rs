//! How the parts of a package find each other, and what they say of the whole. Knows no body text.

use std::collections::HashMap;

use super::package::Package;
use super::xml::{Node, Xml, texts};
use crate::corpus::reader::Refusal;
use crate::corpus::reader::budget::Around;
use crate::corpus::reader::build::Build;
use crate::corpus::reader::turns::count;

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

/// Names parts that a part says it has and the package has not. `kinds` are those whose words would be read.
pub fn warn_of_missing(
    package: &Package<'_>,
    relations: &HashMap<String, Relation>,
    kinds: &[&str],
    build: &mut Build,
) {
    let is_missing = |r: &&Relation| !r.external && kinds.contains(&r.kind.as_str()) && !package.has(&r.target);
    let mut missing: Vec<&str> = relations.values().filter(is_missing).map(|r| r.target.as_str()).collect();
    missing.sort_unstable();
    missing.dedup();
    missing.iter().for_each(|target| build.warn(format!("`{target}` is named as a part of it and is missing")));
}

/// Says where a part could not be read on from.
pub fn warn_of(fault: Option<String>, part: &str, build: &mut Build) {
    if let Some(fault) = fault {
        build.warn(format!("`{part}` {fault}; what stands behind is not read"));
    }
}

/// Names files that are embedded in a document and read by no reader of it: those of the package and `more`.
pub fn warn_of_embedded(package: &Package<'_>, more: &[String], build: &mut Build) {
    const MAX_NAMED: usize = 8;
    // OOXML keeps them in a folder, OpenDocument as documents inside the document.
    let is_embedded = |name: &&String| {
        let in_folder = name.contains("/embeddings/") && !name.contains("/_rels/") && !name.ends_with('/');
        (in_folder || name.ends_with("/content.xml")) && !more.contains(name)
    };
    let found: Vec<&str> = more.iter().chain(package.names().iter().filter(is_embedded)).map(String::as_str).collect();
    if found.is_empty() {
        return;
    }
    let named = found[..found.len().min(MAX_NAMED)].join(", ");
    let rest = if found.len() > MAX_NAMED { ", …" } else { "" };
    let files = count(found.len(), "embedded file is", "embedded files are");
    build.warn(format!("{files} not read: {named}{rest}"));
}

/// Takes title, author, dates and language from the properties of an OOXML package.
pub fn core_properties(package: &mut Package<'_>, build: &mut Build, around: &Around<'_>) -> Result<(), Refusal> {
    let name = "docProps/core.xml";
    let Some(xml) = package.text(name, around)? else { return Ok(()) };
    dublin_core(name, &xml, build);
    Ok(())
}

/// Takes what XML says in the terms of the Dublin Core, as OOXML, ODF and EPUB do; `part` is the member that says it.
pub fn dublin_core(part: &str, xml: &str, build: &mut Build) {
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
    let mut fault = None;
    for (element, key) in fields {
        let (found, fault_of_part) = texts(xml, element);
        found.first().into_iter().for_each(|text| build.meta(key, text));
        fault = fault_of_part; // every pass meets the same
    }
    warn_of(fault, part, build);
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
