//! The index as its users meet it: built, changed, killed, damaged, read while it is written.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::update::{Content, How};
use super::*;
use crate::corpus::chunker::ChunkOptions;
use crate::corpus::document::Document;
use crate::corpus::reader::{ReadOptions, read};

/// A vector of letters: near for texts of like letters.
struct Letters(AtomicUsize);

impl Embed for Letters {
    fn id(&self) -> &str {
        "letters"
    }

    fn dims(&self) -> usize {
        26
    }

    fn passages(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String> {
        self.0.fetch_add(texts.len(), Ordering::Relaxed);
        Ok(texts.iter().map(|t| letters(t)).collect())
    }

    fn question(&self, text: &str) -> Result<Vec<f32>, String> {
        Ok(letters(text))
    }
}

fn letters(text: &str) -> Vec<f32> {
    let mut counts = vec![0f32; 26];
    text.bytes().filter(u8::is_ascii_lowercase).for_each(|b| counts[(b - b'a') as usize] += 1.0);
    let length = counts.iter().map(|c| c * c).sum::<f32>().sqrt().max(1e-9);
    counts.into_iter().map(|c| c / length).collect()
}

fn origins(folder: &Path) -> Vec<Origin> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names.into_iter().map(|name| Origin { content: Content::File(folder.join(&name)), name }).collect()
}

fn build_with(index: &Path, docs: &Path, embed: Option<&dyn Embed>) -> UpdateReport {
    let settings = Settings { embedder: embed.map(|e| e.id().to_owned()), ..Settings::default() };
    let mut writer = Writer::open(index, &settings).unwrap();
    let report = update_with(&mut writer, docs, embed);
    writer.close().unwrap();
    report
}

fn update_with(writer: &mut Writer, docs: &Path, embed: Option<&dyn Embed>) -> UpdateReport {
    let read_one = |path: &Path| read(path, &ReadOptions::default()).map_err(|e| e.detail);
    let fields = |d: &Document| vec![("ext".to_owned(), d.ext())];
    let chunk = ChunkOptions { size: 40, ..ChunkOptions::default() };
    let how = How {
        read: &read_one,
        chunk: &chunk,
        counter: &WordPieces,
        embed,
        fields: &fields,
        stop: &|| false,
        progress: &|_, _| {},
    };
    update(writer, &origins(docs), &how).unwrap()
}

fn build(index: &Path, docs: &Path) -> UpdateReport {
    build_with(index, docs, None)
}

fn find(retriever: &dyn Retriever, text: &str) -> Vec<String> {
    let filter = Filter::default();
    let query = Query { text, vector: None, filter: &filter, top: 10, context: 0 };
    retriever.retrieve(&query).unwrap().into_iter().map(|h| h.passage.id()).collect()
}

/// Three files about three things.
fn library() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write(
        "payroll.md",
        "# Payroll\n\nPayroll records are kept for seven years. The archive holds them in the cellar.\n",
    );
    write("leave.md", "# Leave\n\n## Sick leave\n\nWho is ill tells the team lead before nine in the morning.\n");
    write("travel.txt", "Trains are booked by the office. Taxis are paid where no train goes after ten at night.\n");
    folder
}

#[test]
fn what_was_indexed_is_found_by_its_words_in_any_form() {
    let (docs, index) = (library(), tempfile::tempdir().unwrap());
    let report = build(index.path(), docs.path());
    assert_eq!((report.added, report.changed, report.unchanged, report.failed.len()), (3, 0, 0, 0));
    let index = DiskIndex::open(index.path()).unwrap();
    assert_eq!(find(&index, "How long is a payroll record kept?")[0], "payroll.md#0");
    assert_eq!(find(&index, "Whom do I tell about illness or sickness, being ill?")[0], "leave.md#0");
    assert_eq!(find(&index, "booking a train")[0], "travel.txt#0");
    assert_eq!(find(&index, "xylophone"), [""; 0]);
    let stats = index.stats();
    assert_eq!((stats.files, stats.failed, stats.languages.get("en")), (3, 0, Some(&3)));
}

