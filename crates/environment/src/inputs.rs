//! The files of a job that decide what its environment is: read once, and kept with the environment.
//!
//! What is hashed for the key is what the build later sees, byte for byte, even when the job that asked first is
//! canceled and its directory is gone while others still wait for the same build.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use haul_types::Digest;

use crate::error::RequirementsError;

/// No requirements file, project file or lock is larger; uv's largest locks are a few MiB.
const LARGEST_TEXT: u64 = 64 * 1024 * 1024;

/// Who names a path, for errors: a file, relative to the job's directory, and a line in it.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) path: &'a Path,
    pub(crate) line: usize,
}

/// A wheel or a source archive of the job.
#[derive(Debug)]
struct Archive {
    path: PathBuf,
    digest: Digest,
    /// Open, so that it can be copied when the job's directory is gone.
    file: File,
}

/// The files read so far. Paths are relative to the job's directory and have no `..` in them.
#[derive(Debug)]
pub(crate) struct Inputs {
    root: PathBuf,
    texts: Vec<(PathBuf, String)>,
    archives: Vec<Archive>,
    /// Whether archives are opened only, because nobody needs their digests.
    only_looks: bool,
}

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Local {
    /// A file of the job.
    File(PathBuf),
    /// A directory of the job.
    Directory(PathBuf),
}

impl Inputs {
    /// None yet, of the job whose directory is `root`.
    pub(crate) fn new(root: &Path) -> Result<Self, RequirementsError> {
        Ok(Self {
            root: root.canonicalize().map_err(read_error(root))?,
            texts: Vec::new(),
            archives: Vec::new(),
            only_looks: false,
        })
    }

    /// The same, for somebody who wants to know whether the files can be used, and no key: archives, which may be
    /// large, are not hashed.
    pub(crate) fn to_look_at(root: &Path) -> Result<Self, RequirementsError> {
        let inputs = Self::new(root)?;
        Ok(Self {
            only_looks: true,
            ..inputs
        })
    }

    /// Where `target` leads, seen from `from`, a directory of the job. It must exist, and inside.
    pub(crate) fn locate(
        &self,
        from: &Path,
        target: &str,
        origin: Origin<'_>,
    ) -> Result<Local, RequirementsError> {
        let outside = || RequirementsError::Outside {
            path: origin.path.to_owned(),
            line: origin.line,
            target: target.to_owned(),
        };
        let relative = lexical(&from.join(target)).ok_or_else(outside)?;
        let real = self
            .root
            .join(&relative)
            .canonicalize()
            .map_err(read_error(&relative))?;
        if !real.starts_with(&self.root) {
            return Err(outside());
        }
        Ok(if real.is_dir() {
            Local::Directory(relative)
        } else {
            Local::File(relative)
        })
    }

    /// Reads a text, once.
    pub(crate) fn text(&mut self, relative: &Path) -> Result<&str, RequirementsError> {
        if let Some(at) = self.texts.iter().position(|(path, _)| path == relative) {
            return Ok(&self.texts[at].1);
        }
        let mut bytes = Vec::new();
        File::open(self.root.join(relative))
            .and_then(|file| file.take(LARGEST_TEXT + 1).read_to_end(&mut bytes))
            .map_err(read_error(relative))?;
        if bytes.len() as u64 > LARGEST_TEXT {
            return Err(RequirementsError::TooLarge {
                path: relative.to_owned(),
                limit: LARGEST_TEXT,
            });
        }
        let text = String::from_utf8(bytes).map_err(|_| RequirementsError::NotText {
            path: relative.to_owned(),
        })?;
        self.texts.push((relative.to_owned(), text));
        Ok(&self.texts[self.texts.len() - 1].1)
    }

    /// The same, where the file may be missing.
    pub(crate) fn optional_text(&mut self, relative: &Path) -> Result<Option<&str>, RequirementsError> {
        match self.text(relative) {
            Err(RequirementsError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error),
            Ok(_) => self.text(relative).map(Some),
        }
    }

    /// Hashes a wheel or a source archive, once.
    pub(crate) fn archive(&mut self, relative: &Path) -> Result<Digest, RequirementsError> {
        if let Some(known) = self.archives.iter().find(|archive| archive.path == relative) {
            return Ok(known.digest);
        }
        let failed = |source| read_error(relative)(source);
        let file = File::open(self.root.join(relative)).map_err(failed)?;
        if self.only_looks {
            return Ok(Digest::of(b""));
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&file).map_err(failed)?;
        let digest = Digest::from_bytes(*hasher.finalize().as_bytes());
        self.archives.push(Archive {
            path: relative.to_owned(),
            digest,
            file,
        });
        Ok(digest)
    }

    /// The names of the files in a directory of the job, sorted.
    pub(crate) fn files_of(&self, relative: &Path) -> Result<Vec<PathBuf>, RequirementsError> {
        let list = || -> io::Result<Vec<PathBuf>> {
            let mut files = Vec::new();
            for file in fs::read_dir(self.root.join(relative))? {
                let file = file?;
                if file.file_type()?.is_file() {
                    files.push(relative.join(file.file_name()));
                }
            }
            files.sort();
            Ok(files)
        };
        list().map_err(read_error(relative))
    }

    /// Writes all of it below `dest`, with an empty `uv.toml` where nothing else would keep uv from looking for
    /// settings in the directories above.
    pub(crate) fn write(&self, dest: &Path) -> io::Result<()> {
        for (path, text) in &self.texts {
            create(&dest.join(path))?.write_all(text.as_bytes())?;
        }
        for archive in &self.archives {
            let mut file = &archive.file;
            file.rewind()?;
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(file)?;
            if Digest::from_bytes(*hasher.finalize().as_bytes()) != archive.digest {
                return Err(io::Error::other("it changed after it was hashed"));
            }
            file.rewind()?;
            io::copy(&mut file, &mut create(&dest.join(&archive.path))?)?;
        }
        let has_settings = self.texts.iter().any(|(path, text)| {
            path == Path::new("uv.toml") || (path == Path::new("pyproject.toml") && text.contains("tool.uv"))
        });
        if !has_settings {
            create(&dest.join("uv.toml"))?;
        }
        Ok(())
    }
}

fn create(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    File::create(path)
}

fn read_error(path: &Path) -> impl FnOnce(io::Error) -> RequirementsError {
    let path = path.to_owned();
    move |source| RequirementsError::Read {
        path,
        source: Arc::new(source),
    }
}

/// `path` without `.` and `..`; none when it leads above its start or is absolute.
fn lexical(path: &Path) -> Option<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::CurDir => {}
            Component::ParentDir if out.pop() => {}
            _ => return None,
        }
    }
    Some(out)
}
