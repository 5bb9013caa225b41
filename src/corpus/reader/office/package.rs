//! A ZIP file in memory, under limits. Nothing of it is ever written to disk. The one place that names the zip crate's
//! reading side; knows no format inside it.

use std::collections::HashMap;
use std::io::Cursor;

use zip::ZipArchive;
use zip::read::ZipReadOptions;
use zip::result::ZipError;

use crate::corpus::reader::budget::Around;
use crate::corpus::reader::decode;
use crate::corpus::reader::{ReadReason, Refusal, WITH_PASSWORD};

/// An opened archive: its members are known, none is unpacked yet.
pub struct Package<'a> {
    archive: ZipArchive<Cursor<&'a [u8]>>,
    names: Vec<String>,
    index_of: HashMap<String, usize>,
    num_hidden: usize,
}

impl<'a> Package<'a> {
    /// Opens an archive, or refuses one that has too many members or claims to unpack to too much.
    pub fn open(bytes: &'a [u8], around: &Around<'_>) -> Result<Self, Refusal> {
        let promised = promised_members(bytes);
        around.take_members(promised)?;
        let archive = ZipArchive::new(Cursor::new(bytes))
            .map_err(|error| (ReadReason::Unreadable, format!("is a ZIP archive that cannot be opened: {error}")))?;
        let names: Vec<String> = archive.file_names_raw().map(member_name).collect();
        let index_of = names.iter().enumerate().rev().map(|(index, name)| (key(name), index)).collect();
        let num_hidden = promised.saturating_sub(names.len());
        Ok(Self { archive, names, index_of, num_hidden })
    }

    /// Returns how many members the archive promises and does not give: of those that share a name, only the last is
    /// found.
    pub fn num_hidden(&self) -> usize {
        self.num_hidden
    }

    /// Returns the members' names in the order of the archive.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn has(&self, name: &str) -> bool {
        self.index_of.contains_key(&key(name))
    }

    /// Refuses an archive whose members claim to unpack to more than the limits, for readers that unpack by themselves.
    pub fn check_claims(&mut self, around: &Around<'_>) -> Result<(), Refusal> {
        let mut total = 0u64;
        for index in 0..self.archive.len() {
            let Ok(file) = self.archive.by_index_raw(index) else { continue };
            total = total.saturating_add(file.size());
            let (packed, unpacked) = (file.compressed_size(), file.size());
            around.check_claim(packed, unpacked).map_err(|refusal| of_member(&self.names[index], refusal))?;
        }
        around.check_claim(u64::MAX, total)
    }

    /// Unpacks a member by its name, whatever its case; `None` where there is none.
    pub fn read(&mut self, name: &str, around: &Around<'_>) -> Result<Option<Vec<u8>>, Refusal> {
        match self.index_of.get(&key(name)) {
            Some(index) => self.read_at(*index, around).map(Some),
            None => Ok(None),
        }
    }

    /// Unpacks a member that must be XML or another text: decoded by its mark, else as UTF-8.
    pub fn text(&mut self, name: &str, around: &Around<'_>) -> Result<Option<String>, Refusal> {
        Ok(self.read(name, around)?.map(|bytes| decode::decode(&bytes).text))
    }

    /// Unpacks a member by its place in [`Package::names`].
    pub fn read_at(&mut self, index: usize, around: &Around<'_>) -> Result<Vec<u8>, Refusal> {
        let passwords = around.options.passwords.iter().map(|p| Some(p.as_bytes()));
        let mut refusal = None;
        for password in [None].into_iter().chain(passwords) {
            match self.unpack(index, password, around) {
                Err((ReadReason::Encrypted, detail)) => refusal = Some((ReadReason::Encrypted, detail)),
                answer => return answer.map_err(|refusal| of_member(&self.names[index], refusal)),
            }
        }
        Err(refusal.unwrap_or_else(encrypted))
    }

    fn unpack(&mut self, index: usize, password: Option<&[u8]>, around: &Around<'_>) -> Result<Vec<u8>, Refusal> {
        let options = ZipReadOptions::new().password(password);
        let file = match self.archive.by_index_with_options(index, options) {
            Ok(file) => file,
            Err(ZipError::InvalidPassword | ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED)) => {
                return Err(encrypted());
            }
            Err(error) => return Err((ReadReason::Unreadable, format!("cannot be unpacked: {error}"))),
        };
        let packed = file.compressed_size();
        around.check_claim(packed, file.size())?;
        around.unpack(packed, file)
    }
}

fn encrypted() -> Refusal {
    (ReadReason::Encrypted, WITH_PASSWORD.into())
}

fn of_member(name: &str, (reason, detail): Refusal) -> Refusal {
    (reason, format!("has a member `{name}` that {detail}"))
}

/// Members are looked for without regard to case and to the slash that some writers put first.
fn key(name: &str) -> String {
    name.trim_start_matches('/').replace('\\', "/").to_lowercase()
}

/// Returns a name for people: it is never used as a path. What is no UTF-8 is guessed, as text is.
pub fn member_name(raw: &[u8]) -> String {
    const MAX_BYTES: usize = 1024;
    let name = match std::str::from_utf8(raw) {
        Ok(name) => name.to_owned(),
        Err(_) => decode::decode(raw).text,
    };
    let mut name = name.replace(char::is_control, "\u{FFFD}");
    name.truncate(name.floor_char_boundary(MAX_BYTES));
    name
}

/// Reads the number of members from the end of the archive, before the directory is taken into memory. An archive
/// without a legible end is left to the crate, which looks for one with more patience.
fn promised_members(bytes: &[u8]) -> usize {
    const MAX_COMMENT: usize = 65_535;
    let tail_at = bytes.len().saturating_sub(22 + MAX_COMMENT);
    let Some(at) = bytes[tail_at..].windows(4).rposition(|w| w == b"PK\x05\x06").map(|i| tail_at + i) else {
        return 0;
    };
    let u16_at = |at: usize| bytes.get(at..at + 2).map_or(0, |b| usize::from(u16::from_le_bytes([b[0], b[1]])));
    let num = u16_at(at + 10);
    if num != 0xFFFF {
        return num;
    }
    let zip64 = bytes[..at].windows(4).rposition(|w| w == b"PK\x06\x06");
    let wide = zip64.and_then(|i| bytes.get(i + 32..i + 40)).and_then(|b| <[u8; 8]>::try_from(b).ok());
    wide.map_or(num, |b| usize::try_from(u64::from_le_bytes(b)).unwrap_or(usize::MAX))
}