#[test]
fn only_what_has_changed_is_read_again() {
    let (docs, index) = (library(), tempfile::tempdir().unwrap());
    build(index.path(), docs.path());
    let again = build(index.path(), docs.path());
    assert_eq!((again.unchanged, again.read, again.passages), (3, 0, 0));
    fs::write(docs.path().join("travel.txt"), "Bicycles are lent for free.").unwrap();
    fs::remove_file(docs.path().join("leave.md")).unwrap();
    fs::write(docs.path().join("new.txt"), "The canteen opens at noon.").unwrap();
    let report = build(index.path(), docs.path());
    assert_eq!((report.added, report.changed, report.removed, report.unchanged, report.read), (1, 1, 1, 1, 2));
    let index = DiskIndex::open(index.path()).unwrap();
    assert_eq!(find(&index, "trains"), [""; 0]);
    assert_eq!(find(&index, "bicycle"), ["travel.txt#0"]);
    assert_eq!(find(&index, "canteen"), ["new.txt#0"]);
    assert_eq!(find(&index, "ill"), [""; 0]);
}

#[test]
fn a_file_that_cannot_be_read_is_told_each_time_and_holds_nothing() {
    let (docs, index) = (library(), tempfile::tempdir().unwrap());
    build(index.path(), docs.path());
    fs::write(docs.path().join("travel.txt"), " \n").unwrap();
    let report = build(index.path(), docs.path());
    assert_eq!((report.failed.len(), report.changed, report.unchanged), (1, 0, 2));
    assert_eq!(find(&DiskIndex::open(index.path()).unwrap(), "trains"), [""; 0]);
    let again = build(index.path(), docs.path());
    assert_eq!((again.failed, again.read), (report.failed, 0));
    fs::write(docs.path().join("travel.txt"), "Trains again.").unwrap();
    assert_eq!(build(index.path(), docs.path()).changed, 1);
}

