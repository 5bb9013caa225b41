//! EPUB: the pages of a book in the order of its spine (EPUB 3.3, section 5.7).

use std::collections::HashMap;

use super::package::Package;
use super::parts::{self, resolved};
use super::xml::{Node, Xml, texts};
use crate::corpus::document::{Document, Format};
use crate::corpus::reader::budget::Around;
use crate::corpus::reader::build::Build;
use crate::corpus::reader::html;
use crate::corpus::reader::options::{HtmlContent, ReadOptions};
use crate::corpus::reader::{ReadReason, Refusal, decode};

pub fn parse(package: &mut Package<'_>, around: &Around<'_>) -> Result<Document, Refusal> {
    let container = package.text("META-INF/container.xml", around)?.unwrap_or_default();
    let root = Xml::new(&container).find_map(|node| match node {
        Node::Open(tag) if tag.name() == "rootfile" => tag.attr("full-path"),
        _ => None,
    });
    let opf = root.or_else(|| package.names().iter().find(|n| n.ends_with(".opf")).cloned());
    let Some((opf, xml)) = opf.and_then(|name| Some((name.clone(), package.text(&name, around).transpose()?))) else {
        return Err((ReadReason::Unreadable, "is an EPUB without a package document".into()));
    };
    let xml = xml?;
    let folder = opf.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut items = HashMap::new();
    let mut spine = Vec::new();
    for node in Xml::new(&xml) {
        let Node::Open(tag) = node else { continue };
        match tag.name() {
            "item" => {
                if let (Some(id), Some(href)) = (tag.attr("id"), tag.attr("href")) {
                    items.insert(id, resolved(folder, &percent_decoded(&href)));
                }
            }
            "itemref" => spine.extend(tag.attr("idref")),
            _ => {}
        }
    }
    let mut build = Build::new(Format::Epub, around.options);
    // Pages of a book are all main content.
    let options = ReadOptions { html: HtmlContent::Full, ..around.options.clone() };
    let mut missing = Vec::new();
    let is_locked = package.text("META-INF/encryption.xml", around)?.is_some_and(|e| locks_pages(&e));
    for id in &spine {
        let page = items.get(id).filter(|name| package.has(name));
        let Some((name, bytes)) = page.map(|name| (name, package.read(name, around))) else {
            missing.push(id.clone());
            continue;
        };
        let Some(bytes) = bytes? else { continue };
        if is_locked && !bytes.contains(&b'<') {
            return Err((ReadReason::Encrypted, "is an EPUB whose pages are encrypted".into()));
        }
        let page = html::parse(&decode::decode_as(&bytes, html::charset(&bytes)), &options)?;
        if !page.text.trim().is_empty() {
            build.append(name, page);
        }
        if build.is_over() {
            break;
        }
    }
    if !missing.is_empty() {
        build.warn(format!("its spine names pages that are not in it: {}", missing.join(", ")));
    }
    parts::dublin_core(&opf, &xml, &mut build);
    let (authors, _) = texts(&xml, "creator"); // its fault is named already
    if authors.len() > 1 {
        build.document.meta.insert("author".into(), authors.join(", "));
    }
    build.finish()
}

/// Whether more is encrypted than the fonts, which many books obfuscate.
fn locks_pages(xml: &str) -> bool {
    Xml::new(xml).any(|node| match node {
        Node::Open(tag) if tag.name() == "CipherReference" => tag.attr("URI").is_some_and(|uri| {
            let uri = uri.to_lowercase();
            [".xhtml", ".html", ".htm", ".xml"].iter().any(|ext| uri.ends_with(ext))
        }),
        _ => false,
    })
}

fn percent_decoded(href: &str) -> String {
    let mut bytes = Vec::with_capacity(href.len());
    let mut rest = href.as_bytes();
    while let [first, more @ ..] = rest {
        let code = more.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
