//! The main content of a page: which of its blocks an article is made of. The one place that names dom_smoothie.

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

/// Walks through the article's letters block by block. A block is part of it where its letters come next; a long block,
/// wherever they come later.
fn kept(page: &Document, article: &str) -> Vec<bool> {
    const NEAR: usize = 400; // letters that may be passed over on the way to a short block
    const LONG: usize = 40;
    let mut at = 0;
    let mut answers = Vec::with_capacity(page.places.len());
    for place in &page.places {
        let block = letters(&without_addresses(&page.text[place.range.clone()]));
        let found = article.get(at..).filter(|_| !block.is_empty()).and_then(|rest| rest.find(&block));
        let is_part = found.is_some_and(|after| after <= NEAR || block.len() >= LONG);
        if let Some(after) = found.filter(|_| is_part) {
            at += after + block.len();
        }
        answers.push(is_part);
    }
    answers
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
