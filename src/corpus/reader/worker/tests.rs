use super::*;
use crate::corpus::reader::pdf::tests::pdf_of;

fn request(options: &ReadOptions, bytes: &[u8], num_bytes: usize) -> Vec<u8> {
    let mut sent = serde_json::to_vec(&Request { options: options.clone(), name: "a.pdf".into(), num_bytes }).unwrap();
    sent.push(b'\n');
    sent.extend_from_slice(bytes);
    sent
}

fn answers(sent: &[u8]) -> Vec<Answer> {
    let mut said = Vec::new();
    serve(&mut &sent[..], &mut said, |_| Ok(()), parse_here).unwrap();
    said.split_inclusive(|b| *b == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect()
}

#[test]
fn a_worker_answers_one_request_after_another() {
    let bytes = pdf_of(&[Some("Hello page.")], 1, "");
    let options = ReadOptions::default();
    let sent = [request(&options, &bytes, bytes.len()), request(&options, b"%PDF-1.4", 8)].concat();
    let answers = answers(&sent);
    assert_eq!(answers[0].as_ref().unwrap(), &parse_here(&bytes, "a.pdf", &options).unwrap());
    assert_eq!(answers[1].as_ref().unwrap_err().0, ReadReason::Unreadable);
}

#[test]
fn a_request_that_is_none_ends_the_worker() {
    let serve = |sent: &[u8]| serve(&mut &sent[..], &mut Vec::new(), |_| Ok(()), parse_here);
    assert!(serve(b"hello\n").is_err());
    assert!(serve(b"").is_ok());
    let cut = request(&ReadOptions::default(), b"%PDF", 5);
    assert!(answers(&cut)[0].as_ref().unwrap_err().1.contains("whole"));
}

/// A worker that misbehaves: a shell script in its place.
#[cfg(unix)]
fn scripted(script: &str) -> (tempfile::TempDir, Isolation) {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let exe = folder.path().join("worker");
    std::fs::write(&exe, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&exe, std::fs::Permissions::from_mode(0o755)).unwrap();
    (folder, Isolation::new(exe))
}

#[cfg(unix)]
fn misbehaving(script: &str, options: &ReadOptions) -> (Refusal, Duration) {
    let (_folder, isolation) = scripted(script);
    let started = Instant::now();
    // Another test's fork may hold the script open for writing for a moment.
    loop {
        let refusal = parse(&isolation, &vec![b'x'; 1 << 20], "a", options).unwrap_err();
        if !refusal.1.contains("Text file busy") {
            return (refusal, started.elapsed());
        }
    }
}

#[cfg(unix)]
#[test]
fn a_worker_that_hangs_is_killed_at_its_time() {
    let options = ReadOptions { timeout: Duration::from_millis(300), ..Default::default() };
    for script in ["exec sleep 60", "exec >&-; exec sleep 60", "cat > /dev/null; exec sleep 60"] {
        let ((reason, detail), took) = misbehaving(script, &options);
        assert_eq!(reason, ReadReason::TimedOut, "{detail}");
        assert!(detail.contains("`timeout`") && took < Duration::from_secs(30), "{detail} {took:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_worker_is_given_up_when_nobody_wants_its_answer() {
    let (_folder, isolation) = scripted("exec sleep 60");
    let asked = Instant::now();
    let isolation = isolation.until(move || asked.elapsed() > Duration::from_millis(200));
    let (reason, detail) = loop {
        match parse(&isolation, b"x", "a", &ReadOptions::default()).unwrap_err() {
            (_, detail) if detail.contains("Text file busy") => {}
            refusal => break refusal,
        }
    };
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    assert_eq!(reason, ReadReason::ReadFailed, "{detail}");
    assert!(detail.contains("ending"), "{detail}");
}

#[cfg(unix)]
#[test]
fn a_worker_that_never_stops_talking_is_cut_off() {
    let options = ReadOptions { max_text: 1, ..Default::default() };
    let ((reason, detail), _) = misbehaving("exec cat /dev/zero", &options);
    assert_eq!((reason, detail.contains("`max_text`")), (ReadReason::TooLarge, true), "{detail}");
}

#[cfg(unix)]
#[test]
fn a_worker_that_dies_leaves_a_reason() {
    let check = |script: &str, reason: ReadReason, part: &str| {
        let ((found, detail), _) = misbehaving(script, &ReadOptions::default());
        assert_eq!(found, reason, "{detail}");
        assert!(detail.contains(part) && !detail.contains('\n'), "{detail}");
    };
    check("exit 3", ReadReason::Unreadable, "exit code 3");
    check("echo not json", ReadReason::Unreadable, "exit code 0");
    check("kill -ABRT $$", ReadReason::Unreadable, "signal 6");
    check("kill -KILL $$", ReadReason::ReadFailed, "signal 9");
    check("echo 'memory allocation of 99 bytes failed' >&2; kill -ABRT $$", ReadReason::TooLarge, "`max_memory`");
    check("kill -XCPU $$", ReadReason::TimedOut, "`timeout`");
    check("head -c 1000000 /dev/zero >&2; exit 1", ReadReason::Unreadable, "exit code 1");
}

#[test]
fn a_worker_that_cannot_start_is_said() {
    let isolation = Isolation::new(PathBuf::from("/nonexistent/quarry"));
    let (reason, detail) = parse(&isolation, b"x", "a", &ReadOptions::default()).unwrap_err();
    assert_eq!(reason, ReadReason::ReadFailed);
    assert!(detail.contains("/nonexistent/quarry"), "{detail}");
}

/// A format whose files say what their parser does wrong, for the child process of the test below.
#[cfg(unix)]
fn mock(bytes: &[u8], _: &str, options: &ReadOptions) -> Answer {
    use crate::corpus::document::Format;
    fn deeper(depth: u64) -> u64 {
        std::hint::black_box(if depth == u64::MAX { 0 } else { deeper(depth + 1) + 1 })
    }
    match bytes {
        b"panic" => panic!("as asked"),
        b"abort" => std::process::abort(),
        b"exit" => std::process::exit(7),
        b"overflow" => drop(std::hint::black_box(deeper(0))),
        b"memory" => drop(std::hint::black_box(vec![1u8; options.max_memory as usize * 2])),
        b"loop" => loop {
            std::hint::spin_loop();
        },
        b"sleep" => std::thread::sleep(Duration::from_secs(3600)),
        b"talk" => return Ok(Document::of(Format::Text, "x".repeat(64 << 20))),
        b"write" => {
            let written = std::fs::write(std::env::temp_dir().join("quarry-worker-wrote-this"), "x");
            return Err((ReadReason::Unreadable, format!("wrote: {}", written.is_ok())));
        }
        b"files" => {
            let open: Vec<_> = (0..100).map_while(|_| std::fs::File::open("/dev/null").ok()).collect();
            return Err((ReadReason::Unreadable, format!("opened: {}", open.len())));
        }
        _ => {}
    }
    Ok(Document::of(Format::Text, std::process::id().to_string()))
}

/// The child process of the test below: this test binary, started with this test alone.
#[cfg(unix)]
#[test]
#[ignore = "runs in the child process of another test only"]
fn the_child_of_the_mock_format() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut answers = std::fs::OpenOptions::new().write(true).open("/dev/fd/3").unwrap();
    serve(&mut io::stdin().lock(), &mut answers, limit_self, mock).unwrap();
}

#[cfg(unix)]
#[test]
fn whatever_a_parser_does_ends_one_document_and_the_batch_goes_on() {
    let this = std::env::current_exe().unwrap();
    let child = format!("{}::the_child_of_the_mock_format", module_path!().split_once("::").unwrap().1);
    let (_folder, isolation) =
        scripted(&format!("exec '{}' '{child}' --exact --ignored --nocapture 3>&1 >/dev/null", this.display()));
    let options =
        ReadOptions { timeout: Duration::from_secs(3), max_memory: 512 << 20, max_text: 1 << 20, ..Default::default() };
    let read = |what: &str| parse(&isolation, what.as_bytes(), "a.mock", &options);
    let pid = || loop {
        match read("fine") {
            Ok(document) => return document.text,
            Err((_, detail)) => assert!(detail.contains("Text file busy"), "{detail}"),
        }
    };
    let check = |what: &str, reason: ReadReason, part: &str| {
        let started = Instant::now();
        let before = pid();
        let (found, detail) = read(what).unwrap_err();
        assert_eq!(found, reason, "{what}: {detail}");
        assert!(detail.contains(part), "{what}: {detail}");
        assert!(started.elapsed() < options.timeout * 4, "{what}");
        assert_ne!(pid(), before, "{what}: its worker is replaced");
    };
    let first = pid();
    assert_eq!(first, pid(), "a sound worker is used again");
    check("panic", ReadReason::Unreadable, "the parser failed");
    check("abort", ReadReason::Unreadable, "signal 6");
    check("exit", ReadReason::Unreadable, "exit code 7");
    check("overflow", ReadReason::Unreadable, "out of stack");
    check("memory", ReadReason::TooLarge, "`max_memory`");
    check("loop", ReadReason::TimedOut, "`timeout`");
    check("sleep", ReadReason::TimedOut, "`timeout`");
    check("talk", ReadReason::TooLarge, "`max_text`");
    assert!(read("files").unwrap_err().1.strip_prefix("opened: ").unwrap().parse::<u32>().unwrap() < 16);
    // A process may create an empty file under this limit; not one byte goes into it.
    let written = std::env::temp_dir().join("quarry-worker-wrote-this");
    assert!(read("write").is_err());
    assert_eq!(std::fs::metadata(&written).map_or(0, |about| about.len()), 0);
    std::fs::remove_file(&written).unwrap_or_default();
}
