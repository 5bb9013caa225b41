//! A model hub on this machine that misbehaves on demand, and the tests of everything that talks to one through
//! hf-hub: only the address differs from the real thing.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use sha1::{Digest, Sha1};

use super::fingerprint::{self, hex};
use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What a request for bytes meets; the faults are used up one by one, then all goes well.
#[derive(Clone)]
pub(super) enum Fault {
    CutAfter(usize),
    IgnoreRange,
    IgnoreRangeAndCutAfter(usize),
    Status(u16),
    Announce(usize), // this many bytes instead of what there is
    OtherBytes,
    Stall,  // after half of the bytes
    Silent, // after the headers
    Redirect(String),
}

struct State {
    files: Vec<(String, Vec<u8>)>,
    large: bool, // git holds pointers, as for large files
    faults: Mutex<VecDeque<Fault>>,
    requests: Mutex<Vec<String>>, // "GET a.gguf 0-", in order
    stop: AtomicBool,
}

pub(super) struct Server {
    state: Arc<State>,
    address: String,
}

impl Server {
    pub(super) fn with(files: &[(&str, &[u8])], faults: impl IntoIterator<Item = Fault>) -> Self {
        let files = files.iter().map(|(n, b)| ((*n).to_owned(), b.to_vec())).collect();
        let (faults, requests) = (Mutex::new(faults.into_iter().collect()), Mutex::default());
        let state = Arc::new(State { files, large: true, faults, requests, stop: AtomicBool::new(false) });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                let state = Arc::clone(&shared);
                thread::spawn(move || {
                    let _ = state.serve(stream); // a client that goes away is what the tests are about
                });
            }
        });
        Self { state, address }
    }

    pub(super) fn options(&self, cache: &std::path::Path) -> Options {
        let limits = Limits { stall: Duration::from_millis(400), pause: Duration::from_millis(1), ..Limits::default() };
        Options { endpoint: Some(self.address.clone()), limits, ..Options::new(cache) }
    }

    fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }

    /// The offsets at which bytes were asked for.
    fn offsets(&self) -> Vec<usize> {
        let requests = self.requests();
        let gets = requests.iter().filter_map(|r| r.strip_prefix("GET a.gguf "));
        gets.map(|r| r.split('-').next().unwrap().parse().unwrap()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address.trim_start_matches("http://"));
    }
}

