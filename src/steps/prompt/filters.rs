//! The filters of templates and expressions. Each is pure; an unusable argument is an error, an empty one is not.

use minijinja::value::{Value as Inner, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};

use super::dates::resolve_date;
use super::{counting, names};

/// Adds the house's filters and tests to an environment.
pub fn install(env: &mut Environment<'static>) {
    env.add_test("none", |v: &Inner| names::is_none(v));
    env.add_function("abs", minijinja::filters::abs);
    env.add_filter("turns", turns);
    env.add_filter("timecode", timecode);
    env.add_filter("pages", pages);
    counting::install(env);
    env.add_filter("table", table);
    env.add_filter("bullets", bullets);
    env.add_filter("json", json);
    env.add_filter("tojson", json); // the engine's own escapes for HTML, which Markdown and JSONL must not have
    env.add_filter("quote", quote);
    env.add_filter("cell", |v: &Inner| cell(v));
    env.add_filter("resolve_date", |words: &Inner, base: &Inner| match (words.as_str(), base.as_str()) {
        (Some(words), Some(base)) => resolve_date(words, base).map(Inner::from).unwrap_or(Inner::from(())),
        _ => Inner::from(()),
    });
}

/// Turns, or ids of turns of `doc`, as the model reads them: one line each, `[T12] Anna: words`.
fn turns(state: &State, value: &Inner) -> Result<String, Error> {
    let mut lines = Vec::new();
    for item in value.try_iter()? {
        let turn = find_turn(state, &item)?;
        let speaker = turn.get_attr("speaker").ok().filter(|s| s.as_str().is_some());
        let label = speaker.map(|s| format!("{s}: ")).unwrap_or_default();
        lines.push(format!("[{}] {label}{}", turn_label(&turn.get_attr("id")?), turn.get_attr("text")?));
    }
    Ok(lines.join("\n"))
}

/// Pages, or numbers of pages of `doc`, as the model reads them: `[page 3] words`.
fn pages(state: &State, value: &Inner) -> Result<String, Error> {
    let mut shown = Vec::new();
    for item in value.try_iter()? {
        let page = match item.kind() {
            ValueKind::Map => item,
            _ => {
                let all = state.lookup("doc").and_then(|d| d.get_attr("pages").ok()).unwrap_or_default();
                let is_it = |page: &Inner| page.get_attr("number").is_ok_and(|n| n == item);
                let missing = || Error::new(ErrorKind::InvalidOperation, format!("the document has no page {item}"));
                all.try_iter()?.find(is_it).ok_or_else(missing)?
            }
        };
        shown.push(format!("[page {}] {}", page.get_attr("number")?, page.get_attr("text")?));
    }
    Ok(shown.join("\n\n"))
}

/// Milliseconds, a turn, an id or a list of them (the first counts) as `0:03:12`; `none` where no time is known.
fn timecode(state: &State, value: &Inner) -> Result<Inner, Error> {
    let ms = match value.kind() {
        _ if names::is_none(value) => None,
        ValueKind::Number => value.as_i64(),
        ValueKind::Seq | ValueKind::Iterable => match value.try_iter()?.next() {
            Some(first) => return timecode(state, &first),
            None => None,
        },
        _ => find_turn(state, value)?.get_attr("start_ms")?.as_i64(),
    };
    Ok(ms.map_or(Inner::from(()), |ms| {
        let s = ms.max(0) / 1000;
        Inner::from(format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60))
    }))
}

/// A list of mappings as a Markdown table with the columns named, or those of the first row.
fn table(rows: &Inner, columns: Option<Vec<String>>) -> Result<String, Error> {
    let rows: Vec<Inner> = rows.try_iter()?.collect();
    let columns = match (columns, rows.first()) {
        (Some(columns), _) => columns,
        (None, Some(first)) => first.try_iter()?.map(|k| k.to_string()).collect(),
        (None, None) => return Ok(String::new()),
    };
    let mut lines = vec![format!("| {} |", columns.join(" | ")), format!("|{}", " --- |".repeat(columns.len()))];
    for row in &rows {
        let cells: Result<Vec<String>, Error> = columns.iter().map(|c| Ok(cell(&row.get_attr(c)?))).collect();
        lines.push(format!("| {} |", cells?.join(" | ")));
    }
    Ok(lines.join("\n"))
}

/// A value fit for one cell of a Markdown table: on one line, its pipes escaped, nothing for `none`.
fn cell(value: &Inner) -> String {
    if names::is_none(value) || value.is_undefined() {
        return String::new();
    }
    let text = match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<String> = value.try_iter().map(|i| i.map(|v| v.to_string()).collect()).unwrap_or_default();
            items.join(", ")
        }
        _ => value.to_string(),
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// A list as Markdown bullets; lines after an item's first are indented below it.
fn bullets(items: &Inner) -> Result<String, Error> {
    Ok(items.try_iter()?.map(|i| format!("- {}", i.to_string().replace('\n', "\n  "))).collect::<Vec<_>>().join("\n"))
}

