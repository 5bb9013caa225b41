//! PresentationML (ECMA-376 part 1, section 19): a slide is a page; its title a heading; tables, charts, diagrams,
//! speaker notes and comments follow its words.

use std::collections::HashMap;

use super::drawing::{paragraphs, read_chart};
use super::package::Package;
use super::parts::{self, Relation};
use super::xml::{Node, Xml, texts};
use crate::corpus::document::{Document, Format};
use crate::corpus::reader::Refusal;
use crate::corpus::reader::budget::Around;
use crate::corpus::reader::build::Build;
use crate::corpus::reader::flow::{Flow, Kind};
use crate::corpus::reader::turns::squeeze;

pub fn parse(package: &mut Package<'_>, around: &Around<'_>) -> Result<Document, Refusal> {
    let mut build = Build::new(Format::Pptx, around.options);
    let (slides, is_lost) = slides(package, around)?;
    if is_lost {
        build.warn("its list of slides is damaged; they were found by their names, and may be out of order");
    }
    let mut hidden = Vec::new();
    for (index, name) in slides.iter().enumerate() {
        let number = index as u32 + 1;
        build.page(number);
        let Some(xml) = package.text(name, around)? else {
            build.warn(format!("has no `{name}`, its slide {number}"));
            continue;
        };
        build.part(name.as_str());
        let relations = parts::relations(package, name, around)?;
        parts::warn_of_missing(package, &relations, &["chart", "diagramData", "notesSlide", "comments"], &mut build);
        if read_slide(&xml, &relations, &mut build) {
            hidden.push(number);
        }
        for (kind, target) in beside(&relations) {
            let Some(xml) = package.text(&target, around)? else { continue };
            match kind {
                Beside::Chart => read_chart(&target, &xml, &mut build),
                Beside::Diagram => read_lines(&target, &xml, "", &mut build),
                Beside::Notes => read_notes(&target, &xml, &mut build),
                Beside::Comments => read_comments(&target, &xml, &mut build),
            }
        }
        if build.is_over() {
            break;
        }
    }
    if !hidden.is_empty() {
        let numbers = hidden.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        build.warn(format!("hidden slides are read too: {numbers}"));
    }
    parts::warn_of_embedded(package, &[], &mut build);
    parts::core_properties(package, &mut build, around)?;
    build.finish()
}

/// Returns the slides' parts in the order they are shown, and whether that order is lost.
fn slides(package: &mut Package<'_>, around: &Around<'_>) -> Result<(Vec<String>, bool), Refusal> {
    let main = "ppt/presentation.xml";
    let relations = parts::relations(package, main, around)?;
    let xml = package.text(main, around)?.unwrap_or_default();
    let mut slides = Vec::new();
    let mut num_lost = 0usize; // slides whose parts are not named
    for node in Xml::new(&xml) {
        if let Node::Open(tag) = node
            && tag.name() == "sldId"
        {
            // Two attributes are called `id`: the relation's has the prefix.
            let target = relation_id(&tag).and_then(|id| relations.get(&id)).map(|r| r.target.clone());
            num_lost += usize::from(target.is_none());
            slides.extend(target);
        }
    }
    if slides.is_empty() || num_lost > 0 {
        // A presentation that lost its list still has its slides.
        let number = |name: &str| {
            name.bytes()
                .filter(u8::is_ascii_digit)
                .fold(0u64, |n, d| n.saturating_mul(10).saturating_add(u64::from(d - b'0')))
        };
        slides = package.names().iter().filter(|n| n.starts_with("ppt/slides/slide")).cloned().collect();
        slides.sort_by_key(|name| number(name));
    }
    Ok((slides, num_lost > 0))
}