impl State {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_owned());
        }
        let header = |name: &str| {
            let of =
                |l: &String| l.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|h| h.1.to_owned());
            lines.iter().find_map(of)
        };
        let mut words = lines.first().map(String::as_str).unwrap_or_default().split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut body = vec![0; header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0)];
        reader.read_exact(&mut body)?;
        let file = path.strip_prefix(&format!("/o/r/resolve/{COMMIT}/"));
        match (method, file) {
            ("GET", None) if path == "/api/models/o/r/revision/main" => {
                self.json(&stream, "GET revision", &format!(r#"{{"id":"o/r","sha":"{COMMIT}"}}"#))
            }
            ("GET", None) if path.starts_with(&format!("/api/models/o/r/tree/{COMMIT}")) => {
                self.json(&stream, "GET tree", &self.entries(|_| true))
            }
            ("POST", None) if path == format!("/api/models/o/r/paths-info/{COMMIT}") => {
                let asked = String::from_utf8_lossy(&body).into_owned();
                self.json(&stream, "POST paths", &self.entries(|n| asked.contains(&format!("\"{n}\""))))
            }
            (_, Some(file)) => self.bytes(&stream, method, file, header("range").as_deref()),
            _ => answer(&stream, "404 Not Found", &[], b"{}"),
        }
    }

    fn json(&self, stream: &TcpStream, request: &str, body: &str) -> std::io::Result<()> {
        self.requests.lock().unwrap().push(request.into());
        answer(stream, "200 OK", &["Content-Type: application/json".into()], body.as_bytes())
    }

    fn entries(&self, wanted: impl Fn(&str) -> bool) -> String {
        let entry = |(name, bytes): &(String, Vec<u8>)| {
            let sha256 = fingerprint::hash(&mut &bytes[..], &|| true).unwrap().finish();
            let n = bytes.len();
            let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {n}\n");
            let content = if self.large { pointer.as_bytes() } else { bytes };
            let mut git = Sha1::new();
            git.update(format!("blob {}\0", content.len()));
            git.update(content);
            let git = hex(&git.finalize());
            let lfs = format!(r#","lfs":{{"oid":"{sha256}","size":{n},"pointerSize":{}}}"#, pointer.len());
            let lfs = if self.large { lfs } else { String::new() };
            format!(r#"{{"type":"file","oid":"{git}","size":{n},"path":"{name}"{lfs}}}"#)
        };
        let entries: Vec<_> = self.files.iter().filter(|f| wanted(&f.0)).map(entry).collect();
        format!("[{}]", entries.join(","))
    }

    fn bytes(&self, stream: &TcpStream, method: &str, file: &str, range: Option<&str>) -> std::io::Result<()> {
        let Some((_, all)) = self.files.iter().find(|f| f.0 == file) else {
            return answer(stream, "404 Not Found", &[], b"{}");
        };
        if method == "HEAD" {
            return answer(stream, "200 OK", &[format!("X-Length: {}", all.len())], b"");
        }
        let range = range.and_then(|r| r.strip_prefix("bytes=")).unwrap_or("0-");
        self.requests.lock().unwrap().push(format!("GET {file} {range}"));
        let from: usize = range.split('-').next().unwrap().parse().unwrap();
        let rest = &all[from..];
        let partial = if from > 0 { "206 Partial Content" } else { "200 OK" };
        let fault = self.faults.lock().unwrap().pop_front(); // the lock must not last as long as a stall
        match fault {
            None => answer(stream, partial, &[], rest),
            Some(Fault::CutAfter(n)) => send(stream, partial, &[], rest.len(), &rest[..n.min(rest.len())]),
            Some(Fault::IgnoreRange) => answer(stream, "200 OK", &[], all),
            Some(Fault::IgnoreRangeAndCutAfter(n)) => send(stream, "200 OK", &[], all.len(), &all[..n]),
            Some(Fault::Status(code)) => answer(stream, &format!("{code} No"), &["Retry-After: 0".into()], b"{}"),
            Some(Fault::Announce(n)) => send(stream, partial, &[], n, &rest[..n.min(rest.len())]),
            Some(Fault::OtherBytes) => answer(stream, partial, &[], &vec![b'x'; rest.len()]),
            Some(Fault::Stall) => {
                send(stream, partial, &[], rest.len(), &rest[..rest.len() / 2])?;
                thread::sleep(Duration::from_secs(20));
                Ok(())
            }
            Some(Fault::Silent) => {
                send(stream, partial, &[], rest.len(), b"")?;
                thread::sleep(Duration::from_secs(20));
                Ok(())
            }
            Some(Fault::Redirect(to)) => answer(stream, "302 Found", &[format!("Location: {to}")], b""),
        }
    }
}

fn answer(stream: &TcpStream, status: &str, headers: &[String], body: &[u8]) -> std::io::Result<()> {
    send(stream, status, headers, body.len(), body)
}

fn send(
    mut stream: &TcpStream,
    status: &str,
    headers: &[String],
    announced: usize,
    body: &[u8],
) -> std::io::Result<()> {
    let headers: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {announced}\r\nConnection: close\r\n{headers}\r\n")?;
    stream.write_all(body)?;
    stream.flush()
}

fn model() -> Vec<u8> {
    (0..700_001u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 23) as u8).collect()
}

/// Hears everything, for a look afterwards.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Observer for Heard {
    fn on(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }
}

/// Resolves `hf:o/r/a.gguf` at a server with these faults and checks that the file comes whole.
fn check_comes_whole(faults: impl IntoIterator<Item = Fault>) -> Server {
    let server = Server::with(&[("a.gguf", &model())], faults);
    let cache = tempfile::tempdir().unwrap();
    let found = resolve("hf:o/r/a.gguf", &server.options(cache.path()), &Silent).unwrap();
    let ModelKind::Gguf { path } = &found.kind else { panic!("{found:?}") };
    assert!(std::fs::read(path).unwrap() == model());
    assert_eq!(found.provenance.source, "model hub o/r");
    assert_eq!(found.provenance.revision, COMMIT);
    assert!(!cache.path().join("models/hf--o--r--a.gguf/.partial").exists(), "the part is swept away");
    server
}

