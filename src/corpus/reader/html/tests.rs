use super::*;
use crate::corpus::reader::decode;

fn read_with(html: &str, options: &ReadOptions) -> Document {
    parse(&decode::decode(html.as_bytes()), options).unwrap()
}

fn read(html: &str) -> Document {
    read_with(html, &ReadOptions::default())
}

#[test]
fn a_page_keeps_its_structure_and_each_block_its_place() {
    let html = "<!DOCTYPE html><html lang=de-DE><head><title>T &amp; t</title><meta name=author content=Eva><style>p{}</style></head>
        <body><script>alert('<p>no</p>')</script><h2>Head <b>line</b></h2><p>Gr&uuml;&szlig;e &lt;b&gt;   an\n <a href='https://e.org/x y'>alle</a> &amp; <a href='#top'>hier</a>.
        <ul><li>one<li>two <ol start=3><li>three</ol></ul>
        <table><tr><th>a<th>b<tr><td>1<td>2|3</table><pre>  code\n    more</pre><img alt='A dog' src='x.png'><br>after<!-- no --></body></html>";
    let document = read(html);
    assert_eq!(
        document.text,
        "## Head line\n\nGrüße <b> an [alle](https://e.org/x%20y) & hier.\n\n- one\n- two\n  3. three\n\n\
         | a | b |\n| --- | --- |\n| 1 | 2\\|3 |\n\n```\n  code\n    more\n```\n\n![A dog]\nafter"
    );
    assert_eq!((document.meta["title"].as_str(), document.meta["author"].as_str()), ("T & t", "Eva"));
    assert_eq!(document.meta["language"], "de");
    assert_eq!(document.headings[0].title, "Head line");
    let at = |words: &str| html[document.locate(document.text.find(words).unwrap()).bytes.unwrap()].to_owned();
    assert!(at("Grüße").starts_with("Gr&uuml;&szlig;e"));
    assert_eq!(at("three"), "three");
    assert!(at("2\\|3").contains("<td>2|3"));
}

#[test]
fn tables_for_layout_are_no_tables() {
    let document = read(
        "<table><tr><td><h1>Title</h1><table><tr><td>x<td>y</table><td>side</table><table><tr><td>only<tr><td>column</table>",
    );
    assert_eq!(document.text, "# Title\n\n| x | y |\n| --- | --- |\n\nside\n\nonly\n\ncolumn");
}

#[test]
fn cells_below_one_that_reaches_down_keep_their_columns() {
    let document =
        read("<table><tr><th>a<th>b<th>c<tr><td rowspan=2>1<td>2<td>3<tr><td colspan=2>4<tr><td>5<td>6<td>7</table>");
    assert_eq!(document.text, "| a | b | c |\n| --- | --- | --- |\n| 1 | 2 | 3 |\n|  | 4 |  |\n| 5 | 6 | 7 |\n");
}

#[test]
fn deep_and_open_tags_take_time_that_grows_with_the_page() {
    use std::time::{Duration, Instant};
    for tag in ["<div>", "<table><tr><td>", "<a href=x>", "<b>", "<ul><li>", "<svg>", "<p", "<!--", "<h1>", "</p>"] {
        let started = Instant::now();
        let html = format!("<html>words{}", tag.repeat(100_000));
        assert!(read(&html).text.contains("words"), "{tag}");
        assert!(started.elapsed() < Duration::from_secs(30), "{tag} {:?}", started.elapsed());
    }
}

#[test]
fn the_charset_a_page_names_is_found() {
    let name = |html: &str| charset(html.as_bytes()).map(Encoding::name);
    assert_eq!(name("<meta charset=\"Shift_JIS\">"), Some("Shift_JIS"));
    assert_eq!(name("<meta http-equiv=x content='text/html; charset=iso-8859-2'>"), Some("ISO-8859-2"));
    assert_eq!(name("<?xml version='1.0' encoding='windows-1251'?>"), Some("windows-1251"));
    assert_eq!(name("<p>charset</p>"), None);
}

#[test]
fn main_content_leaves_menus_out_and_says_so() {
    let words =
        "This is a long paragraph of the article that a reader came for, with enough words to be told from the rest. ";
    let menu = "<li><a href=/a>Home</a></li><li><a href=/b>Imprint</a></li>";
    let html = format!(
        "<html><head><title>News</title></head><body><nav><ul>{menu}</ul></nav><article><h1>Headline</h1>{}</article>\
         <footer><a href=/c>Subscribe now</a></footer></body></html>",
        format!("<p>{}</p>", words.repeat(3)).repeat(5)
    );
    let full = read(&html);
    assert!(full.text.contains("Imprint") && full.text.contains("Subscribe now"));
    let main = read_with(&html, &ReadOptions { html: HtmlContent::Main, ..Default::default() });
    assert!(!main.text.contains("Imprint") && !main.text.contains("Subscribe"), "{}", main.text);
    assert_eq!(main.text.matches("came for").count(), 15);
    assert!(main.warnings.iter().any(|w| w.contains("left out, as `html: main` asks")), "{:?}", main.warnings);
    let at = main.text.find("came for").unwrap();
    assert!(html[main.locate(at).bytes.unwrap()].contains("came for"));
}
