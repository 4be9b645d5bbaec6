//! Figures as people read them: sizes in powers of 1024, rates, durations, ratios. Every function
//! takes any input: no total, no rate and no time left are ordinary.

use std::fmt::Write;
use std::time::Duration;

/// `1536` is `1.5 KiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be printed as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Bytes a second: `1.5 KiB/s`.
pub fn rate(bytes_a_second: u64) -> String {
    format!("{}/s", size(bytes_a_second))
}

/// The mean rate of `bytes` over `time`, 0 where no time has passed.
pub fn mean_rate(bytes: u64, time: Duration) -> u64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 {
        (bytes as f64 / seconds) as u64
    } else {
        0
    }
}

/// Whole percent of `of`, rounded down so that 100 means all; 100 where there is nothing to do.
pub fn percent(part: u64, of: u64) -> u64 {
    if of == 0 {
        100
    } else {
        (u128::from(part.min(of)) * 100 / u128::from(of)) as u64
    }
}

/// `4.2 s`, `3:07`, `1:02:03`, `2 d 4 h`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..=9 => format!("{:.1} s", time.as_secs_f64()),
        10..=59 => format!("{seconds} s"),
        60..=3599 => format!("{}:{:02}", seconds / 60, seconds % 60),
        3600..=86_399 => format!(
            "{}:{:02}:{:02}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        ),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// How long `left` bytes take at `rate`, if that can be said.
pub fn time_left(left: u64, rate: u64) -> Option<Duration> {
    (rate > 0 && left > 0).then(|| Duration::from_secs(left / rate))
}

/// `1 piece`, `2 pieces`, `2 addresses`.
pub fn count(number: u64, noun: &str) -> String {
    let ending = match number {
        1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{number} {noun}{ending}")
}

/// The first few numbers of a list that may be long.
pub fn list(numbers: impl ExactSizeIterator<Item = u32>) -> String {
    const SHOWN: usize = 8;
    let more = numbers.len().saturating_sub(SHOWN);
    let mut text = numbers
        .take(SHOWN)
        .map(|number| number.to_string())
        .collect::<Vec<_>>()
        .join(", ");
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_powers_of_1024() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (3 << 30, "3.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, text) in table {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn nothing_divides_by_nothing() {
        assert_eq!(percent(0, 0), 100);
        assert_eq!(percent(5, 3), 100);
        assert_eq!(percent(u64::MAX - 1, u64::MAX), 99);
        assert_eq!(mean_rate(1 << 63, Duration::ZERO), 0);
        assert_eq!(time_left(5, 0), None);
        assert_eq!(time_left(0, 5), None);
    }

    #[test]
    fn durations_grow_in_words() {
        let table = [
            (Duration::from_millis(4_240), "4.2 s"),
            (Duration::from_secs(59), "59 s"),
            (Duration::from_secs(187), "3:07"),
            (Duration::from_secs(3_723), "1:02:03"),
            (Duration::from_secs(187_200), "2 d 4 h"),
        ];
        for (time, text) in table {
            assert_eq!(duration(time), text);
        }
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(list([1, 2].into_iter()), "1, 2");
        assert_eq!(
            list(vec![7; 10].into_iter()),
            "7, 7, 7, 7, 7, 7, 7, 7 and 2 more"
        );
    }
}
