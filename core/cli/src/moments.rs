//! Times in words: a date, and how long it is until then.

/// `2026-12-31`, in UTC.
pub(crate) fn date(unix_s: u64) -> String {
    let (year, month, day) = civil(unix_s / 86_400);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `2026-12-31 23:59:59 UTC`.
pub(crate) fn moment(unix_s: u64) -> String {
    let second = unix_s % 86_400;
    format!("{} {:02}:{:02}:{:02} UTC", date(unix_s), second / 3600, second / 60 % 60, second % 60)
}

/// `in 5 minutes`, `2 hours ago`, `now`.
pub(crate) fn from_now(unix_s: u64, now_unix_s: u64) -> String {
    let apart = unix_s.abs_diff(now_unix_s);
    let (number, unit) = match apart {
        0 => return "now".to_owned(),
        1..120 => (apart, "second"),
        120..7200 => (apart / 60, "minute"),
        7200..172_800 => (apart / 3600, "hour"),
        _ => (apart / 86_400, "day"),
    };
    let plural = if number == 1 { "" } else { "s" };
    if unix_s > now_unix_s { format!("in {number} {unit}{plural}") } else { format!("{number} {unit}{plural} ago") }
}

/// A time span: `90`, `90s`, `15m`, `1h`, `7d`; in seconds.
pub(crate) fn span(text: &str) -> Result<u64, String> {
    let wrong = || format!("{:?} is no time: 90s, 15m, 1h or 7d", crate::terminal::harmless(text, 32));
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit: u64 = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(wrong)
}

/// Year, month and day of a number of days since 1970 (the calendar's eras of 400 years begin with March).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days.saturating_add(719_468);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    (era * 400 + year + u64::from(month >= 10), if month < 10 { month + 3 } else { month - 9 }, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (unix_s, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (253_402_300_799, "9999-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(moment(unix_s), text);
        }
        assert!(moment(u64::MAX).ends_with("UTC"));
    }

    #[test]
    fn spans_are_read_and_told() {
        assert_eq!((span("90"), span("15m"), span("1h"), span("7d")), (Ok(90), Ok(900), Ok(3600), Ok(604_800)));
        for wrong in ["", "h", "-1", "1.5h", "1 h", "1w", "99999999999999999999", "99999999999999999d"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            (from_now(160, 100), from_now(100, 100 + 7200), from_now(1, 1)),
            ("in 60 seconds".into(), "2 hours ago".into(), "now".into())
        );
    }
}
