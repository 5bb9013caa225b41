//! XML as a stream of tags and text, with the place of each. No entity is expanded but the five of XML and characters
//! by number, nothing outside the text is fetched, and depth costs no stack. The one place that names quick-xml.

use std::borrow::Cow;
use std::ops::Range;

use quick_xml::events::{BytesEnd, BytesStart, Event};
use quick_xml::reader::Reader;

/// One piece of an XML text.
pub enum Node<'a> {
    Open(Tag<'a>),
    Close(End<'a>),
    Text(Cow<'a, str>),
}

pub struct Tag<'a>(BytesStart<'a>);

pub struct End<'a>(BytesEnd<'a>);

/// Reads a text to its end, or to the first place that cannot be read on from.
pub struct Xml<'a> {
    reader: Reader<&'a [u8]>,
    /// Bytes of the text that the last node was made from.
    pub at: Range<usize>,
    /// Where reading ended before the end of the text, and why.
    pub fault: Option<String>,
}

impl<'a> Xml<'a> {
    pub fn new(text: &'a str) -> Self {
        let mut reader = Reader::from_str(text);
        let config = reader.config_mut();
        config.expand_empty_elements = true;
        // Closing tags are only counted by those who read: a wrong name is no reason to lose the text behind it.
        config.check_end_names = false;
        config.allow_unmatched_ends = true;
        config.allow_dangling_amp = true;
        Self { reader, at: 0..0, fault: None }
    }
}

impl<'a> Iterator for Xml<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        loop {
            let from = self.reader.buffer_position() as usize;
            let event = self.reader.read_event();
            self.at = from..self.reader.buffer_position() as usize;
            return Some(match event {
                Ok(Event::Start(tag) | Event::Empty(tag)) => Node::Open(Tag(tag)),
                Ok(Event::End(end)) => Node::Close(End(end)),
                Ok(Event::Text(text)) => Node::Text(text.into_inner()),
                Ok(Event::CData(text)) => Node::Text(text.into_inner()),
                Ok(Event::GeneralRef(name)) => {
                    let character = name.resolve_char_ref().ok().flatten();
                    let name = name.into_inner();
                    Node::Text(match character.or_else(|| predefined(&name)) {
                        Some(c) => c.to_string().into(),
                        None => format!("&{name};").into(), // of a DTD: it stays as it is written
                    })
                }
                Ok(Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_)) => continue,
                Ok(Event::Eof) => return None,
                Err(error) => {
                    self.fault.get_or_insert_with(|| format!("is damaged at byte {from} ({error})"));
                    return None;
                }
            });
        }
    }
}

fn predefined(name: &str) -> Option<char> {
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => return None,
    })
}

fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

impl Tag<'_> {
    /// Returns the name without its prefix: formats of one family differ in those only.
    pub fn name(&self) -> &str {
        local(self.0.name().0)
    }

    /// Returns the value of the first attribute of that name, whatever its prefix.
    pub fn attr(&self, name: &str) -> Option<String> {
        let mut attributes = self.0.attributes();
        let found = attributes.with_checks(false).flatten().find(|a| local(a.key.0) == name)?;
        Some(unescaped(&found.value))
    }

    /// Returns the value of an attribute of that name that has a prefix: a relation's `r:id` beside an `id`.
    pub fn prefixed_attr(&self, name: &str) -> Option<String> {
        let mut attributes = self.0.attributes();
        let is_it = |key: &str| key.split_once(':').is_some_and(|(_, local)| local == name);
        let found = attributes.with_checks(false).flatten().find(|a| is_it(a.key.0))?;
        Some(unescaped(&found.value))
    }
}

impl End<'_> {
    pub fn name(&self) -> &str {
        local(self.0.name().0)
    }
}

/// Values with an entity that XML does not know stay as they are written.
fn unescaped(value: &str) -> String {
    quick_xml::escape::unescape(value).map_or_else(|_| value.to_owned(), Cow::into_owned)
}

/// Returns the text of every element of that name, in order, and the fault that ended reading early.
pub fn texts(xml: &str, name: &str) -> (Vec<String>, Option<String>) {
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    let mut reader = Xml::new(xml);
    for node in reader.by_ref() {
        match node {
            Node::Open(tag) if tag.name() == name => open = Some(String::new()),
            Node::Close(end) if end.name() == name => found.extend(open.take()),
            Node::Text(text) => open.iter_mut().for_each(|o| o.push_str(&text)),
            _ => {}
        }
    }
    found.extend(open);
    (found, reader.fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(xml: &str) -> String {
        Xml::new(xml).filter_map(|n| if let Node::Text(t) = n { Some(t.into_owned()) } else { None }).collect()
    }

    #[test]
    fn entities_of_a_dtd_are_not_expanded() {
        let bomb = r#"<!DOCTYPE x [<!ENTITY a "lol"><!ENTITY b "&a;&a;"><!ENTITY f SYSTEM "file:///etc/passwd">]>
            <x>&b;&f;&amp;&#228;</x>"#;
        assert_eq!(words(bomb).trim(), "&b;&f;&ä");
    }

    #[test]
    fn depth_is_no_trouble_and_a_broken_end_keeps_what_came_before() {
        let deep = format!("{}x{}", "<a>".repeat(200_000), "</a>".repeat(200_000));
        assert_eq!(words(&deep), "x");
        let mut xml = Xml::new("<a>one<b>two</b><");
        let texts = xml.by_ref().filter(|n| matches!(n, Node::Text(_))).count();
        assert_eq!((texts, xml.fault.is_some()), (2, true));
    }

    #[test]
    fn prefixes_are_not_looked_at_and_places_are_bytes() {
        let mut xml = Xml::new(r#"<w:p w:val="a&amp;b"/>"#);
        let Some(Node::Open(tag)) = xml.next() else { panic!() };
        assert_eq!((tag.name(), tag.attr("val").as_deref(), xml.at.clone()), ("p", Some("a&b"), 0..22));
    }
}
