//! The model hub, through hf-hub: what a repository holds at a commit, and the bytes of its files from an offset on.
//! The only door to hf-hub and to what it is built on. Knows no catalogue and no store.
//!
//! hf-hub 1.0 restarts a cut download from zero, checks neither length nor hash, and its `get_file_metadata` fails
//! for every large file (it follows the redirect to the file server, whose answer lacks the headers; fixed upstream
//! in huggingface/hf-hub#212). So lengths and hashes come from `paths-info`, and bytes from its ranged stream.

use std::error::Error;
use std::future::Future;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_core::Stream;
use hf_hub::repository::{HFRepository, RepoTreeEntry, RepoTypeModel};
use hf_hub::{HFClient, HFError, HFResult};
use reqwest::Url;
use reqwest::redirect::Policy;
use sha1::{Digest, Sha1};
use tokio::runtime::{Builder, Runtime};

use super::address::{check_endpoint, follow};
use super::download::{Opened, RangeSource, SourceError};
use super::error::one_line;
use super::fetch::hub_name;
use super::fingerprint::hex;
use super::reference::is_safe_relative;
use super::{HubError, Limits, Observer, Options};

/// A connection to the hub, to be opened when the first question is asked.
pub(super) struct Remote {
    client: HFClient,
    runtime: Option<Runtime>, // always there until the drop
    endpoint: Url,
    limits: Limits,
}

/// A file of a repository as the hub describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RemoteFile {
    pub name: String,
    pub bytes: u64,
    git_id: String,
    is_pointer: bool, // git holds a pointer to the file, as it does for every large one
}

/// The time is over, or nobody wants to know any more.
struct Waited;

/// Why there is no client.
pub(super) enum ConnectError {
    Refused(HubError),
    Failed(SourceError),
}

