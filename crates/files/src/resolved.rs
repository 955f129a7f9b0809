use std::path::{Path, PathBuf};

/// The absolute path without links, as far as it exists: two names of one place are equal, whether or not there is something at their end.
#[must_use]
pub fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for found in absolute.ancestors() {
        if let (Ok(place), Ok(rest)) = (found.canonicalize(), absolute.strip_prefix(found)) {
            // Joining nothing would end the path in a separator.
            return if rest.as_os_str().is_empty() { place } else { place.join(rest) };
        }
    }
    absolute
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn links_are_followed_as_far_as_a_path_exists() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        std::fs::create_dir(&real).unwrap();
        std::fs::write(real.join("file"), "").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        for rest in ["", "file", "absent", "absent/below"] {
            assert_eq!(resolved(&link.join(rest)), resolved(&real.join(rest)), "{rest:?}");
        }
        assert_ne!(resolved(&link.join("absent")), resolved(&link.join("file")));
        assert_eq!(
            resolved(Path::new("Cargo.toml")),
            std::env::current_dir().unwrap().canonicalize().unwrap().join("Cargo.toml")
        );
    }
}
