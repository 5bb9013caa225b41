//! The main content of a page: which of its blocks an article is made of. The one place that names dom_smoothie.

use std::ops::Range;

use dom_smoothie::Readability;

use crate::corpus::document::{Document, Heading, Place};
use crate::corpus::reader::turns::count;

/// Returns the blocks of a page that belong to its article. A page in which no article is found stays whole, and says so.
pub(super) fn of(mut page: Document, html: &str) -> Document {
    let article = match Readability::new(html, None, None).and_then(|mut r| r.parse()) {
        Ok(article) => article,
        Err(error) => {
            page.warnings.push(format!("has no main content to tell from the rest ({error}); all of it is read"));
            return page;
        }
    };
    let kept = kept(&page, &letters(&article.text_content));
    let num_kept = kept.iter().filter(|k| **k).count();
    if num_kept == 0 {
        page.warnings.push("has no main content to tell from the rest; all of it is read".into());
        return page;
    }
    let title = article.title.to_string();
    let author = article.byline.map(|b| b.to_string());
    let mut main = only(&page, &kept);
    let left = count(
        kept.len() - num_kept,
        "block is not of the main content and was",
        "blocks are not of the main content and were",
    );
    if num_kept < kept.len() {
        main.warnings.push(format!("{left} left out, as `html: main` asks"));
    }
    for (key, value) in [("title", Some(title)), ("author", author)] {
        if let Some(value) = value.filter(|v| !v.trim().is_empty()) {
            main.meta.insert(key.into(), value.trim().to_owned());
        }
    }
    main
}

/// Finds the page's blocks in the article's letters: first the long ones, which cannot be taken for another; then the short
/// ones, in what is left between those.
fn kept(page: &Document, article: &str) -> Vec<bool> {
    const NEAR: usize = 400; // letters of the article that may be passed over on the way to a short block
    let blocks = page.places.iter().map(|place| letters(&without_addresses(&page.text[place.range.clone()])));
    let blocks: Vec<String> = blocks.collect();
    let anchors = anchors(&blocks, article);
    // For each block, where the next anchor stands.
    let mut limits = vec![article.len(); blocks.len()];
    let mut next = article.len();
    for index in (0..blocks.len()).rev() {
        limits[index] = next;
        next = anchors[index].as_ref().map_or(next, |anchor| anchor.start);
    }
    let mut at = 0;
    let mut answers = Vec::with_capacity(blocks.len());
    for (index, block) in blocks.iter().enumerate() {
        let found = match &anchors[index] {
            Some(anchor) => Some(anchor.clone()),
            None if block.is_empty() => None,
            None => {
                let found = article.get(at..limits[index]).and_then(|gap| gap.find(block));
                found.filter(|after| *after <= NEAR).map(|after| at + after..at + after + block.len())
            }
        };
        at = found.as_ref().map_or(at, |found| found.end);
        answers.push(found.is_some());
    }
    answers
}

/// Returns where in the article each long block stands, in the order of both.
fn anchors(blocks: &[String], article: &str) -> Vec<Option<Range<usize>>> {
    const LONG: usize = 40;
    const AHEAD: usize = 40; // long blocks that may come before a far one
    let long: Vec<usize> = (0..blocks.len()).filter(|index| blocks[*index].len() >= LONG).collect();
    let mut anchors = vec![None; blocks.len()];
    let mut at = 0;
    for (rank, index) in long.iter().enumerate() {
        let next = |block: &str| article.get(at..).and_then(|rest| rest.find(block));
        let Some(after) = next(&blocks[*index]) else { continue };
        // A block that later ones come before stands twice in the page: its place in the article is the later one.
        let mut ahead = long[rank + 1..].iter().take(AHEAD);
        if after > 0 && ahead.any(|other| next(&blocks[*other]).is_some_and(|nearer| nearer < after)) {
            continue;
        }
        anchors[*index] = Some(at + after..at + after + blocks[*index].len());
        at += after + blocks[*index].len();
    }
    anchors
}

fn letters(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Takes the addresses of links, the alternatives of pictures and the numbers of items off.
fn without_addresses(block: &str) -> String {
    let mut words = String::with_capacity(block.len());
    let mut rest = block.trim_start();
    let marker =
        rest.split_once(' ').filter(|(m, _)| m.ends_with('.') && m.trim_end_matches('.').parse::<u32>().is_ok());
    rest = marker.map_or(rest, |(_, words)| words);
    while let Some(at) = rest.find(['!', ']']) {
        words.push_str(&rest[..at]);
        let here = &rest[at..];
        let skipped = if here.starts_with("![") {
            here.find(']').map(|end| end + 1)
        } else if here.starts_with("](") {
            here.find(')').map(|end| end + 1)
        } else {
            None
        };
        rest = &here[skipped.unwrap_or(1)..];
    }
    words.push_str(rest);
    words
}

/// Returns a document of some of the places of another.
fn only(page: &Document, kept: &[bool]) -> Document {
    let mut main = Document::of(page.format, String::new());
    (main.meta, main.warnings) = (page.meta.clone(), page.warnings.clone());
    let mut headings = page.headings.iter().peekable();
    let mut before: Option<usize> = None;
    for (index, place) in page.places.iter().enumerate().filter(|(index, _)| kept[*index]) {
        match before {
            // Between neighbors stands what stood there: rows of a table keep their line of dashes.
            Some(last) if last + 1 == index => {
                main.text.push_str(&page.text[page.places[last].range.end..place.range.start]);
            }
            Some(_) => main.text.push_str("\n\n"),
            None => {}
        }
        before = Some(index);
        let from = main.text.len();
        main.text.push_str(&page.text[place.range.clone()]);
        let range = from..main.text.len();
        while headings.next_if(|h| h.range.start < place.range.start).is_some() {}
        if let Some(heading) = headings.next_if(|h| h.range == place.range) {
            main.headings.push(Heading { range: range.clone(), ..heading.clone() });
        }
        main.places.push(Place { range, ..place.clone() });
    }
    main
}
