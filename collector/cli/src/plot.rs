//! A chart in the terminal: lines of braille dots, a y-axis with units, a time axis, and a legend.
//!
//! Series are told apart by a letter at the end of their line and in the legend, and by colour where there is some.

use crate::clock::Clock;
use crate::units::{Base, Unit};

/// Most series in one chart.
pub(crate) const SERIES_MAX: usize = 8;
/// Rows of the chart itself.
const ROWS: usize = 16;
/// Narrowest and widest chart in columns, axis left out.
const COLUMNS_MIN: usize = 20;
const COLUMNS_MAX: usize = 200;
/// Dots of a braille character.
const DOTS_X: usize = 2;
const DOTS_Y: usize = 4;
/// Okabe and Ito's colours, as xterm's 256 have them: blue, orange, green, purple, sky, vermilion, yellow, grey.
const COLORS: [u8; SERIES_MAX] = [32, 214, 35, 175, 74, 166, 227, 245];
/// The bits of a braille character's dots, by column and row.
const BITS: [[u8; DOTS_Y]; DOTS_X] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// One line of the chart.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// What the legend says.
    pub(crate) label: String,
    /// Times in milliseconds, ascending, and values.
    pub(crate) points: Vec<(i64, f64)>,
}

/// What is drawn, and how.
#[derive(Clone, Debug)]
pub(crate) struct Plot<'a> {
    /// The lines; only the first [`SERIES_MAX`] are drawn.
    pub(crate) lines: &'a [Line],
    /// The left and right edge in milliseconds.
    pub(crate) start_ms: i64,
    /// See `start_ms`.
    pub(crate) end_ms: i64,
    /// The distance of points; a larger one is a gap.
    pub(crate) step_ms: i64,
    /// The values' unit.
    pub(crate) unit: Unit,
    /// Columns of the terminal.
    pub(crate) width: usize,
    /// Whether to colour.
    pub(crate) color: bool,
}

/// One character of the chart: dots and the series that drew last.
#[derive(Clone, Copy, Default)]
struct Tile {
    dots: u8,
    series: usize,
}

struct Canvas {
    columns: usize,
    tiles: Vec<Tile>,
}

impl Canvas {
    fn set(&mut self, x: usize, y: usize, series: usize) {
        let at = (y / DOTS_Y) * self.columns + x / DOTS_X;
        if let Some(tile) = self.tiles.get_mut(at) {
            tile.dots |= BITS[x % DOTS_X][y % DOTS_Y];
            tile.series = series;
        }
    }

    fn line(&mut self, from: (usize, usize), to: (usize, usize), series: usize) {
        let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
        let between = |a: usize, b: usize, i: usize| (a * (steps - i) + b * i + steps / 2) / steps;
        for i in 0..=steps {
            self.set(between(from.0, to.0, i), between(from.1, to.1, i), series);
        }
    }
}

