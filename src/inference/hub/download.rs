//! Bytes that come in pieces until a file is whole: goes on where it stopped, in this process or the next, and gives
//! a file out only when length and SHA-256 are right. Knows no hub; whatever can give bytes from an offset is a
//! [`RangeSource`].

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::fingerprint::{self, BLOCK, Hasher};
use super::{Event, HubError, Limits, Observer};

/// Gives the bytes of one file, from an offset on.
pub(super) trait RangeSource {
    /// As shown: `model hub owner/repo`.
    fn name(&self) -> &str;

    /// Opens the file at `from`, which is less than its length. A source that cannot start there starts at 0 and
    /// says so. The reader may end early: the caller then asks again for the rest.
    fn open<'a>(&'a mut self, from: u64, observer: &'a dyn Observer) -> Result<Opened<'a>, SourceError>;
}

pub(super) struct Opened<'a> {
    pub starts_at: u64, // `from`, or 0
    pub body: Box<dyn Read + 'a>,
}

/// Why a source gave nothing this time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SourceError {
    /// May pass: worth another try, after `wait` if the source asked for it.
    Transient { why: String, wait: Option<Duration> },
    /// The source will not start at this offset; from 0 it may.
    RangeRefused,
    /// There is no way to the source.
    Unreachable(String),
    /// The source answered, and the answer is no.
    NotThere(String),
}

/// What the finished file must be.
pub(super) struct Wanted<'a> {
    pub model: &'a str,
    pub file: &'a str,
    pub bytes: u64,
    pub sha256: Option<&'a str>,
}

/// Why there is no file.
#[derive(Debug)]
pub(super) enum DownloadError {
    /// The source could not give it; what has come is kept for the next try.
    Source(SourceError),
    /// The error stands as it is.
    Final(HubError),
}

impl From<HubError> for DownloadError {
    fn from(error: HubError) -> Self {
        Self::Final(error)
    }
}

/// Brings `part` to its full length and returns its SHA-256. Bytes already in `part` are kept and hashed.
///
/// After an error of the source `part` holds what has come; after wrong bytes it is removed. If what an earlier
/// process left turns out wrong, the file is fetched once more from its beginning before that is called an error:
/// the last blocks before a crash may never have reached the disk.
pub(super) fn download(
    source: &mut dyn RangeSource,
    wanted: &Wanted<'_>,
    part: &Path,
    limits: &Limits,
    observer: &dyn Observer,
) -> Result<String, DownloadError> {
    let shown = source.name().to_owned();
    let mut resumed = Part::open(wanted, part, observer)?;
    let left_over = resumed.done() > 0;
    fill(source, wanted, &mut resumed, limits, observer)?;
    match resumed.finish(wanted)? {
        Ok(sha256) => Ok(sha256),
        Err(_) if left_over => {
            let why = "what an earlier download left is damaged; starting again";
            observer.on(&Event::Retrying { model: wanted.model, file: wanted.file, why, wait: Duration::ZERO });
            let mut fresh = Part::open(wanted, part, observer)?;
            fill(source, wanted, &mut fresh, limits, observer)?;
            fresh.finish(wanted)?.map_err(|fact| mismatch(&shown, wanted, fact).into())
        }
        Err(fact) => Err(mismatch(&shown, wanted, fact).into()),
    }
}

/// Asks the source until `part` has its full length, or trying again has lost its sense.
fn fill(
    source: &mut dyn RangeSource,
    wanted: &Wanted<'_>,
    part: &mut Part<'_>,
    limits: &Limits,
    observer: &dyn Observer,
) -> Result<(), DownloadError> {
    let shown = source.name().to_owned();
    let mut patience = Patience::new(limits);
    part.report(wanted, observer);
    while part.done() < wanted.bytes {
        let before = part.done();
        let failure = match source.open(before, observer) {
            Ok(Opened { starts_at, mut body }) => {
                if starts_at != before {
                    part.restart(wanted)?;
                }
                let cut = part.append(wanted, &mut *body, observer)?;
                drop(body);
                if part.done() > wanted.bytes {
                    part.remove(wanted)?;
                    let fact = format!("has more than the {} bytes that were announced", wanted.bytes);
                    return Err(mismatch(&shown, wanted, fact).into());
                }
                cut
            }
            Err(SourceError::RangeRefused) => {
                part.restart(wanted)?;
                Some(SourceError::Transient { why: "it cannot go on from here; starting again".into(), wait: None })
            }
            Err(error) => Some(error),
        };
        cancelled(wanted, observer)?;
        if part.done() >= wanted.bytes {
            break;
        }
        let failure = failure.unwrap_or_else(|| {
            let why = format!("the connection ended after {} of {} bytes", part.done(), wanted.bytes);
            SourceError::Transient { why, wait: None }
        });
        let wait = patience.after(failure, part.done() > before)?;
        observer.on(&Event::Retrying { model: wanted.model, file: wanted.file, why: &patience.why, wait });
        pause(wait, wanted, observer)?;
    }
    Ok(())
}