/// A value as JSON on one line; with `indent`, on several.
fn json(value: &Inner, indent: Option<bool>) -> Result<String, Error> {
    let value = names::to_json(value).map_err(|m| Error::new(ErrorKind::BadSerialization, m))?;
    let text = if indent == Some(true) { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
    text.map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))
}

/// A text as a Markdown block quote.
fn quote(text: &Inner) -> String {
    let text = if names::is_none(text) { String::new() } else { text.to_string() };
    text.lines().map(|l| format!("> {l}").trim_end().to_string()).collect::<Vec<_>>().join("\n")
}

/// `T12` for an id in either of its forms, 12 and "T12".
fn turn_label(id: &Inner) -> String {
    if id.is_number() { format!("T{id}") } else { id.to_string() }
}

/// Returns the turn itself, or the turn of `doc` that an id means.
fn find_turn(state: &State, value: &Inner) -> Result<Inner, Error> {
    if value.kind() == ValueKind::Map {
        return Ok(value.clone());
    }
    let wanted = turn_label(value);
    let turns = state.lookup("doc").and_then(|d| d.get_attr("turns").ok()).unwrap_or_default();
    // Ids are positions, so the place is known; the search is for lists that have been filtered.
    let place = wanted.strip_prefix('T').and_then(|n| n.parse::<usize>().ok()).and_then(|n| n.checked_sub(1));
    let is_it = |turn: &Inner| turn.get_attr("id").is_ok_and(|id| turn_label(&id) == wanted);
    if let Some(turn) = place.and_then(|i| turns.get_item_by_index(i).ok()).filter(|t| !t.is_undefined() && is_it(t)) {
        return Ok(turn);
    }
    turns
        .try_iter()?
        .find(is_it)
        .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("the document has no turn `{wanted}`")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::steps::prompt::Templates;

    fn check(source: &str, names: Value, expected: &str) {
        let templates = Templates::new();
        let template = templates.compile_template(source).unwrap();
        assert_eq!(templates.render(&template, &names).unwrap(), expected);
    }

    fn meeting() -> Value {
        json!({ "doc": { "turns": [
            { "id": "T1", "speaker": "Anna", "start_ms": 0, "text": "Hello." },
            { "id": "T2", "speaker": null, "start_ms": 3_725_000, "text": "Yes." },
            { "id": "T3", "speaker": "Bo", "start_ms": null, "text": "No." },
        ] } })
    }

    #[test]
    fn turns_are_written_as_the_model_reads_them() {
        check("{{ ['T1', 'T2'] | turns }}", meeting(), "[T1] Anna: Hello.\n[T2] Yes.");
        check("{{ doc.turns | turns }}", meeting(), "[T1] Anna: Hello.\n[T2] Yes.\n[T3] Bo: No.");
    }

    #[test]
    fn a_timecode_is_that_of_the_first_turn_named_and_none_without_times() {
        check(
            "{{ ['T2', 'T1'] | timecode }}|{{ 'T1' | timecode }}|{{ 61000 | timecode }}",
            meeting(),
            "1:02:05|0:00:00|0:01:01",
        );
        check("{{ 'T3' | timecode is none }} {{ [] | timecode is none }}", meeting(), "True True");
    }

    #[test]
    fn pages_are_shown_with_their_numbers() {
        let names = json!({ "doc": { "pages": [{ "number": 1, "text": "One." }, { "number": 2, "text": "Two." }] } });
        check("{{ doc.pages | pages }}|{{ [2] | pages }}", names, "[page 1] One.\n\n[page 2] Two.|[page 2] Two.");
    }

    #[test]
    fn a_turn_that_does_not_exist_is_an_error() {
        let templates = Templates::new();
        let expression = templates.compile_expression("'T9' | timecode").unwrap();
        let error = templates.eval(&expression, &meeting()).unwrap_err();
        assert!(error.message.contains("no turn `T9`"), "{error}");
    }

    #[test]
    fn a_table_survives_pipes_and_newlines() {
        let rows = json!({ "rows": [{ "task": "a | b\nc", "owner": null }] });
        check("{{ rows | table(['task', 'owner']) }}", rows, "| task | owner |\n| --- | --- |\n| a \\| b c |  |");
    }

    #[test]
    fn json_is_plain_and_bullets_and_quotes_are_markdown() {
        check("{{ v | json }}", json!({ "v": { "a": "<b>'&" } }), r#"{"a":"<b>'&"}"#);
        check("{{ v | bullets }}", json!({ "v": ["a", "b\nc"] }), "- a\n- b\n  c");
        check("{{ v | quote }}", json!({ "v": "a\n\nb" }), "> a\n>\n> b");
    }

    #[test]
    fn a_date_is_resolved_or_none() {
        let names = json!({ "base": "2025-03-12" }); // a Wednesday
        check("{{ 'by next Friday' | resolve_date(base) }}", names.clone(), "2025-03-21");
        check("{{ 'soon' | resolve_date(base) is none }}", names, "True");
    }
}
