use super::*;
use crate::corpus::reader::pdf::tests::pdf_of;

fn request(options: &ReadOptions, bytes: &[u8], num_bytes: usize) -> Vec<u8> {
    let mut sent = serde_json::to_vec(&Request { options: options.clone(), num_bytes }).unwrap();
    sent.push(b'\n');
    sent.extend_from_slice(bytes);
    sent
}

fn answer(sent: &[u8]) -> Answer {
    let mut said = Vec::new();
    serve(&mut &sent[..], &mut said, |_| Ok(())).unwrap();
    serde_json::from_slice(&said).unwrap()
}

#[test]
fn a_worker_answers_with_a_document_or_a_reason() {
    let bytes = pdf_of(&[Some("Hello page.")], 1, "");
    let options = ReadOptions::default();
    assert_eq!(answer(&request(&options, &bytes, bytes.len())).unwrap(), pdf::parse(&bytes, &options).unwrap());
    assert_eq!(answer(&request(&options, b"%PDF-1.4", 8)).unwrap_err().0, ReadReason::Unreadable);
    assert!(answer(&request(&options, &bytes, bytes.len() + 1)).unwrap_err().1.contains("whole"));
}

#[test]
fn a_request_that_is_none_ends_the_worker() {
    assert!(serve(&mut &b"hello\n"[..], &mut Vec::new(), |_| Ok(())).is_err());
    assert!(serve(&mut &b""[..], &mut Vec::new(), |_| Ok(())).is_err());
}

/// A worker that misbehaves: a shell script in its place.
#[cfg(unix)]
fn misbehaving(script: &str, options: &ReadOptions) -> (Refusal, Duration) {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let exe = folder.path().join("worker");
    std::fs::write(&exe, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&exe, std::fs::Permissions::from_mode(0o755)).unwrap();
    let started = Instant::now();
    // Another test's fork may hold the script open for writing for a moment.
    loop {
        let refusal = parse(&Isolation { exe: exe.clone() }, &vec![b'x'; 1 << 20], options).unwrap_err();
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
    check("echo 'memory allocation of 99 bytes failed' >&2; kill -ABRT $$", ReadReason::TooLarge, "`max_memory`");
    check("kill -XCPU $$", ReadReason::TimedOut, "`timeout`");
    check("head -c 1000000 /dev/zero >&2; exit 1", ReadReason::Unreadable, "exit code 1");
}

#[test]
fn a_worker_that_cannot_start_is_said() {
    let isolation = Isolation { exe: PathBuf::from("/nonexistent/quarry") };
    let (reason, detail) = parse(&isolation, b"x", &ReadOptions::default()).unwrap_err();
    assert_eq!(reason, ReadReason::Unreadable);
    assert!(detail.contains("/nonexistent/quarry"), "{detail}");
}
