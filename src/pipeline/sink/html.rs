//! Text that is no HTML as a page of it: escaped, so that nothing in it is markup.

/// Returns a page that shows a text as it is.
pub(super) fn page(text: &str, title: &str) -> String {
    let (title, text) = (escaped(title), escaped(text.trim_end()));
    format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <pre style=\"white-space: pre-wrap; max-width: 50rem; margin: 2rem auto\">{text}</pre>\n"
    )
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#x27;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_markup() {
        let page = page("<script>alert('x')</script> & more\n", "a\"><b");
        assert!(page.contains("&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; more</pre>"), "{page}");
        assert!(page.contains("<title>a&quot;&gt;&lt;b</title>"), "{page}");
    }
}