impl Remote {
    /// Makes a client; nothing is sent yet. The address must be https, or on this machine.
    pub(super) fn new(options: &Options) -> Result<Self, ConnectError> {
        let failed = |e: &dyn Error| ConnectError::Failed(SourceError::Unreachable(root_cause(e)));
        // The rule needs the address, which only hf-hub knows, which needs the client with the rule.
        let endpoint: Arc<OnceLock<Url>> = Arc::default();
        let known = Arc::clone(&endpoint);
        let http = reqwest::Client::builder()
            .user_agent(concat!("quarry/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.limits.connect)
            .redirect(Policy::custom(move |attempt| follow(known.get(), attempt)))
            .build()
            .map_err(|e| failed(&e))?;
        // One try each: how often to try again is decided where it can be told.
        let mut builder = HFClient::builder().client(http).retry_max_attempts(0).cache_enabled(false);
        if let Some(address) = &options.endpoint {
            builder = builder.endpoint(address);
        }
        let client = builder.build().map_err(|e| match e {
            HFError::Url(e) => ConnectError::Refused(HubError::Endpoint {
                endpoint: options.endpoint.clone().unwrap_or_else(|| "of HF_ENDPOINT".into()),
                fact: e.to_string(),
            }),
            e => failed(&e),
        })?;
        let checked = check_endpoint(client.endpoint()).map_err(ConnectError::Refused)?;
        let url = endpoint.get_or_init(|| checked).clone();
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| failed(&e))?;
        Ok(Self { client, runtime: Some(runtime), endpoint: url, limits: options.limits.clone() })
    }

    /// Returns the commit a revision stands for.
    pub(super) fn commit(&self, repo: &str, revision: &str, observer: &dyn Observer) -> Result<String, SourceError> {
        if is_commit(revision) {
            return Ok(revision.to_owned());
        }
        let info = self.ask(observer, self.repository(repo).info().revision(revision).send())?;
        match info.sha {
            Some(commit) if is_commit(&commit) => Ok(commit),
            _ => Err(SourceError::NotThere(format!("it does not say which commit {revision:?} is"))),
        }
    }

    /// Describes the files of these names, in their order.
    pub(super) fn describe(
        &self,
        repo: &str,
        commit: &str,
        names: &[&str],
        observer: &dyn Observer,
    ) -> Result<Vec<RemoteFile>, SourceError> {
        let paths = names.iter().map(|&n| n.to_owned()).collect();
        let entries =
            self.ask(observer, self.repository(repo).get_paths_info().paths(paths).revision(commit).send())?;
        let found: Vec<_> = entries.into_iter().filter_map(RemoteFile::of).collect();
        let named = |name: &str| {
            let missing = || format!("it has no file {name:?} at {}", &commit[..commit.len().min(12)]);
            found.iter().find(|f| f.name == name).cloned().ok_or_else(|| SourceError::NotThere(missing()))
        };
        names.iter().map(|name| named(name)).collect()
    }

    /// Describes every file at the top of the repository.
    pub(super) fn listing(
        &self,
        repo: &str,
        commit: &str,
        observer: &dyn Observer,
    ) -> Result<Vec<RemoteFile>, SourceError> {
        const MOST: usize = 5000; // entries; the largest model folders have some hundreds
        let repository = self.repository(repo);
        self.ask(observer, async {
            let mut entries = Box::pin(repository.list_tree().revision(commit).limit(MOST).send()?);
            let mut files = Vec::new();
            while let Some(entry) = next(&mut entries).await {
                files.extend(RemoteFile::of(entry?));
            }
            Ok(files)
        })
    }

    /// Returns a source for the bytes of one file.
    pub(super) fn source<'a>(&'a self, repo: &str, commit: &str, file: &RemoteFile) -> RemoteSource<'a> {
        RemoteSource {
            remote: self,
            repository: self.repository(repo),
            shown: hub_name(repo),
            commit: commit.to_owned(),
            file: file.name.clone(),
            bytes: file.bytes,
        }
    }

    fn repository(&self, repo: &str) -> HFRepository<RepoTypeModel> {
        let (owner, name) = hf_hub::split_id(repo);
        self.client.model(owner, name)
    }

    /// Waits for an answer that is no file.
    fn ask<T>(&self, observer: &dyn Observer, question: impl Future<Output = HFResult<T>>) -> Result<T, SourceError> {
        match self.wait(self.limits.answer, observer, question) {
            Ok(answer) => answer.map_err(|e| self.explain(&e)),
            Err(Waited) => {
                let (host, limit) = (self.endpoint.host_str().unwrap_or_default(), self.limits.answer);
                let why = format!("{host} did not answer within {limit:?}, the limit `answer`");
                Err(SourceError::Unreachable(why))
            }
        }
    }

    /// Waits for a future, but no longer than `limit` and no longer than it is wanted.
    fn wait<T>(&self, limit: Duration, observer: &dyn Observer, future: impl Future<Output = T>) -> Result<T, Waited> {
        const LOOK_UP: Duration = Duration::from_millis(100);
        let Some(runtime) = &self.runtime else { unreachable!("the runtime lives as long as the client") };
        runtime.block_on(async {
            let start = Instant::now();
            let mut future = std::pin::pin!(future);
            loop {
                let step = LOOK_UP.min(limit.saturating_sub(start.elapsed()));
                if let Ok(value) = tokio::time::timeout(step, future.as_mut()).await {
                    return Ok(value);
                }
                if start.elapsed() >= limit || observer.cancelled() {
                    return Err(Waited);
                }
            }
        })
    }

    fn explain(&self, error: &HFError) -> SourceError {
        let not_there = |what: &str| SourceError::NotThere(what.to_owned());
        match error {
            HFError::RepoNotFound { .. } => not_there("there is no such repository"),
            HFError::RevisionNotFound { revision, .. } => not_there(&format!("it has no revision {revision:?}")),
            HFError::EntryNotFound { path, .. } => not_there(&format!("it has no file {path:?}")),
            HFError::AuthRequired { .. } => not_there("there is no such repository, or it needs a token"),
            HFError::Forbidden { .. } => not_there("access to it is refused (403)"),
            HFError::RateLimited { retry_after, .. } => SourceError::Transient {
                why: "the hub says there are too many requests (429)".into(),
                wait: *retry_after,
            },
            HFError::Http { context } if context.status.as_u16() == 416 => SourceError::RangeRefused,
            HFError::Http { context } if context.status.is_server_error() || context.status.as_u16() == 408 => {
                SourceError::Transient { why: format!("the hub answers {}", context.status), wait: None }
            }
            HFError::Http { context } => not_there(&format!("the hub answers {}", context.status)),
            HFError::Request { source, .. } if source.is_redirect() => not_there(&root_cause(source)),
            HFError::Request { source, .. } if source.is_connect() || source.is_timeout() => {
                let host = source.url().and_then(Url::host_str).or(self.endpoint.host_str()).unwrap_or_default();
                let limit = self.limits.connect;
                SourceError::Unreachable(match source.is_timeout() {
                    true => format!("no connection to {host} within {limit:?}, the limit `connect`"),
                    false => format!("no connection to {host}: {}", root_cause(source)),
                })
            }
            error => SourceError::Transient { why: root_cause(error), wait: None },
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A name being looked up cannot be interrupted; waiting for it would undo the short time limit.
            runtime.shutdown_background();
        }
    }
}

impl RemoteFile {
    pub(super) fn of(entry: RepoTreeEntry) -> Option<Self> {
        let RepoTreeEntry::File { oid, size, path, lfs, .. } = entry else { return None };
        let bytes = lfs.as_ref().and_then(|l| l.size).unwrap_or(size);
        // The id becomes a file's name, so it is taken for nothing but an id.
        if !is_commit(&oid) || !is_safe_relative(&path) {
            return None;
        }
        Some(Self { name: path, bytes, git_id: oid, is_pointer: lfs.is_some() })
    }

    /// Names the content: equal ids are equal bytes, in whatever revision.
    pub(super) fn id(&self) -> &str {
        &self.git_id
    }

    /// Returns whether a file with this SHA-256 can be the one the commit names, without its bytes. `None` where git
    /// holds the file itself, so that only its bytes can tell.
    pub(super) fn agrees_with(&self, sha256: &str) -> Option<bool> {
        self.is_pointer.then(|| self.git_id == pointer_id(self.bytes, sha256))
    }

