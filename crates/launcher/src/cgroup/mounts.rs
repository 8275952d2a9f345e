//! Where the hierarchies are mounted, and where in them a process is. Parsing only.

use std::path::{Path, PathBuf};

/// One hierarchy that this process is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// The directory of the process's own group.
    pub(super) own: PathBuf,
    /// Controllers of version 1; `None` for version 2.
    pub(super) controllers: Option<Vec<String>>,
}

/// Puts `/proc/self/cgroup` and `/proc/self/mountinfo` together. What is not mounted, or mounted without this process's
/// group, is left out.
pub(super) fn hierarchies(membership: &str, mountinfo: &str) -> Vec<Hierarchy> {
    let mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
    membership
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, names, path) = (fields.next()?, fields.next()?, fields.next()?);
            let controllers = (!names.is_empty()).then(|| names.split(',').map(str::to_owned).collect());
            let own = mounts
                .iter()
                .filter(|mount| mount.is_of(controllers.as_deref()))
                .find_map(|mount| mount.place(path))?;
            Some(Hierarchy { own, controllers })
        })
        .collect()
}

struct Mount {
    root: String,
    point: String,
    version2: bool,
    options: Vec<String>,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let kind = after.next()?;
        let options = after.nth(1).unwrap_or_default();
        matches!(kind, "cgroup" | "cgroup2").then(|| Self {
            root: unescaped(root),
            point: unescaped(point),
            version2: kind == "cgroup2",
            options: options.split(',').map(str::to_owned).collect(),
        })
    }

    fn is_of(&self, controllers: Option<&[String]>) -> bool {
        match controllers {
            None => self.version2,
            Some(names) => !self.version2 && names.iter().all(|name| self.options.contains(name)),
        }
    }

    /// The directory of the group `path`, if this mount shows it.
    fn place(&self, path: &str) -> Option<PathBuf> {
        let rest = if self.root == "/" {
            path
        } else {
            path.strip_prefix(self.root.as_str())?
        };
        let rest = rest.trim_start_matches('/');
        // Seen from within a namespace, a group outside of it.
        (!rest.split('/').any(|part| part == "..")).then(|| Path::new(&self.point).join(rest))
    }
}

/// The kernel writes a space as `\040`, and a few others likewise.
fn unescaped(field: &str) -> String {
    field
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /mnt/with\\040space rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn own_groups_are_found_in_every_hierarchy_that_shows_them() {
        let membership = "\
9:name=systemd:/a
4:memory:/docker/abc/job
3:pids:/not/mounted
2:cpu,cpuacct:/
0::/x/y
";
        let found = hierarchies(membership, HYBRID);
        let own: Vec<&str> = found.iter().map(|it| it.own.to_str().unwrap()).collect();
        assert_eq!(
            own,
            [
                "/sys/fs/cgroup/systemd/a",
                "/sys/fs/cgroup/memory/job",
                "/sys/fs/cgroup/cpu,cpuacct/",
                "/mnt/with space/x/y",
            ]
        );
        assert_eq!(found[3].controllers, None);
    }

    #[test]
    fn a_group_outside_of_the_mount_is_not_made_up() {
        assert_eq!(hierarchies("4:memory:/docker/xyz\n0::/../up\n", HYBRID), []);
    }
}