/// How much failing is borne.
struct Patience<'a> {
    limits: &'a Limits,
    in_a_row: u32,
    in_all: u32,
    why: String,
}

impl<'a> Patience<'a> {
    fn new(limits: &'a Limits) -> Self {
        Self { limits, in_a_row: 0, in_all: 0, why: String::new() }
    }

    /// Returns how long to wait before the next try, or the failure if there is to be none.
    fn after(&mut self, failure: SourceError, progressed: bool) -> Result<Duration, DownloadError> {
        const LONGEST: Duration = Duration::from_secs(60);
        self.in_a_row = if progressed { 0 } else { self.in_a_row + 1 };
        self.in_all += 1;
        let (why, asked) = match &failure {
            SourceError::Transient { why, wait } => (why, *wait),
            SourceError::Unreachable(why) => (why, None),
            SourceError::NotThere(_) | SourceError::RangeRefused => return Err(DownloadError::Source(failure)),
        };
        if self.in_a_row >= self.limits.failures || self.in_all >= self.limits.failures_total {
            let why = format!("{why} (gave up after {} failures)", self.in_all);
            return Err(DownloadError::Source(SourceError::Unreachable(why)));
        }
        self.why.clone_from(why);
        let doubled = self.limits.pause.saturating_mul(1 << self.in_a_row.saturating_sub(1).min(16));
        Ok(asked.unwrap_or(doubled).min(LONGEST))
    }
}

/// A file that is not whole yet, with the hash of what it holds.
struct Part<'a> {
    path: &'a Path,
    file: File,
    hasher: Hasher,
    reported: Instant,
}

impl<'a> Part<'a> {
    fn open(wanted: &Wanted<'_>, path: &'a Path, observer: &dyn Observer) -> Result<Self, HubError> {
        let opened = File::options().create(true).truncate(false).read(true).write(true).open(path);
        let mut file = opened.map_err(|e| HubError::io(wanted.model, "open", path, e))?;
        let read = |e| HubError::io(wanted.model, "read", path, e);
        let bytes = file.metadata().map_err(read)?.len();
        if bytes > wanted.bytes {
            file.set_len(0).map_err(read)?;
        } else if bytes > 0 {
            observer.on(&Event::Verifying { model: wanted.model, file: wanted.file, bytes });
        }
        let hasher = fingerprint::hash(&mut file, &|| !observer.cancelled()).map_err(|e| match e.kind() {
            io::ErrorKind::Interrupted => HubError::Cancelled { model: wanted.model.into() },
            _ => read(e),
        })?;
        Ok(Self { path, file, hasher, reported: Instant::now() })
    }

    fn done(&self) -> u64 {
        self.hasher.bytes()
    }

    fn restart(&mut self, wanted: &Wanted<'_>) -> Result<(), HubError> {
        self.hasher = Hasher::default();
        let restarted = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        restarted.map_err(|e| HubError::io(wanted.model, "truncate", self.path, e))?;
        Ok(())
    }

    /// Appends what the reader gives, until it ends or one byte too many has come. Returns why it ended early.
    fn append(
        &mut self,
        wanted: &Wanted<'_>,
        body: &mut dyn Read,
        observer: &dyn Observer,
    ) -> Result<Option<SourceError>, HubError> {
        let mut block = vec![0; BLOCK];
        while self.done() <= wanted.bytes {
            if observer.cancelled() {
                return Err(HubError::Cancelled { model: wanted.model.into() });
            }
            let n = match body.read(&mut block) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Ok(Some(SourceError::Transient { why: e.to_string(), wait: None })),
            };
            self.file.write_all(&block[..n]).map_err(|e| HubError::io(wanted.model, "write", self.path, e))?;
            self.hasher.update(&block[..n]);
            if self.reported.elapsed() >= REPORT_EVERY {
                self.report(wanted, observer);
            }
        }
        Ok(None)
    }

    fn report(&mut self, wanted: &Wanted<'_>, observer: &dyn Observer) {
        self.reported = Instant::now();
        let (done, total) = (self.done(), wanted.bytes);
        observer.on(&Event::Downloading { model: wanted.model, file: wanted.file, done, total });
    }

    /// Makes the bytes durable and returns their hash; a wrong hash removes the file and returns the fact.
    fn finish(self, wanted: &Wanted<'_>) -> Result<Result<String, String>, HubError> {
        self.file.sync_all().map_err(|e| HubError::io(wanted.model, "write", self.path, e))?;
        let found = self.hasher.clone().finish();
        match wanted.sha256 {
            Some(expected) if expected != found => {
                self.remove(wanted)?;
                Ok(Err(format!("has SHA-256 {found} instead of {expected}")))
            }
            _ => Ok(Ok(found)),
        }
    }

    fn remove(&self, wanted: &Wanted<'_>) -> Result<(), HubError> {
        fs::remove_file(self.path).map_err(|e| HubError::io(wanted.model, "remove", self.path, e))
    }
}