impl Plot<'_> {
    /// The chart's text.
    pub(crate) fn to_text(&self, clock: &Clock) -> String {
        let lines = &self.lines[..self.lines.len().min(SERIES_MAX)];
        let values = lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value).filter(|v| v.is_finite());
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            return "nothing to draw: no series has a number in this range\n".to_owned();
        }
        let axis = Axis::new(low, high, self.unit.base == Base::Bytes);
        let labels: Vec<String> = axis.ticks.iter().map(|tick| self.unit.text(*tick, clock)).collect();
        let gutter = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        let columns = self.width.saturating_sub(gutter + 4).clamp(COLUMNS_MIN, COLUMNS_MAX);
        let mut canvas = Canvas { columns, tiles: vec![Tile::default(); columns * ROWS] };
        let ends: Vec<Option<usize>> =
            lines.iter().enumerate().map(|(series, line)| self.draw(&mut canvas, line, series, &axis)).collect();

        let mut out = String::new();
        for row in 0..ROWS {
            let label = axis.ticks.iter().position(|tick| axis.row(*tick) == row).map_or("", |at| &*labels[at]);
            out.push_str(&format!("{label:>gutter$} {}", if label.is_empty() { '│' } else { '┤' }));
            self.write_row(&mut out, &canvas, row, &ends);
        }
        let indent = " ".repeat(gutter + 1);
        out.push_str(&format!("{indent}└{}\n", "─".repeat(columns)));
        out.push_str(&format!("{indent} {}\n", self.time_axis(clock, columns)));
        self.write_legend(&mut out, lines, clock);
        out
    }

    /// Draws a line and tells in which row it ends.
    fn draw(&self, canvas: &mut Canvas, line: &Line, series: usize, axis: &Axis) -> Option<usize> {
        let span = (self.end_ms - self.start_ms).max(1);
        let last_x = (canvas.columns * DOTS_X - 1) as f64;
        let mut before: Option<(i64, (usize, usize))> = None;
        for (ts, value) in &line.points {
            if !value.is_finite() {
                before = None;
                continue;
            }
            let x = ((ts - self.start_ms) as f64 / span as f64 * last_x).round().clamp(0.0, last_x) as usize;
            let dot = (x, axis.dot(*value));
            match before {
                Some((last, from)) if ts - last <= self.step_ms => canvas.line(from, dot, series),
                _ => canvas.set(dot.0, dot.1, series),
            }
            before = Some((*ts, dot));
        }
        before.map(|(_, (_, y))| y / DOTS_Y)
    }

    fn write_row(&self, out: &mut String, canvas: &Canvas, row: usize, ends: &[Option<usize>]) {
        let mut line = String::new();
        for tile in &canvas.tiles[row * canvas.columns..(row + 1) * canvas.columns] {
            let dot = char::from_u32(0x2800 + u32::from(tile.dots)).filter(|_| tile.dots != 0);
            match dot {
                Some(dot) => line.push_str(&self.paint(&dot.to_string(), tile.series)),
                None => line.push(' '),
            }
        }
        for (series, _) in ends.iter().enumerate().filter(|(_, end)| **end == Some(row)) {
            line.push_str(&self.paint(&letter(series), series));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }

    fn time_axis(&self, clock: &Clock, columns: usize) -> String {
        let span = self.end_ms - self.start_ms;
        let format = match span {
            span if span <= 10 * 60 * 1000 => "%H:%M:%S",
            span if span <= 24 * 60 * 60 * 1000 => "%H:%M",
            _ => "%m-%d %H:%M",
        };
        let text = |ms| clock.format(format, ms);
        let (left, right) = (text(self.start_ms), text(self.end_ms));
        let middle = text(self.start_ms + span / 2);
        let free = columns.saturating_sub(left.len() + middle.len() + right.len());
        format!("{left}{}{middle}{}{right}", " ".repeat(free / 2), " ".repeat(free - free / 2))
    }

    fn write_legend(&self, out: &mut String, lines: &[Line], clock: &Clock) {
        for (series, line) in lines.iter().enumerate() {
            let values = || line.points.iter().map(|(_, value)| *value).filter(|value| !value.is_nan());
            let text = |value: Option<f64>| value.map_or("–".to_owned(), |value| self.unit.text(value, clock));
            let label = crate::table::one_line(&line.label);
            out.push_str(&format!(
                "{} {label}  last {} · min {} · max {}\n",
                self.paint(&letter(series), series),
                text(values().next_back()),
                text(values().reduce(f64::min)),
                text(values().reduce(f64::max)),
            ));
        }
        if self.lines.len() > lines.len() {
            let left_out = self.lines.len() - lines.len();
            out.push_str(&format!(
                "and {left_out} more series: topk({SERIES_MAX}, …) chooses, sum by (…) joins them\n"
            ));
        }
    }

    fn paint(&self, text: &str, series: usize) -> String {
        if self.color { format!("\x1b[38;5;{}m{text}\x1b[0m", COLORS[series % SERIES_MAX]) } else { text.to_owned() }
    }
}

/// A sparkline of the values, eight levels from zero or from the least to the most.
pub(crate) fn spark(values: &[f64], width: usize) -> String {
    spark_of(values, width, None)
}

/// A sparkline whose highest level is at least `most`, so that what is little looks little.
pub(crate) fn spark_of(values: &[f64], width: usize, most: Option<f64>) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let low = finite().fold(0.0, f64::min);
    let high = finite().fold(most.unwrap_or(low), f64::max);
    let buckets = width.min(values.len());
    let bucket = |i: usize| &values[i * values.len() / buckets..(i + 1) * values.len() / buckets];
    let level = |part: &[f64]| {
        let value = part.iter().copied().filter(|value| value.is_finite()).reduce(f64::max)?;
        let share = if high > low { (value - low) / (high - low) } else { 0.0 };
        Some(LEVELS[((share * 7.0).round() as usize).min(7)])
    };
    (0..buckets).map(|i| level(bucket(i)).unwrap_or(' ')).collect()
}

fn letter(series: usize) -> String {
    char::from(b'a' + (series % SERIES_MAX) as u8).to_string()
}

