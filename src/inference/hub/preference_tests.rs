use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::inference::hub::server_for_tests::Server;
use crate::inference::hub::{Event, Silent};

/// A list whose first model is on a hub that answers no more, and whose second is a file.
fn unreachable_hub() -> (tempfile::TempDir, Options, [String; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("b.gguf");
    std::fs::write(&model, b"GGUF").unwrap();
    let mut options = Options::new(folder.path().join("cache"));
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    options.endpoint = Some(format!("http://127.0.0.1:{port}"));
    (folder, options, ["hf:o/r/a.gguf".into(), model.to_str().unwrap().into()])
}

/// Counts how often a source is asked.
#[derive(Default)]
struct Asked(AtomicUsize);

impl Asked {
    fn times(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

impl Observer for Asked {
    fn on(&self, event: &Event<'_>) {
        if matches!(event, Event::Connecting { .. }) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[test]
fn what_could_not_be_had_is_not_asked_for_again_at_once() {
    let (_folder, options, names) = unreachable_hub();
    let asked = Asked::default();
    let first = resolve_preferred(&names, &options, &asked).unwrap();
    assert_eq!((asked.times(), first.skipped[0].remembered), (1, None));
    let second = resolve_preferred(&names, &options, &asked).unwrap();
    let skip = &second.skipped[0];
    assert_eq!((asked.times(), skip.why.to_string()), (0, first.skipped[0].why.to_string()));
    assert!(skip.why.is_unavailable() && skip.asked_again().unwrap() > jiff::Timestamp::now());
    assert_eq!(second.files, first.files);

    // By its own name it is asked for, and after that in the list too.
    assert!(resolve(&names[0], &options, &asked).is_err());
    assert_eq!(asked.times(), 1);
    assert!(resolve_preferred(&names, &options, &asked).unwrap().skipped[0].remembered.is_none());
    assert_eq!(asked.times(), 1);
}

#[test]
fn what_is_in_the_cache_by_now_is_used() {
    let (folder, unreachable, names) = unreachable_hub();
    resolve_preferred(&names, &unreachable, &Silent).unwrap();
    // Another process has fetched it meanwhile, and this memory was not told.
    let memory = folder.path().join("cache/models/.unavailable.json");
    let kept = std::fs::read(&memory).unwrap();
    let server = Server::with(&[("a.gguf", b"GGUF")], []);
    resolve(&names[0], &server.options(&folder.path().join("cache")), &Silent).unwrap();
    std::fs::write(&memory, kept).unwrap();
    let asked = Asked::default();
    let preferred = resolve_preferred(&names, &unreachable, &asked).unwrap();
    assert_eq!((preferred.files.name, preferred.skipped.len(), asked.times()), (names[0].clone(), 0, 0));
}

#[test]
fn offline_nothing_is_remembered_and_nothing_looked_up() {
    let (folder, mut options, names) = unreachable_hub();
    options.network = Network::Forbidden;
    let preferred = resolve_preferred(&names, &options, &Silent).unwrap();
    assert!(matches!(preferred.skipped[0].why, HubError::NotCached { .. }));
    assert!(!folder.path().join("cache").join("models/.unavailable.json").exists());
    options.network = Network::Allowed;
    resolve_preferred(&names, &options, &Silent).unwrap();
    options.network = Network::Forbidden;
    let preferred = resolve_preferred(&names, &options, &Silent).unwrap();
    assert!(matches!(preferred.skipped[0].why, HubError::NotCached { .. }));
}

#[test]
fn where_nothing_else_can_be_had_it_is_asked_for_after_all() {
    let (_folder, options, names) = unreachable_hub();
    resolve_preferred(&names, &options, &Silent).unwrap();
    let asked = Asked::default();
    let list = [names[0].as_str(), "hf:o/other/b.gguf"];
    let error = resolve_preferred(&list, &options, &asked).unwrap_err();
    assert!(matches!(error, HubError::NonePreferred(errors) if errors.len() == 2));
    assert_eq!(asked.times(), 2);
}