#[test]
fn the_index_on_the_disk_answers_as_the_one_in_memory() {
    let (docs, index) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let words = ["wing", "lift", "drag", "flow", "plate", "shock", "layer", "heat", "jet", "cone", "mach", "edge"];
    for i in 0..60usize {
        let text: Vec<&str> = (0..12 + i % 7).map(|j| words[(i * 7 + j * j * (i % 5 + 1)) % words.len()]).collect();
        fs::write(docs.path().join(format!("{i:02}.md")), format!("# About {}\n\n{}.", words[i % 12], text.join(" ")))
            .unwrap();
    }
    let embed = Letters(AtomicUsize::new(0));
    build_with(index.path(), docs.path(), Some(&embed));
    let disk = DiskIndex::open(index.path()).unwrap();
    let mut passages = Vec::new();
    for file in disk.table().files.keys() {
        passages.extend((0..).map_while(|i| disk.passage(file, i).unwrap()));
    }
    let texts: Vec<String> = passages.iter().map(|p| p.text.clone()).collect();
    let vectors = embed.passages(&texts.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let ram = RamIndex::new(passages).with_vectors("letters", vectors);
    assert_eq!(ram.num_passages(), disk.num_passages());
    let mut filter = Filter::default();
    filter.add_path("[0-3]*").unwrap();
    let long = "wing lift drag flow plate ".repeat(20); // too many clauses to look for what can be left out
    let all = Filter::default();
    for (question, filter) in [("lift of a wing", &all), ("shock layer heat jet jet", &filter), (&long, &all)] {
        // The engine keeps lengths in a byte: scores agree to within what that loses.
        const NEAR: f64 = 0.03;
        let vector = embed.question(question).unwrap();
        for vector in [None, Some(vector.as_slice())] {
            let query = Query { text: question, vector, filter, top: 10, context: 0 };
            let (a, b) = (disk.retrieve(&query).unwrap(), ram.retrieve(&query).unwrap());
            assert_eq!(a.len(), b.len());
            for (a, b) in a.iter().zip(&b) {
                assert!((a.score - b.score).abs() <= NEAR * b.score, "{question}: {} {}", a.score, b.score);
                assert!(filter.lets_path(&a.passage.file));
            }
        }
    }
}

#[test]
fn what_one_sentence_holds_comes_before_what_stands_scattered() {
    let (docs, index) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let write = |name: &str, text: &str| fs::write(docs.path().join(name), text).unwrap();
    // The same letters, as many times, in texts of one length.
    write("a.txt", "工资周一发。档案室周日关。我们不工作。");
    write("b.txt", "工资档案室。周日周一发关。我们不工作。");
    build(index.path(), docs.path());
    let index = DiskIndex::open(index.path()).unwrap();
    assert_eq!(find(&index, "工资 周一"), ["a.txt#0", "b.txt#0"]);
    assert_eq!(find(&index, "工资 档案"), ["b.txt#0", "a.txt#0"]);
    let filter = Filter::default();
    let best = |top| {
        let query = Query { text: "工资 档案", vector: None, filter: &filter, top, context: 0 };
        index.retrieve(&query).unwrap().swap_remove(0)
    };
    assert_eq!(best(1), best(2), "how many are asked for does not change which is best");
    assert_eq!(best(1).found.covers, 1.0);
}

#[test]
fn filters_apply_before_the_best_are_taken() {
    let (docs, index) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for i in 0..30 {
        fs::write(docs.path().join(format!("{i:02}.md")), "The wing has lift, and lift again, and more lift.").unwrap();
    }
    fs::write(docs.path().join("z.txt"), "Many other words stand here before the lift of it is named at all, once.")
        .unwrap();
    let embed = Letters(AtomicUsize::new(0));
    build_with(index.path(), docs.path(), Some(&embed));
    let index = DiskIndex::open(index.path()).unwrap();
    let filter = Filter { fields: BTreeMap::from([("ext".into(), vec!["txt".into()])]), ..Filter::default() };
    let vector = embed.question("lift").unwrap();
    for vector in [None, Some(vector.as_slice())] {
        let hits = index.retrieve(&Query { text: "lift", vector, filter: &filter, top: 1, context: 0 }).unwrap();
        assert_eq!(hits[0].passage.file, "z.txt");
    }
}

#[test]
fn neighbours_are_joined_and_given_once() {
    let (docs, index) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sentence = |i: usize| {
        format!("Sentence number{i} speaks of matter{i} and of nothing else that would be of use here today.")
    };
    let text: Vec<String> = (0..12).map(sentence).collect();
    fs::write(docs.path().join("a.txt"), text.join(" ")).unwrap();
    build(index.path(), docs.path());
    let index = DiskIndex::open(index.path()).unwrap();
    let filter = Filter::default();
    let hits = |context| {
        index.retrieve(&Query { text: "matter5 matter6", vector: None, filter: &filter, top: 10, context }).unwrap()
    };
    let (alone, joined) = (hits(0), hits(1));
    assert!(joined.len() <= alone.len() && joined[0].passage.text.len() > alone[0].passage.text.len());
    assert!(joined[0].passage.text.contains("matter5") && joined[0].passage.range.len() > alone[0].passage.range.len());
    let first = &joined[0].passage;
    assert_eq!(text.join(" ")[first.range.clone()].split_whitespace().count(), first.text.split_whitespace().count());
}

#[test]
fn vectors_and_text_are_of_one_commit_and_dead_rows_go() {
    let (docs, index) = (library(), tempfile::tempdir().unwrap());
    let embed = Letters(AtomicUsize::new(0));
    build_with(index.path(), docs.path(), Some(&embed));
    for round in 0..12 {
        fs::write(docs.path().join("travel.txt"), format!("Round {round} of the zebras.")).unwrap();
        build_with(index.path(), docs.path(), Some(&embed));
        let health = check(index.path()).unwrap();
        assert_eq!(health.damage, [""; 0], "round {round}");
    }
    assert_eq!(embed.0.load(Ordering::Relaxed), 3 + 12, "only what changed is embedded");
    let disk = DiskIndex::open(index.path()).unwrap();
    assert!(disk.stats().vectors <= 3 + 1, "{:?}", disk.stats());
    let vector = embed.question("zebras").unwrap();
    let filter = Filter::default();
    let hits =
        disk.retrieve(&Query { text: "zebra", vector: Some(&vector), filter: &filter, top: 1, context: 0 }).unwrap();
    assert_eq!(hits[0].passage.text, "Round 11 of the zebras.");
    assert!(hits[0].found.words.is_some() && hits[0].found.vectors.is_some());
}

#[test]
fn there_is_one_writer_and_its_lock_goes_with_it() {
    let index = tempfile::tempdir().unwrap();
    let first = Writer::open(index.path(), &Settings::default()).unwrap();
    assert!(matches!(Writer::open(index.path(), &Settings::default()), Err(IndexError::Locked { .. })));
    drop(first);
    assert!(Writer::open(index.path(), &Settings::default()).is_ok());
}

#[test]
fn a_reader_sees_one_commit_whatever_a_writer_does() {
    let (docs, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Every commit holds two files of the same number.
    let write = |round: usize| {
        for name in ["a.txt", "b.txt"] {
            fs::write(docs.path().join(name), format!("The common word and round{round}.")).unwrap();
        }
    };
    write(0);
    let embed = Letters(AtomicUsize::new(0));
    build_with(folder.path(), docs.path(), Some(&embed));
    let settings = Settings { embedder: Some("letters".into()), ..Settings::default() };
    let mut writer = Writer::open(folder.path(), &settings).unwrap();
    let old = DiskIndex::open(folder.path()).unwrap();
    let filter = Filter::default();
    let rounds = |index: &DiskIndex| {
        let query = Query { text: "common word", vector: None, filter: &filter, top: 10, context: 0 };
        let hits = index.retrieve(&query).unwrap();
        assert_eq!(hits.len(), 2);
        assert_eq!(hits[0].passage.text, hits[1].passage.text, "of one commit");
        hits[0].passage.text.clone()
    };
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = std::collections::BTreeSet::new();
            while done.load(Ordering::Acquire) == 0 {
                seen.insert(rounds(&DiskIndex::open(folder.path()).unwrap()));
                assert_eq!(rounds(&old), "The common word and round0.");
            }
            seen.len()
        });
        for round in 1..=100 {
            write(round);
            update_with(&mut writer, docs.path(), Some(&embed));
        }
        done.store(1, Ordering::Release);
        assert!(reader.join().unwrap() > 1, "the reader saw commits come");
    });
    drop(writer);
    assert_eq!(rounds(&DiskIndex::open(folder.path()).unwrap()), "The common word and round100.");
}