/// The y-axis: from zero where no value is below, to a round number.
struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Axis {
    const TICKS: f64 = 4.0;

    /// Round are powers of ten, for bytes within powers of 1024.
    fn new(low: f64, high: f64, binary: bool) -> Self {
        let low = low.min(0.0);
        let high = if high > low { high.max(0.0) } else { low + 1.0 };
        let rough = (high - low) / Self::TICKS;
        let prefix = if binary { 1024_f64.powf(rough.log(1024.0).floor().max(0.0)) } else { 1.0 };
        let power = 10_f64.powf((rough / prefix).log10().floor()) * prefix;
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| *step >= rough * 0.999);
        let step = step.filter(|step| step.is_normal()).unwrap_or(1.0);
        let (from, to) = ((low / step).floor(), (high / step - 1e-9).ceil());
        let count = (to - from).clamp(1.0, 2.0 * Self::TICKS) as usize;
        let ticks = (0..=count).map(|i| (from + i as f64) * step).collect();
        Self { low: from * step, high: (from + count as f64) * step, ticks }
    }

    /// The dot's row, from the top.
    fn dot(&self, value: f64) -> usize {
        let last = (ROWS * DOTS_Y - 1) as f64;
        let share = (value - self.low) / (self.high - self.low);
        ((1.0 - share) * last).round().clamp(0.0, last) as usize
    }

    fn row(&self, value: f64) -> usize {
        self.dot(value) / DOTS_Y
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: i64 = 1_772_331_240_000;

    fn line(label: &str, values: impl Iterator<Item = f64>) -> Line {
        let points = values.enumerate().map(|(i, value)| (START_MS + i as i64 * 10_000, value)).collect();
        Line { label: label.to_owned(), points }
    }

    fn plot(lines: &[Line], unit: Unit) -> String {
        let end_ms = START_MS + 600_000;
        let plot = Plot { lines, start_ms: START_MS, end_ms, step_ms: 10_000, unit, width: 60, color: false };
        plot.to_text(&Clock::utc(end_ms))
    }

    #[test]
    fn a_chart_has_axes_letters_and_a_legend() {
        let wave = line("instance=\"db-1\"", (0..61).map(|i| 4e6 + 4e6 * (f64::from(i) / 10.0).sin()));
        let gap = line("instance=\"db-2\"", (0..61).map(|i| if (20..40).contains(&i) { f64::NAN } else { 1e6 }));
        let text = plot(&[wave, gap], Unit { base: Base::NetworkBytes, per_second: true });
        insta::assert_snapshot!(text, @r#"
        8 MB/s ┤         ⣀⠔⠊⠉⠉⠑⠢⣀
               │       ⢀⠔⠁       ⠉⢆
               │      ⡰⠁           ⠑⡄
               │    ⢀⠜              ⠘⢄
        6 MB/s ┤   ⢠⠃                 ⢣
               │  ⡠⠃                   ⢣
               │ ⡰⠁                     ⠱⡀
               │⢠⠃                       ⠱⡀
        4 MB/s ┤⠁                         ⠱⡀
               │                           ⠱⡀
               │                            ⠱⡀                  ⢀⠎a
        2 MB/s ┤                             ⠘⡄                ⢀⠎
               │                              ⠈⢆              ⡠⠊
               │⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀                ⠣⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣰⣁⣀⣀⣀b
               │                                 ⠈⢢        ⡠⠊
         0 B/s ┤                                   ⠉⠒⢄⣀⣀⡠⠤⠊
               └──────────────────────────────────────────────────
                02:14:00             02:19:00             02:24:00
        a instance="db-1"  last 2.88 MB/s · min 307 B/s · max 8 MB/s
        b instance="db-2"  last 1 MB/s · min 1 MB/s · max 1 MB/s
        "#);
    }

    #[test]
    fn odd_values_are_drawn_or_said() {
        assert!(plot(&[line("a", [f64::NAN, f64::INFINITY].into_iter())], Unit::NUMBER).starts_with("nothing to draw"));
        assert!(plot(&[], Unit::NUMBER).starts_with("nothing to draw"));
        for values in [vec![0.0], vec![-5.0, 5.0], vec![1e300, -1e300], vec![5e-324], vec![f64::MAX, f64::MIN]] {
            let text = plot(&[line("a", values.into_iter())], Unit::NUMBER);
            assert!(text.lines().count() == ROWS + 3, "{text}");
        }
        let many: Vec<Line> = (0..10).map(|i| line("x", std::iter::once(f64::from(i)))).collect();
        assert!(plot(&many, Unit::NUMBER).ends_with("and 2 more series: topk(8, …) chooses, sum by (…) joins them\n"));
    }

    #[test]
    fn sparklines_fit() {
        assert_eq!(spark(&[0.0, 1.0, 2.0, 7.0], 10), "▁▂▃█");
        assert_eq!(spark(&[1.0; 100], 5), "█████");
        assert_eq!(spark(&[0.0, f64::NAN, 1.0], 3), "▁ █");
        assert_eq!(spark(&[], 3), "");
        assert_eq!(spark_of(&[0.0, 0.1, 0.5], 3, Some(1.0)), "▁▂▅");
    }
}
