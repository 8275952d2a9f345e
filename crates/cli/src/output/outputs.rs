//! What jobs left.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use haul_client::Fetched;
use haul_snapshot::name::Name;
use haul_snapshot::{EntryKind, Manifest};
use haul_types::ByteSize;
use serde_json::{Value, json};

use super::{Drawing, Report, table};

/// `haul outputs ls`.
#[derive(Debug)]
pub struct OutputsReport<'a>(pub &'a Manifest);

impl OutputsReport<'_> {
    /// Files and links, with the sizes of files.
    fn files(&self) -> impl Iterator<Item = (&[u8], Option<u64>)> {
        self.0.entries().iter().filter_map(|entry| match entry.kind {
            EntryKind::File { size, .. } => Some((entry.path.as_slice(), Some(size))),
            EntryKind::Symlink { .. } => Some((entry.path.as_slice(), None)),
            EntryKind::Dir { .. } => None,
        })
    }
}

impl Report for OutputsReport<'_> {
    fn people(&self, _: &Drawing) -> String {
        let mut table = table::new(["SIZE", "FILE"]);
        for (path, size) in self.files() {
            let size = size.map_or_else(|| "link".to_owned(), |size| ByteSize(size).to_string());
            table.add_row([size, Name::from(path).to_string()]);
        }
        table::text(&table)
    }

    fn json(&self) -> Value {
        let files: Vec<Value> = self
            .files()
            .map(|(path, size)| match std::str::from_utf8(path) {
                Ok(text) => json!({ "path": text, "bytes": size }),
                Err(_) => json!({ "path_bytes": path, "bytes": size }),
            })
            .collect();
        json!({ "files": files, "bytes": self.0.totals().bytes })
    }

    fn quiet(&self) -> String {
        self.files()
            .map(|(path, _)| format!("{}\n", Name::from(path)))
            .collect()
    }
}

/// `haul outputs get`.
#[derive(Debug)]
pub struct FetchedReport<'a> {
    /// What came.
    pub fetched: Fetched,
    /// Where it was written.
    pub dir: &'a Path,
}

impl Report for FetchedReport<'_> {
    fn people(&self, _: &Drawing) -> String {
        let totals = self.fetched.totals;
        let files = if totals.files == 1 { "file" } else { "files" };
        let dir = Name::from(self.dir.as_os_str().as_bytes());
        format!("{} {files}, {}, in {dir}\n", totals.files, ByteSize(totals.bytes))
    }

    fn json(&self) -> Value {
        let totals = self.fetched.totals;
        json!({ "dir": self.dir.to_string_lossy(), "files": totals.files, "bytes": totals.bytes })
    }

    fn quiet(&self) -> String {
        String::new()
    }
}
