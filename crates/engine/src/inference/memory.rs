//! How much memory this process may still take: the machine's, or its control group's where that is less.

use std::fs;
use std::path::Path;

/// Bytes that can be taken before something is swapped out or killed; `None` where the system does not say.
pub fn available() -> Option<u64> {
    let machine = machine(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
    let group = group(Path::new("/sys/fs/cgroup"));
    machine.into_iter().chain(group).min()
}

fn machine(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

/// Control groups of version 2: the limit less what is used and cannot be given back.
fn group(folder: &Path) -> Option<u64> {
    let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    let limit = number("memory.max")?;
    let used = number("memory.current")?;
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    // Files that are only cached are dropped before anybody is killed.
    let cached: u64 = stat
        .lines()
        .filter_map(|line| line.strip_prefix("inactive_file ").or_else(|| line.strip_prefix("active_file ")))
        .filter_map(|bytes| bytes.parse::<u64>().ok())
        .sum();
    Some(limit.saturating_sub(used.saturating_sub(cached)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(machine("MemTotal:  10 kB\nMemAvailable:    2048 kB\nBuffers: 1 kB\n"), Some(2 << 20));
        assert_eq!(machine("MemTotal:  10 kB\n"), None);
    }

    #[test]
    fn a_control_groups_cache_counts_as_free() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
        assert_eq!(group(folder.path()), None);
        write("memory.current", "900\n");
        write("memory.max", "max\n");
        assert_eq!(group(folder.path()), None, "no limit");
        write("memory.max", "1000\n");
        assert_eq!(group(folder.path()), Some(100));
        write("memory.stat", "anon 100\ninactive_file 300\nactive_file 200\n");
        assert_eq!(group(folder.path()), Some(600));
    }
}
