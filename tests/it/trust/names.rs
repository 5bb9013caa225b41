//! Where outputs go, whatever a title or a model says, and whatever lies in wait there.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::{assert_tidy, batch};
use crate::pipelines::{ECHO, Stage, counts};
use crate::support::run;

#[test]
fn whatever_a_document_is_called_its_page_is_one_file_inside_the_folder() {
    let longest = "long".repeat(2500);
    let titles = [
        "../../x",
        "/abs",
        "a/../../b",
        "a\u{0}b",
        "CON",
        "con",
        ".",
        "..",
        "\u{1f980}",
        "-rf",
        "dot.",
        "blank ",
        "same",
        "same",
        "SAME",
        "e\u{301}",
        "\u{e9}",
        "\\\\server\\share",
        "C:\\x",
        ".quarry",
        "\u{202e}dm",
        "{{ 7*7 }}",
        &longest,
    ];
    let stage = Stage::new(
        &ECHO
            .replace("{{ doc.stem }}.md", "{{ doc.meta.title }}/{{ doc.meta.title }}.md")
            .replace("name: echo", "name: batch"),
        json!([{ "answer": "x" }]),
    );
    for (n, title) in titles.iter().enumerate() {
        stage.transcript(&format!("in/{n:02}.vtt"), title, &["<v Anna>Hello there.</v>".into()]);
    }
    let report = stage.report(0);
    assert_eq!(counts(&report), [titles.len() as u64, 0, 0], "{report}");
    let first = stage.outputs();
    assert_eq!(first.keys().filter(|name| name.ends_with(".md")).count(), titles.len(), "{:?}", first.keys());
    assert_tidy(&stage, "hostile titles");
    run(&mut stage.runs(&["--force"])).exits(0);
    assert_eq!(stage.outputs(), first, "they are numbered the same way each time");
    // What a model says cannot name a page at all: a name is settled before any step is done.
    stage.write("p.yaml", ECHO.replace("{{ doc.stem }}.md", "{{ steps.answer }}.md"));
    let refused = run(&mut stage.command(&["check", "p.yaml"])).exits(2);
    assert!(refused.stderr.contains("p.yaml:8:"), "{refused}");
}

#[test]
fn twins_are_numbered_the_same_way_on_every_run_and_from_nothing() {
    let twins = ["a/note.txt", "b/note.txt", "c/NOTE.txt", "d/note.txt", "e/caf\u{e9}.txt", "e/cafe\u{301}.txt"];
    let pages = |jobs: &str| {
        let stage = batch(0, 1);
        for (n, twin) in twins.iter().enumerate() {
            fs::create_dir_all(stage.path("in").join(twin).parent().unwrap()).unwrap();
            stage.write(&format!("in/{twin}"), format!("This is number {n}.\n"));
        }
        run(&mut stage.runs(&["--jobs", jobs])).exits(0);
        let first = stage.outputs();
        run(&mut stage.runs(&["--jobs", jobs, "--force"])).exits(0);
        assert_eq!(stage.outputs(), first, "a second time");
        first
    };
    let one = pages("1");
    assert_eq!(one.keys().filter(|n| n.ends_with(".md")).count(), twins.len(), "{:?}", one.keys());
    for jobs in ["2", "8"] {
        assert_eq!(pages(jobs), one, "{jobs} at once");
    }
}

#[test]
fn an_output_folder_that_is_a_link_is_used_and_links_in_it_are_not_followed() {
    let whole = batch(3, 0);
    whole.run().exits(0);
    let stage = batch(3, 0);
    fs::create_dir_all(stage.path("elsewhere/real")).unwrap();
    symlink(stage.path("elsewhere/real"), stage.path("out")).unwrap();
    stage.write("elsewhere/precious", "precious");
    symlink(stage.path("elsewhere/precious"), stage.path("elsewhere/real/000.md")).unwrap();
    fs::hard_link(stage.path("elsewhere/precious"), stage.path("elsewhere/real/001.md")).unwrap();
    stage.run().exits(0);
    assert_eq!(stage.read("elsewhere/precious"), "precious");
    assert!(!fs::symlink_metadata(stage.path("out/000.md")).unwrap().is_symlink());
    super::assert_same(&stage, &whole.outputs(), "through a link that the author made");
    // A table that is a link is refused, for what lies behind it is not ours.
    fs::remove_file(stage.path("out/all.jsonl")).unwrap();
    symlink(stage.path("elsewhere/precious"), stage.path("out/all.jsonl")).unwrap();
    let refused = stage.run().exits(2);
    assert!(refused.stderr.contains("all.jsonl") && refused.stderr.contains("link"), "{refused}");
    assert_eq!(stage.read("elsewhere/precious"), "precious");
}

#[test]
fn links_swapped_in_while_a_run_goes_on_lead_nowhere() {
    let stage = batch(12, 60);
    let text = stage.read("p.yaml").replace("out/{{ doc.stem }}.md", "out/{{ doc.stem }}/page.md");
    stage.write("p.yaml", text);
    fs::create_dir_all(stage.path("elsewhere")).unwrap();
    let running = stage.started();
    // The folders of the last pages, and the last page's own name, are links before their turn comes.
    for n in ["009", "010"] {
        symlink(stage.path("elsewhere"), stage.path("out").join(n)).unwrap();
    }
    fs::create_dir(stage.path("out/011")).unwrap();
    stage.write("elsewhere/precious", "precious");
    symlink(stage.path("elsewhere/precious"), stage.path("out/011/page.md")).unwrap();
    let ended = running.finish().exits(3);
    assert!(ended.stdout.contains("10 ok, 2 failed") && ended.stdout.contains("a link that leaves"), "{ended}");
    assert_eq!(fs::read_dir(stage.path("elsewhere")).unwrap().count(), 1);
    assert_eq!(stage.read("elsewhere/precious"), "precious");
}