/// Resolves `hf:o/r/a.gguf` at a server with these faults for ever and returns the error; nothing may be kept.
fn check_is_refused(fault: &Fault) -> HubError {
    let server = Server::with(&[("a.gguf", &model())], vec![fault.clone(); 600]);
    let cache = tempfile::tempdir().unwrap();
    let error = resolve("hf:o/r/a.gguf", &server.options(cache.path()), &Silent).unwrap_err();
    let listed = list(cache.path());
    assert!(listed.iter().all(|l| l.cached.is_empty()), "{listed:?}");
    error
}

#[test]
fn a_model_comes_from_the_hub_and_then_from_the_cache_alone() {
    let server = Server::with(&[("a.gguf", &model())], []);
    let cache = tempfile::tempdir().unwrap();
    let options = server.options(cache.path());
    let first = resolve("hf:o/r/a.gguf", &options, &Silent).unwrap();
    let asked = server.requests().len();
    let start = Instant::now();
    let second = resolve("hf:o/r/a.gguf", &options, &Silent).unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
    assert_eq!(first, second);
    assert_eq!(server.requests().len(), asked, "the cache needs no connection");

    let offline = Options { network: Network::Forbidden, ..options.clone() };
    assert_eq!(resolve("hf:o/r/a.gguf", &offline, &Silent).unwrap(), first);
    assert_eq!(verify("hf:o/r/a.gguf", &offline, &Silent).unwrap().digest, first.digest);
    assert_eq!(ModelKind::Gguf { path: path("hf:o/r/a.gguf", &offline).unwrap() }, first.kind);
    let listed = list(cache.path());
    assert_eq!(listed.last().unwrap().name, "hf:o/r/a.gguf");
    assert_eq!(listed.last().unwrap().cached[0].bytes, 700_001);
}

#[test]
fn forbidding_the_network_means_no_connection_and_no_child() {
    let server = Server::with(&[("a.gguf", &model())], []);
    let cache = tempfile::tempdir().unwrap();
    let python = cache.path().join("python-that-must-not-run");
    let options = Options { network: Network::Forbidden, python, ..server.options(cache.path()) };
    for name in ["hf:o/r/a.gguf", "starter", "granite-3.1-1b-a400m-instruct"] {
        let error = resolve(name, &options, &Silent).unwrap_err();
        assert!(matches!(error, HubError::NotCached { .. }), "{error}");
    }
    assert_eq!(server.requests(), Vec::<String>::new());
    assert!(!cache.path().join("models").exists(), "nothing is written");
}

#[test]
fn a_connection_cut_at_random_bytes_goes_on_from_the_byte_reached() {
    let cuts: Vec<usize> = (1..=20).map(|i| 1 + (i * 7_919) % 30_011).collect();
    let server = check_comes_whole(cuts.iter().map(|&n| Fault::CutAfter(n)));
    let mut reached = vec![0];
    for cut in cuts {
        reached.push(reached.last().unwrap() + cut);
    }
    assert_eq!(server.offsets(), reached);
}

#[test]
fn a_server_that_ignores_ranges_is_asked_from_the_beginning() {
    let server = check_comes_whole([Fault::CutAfter(1000), Fault::IgnoreRange]);
    assert_eq!(server.offsets(), [0, 1000, 0]);
    let cut = Fault::IgnoreRangeAndCutAfter(500_000);
    check_comes_whole([Fault::CutAfter(1000), Fault::IgnoreRange, cut, Fault::IgnoreRange]);
}

#[test]
fn errors_of_the_server_pass() {
    let server = check_comes_whole([Fault::CutAfter(10), Fault::Status(416)]);
    assert_eq!(server.offsets(), [0, 10, 0]);
    let server = check_comes_whole([Fault::CutAfter(10), Fault::Status(500), Fault::Status(429), Fault::Status(503)]);
    assert_eq!(server.offsets(), [0, 10, 10, 10, 10]);
}

#[test]
fn silence_ends_and_the_download_goes_on() {
    let start = Instant::now();
    let server = check_comes_whole([Fault::Stall]);
    assert_eq!(server.offsets(), [0, 350_000]);
    assert!(start.elapsed() < Duration::from_secs(30), "took {:?}", start.elapsed());
}

