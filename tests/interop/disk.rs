//! Small disks that fill up: tmpfs, and loop mounts of real file systems. Dropping one unmounts it.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system.
pub struct Disk {
    /// Where it is mounted.
    pub folder: PathBuf,
}

impl Disk {
    /// A tmpfs of so many MiB.
    pub fn tmpfs(folder: PathBuf, mib: u32) -> Disk {
        fs::create_dir_all(&folder).unwrap();
        let size = format!("size={mib}m");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(&folder));
        Disk { folder }
    }

    /// An image of so many MiB made with `mkfs.KIND`.
    pub fn image(kind: &str, folder: PathBuf, mib: u64) -> Disk {
        fs::create_dir_all(&folder).unwrap();
        let image = folder.with_extension("image");
        File::create(&image).unwrap().set_len(mib << 20).unwrap();
        run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image));
        run(Command::new("mount")
            .args(["-o", "loop"])
            .args([&image, &folder]));
        Disk { folder }
    }

    /// Bytes free.
    pub fn free(&self) -> u64 {
        let figures = rustix::fs::statvfs(&self.folder).unwrap();
        figures.f_bavail * figures.f_frsize
    }

    /// Writes a file until nothing more fits; returns its path.
    pub fn fill(&self) -> PathBuf {
        let path = self.folder.join("somebody else's");
        let mut file = File::create(&path).unwrap();
        let chunk = vec![0xa5; 64 << 10];
        while file.write(&chunk).is_ok_and(|written| written > 0) {}
        // Some file systems find out only when they have to.
        let _ = file.sync_all();
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}

/// Bytes that files below a folder occupy.
pub fn occupied(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let files = crate::torrents::listing(folder);
    let blocks = files
        .iter()
        .map(|file| fs::symlink_metadata(folder.join(file)).unwrap().blocks());
    blocks.sum::<u64>() * 512
}

fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(
        done.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}
