//! Medians, tables, and whether a target is met.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

/// Values of one kind, in the unit that the table says.
#[derive(Clone, Debug, Default)]
pub struct Figures(pub Vec<f64>);

impl Figures {
    /// The value that so many hundredths of the others do not exceed.
    pub fn percentile(&self, percent: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let place = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
        sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    /// The middle one, or between the two in the middle.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            n => (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0,
        }
    }

    /// The largest.
    pub fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }

    /// The smallest.
    pub fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }
}

impl Display for Figures {
    /// `median [min–max]`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            0 => f.write_str("–"),
            1 => f.write_str(&number(self.0[0])),
            _ => {
                write!(f, "{} [{}–{}]", number(self.median()), number(self.min()), number(self.max()))
            }
        }
    }
}

/// With as many digits as mean something.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size.is_nan() => "–".to_owned(),
        size if size < 0.1 && size > 0.0 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// vipd's value divided by keepalived's.
pub fn ratio(vipd: f64, keepalived: f64) -> String {
    let ratio = vipd / keepalived;
    if ratio.is_finite() { format!("{ratio:.2}") } else { "–".to_owned() }
}

/// In milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// How much later than `due`, in milliseconds; negative: earlier.
pub fn ms_after(at: Duration, due: Duration) -> f64 {
    if at >= due { ms(at - due) } else { -ms(due - at) }
}

/// A markdown table.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these columns.
    pub fn new(columns: &[&str]) -> Self {
        let rule = columns.iter().map(|_| "---".to_owned()).collect();
        Self { rows: vec![columns.iter().map(|column| (*column).to_owned()).collect(), rule] }
    }

    /// One more row.
    pub fn add<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.rows[0].len());
        self.rows.push(cells.into());
    }
}

/// What one measurement gives.
#[derive(Debug, Default)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// What is measured, and how.
    pub how: String,
    /// Each with what its target says.
    pub tables: Vec<(Table, Vec<Verdict>)>,
    /// Whatever a reader must know.
    pub remarks: Vec<String>,
}

/// Whether a target is met, in one sentence.
#[derive(Debug)]
pub struct Verdict {
    /// It is.
    pub met: bool,
    /// The target and the worst value.
    pub text: String,
}

impl Section {
    /// As it is printed.
    pub fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n{}\n", self.title, self.how);
        for (table, verdicts) in &self.tables {
            text += "\n";
            for row in &table.rows {
                text += &format!("| {} |\n", row.join(" | "));
            }
            text += "\n";
            for verdict in verdicts {
                let word = if verdict.met { "Target met" } else { "**Target missed**" };
                text += &format!("- {word}: {}\n", verdict.text);
            }
        }
        text += "\n";
        for remark in &self.remarks {
            text += &format!("- {remark}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let figures = Figures((1..=200).rev().map(f64::from).collect());
        assert_eq!(figures.percentile(99.0), 198.0);
        assert_eq!(figures.percentile(50.0), 100.0);
        assert_eq!(figures.percentile(100.0), 200.0);
        assert_eq!(figures.median(), 100.5);
        assert_eq!(Figures(vec![0.341, 0.3, 12.0]).to_string(), "0.34 [0.30–12.0]");
    }
}