    /// Returns whether the bytes, whose SHA-256 is given, are the ones the commit names.
    pub(super) fn is_content(&self, sha256: &str, bytes: &mut dyn Read) -> io::Result<bool> {
        match self.agrees_with(sha256) {
            Some(agrees) => Ok(agrees),
            None => Ok(self.git_id == git_id(self.bytes, bytes)?),
        }
    }
}

/// The bytes of one file of the hub.
pub(super) struct RemoteSource<'a> {
    remote: &'a Remote,
    repository: HFRepository<RepoTypeModel>,
    shown: String,
    commit: String,
    file: String,
    bytes: u64,
}

impl RangeSource for RemoteSource<'_> {
    fn name(&self) -> &str {
        &self.shown
    }

    fn open<'a>(&'a mut self, from: u64, observer: &'a dyn Observer) -> Result<Opened<'a>, SourceError> {
        let limit = self.remote.limits.stall;
        let request = || self.repository.download_file_stream().filename(&self.file).revision(&self.commit);
        let opened = if from == 0 {
            self.remote.wait(limit, observer, request().send())
        } else {
            self.remote.wait(limit, observer, request().range(from..self.bytes).send())
        };
        let silent = |Waited| SourceError::Transient { why: stalled(limit), wait: None };
        let (announced, stream) = opened.map_err(silent)?.map_err(|e| self.remote.explain(&e))?;
        match announced {
            // The status is not shown to us. A server that ignores the range announces the whole file, and one that
            // announces nothing cannot be told from it: from 0 there is no doubt.
            announced if from > 0 && announced != Some(self.bytes - from) => Err(SourceError::RangeRefused),
            Some(n) if from == 0 && n != self.bytes => {
                Err(SourceError::NotThere(format!("announces {n} bytes for {} instead of {}", self.file, self.bytes)))
            }
            _ => Ok(Opened {
                starts_at: from,
                body: Box::new(Body { remote: self.remote, stream, chunk: None, used: 0, observer }),
            }),
        }
    }
}

/// A stream as a reader; silence for too long is an error.
struct Body<'a, S, B> {
    remote: &'a Remote,
    stream: S,
    chunk: Option<B>,
    used: usize, // bytes of `chunk` already read
    observer: &'a dyn Observer,
}

impl<S: Stream<Item = HFResult<B>> + Unpin, B: AsRef<[u8]>> Read for Body<'_, S, B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(chunk) = &self.chunk {
                let rest = &chunk.as_ref()[self.used..];
                if !rest.is_empty() {
                    let n = rest.len().min(buffer.len());
                    buffer[..n].copy_from_slice(&rest[..n]);
                    self.used += n;
                    return Ok(n);
                }
            }
            self.used = 0;
            match self.remote.wait(self.remote.limits.stall, self.observer, next(&mut self.stream)) {
                Ok(Some(Ok(chunk))) => self.chunk = Some(chunk),
                Ok(Some(Err(e))) => return Err(io::Error::other(root_cause(&e))),
                Ok(None) => return Ok(0),
                Err(Waited) => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, stalled(self.remote.limits.stall)));
                }
            }
        }
    }
}

fn stalled(limit: Duration) -> String {
    format!("no byte came within {limit:?}, the limit `stall`")
}

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    std::future::poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}

fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Returns git's id of these bytes.
fn git_id(length: u64, bytes: &mut dyn Read) -> io::Result<String> {
    let mut hash = Sha1::new();
    hash.update(format!("blob {length}\0"));
    let mut block = vec![0; super::fingerprint::BLOCK];
    loop {
        match bytes.read(&mut block)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&block[..n]),
        }
    }
}

/// Returns git's id of the pointer that stands for a large file: its text holds length and SHA-256 and nothing else.
fn pointer_id(bytes: u64, sha256: &str) -> String {
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {bytes}\n");
    let mut hash = Sha1::new();
    hash.update(format!("blob {}\0{pointer}", pointer.len()));
    hex(&hash.finalize())
}

/// Returns the innermost cause: the outer ones repeat the address or say "error sending request".
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    one_line(&cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_ids_are_those_of_published_files() {
        // Two weight files of the hub, with the ids its API gives for them.
        let sha256 = "6a1a2eb6d15622bf3c96857206351ba97e1af16c30d7a74ee38970e434e9407e";
        assert_eq!(pointer_id(1_117_320_736, sha256), "eca68f83004d8b86fa1742ee507ddee8f4b2abce");
        let sha256 = "fdf756fa7fcbe7404d5c60e26bff1a0c8b8aa1f72ced49e7dd0210fe288fb7fe";
        assert_eq!(pointer_id(988_097_824, sha256), "d7db405a3f0d9bf1ba5bdd4e4211db8022ebe4eb");
        // `git hash-object` of "what is up, doc?", from the book Pro Git.
        assert_eq!(git_id(16, &mut &b"what is up, doc?"[..]).unwrap(), "bd9dbf5aae1a3862dd1526723246b20206e5fc37");
    }
}