fn relation_id(tag: &super::xml::Tag<'_>) -> Option<String> {
    tag.prefixed_attr("id")
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Beside {
    Chart,
    Diagram,
    Notes,
    Comments,
}

fn beside(relations: &HashMap<String, Relation>) -> Vec<(Beside, String)> {
    let of = |r: &Relation| {
        Some(match r.kind.as_str() {
            "chart" => Beside::Chart,
            "diagramData" => Beside::Diagram,
            "notesSlide" => Beside::Notes,
            "comments" => Beside::Comments,
            _ => return None,
        })
    };
    let mut found: Vec<_> =
        relations.values().filter(|r| !r.external).filter_map(|r| Some((of(r)?, r.target.clone()))).collect();
    found.sort();
    found
}

/// Reads the shapes of a slide in their order; returns whether it is hidden.
fn read_slide(xml: &str, relations: &HashMap<String, Relation>, build: &mut Build) -> bool {
    let mut flow = Flow::new(build);
    let mut is_hidden = false;
    let mut placeholder = None::<String>; // of the open shape
    let mut paragraph: Option<(String, usize)> = None; // words, and where it begins
    let (mut depth, mut bullet) = (0usize, false);
    let (mut in_text, mut ignored, mut span) = (false, 0usize, 1usize);
    let mut link: Option<(usize, String)> = None;
    let mut reader = Xml::new(xml);
    while let Some(node) = reader.next() {
        let at = reader.at.clone();
        match node {
            Node::Open(tag) if ignored > 0 || tag.name() == "Fallback" => {
                ignored += 1;
                drop(tag);
            }
            Node::Close(_) if ignored > 0 => ignored -= 1,
            Node::Open(tag) => match tag.name() {
                "sld" => is_hidden = tag.attr("show").as_deref() == Some("0"),
                "sp" => placeholder = None,
                "ph" => placeholder = Some(tag.attr("type").unwrap_or_else(|| "obj".into())),
                "tbl" => flow.open_table(),
                "tr" => flow.open_row(at.start),
                "tc" => {
                    span = tag.attr("gridSpan").and_then(|v| v.parse().ok()).unwrap_or(1);
                    // A cell that another reaches over is there, and empty.
                    if tag.attr("hMerge").is_some() {
                        span = 1;
                    }
                    flow.open_cell();
                }
                "p" => (paragraph, depth, bullet) = (Some((String::new(), at.start)), 0, false),
                "pPr" => depth = tag.attr("lvl").and_then(|v| v.parse().ok()).unwrap_or(0),
                "buChar" | "buAutoNum" => bullet = true,
                "t" => in_text = true,
                "br" => paragraph.iter_mut().for_each(|(text, _)| text.push('\n')),
                "hlinkClick" => {
                    let target = relation_id(&tag).and_then(|id| relations.get(&id)).filter(|r| r.external);
                    link = target.zip(paragraph.as_ref()).map(|(r, (text, _))| (text.len(), r.target.clone()));
                }
                _ => {}
            },
            Node::Close(end) => match end.name() {
                "t" => in_text = false,
                "r" | "fld" => {
                    if let (Some((from, address)), Some((text, _))) = (link.take(), paragraph.as_mut())
                        && text.get(from..).is_some_and(|words| !words.trim().is_empty() && words.trim() != address)
                    {
                        text.insert(from, '[');
                        text.push_str(&format!("]({address})"));
                    }
                }
                "p" => {
                    if let Some((text, from)) = paragraph.take() {
                        let kind = match placeholder.as_deref() {
                            Some("title" | "ctrTitle") => Kind::Heading(1),
                            // Numbers of slides are the file's furniture.
                            Some("sldNum") => continue,
                            _ if depth > 0 || bullet => Kind::Item { depth, marker: "-".into() },
                            _ => Kind::Plain,
                        };
                        flow.paragraph(kind, &text, from..at.end);
                    }
                }
                "tc" => flow.close_cell(span),
                "tr" => flow.close_row(at.end),
                "tbl" => flow.close_table(),
                _ => {}
            },
            Node::Text(text) => {
                if in_text && ignored == 0 {
                    paragraph.iter_mut().for_each(|(words, _)| words.push_str(&text));
                }
            }
        }
        if flow.build.is_over() {
            break;
        }
    }
    if let Some((text, from)) = paragraph {
        flow.paragraph(Kind::Plain, &text, from..xml.len());
    }
    if let Some(fault) = reader.fault.take() {
        let part = flow.build.document.parts.last().map(|p| p.name.clone()).unwrap_or_default();
        flow.build.warn(format!("`{part}` {fault}; what stands behind is not read"));
    }
    flow.finish(xml.len());
    is_hidden
}

/// Writes the paragraphs of a part that is all words, each after `label`.
fn read_lines(name: &str, xml: &str, label: &str, build: &mut Build) {
    build.part(name);
    let (paragraphs, fault) = paragraphs(xml);
    for (text, source) in paragraphs {
        build.paragraph(&format!("{label}{text}"), Some(source));
    }
    parts::warn_of(fault, name, build);
}

fn read_notes(name: &str, xml: &str, build: &mut Build) {
    build.part(name);
    let mut label = "Notes: ";
    let (paragraphs, fault) = paragraphs(xml);
    for (text, source) in paragraphs {
        build.paragraph(&format!("{label}{text}"), Some(source));
        label = "";
    }
    parts::warn_of(fault, name, build);
}

fn read_comments(name: &str, xml: &str, build: &mut Build) {
    build.part(name);
    let (comments, fault) = texts(xml, "text");
    parts::warn_of(fault, name, build);
    for comment in comments.iter().filter(|c| !c.trim().is_empty()) {
        build.paragraph(&format!("Comment: {}", squeeze(comment)), None);
    }
}
