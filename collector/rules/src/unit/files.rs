//! Patterns of rule files: `*`, `?` and `[a-z]` within the parts of a path.

use std::path::{Path, PathBuf};

/// Most files that a pattern may mean.
const FILES_MAX: usize = 10_000;

/// The files that fit a pattern, sorted; a relative one begins at `base`. What is no pattern must be there too.
pub(super) fn matching(base: &Path, pattern: &str) -> Vec<PathBuf> {
    let path = base.join(pattern);
    let mut found = vec![PathBuf::new()];
    for part in path.components() {
        let part = part.as_os_str();
        let text = part.to_string_lossy();
        if !text.contains(['*', '?', '[']) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let mut deeper = Vec::new();
        for dir in &found {
            let here = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
            let names = std::fs::read_dir(here).into_iter().flatten().flatten().map(|entry| entry.file_name());
            let fits = names.filter(|name| fits(&text, &name.to_string_lossy()));
            deeper.extend(fits.take(FILES_MAX).map(|name| dir.join(name)));
            deeper.truncate(FILES_MAX);
        }
        found = deeper;
    }
    found.retain(|path| path.exists());
    found.sort();
    found
}

/// Whether a name fits a pattern.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Where the last star stands, and how much of the name it has taken.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match one(&pattern[p..], name[n]) {
            Some(width) => (p, n) = (p + width, n + 1),
            None if pattern.get(p) == Some(&'*') => {
                star = Some((p, n));
                p += 1;
            }
            None => match star {
                Some((at, taken)) => {
                    (p, n) = (at + 1, taken + 1);
                    star = Some((at, taken + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// How much of the pattern's begin takes the character, if it does.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '*' => None,
        '[' => {
            let end = 1 + pattern[1..].iter().position(|c| *c == ']')?;
            let class = &pattern[1..end];
            let (not, class) = if class.first() == Some(&'^') { (true, &class[1..]) } else { (false, class) };
            let mut found = false;
            let mut at = 0;
            while at < class.len() {
                let range = class.get(at + 1) == Some(&'-') && at + 2 < class.len();
                let last = if range { class[at + 2] } else { class[at] };
                found |= (class[at]..=last).contains(&c);
                at += if range { 3 } else { 1 };
            }
            (found != not).then_some(end + 1)
        }
        '\\' if pattern.get(1) == Some(&c) => Some(2),
        other => (*other == c).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_patterns() {
        for (pattern, name) in
            [("*.yml", "a.yml"), ("a*b*c", "axbxxbc"), ("?[a-c].y", "xb.y"), ("[^a]", "b"), ("*", "")]
        {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("*.yml", "a.yaml"), ("a*b", "axc"), ("[^a]", "a"), ("?", ""), ("[a", "a")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn files_are_found_beside_the_test() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yml", "a.yml", "c.txt"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let names = |pattern: &str| -> Vec<String> {
            let found = matching(dir.path(), pattern);
            found.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names("*.yml"), ["a.yml", "b.yml"]);
        assert_eq!(names("c.txt"), ["c.txt"]);
        assert!(names("d.yml").is_empty() && names("x/*.yml").is_empty());
    }
}
