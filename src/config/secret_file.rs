//! Secrets in files of their own: read whole, and refused when everybody on the machine can read them too.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use secrecy::SecretString;

/// Nothing that is a secret is longer.
const LONGEST: u64 = 64 * 1024;
/// Others may read, or write.
const OF_OTHERS: u32 = 0o006;

/// The secret in a file, without the white space around it.
///
/// # Errors
/// What is wrong, to follow the name of the key. The content is not repeated.
pub(super) fn read(path: &Path) -> Result<SecretString, String> {
    let shown = path.display();
    let unreadable = |err: std::io::Error| format!("cannot be read: `{shown}`: {err}");
    let mut file = File::open(path).map_err(unreadable)?;
    // Of the open file, so that nobody can put another in its place in between.
    let mode = file.metadata().map_err(unreadable)?.mode();
    if mode & OF_OTHERS != 0 {
        return Err(format!(
            "can be read by every user of this machine: `{shown}` has mode {:03o}; run `chmod 600 {shown}`",
            mode & 0o777
        ));
    }
    let mut text = String::new();
    file.by_ref().take(LONGEST).read_to_string(&mut text).map_err(unreadable)?;
    // A byte order mark is no part of a secret: another editor would make another secret.
    Ok(SecretString::from(text.trim_start_matches('\u{feff}').trim()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn only_a_file_that_others_can_not_read_is_a_secret() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pepper");
        fs::write(&path, " canary secret \n").expect("written");
        for mode in [0o600, 0o400, 0o440, 0o640] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("changed");
            assert_eq!(read(&path).expect("a secret").expose_secret(), "canary secret", "{mode:o}");
        }
        fs::write(&path, "\u{feff}canary secret\r\n").expect("written");
        assert_eq!(read(&path).expect("a secret").expose_secret(), "canary secret", "with a byte order mark");
        for mode in [0o644, 0o604, 0o666, 0o602] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("changed");
            let refused = read(&path).expect_err("not a secret");
            assert!(refused.contains("chmod 600") && !refused.contains("canary"), "{refused}");
        }
        assert!(read(&folder.path().join("none")).expect_err("none").starts_with("cannot be read"));
    }
}
