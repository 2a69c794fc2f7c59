//! The textfile directory, as node_exporter reads it: every `*.prom` file, with its time of modification, and whether any
//! could not be read.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::exposition::Timestamps;
use super::foreign::{Foreign, Taken};
use super::names::Namer;
use super::rules::Rules;
use crate::signals::{Handle, Metric, Table};

/// Largest file, bytes.
const FILE_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Most files.
const FILES_MAX: usize = 500;

/// What it says of itself, with node_exporter's names.
static METRICS: [Metric; 2] = [
    Metric::gauge(
        "node_textfile_scrape_error",
        "",
        "the textfile directory",
        "1 if there was an error opening or reading a file, 0 otherwise",
    ),
    Metric::gauge(
        "node_textfile_mtime_seconds",
        "seconds since the epoch",
        "the textfile directory",
        "Unixtime mtime of textfiles successfully read.",
    )
    .by(&["file"]),
];

/// The directories and the series of their files.
pub(crate) struct Textfile {
    directories: Vec<PathBuf>,
    foreign: Foreign,
    error: Handle,
    times: Vec<(PathBuf, Handle)>,
    /// What was last said to be wrong.
    said: String,
}

impl Textfile {
    pub(crate) fn new(directories: &[PathBuf], namer: Namer, series_max: usize) -> Self {
        Self {
            directories: directories.to_vec(),
            foreign: Foreign::new(namer, Rules::default(), Timestamps::Refused, series_max),
            error: Handle::default(),
            times: Vec::new(),
            said: String::new(),
        }
    }

    /// Reads every file into the table.
    pub(crate) fn gather(&mut self, table: &mut Table) -> Taken {
        let mut taken = Taken::default();
        let mut problems = Vec::new();
        let files = self.files(&mut problems);
        table.begin();
        self.foreign.begin();
        let mut times = std::mem::take(&mut self.times);
        times.retain(|(path, _)| files.contains(path));
        for path in files {
            match self.file(&path, table, &mut taken) {
                Ok(modified) => {
                    let at = times.iter().position(|(known, _)| *known == path).unwrap_or_else(|| {
                        times.push((path.clone(), Handle::default()));
                        times.len() - 1
                    });
                    let file = path.to_string_lossy();
                    table.set_named(&mut times[at].1, &METRICS[1], METRICS[1].name, &[("file", &file)], modified);
                }
                Err(what) => problems.push(format!("{}: {what}", path.display())),
            }
        }
        self.times = times;
        self.foreign.end();
        if taken.refused > 0 {
            problems.push(format!("{} series are beyond the limit", taken.refused));
        }
        let failed = if problems.is_empty() { 0.0 } else { 1.0 };
        table.set_named(&mut self.error, &METRICS[0], METRICS[0].name, &[], failed);
        table.end();
        let text = problems.join("; ");
        if !text.is_empty() && text != self.said {
            tracing::warn!("textfile: {text}");
        }
        self.said = text;
        taken
    }

    /// The files of all directories, sorted.
    fn files(&self, problems: &mut Vec<String>) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for directory in &self.directories {
            match fs::read_dir(directory) {
                Ok(entries) => files.extend(
                    entries
                        .filter_map(|entry| Some(entry.ok()?.path()))
                        .filter(|path| path.extension().is_some_and(|extension| extension == "prom")),
                ),
                Err(error) => problems.push(format!("cannot read {}: {error}", directory.display())),
            }
        }
        files.sort_unstable();
        if files.len() > FILES_MAX {
            problems.push(format!("{} files; only {FILES_MAX} are read", files.len()));
            files.truncate(FILES_MAX);
        }
        files
    }

    /// Reads one file; gives its time of modification in whole seconds, as node_exporter does.
    fn file(&mut self, path: &Path, table: &mut Table, taken: &mut Taken) -> Result<f64, String> {
        let read = || -> std::io::Result<(Vec<u8>, f64)> {
            let file = File::options().read(true).open(path)?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(std::io::Error::other("it is no file"));
            }
            let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as f64;
            let mut text = Vec::new();
            file.take(FILE_MAX_BYTES + 1).read_to_end(&mut text)?;
            Ok((text, modified))
        };
        // A pipe would hold up the agent as soon as it is opened.
        if !fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
            return Err("it is no file".to_owned());
        }
        let (text, modified) = read().map_err(|error| error.to_string())?;
        if text.len() as u64 > FILE_MAX_BYTES {
            return Err(format!("it is larger than {FILE_MAX_BYTES} bytes"));
        }
        self.foreign.take(&text, table, taken).map_err(|malformed| malformed.to_string())?;
        Ok(modified)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_node_exporter_does() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("a.prom", "# TYPE backup_seconds gauge\nbackup_seconds{disk=\"a\"} 7");
        write("b.prom", "up_to 1 1395066363000\n");
        write("c.prom", "broken {\n");
        write("d.txt", "other 1\n");
        fs::create_dir(dir.path().join("e.prom")).unwrap();
        let (mut files, mut table) = (Textfile::new(&[dir.path().to_owned()], Namer::default(), 100), Table::new(&[]));
        let read = |files: &mut Textfile, table: &mut Table| {
            files.gather(table);
            let mut lines: Vec<String> = table
                .live()
                .filter(|def| def.labels.metric() != "node_textfile_mtime_seconds")
                .map(|def| format!("{} {}", def.labels, table.values()[def.slot as usize]))
                .collect();
            lines.sort();
            (lines, table.len())
        };
        let (lines, all) = read(&mut files, &mut table);
        assert_eq!(lines, ["backup_seconds{disk=\"a\"} 7", "node_textfile_scrape_error 1"]);
        assert_eq!(all, 3, "one file's time");
        assert!(files.said.contains("c.prom: line 1"), "{}", files.said);
        assert!(files.said.contains("b.prom: line 1: it has a timestamp"), "{}", files.said);
        ["b.prom", "c.prom"].iter().for_each(|name| fs::remove_file(dir.path().join(name)).unwrap());
        fs::remove_dir(dir.path().join("e.prom")).unwrap();
        assert_eq!(read(&mut files, &mut table).0[1], "node_textfile_scrape_error 0");
    }
}
