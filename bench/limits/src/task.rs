//! A contestant's task: one flat JSON object, of which this reads texts and numbers by name.

/// The JSON text of a task.
pub struct Task(String);

impl Task {
    /// The task in the first argument.
    pub fn from_arguments() -> Self {
        Self(std::env::args().nth(1).expect("usage: blaster '{\"bootstrap\": …, \"topic\": …, \"count\": …}'"))
    }

    /// A task that was read elsewhere.
    pub fn new(json: &str) -> Self {
        Self(json.to_owned())
    }

    fn raw(&self, name: &str) -> Option<&str> {
        let (_, behind) = self.0.split_once(&format!("\"{name}\""))?;
        Some(behind.trim_start().strip_prefix(':')?.trim_start())
    }

    /// A text without escapes.
    pub fn text(&self, name: &str) -> String {
        let found = self.raw(name).and_then(|raw| raw.strip_prefix('"')?.split_once('"'));
        found.unwrap_or_else(|| panic!("the task has no text {name:?}")).0.to_owned()
    }

    /// A whole number, or `default`.
    pub fn number(&self, name: &str, default: u64) -> u64 {
        let Some(raw) = self.raw(name) else { return default };
        let digits = &raw[..raw.find(|c: char| !c.is_ascii_digit()).unwrap_or(raw.len())];
        digits.parse().unwrap_or(default)
    }
}

/// CPU seconds of this process so far, all threads, user and system, in the kernel's ticks of 10 ms.
pub fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field, the program's name, may hold spaces; it ends with the last parenthesis.
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    let fields: Vec<&str> = behind.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_is_asked_for() {
        let task = Task::new(r#"{"bootstrap": "127.0.0.1:9092", "count":12, "size": 100}"#);
        assert_eq!((task.text("bootstrap").as_str(), task.number("count", 0)), ("127.0.0.1:9092", 12));
        assert_eq!((task.number("size", 0), task.number("depth", 5)), (100, 5));
        assert!(cpu_seconds() >= 0.0);
    }
}