#[test]
fn errors_that_do_not_pass_end_with_their_reason() {
    let error = check_is_refused(&Fault::Status(500));
    assert!(matches!(error, HubError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("the hub answers 500"), "{error}");
    let error = check_is_refused(&Fault::Silent);
    assert!(error.to_string().contains("no byte came within 400ms, the limit `stall`"), "{error}");
    let error = check_is_refused(&Fault::Status(404));
    assert!(error.to_string().contains("it has no file \"a.gguf\""), "{error}");
}

#[test]
fn a_wrong_length_is_refused() {
    for announced in [699_999, 700_002, 0] {
        let error = check_is_refused(&Fault::Announce(announced));
        assert!(error.to_string().contains(&format!("announces {announced} bytes")), "{error}");
    }
}

#[test]
fn the_right_length_with_wrong_bytes_is_refused_and_the_next_try_is_clean() {
    let server = Server::with(&[("a.gguf", &model())], [Fault::OtherBytes]);
    let cache = tempfile::tempdir().unwrap();
    let options = server.options(cache.path());
    let error = resolve("hf:o/r/a.gguf", &options, &Silent).unwrap_err();
    assert!(matches!(error, HubError::Mismatch { .. }), "{error}");
    assert!(error.to_string().contains("is not the file that commit"), "{error}");
    resolve("hf:o/r/a.gguf", &options, &Silent).unwrap();
    assert_eq!(server.offsets(), [0, 0]);
}

#[test]
fn redirects_into_the_own_network_or_to_files_are_not_followed() {
    for to in ["http://127.0.0.1:9/x", "http://169.254.169.254/x", "https://10.0.0.1/x", "http://example.org/x"] {
        let error = check_is_refused(&Fault::Redirect(to.into()));
        assert!(error.to_string().contains("it redirects to"), "{to}: {error}");
    }
    check_is_refused(&Fault::Redirect("file:///etc/passwd".into()));
}

#[test]
fn two_at_once_fetch_once_and_both_have_it() {
    let server = Server::with(&[("a.gguf", &model())], [Fault::CutAfter(300_000)]);
    let cache = tempfile::tempdir().unwrap();
    let options = server.options(cache.path());
    let both = thread::scope(|scope| {
        let ask = || resolve("hf:o/r/a.gguf", &options, &Silent).unwrap();
        let (a, b) = (scope.spawn(ask), scope.spawn(ask));
        [a.join().unwrap(), b.join().unwrap()]
    });
    assert_eq!(both[0], both[1]);
    assert_eq!(server.offsets(), [0, 300_000], "one of them waited");
}

#[test]
fn a_damaged_file_is_an_error_once_and_then_fetched_again() {
    let server = Server::with(&[("a.gguf", &model())], []);
    let cache = tempfile::tempdir().unwrap();
    let options = server.options(cache.path());
    resolve("hf:o/r/a.gguf", &options, &Silent).unwrap();
    let file = path("hf:o/r/a.gguf", &options).unwrap();
    std::fs::write(&file, &model()[..5]).unwrap();

    let error = resolve("hf:o/r/a.gguf", &options, &Silent).unwrap_err();
    assert!(error.to_string().ends_with("a.gguf: has 5 bytes instead of 700001"), "{error}");
    let offline = Options { network: Network::Forbidden, ..options.clone() };
    assert!(matches!(resolve("hf:o/r/a.gguf", &offline, &Silent), Err(HubError::Damaged { .. })));
    assert!(list(cache.path()).last().unwrap().cached[0].damage.is_some());

    let heard = Heard::default();
    resolve("hf:o/r/a.gguf", &options, &heard).unwrap();
    assert!(heard.0.lock().unwrap().iter().any(|e| e.contains("Replacing")), "{heard:?}", heard = heard.0);
    assert!(std::fs::read(&file).unwrap() == model());
}

#[test]
fn of_a_repository_the_model_is_taken_and_nothing_else() {
    let files: [(&str, &[u8]); 5] = [
        ("README.md", b"read me"),
        ("config.json", b"{}"),
        ("model.safetensors", b"weights"),
        ("pytorch_model.bin", b"pickle"),
        ("tokenizer.json", b"{ }"),
    ];
    let server = Server::with(&files, []);
    let cache = tempfile::tempdir().unwrap();
    let found = resolve("hf:o/r", &server.options(cache.path()), &Silent).unwrap();
    let ModelKind::Safetensors { folder, files } = &found.kind else { panic!("{found:?}") };
    assert_eq!(files, &["config.json", "model.safetensors", "tokenizer.json"].map(PathBuf::from));
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), b"weights");
}

