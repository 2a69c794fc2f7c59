//! Puts the web interface that `make ui` built into the binary. Where it is not built, the collector says how to get it.
//!
//! The files are copied first: one that is built anew while the compiler runs would otherwise be half in the binary.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// What `make ui` fills. The folder itself is always there, so that its change can be watched.
const BUILT: &str = "ui/dist";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed={BUILT}");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join(BUILT);
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let copy = out.join("web");
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    for file in &mut files {
        let own = copy.join(file.strip_prefix(&root).unwrap_or(file));
        fs::create_dir_all(own.parent().unwrap_or(&copy))?;
        fs::copy(&*file, &own)?;
        *file = own;
    }
    files.sort();
    let mut code = String::from("&[\n");
    for file in files.iter().filter(|file| !is_packed(file)) {
        let name = file.strip_prefix(&copy).unwrap_or(file).display().to_string();
        let packed = |ending: &str| {
            let packed = PathBuf::from(format!("{}.{ending}", file.display()));
            if packed.exists() { format!("Some(include_bytes!({packed:?}))") } else { "None".to_owned() }
        };
        let (gzip, brotli) = (packed("gz"), packed("br"));
        let _ = writeln!(
            code,
            "File {{ name: {name:?}, plain: include_bytes!({file:?}), gzip: {gzip}, brotli: {brotli} }},"
        );
    }
    code.push(']');
    fs::write(out.join("web_files.rs"), code)
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() {
            collect(&path, files)?;
        } else if !hidden {
            files.push(path);
        }
    }
    Ok(())
}

fn is_packed(file: &Path) -> bool {
    file.extension().is_some_and(|ending| ending == "gz" || ending == "br")
}