#[test]
fn a_flipped_byte_in_any_file_is_found_and_a_fresh_build_repairs_it() {
    let (docs, folder) = (library(), tempfile::tempdir().unwrap());
    let embed = Letters(AtomicUsize::new(0));
    build_with(folder.path(), docs.path(), Some(&embed));
    let before = find(&DiskIndex::open(folder.path()).unwrap(), "records of trains");
    assert_eq!(check(folder.path()).unwrap().damage, [""; 0]);
    let mut num_files = 0;
    for part in ["text", "vectors", "files"] {
        for entry in fs::read_dir(folder.path().join(part)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue; // locks, and the engine's list of files to tidy up
            }
            let whole = fs::read(&path).unwrap();
            let at = whole.len() / 2;
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let found = check(folder.path()).map(|h| h.damage);
            assert!(found.as_ref().is_ok_and(|d| !d.is_empty()), "{name}: {found:?}");
            fs::write(&path, &whole).unwrap();
            num_files += 1;
        }
    }
    assert!(num_files > 5, "{num_files} files");
    fs::remove_file(fs::read_dir(folder.path().join("files")).unwrap().next().unwrap().unwrap().path()).unwrap();
    assert!(matches!(DiskIndex::open(folder.path()), Err(IndexError::Damaged { .. })));
    let settings = Settings { embedder: Some("letters".into()), ..Settings::default() };
    let mut writer = Writer::fresh(folder.path(), &settings).unwrap();
    update_with(&mut writer, docs.path(), Some(&embed));
    writer.close().unwrap();
    assert_eq!(find(&DiskIndex::open(folder.path()).unwrap(), "records of trains"), before);
}