#[test]
fn a_repository_of_several_gguf_files_asks_which() {
    let server = Server::with(&[("big.gguf", b"GGUF big"), ("a.gguf", b"GGUF")], []);
    let cache = tempfile::tempdir().unwrap();
    let error = resolve("hf:o/r", &server.options(cache.path()), &Silent).unwrap_err();
    assert!(error.to_string().contains("as in hf:o/r/a.gguf: a.gguf, big.gguf"), "{error}");
    let error = resolve("hf:o/other", &server.options(cache.path()), &Silent).unwrap_err();
    assert!(matches!(error, HubError::NotThere { .. }), "{error}");
}

#[test]
fn where_no_hub_is_reachable_the_next_model_is_used_and_the_reason_kept() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("a.gguf");
    std::fs::write(&model, b"GGUF").unwrap();
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut options = Options::new(folder.path().join("cache"));
    options.endpoint = Some(format!("http://127.0.0.1:{port}"));
    let names = ["granite-3.1-1b-a400m-instruct", model.to_str().unwrap()];
    let start = Instant::now();
    let preferred = resolve_preferred(&names, &options, &Silent).unwrap();
    assert!(start.elapsed() < Duration::from_secs(30), "took {:?}", start.elapsed());
    assert_eq!(preferred.files.name, names[1]);
    assert_eq!(preferred.skipped[0].name, names[0]);
    let why = preferred.skipped[0].why.to_string();
    assert!(why.contains("model hub ibm-granite/granite-3.1-1b-a400m-instruct: no connection to 127.0.0.1"), "{why}");

    let error = resolve_preferred(&["granite-3.1-1b-a400m-instruct", "strater"], &options, &Silent).unwrap_err();
    assert!(matches!(error, HubError::Unknown { .. }), "a bad name is found before anything is fetched: {error}");
}

#[test]
fn plain_http_to_another_machine_is_never_spoken() {
    let cache = tempfile::tempdir().unwrap();
    let options = Options { endpoint: Some("http://192.0.2.1".into()), ..Options::new(cache.path()) };
    let error = resolve("hf:o/r/a.gguf", &options, &Silent).unwrap_err();
    assert!(matches!(error, HubError::Endpoint { .. }), "{error}");
}

#[test]
fn a_hub_that_never_answers_costs_the_limit_and_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap(); // accepts in the system's queue and says nothing
    let cache = tempfile::tempdir().unwrap();
    let mut options = Options::new(cache.path());
    options.endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    options.limits.answer = Duration::from_millis(300);
    let start = Instant::now();
    let error = resolve("hf:o/r/a.gguf", &options, &Silent).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(30), "took {:?}", start.elapsed());
    assert!(error.to_string().contains("did not answer within 300ms, the limit `answer`"), "{error}");
}

#[test]
fn small_files_are_checked_against_what_git_holds() {
    let state = State {
        files: vec![("a.gguf".into(), model())],
        large: false,
        faults: Mutex::default(),
        requests: Mutex::default(),
        stop: AtomicBool::new(true),
    };
    // The entry as the hub lists it and hf-hub reads it, compared with right and wrong bytes.
    let entries: Vec<hf_hub::repository::RepoTreeEntry> = serde_json::from_str(&state.entries(|_| true)).unwrap();
    let file = remote::RemoteFile::of(entries.into_iter().next().unwrap()).unwrap();
    assert_eq!(file.agrees_with("00"), None, "only the bytes can tell");
    assert!(file.is_content("00", &mut &model()[..]).unwrap());
    let mut wrong = model();
    wrong[9] ^= 1;
    assert!(!file.is_content("00", &mut &wrong[..]).unwrap());
}