const REPORT_EVERY: Duration = Duration::from_millis(100);

fn mismatch(shown: &str, wanted: &Wanted<'_>, fact: String) -> HubError {
    let (model, file) = (wanted.model.into(), wanted.file.into());
    HubError::Mismatch { model, source_name: shown.into(), file, fact }
}

fn cancelled(wanted: &Wanted<'_>, observer: &dyn Observer) -> Result<(), HubError> {
    if observer.cancelled() { Err(HubError::Cancelled { model: wanted.model.into() }) } else { Ok(()) }
}

fn pause(wait: Duration, wanted: &Wanted<'_>, observer: &dyn Observer) -> Result<(), HubError> {
    let start = Instant::now();
    while let Some(left) = wait.checked_sub(start.elapsed()).filter(|l| !l.is_zero()) {
        cancelled(wanted, observer)?;
        thread::sleep(left.min(Duration::from_millis(100)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::hub::Silent;

    /// What the source does when it is opened, one answer after the other; the last one is repeated.
    #[derive(Clone)]
    enum Answer {
        Whole,
        CutAfter(u64),
        NoRange, // starts at 0 whatever is asked
        Fails(SourceError),
        Sends(Vec<u8>), // these bytes, wherever it is opened
    }

    struct Scripted {
        bytes: Vec<u8>,
        answers: Vec<Answer>,
        opened_at: Vec<u64>,
    }

    impl RangeSource for Scripted {
        fn name(&self) -> &str {
            "a script"
        }

        fn open<'a>(&'a mut self, from: u64, _observer: &'a dyn Observer) -> Result<Opened<'a>, SourceError> {
            let answer = self.answers[self.opened_at.len().min(self.answers.len() - 1)].clone();
            self.opened_at.push(from);
            let rest = &self.bytes[from as usize..];
            let (starts_at, body): (u64, Box<dyn Read>) = match answer {
                Answer::Whole => (from, Box::new(rest)),
                Answer::CutAfter(n) => (from, Box::new(rest.take(n))),
                Answer::NoRange => (0, Box::new(&self.bytes[..])),
                Answer::Fails(error) => return Err(error),
                Answer::Sends(bytes) => (from, Box::new(io::Cursor::new(bytes))),
            };
            Ok(Opened { starts_at, body })
        }
    }

    struct Case {
        source: Scripted,
        sha256: String,
        folder: tempfile::TempDir,
    }

    impl Case {
        fn new(answers: &[Answer]) -> Self {
            let bytes: Vec<u8> = (0..1_000_003u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            let sha256 = fingerprint::hash(&mut &bytes[..], &|| true).unwrap().finish();
            let source = Scripted { bytes, answers: answers.to_vec(), opened_at: Vec::new() };
            Self { source, sha256, folder: tempfile::tempdir().unwrap() }
        }

        fn run(&mut self) -> Result<String, DownloadError> {
            let bytes = self.source.bytes.len() as u64;
            let wanted = Wanted { model: "m", file: "a.gguf", bytes, sha256: Some(&self.sha256) };
            let limits = Limits { pause: Duration::from_millis(1), ..Limits::default() };
            download(&mut self.source, &wanted, &self.folder.path().join("part"), &limits, &Silent)
        }

        fn part(&self) -> std::path::PathBuf {
            self.folder.path().join("part")
        }

        fn check_comes_whole(&mut self) {
            assert_eq!(self.run().unwrap(), self.sha256);
            assert_eq!(fs::read(self.part()).unwrap(), self.source.bytes);
        }
    }

    #[test]
    fn a_connection_cut_twenty_times_goes_on_from_each_byte_reached() {
        let cuts: Vec<u64> = (1..=20).map(|i| (i * 7919) % 49_999).collect();
        let answers: Vec<_> = cuts.iter().map(|&n| Answer::CutAfter(n)).chain([Answer::Whole]).collect();
        let mut case = Case::new(&answers);
        case.check_comes_whole();
        let mut reached = 0;
        let expected: Vec<u64> = std::iter::once(0)
            .chain(cuts.iter().map(|n| {
                reached += n;
                reached
            }))
            .collect();
        assert_eq!(case.source.opened_at, expected);
    }

    #[test]
    fn the_next_process_goes_on_where_the_last_one_died() {
        let mut case = Case::new(&[Answer::Whole]);
        fs::write(case.part(), &case.source.bytes[..123_456]).unwrap();
        case.check_comes_whole();
        assert_eq!(case.source.opened_at, [123_456]);
    }

    #[test]
    fn a_source_without_ranges_starts_again_and_the_file_is_right() {
        let mut case = Case::new(&[Answer::CutAfter(500_000), Answer::NoRange]);
        case.check_comes_whole();
        assert_eq!(case.source.opened_at, [0, 500_000]);
    }

    #[test]
    fn a_refused_range_starts_again_and_the_file_is_right() {
        let refused = Answer::Fails(SourceError::RangeRefused);
        let mut case = Case::new(&[Answer::CutAfter(10), refused, Answer::Whole]);
        case.check_comes_whole();
        assert_eq!(case.source.opened_at, [0, 10, 0]);
    }

    #[test]
    fn overload_passes_and_a_no_does_not() {
        let busy = SourceError::Transient { why: "429".into(), wait: Some(Duration::from_millis(5)) };
        let mut case = Case::new(&[Answer::Fails(busy.clone()), Answer::Fails(busy), Answer::Whole]);
        case.check_comes_whole();

        let mut case = Case::new(&[Answer::Fails(SourceError::NotThere("404".into()))]);
        let error = case.run().unwrap_err();
        assert!(matches!(error, DownloadError::Source(SourceError::NotThere(_))), "{error:?}");
        assert_eq!(case.source.opened_at.len(), 1);
    }

    #[test]
    fn endless_failing_ends_and_keeps_what_has_come() {
        let down = SourceError::Transient { why: "500".into(), wait: None };
        let mut case = Case::new(&[Answer::CutAfter(77), Answer::Fails(down)]);
        let error = case.run().unwrap_err();
        assert!(matches!(&error, DownloadError::Source(SourceError::Unreachable(w)) if w.contains("500")), "{error:?}");
        assert_eq!(fs::metadata(case.part()).unwrap().len(), 77);
        assert_eq!(case.source.opened_at.len() as u32, 1 + Limits::default().failures);
    }

    #[test]
    fn wrong_bytes_are_an_error_and_never_stay() {
        let mut case = Case::new(&[Answer::Sends(vec![7; 1_000_003])]);
        let error = case.run().unwrap_err();
        let DownloadError::Final(error) = error else { panic!("{error:?}") };
        assert!(error.to_string().contains("a.gguf from a script: has SHA-256 "), "{error}");
        assert!(!case.part().exists());
    }

    #[test]
    fn too_many_bytes_are_an_error_and_never_stay() {
        let mut case = Case::new(&[Answer::Sends(vec![7; 1_000_004])]);
        let DownloadError::Final(error) = case.run().unwrap_err() else { panic!() };
        assert!(error.to_string().contains("has more than the 1000003 bytes"), "{error}");
        assert!(!case.part().exists());
    }

    #[test]
    fn a_part_damaged_by_a_crash_is_fetched_again_from_its_beginning() {
        let mut case = Case::new(&[Answer::Whole]);
        fs::write(case.part(), vec![0; 4096]).unwrap();
        case.check_comes_whole();
        assert_eq!(case.source.opened_at, [4096, 0]);
    }

    #[test]
    fn a_part_longer_than_the_file_is_thrown_away() {
        let mut case = Case::new(&[Answer::Whole]);
        fs::write(case.part(), vec![0; 1_000_004]).unwrap();
        case.check_comes_whole();
        assert_eq!(case.source.opened_at, [0]);
    }

    #[test]
    fn cancelling_keeps_what_has_come() {
        struct Cancels;
        impl Observer for Cancels {
            fn on(&self, _event: &Event<'_>) {}
            fn cancelled(&self) -> bool {
                true
            }
        }
        let mut case = Case::new(&[Answer::Whole]);
        let part = case.part();
        let wanted = Wanted { model: "m", file: "a.gguf", bytes: 1_000_003, sha256: None };
        let error = download(&mut case.source, &wanted, &part, &Limits::default(), &Cancels).unwrap_err();
        assert!(matches!(error, DownloadError::Final(HubError::Cancelled { .. })), "{error:?}");
    }
}
