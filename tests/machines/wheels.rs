//! What `examples/digits` needs, and uv, as files: boxes without a network take packages from a directory.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The example.
pub(crate) fn digits() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits")
}

/// The directory. It is filled once, by pip, on the network that the tests run in.
pub(crate) fn directory() -> PathBuf {
    let requirements = digits().join("requirements.txt");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let wheels = target.join("wheels");
    let fetched = wheels.join("requirements.txt");
    let wanted = std::fs::read(&requirements).unwrap();
    if std::fs::read(&fetched).is_ok_and(|had| had == wanted) {
        return wheels;
    }
    let fetching = tempfile::tempdir_in(target).unwrap();
    let pip = Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--dest"])
        .arg(fetching.path())
        .arg("--requirement")
        .arg(&requirements)
        .arg("uv")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&pip.stderr);
    assert!(
        pip.status.success(),
        "pip cannot fetch what the example needs: {said}"
    );
    std::fs::write(fetching.path().join("requirements.txt"), wanted).unwrap();
    let _ = std::fs::remove_dir_all(&wheels);
    std::fs::rename(fetching.keep(), &wheels).unwrap();
    wheels
}
